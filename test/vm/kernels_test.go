// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/oomtrace/oomtrace/test/internal/lab"
)

const kernelLog = "kernel-log"

// bootsAtOnce bounds the machines: more are slower, and crash more.
var bootsAtOnce = make(chan struct{}, 2)

// TestKernels boots each kernel once. In it the cases run, one after the other, while a
// tracer of each tier watches all of them. The subtests are kernel, case and tier; the
// tier kernel-log compares what is read of the kernel's log with what is counted in it.
func TestKernels(t *testing.T) {
	requireEmulators(t)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop) // after the parallel subtests

	if _, err := readSchema(); err != nil {
		t.Fatal(err)
	}

	s := lab.Selected()
	kernels := 0

	for _, k := range Kernels {
		if s.Has(t.Name(), k.ID()) {
			kernels++
		}

		t.Run(k.ID(), func(t *testing.T) {
			t.Parallel()

			bootsAtOnce <- struct{}{}
			defer func() { <-bootsAtOnce }()

			testKernel(ctx, t, k, s)
		})
	}

	if kernels == 0 || *keptConsole != "" && kernels > 1 {
		t.Fatalf("-run selects %d kernels", kernels)
	}
}

func testKernel(ctx context.Context, t *testing.T, k Kernel, s lab.Selection) {
	var cases, tiers []string

	elsewhere := false // a case is selected that does not run on cgroup v1

	for i := range Cases {
		switch c := &Cases[i]; {
		case !s.Has("TestKernels", k.ID(), c.Name):
		case k.CgroupV1 && !c.CgroupV1:
			elsewhere = true
		default:
			cases = append(cases, c.Name)
		}
	}

	for _, tier := range Tiers {
		if slices.ContainsFunc(cases, func(name string) bool { return s.Has("TestKernels", k.ID(), name, tier) }) {
			tiers = append(tiers, tier)
		}
	}

	switch {
	case len(cases) == 0 && elsewhere:
		t.Log("no selected case runs on cgroup v1")
		return
	case len(cases) == 0:
		t.Fatal("-run selects no case")
	}

	if len(tiers) == 0 {
		tiers = Tiers
	}

	r := checkBoot(ctx, t, k, cases, tiers)

	// A case may fail because an emulator gets no CPU time for a while. It is checked again
	// in a boot of its own.
	if again := r.retry(); *keptConsole == "" && ctx.Err() == nil && len(again) > 0 {
		t.Logf("boot again for %s", strings.Join(again, ", "))
		r.replace(checkBoot(ctx, t, k, again, tiers))
	}

	for _, problem := range r.general {
		t.Error(problem)
	}

	for _, name := range cases {
		t.Run(name, func(t *testing.T) {
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
	}
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

	t.Logf("Linux %s, up %.0f s, tracers ready after %.1f s; case and wait for the tracers:%s",
		r.Kernel, r.UpSeconds, r.StartSeconds, strings.TrimPrefix(b.String(), ","))
}
