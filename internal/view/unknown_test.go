// SPDX-License-Identifier: Apache-2.0

package view

import (
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestUnknownOfALogIsInWords(t *testing.T) {
	all := []string{
		"outcome", "victims", "time", "limiter.cgroup.id", "limiter.cgroup.hierarchy", "ladder.high_bytes", "victims.points", "trigger",
		"victims.uid", "chosen.cgroup", "node_state", "allocation.total_pages",
	}

	for name, test := range map[string]struct {
		change func(*events.Incident)
		want   []string
	}{
		"a kernel log": {
			func(*events.Incident) {},
			[]string{"its date", "whether a process was killed", "which process requested memory", "the user of the victim"},
		},
		"nobody died": {
			func(inc *events.Incident) { inc.Victims, inc.Chosen = nil, &events.Chosen{} },
			[]string{"its date", "whether a process was killed", "which process requested memory", "the cgroup of the chosen process"},
		},
		"of the node": {
			func(inc *events.Incident) { inc.Scope = events.ScopeGlobal },
			[]string{"its date", "whether a process was killed", "which process requested memory", "the user of the victim", "the node's memory"},
		},
		"a killer in user space": {
			func(inc *events.Incident) {
				inc.Scope, inc.Unknown = events.ScopeUser, []string{"victims.pid", "victims.role", "limiter.limit_bytes", "killer.resource"}
			},
			[]string{"which processes were killed", "which resource was short"},
		},
	} {
		inc := container()
		inc.Tier, inc.Unknown = events.TierKernelLog, all
		test.change(inc)

		if got := unknownWords(inc); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
