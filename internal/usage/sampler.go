// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"math"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// Options set up a Sampler.
type Options struct {
	Layout host.Layout
	// Root is the directory of /proc; empty is "/".
	Root string
	// Place returns level and workload of a cgroup by its path. It is called for each new
	// cgroup, and again where its names may have been learnt meanwhile. Nil: plain cgroups.
	Place func(path string) (events.Level, *events.Workload)
	// Budget is the CPU time that one snapshot may take before cgroups far from a limit are
	// left for the next one; 0: DefaultBudget.
	Budget time.Duration
	// CPU returns the CPU time of this thread; nil: the kernel's clock.
	CPU func() time.Duration
}

// DefaultBudget is 0.15 percent of a core, at one snapshot per second.
const DefaultBudget = 1500 * time.Microsecond

// Sampler makes snapshots. It belongs to one goroutine, which should be locked to its
// thread, since the budget is measured by the thread's CPU time.
type Sampler struct {
	opts    Options
	names   fileNames
	root    *cgroup
	all     []*cgroup
	byID    map[uint64]*cgroup
	count   int
	leftOut int
	dirty   bool // a cgroup was removed since all was made

	stalls             stallWindow
	traced, tracedHigh bool

	start   time.Time
	last    time.Time
	ticks   uint64
	cursor  int // where reading in turn goes on
	open    int // descriptors of usage
	maxOpen int
	buf     []byte

	meminfo, pressure file
}

type fileNames struct{ usage, limit string }

// limitTicks is how many intervals the limit of a cgroup is believed that nobody looks at and
// in which nothing stalls: a limit that is lowered makes tasks reclaim.
const limitTicks = 60

// New returns a sampler of the cgroups of a layout.
func New(opts Options) *Sampler {
	if opts.Budget == 0 {
		opts.Budget = DefaultBudget
	}

	if opts.CPU == nil {
		opts.CPU = threadCPU
	}

	s := &Sampler{
		opts: opts, names: fileNames{"memory.current", "memory.max"}, byID: map[uint64]*cgroup{},
		buf: make([]byte, 64<<10), maxOpen: descriptors(), stalls: stallWindow{hierarchy: opts.Layout.HierarchyID},
	}
	if opts.Layout.MemoryVersion == 1 {
		s.names = fileNames{"memory.usage_in_bytes", "memory.limit_in_bytes"}
	}
	s.root = &cgroup{path: path.Join("/", opts.Layout.MountRoot), dir: opts.Layout.MemoryMount}

	return s
}

// descriptors returns how many files the sampler keeps open: half of what the process may
// have, since others need some, too.
func descriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 256
	}

	return int(min(limit.Cur/2, maxCgroups))
}

func threadCPU() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}

	return time.Duration(t.Nano())
}

// Traced states that stalls are traced, and whether those for memory.high are.
func (s *Sampler) Traced(high bool) {
	s.traced, s.tracedHigh = true, high && s.opts.Layout.MemoryVersion == 2
}

// Stalls takes the counts of stalls since the start of the trace. They count for the
// interval that the next snapshot ends.
func (s *Sampler) Stalls(counts kernel.StallCounts) { s.stalls.add(counts) }

// Close closes all files.
func (s *Sampler) Close() {
	for _, c := range s.all {
		s.closeFiles(c)
	}

	s.meminfo.close()
	s.pressure.close()
}

// Snapshot reads the node. Of the cgroups with these ids, which somebody looks at, all is
// read; of the others, usage, and sometimes the limit.
func (s *Sampler) Snapshot(now time.Time, shown []uint64) *Snapshot {
	began := s.opts.CPU()

	if s.ticks == 0 {
		s.start, s.last = now, now
		s.dirty = true
	}

	s.ticks++
	took := now.Sub(s.last)
	s.last = now

	s.refresh()
	s.follow(shown)
	read := s.read(now, began)
	s.compute(took)

	return s.snapshot(now, read)
}

// follow keeps the details of the cgroups that are shown, and drops all others.
func (s *Sampler) follow(shown []uint64) {
	for _, id := range shown {
		if c := s.byID[id]; c != nil {
			if c.detail == nil {
				c.detail = &detail{}
			}
			c.detail.tick = s.ticks
		}
	}

	for _, c := range s.all {
		if c.detail != nil && c.detail.tick != s.ticks {
			c.detail.close()
			c.detail = nil
		}
	}
}

// read reads what is shown, then what is near a limit or grows towards it, then the others
// in turn until the budget is used up. The first time it reads all.
func (s *Sampler) read(now time.Time, began time.Duration) (read int) {
	const look = 32 // reads between two looks at the clock

	at := now.Sub(s.start)

	for _, c := range s.all {
		c.read = false
	}

	done := func(c *cgroup) {
		if c.index < 0 { // it went with its parent
			return
		}

		s.readCgroup(c, at)

		read++
	}

	for _, c := range s.all {
		if c.detail != nil {
			done(c)
		}
	}

	within := func() bool {
		return s.ticks == 1 || read%look != 0 || s.opts.CPU()-began < s.opts.Budget
	}

	for _, c := range s.all {
		if !c.read && c.urgent() && within() {
			done(c)
		}
	}

	for range len(s.all) {
		s.cursor++
		if s.cursor >= len(s.all) {
			s.cursor = 0
		}

		c := s.all[s.cursor]
		if c.read {
			continue
		}

		if !within() {
			break
		}

		done(c)
	}

	return read
}

// urgent reports whether a cgroup may reach a limit soon: less than a tenth of it is left,
// or it is reached within a minute.
func (c *cgroup) urgent() bool {
	if !c.headroom.Known || c.limiter == nil {
		return false
	}

	return c.headroom.V < c.limiter.limit.V/10 || c.limiter.growth.V*60 > float64(c.headroom.V) || c.stalled > 0
}

func (s *Sampler) readCgroup(c *cgroup, at time.Duration) {
	c.read = true
	wasOpen := c.current.open

	text, err := c.current.read(c.dir, s.names.usage, s.buf, wasOpen || s.open < s.maxOpen)

	switch isOpen := c.current.open; {
	case isOpen && !wasOpen:
		s.open++
	case wasOpen && !isOpen:
		s.open--
	}

	if err != nil {
		c.used, c.limit, c.history = Value[uint64]{}, Value[uint64]{}, history{}
		c.limitDue = s.ticks // once its files are back

		if gone(err) && s.vanished(c) {
			s.remove(c)
			s.dirty = true
		}

		return
	}

	if c.used = digits(text); c.used.Known {
		c.history.add(at, c.used.V)
	}

	if c.detail != nil || c.stalled > 0 || s.ticks >= c.limitDue {
		s.readLimit(c)
	}

	if c.detail != nil {
		s.readDetail(c, at)
	}
}

// vanished reports whether the directory of a cgroup is gone, rather than one of its files:
// the memory controller may be disabled in it.
func (s *Sampler) vanished(c *cgroup) bool {
	var stat unix.Stat_t

	return gone(unix.Stat(c.dir, &stat)) || stat.Ino != c.id
}

func (s *Sampler) readLimit(c *cgroup) {
	var f file

	c.limit = Value[uint64]{}
	if text, err := f.read(c.dir, s.names.limit, s.buf, false); err == nil {
		c.limit = number(text)
	}

	if c.limitDue == 0 { // cgroups that were found at once have their turns one after the other
		c.limitDue = s.ticks + uint64(c.index%limitTicks)
	} else {
		c.limitDue = s.ticks + limitTicks
	}

	if c.level != "" && c.workload != nil { // names may have been learnt
		s.place(c)
	}
}

// compute derives what depends on other cgroups, parents first.
func (s *Sampler) compute(took time.Duration) {
	for _, c := range s.all {
		c.growth = c.history.growth()
		c.headroom, c.limiter = Value[uint64]{}, nil
		c.stalled, c.high = 0, 0

		if c.parent != nil {
			c.headroom, c.limiter = c.parent.headroom, c.parent.limiter
		}

		if !c.used.Known || !c.limit.Known || c.limit.V == NoLimit {
			continue
		}

		if room := c.limit.V - min(c.limit.V, c.used.V); !c.headroom.Known || room <= c.headroom.V {
			c.headroom, c.limiter = Known(room), c
		}
	}

	s.stalls.tick(took, func(id uint64, stalled, high float64) {
		if c := s.byID[id]; c != nil {
			c.stalled, c.high = stalled, high
		}
	})

	for i := len(s.all) - 1; i >= 0; i-- {
		c := s.all[i]
		c.parent.stalled += c.stalled
		c.parent.high += c.high
	}
	s.root.stalled, s.root.high = 0, 0
}

// mostSeconds bounds the time to a limit: longer ones are not known, and would not fit a
// duration.
const mostSeconds = 1e6

func (s *Sampler) snapshot(now time.Time, read int) *Snapshot {
	out := &Snapshot{
		Time: now, Node: s.node(), Cgroups: make([]Cgroup, 0, len(s.all)), Read: read, LeftOut: s.leftOut,
		Version: s.opts.Layout.MemoryVersion, Traced: s.traced, TracedHigh: s.tracedHigh,
	}
	index := make([]int, len(s.all)) // in out.Cgroups, of those that are not gone

	for i, c := range s.all {
		index[i] = -1
		if c.index < 0 {
			continue
		}
		index[i] = len(out.Cgroups)

		g := Cgroup{
			Path: c.path, ID: c.id, Parent: -1, Level: c.level, Workload: c.workload,
			UsedBytes: c.used, LimitBytes: c.limit, Limiter: -1, Growth: c.growth,
		}
		if c.parent != s.root {
			g.Parent = index[c.parent.index]
		}

		if c.limiter != nil && c.limiter.index >= 0 {
			g.Limiter, g.HeadroomBytes = index[c.limiter.index], c.headroom.V
			g.ToLimit = toLimit(c.headroom.V, c.limiter.growth)
		}

		if s.traced {
			g.Stalled = Known(c.stalled)
		}

		if s.tracedHigh {
			g.High = Known(c.high)
		}

		if c.detail != nil {
			g.PSISome, g.Refaults = c.detail.psi, c.detail.refaults
		}

		out.Cgroups = append(out.Cgroups, g)
	}

	return out
}

func toLimit(headroom uint64, growth Value[float64]) Value[time.Duration] {
	if !growth.Known || growth.V <= 0 {
		return Value[time.Duration]{}
	}

	seconds := float64(headroom) / growth.V
	if seconds > mostSeconds || math.IsNaN(seconds) {
		return Value[time.Duration]{}
	}

	return Known(time.Duration(seconds * float64(time.Second)))
}
