// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// minimal is a program that does the least, see minimal.bpf.c.
type minimal struct {
	collection *ebpf.Collection
	links      []link.Link
}

func loadMinimal(names ...string) (*minimal, error) {
	spec, err := ebpf.LoadCollectionSpec(".cache/bench/minimal.bpf.o")
	if err != nil {
		return nil, err
	}

	for name := range spec.Programs {
		keep := false
		for _, n := range names {
			keep = keep || n == name
		}

		if !keep {
			delete(spec.Programs, name)
		}
	}

	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("loading the minimal program: %w", err)
	}

	m := &minimal{collection: c}
	for name, program := range c.Programs {
		var k link.Link
		if program.Type() == ebpf.RawTracepoint {
			k, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: strings.TrimPrefix(spec.Programs[name].SectionName, "raw_tp/"), Program: program})
		} else {
			k, err = link.AttachTracing(link.TracingOptions{Program: program})
		}

		if err != nil {
			m.close()
			return nil, fmt.Errorf("attaching the minimal program: %w", err)
		}

		m.links = append(m.links, k)
	}

	return m, nil
}

func (m *minimal) close() {
	for _, k := range m.links {
		k.Close()
	}

	m.collection.Close()
}

// killedNS is CLOCK_MONOTONIC at the last mark of a victim.
func (m *minimal) killedNS() (ns uint64, err error) {
	err = m.collection.Maps["killed"].Lookup(uint32(0), &ns)
	return ns, err
}

// kernelTime asks the kernel how long each program ran, ours and the minimal one in
// turns.
func kernelTime(p *page) error {
	const knob = "/proc/sys/kernel/bpf_stats_enabled"

	old, err := os.ReadFile(knob)
	if err != nil {
		return err
	}

	if err := os.WriteFile(knob, []byte("1"), 0); err != nil {
		return err
	}
	defer os.WriteFile(knob, old, 0)

	w, err := newWorkload()
	if err != nil {
		return err
	}
	defer w.close()
	names := []string{"stall_memcg_begin", "stall_memcg_end", "minimal_begin", "minimal_end"}
	took := map[string][]float64{}
	var ours, least []float64

	for range *rounds {
		t, err := startTracer([]string{"bin/oomtrace", "-o", "json"})
		if err != nil {
			return err
		}

		time.Sleep(*slice)
		o := programTimes(names)

		t.stop()

		m, err := loadMinimal("minimal_begin", "minimal_end")
		if err != nil {
			return err
		}

		time.Sleep(*slice)
		l := programTimes(names)

		m.close()

		for name, ns := range o {
			took[name] = append(took[name], ns)
		}

		for name, ns := range l {
			took[name] = append(took[name], ns)
		}

		ours = append(ours, o["stall_memcg_begin"]+o["stall_memcg_end"])
		least = append(least, l["minimal_begin"]+l["minimal_end"])
	}

	var ratios []float64
	for i := range ours {
		ratios = append(ratios, ours[i]/least[i])
	}

	p.say("## In the kernel\n")
	p.say("Time of a program by the kernel's own statistics, which cost some tens of ns a run themselves, in the same workload, in turns with")
	p.say("a minimal program (pairing by task storage, one histogram for each cgroup; `test/bench/minimal.bpf.c`).\n")
	p.say("| program | ns a run |")
	p.say("| --- | --- |")

	for _, name := range names {
		p.say("| %s | %s |", name, spread(took[name], 0))
	}

	p.say("| oomtrace, a pair | %s |", spread(ours, 0))
	p.say("| minimal, a pair | %s |", spread(least, 0))
	p.say("| ratio of the two | %s |", spread(ratios, 2))
	p.goal(median(ours) <= 750, "reclaim begin and end in the kernel", "≤ 750 ns a pair", "%.0f ns", median(ours))
	p.goal(median(ratios) <= 1.25, "the same, beside a minimal program", "≤ 1.25x", "%.2fx", median(ratios))

	return nil
}

// programTimes are the mean ns of a run of the named programs that are loaded.
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
