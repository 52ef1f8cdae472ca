// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

const (
	// followed bounds how many findings are remembered.
	followed = 1024
	// near is how long before a kill a finding can be about it: a grace period is
	// half a minute, and can be set to more.
	near = 2 * time.Minute
)

// Follower remembers what the kubelet writes about ends of containers and about
// evictions. It is safe for concurrent use.
type Follower struct {
	stop context.CancelFunc
	done chan struct{}

	mu       sync.Mutex
	findings []Finding // oldest first
}

// Follow begins to read a log: a file, or the journal if that is empty. It ends with
// Close. Root is where the node's /var is; empty is "/". It fails only if there is
// no such file.
func Follow(file, root string, warn func(string)) (*Follower, error) {
	ctx, stop := context.WithCancel(context.Background())
	f := &Follower{stop: stop, done: make(chan struct{})}
	run := func() error { return f.journal(ctx, root) }

	if file != "" {
		log, err := os.Open(file)
		if err != nil {
			stop()
			return nil, fmt.Errorf("following the kubelet's log: %w", err)
		}

		if _, err := log.Seek(0, io.SeekEnd); err != nil && !errors.Is(err, os.ErrInvalid) {
			log.Close()
			stop()

			return nil, fmt.Errorf("following the kubelet's log: %w", err)
		}
		run = func() error {
			defer log.Close()
			return f.file(ctx, log)
		}
	}

	go func() {
		defer close(f.done)

		if err := run(); err != nil && ctx.Err() == nil {
			warn("the kubelet's log is not read: " + err.Error())
		}
	}()

	return f, nil
}

// Close ends the reading.
func (f *Follower) Close() {
	f.stop()
	<-f.done
}

func (f *Follower) journal(ctx context.Context, root string) error {
	args := []string{"--unit=kubelet", "--follow", "--lines=0", "--output=short-unix", "--no-pager", "--quiet", "--all"}
	if root != "" && root != "/" {
		args = append(args, "--directory="+filepath.Join(root, "var/log/journal"))
	}
	cmd := exec.CommandContext(ctx, "journalctl", args...)
	cmd.WaitDelay = time.Second

	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}

	if err != nil {
		return fmt.Errorf("starting journalctl: %w: give the kubelet's log as a file", err)
	}

	f.take(out)

	return cmd.Wait()
}

// file reads what is appended; a file that was replaced or cut is read on from its
// new end of the data.
func (f *Follower) file(ctx context.Context, log io.Reader) error {
	for ctx.Err() == nil {
		f.take(log)

		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}

	return nil
}

// take reads until the end. Lines beyond 64 KiB are cut by the reader and say
// nothing.
func (f *Follower) take(r io.Reader) {
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, long, err := lines.ReadLine()
		if err != nil {
			return
		}

		if found, ok := Line(string(line)); ok && !long {
			f.add(found)
		}
	}
}

func (f *Follower) add(found Finding) {
	found.Time = time.Now() // it was just written, and its own time has no year

	f.mu.Lock()
	defer f.mu.Unlock()

	if len(f.findings) == followed {
		f.findings = append(f.findings[:0], f.findings[1:]...)
	}
	f.findings = append(f.findings, found)
}

// About gives the lines about a workload, and those about the node, in the minutes
// before now, oldest first.
func (f *Follower) About(w *events.Workload, now time.Time) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string

	for _, found := range f.findings {
		if age := now.Sub(found.Time); age > near || !found.about(w) {
			continue
		}

		text := found.Text
		if found.Probe != "" && !strings.Contains(text, found.Probe) {
			text += fmt.Sprintf(" probeType=%q", found.Probe)
		}
		lines = append(lines, text)
	}

	return lines
}

// about tells whether a finding concerns a workload: its pod, its container, or no
// pod at all.
func (f Finding) about(w *events.Workload) bool {
	switch {
	case f.Pod == "" && f.PodUID == "" && f.ContainerID == "":
		return f.What == FoundReclaim || f.What == FoundMustEvict
	case f.PodUID != "" && w.PodUID != "":
		return f.PodUID == w.PodUID
	case f.ContainerID != "" && w.ContainerID != "":
		return f.ContainerID == w.ContainerID
	}

	return f.Pod != "" && w.Pod != "" && f.Pod == w.Namespace+"/"+w.Pod
}
