// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/oomtrace/oomtrace/internal/host"
)

// scale measures with more and more cgroups: first quiet, and then with stalls in
// each of them.
func scale(p *page) error {
	p.say("## More cgroups\n")
	p.say("A start with so many cgroups there, and then a process that goes from one to the next and reclaims in each.\n")
	p.say("| cgroups | start to ready, ms | idle: CPU %% of a core | RSS MiB | after stalls in each: CPU %% | RSS MiB | ns a pair in the kernel |")
	p.say("| --- | --- | --- | --- | --- | --- | --- |")
	const knob = "/proc/sys/kernel/bpf_stats_enabled"

	old, err := os.ReadFile(knob)
	if err != nil {
		return err
	}
	defer os.WriteFile(knob, old, 0)

	dir, err := os.MkdirTemp("", "oomtrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	file := filepath.Join(dir, "sparse")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}

	if err := os.Truncate(file, 256<<30); err != nil {
		return err
	}

	if err := os.WriteFile(knob, []byte("1"), 0); err != nil {
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

		if err := scaled(p, dir, file, all); err != nil {
			return err
		}
	}

	return nil
}

func scaled(p *page, dir, file string, all []*host.Scratch) error {
	ready := filepath.Join(dir, "ready")
	os.Remove(ready)
	began := time.Now()

	t, err := startTracer([]string{"bin/oomtrace", "-o", "json", "--ready-file", ready})
	if err != nil {
		return err
	}
	defer t.stop()

	for range 10000 {
		if _, err := os.Stat(ready); err == nil {
			break
		}

		time.Sleep(time.Millisecond)
	}
	start := float64(time.Since(began).Microseconds()) / 1000
	busy, from := t.cpu(), time.Now()

	time.Sleep(*slice)
	idle, idleRSS := (t.cpu()-busy)/time.Since(from).Seconds()*100, t.rss()

	cmd := exec.Command(".cache/bench/hog", "read", "0", file, filepath.Join(dir, "count"))

	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}

	if err != nil {
		return err
	}

	defer func() { cmd.Process.Kill(); cmd.Wait() }()

	if err := all[0].Add(cmd.Process.Pid); err != nil {
		return err
	}

	if _, err := in.Write([]byte("go\n")); err != nil {
		return err
	}

	busy, from = t.cpu(), time.Now()
	for i := 0; i < len(all) || time.Since(from) < *slice; i++ {
		if err := all[i%len(all)].Add(cmd.Process.Pid); err != nil {
			return err
		}

		time.Sleep(3 * time.Millisecond)
	}
	cpu := (t.cpu() - busy) / time.Since(from).Seconds() * 100
	ns := programTimes([]string{"stall_memcg_begin", "stall_memcg_end"})
	p.say("| %d | %.0f | %.2f | %.0f | %.1f | %.0f | %.0f |", len(all), start, idle, idleRSS, cpu, t.rss(), ns["stall_memcg_begin"]+ns["stall_memcg_end"])

	return nil
}
