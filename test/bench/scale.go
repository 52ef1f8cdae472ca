// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/oomtrace/oomtrace/internal/host"
)

// scale measures a tracer with more and more cgroups: first idle, and then with stalls in
// each of them.
func scale(p *page) error {
	p.writef("## More cgroups\n")
	p.writef("A start with this many cgroups present; then one process moves from cgroup to cgroup and reclaims in each.\n")
	p.writef("| cgroups | start to ready, ms | idle: CPU %% of a core | RSS MiB | with stalls in each: CPU %% | RSS MiB | " +
		"ns per begin and end in the kernel |")
	p.writef("| --- | --- | --- | --- | --- | --- | --- |")

	restore, err := countRuns()
	if err != nil {
		return err
	}
	defer restore()

	dir, err := os.MkdirTemp("", "oomtrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	if err := sparseFile(filepath.Join(dir, "sparse"), 256<<30); err != nil {
		return err
	}

	var all []*host.Scratch
	defer func() {
		for _, s := range all {
			s.Close()
		}
	}()

	for _, count := range []int{10, 100, 1000, 10000} {
		for len(all) < count {
			s, err := host.NewScratch(fmt.Sprintf("oomtrace-bench-%d-%d", os.Getpid(), len(all)), 1<<20)
			if err != nil {
				return err
			}

			all = append(all, s)
		}

		if err := scaled(p, dir, all); err != nil {
			return err
		}
	}

	return nil
}

// scaled measures one row: a tracer with these cgroups.
func scaled(p *page, dir string, all []*host.Scratch) error {
	t, startMS, err := startTimed(dir, []string{"bin/oomtrace", "-o", "json"})
	if err != nil {
		return err
	}
	defer t.stop()

	cpu := t.cpuMeter()

	time.Sleep(*slice)
	idleCPU, idleRSS := cpu(), t.rssMiB()

	cmd, err := startHog(all[0], "read", "0", filepath.Join(dir, "sparse"), filepath.Join(dir, "count"))
	if err != nil {
		return err
	}
	defer end(cmd)

	cpu = t.cpuMeter()
	began := time.Now()

	for i := 0; i < len(all) || time.Since(began) < *slice; i++ {
		if err := all[i%len(all)].Add(cmd.Process.Pid); err != nil {
			return err
		}

		time.Sleep(3 * time.Millisecond)
	}
	busyCPU := cpu()

	var ns float64
	for _, each := range programTimes(ourPrograms) {
		ns += each
	}

	p.writef("| %d | %.0f | %.2f | %.0f | %.1f | %.0f | %.0f |",
		len(all), startMS, idleCPU, idleRSS, busyCPU, t.rssMiB(), ns)

	return nil
}
