// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// minimal holds the minimal programs, see minimal.bpf.c.
type minimal struct {
	collection *ebpf.Collection
	links      []link.Link
}

// loadMinimal loads and attaches the named programs.
func loadMinimal(names ...string) (*minimal, error) {
	spec, err := ebpf.LoadCollectionSpec(".cache/bench/minimal.bpf.o")
	if err != nil {
		return nil, err
	}

	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !slices.Contains(names, name) })

	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load the minimal program: %w", err)
	}

	m := &minimal{collection: c}
	for name, program := range c.Programs {
		l, err := attachMinimal(program, spec.Programs[name].SectionName)
		if err != nil {
			m.close()
			return nil, fmt.Errorf("attach the minimal program: %w", err)
		}

		m.links = append(m.links, l)
	}

	return m, nil
}

func attachMinimal(program *ebpf.Program, section string) (link.Link, error) {
	if program.Type() != ebpf.RawTracepoint {
		return link.AttachTracing(link.TracingOptions{Program: program})
	}

	name := strings.TrimPrefix(section, "raw_tp/")

	return link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: program})
}

func (m *minimal) close() {
	for _, k := range m.links {
		k.Close()
	}

	m.collection.Close()
}

// killedNS returns CLOCK_MONOTONIC at the last mark of a victim.
func (m *minimal) killedNS() (ns uint64, err error) {
	err = m.collection.Maps["killed"].Lookup(uint32(0), &ns)
	return ns, err
}

// countRuns makes the kernel measure its programs until restore is called.
func countRuns() (restore func(), err error) {
	const knob = "/proc/sys/kernel/bpf_stats_enabled"

	old, err := os.ReadFile(knob)
	if err != nil {
		return nil, err
	}

	return func() { os.WriteFile(knob, old, 0) }, os.WriteFile(knob, []byte("1"), 0)
}

var (
	ourPrograms     = []string{"stall_memcg_begin", "stall_memcg_end"}
	minimalPrograms = []string{"minimal_begin", "minimal_end"}
)

// kernelTime measures how long the programs run in the kernel, those of oomtrace and the
// minimal ones in turns.
func kernelTime(p *page) error {
	restore, err := countRuns()
	if err != nil {
		return err
	}
	defer restore()

	w, err := newWorkload()
	if err != nil {
		return err
	}
	defer w.close()

	took := map[string][]float64{}
	var ours, least, ratios []float64

	for range *rounds {
		our, err := timeOurs(took)
		if err != nil {
			return err
		}

		minimal, err := timeMinimal(took)
		if err != nil {
			return err
		}

		ours, least, ratios = append(ours, our), append(least, minimal), append(ratios, our/minimal)
	}

	p.writef("## In the kernel\n")
	p.writef("Time per run of a program by the kernel's own statistics, which cost some tens of ns per run themselves, in the same\n" +
		"workload, in turns with a minimal program (pairing by task storage, one histogram for each cgroup;\n" +
		"`test/bench/minimal.bpf.c`).\n")
	p.writef("| program | ns per run |")
	p.writef("| --- | --- |")

	for _, name := range slices.Concat(ourPrograms, minimalPrograms) {
		p.writef("| %s | %s |", name, spread(took[name], 0))
	}

	p.writef("| oomtrace, begin and end | %s |", spread(ours, 0))
	p.writef("| minimal, begin and end | %s |", spread(least, 0))
	p.writef("| ratio of the two | %s |", spread(ratios, 2))
	p.goal(median(ours) <= 750, "reclaim begin and end in the kernel", "≤ 750 ns together", "%.0f ns", median(ours))
	p.goal(median(ratios) <= 1.25, "the same, beside a minimal program", "≤ 1.25x", "%.2fx", median(ratios))

	return nil
}

// timeOurs adds the times of oomtrace's programs, and returns their sum.
func timeOurs(took map[string][]float64) (sum float64, err error) {
	t, err := startTracer([]string{"bin/oomtrace", "-o", "json"})
	if err != nil {
		return 0, err
	}
	defer t.stop()

	return timePrograms(took, ourPrograms)
}

// timeMinimal adds the times of the minimal programs, and returns their sum.
func timeMinimal(took map[string][]float64) (sum float64, err error) {
	m, err := loadMinimal(minimalPrograms...)
	if err != nil {
		return 0, err
	}
	defer m.close()

	return timePrograms(took, minimalPrograms)
}

func timePrograms(took map[string][]float64, names []string) (sum float64, err error) {
	time.Sleep(*slice)

	times := programTimes(names)
	if len(times) < len(names) {
		return 0, fmt.Errorf("measure %s: not all of them ran: use a longer --slice", strings.Join(names, " and "))
	}

	for name, ns := range times {
		took[name] = append(took[name], ns)
		sum += ns
	}

	return sum, nil
}

// programTimes returns the mean ns per run of those named programs that are loaded and ran.
func programTimes(names []string) map[string]float64 {
	times := map[string]float64{}

	var id ebpf.ProgramID
	for {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			return times
		}
		id = next

		program, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue
		}
		info, infoErr := program.Info()
		stats, statsErr := program.Stats()
		program.Close()

		if infoErr != nil || statsErr != nil || stats.RunCount == 0 {
			continue
		}

		for _, name := range names {
			if strings.HasPrefix(name, info.Name) && info.Name != "" {
				times[name] = float64(stats.Runtime.Nanoseconds()) / float64(stats.RunCount)
			}
		}
	}
}
