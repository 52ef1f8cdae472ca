// SPDX-License-Identifier: Apache-2.0

package sigkill

import (
	"sync"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// Options say where to look. The zero value is this machine.
type Options struct {
	Proc   string // a mount of /proc; empty: /proc
	Passwd string // empty: /etc/passwd
	// Cgroups is the mount of cgroup v2; empty: systemd-oomd's marks are not read.
	Cgroups string
	Kubelet KubeletLog // nil: there is none
}

// KubeletLog gives the kubelet's lines about a pod or container, and those about
// evictions, of the minutes before an instant (CLOCK_BOOTTIME), oldest first, with
// their arguments (probeType="Liveness"). It answers from memory.
type KubeletLog interface {
	About(w *events.Workload, bootNS uint64) []string
}

// Watch gathers facts. Its methods are for one goroutine; looking at /proc is done
// by another: what a process lets itself be read may be held up by that process.
type Watch struct {
	opts  Options
	queue chan *look
	done  chan struct{}

	mu    sync.Mutex
	looks map[uint32]*look // by the sender's TGID
	order []uint32         // oldest first
}

// look is one at a sender, and what it gave. Facts are under the Watch's lock.
type look struct {
	facts Facts
}

const (
	maxLooks = 512
	// againNS is how long a look at a sender is as good as a new one.
	againNS = 1e9
	// nearNS is how far from a look a SIGKILL of the same pid is still the same
	// process's.
	nearNS = 30e9
)

// NewWatch begins to watch; Close ends it.
func NewWatch(opts Options) *Watch {
	if opts.Proc == "" {
		opts.Proc = "/proc"
	}

	if opts.Passwd == "" {
		opts.Passwd = "/etc/passwd"
	}

	w := &Watch{opts: opts, queue: make(chan *look, maxLooks), done: make(chan struct{}), looks: make(map[uint32]*look)}
	go func() {
		defer close(w.done)

		for l := range w.queue {
			w.read(l)
		}
	}()

	return w
}

// Close ends the other goroutine, as soon as it is done with its present look.
func (w *Watch) Close() { close(w.queue) }

// Saw has the sender of a SIGKILL looked at. It does not wait: where many senders
// are waiting to be looked at, the kernel's record must do.
func (w *Watch) Saw(k kernel.Kill, from, to events.Process) {
	w.mu.Lock()
	defer w.mu.Unlock()

	tgid := k.Current.TGID
	if old := w.looks[tgid]; old != nil {
		if distance(old.facts.Kill.BootNS, k.BootNS) < againNS {
			return
		}
	} else {
		w.order = append(w.order, tgid)
	}
	l := &look{facts: recorded(k, from, to)}

	w.looks[tgid] = l
	for len(w.order) > maxLooks {
		delete(w.looks, w.order[0])
		w.order = w.order[1:]
	}

	select {
	case w.queue <- l:
	default:
	}
}

// Killer tells who sent a SIGKILL that was seen, with what is known by now.
func (w *Watch) Killer(k kernel.Kill, from, to events.Process) *events.Killer {
	facts := recorded(k, from, to)

	w.mu.Lock()
	if l := w.looks[k.Current.TGID]; l != nil && distance(l.facts.Kill.BootNS, k.BootNS) < nearNS {
		facts.Sender, facts.Ancestors, facts.User, facts.OOMDKills = l.facts.Sender, l.facts.Ancestors, l.facts.User, l.facts.OOMDKills
	}
	w.mu.Unlock()

	if w.opts.Kubelet != nil && to.Workload != nil && to.Workload.PodUID != "" {
		facts.Kubelet = w.opts.Kubelet.About(to.Workload, k.BootNS)
	}

	return Classify(&facts)
}

func distance(a, b uint64) uint64 { return max(a, b) - min(a, b) }

// recorded are the facts of the kernel's record alone.
func recorded(k kernel.Kill, from, to events.Process) Facts {
	f := Facts{Kill: k, From: from, To: to, Sender: Process{PID: int(k.Current.TGID), Comm: k.Current.LeaderComm, Exe: k.Sender.Exe}}
	for _, a := range k.Sender.Ancestors {
		f.Ancestors = append(f.Ancestors, Process{PID: int(a.TGID), Comm: a.Comm})
	}

	return f
}

// read looks at the sender first: it is the one that is gone soonest.
func (w *Watch) read(l *look) {
	w.mu.Lock()
	f := l.facts
	w.mu.Unlock()
	at, p := f.Kill.BootNS, proc{w.opts.Proc, w.opts.Passwd}
	next := 0
	take := func(known Process) (Process, bool) {
		found, parent, ok := p.process(known.PID, at)
		if !ok {
			return known, false
		}
		next = parent

		switch {
		case known.Comm != "" && found.Comm != known.Comm: // another program by now
			found.Comm, found.Exe, found.Command = known.Comm, known.Exe, nil
		case found.Exe == "":
			found.Exe = known.Exe
		}

		return found, true
	}
	f.Sender, _ = take(f.Sender)
	ancestors := make([]Process, 0, len(f.Ancestors))
	last := false

	for _, known := range f.Ancestors {
		var process Process
		process, last = take(known)
		ancestors = append(ancestors, process)
	}
	// The kernel's record ends after some; who is alive knows its parent.
	for last && f.Kill.Sender.MoreAncestors && next > 0 && len(ancestors) < maxAncestors {
		var process Process
		if process, last = take(Process{PID: next}); last {
			ancestors = append(ancestors, process)
		}

		if process.PID == 1 {
			break
		}
	}

	f.Ancestors = ancestors
	if s := f.Kill.Sender; s.LoginKnown {
		f.User = userName(w.opts.Passwd, s.LoginUID)
	}

	if w.opts.Cgroups != "" && f.To.Cgroup != nil && f.Sender.is("systemd", "systemd-oomd") {
		f.OOMDKills = oomdKills(w.opts.Cgroups, f.To.Cgroup.Path)
	}

	w.mu.Lock()
	l.facts = f
	w.mu.Unlock()
}
