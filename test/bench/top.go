// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"

	"github.com/oomtrace/oomtrace/internal/host"
)

const (
	// topSettles is how long the live screen has before it is measured: its first snapshot
	// reads everything, and growth takes ten seconds.
	topSettles = 15 * time.Second
	topMeasure = 30 * time.Second
	// topGoal is what it may cost with a thousand cgroups and a snapshot each second.
	topGoal = 1.0
)

// liveScreen measures `oomtrace top` on a terminal of 80x24, with more and more cgroups:
// first idle, then with one that reclaims all the time.
func liveScreen(p *page) error {
	p.writef("## The live screen\n")
	p.writef("`oomtrace top` on a terminal of 80x24, one snapshot per second, for %s after %s: with idle cgroups, then while a\n"+
		"process in one of them reads a file that does not fit. \"Each second\" is whether it read\n"+
		"all cgroups in each of them.\n",
		topMeasure, topSettles)
	p.writef("| cgroups | idle: CPU %% of a core | RSS MiB | with reclaim: CPU %% | each second |")
	p.writef("| --- | --- | --- | --- | --- |")

	dir, err := os.MkdirTemp("", "oomtrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	sparse := filepath.Join(dir, "sparse")
	if err := sparseFile(sparse, 256<<30); err != nil {
		return err
	}

	var all []*host.Scratch
	defer func() {
		for _, s := range all {
			s.Close()
		}
	}()

	for _, count := range []int{100, 1000, 5000} {
		for len(all) < count {
			s, err := host.NewScratch(fmt.Sprintf("oomtrace-bench-top-%d-%d", os.Getpid(), len(all)), 16<<20)
			if err != nil {
				return err
			}

			all = append(all, s)
		}

		if err := screenRow(p, sparse, all); err != nil {
			return err
		}
	}

	return nil
}

// screenRow measures the screen with these cgroups.
func screenRow(p *page, sparse string, all []*host.Scratch) error {
	t, drawn, err := startScreen()
	if err != nil {
		return err
	}
	defer t.stop()

	time.Sleep(topSettles)

	cpu := t.cpuMeter()

	time.Sleep(topMeasure)
	idleCPU, rss := cpu(), t.rssMiB()

	reader, err := startHog(all[0], "read", "0", sparse, filepath.Join(filepath.Dir(sparse), "count"))
	if err != nil {
		return err
	}
	defer end(reader)

	cpu = t.cpuMeter()

	time.Sleep(topMeasure)
	busyCPU := cpu()

	if t.ended() {
		return fmt.Errorf("measure top: it ended: %s", t.errors())
	}

	each := "yes"
	if strings.Contains(drawn(), "cgroups read") {
		each = "no"
	}

	p.writef("| %d | %.2f | %.0f | %.2f | %s |", len(all), idleCPU, rss, busyCPU, each)

	if len(all) == 1000 {
		p.goal(max(idleCPU, busyCPU) <= topGoal, "live screen, 1000 cgroups", "at most 1 % of a core",
			"%.2f %% idle, %.2f %% with reclaim", idleCPU, busyCPU)
	}

	return nil
}

// startScreen starts the live screen on a pseudo-terminal. drawn returns what it has written
// so far.
func startScreen() (t *tracer, drawn func() string, err error) {
	t = &tracer{cmd: exec.Command("bin/oomtrace", "top"), done: make(chan struct{})}
	t.cmd.Stderr = &t.errs

	t.cmd.Env = append(os.Environ(), "TERM=xterm-256color", "LC_ALL=C.UTF-8")
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	ptmx, err := pty.StartWithSize(t.cmd, &pty.Winsize{Cols: 80, Rows: 24})
	if err != nil {
		return nil, nil, err
	}

	var mu sync.Mutex
	var text strings.Builder

	go func() {
		buf := make([]byte, 1<<16)

		for {
			n, err := ptmx.Read(buf)
			if err != nil {
				break
			}

			mu.Lock()
			text.Write(buf[:n])
			mu.Unlock()
		}

		_ = t.cmd.Wait()
		_ = ptmx.Close()

		close(t.done)
	}()

	drawn = func() string {
		mu.Lock()
		defer mu.Unlock()

		return text.String()
	}

	for range 300 {
		if strings.Contains(drawn(), "quit") {
			return t, drawn, nil
		}

		time.Sleep(100 * time.Millisecond)
	}

	t.stop()

	return nil, nil, fmt.Errorf("wait for the screen of top: nothing within 30 s: %s", t.errors())
}
