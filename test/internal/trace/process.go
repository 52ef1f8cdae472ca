// SPDX-License-Identifier: Apache-2.0

// Package trace runs oomtrace for the tests on whole machines, and reads what it
// reports.
package trace

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Process is a running oomtrace trace that writes JSON.
type Process struct {
	Cmd  *exec.Cmd
	Done chan error // gets the result of Wait, once everything that was printed is in Lines

	base string // of its files

	mu    sync.Mutex
	lines []Line // that were not returned yet
	count int    // of all lines but those about losses
}

// Line is a line that was printed, and when it came. Before that it was in a pipe: a reader
// that gets no CPU time adds to the delay.
type Line struct {
	Text string
	At   time.Time
}

// Start starts an oomtrace with its files in dir, under a name.
func Start(oomtrace, dir, name string, args ...string) (*Process, error) {
	p := &Process{Done: make(chan error, 1), base: filepath.Join(dir, name)}
	os.Remove(p.file("ready"))

	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()

	stderr, err := os.Create(p.file("stderr"))
	if err != nil {
		out.Close()
		return nil, err
	}
	defer stderr.Close()

	p.Cmd = exec.Command(oomtrace, append([]string{"trace", "-o", "json", "--ready-file", p.file("ready")}, args...)...)
	p.Cmd.Stdout, p.Cmd.Stderr = in, stderr

	if err := p.Cmd.Start(); err != nil {
		out.Close()
		return nil, fmt.Errorf("start oomtrace: %w", err)
	}

	go func() {
		p.read(out)
		out.Close()

		p.Done <- p.Cmd.Wait()
	}()

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

// read takes the lines that are printed to their end.
func (p *Process) read(out io.Reader) {
	for r := bufio.NewReader(out); ; {
		text, err := r.ReadString('\n')
		if err != nil {
			return
		}

		p.mu.Lock()
		p.lines = append(p.lines, Line{strings.TrimSuffix(text, "\n"), time.Now()})

		if !strings.Contains(text, `"kind":"`+events.KindLost+`"`) {
			p.count++
		}
		p.mu.Unlock()
	}
}

// Count returns how many lines it has printed, but for those about lost records: they go on
// as long as records come that there is no room for.
func (p *Process) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.count
}

// Timed returns the lines that were printed since the last call of Timed or Lines.
func (p *Process) Timed() []Line {
	p.mu.Lock()
	defer p.mu.Unlock()

	fresh := p.lines
	p.lines = nil

	return fresh
}

// Lines is Timed without the times.
func (p *Process) Lines() (texts []string) {
	for _, line := range p.Timed() {
		texts = append(texts, line.Text)
	}

	return texts
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
