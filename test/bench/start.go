// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"time"
)

// idle is what a tracer costs where nothing happens.
type idle struct {
	startMS []float64 // until it is attached
	cpu     []float64 // percent of a core
	rss     []float64 // MiB
	failed  error     // it is not started again
}

// start measures how long tracers take to start, and what they cost where nothing happens.
func start(p *page) error {
	dir, err := os.MkdirTemp("", "oomtrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	const readyScript = `BEGIN { printf("ready\n"); } tracepoint:oom:mark_victim { printf("%d\n", args->pid); }`

	contenders := []contender{
		{"oomtrace", []string{"bin/oomtrace", "-o", "json"}},
		{"oomtrace, its memory not locked", []string{"bin/oomtrace", "-o", "json", "--lock-memory=false"}},
		{"bpftrace, one line per mark_victim", []string{"bpftrace", "-e", readyScript}},
	}
	costs := make([]idle, len(contenders))

	for range *rounds {
		for i, c := range contenders {
			if costs[i].failed == nil {
				costs[i].failed = costs[i].measure(dir, c.args)
			}
		}
	}

	p.writef("## Idle\n")
	p.writef("| tracer | start to attached, ms | CPU %% of a core | RSS MiB |")
	p.writef("| --- | --- | --- | --- |")

	for i, c := range costs {
		if c.failed != nil {
			p.writef("| %s | not measured: %v | | |", contenders[i].name, c.failed)
			continue
		}

		p.writef("| %s | %s | %s | %s |", contenders[i].name, spread(c.startMS, 0), spread(c.cpu, 2), spread(c.rss, 0))
	}

	p.writef("\nMost of the start is the kernel's verification of some forty programs, one after another, and reading its types and\n" +
		"symbols; bpftrace loads a single program here. VmLck, which process lists show, is address space that is locked once\n" +
		"it is touched: RSS is what is used.")

	ours, unlocked, bpftrace := costs[0], costs[1], costs[2]
	p.goal(median(ours.startMS) <= 100, "start to attached", "≤ 100 ms", "%.0f ms", median(ours.startMS))
	p.goal(median(ours.startMS) <= median(bpftrace.startMS)/2, "start to attached, beside bpftrace",
		"≤ half of bpftrace's", "%.0f ms, bpftrace %.0f", median(ours.startMS), median(bpftrace.startMS))
	p.goal(median(ours.cpu) <= 0.1, "tracer CPU, idle", "≤ 0.1 % of a core", "%.2f %%", median(ours.cpu))
	p.goal(median(ours.rss) <= 1.5*median(unlocked.rss), "memory, locked",
		"≤ 1.5x not locked", "%.0f MiB, not locked %.0f", median(ours.rss), median(unlocked.rss))

	return nil
}

// measure adds one start of a tracer.
func (c *idle) measure(dir string, args []string) error {
	t, startMS, err := startTimed(dir, args)
	if err != nil {
		return err
	}
	defer t.stop()

	cpu := t.cpuMeter()

	time.Sleep(*slice)

	c.startMS = append(c.startMS, startMS)
	c.cpu = append(c.cpu, cpu())
	c.rss = append(c.rss, t.rssMiB())

	return nil
}
