// SPDX-License-Identifier: Apache-2.0

package sigkill

import (
	"sync"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/kubelet"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

// Options configure a Collector. The zero value reads this machine.
type Options struct {
	Proc   string // a mount of /proc; empty: /proc
	Passwd string // empty: /etc/passwd
	// Cgroups is the mount of cgroup v2; empty: marks of systemd-oomd are not read.
	Cgroups string
	Kubelet KubeletLog // nil: there is no log
}

// KubeletLog returns what the kubelet logged about a pod or container, and about
// evictions, in the minutes before bootNS (CLOCK_BOOTTIME), oldest first. It answers
// from memory.
type KubeletLog interface {
	About(w *events.Workload, bootNS uint64) []kubelet.Finding
}

// Collector gathers facts about senders of SIGKILL. Its methods belong to one
// goroutine, and do not wait, except Close; /proc is read by another one, since the
// kernel may delay readers of a process's command line.
type Collector struct {
	opts  Options
	known Classifier
	queue chan *Facts
	stop  chan struct{}
	work  sync.WaitGroup

	mu      sync.Mutex        // guards samples and their facts
	samples map[uint32]*Facts // by the sender's TGID
	order   []uint32          // oldest first
}

const (
	maxSamples = 512
	// freshNS is how long a sample of a sender is as good as a new one.
	freshNS = 1e9
	// samePIDNS is how far from a sample a SIGKILL by the same PID is still by the
	// same process.
	samePIDNS = 30e9
)

// NewCollector starts a collector. Close ends it.
func NewCollector(opts Options) *Collector {
	if opts.Proc == "" {
		opts.Proc = "/proc"
	}

	if opts.Passwd == "" {
		opts.Passwd = "/etc/passwd"
	}

	c := &Collector{
		opts: opts, known: NewClassifier(runtimes.Known()),
		queue: make(chan *Facts, maxSamples), stop: make(chan struct{}), samples: make(map[uint32]*Facts),
	}
	c.work.Go(c.run)

	return c
}

func (c *Collector) run() {
	for {
		select {
		case <-c.stop:
			return
		case sample := <-c.queue:
			c.read(sample)
		}
	}
}

// Close ends the collector, and returns once its goroutine has ended. Senders that
// are still queued are not read. It must be called once.
func (c *Collector) Close() {
	close(c.stop)
	c.work.Wait()
}

// Saw queues the sender of a SIGKILL to be read. Where too many are queued, the
// kernel's record has to suffice.
func (c *Collector) Saw(k kernel.Kill, from, to events.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()

	tgid := k.Current.TGID
	if old := c.samples[tgid]; old != nil {
		if distance(old.Kill.BootNS, k.BootNS) < freshNS {
			return
		}
	} else {
		c.order = append(c.order, tgid)
	}

	sample := recorded(k, from, to)
	c.samples[tgid] = &sample

	for len(c.order) > maxSamples {
		delete(c.samples, c.order[0])
		c.order = c.order[1:]
	}

	select {
	case c.queue <- &sample:
	default:
	}
}

// Killer determines who sent a SIGKILL, by what is known so far.
func (c *Collector) Killer(k kernel.Kill, from, to events.Process) *events.Killer {
	facts := recorded(k, from, to)

	c.mu.Lock()
	if s := c.samples[k.Current.TGID]; s != nil && distance(s.Kill.BootNS, k.BootNS) < samePIDNS {
		facts.Sender, facts.Ancestors, facts.User, facts.OOMDKills = s.Sender, s.Ancestors, s.User, s.OOMDKills
	}
	c.mu.Unlock()

	if c.opts.Kubelet != nil && to.Workload != nil && to.Workload.PodUID != "" {
		facts.Kubelet = c.opts.Kubelet.About(to.Workload, k.BootNS)
	}

	return c.known.Classify(&facts)
}

func distance(a, b uint64) uint64 { return max(a, b) - min(a, b) }

// recorded returns the facts of the kernel's record alone.
func recorded(k kernel.Kill, from, to events.Process) Facts {
	f := Facts{Kill: k, From: from, To: to, Sender: Process{PID: int(k.Current.TGID), Comm: k.Current.LeaderComm, Exe: k.Sender.Exe}}
	for _, a := range k.Sender.Ancestors {
		f.Ancestors = append(f.Ancestors, Process{PID: int(a.TGID), Comm: a.Comm})
	}

	return f
}

// read completes a sample from /proc, the sender first: it is likely to exit first.
func (c *Collector) read(sample *Facts) {
	c.mu.Lock()
	f := *sample
	c.mu.Unlock()

	at, p := f.Kill.BootNS, proc{c.opts.Proc, c.opts.Passwd}
	next := 0

	take := func(known Process) (Process, bool) {
		found, parent, ok := p.process(known.PID, at)
		if !ok {
			return known, false
		}
		next = parent

		switch {
		case known.Comm != "" && found.Comm != known.Comm: // it has called execve since
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

	// The kernel's record has a bounded number of ancestors; /proc has the others.
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
		f.User = userName(c.opts.Passwd, s.LoginUID)
	}

	if c.opts.Cgroups != "" && f.To.Cgroup != nil && f.Sender.is("systemd", "systemd-oomd") {
		f.OOMDKills = oomdKills(c.opts.Cgroups, f.To.Cgroup.Path)
	}

	c.mu.Lock()
	*sample = f
	c.mu.Unlock()
}
