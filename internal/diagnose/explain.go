// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"reflect"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Explicable reports whether an incident has an outcome whose cause is worth seeking;
// the others resolve themselves.
func Explicable(inc *events.Incident) bool {
	return inc.Outcome == events.OutcomeKilled || inc.Outcome == events.OutcomeNoKillable
}

// Changed reports whether causes that were sought anew say more than those before. No
// causes at all are never news.
func Changed(before, after []events.Cause) bool {
	return len(after) > 0 && !reflect.DeepEqual(before, after)
}
