// SPDX-License-Identifier: Apache-2.0

// Command guest runs the cases in a test machine, with one tracer for each tier
// watching all of them, and writes what happened to the console. It is started
// by the machine's init.
package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/test/lab"
)

func main() {
	fmt.Println(lab.MarkStart)

	if err := run(); err != nil {
		fmt.Println("guest:", err)
		os.Exit(1)
	}
}

// options come from the kernel's command line: lab.cases=a,b lab.tiers=x,y lab.v1
// lab.power[=read] lab.kills=N.
type options struct {
	cases, tiers []string
	v1           bool
	power        string // not empty: the power will be cut; "read": only look at what is left
}

func readOptions() options {
	o := options{tiers: []string{"fentry", "kprobe", "tracepoint"}}

	text, _ := os.ReadFile("/proc/cmdline")
	for _, word := range strings.Fields(string(text)) {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "lab.cases":
			o.cases = strings.Split(value, ",")
		case "lab.tiers":
			o.tiers = strings.Split(value, ",")
		case "lab.power":
			o.power = cmp.Or(value, "cut")
		case "lab.kills":
			recorderKills, _ = strconv.Atoi(value)
		case "lab.v1":
			o.v1 = true
		}
	}

	return o
}

func run() error {
	o := readOptions()

	m, err := newMachine(o.v1)
	if err != nil {
		return err
	}

	if o.power != "" {
		return power(m, o.power == "read")
	}
	result := lab.Result{Kernel: m.release, CgroupV1: o.v1, Tracers: map[string]lab.Tracer{}}
	began := time.Now()
	tracers := make(map[string]*tracer)
	// Together: most of a start is the verifier's work.
	for _, tier := range o.tiers {
		t, err := startTracer(tier, "--tier", tier, "--stalls", "--min-stall", "5ms")
		if err != nil {
			return err
		}
		tracers[tier] = t
	}

	for tier, t := range tracers {
		if err := t.waitReady(); err != nil {
			result.Tracers[tier] = lab.Tracer{Error: err.Error()}
			delete(tracers, tier)

			continue
		}
		result.Tracers[tier] = lab.Tracer{Start: t.lines()}
	}
	m.tracers = tracers
	result.StartSeconds = time.Since(began).Seconds()

	for _, c := range cases {
		if len(o.cases) > 0 && !slices.Contains(o.cases, c.name) || o.v1 && !c.v1 {
			continue
		}

		fmt.Println(lab.MarkCase, c.name)
		result.Cases = append(result.Cases, m.run(c))
	}

	for tier, t := range tracers {
		r := result.Tracers[tier]
		r.ExitOK = t.stop()
		r.End = t.lines()
		r.Stderr = t.stderr()
		result.Tracers[tier] = r
	}
	result.UpSeconds = upSeconds()

	return lab.Send(os.Stdout, result)
}

// tracer is a running oomtrace that writes JSON to a file.
type tracer struct {
	name string
	cmd  *exec.Cmd
	done chan error
	at   int64 // of the output, how much was taken
}

func (t *tracer) file(kind string) string { return "/tmp/" + t.name + "." + kind }

func startTracer(name string, args ...string) (*tracer, error) {
	t := &tracer{name: name, done: make(chan error, 1)}
	os.Remove(t.file("ready"))

	out, err := os.Create(t.file("json"))
	if err != nil {
		return nil, err
	}

	stderr, err := os.Create(t.file("err"))
	if err != nil {
		return nil, err
	}
	t.cmd = exec.Command("/bin/oomtrace", append([]string{"trace", "-o", "json", "--ready-file", t.file("ready")}, args...)...)

	t.cmd.Stdout, t.cmd.Stderr = out, stderr

	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting oomtrace: %w", err)
	}
	go func() { t.done <- t.cmd.Wait() }()

	return t, nil
}

func (t *tracer) waitReady() error {
	deadline := time.After(90 * time.Second)

	for {
		if _, err := os.Stat(t.file("ready")); err == nil {
			return nil
		}

		select {
		case err := <-t.done:
			return fmt.Errorf("%v: %s", err, strings.TrimSpace(t.stderr()))
		case <-deadline:
			return fmt.Errorf("not ready after 90 s: %s", strings.TrimSpace(t.stderr()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (t *tracer) stderr() string {
	text, _ := os.ReadFile(t.file("err"))
	return string(text)
}

func (t *tracer) size() int64 {
	info, err := os.Stat(t.file("json"))
	if err != nil {
		return 0
	}

	return info.Size()
}

// lines takes the output that was not taken yet.
func (t *tracer) lines() []string {
	text, _ := os.ReadFile(t.file("json"))
	fresh := string(text[min(t.at, int64(len(text))):])
	t.at = int64(len(text))

	if fresh == "" {
		return nil
	}

	return strings.Split(strings.TrimSuffix(fresh, "\n"), "\n")
}

func (t *tracer) stop() bool {
	t.cmd.Process.Signal(syscall.SIGTERM)

	select {
	case err := <-t.done:
		return err == nil
	case <-time.After(20 * time.Second):
		t.cmd.Process.Kill()
		return false
	}
}

func upSeconds() float64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}

	return time.Duration(t.Nano()).Seconds()
}
