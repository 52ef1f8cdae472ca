// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tracer is a running contender.
type tracer struct {
	cmd  *exec.Cmd
	done chan struct{}
	errs strings.Builder
	mu   sync.Mutex
	read []line
}

// line is a line of output, and when its end was read, by CLOCK_MONOTONIC.
type line struct {
	text string
	atNS int64
}

func startTracer(args []string) (*tracer, error) {
	if _, err := exec.LookPath(args[0]); err != nil {
		return nil, errors.New(args[0] + " is not installed")
	}

	t := &tracer{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	t.cmd.Stderr = &t.errs
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}

	if err := t.cmd.Start(); err != nil {
		return nil, err
	}

	go func() {
		lines := bufio.NewReaderSize(out, 1<<16)
		for {
			text, err := lines.ReadString('\n')
			now := monotonicNS()

			t.mu.Lock()
			t.read = append(t.read, line{text, now})
			t.mu.Unlock()

			if err != nil {
				break
			}
		}
		_ = t.cmd.Wait()
		close(t.done)
	}()

	return t, nil
}

func monotonicNS() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)

	return now.Nano()
}

// startTimed starts a tracer and waits until it is attached: oomtrace then writes a file,
// which is in dir, and the others print "ready". It returns how long that took.
func startTimed(dir string, args []string) (t *tracer, ms float64, err error) {
	ready := filepath.Join(dir, "ready")
	os.Remove(ready)

	if args[0] == "bin/oomtrace" {
		args = append(slices.Clone(args), "--ready-file", ready)
	}
	began := time.Now()

	t, err = startTracer(args)
	if err != nil {
		return nil, 0, err
	}

	for !t.ended() && time.Since(began) < 30*time.Second {
		if _, err := os.Stat(ready); err == nil || strings.Contains(t.output(), "ready\n") {
			return t, float64(time.Since(began).Microseconds()) / 1000, nil
		}

		time.Sleep(time.Millisecond)
	}

	t.stop()

	return nil, 0, fmt.Errorf("wait for %s to attach: it exited, or took longer than 30 s: %s", args[0], t.errors())
}

// output returns what it has written to stdout so far.
func (t *tracer) output() string {
	t.mu.Lock()
	defer t.mu.Unlock()

	var all strings.Builder
	for _, l := range t.read {
		all.WriteString(l.text)
	}

	return all.String()
}

// waitFor waits for a line that matches, and returns when its end was read.
func (t *tracer) waitFor(expression string, patience time.Duration) (atNS int64, ok bool) {
	wanted, seen := regexp.MustCompile(expression), 0

	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		t.mu.Lock()
		fresh := t.read[seen:]
		t.mu.Unlock()

		for _, l := range fresh {
			if wanted.MatchString(l.text) {
				return l.atNS, true
			}
		}

		seen += len(fresh)
	}

	return 0, false
}

// ended reports whether it has exited.
func (t *tracer) ended() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// errors returns the first line of its stderr.
func (t *tracer) errors() string {
	line, _, _ := strings.Cut(t.errs.String(), "\n")
	return line
}

func (t *tracer) stop() {
	t.cmd.Process.Signal(syscall.SIGINT)

	select {
	case <-t.done:
	case <-time.After(5 * time.Second):
		t.cmd.Process.Kill()
		<-t.done
	}
}

// cpuMeter starts to measure. The returned function returns the CPU used since, in
// percent of a core.
func (t *tracer) cpuMeter() func() float64 {
	before, began := t.cpuSeconds(), time.Now()
	return func() float64 { return (t.cpuSeconds() - before) / time.Since(began).Seconds() * 100 }
}

// cpuSeconds returns the CPU time that it has used, without that of its children.
func (t *tracer) cpuSeconds() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", t.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), ") ")

	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)

	return (user + system) / 100
}

func (t *tracer) rssMiB() float64 {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", t.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	defer file.Close()

	for lines := bufio.NewScanner(file); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}

	return 0
}
