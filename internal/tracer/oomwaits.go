// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/flight"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

const (
	// oomWaitInterval is the time between two readings while a cgroup is suspected or waits.
	oomWaitInterval = 500 * time.Millisecond
	// suspectEveryNS is the shortest time between two searches for suspects.
	suspectEveryNS = 200e6
	// suspectReadings is how often a cgroup is examined after its last reclaim without
	// progress. The task sleeps right after that reclaim, so the second reading is a reserve.
	suspectReadings = 3
	// seenReadings in a row, in which tasks wait, make an incident; unseenReadings where
	// /proc shows no task of it. A program that handles the OOM itself, which disabling the
	// killer is for, is faster.
	seenReadings, unseenReadings = 2, 4
	// goneReadings in a row, in which no task waits, end it: a task that is woken and fails
	// again sleeps again.
	goneReadings = 2
	// joinedNS is the shortest time between two updates with tasks that joined.
	joinedNS = 10e9
	// maxOOMWaits bounds the cgroups that are suspected, and those that wait.
	maxOOMWaits = 256
)

// oomWaits finds tasks that wait for memory because the OOM killer of a cgroup v1 is
// disabled: the kernel puts them to sleep and reports nothing.
//
// It reads memory.oom_control of cgroups whose last reclaim made no progress, since a
// charge fails only after such a reclaim. So it reads nothing while nothing is short, and
// works the same in every attach mode. The alternatives: mem_cgroup_oom_synchronize has no
// tracepoint, so that the tracepoint mode would need these files anyway. And the kernel's
// own notification needs an eventfd for each cgroup of the node, before it is short, and a
// write to cgroup.event_control, which new kernels log as deprecated; it shows neither the
// tasks nor the end.
type oomWaits struct {
	reader host.Reader
	now    func() uint64 // CLOCK_BOOTTIME
	wake   chan struct{} // wakes run; its buffer has room for one

	// The tracer's goroutine owns these.
	next        []string // suspects that were not handed over yet
	suspectedNS uint64   // when suspects were last looked for
	refusedLast uint64   // as exchange returned last

	mu       sync.Mutex
	suspects map[string]int   // paths, with the readings that are left
	found    []kernel.OOMWait // not yet taken
	refused  uint64           // cgroups that there was no room for

	// waits belong to run, by the path of the limiter.
	waits map[string]*oomWait
}

// oomWait is a limiter under which tasks wait.
type oomWait struct {
	firstNS uint64 // of the first reading
	earlier bool   // they waited when the trace started
	seen    int    // readings in a row in which tasks waited
	gone    int    // readings in a row in which none did
	goneNS  uint64 // of the first of these

	reported bool
	record   kernel.OOMWait // as reported last
	joinedNS uint64         // when all threads were last examined
}

func newOOMWaits(reader host.Reader, now func() uint64) *oomWaits {
	return &oomWaits{
		reader: reader, now: now, wake: make(chan struct{}, 1),
		suspects: make(map[string]int), waits: make(map[string]*oomWait),
	}
}

// suspect has cgroups examined whose tasks reclaimed without progress, once exchange has
// handed them over.
func (w *oomWaits) suspect(paths []string) { w.next = append(w.next, paths...) }

// exchange hands the suspects over, and returns what was found since the last call, and how
// many cgroups were not examined since the start. While run holds the lock it does nothing,
// unless it is the last call: a verdict must not wait for another goroutine.
func (w *oomWaits) exchange(last bool) (found []kernel.OOMWait, refused uint64) {
	switch {
	case last:
		w.mu.Lock()
	case !w.mu.TryLock():
		return nil, w.refusedLast
	}

	defer w.mu.Unlock()

	if len(w.next) > 0 {
		w.add(w.next)
		w.next = w.next[:0]

		select {
		case w.wake <- struct{}{}:
		default: // it is awake
		}
	}
	found, w.found = w.found, nil
	w.refusedLast = w.refused

	return found, w.refused
}

func (w *oomWaits) add(paths []string) {
	for _, at := range paths {
		if _, known := w.suspects[at]; !known && len(w.suspects) >= maxOOMWaits {
			w.refused++
			continue
		}
		w.suspects[at] = suspectReadings
	}
}

// run examines cgroups until ctx is done: those that wait already, then the suspects.
func (w *oomWaits) run(ctx context.Context) {
	w.scan(ctx)

	tick := time.NewTicker(oomWaitInterval)
	defer tick.Stop()

	for ctx.Err() == nil {
		if !w.poll(ctx) {
			tick.Stop()

			select {
			case <-w.wake:
			case <-ctx.Done():
			}

			tick.Reset(oomWaitInterval)

			continue
		}

		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// scan finds the cgroups whose tasks wait when the trace starts: they reclaim no more.
func (w *oomWaits) scan(ctx context.Context) {
	layout := w.reader.Layout
	// Errors are ignored: the cgroup was removed meanwhile.
	_ = filepath.WalkDir(layout.MemoryMount, func(dir string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return fs.SkipAll
		case err != nil || !entry.IsDir():
			return nil
		}

		at := path.Join("/", layout.MountRoot, strings.TrimPrefix(dir, layout.MemoryMount))
		if c, ok := w.reader.OOMControl(at); ok && c.UnderOOM && c.KillDisabled {
			w.examine(at, true)
		}

		return nil
	})
}

// poll takes a reading of all suspects and waits, and reports whether any are left.
func (w *oomWaits) poll(ctx context.Context) (more bool) {
	for _, at := range w.due() {
		w.examine(at, false)
	}

	for _, at := range slices.Sorted(maps.Keys(w.waits)) {
		if ended := w.read(ctx, at, w.waits[at]); ended {
			delete(w.waits, at)
		}
	}

	w.mu.Lock()
	defer w.mu.Unlock()

	return len(w.suspects)+len(w.waits) > 0
}

// due returns the suspects, in the order of their paths, and counts down their readings.
func (w *oomWaits) due() []string {
	w.mu.Lock()
	defer w.mu.Unlock()

	paths := slices.Sorted(maps.Keys(w.suspects))
	for _, at := range paths {
		if w.suspects[at]--; w.suspects[at] <= 0 {
			delete(w.suspects, at)
		}
	}

	return paths
}

// examine adds the limiter for which tasks of a cgroup may wait.
func (w *oomWaits) examine(at string, earlier bool) {
	limiter, ok := w.reader.OOMWaitLimiter(at)
	if !ok || w.waits[limiter] != nil {
		return
	}

	if len(w.waits) >= maxOOMWaits {
		w.mu.Lock()
		w.refused++
		w.mu.Unlock()

		return
	}

	w.waits[limiter] = &oomWait{firstNS: w.now(), earlier: earlier}
}

// read takes a reading of a limiter, and reports true if no task waits for it any more.
func (w *oomWaits) read(ctx context.Context, at string, wait *oomWait) (ended bool) {
	ctx, cancel := context.WithTimeout(ctx, candidatesTimeout)
	defer cancel()

	now := w.now()
	control, known := w.reader.OOMControl(at)
	// A raised limit wakes them all, and they may have filled it already.
	raised := wait.reported && w.raised(at, wait)

	if !known || !control.UnderOOM || !control.KillDisabled || raised || !w.waiting(ctx, at, wait, now) {
		if ctx.Err() != nil {
			return false // an incomplete reading
		}

		wait.seen = 0
		if wait.gone++; wait.gone == 1 {
			wait.goneNS = now
		}

		switch {
		case !wait.reported:
			return true
		case known && control.KillDisabled && !raised && wait.gone < goneReadings:
			return false
		}

		end := wait.record
		end.BootNS, end.End = wait.goneNS, w.end(wait, control, known, raised)
		w.report(end)

		return true
	}

	wait.gone = 0
	if wait.seen++; wait.reported || !wait.enough() {
		return false
	}

	wait.record.BootNS, wait.record.Earlier = wait.firstNS, wait.earlier
	if wait.reported = w.describe(at, &wait.record); wait.reported {
		w.report(wait.record)
	}

	return !wait.reported
}

// waiting reports whether tasks wait for a limiter that is under OOM. It reads all threads
// of the limiter until the wait is reported; then those that waited before, as long as one
// of them does, and now and then all.
func (w *oomWaits) waiting(ctx context.Context, at string, wait *oomWait, now uint64) bool {
	known := wait.record.Tasks
	if wait.reported && now-wait.joinedNS < joinedNS {
		if slices.ContainsFunc(known, func(t kernel.Task) bool { return w.reader.OOMWaits(int(t.TID)) }) {
			return true
		}
	}

	tasks := w.reader.OOMWaiters(ctx, at, maxListed)
	if wait.reported && len(tasks.Tasks) == 0 {
		return len(known) == 0 // /proc has never shown them: under_oom is what is known
	}
	wait.joinedNS = now

	joined := slices.ContainsFunc(tasks.Tasks, func(t kernel.Task) bool { return !slices.Contains(known, t) }) ||
		tasks.LeftOut > wait.record.TasksLeftOut
	wait.record.Tasks, wait.record.TasksLeftOut, wait.record.TasksUnread = tasks.Tasks, tasks.LeftOut, tasks.Unread

	if wait.reported && joined {
		update := wait.record
		update.BootNS = now
		w.report(update)
	}

	return true
}

func (wait *oomWait) enough() bool {
	if len(wait.record.Tasks) > 0 {
		return wait.seen >= seenReadings
	}

	return wait.seen >= unseenReadings
}

// describe adds the limiter, its ancestors and its charge. It reports false if the cgroup
// has just been removed.
func (w *oomWaits) describe(at string, r *kernel.OOMWait) bool {
	r.Ladder, r.Unknown = w.reader.Ancestry(at)
	r.Limiter = w.reader.Limiter(&r.Ladder[0])
	r.Memory = w.reader.Charge(at)

	return r.Limiter.Cgroup.ID != 0
}

// end returns what ended a wait.
func (w *oomWaits) end(wait *oomWait, control host.OOMControl, known, raised bool) events.WaitEnd {
	switch {
	case !known:
		return events.WaitEndCgroupRemoved
	case !control.KillDisabled:
		return events.WaitEndKillerEnabled
	case raised:
		return events.WaitEndLimitRaised
	}

	if slices.ContainsFunc(wait.record.Tasks, func(t kernel.Task) bool { return w.reader.ThreadExited(int(t.TID)) }) {
		return events.WaitEndTaskExited
	}

	return events.WaitEndMemoryFreed
}

// raised reports whether a limit of the limiter is higher than it was reported.
func (w *oomWaits) raised(at string, wait *oomWait) bool {
	now, unknown := w.reader.Ancestry(at)
	if len(now) == 0 || len(unknown) != len(wait.record.Unknown) {
		return false // nil may be an unread limit
	}

	higher := func(then, now *uint64) bool { return then != nil && (now == nil || *now > *then) }
	then := &wait.record.Ladder[0]

	return higher(then.MaxBytes, now[0].MaxBytes) || higher(then.SwapMaxBytes, now[0].SwapMaxBytes)
}

func (w *oomWaits) report(r kernel.OOMWait) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.found = append(w.found, r)
}

// oomWaiting has cgroups examined whose tasks reclaimed without progress, and reports what
// was found of tasks that wait for memory.
func (t *Tracer) oomWaiting(nowNS uint64, last bool) error {
	if t.waits == nil {
		return nil
	}

	if nowNS-min(t.waits.suspectedNS, nowNS) >= suspectEveryNS {
		t.waits.suspectedNS = nowNS
		t.waits.suspect(t.stalls.withoutProgress(nowNS))
	}

	found, refused := t.waits.exchange(last)
	for _, r := range found {
		if err := t.correlator.Record(r); err != nil {
			return err
		}
	}

	return t.followUp.lostUpTo(events.LostOOMWait, refused)
}

// withoutProgress returns the paths of the cgroups whose tasks lately reclaimed for a limit
// and made no progress. The counts are read every second, and for kills in between.
func (s *stallHistory) withoutProgress(nowNS uint64) (paths []string) {
	const lately = 2e9

	noProgress := func(sum flight.Sum) bool { return sum.What == events.StallMemcgReclaim && sum.NoProgress > 0 }

	for key, sums := range s.recorder.Recent(nowNS, lately) {
		if at, ok := s.tree.Path(key); ok && slices.ContainsFunc(sums, noProgress) {
			paths = append(paths, at)
		}
	}

	return paths
}
