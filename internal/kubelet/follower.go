// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/survive"
)

const (
	// maxFindings bounds how many findings are remembered.
	maxFindings = 1024
	// maxLine bounds a line in bytes; longer ones are ignored.
	maxLine = 64 << 10
	// near is how long before a kill a finding can be about it: a grace period is
	// half a minute, and can be set to more.
	near = 2 * time.Minute
	// readEvery is the time between two readings of a log file.
	readEvery = 200 * time.Millisecond
)

// Follower remembers the kubelet's lines about ends of containers and about evictions.
// It is safe for concurrent use.
type Follower struct {
	stop context.CancelFunc
	work sync.WaitGroup

	mu       sync.Mutex
	findings []timedFinding // oldest first
}

// timedFinding is a finding and the time at which it was read: the line was just
// written, and klog's own time has no year.
type timedFinding struct {
	Finding
	at time.Time
}

// Follow starts to read a log: a file, or the journal if file is empty. Root is the
// directory of the node's file system; empty is "/". It fails only if the file cannot
// be opened. Close ends it.
func Follow(file, root string, warn func(string)) (*Follower, error) {
	ctx, stop := context.WithCancel(context.Background())
	f := &Follower{stop: stop}
	read := func() error { return f.journal(ctx, root) }

	if file != "" {
		log, err := openAtEnd(file)
		if err != nil {
			stop()
			return nil, fmt.Errorf("follow the kubelet log: %w", err)
		}

		read = func() error {
			defer log.Close()
			return f.file(ctx, log)
		}
	}

	f.work.Go(func() {
		if err := read(); err != nil && ctx.Err() == nil {
			warn("the kubelet log is not read: " + err.Error())
		}
	})

	return f, nil
}

// openAtEnd opens a log behind its last line.
func openAtEnd(file string) (*os.File, error) {
	log, err := os.Open(file)
	if err != nil {
		return nil, err
	}

	if _, err := log.Seek(0, io.SeekEnd); err != nil && !errors.Is(err, os.ErrInvalid) {
		log.Close()
		return nil, err
	}

	return log, nil
}

// Close ends the follower, and returns once its goroutine has ended.
func (f *Follower) Close() {
	f.stop()
	f.work.Wait()
}

func (f *Follower) journal(ctx context.Context, root string) error {
	args := []string{"--unit=kubelet", "--follow", "--lines=0", "--output=short-unix", "--no-pager", "--quiet", "--all"}
	if root != "" && root != "/" {
		args = append(args, "--directory="+filepath.Join(root, "var/log/journal"))
	}
	cmd := survive.Command(ctx, "journalctl", args...)
	cmd.WaitDelay = time.Second

	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}

	if err != nil {
		return fmt.Errorf("start journalctl: %w: pass the kubelet log with --kubelet-log", err)
	}

	f.take(out)

	return cmd.Wait()
}

// file reads lines as they are appended. Of a file that was truncated, it reads those
// beyond the old end.
func (f *Follower) file(ctx context.Context, log io.Reader) error {
	for ctx.Err() == nil {
		f.take(log)

		select {
		case <-ctx.Done():
		case <-time.After(readEvery):
		}
	}

	return nil
}

// take reads all lines up to the end. Longer ones than maxLine are ignored.
func (f *Follower) take(r io.Reader) {
	lines := bufio.NewReaderSize(r, maxLine)

	for {
		line, long, err := lines.ReadLine()
		if err != nil {
			return
		}

		found, ok := ParseLine(string(line))
		if ok && !long && found.What != FoundStarted && found.What != FoundBackOff { // those are about no kill
			f.add(found)
		}
	}
}

func (f *Follower) add(found Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if len(f.findings) == maxFindings {
		f.findings = append(f.findings[:0], f.findings[1:]...)
	}
	f.findings = append(f.findings, timedFinding{found, time.Now()})
}

// About returns the findings about a workload, and those about the node, of the minutes
// before now, oldest first.
func (f *Follower) About(w *events.Workload, now time.Time) []Finding {
	f.mu.Lock()
	defer f.mu.Unlock()

	var findings []Finding

	for _, found := range f.findings {
		if age := now.Sub(found.at); age > near || !found.about(w) {
			continue
		}

		findings = append(findings, found.Finding)
	}

	return findings
}

// about reports whether a finding concerns a workload: its pod, its container, or an
// eviction of any pod.
func (f *Finding) about(w *events.Workload) bool {
	switch {
	case f.Pod == "" && f.PodUID == "" && f.ContainerID == "":
		return f.What == FoundReclaim || f.What == FoundMustEvict
	case f.PodUID != "" && w.PodUID != "":
		return f.PodUID == w.PodUID
	case f.ContainerID != "" && w.ContainerID != "":
		return f.ContainerID == w.ContainerID
	}

	return w.Pod != "" && slices.Contains(strings.Fields(f.Pod), w.Namespace+"/"+w.Pod)
}
