// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/lab"
)

const kernelLog = "kernel-log"

// bootsAtOnce bounds the machines: more are slower, and crash more.
var bootsAtOnce = make(chan struct{}, 2)

// TestKernels boots each kernel once. In it the cases run, one after the other, while a
// tracer of each tier watches all of them. The subtests are kernel, case and tier; the
// tier kernel-log compares what is read of the kernel's log with what is counted in it.
func TestKernels(t *testing.T) { testKernels(t, false) }

// TestKernelsUnderNoise is the same beside what an unprivileged tenant can make the kernel
// report all the time. No verdict may be late for it, and no record of a kill may be lost.
func TestKernelsUnderNoise(t *testing.T) { testKernels(t, true) }

func testKernels(t *testing.T, noise bool) {
	requireEmulators(t)

	ctx := lab.Context(t)

	if _, err := readSchema(); err != nil {
		t.Fatal(err)
	}

	var all []string
	for _, k := range Kernels {
		all = append(all, k.ID())
	}

	if selected := lab.Select(t, all...); *keptConsole != "" && len(selected) > 1 {
		t.Fatalf("-run selects %s; a console is of one kernel", strings.Join(selected, ", "))
	}

	if !slices.ContainsFunc(Kernels, func(k Kernel) bool { return len(casesOn(t.Name(), k)) > 0 }) {
		t.Fatalf("-run selects no case that runs on a selected kernel; there are: %s", strings.Join(caseNames(), ", "))
	}

	for _, k := range Kernels {
		k.Noise = noise
		t.Run(k.ID(), func(t *testing.T) {
			t.Parallel()

			bootsAtOnce <- struct{}{}
			defer func() { <-bootsAtOnce }()

			if ctx.Err() != nil {
				t.Fatalf("not booted: %v", context.Cause(ctx))
			}

			testKernel(ctx, t, k)
		})
	}
}

func testKernel(ctx context.Context, t *testing.T, k Kernel) {
	lab.Select(t, caseNames()...)

	cases := casesOn(t.Name(), k)
	if len(cases) == 0 {
		lab.Logf(t, "no selected case runs on this kernel")
		t.SkipNow()
	}

	tiers := selectTiers(t, cases)
	r := checkBoot(ctx, t, k, cases, tiers)

	// A case may fail because an emulator gets no CPU time for a while. It is checked again
	// in a boot of its own.
	if again := r.retry(); *keptConsole == "" && ctx.Err() == nil && len(again) > 0 {
		lab.Logf(t, "boot again for %s", strings.Join(again, ", "))
		r.replace(checkBoot(ctx, t, k, again, tiers))
	}

	for _, problem := range r.general {
		t.Error(problem)
	}

	if r.cases == nil {
		return // no boot gave a result
	}

	var failed []string

	for _, name := range cases {
		right := t.Run(name, func(t *testing.T) {
			o := r.cases[name]
			if o == nil {
				t.Fatal("it did not run")
			}

			o.report(t)

			for _, tier := range append([]string{kernelLog}, tiers...) {
				if tier != k.Without {
					t.Run(tier, func(t *testing.T) { o.tiers[tier].report(t) })
				}
			}
		})
		if !right {
			failed = append(failed, name)
		}
	}

	if len(failed) > 0 {
		lab.Logf(t, "failed: %s", strings.Join(failed, ", "))
	}
}

func caseNames() (names []string) {
	for i := range Cases {
		names = append(names, Cases[i].Name)
	}

	return names
}

// casesOn returns the selected cases of a test that run on a kernel.
func casesOn(test string, k Kernel) (names []string) {
	test, _, _ = strings.Cut(test, "/")

	for i := range Cases {
		if c := &Cases[i]; c.runsOn(k) && lab.Selected().Has(test, k.ID(), c.Name) {
			names = append(names, c.Name)
		}
	}

	return names
}

// selectTiers returns the selected tiers; all if only the kernel's log is selected.
func selectTiers(t *testing.T, cases []string) []string {
	t.Helper()

	selected := func(tier string) bool {
		return slices.ContainsFunc(cases, func(name string) bool {
			return lab.Selected().Has(append(strings.Split(t.Name(), "/"), name, tier)...)
		})
	}

	var tiers []string

	for _, tier := range Tiers {
		if selected(tier) {
			tiers = append(tiers, tier)
		}
	}

	switch {
	case len(tiers) > 0:
		return tiers
	case !selected(kernelLog):
		t.Fatalf("-run selects no tier; there are: %s, %s", strings.Join(Tiers, ", "), kernelLog)
	}

	return Tiers
}

// checkBoot boots a kernel and checks everything that it sends.
func checkBoot(ctx context.Context, t *testing.T, k Kernel, cases, tiers []string) *report {
	result, err := boot(ctx, t, k, cases, tiers)
	if err != nil {
		return &report{general: []string{fmt.Sprintf("boot: %v", err)}}
	}

	logTimes(t, result)

	return checkResult(k, result, cases, tiers)
}

// logTimes logs where the time of a boot went.
func logTimes(t *testing.T, r *Result) {
	var b strings.Builder

	for _, run := range r.Runs {
		fmt.Fprintf(&b, ", %s %.1f+%.1f s", run.Name, run.Seconds, run.QuietSeconds)
	}

	for tier, delays := range verdictDelays(r) {
		fmt.Fprintf(&b, "; %s printed a kill after %.0f ms, at most %.0f ms", tier, delays[len(delays)/2], delays[len(delays)-1])
	}

	for _, kind := range slices.Sorted(maps.Keys(r.Noise)) {
		fmt.Fprintf(&b, "; noise: %.0f %s a second", r.Noise[kind], kind)
	}

	lab.Logf(t, "Linux %s, up %.0f s, tracers ready after %.1f s; case and wait for the tracers:%s",
		r.Kernel, r.UpSeconds, r.StartSeconds, strings.TrimPrefix(b.String(), ","))
}

// verdictDelays returns how long after an OOM kill its incident was printed, by tier and in
// order.
func verdictDelays(r *Result) map[string][]float64 {
	byTier := map[string][]float64{}

	for _, run := range r.Runs {
		for tier, lines := range run.Lines {
			for _, line := range lines {
				var inc events.Incident
				if json.Unmarshal([]byte(line), &inc) != nil || inc.Kind != events.KindIncident ||
					inc.Outcome != events.OutcomeKilled || byUser(&inc) {
					continue
				}

				byTier[tier] = append(byTier[tier], run.DelaysMS[tier][inc.ID])
			}
		}
	}

	for _, delays := range byTier {
		slices.Sort(delays)
	}

	return byTier
}

// TestSelectionOfNothingFails: without these failures, a mistake in -run looks like success.
func TestSelectionOfNothingFails(t *testing.T) {
	for _, test := range []struct{ pattern, want string }{
		{"^TestKernels$/^amd64-4.19$", "selects nothing in TestKernels; there are: amd64-5.10,"},
		{"^TestKernelsUnderNoise$/^amd64-4.19$", "selects nothing in TestKernelsUnderNoise; there are: amd64-5.10,"},
		{"^TestKernels$/^amd64-6.12$/^tmpf$", "selects no case that runs on a selected kernel; there are: memcg-leaf,"},
		{"^TestKernels$/v1$/^swap-max$", "selects no case that runs on a selected kernel"},
		{"^TestKernels$/^amd64-6.12$/^limit-nonblock$", "selects no case that runs on a selected kernel"},
		{"^TestKernels$/^amd64-6.12$/^tmpfs$/^fentri$", "selects no tier; there are: fentry,"},
		{"^TestPowerCuts$/^amd64-5.10$", "selects nothing in TestPowerCuts; there are: amd64-6.12,"},
	} {
		if got := lab.Rerun(t, emulatorPrograms, test.pattern, "-dir", t.TempDir()); !strings.Contains(got, test.want) {
			t.Errorf("pattern %s: got %s, want an error with %q", test.pattern, got, test.want)
		}
	}
}

func TestKernelIsNotBootedAfterTheDeadline(t *testing.T) {
	const want = "not booted: -timeout is near"
	if got := lab.Rerun(t, emulatorPrograms, "^TestKernels$/^amd64-6.12$/^tmpfs$", "-test.timeout=1m", "-dir", t.TempDir()); !strings.Contains(got, want) {
		t.Errorf("got %s, want an error with %q", got, want)
	}
}
