// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/test/internal/lab"
	"github.com/oomtrace/oomtrace/test/internal/trace"
)

// TestKillers boots a whole Debian once. In it, everything that kills on a node kills a
// service, while oomtrace watches.
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
	d.keep(t, "trace.jsonl", strings.Join(result.Lines, "\n")+"\n")
	lab.Logf(t, "Linux %s", result.Kernel)

	if result.Failed != "" || result.Stderr != "" {
		t.Errorf("oomtrace: got end %q, stderr %q; want none", result.Failed, result.Stderr)
	}

	var tr trace.Trace
	tr.Add(result.Lines...)

	for _, problem := range tr.Problems {
		t.Error(problem)
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
					k.want.compare(a.Unit, tr.Of(a.PID), t.Errorf)
				}

				return
			}

			t.Error("it did not run")
		})
	}
}
