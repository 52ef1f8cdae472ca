// SPDX-License-Identifier: Apache-2.0

// Command bench measures what oomtrace costs on this machine: the throughput of a
// workload that reclaims constantly, with and without a tracer, in interleaved pairs
// with an A/A control in the same run; the time that the programs take in the kernel,
// beside a minimal program; the tracer's CPU time and memory; how long a start takes;
// and how long it takes from a kill to its line. Absolute times on a shared machine mean
// little: the ratios count.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/host"
)

// measurements are the parts of the page, in its order.
var measurements = []struct {
	name    string
	measure func(*page) error
}{
	{"throughput", throughput}, {"kernel", kernelTime}, {"loss", loss}, {"reader", reader},
	{"start", start}, {"kill", killToLine}, {"flood", verdictsBesideFloods}, {"scale", scale}, {"screen", liveScreen}, {"names", naming},
}

var (
	rounds = pflag.Int("rounds", 7, "number of alternating pairs for each tracer")
	slice  = pflag.Duration("slice", 2*time.Second, "duration of each half of a pair")
	out    = pflag.String("out", "", "also write the page to this file")
	parts  = pflag.StringSlice("part", partNames(), "parts to measure")
)

func partNames() (names []string) {
	for _, m := range measurements {
		names = append(names, m.name)
	}

	return names
}

func main() {
	pflag.Parse()

	do := run
	if *floodArg >= 0 {
		do = runFlood
	}

	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	p := &page{}
	p.writef("# Overhead\n")
	p.writef("Written by `scripts/bench.sh` on %s: %s, kernel %s, %d CPUs, memory controller on cgroup v%d.",
		time.Now().Format("2006-01-02"), host.Arch(), host.KernelRelease(), cpus(), memoryVersion())
	p.writef("Every figure is median [minimum–maximum]. The machine is shared and noisy: compare figures within a table, not\n" +
		"between machines.\n")

	for _, m := range measurements {
		if !slices.Contains(*parts, m.name) {
			continue
		}

		if err := m.measure(p); err != nil {
			return fmt.Errorf("measure %s: %w", m.name, err)
		}

		p.writef("")
	}

	p.printGoals()

	if *out == "" {
		return nil
	}

	return p.save(*out)
}

func memoryVersion() int {
	layout, err := host.Cgroups()
	if err != nil {
		return 0
	}

	return layout.MemoryVersion
}

func cpus() int {
	text, _ := os.ReadFile("/proc/cpuinfo")
	return strings.Count(string(text), "processor\t:")
}
