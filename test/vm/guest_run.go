// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/must"
	"github.com/oomtrace/oomtrace/test/internal/qemu"
	"github.com/oomtrace/oomtrace/test/internal/trace"
)

const (
	oomtrace = "/bin/oomtrace"
	filesDir = "/tmp" // of the tracers' files
)

// RunGuest does in the guest what its kernel's command line requests:
//
//	lab.cases=A,B lab.tiers=X,Y    run the cases while a tracer of each tier watches
//	lab.kills=N                    how often record-killed kills its recorder
//	lab.v1                         the memory controller is on cgroup v1
//	lab.noise                      make noise meanwhile
//	lab.power[=read]               record until the power is cut, or only read back
//	lab.survival                   run out of memory while tracers watch
func RunGuest() error {
	if err := prepare(); err != nil {
		return err
	}

	if how, ok := qemu.BootOption("lab.power"); ok {
		return recordUntilCut(how == "read")
	}

	if _, ok := qemu.BootOption("lab.survival"); ok {
		return runSurvival()
	}

	if n, ok := qemu.BootOption("lab.kills"); ok {
		recorderKills, _ = strconv.Atoi(n)
	}

	_, cgroupV1 := qemu.BootOption("lab.v1")

	_, noisy := qemu.BootOption("lab.noise")

	result, err := runCases(cgroupV1, noisy, qemu.BootList("lab.cases"), qemu.BootList("lab.tiers"))
	if err != nil {
		return err
	}

	return qemu.Send(os.Stdout, result)
}

func prepare() error {
	var errs []error

	for file, text := range map[string]string{
		"/proc/self/oom_score_adj":       "-1000",
		"/proc/sys/vm/overcommit_memory": "1", // hogs are larger than the machine
		"/proc/sys/kernel/printk":        "1", // reports on the console are slow
		"/proc/sys/kernel/sysrq":         "1",
	} {
		errs = append(errs, os.WriteFile(file, []byte(text), 0))
	}

	return errors.Join(errs...)
}

func runCases(cgroupV1, noisy bool, names, tiers []string) (*Result, error) {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return nil, err
	}

	r := &runner{
		cgroupV1: cgroupV1, tracers: map[string]*trace.Process{},
		result: Result{Kernel: unix.ByteSliceToString(uname.Release[:]), Tracers: map[string]Tracer{}},
	}

	var err error
	if r.kmsg, err = unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		return nil, fmt.Errorf("open the kernel's log: %w", err)
	}

	if err := r.startTracers(tiers); err != nil {
		return nil, err
	}

	var n *noise

	if noisy {
		if n, err = startNoise(cgroupV1); err != nil {
			return nil, err
		}
	}

	for i := range Cases {
		c := &Cases[i]
		if !slices.Contains(names, c.Name) {
			continue
		}

		fmt.Println(qemu.MarkCase, c.Name)
		r.result.Runs = append(r.result.Runs, r.run(c))
	}

	if n != nil {
		r.result.Noise = n.stop()
		r.waitQuiet(noisyQuiet)
	}

	r.takeLate()

	for tier, p := range r.tracers {
		t := r.result.Tracers[tier]
		if err := p.Stop(); err != nil {
			t.Failed = err.Error()
		}

		t.End = p.Lines()
		r.result.Tracers[tier] = t
	}

	r.result.UpSeconds = upSeconds()

	return &r.result, nil
}

// runner runs cases, one after the other.
type runner struct {
	cgroupV1 bool
	kmsg     int
	tracers  map[string]*trace.Process // by tier
	result   Result
}

// startLimit is how long an oomtrace may take to be ready. Nothing in a guest waits longer
// than needed, but an emulator on a busy host is slow.
const startLimit = 4 * time.Minute

// startTracers starts all of them before it waits for one: most of a start is the
// verifier's work.
func (r *runner) startTracers(tiers []string) error {
	began := time.Now()

	for _, tier := range tiers {
		p, err := trace.Start(oomtrace, filesDir, tier, "--tier", tier, "--stalls", "--min-stall", "5ms")
		if err != nil {
			return err
		}

		r.tracers[tier] = p
	}

	for tier, p := range r.tracers {
		if err := p.WaitReady(startLimit); err != nil {
			r.result.Tracers[tier] = Tracer{Error: err.Error()}
			delete(r.tracers, tier)

			continue
		}

		r.result.Tracers[tier] = Tracer{Start: p.Lines()}
	}

	r.result.StartSeconds = time.Since(began).Seconds()

	return nil
}

const (
	// usualQuiet is how long the tracers are silent when all is reported.
	usualQuiet = 700 * time.Millisecond
	// noisyQuiet is the same after the last case beside noise, where a line may be that late.
	// The late lines of any other case are taken when the next one starts.
	noisyQuiet = 6 * time.Second
)

func (r *runner) run(c *Case) *Run {
	run := &Run{Name: c.Name, Lines: map[string][]string{}, DelaysMS: map[string]map[string]float64{}}
	g := newGuest(r.cgroupV1)
	run.Facts = g.facts

	r.readLog() // the rest of the case before
	r.takeLate()

	run.OOMKills[0] = oomKills()
	began := time.Now()

	if err := do(c, g); err != nil {
		run.Error = err.Error()
	}

	done := time.Now()

	r.waitQuiet(max(c.Quiet, usualQuiet))

	run.Seconds, run.QuietSeconds = done.Sub(began).Seconds(), time.Since(done).Seconds()
	run.OOMKills[1] = oomKills()

	for _, group := range g.groups {
		group.readCounters(g.cgroupV1)
		run.Groups = append(run.Groups, group.Group)
	}

	for _, p := range g.procs {
		select {
		case <-p.done:
			p.Killed = p.status.Signaled() && p.status.Signal() == syscall.SIGKILL
		default:
		}

		run.Procs = append(run.Procs, p.Proc)
	}

	run.Log, run.LogOverruns = r.readLog()

	for tier, p := range r.tracers {
		run.DelaysMS[tier] = map[string]float64{}
		run.take(tier, p)
	}

	g.end()

	return run
}

// take takes the lines that a tracer has printed.
func (run *Run) take(tier string, p *trace.Process) {
	for _, line := range p.Timed() {
		run.Lines[tier] = append(run.Lines[tier], line.Text)

		if head, err := trace.Head(line.Text); err == nil && head.Kind == events.KindIncident {
			run.DelaysMS[tier][head.ID] = line.At.Sub(head.Time).Seconds() * 1000
		}
	}
}

// takeLate takes what was printed since the last case ended as a part of it.
func (r *runner) takeLate() {
	for tier, p := range r.tracers {
		if n := len(r.result.Runs); n > 0 {
			r.result.Runs[n-1].take(tier, p)
			continue
		}

		t := r.result.Tracers[tier]
		t.Start = append(t.Start, p.Lines()...)
		r.result.Tracers[tier] = t
	}
}

func do(c *Case, g *Guest) (err error) {
	defer func() { err = must.Failed(recover()) }()

	c.Do(g)

	return nil
}

// waitQuiet waits until no tracer has printed anything for so long, at most 2 minutes.
func (r *runner) waitQuiet(quiet time.Duration) {
	count := func() (n int) {
		for _, p := range r.tracers {
			n += p.Count()
		}

		return n
	}

	last, since := count(), time.Now()
	for limit := since.Add(2 * time.Minute); time.Since(since) < quiet && time.Now().Before(limit); {
		time.Sleep(50 * time.Millisecond)

		if now := count(); now != last {
			last, since = now, time.Now()
		}
	}
}

// readLog returns what the kernel logged since the last call, and how often some of it
// was overwritten before.
func (r *runner) readLog() (lines []string, overruns int) {
	buf := make([]byte, 8192)
	for {
		n, err := unix.Read(r.kmsg, buf)
		if errors.Is(err, unix.EPIPE) {
			overruns++
			continue
		}

		if err != nil {
			return lines, overruns
		}

		// "priority,sequence,time,flags;text\n KEY=value\n..."
		text, _, _ := strings.Cut(string(buf[:n]), "\n")
		lines = append(lines, text)
	}
}

func oomKills() uint64 { return vmstat("oom_kill") }

// vmstat returns a counter of the node.
func vmstat(name string) uint64 {
	text, _ := os.ReadFile("/proc/vmstat")
	return counter(string(text), name)
}

func upSeconds() float64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}

	return time.Duration(t.Nano()).Seconds()
}
