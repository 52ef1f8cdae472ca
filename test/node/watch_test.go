// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/trace"
)

// Two oomtraces watch: one has the runtime's socket, the other only files.
const (
	byCRI  = "cri"
	byDisk = "disk"
)

// watch is a running oomtrace, and what it reported.
type watch struct {
	label   string
	process *trace.Process

	mu      sync.Mutex
	trace   trace.Trace
	checked int // incidents that were compared
}

// startWatch watches the pods of a containerd. The lines are kept in save, unless that is
// empty.
func startWatch(c *containerd, oomtrace, save, label string, args ...string) (*watch, error) {
	dir := c.dir
	if save != "" {
		dir = save
	}

	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}

	p, err := trace.Start(oomtrace, dir, label, append([]string{"--no-stalls", "--cgroup", c.driver.root()}, args...)...)
	if err == nil {
		err = p.WaitReady(*patience)
	}

	if err != nil {
		return nil, fmt.Errorf("watch by %s: %w", label, err)
	}

	return &watch{label: label, process: p}, nil
}

// incidents returns all of them so far.
func (w *watch) incidents() []*events.Incident {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.trace.Add(w.process.Lines()...)

	return slices.Clone(w.trace.Incidents)
}

// news returns the incidents that were not compared.
func (w *watch) news() []*events.Incident { return w.incidents()[w.checked:] }

// problems returns the problems with lines and the unexpected warnings, after the end.
func (w *watch) problems() []string {
	all := slices.Clone(w.trace.Problems)

	// The first is without CAP_SYS_RESOURCE, the second is about --no-stalls, the others are
	// about the restart of containerd, and about no socket.
	expected := []string{"may choose oomtrace itself", "stalls are not traced"}
	if w.label == byCRI {
		expected = append(expected, "c.sock does not answer", "no socket at", "nothing listens at")
	} else {
		expected = append(expected, "no CRI socket at the usual paths")
	}

	for line := range strings.Lines(w.process.Stderr()) {
		if !slices.ContainsFunc(expected, func(part string) bool { return strings.Contains(line, part) }) {
			all = append(all, "warning: "+strings.TrimSpace(line))
		}
	}

	return all
}

// summary counts the names in first lines, and how often the runtime reported OOMKilled
// for a PID 1 that the kernel had killed.
func (w *watch) summary() string {
	named, killed, reported := 0, 0, 0

	for _, inc := range w.incidents() {
		if w.trace.Named[inc.ID] {
			named++
		}

		for _, r := range inc.Reported {
			if inc.Scope == events.ScopeMemcg && r.ExitCode != nil && *r.ExitCode == 137 {
				killed++

				if r.Reason == "OOMKilled" {
					reported++
				}
			}
		}
	}

	s := fmt.Sprintf("watched by %s: %d incidents, %d with names in the first line", w.label, len(w.trace.Incidents), named)
	if killed > 0 {
		s += fmt.Sprintf("; the runtime reported OOMKilled for %d of %d killed PIDs 1", reported, killed)
	}

	return s
}
