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
	// ProcessesHidden is whether Proc is that of another PID namespace: it has other processes under
	// the PIDs of the senders, and only the kernel's record is used.
	ProcessesHidden bool
	// Cgroups is the mount of cgroup v2; empty: marks of systemd-oomd are not read.
	Cgroups string
	Kubelet KubeletLog // nil: there is no log
	// Symbol returns the kernel function that contains an address, not ok for one of a
	// module or a BPF program; nil: senders are known by siginfo alone.
	Symbol func(address uint64) (name string, ok bool)
	// Program returns the BPF program that contains an address, nil if none is loaded
	// there any more; nil: programs stay unknown. It may be slow.
	Program func(address uint64) (*events.BPFProgram, error)
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
	queue chan func()
	stop  chan struct{}
	work  sync.WaitGroup

	mu       sync.Mutex            // guards all below
	samples  map[uint32]*Facts     // by the sender's TGID
	order    []uint32              // oldest first
	programs map[uint64]*programAt // by an address in them
}

// programAt is a BPF program that was looked up when a signal had come from its address.
type programAt struct {
	bootNS  uint64
	program *events.BPFProgram
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
		queue: make(chan func(), maxSamples), stop: make(chan struct{}), samples: make(map[uint32]*Facts),
		programs: make(map[uint64]*programAt),
	}
	c.work.Go(c.run)

	return c
}

func (c *Collector) run() {
	for {
		select {
		case <-c.stop:
			return
		case lookUp := <-c.queue:
			lookUp()
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
	o := originOf(k, c.stack(k))

	c.mu.Lock()
	defer c.mu.Unlock()

	switch {
	case o.caller != 0:
		c.sawProgram(o.caller, k.BootNS)
	case o.way.bySender:
		c.sawSender(k, from, to)
	}
}

// stack names the functions of a signal's kernel stack.
func (c *Collector) stack(k kernel.Kill) []frame {
	if c.opts.Symbol == nil {
		return nil
	}

	frames := make([]frame, 0, len(k.Sender.Stack))
	for _, address := range k.Sender.Stack {
		// It is where a call returns to, which may lie behind the last function of a file.
		name, _ := c.opts.Symbol(address - 1)
		frames = append(frames, frame{address, functionName(name)})
	}

	return frames
}

func (c *Collector) sawProgram(address, bootNS uint64) {
	if old := c.programs[address]; c.opts.Program == nil || old != nil && distance(old.bootNS, bootNS) < freshNS {
		return
	}

	if len(c.programs) >= maxSamples {
		clear(c.programs)
	}

	at := &programAt{bootNS: bootNS}
	c.programs[address] = at

	c.enqueue(func() {
		program, err := c.opts.Program(address)
		if err != nil {
			return // the evidence states that it is not known
		}

		c.mu.Lock()
		at.program = program
		c.mu.Unlock()
	})
}

func (c *Collector) enqueue(lookUp func()) {
	select {
	case c.queue <- lookUp:
	default:
	}
}

func (c *Collector) sawSender(k kernel.Kill, from, to events.Process) {
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

	c.enqueue(func() { c.read(&sample) })
}

// Killer determines who sent a SIGKILL, by what is known so far.
func (c *Collector) Killer(k kernel.Kill, from, to events.Process) *events.Killer {
	facts := recorded(k, from, to)
	facts.Stack = c.stack(k)
	caller := originOf(k, facts.Stack).caller

	c.mu.Lock()
	if at := c.programs[caller]; at != nil && distance(at.bootNS, k.BootNS) < freshNS {
		facts.Program = at.program
	}

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

// read completes a sample, the sender first: it is likely to exit first.
func (c *Collector) read(sample *Facts) {
	c.mu.Lock()
	f := *sample
	c.mu.Unlock()

	if !c.opts.ProcessesHidden {
		c.readProcesses(&f)
	}

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

// readProcesses reads the sender and its ancestors.
func (c *Collector) readProcesses(f *Facts) {
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
}
