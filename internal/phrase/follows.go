// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Following is the OOM kill that another kill followed from, as a predicate: "followed the OOM kill
// of java[4711] 1 min 30 s earlier".
func Following(f *events.Follows) string {
	text := "followed the OOM kill"
	if f.Victim != "" {
		text += " of " + ClipName(f.Victim)
	}

	if f.AfterNS != nil {
		text += " " + Duration(*f.AfterNS) + " earlier"
	}

	if f.Confidence != events.ConfidenceCertain {
		text += " (likely)"
	}

	return text
}

// Consequence is what came of a kill, with the time since: "1 min 30 s later: systemd stopped ...".
func Consequence(c *events.Consequence) string {
	if c.AfterNS == nil {
		return c.Text
	}

	return Duration(*c.AfterNS) + " later: " + c.Text
}

// UserKill is who killed whom in scope user, as a clause: "systemd[1] killed gunicorn[700] and 1
// more".
func UserKill(inc *events.Incident) string {
	who := "an unknown process"
	if inc.Killer != nil {
		who = UserKiller(inc.Killer)
	}

	whom := "a process"
	if len(inc.Victims) > 0 {
		whom = Victim(&inc.Victims[0], inc.Killer)
	}

	text := who + " killed " + whom
	if more := len(inc.Victims) - 1; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}

	return text
}
