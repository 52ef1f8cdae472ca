// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
)

// page collects the page, and prints each line as soon as it is known. Goals are for the
// developers of oomtrace: they are printed at the end and are not on the page.
type page struct {
	text  strings.Builder
	goals []goal
}

// goal is a target that was set before the measurement.
type goal struct {
	what, want, measured string
	met                  bool
}

func (p *page) writef(format string, args ...any) {
	fmt.Fprintf(&p.text, format+"\n", args...)
	fmt.Printf(format+"\n", args...)
}

// handMeasured is the heading of the section that is measured and written by hand.
const handMeasured = "\n## Measured by hand\n"

// save replaces the page in a file, and keeps the section that is written by hand.
func (p *page) save(name string) error {
	text := strings.TrimRight(p.text.String(), "\n") + "\n"

	old, _ := os.ReadFile(name)
	if _, kept, ok := strings.Cut(string(old), handMeasured); ok {
		text += handMeasured + kept
	}

	return os.WriteFile(name, []byte(text), 0o644)
}

func (p *page) goal(met bool, what, want, format string, args ...any) {
	p.goals = append(p.goals, goal{what, want, fmt.Sprintf(format, args...), met})
}

// reasons explain why a goal may be missed on this kind of machine.
var reasons = map[string]string{
	"memory, everything on": "Names of pods need gRPC and its tables, and the bulk ring holds what arrives in 100 ms at " +
		"80 000 stalls a second; both are counted twice where they are mapped twice.",
	"ahead of perf record, reclaim begin and end": "The difference is within the noise of the control; " +
		"perf neither prints nor counts by cgroup here.",
	"the same, beside a minimal program": "A stall is also counted by the limit that it was for, so the key has 24 bytes " +
		"instead of 8, and the program checks whether its task is exiting.",
	"reader, CPU": "A record has 112 bytes instead of 48: it names the task and its cgroup.",
	"start to attached": "Most of the time is the kernel's verification of some forty programs, one after another, " +
		"and reading its types and symbols.",
	"start to attached, beside bpftrace": "As above; bpftrace loads a single program here.",
	"kill to line, idle": "bpftrace prints when the victim is marked; the line here has the scope, which is known some " +
		"records later, and passes through a filter.",
	"kill to line, under load": "As above, and the reader waits once more for a busy CPU. With --realtime it runs next.",
	"kill to line under load, --realtime": "At this load the default is already fast: a reader that is woken soon runs " +
		"on one of two CPUs.",
}

// printGoals compares what was measured with the goals, and explains those that are
// missed.
func (p *page) printGoals() {
	if len(p.goals) == 0 {
		return
	}

	fmt.Print("\nGoals (not on the page)\n\n")
	var missed []string

	for _, g := range p.goals {
		result := "met"
		if !g.met {
			result = "MISSED"

			if why := reasons[g.what]; why != "" {
				if line := fmt.Sprintf("- %s: %s", g.what, why); !slices.Contains(missed, line) {
					missed = append(missed, line)
				}
			}
		}

		fmt.Printf("%-6s  %s: %s; goal: %s\n", result, g.what, g.measured, g.want)
	}

	if len(missed) > 0 {
		fmt.Printf("\n%s\n", strings.Join(missed, "\n"))
	}
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return math.NaN() // no comparison with it is true
	}

	return s[len(s)/2]
}

func p90(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return math.NaN() // as for median
	}

	return s[min(len(s)*9/10, len(s)-1)]
}

// spread formats values as median [minimum–maximum].
func spread(values []float64, digits int) string {
	if len(values) == 0 {
		return "–"
	}
	s := slices.Sorted(slices.Values(values))

	return fmt.Sprintf("%.*f [%.*f–%.*f]", digits, s[len(s)/2], digits, s[0], digits, s[len(s)-1])
}
