// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/oomtrace/oomtrace/internal/events"
)

// trace is a running oomtrace, and what it said: incidents with updates merged.
type trace struct {
	cmd    *exec.Cmd
	label  string
	stderr string // file

	save io.Writer // its lines, too

	mu        sync.Mutex
	incidents []*events.Incident
	atOnce    map[string]bool // ids that had names in their first line
	problems  []string
	done      chan struct{}
}

// startTrace traces the pods of a bed, and returns once nothing is missed. The lines
// are saved in a directory, if there is one.
func startTrace(b *bed, oomtrace, save, label string, args ...string) (*trace, error) {
	ready := filepath.Join(b.dir, label+".ready")
	args = append([]string{"trace", "-o", "json", "--no-stalls", "--cgroup", b.driver.root(), "--ready-file", ready}, args...)

	t := &trace{cmd: exec.Command(oomtrace, args...), label: label, stderr: filepath.Join(b.dir, label+".stderr"), atOnce: map[string]bool{}, done: make(chan struct{}), save: io.Discard}
	if save != "" {
		file, err := os.OpenFile(filepath.Join(save, label+".jsonl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, fmt.Errorf("saving the lines of oomtrace %s: %w", label, err)
		}
		t.save = file
	}

	stdout, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}

	stderr, err := os.Create(t.stderr)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()

	t.cmd.Stderr = stderr

	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	go t.read(stdout)

	ended := false
	if until(b.ctx, func() bool {
		select {
		case <-t.done:
			ended = true
		default:
		}
		_, err = os.Stat(ready)

		return ended || err == nil
	}) && !ended {
		return t, nil
	}
	_ = t.cmd.Process.Kill()

	return nil, fmt.Errorf("oomtrace %s is not ready: %s", label, lastLines(t.stderr))
}

func (t *trace) read(stdout io.Reader) {
	defer close(t.done)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)

	for lines.Scan() {
		if _, err := fmt.Fprintf(t.save, "%s\n", lines.Bytes()); err != nil {
			t.mu.Lock()
			t.problems = append(t.problems, fmt.Sprintf("saving its lines: %v", err))
			t.mu.Unlock()
		}
		var inc events.Incident
		err := json.Unmarshal(lines.Bytes(), &inc)

		t.mu.Lock()
		switch {
		case err != nil:
			t.problems = append(t.problems, fmt.Sprintf("a line that is no JSON: %v: %.200s", err, lines.Text()))
		case inc.Kind == events.KindIncident:
			t.incidents = append(t.incidents, &inc)
			t.atOnce[inc.ID] = len(inc.Victims) > 0 && inc.Victims[0].Workload != nil && inc.Victims[0].Workload.Pod != ""
		case inc.Kind == events.KindIncidentUpdate:
			if i := slices.IndexFunc(t.incidents, func(old *events.Incident) bool { return old.ID == inc.ID }); i >= 0 {
				merged := *t.incidents[i]
				events.Merge(&merged, &inc)
				t.incidents[i] = &merged
			} else {
				t.problems = append(t.problems, "an update of what is not known: "+lines.Text())
			}
		case inc.Kind == events.KindLost:
			t.problems = append(t.problems, "lost: "+lines.Text())
		}
		t.mu.Unlock()
	}
}

// all gives the incidents so far.
func (t *trace) all() []*events.Incident {
	t.mu.Lock()
	defer t.mu.Unlock()

	return slices.Clone(t.incidents)
}

// remarks are those on stderr that there is no reason for: there is one for the
// restart of containerd, and one for the tracer that has no socket.
func (t *trace) remarks() []string {
	text, err := os.ReadFile(t.stderr)
	if err != nil {
		return []string{err.Error()}
	}

	expected := []string{"itself can be a victim"} // without CAP_SYS_RESOURCE
	if t.label == byCRI {
		expected = append(expected, "c.sock does not answer", "no socket at", "nothing listens at")
	} else {
		expected = append(expected, "no CRI socket at the usual paths")
	}
	var all []string

	for line := range strings.Lines(string(text)) {
		if !slices.ContainsFunc(expected, func(part string) bool { return strings.Contains(line, part) }) {
			all = append(all, strings.TrimSpace(line))
		}
	}

	return all
}

// summary tells how often names were there in the first line of an incident, and
// the runtime said OOMKilled of a PID 1 that the kernel had killed.
func (t *trace) summary() string {
	first, asked, right := 0, 0, 0

	for _, inc := range t.all() {
		if t.atOnce[inc.ID] {
			first++
		}

		for _, r := range inc.Reported {
			if inc.Scope == events.ScopeMemcg && r.ExitCode != nil && *r.ExitCode == 137 {
				asked++

				if r.Reason == "OOMKilled" {
					right++
				}
			}
		}
	}

	s := fmt.Sprintf("%d incidents, %d with names in the first line", len(t.all()), first)
	if asked > 0 {
		s += fmt.Sprintf("; the runtime said OOMKilled for %d of %d killed PIDs 1", right, asked)
	}

	return s
}

// stop ends the tracer in order.
func (t *trace) stop() error {
	_ = t.cmd.Process.Signal(syscall.SIGTERM)
	<-t.done

	if err := t.cmd.Wait(); err != nil {
		return fmt.Errorf("oomtrace %s: %w: %s", t.label, err, lastLines(t.stderr))
	}

	return nil
}
