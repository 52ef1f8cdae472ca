// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// Shares are the cgroups that shared the limit, and when their usage was read, in words: shortly after
// the kill. The victim's has that of the kill, as among its ancestors, since little of it is left after.
// The incident keeps its own; read is empty where the time is not known.
func Shares(inc *events.Incident) (shares []events.Share, read string) {
	shares = slices.Clone(inc.Shares)
	others := ""

	for i := range shares {
		at := slices.IndexFunc(inc.Ladder, func(r events.Rung) bool { return r.Cgroup.Is(&shares[i].Cgroup) })
		if at >= 0 && inc.Ladder[at].UsageBytes != nil {
			shares[i].UsageBytes, others = inc.Ladder[at].UsageBytes, "the others "
		}
	}

	if inc.SharesAfterNS == nil {
		return shares, ""
	}

	return shares, others + phrase.Duration(*inc.SharesAfterNS) + " after the kill"
}
