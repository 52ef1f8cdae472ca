// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/program"
)

const (
	// maxPrograms is how many processes are remembered with what they run.
	maxPrograms = 4096
	// processesPerSecond bounds how many processes are examined, kills apart: each takes some
	// 20 µs if it is known already, else 0.2 ms.
	processesPerSecond = 256
	// processesPerLook bounds how many processes of one cgroup are examined at a time, and
	// maxSiblings how many of a victim's cgroup are compared with it.
	processesPerLook, maxSiblings = 64, 16
	// maxLooks is how many cgroups may wait to be examined.
	maxLooks = 512
	// maxProgramKills is how many kills may wait for the programs of their victims, and
	// maxProgramVictims how many victims of one have theirs read.
	maxProgramKills, maxProgramVictims = 512, 16
	// hangsNS is how long the read of one process may take until nothing waits for it any more:
	// the file system of an executable may never answer.
	hangsNS = 2e9
	// sameStartNS is how much two readings of the start of a process may differ: one is in
	// ticks of 10 ms, the other was converted to wall time.
	sameStartNS = 50e6
)

// lookAfterNS are the times after the creation of a cgroup at which its processes are
// examined: runtimes put a process into it that then executes another, and scripts do so once
// more.
var lookAfterNS = [...]uint64{1e9, 3e9, 8e9, 30e9, 120e9}

// programs is the enricher that reports what victims ran. A victim drops its memory, and with
// it all that shows its program, within a millisecond of the signal: where reading is too late
// for that, it was read before, or is read of another process of the same name in the same
// cgroup. Files are read on a goroutine of its own, kills first.
type programs struct {
	reader  programReader
	clock   *host.BootClock
	kills   chan programKill
	looks   chan string // paths of cgroups; empty: all processes
	pending [len(lookAfterNS)]lookQueue
	refused uint64
	// began is when the read began that goes on, in nanoseconds since boot; 0: none does.
	began atomic.Uint64
	// hidden is true if /proc is that of another PID namespace: it has no victims.
	hidden bool

	// These belong to run.
	known  programCache
	budget budget

	mu    sync.Mutex
	found []finding
}

// programReader reads processes. Fake ones serve the tests.
type programReader struct {
	program   func(pid int) (program.Process, *events.Program, error)
	process   func(pid int) (program.Process, error)
	processes func(path string, most int) []int
}

// programKill is a kill whose victims have died or are about to.
type programKill struct {
	id      string // empty: nothing is reported yet
	victims []programVictim
	flushed chan struct{} // closed when all before it were read; nil as a rule
}

type programVictim struct {
	process program.Process // StartNS 0: not known
	tid     int
	cgroup  string
}

func newPrograms(reader host.Reader, clock *host.BootClock, hidden bool) *programs {
	files := &program.Reader{Root: reader.Root}

	return &programs{
		reader: programReader{files.Program, files.Process, reader.Processes}, clock: clock, hidden: hidden,
		kills: make(chan programKill, maxProgramKills), looks: make(chan string, maxLooks),
		known: programCache{entries: make(map[int]knownProgram)},
	}
}

// victims are the first victims of an incident.
func (p *programs) victims(inc *events.Incident) []programVictim {
	var list []programVictim

	for i := range inc.Victims[:min(len(inc.Victims), maxProgramVictims)] {
		v := &inc.Victims[i]

		one := programVictim{process: program.Process{PID: v.PID, Comm: v.Comm}, tid: v.TID}
		if v.StartTime != nil {
			one.process.StartNS = p.clock.BootNS(*v.StartTime)
		}

		if v.Cgroup != nil {
			one.cgroup = v.Cgroup.Path
		}

		list = append(list, one)
	}

	return list
}

// seen starts to read the programs of victims whose headline has just been written: the
// incident is complete, and can be started, only later.
func (p *programs) seen(inc *events.Incident) {
	select {
	case p.kills <- programKill{victims: p.victims(inc)}:
	default: // start reports what is lost
	}
}

func (p *programs) start(inc *events.Incident) bool {
	if p.hidden || inc.Outcome != events.OutcomeKilled || inc.Scope == events.ScopeUser || len(inc.Victims) == 0 {
		return false
	}

	if p.hangs() {
		p.refused++
		return false
	}

	select {
	case p.kills <- programKill{id: inc.ID, victims: p.victims(inc)}:
		return true
	default:
		p.refused++
		return false
	}
}

// hangs reports whether a read does not return.
func (p *programs) hangs() bool {
	began, now := p.began.Load(), kernel.BootNS()
	return began != 0 && now > began+hangsNS
}

func (p *programs) findings(uint64, bool) []finding {
	p.mu.Lock()
	defer p.mu.Unlock()

	found := p.found
	p.found = nil

	return found
}

func (p *programs) dropped() (string, uint64) { return events.LostProgram, p.refused }

// created schedules looks at a new cgroup. Where very many are created, those without a look
// are left to the other times at which processes are read.
func (p *programs) created(path string, nowNS uint64) {
	for i, after := range lookAfterNS {
		p.pending[i].add(path, nowNS+after)
	}
}

// look has the processes of a cgroup read soon, unless many others wait.
func (p *programs) look(path string) {
	select {
	case p.looks <- path:
	default:
	}
}

// due starts the looks whose time has come.
func (p *programs) due(nowNS uint64) {
	for i := range p.pending {
		for path, ok := p.pending[i].next(nowNS); ok; path, ok = p.pending[i].next(nowNS) {
			p.look(path)
		}
	}
}

// finish waits until all kills so far were read, but not longer than that.
func (p *programs) finish(timeout time.Duration) {
	if p.hidden {
		return
	}

	flushed := make(chan struct{})

	select {
	case p.kills <- programKill{flushed: flushed}:
	default:
		return
	}

	select {
	case <-flushed:
	case <-time.After(timeout):
	}
}

// run reads processes until ctx is done.
func (p *programs) run(ctx context.Context) {
	if p.hidden {
		return
	}

	p.walk(ctx, "", maxPrograms)

	for {
		select {
		case <-ctx.Done():
			return
		case k := <-p.kills:
			p.kill(k)
		case path := <-p.looks:
			p.walk(ctx, path, processesPerLook)
		}
	}
}

// walk examines the processes of a cgroup, or all, and kills in between. What exceeds the
// budget of a cgroup is left out; all processes are examined however long it takes.
func (p *programs) walk(ctx context.Context, path string, most int) {
	for _, pid := range p.reader.processes(path, most) {
		for !p.budget.take(time.Now()) {
			if path != "" {
				return
			}

			select {
			case <-ctx.Done():
				return
			case k := <-p.kills:
				p.kill(k)
			case <-time.After(50 * time.Millisecond):
			}
		}

		p.examine(pid, path)

		for more := true; more; {
			select {
			case k := <-p.kills:
				p.kill(k)
			default:
				more = false
			}
		}

		if ctx.Err() != nil {
			return
		}
	}
}

// examine reads what a process runs if that is not known. One that is none of the known kinds
// may be a script that will execute a program of its own name: it is read again, the older it
// is the more rarely. A cgroup that stalls is looked at each second, and reading its processes
// makes it worse: their arguments may have to be swapped in.
func (p *programs) examine(pid int, path string) {
	now := kernel.BootNS()

	p.began.Store(now)
	defer p.began.Store(0)

	at, err := p.reader.process(pid)
	if err != nil {
		return
	}

	if old, ok := p.known.entries[pid]; ok && old.process == at && (old.program.Kind != events.ProgramOther || !old.aged(now)) {
		return
	}

	if at, ran, err := p.reader.program(pid); err == nil && ran != nil {
		p.known.add(knownProgram{at, path, ran, now}, p.exited)
	}
}

// aged reports whether a process has got so much older since it was read that it may run
// something else. The times in lookAfterNS are further apart.
func (k knownProgram) aged(nowNS uint64) bool {
	age := k.readNS - min(k.readNS, k.process.StartNS)

	return nowNS-min(nowNS, k.readNS) >= age/2
}

func (p *programs) exited(pid int) bool {
	_, err := p.reader.process(pid)
	return err != nil
}

// kill reads or recalls the programs of victims.
func (p *programs) kill(k programKill) {
	p.began.Store(kernel.BootNS())
	defer p.began.Store(0)

	change := &events.Incident{ID: k.id}

	for _, v := range k.victims {
		ran := p.ran(v)
		if ran == nil {
			continue
		}

		change.Victims = append(change.Victims, events.Victim{
			Process: events.Process{PID: v.process.PID, TID: v.tid, Comm: v.process.Comm}, Program: ran,
		})
	}

	if k.flushed != nil {
		close(k.flushed)
	}

	if k.id == "" {
		return
	}

	p.mu.Lock()
	p.found = append(p.found, finding{change, true})
	p.mu.Unlock()
}

// ran returns what a victim ran, nil if that is not known: as it was read before; as it is
// now, if the victim still has its memory; or as another process of its name in its cgroup,
// such as the next worker of the same server.
func (p *programs) ran(v programVictim) *events.Program {
	known, ok := p.known.entries[v.process.PID]
	if ok = ok && v.is(known.process); ok && known.program.Kind != events.ProgramOther {
		return known.program
	}

	if at, ran, err := p.reader.program(v.process.PID); err == nil && ran != nil && v.is(at) {
		p.known.add(knownProgram{at, v.cgroup, ran, kernel.BootNS()}, p.exited)
		return ran
	}

	if ok {
		return known.program
	}

	if v.cgroup == "" {
		return nil
	}

	if ran := p.known.sibling(v); ran != nil {
		return ran
	}

	for _, pid := range p.reader.processes(v.cgroup, maxSiblings) {
		if at, err := p.reader.process(pid); err != nil || at.Comm != v.process.Comm {
			continue
		}

		if at, ran, err := p.reader.program(pid); err == nil && ran != nil && at.Comm == v.process.Comm {
			p.known.add(knownProgram{at, v.cgroup, ran, kernel.BootNS()}, p.exited)
			return readOf(at.PID, ran)
		}
	}

	return nil
}

// readOf returns a program with the process that it was read of.
func readOf(pid int, ran *events.Program) *events.Program {
	of := *ran
	of.ReadOf = pid

	return &of
}

// is reports whether a process is the victim, under the name that it had.
func (v programVictim) is(at program.Process) bool {
	near := max(at.StartNS, v.process.StartNS)-min(at.StartNS, v.process.StartNS) <= sameStartNS

	return at.PID == v.process.PID && at.Comm == v.process.Comm && (near || v.process.StartNS == 0)
}

// programCache remembers what processes run, at most maxPrograms of them.
type programCache struct {
	entries map[int]knownProgram
	order   []int // pids, the oldest first; each of entries once
}

type knownProgram struct {
	process program.Process
	cgroup  string // in which it was found; empty: not known
	program *events.Program
	readNS  uint64 // since boot
}

// add remembers a program. For one too many, it forgets a process that has exited if one of
// the oldest has, else the oldest.
func (c *programCache) add(k knownProgram, exited func(pid int) bool) {
	pid := k.process.PID

	old, ok := c.entries[pid]
	if ok && k.cgroup == "" {
		k.cgroup = old.cgroup
	}

	c.entries[pid] = k

	if ok {
		return
	}

	c.order = append(c.order, pid)
	if len(c.order) <= maxPrograms {
		return
	}

	const tried = 8
	at := 0

	for i, pid := range c.order[:tried] {
		if exited(pid) {
			at = i
			break
		}
	}

	delete(c.entries, c.order[at])
	c.order = append(c.order[:at], c.order[at+1:]...)
}

// sibling returns what another process of a victim's name and cgroup runs.
func (c *programCache) sibling(v programVictim) *events.Program {
	for pid, k := range c.entries {
		if k.cgroup == v.cgroup && k.process.Comm == v.process.Comm {
			return readOf(pid, k.program)
		}
	}

	return nil
}

// budget allows so many processes a second.
type budget struct {
	since time.Time
	used  int
}

func (b *budget) take(now time.Time) bool {
	if now.Sub(b.since) >= time.Second {
		b.since, b.used = now, 0
	}

	b.used++

	return b.used <= processesPerSecond
}

// lookQueue has cgroups that are looked at after the same time each, so that the first is due
// first.
type lookQueue struct{ waiting []timedLook }

type timedLook struct {
	path  string
	dueNS uint64
}

// add leaves out what there is no room for.
func (q *lookQueue) add(path string, dueNS uint64) {
	if len(q.waiting) < maxLooks {
		q.waiting = append(q.waiting, timedLook{path, dueNS})
	}
}

func (q *lookQueue) next(nowNS uint64) (path string, ok bool) {
	if len(q.waiting) == 0 || q.waiting[0].dueNS > nowNS {
		return "", false
	}

	path = q.waiting[0].path
	q.waiting = q.waiting[1:]

	return path, true
}
