// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/host"
)

var (
	before   = pflag.String("before", "", "a build of oomtrace to compare with, in the table of floods")
	floodArg = pflag.Int("flood", -1, "be a flood of this kind until standard input ends (used by the bench itself)")
	floodDir = pflag.String("flood-dir", "", "the cgroup of the flood")
)

const (
	floodPerSecond = 10_000
	floodKills     = 3                // in each round: at once by a user, one after the other by the OOM killer
	verdictWithin  = 20 * time.Second // a verdict that takes longer counts as this
	nobody         = 65534
)

// floodKinds are what any user can do without end. Each starts a flood, whose function
// causes two events that may become records.
var floodKinds = []struct {
	name  string
	uid   uint32
	start func(dir string) (twice func() error, err error)
}{
	{"SIGKILLs to an own zombie", nobody, func(string) (func() error, error) {
		zombie := exec.Command("/bin/true")
		send := func() error { return syscall.Kill(zombie.Process.Pid, syscall.SIGKILL) }

		return func() error { return errors.Join(send(), send()) }, zombie.Start()
	}},
	{"SIGKILLs to own processes", nobody, func(string) (func() error, error) {
		one := func() error {
			pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "9"}, &syscall.ProcAttr{})
			if err != nil {
				return err
			}

			err = syscall.Kill(pid, syscall.SIGKILL)
			syscall.Wait4(pid, nil, 0, nil)

			return err
		}

		return func() error { return errors.Join(one(), one()) }, nil
	}},
	{"new and removed cgroups", nobody, func(dir string) (func() error, error) {
		name := filepath.Join(dir, strings.Repeat("n", 200))
		return func() error { return errors.Join(os.Mkdir(name, 0o755), os.Remove(name)) }, nil
	}},
	{"renamed cgroups (v1)", nobody, func(dir string) (func() error, error) {
		a, b := filepath.Join(dir, strings.Repeat("a", 250)), filepath.Join(dir, strings.Repeat("b", 250))
		return func() error { return errors.Join(os.Rename(a, b), os.Rename(b, a)) }, os.MkdirAll(a, 0o755)
	}},
}

// load is the load average of the last minute.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")

	return first
}

// runFlood is the process of a flood. It prints a line at the start, and at the end the
// events per second.
func runFlood() error {
	twice, err := floodKinds[*floodArg].start(*floodDir)
	if err != nil {
		return err
	}

	ended := make(chan struct{})

	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()

	fmt.Println("flood")

	began, count := time.Now(), 0

	for {
		select {
		case <-ended:
			fmt.Println(int(float64(count) / time.Since(began).Seconds()))
			return nil
		default:
		}

		for float64(count) < floodPerSecond*time.Since(began).Seconds() {
			if err := twice(); err != nil {
				return err
			}

			if count += 2; count%1000 == 0 {
				break // look at the standard input
			}
		}

		time.Sleep(100 * time.Microsecond)
	}
}

// beginFlood starts the process of a flood. The returned function ends it and returns its
// rate.
func beginFlood(kind int) (end func() (perSecond float64, err error), err error) {
	layout, err := host.Cgroups()
	if err != nil {
		return nil, err
	}

	dir := filepath.Join(layout.MemoryMount, fmt.Sprintf("oomtrace-bench-flood-%d", os.Getpid()))
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, nobody, nobody)); err != nil {
		return nil, err
	}

	cmd := exec.Command("/proc/self/exe", "--flood", strconv.Itoa(kind), "--flood-dir", dir)
	cmd.Dir, cmd.Stderr = "/", os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: floodKinds[kind].uid, Gid: nobody}}

	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}

	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}

	if err := cmd.Start(); err != nil {
		return nil, err
	}

	lines := bufio.NewScanner(out)
	lines.Scan()

	return func() (float64, error) {
		in.Close()
		lines.Scan()

		rate, err := strconv.ParseFloat(lines.Text(), 64)
		err = errors.Join(err, cmd.Wait())

		below, _ := filepath.Glob(dir + "/[a-z]*")
		for _, name := range below {
			if info, err := os.Stat(name); err == nil && info.IsDir() {
				os.Remove(name)
			}
		}

		return rate, errors.Join(err, os.Remove(dir))
	}, nil
}

// beside is what was measured beside one flood, by build.
type beside struct {
	rate      []float64
	oom, user [2][]float64 // ms
}

// verdictsBesideFloods measures the time from a kill to the line with its verdict, in silence
// and beside floods, with two builds in alternation.
func verdictsBesideFloods(p *page) error {
	builds := []string{*before, "bin/oomtrace"}

	p.writef("## Verdicts beside a flood\n")
	p.writef("From a kill to the moment at which another process has read the line of the whole incident (`-o json --user-kills\n" +
		"all`), in the best attach mode of this machine: of OOM kills from the kernel's `mark_victim` on, of SIGKILLs by a user\n" +
		"from the system call on. SIGKILLs are collected until one second is quiet. Beside each kill a process of user `nobody`\n" +
		"causes events as fast as it can, up to 10 000 a second. \"Before\" is a build in which such events have no budget for each\n" +
		"tenant, measured in the same run, in alternation.\n")
	p.writef("%d kills of each kind in each of %d rounds, on %s; the load was %s. A verdict that takes longer than %.0f s counts\n"+
		"as that.\n", floodKills, *rounds, time.Now().Format("2006-01-02"), load(), verdictWithin.Seconds())
	p.writef("| flood | events per second | OOM kill, ms: before | now | SIGKILL, ms: before | now |")
	p.writef("| --- | --- | --- | --- | --- | --- |")

	m, err := loadMinimal("minimal_mark")
	if err != nil {
		return err
	}
	defer m.close()

	measured := make([]beside, 1+len(floodKinds)) // the first in silence

	for range *rounds {
		for b, build := range builds {
			if build == "" {
				continue
			}

			if err := besideFloods(build, b, m, measured); err != nil {
				return err
			}
		}
	}

	row := func(name string, f beside) {
		p.writef("| %s | %s | %s | %s | %s | %s |", name, spread(f.rate, 0),
			spread(f.oom[0], 0), spread(f.oom[1], 0), spread(f.user[0], 0), spread(f.user[1], 0))
	}
	silence := measured[0]

	row("none", silence)

	for i, kind := range floodKinds {
		f := measured[1+i]

		row(kind.name, f)
		p.goal(median(f.oom[1]) <= median(silence.oom[1])+200, "OOM kill beside "+kind.name, "200 ms more than in silence, at most",
			"%.0f ms, in silence %.0f", median(f.oom[1]), median(silence.oom[1]))
		p.goal(median(f.user[1]) <= median(silence.user[1])+200, "SIGKILL beside "+kind.name, "200 ms more than in silence, at most",
			"%.0f ms, in silence %.0f", median(f.user[1]), median(silence.user[1]))
	}

	return nil
}

// besideFloods measures one build, in silence and beside each flood.
func besideFloods(build string, b int, m *minimal, measured []beside) error {
	t, err := startTracer([]string{build, "-o", "json", "--user-kills", "all"})
	if err != nil {
		return err
	}
	defer t.stop()

	time.Sleep(2 * time.Second)

	for i := range measured {
		f := &measured[i]

		end := func() (float64, error) { return 0, nil }
		if i > 0 {
			if end, err = beginFlood(i - 1); err != nil {
				return err
			}
		}

		oom, user, err := verdicts(t, m)

		rate, ended := end()
		if err := errors.Join(err, ended); err != nil {
			return fmt.Errorf("measure %s: %w: %s", build, err, t.errors())
		}

		f.oom[b], f.user[b] = append(f.oom[b], oom...), append(f.user[b], user...)
		if i > 0 {
			f.rate = append(f.rate, rate)
		}

		time.Sleep(time.Second) // the end of a flood may have verdicts of its own
	}

	return nil
}

// verdicts kills processes and returns how long the lines of their incidents took, in ms.
func verdicts(t *tracer, m *minimal) (oom, user []float64, err error) {
	sent := make(map[int]int64)

	for i := range floodKills {
		s, err := host.NewScratch(fmt.Sprintf("oomtrace-bench-user-%d-%d", os.Getpid(), i), 8<<20)
		if err != nil {
			return nil, nil, err
		}
		defer s.Close()

		cmd := exec.Command("sleep", "100")
		if err := cmd.Start(); err != nil {
			return nil, nil, err
		}

		if err := s.Add(cmd.Process.Pid); err != nil {
			return nil, nil, err
		}

		sent[cmd.Process.Pid] = monotonicNS()

		end(cmd)
	}

	for pid, at := range sent {
		user = append(user, t.verdictMS(pid, at))
	}

	for range floodKills {
		pid, err := oomKill()
		if err != nil {
			return nil, nil, err
		}

		at, err := m.killedNS()
		if err != nil {
			return nil, nil, err
		}

		oom = append(oom, t.verdictMS(pid, int64(at)))
	}

	return oom, user, nil
}

// verdictMS waits for the incident of a victim.
func (t *tracer) verdictMS(pid int, sinceNS int64) float64 {
	read, ok := t.waitFor(fmt.Sprintf(`"kind":"incident",.*"victims":\[.*"pid":%d\b`, pid), verdictWithin)
	if took := time.Duration(read - sinceNS); ok && took < verdictWithin {
		return float64(took) / 1e6
	}

	return float64(verdictWithin.Milliseconds())
}
