// SPDX-License-Identifier: Apache-2.0

// Package trace runs oomtrace for the tests on whole machines, and reads what it
// reports.
package trace

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Process is a running oomtrace trace that writes JSON to a file.
type Process struct {
	Cmd  *exec.Cmd
	Done chan error // gets the result of Wait

	base string // of its files
	read int64  // bytes of the output that Lines has returned
}

// Start starts an oomtrace with its files in dir, under a name.
func Start(oomtrace, dir, name string, args ...string) (*Process, error) {
	p := &Process{Done: make(chan error, 1), base: filepath.Join(dir, name)}
	os.Remove(p.file("ready"))

	out, err := os.Create(p.file("jsonl"))
	if err != nil {
		return nil, err
	}
	defer out.Close()

	stderr, err := os.Create(p.file("stderr"))
	if err != nil {
		return nil, err
	}
	defer stderr.Close()

	p.Cmd = exec.Command(oomtrace, append([]string{"trace", "-o", "json", "--ready-file", p.file("ready")}, args...)...)
	p.Cmd.Stdout, p.Cmd.Stderr = out, stderr

	if err := p.Cmd.Start(); err != nil {
		return nil, fmt.Errorf("start oomtrace: %w", err)
	}

	go func() { p.Done <- p.Cmd.Wait() }()

	return p, nil
}

func (p *Process) file(extension string) string { return p.base + "." + extension }

// WaitReady waits until no kill is missed any more.
func (p *Process) WaitReady(limit time.Duration) error {
	deadline := time.After(limit)

	for {
		if _, err := os.Stat(p.file("ready")); err == nil {
			return nil
		}

		select {
		case err := <-p.Done:
			return fmt.Errorf("oomtrace ended: %v: %s", err, strings.TrimSpace(p.Stderr()))
		case <-deadline:
			_ = p.Cmd.Process.Kill()
			return fmt.Errorf("oomtrace is not ready after %v: %s", limit, strings.TrimSpace(p.Stderr()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Stderr returns everything that it has written to its standard error.
func (p *Process) Stderr() string {
	text, _ := os.ReadFile(p.file("stderr"))
	return string(text)
}

// Size returns how many bytes it has printed.
func (p *Process) Size() int64 {
	info, err := os.Stat(p.file("jsonl"))
	if err != nil {
		return 0
	}

	return info.Size()
}

// Lines returns the lines that were printed to their end since the last call.
func (p *Process) Lines() []string {
	text, _ := os.ReadFile(p.file("jsonl"))
	fresh := text[min(p.read, int64(len(text))):]
	fresh = fresh[:bytes.LastIndexByte(fresh, '\n')+1]
	p.read += int64(len(fresh))

	if len(fresh) == 0 {
		return nil
	}

	return strings.Split(strings.TrimSuffix(string(fresh), "\n"), "\n")
}

// Stop ends it by SIGTERM, after 20 s by SIGKILL.
func (p *Process) Stop() error {
	_ = p.Cmd.Process.Signal(syscall.SIGTERM)

	select {
	case err := <-p.Done:
		if err != nil {
			return fmt.Errorf("oomtrace failed: %w: %s", err, strings.TrimSpace(p.Stderr()))
		}

		return nil
	case <-time.After(20 * time.Second):
		_ = p.Cmd.Process.Kill()
		return errors.New("oomtrace did not end within 20 s of SIGTERM")
	}
}
