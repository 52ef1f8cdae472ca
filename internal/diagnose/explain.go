// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"reflect"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Explicable reports whether an incident has an outcome that the rules can explain; the
// others resolve themselves.
func Explicable(inc *events.Incident) bool {
	switch inc.Outcome {
	case events.OutcomeKilled, events.OutcomeNoKillable, events.OutcomeOOMKillDisabled, events.OutcomeSuspending,
		events.OutcomePanic:
		return true
	}

	return false
}

// Changed reports whether new causes differ from those before. An empty list never does.
func Changed(before, after []events.Cause) bool {
	return len(after) > 0 && !reflect.DeepEqual(before, after)
}
