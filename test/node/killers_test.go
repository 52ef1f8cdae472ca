// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/lab"
	"github.com/oomtrace/oomtrace/test/internal/trace"
)

// TestKillers boots a whole Debian once. In it, everything that kills on a node kills a
// service, while oomtrace traces it in all attach modes.
func TestKillers(t *testing.T) {
	lab.Require(t)

	var all []string
	for i := range Killers {
		all = append(all, Killers[i].Name)
	}

	selected := lab.Select(t, all...)
	d := newDebian(t, "killers", map[string]string{"guest": "./test/guest", "oomtrace": "./cmd/oomtrace"}, false)

	var result KillersResult
	d.result(lab.Context(t), t, "lab.killers lab.cases="+strings.Join(selected, ","), &result)
	lab.Logf(t, "Linux %s", result.Kernel)

	traces := map[events.Tier]*trace.Trace{}

	for _, tier := range killersTiers {
		r := result.Tracers[tier]
		d.keep(t, "trace-"+string(tier)+".jsonl", strings.Join(r.Lines, "\n")+"\n")

		if r.Failed != "" || r.Stderr != "" {
			t.Errorf("oomtrace, %s: got end %q, stderr %q; want none", tier, r.Failed, r.Stderr)
		}

		traces[tier] = &trace.Trace{}
		traces[tier].Add(r.Lines...)

		for _, problem := range traces[tier].Problems {
			t.Errorf("%s: %s", tier, problem)
		}
	}

	for i := range Killers {
		k := &Killers[i]

		t.Run(k.Name, func(t *testing.T) {
			for _, a := range result.Attempts {
				switch {
				case a.Name != k.Name:
					continue
				case a.Error != "":
					t.Errorf("it could not be done: %s", a.Error)
				case !a.Killed:
					t.Errorf("the target was not killed; journal: %q", a.Journal)
				default:
					for _, tier := range killersTiers {
						t.Run(string(tier), func(t *testing.T) { k.want.compare(a.Unit, traces[tier].Of(a.PID), t.Errorf) })
					}
				}

				return
			}

			t.Error("it did not run")
		})
	}
}
