// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
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
	read []piece
}

// piece is what was read at once, and when, by CLOCK_MONOTONIC.
type piece struct {
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
		block := make([]byte, 1<<16)
		for {
			n, err := out.Read(block)
			if n > 0 {
				now := monotonicNS()

				t.mu.Lock()
				t.read = append(t.read, piece{string(block[:n]), now})
				t.mu.Unlock()
			}

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

// output is what it has written to stdout so far.
func (t *tracer) output() string {
	t.mu.Lock()
	defer t.mu.Unlock()

	var all strings.Builder
	for _, p := range t.read {
		all.WriteString(p.text)
	}

	return all.String()
}

// waitFor waits for a word in the output, and tells when it was read.
func (t *tracer) waitFor(word string, patience time.Duration) (atNS int64, ok bool) {
	isWord := regexp.MustCompile(`\b` + regexp.QuoteMeta(word) + `\b`)

	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		t.mu.Lock()
		for _, p := range t.read {
			if isWord.MatchString(p.text) {
				t.mu.Unlock()
				return p.atNS, true
			}
		}
		t.mu.Unlock()
	}

	return 0, false
}

func (t *tracer) gone() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

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

// cpu is the seconds of CPU that it used, children left aside.
func (t *tracer) cpu() float64 {
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

func (t *tracer) rss() float64 {
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
