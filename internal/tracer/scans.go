// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"sync"
	"time"

	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

const (
	// rescanAfter is the least time between two scans.
	rescanAfter = time.Second
	// rescanShare is how many times as long as a scan the time after it is: where there are
	// many cgroups, scanning costs no more than a part of a CPU, however long a flood lasts.
	rescanShare = 10
)

// scans reads the paths of all cgroups: once at the start, and again when records of their
// changes were lost. It belongs to the tracer's goroutine; a scan runs on its own.
type scans struct {
	tree   resolve.NamedTree
	layout host.Layout
	warn   func(text string)
	now    func() time.Time

	due   bool // a scan is needed, once notBefore is over
	began time.Time
	// notBefore bounds how often scans run; while one does, it is far away.
	notBefore time.Time
	done      chan *resolve.Scan
}

func newScans(tree resolve.NamedTree, layout host.Layout, warn func(string)) *scans {
	return &scans{tree: tree, layout: layout, warn: warn, now: time.Now, due: true, done: make(chan *resolve.Scan, 1)}
}

// want has all paths read again.
func (s *scans) want() { s.due = true }

// start starts a scan if one is due.
func (s *scans) start(ctx context.Context, work *sync.WaitGroup) {
	now := s.now()
	if !s.due || now.Before(s.notBefore) {
		return
	}

	s.due, s.began, s.notBefore = false, now, now.Add(1<<62)

	scan := s.tree.NewScan(s.layout.MemoryMount, s.layout.HierarchyID)
	scan.Base = s.layout.MountRoot

	work.Go(func() {
		if err := scan.Run(ctx); err != nil && ctx.Err() == nil {
			s.warn("some cgroup paths will be unknown: " + err.Error())
		}

		s.done <- scan
	})
}

// merge adds the paths of a scan that has ended to the tree. Another scan is due if cgroups
// changed too much meanwhile.
func (s *scans) merge(scan *resolve.Scan) {
	now := s.now()
	s.notBefore = now.Add(max(rescanAfter, rescanShare*now.Sub(s.began)))

	if !s.tree.Merge(scan) {
		s.due = true
	}
}

// await waits for the first scan and merges it. It reports false if ctx was done before.
func (s *scans) await(ctx context.Context) bool {
	select {
	case scan := <-s.done:
		s.merge(scan)
		return true
	case <-ctx.Done():
		return false
	}
}

// rescan merges a scan that has ended, and starts one that is due. A cgroup that is gone is
// treated as if the record of its removal had not been lost.
func (t *Tracer) rescan(nowNS uint64) error {
	select {
	case scan := <-t.scans.done:
		t.scans.merge(scan)

		for _, key := range scan.Gone {
			if err := t.Record(kernel.CgroupChange{Meta: kernel.Meta{BootNS: nowNS}, Op: "rmdir", Key: key}); err != nil {
				return err
			}
		}
	default:
	}

	t.scans.start(t.workCtx, &t.work)

	return nil
}
