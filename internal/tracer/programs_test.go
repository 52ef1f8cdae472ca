// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/program"
)

// machine is a fake /proc of living processes.
type machine struct {
	mu    sync.Mutex
	lives map[int]knownProgram
	reads int // of programs
}

var errExited = errors.New("no such process")

func (m *machine) set(pid int, comm, cgroup string, kind events.ProgramKind) {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.lives[pid] = knownProgram{
		program.Process{PID: pid, StartNS: uint64(pid) * 1e9, Comm: comm}, cgroup,
		&events.Program{Kind: kind, Name: comm, By: events.ProgramByExecutable}, 0,
	}
}

func (m *machine) exit(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()

	delete(m.lives, pid)
}

func (m *machine) program(pid int) (program.Process, *events.Program, error) {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.reads++

	k, ok := m.lives[pid]
	if !ok {
		return program.Process{}, nil, errExited
	}

	return k.process, k.program, nil
}

func (m *machine) process(pid int) (program.Process, error) {
	m.mu.Lock()
	defer m.mu.Unlock()

	k, ok := m.lives[pid]
	if !ok {
		return program.Process{}, errExited
	}

	return k.process, nil
}

func (m *machine) processes(path string, most int) (pids []int) {
	m.mu.Lock()
	defer m.mu.Unlock()

	for pid, k := range m.lives {
		if (path == "" || k.cgroup == path) && len(pids) < most {
			pids = append(pids, pid)
		}
	}

	return pids
}

// idlePrograms is an enricher that nothing runs.
func idlePrograms() *programs { return newPrograms(host.Reader{}, host.NewBootClock(), false) }

// enricher returns an enricher that reads the machine. Its goroutine is not started.
func (m *machine) enricher() *programs {
	m.lives = make(map[int]knownProgram)

	p := newPrograms(host.Reader{}, host.NewBootClock(), false)
	p.reader = programReader{m.program, m.process, m.processes}

	return p
}

// killOf is a kill of a process that was started as many seconds after boot as its pid. The kernel
// chose it by one of its threads.
func killOf(p *programs, pid int, comm, cgroup string) *events.Incident {
	start := p.clock.Time(uint64(pid) * 1e9)

	return &events.Incident{
		ID: "boot-1", Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled,
		Victims: []events.Victim{{
			Process:   events.Process{PID: pid, TID: pid + 1000, Comm: comm, Cgroup: &events.Cgroup{Path: cgroup}},
			StartTime: &start,
		}},
	}
}

// kindOf is the kind of program that is found of a victim, empty if none is.
func kindOf(t *testing.T, p *programs, inc *events.Incident) events.ProgramKind {
	t.Helper()

	if !p.start(inc) {
		t.Fatal("got a kill that is not awaited, want it awaited")
	}

	p.kill(<-p.kills)

	found := p.findings(0, true)
	if len(found) != 1 || !found[0].last {
		t.Fatalf("got findings %+v, want the last one of the kill", found)
	}

	if len(found[0].change.Victims) == 0 {
		return ""
	}

	victim := found[0].change.Victims[0]
	if want := inc.Victims[0].TID; victim.TID != want {
		t.Errorf("got a change of thread %d, want it of thread %d", victim.TID, want)
	}

	return victim.Program.Kind
}

func TestProgramsOfVictims(t *testing.T) {
	for name, test := range map[string]struct {
		before func(m *machine, p *programs) // the kill of java[7] in /a
		want   events.ProgramKind
	}{
		"it still lives": {func(m *machine, _ *programs) { m.set(7, "java", "/a", events.ProgramJVM) }, events.ProgramJVM},
		"it was read before": {func(m *machine, p *programs) {
			m.set(7, "java", "/a", events.ProgramJVM)
			p.walk(t.Context(), "/a", processesPerLook)
			m.exit(7)
		}, events.ProgramJVM},
		"it was read at its headline": {func(m *machine, p *programs) {
			m.set(7, "java", "/a", events.ProgramJVM)
			p.seen(killOf(p, 7, "java", "/a"))
			p.kill(<-p.kills)
			m.exit(7)
		}, events.ProgramJVM},
		"it was never read": {func(*machine, *programs) {}, ""},
		"it was another program before it executed this one": {func(m *machine, p *programs) {
			m.set(7, "sh", "/a", events.ProgramOther)
			p.walk(t.Context(), "/a", processesPerLook)
			m.exit(7)
		}, ""},
		"its id was another process's": {func(m *machine, p *programs) {
			m.set(7, "java", "/b", events.ProgramNode)
			k := m.lives[7]
			k.process.StartNS = 9e9
			m.lives[7] = k

			p.walk(t.Context(), "/b", processesPerLook)
		}, ""},
		"another of its name is known": {func(m *machine, p *programs) {
			m.set(8, "java", "/a", events.ProgramJVM)
			p.walk(t.Context(), "/a", processesPerLook)
			m.exit(8)
		}, events.ProgramJVM},
		"another of its name lives": {func(m *machine, _ *programs) { m.set(8, "java", "/a", events.ProgramJVM) }, events.ProgramJVM},
		"one of its name lives elsewhere": {func(m *machine, p *programs) {
			m.set(8, "java", "/b", events.ProgramJVM)
			p.walk(t.Context(), "/b", processesPerLook)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var m machine

			p := m.enricher()
			test.before(&m, p)

			inc := killOf(p, 7, "java", "/a")
			if got := kindOf(t, p, inc); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}

			of := 0
			if strings.HasPrefix(name, "another of its name") {
				of = 8
			}

			if ran := p.ran(p.victims(inc)[0]); ran != nil && ran.ReadOf != of {
				t.Errorf("got a program that was read of %d, want %d (0: the victim)", ran.ReadOf, of)
			}
		})
	}
}

func TestAProcessIsReadOnceUnlessItMayExecuteAnother(t *testing.T) {
	var m machine

	p := m.enricher()
	m.set(7, "node", "/a", events.ProgramNode)
	m.set(8, "sh", "/a", events.ProgramOther)
	m.set(9, "nginx", "/a", events.ProgramOther) // for hours

	young := m.lives[8]
	young.process.StartNS = kernel.BootNS() + 1e12 // no time passes
	m.lives[8] = young

	for range 3 {
		p.walk(t.Context(), "/a", processesPerLook)
	}

	if want := 5; m.reads != want {
		t.Errorf("got %d reads of three processes in three looks, want %d", m.reads, want)
	}

	m.set(7, "java", "/a", events.ProgramJVM)
	p.walk(t.Context(), "/a", processesPerLook)

	if got := p.known.entries[7].program.Kind; got != events.ProgramJVM {
		t.Errorf("got %q of a process that executed another program, want %q", got, events.ProgramJVM)
	}
}

func TestAProcessIsReadMoreRarelyTheOlderItIs(t *testing.T) {
	const read = 100e9

	for startNS, want := range map[uint64]uint64{read: 0, read - 1e9: 0.5e9, 0: 50e9, 2 * read: 0} {
		k := knownProgram{process: program.Process{StartNS: startNS}, readNS: read}
		if want > 0 && k.aged(read+want-1) || !k.aged(read+want) {
			t.Errorf("started at %d, read at %.0f: got another time for the next read, want it %d ns later", startNS, float64(read), want)
		}
	}
}

func TestLooksAreBounded(t *testing.T) {
	var m machine

	p := m.enricher()
	for pid := range 2 * processesPerSecond {
		m.set(pid+1, "node", "/a", events.ProgramNode)
	}

	p.walk(t.Context(), "/a", 2*processesPerSecond)

	if m.reads > processesPerSecond {
		t.Errorf("got %d reads within a second, want at most %d", m.reads, processesPerSecond)
	}

	for range 2 * maxLooks {
		p.created("/a", 0)
	}

	p.due(lookAfterNS[0] - 1)

	if got := len(p.looks); got != 0 {
		t.Errorf("got %d looks before their time, want 0", got)
	}

	p.due(lookAfterNS[0])

	if got := len(p.looks); got != maxLooks {
		t.Errorf("got %d looks, want %d", got, maxLooks)
	}
}

func TestRememberedProgramsAreBounded(t *testing.T) {
	var m machine

	p := m.enricher()
	m.set(1, "java", "/a", events.ProgramJVM)

	for pid := range 2 * maxPrograms { // all but the first have exited
		p.known.add(knownProgram{process: program.Process{PID: pid + 1}}, p.exited)
	}

	if got := len(p.known.entries); got != maxPrograms || len(p.known.order) != got {
		t.Errorf("got %d processes in an order of %d, want %d of each", got, len(p.known.order), maxPrograms)
	}

	if _, ok := p.known.entries[1]; !ok {
		t.Error("got the one forgotten that lives, want one that has exited forgotten")
	}
}

func TestAKillGoesBeforeLooks(t *testing.T) {
	var m machine

	p := m.enricher()
	m.set(7, "java", "/b", events.ProgramJVM)

	for pid := range 4 * processesPerSecond {
		m.set(pid+100, "node", "/a", events.ProgramNode)
	}

	ctx, stop := context.WithCancel(t.Context())

	var work sync.WaitGroup

	work.Go(func() { p.run(ctx) }) // all processes first, which the budget makes last for seconds

	defer work.Wait()
	defer stop()

	if !p.start(killOf(p, 7, "java", "/b")) {
		t.Fatal("got a kill that is not awaited, want it awaited")
	}

	began := time.Now()

	p.finish(time.Minute)

	if took := time.Since(began); took > time.Second {
		t.Errorf("got the program of a victim after %s, want it at once", took)
	}

	if found := p.findings(0, true); len(found) != 1 || len(found[0].change.Victims) != 1 {
		t.Errorf("got findings %+v, want the program of the victim", found)
	}
}

func TestAKillWithoutRoomIsCounted(t *testing.T) {
	var m machine

	p := m.enricher()
	for range maxProgramKills + 3 {
		p.start(killOf(p, 7, "java", "/a"))
	}

	if _, got := p.dropped(); got != 3 {
		t.Errorf("got %d dropped, want 3", got)
	}
}

// A file system that never answers may hold an executable.
func TestNothingWaitsForAReadThatHangs(t *testing.T) {
	p := idlePrograms()
	p.began.Store(kernel.BootNS())

	if !p.start(killOf(p, 7, "java", "/a")) {
		t.Error("got a kill that is not awaited during a read, want it awaited")
	}

	p.began.Store(kernel.BootNS() - hangsNS - 1)

	if p.start(killOf(p, 7, "java", "/a")) {
		t.Error("got a kill that is awaited during a read that hangs, want it left alone")
	}

	if _, got := p.dropped(); got != 1 {
		t.Errorf("got %d dropped, want 1", got)
	}
}

func TestNoProgramsAreReadOfAnotherPIDNamespace(t *testing.T) {
	p := newPrograms(host.Reader{}, host.NewBootClock(), true)
	if p.start(killOf(p, 7, "java", "/a")) {
		t.Error("got a kill that is awaited, want it left alone: the victim's id is of another namespace")
	}

	p.run(t.Context()) // returns at once
	p.finish(time.Minute)
}
