// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/survive"
)

// Protection keeps the tracer alive, and its lines in time, on a node without memory. What
// is refused is a warning.
type Protection struct {
	// MaxBytes is how much memory this process may have. The OOM killer does not choose it,
	// so it ends itself above that, with a *survive.TooLargeError. 0 leaves the process to
	// the OOM killer like any other.
	MaxBytes uint64
	// Expendable leaves out the warning that the OOM killer may choose the process: somebody is
	// at the screen, and nothing is recorded.
	Expendable bool
	// Lock keeps the process's memory resident.
	Lock bool
	// Rehearse gets the lines of an OOM kill that did not happen before the first record is
	// read, so that nothing on the way of a kill is used for the first time. It is like
	// Options.Sink, and writes nowhere. It may be nil.
	Rehearse sink.Sink
}

// leastBytes is what a trace needs at its start.
const leastBytes = 64 << 20

// exempt is called first: the start itself needs tens of MiB. It lowers the bound to what
// the limits of the process's own cgroup allow.
func (p *Protection) exempt(layout host.Layout, warn func(string)) {
	if p.Lock {
		survive.Frugal()
	}

	if own, err := host.OwnCgroup(layout); err == nil {
		ladder, _ := host.Reader{Layout: layout}.Ancestry(own)
		p.MaxBytes = withinLimits(p.MaxBytes, ladder)
	}

	if p.MaxBytes > 0 && p.MaxBytes < leastBytes {
		p.MaxBytes = 0

		warn(fmt.Sprintf("the memory limit of oomtrace's own cgroup is below %d MiB: it is not exempt from the OOM killer, "+
			"since no other process could be killed at that limit", leastBytes/3*4>>20))
	}

	if p.MaxBytes == 0 {
		return
	}

	if err := survive.Exempt(); err != nil && !p.Expendable {
		warn(err.Error())
	}
}

// keepAlive locks the memory, and starts to watch how much there is. Above the bound, it
// calls end with the error.
func (t *Tracer) keepAlive(end context.CancelCauseFunc) {
	p := t.opts.Protection
	warn := func(err error) {
		if err != nil {
			t.opts.Warn(err.Error())
		}
	}

	var heap *survive.Heap

	if p.Lock {
		var err error

		heap, err = survive.Lock()
		warn(err)
	}

	if p.MaxBytes == 0 {
		return
	}

	warn(survive.Bound(p.MaxBytes))
	t.work.Go(func() {
		warn(survive.Watch(t.workCtx, heap, p.MaxBytes, warn, func(large *survive.TooLargeError) { end(large) }))
	})
}

// withinLimits lowers the bound where a limit of the process's own cgroup is lower: nobody
// else may be there to be killed, so an exempt process would wait for memory for ever. A
// quarter of the limit is left to the kernel's memory, of BPF maps above all.
func withinLimits(bound uint64, ladder []events.Rung) uint64 {
	for _, r := range ladder {
		if r.MaxBytes != nil {
			bound = min(bound, *r.MaxBytes/4*3)
		}
	}

	return bound
}

// rehearse sends the records of an OOM kill through a correlator and a follow-up of their
// own, to a sink that writes nowhere.
func (t *Tracer) rehearse(cfg incident.Config, to sink.Sink) error {
	cfg.Cgroups = resolve.NewTree(resolve.TreeOptions{})
	cfg.Killers, cfg.KernelKills = nil, nil

	stage := &Tracer{opts: Options{Sink: to}, ident: t.ident, clock: t.clock}
	stage.programs = newPrograms(host.Reader{}, t.clock, false) // which nothing runs
	stage.followUp = newFollowUp(t.ident.bootID, to.Write, stage.envelope)
	stage.correlator = incident.New(cfg, correlated{stage})

	for _, r := range killRecords(kernel.BootNS(), cfg.Tier != events.TierTracepoint) {
		if err := stage.Record(r); err != nil {
			return err
		}
	}

	if err := stage.correlator.Close(); err != nil {
		return err
	}

	return stage.followUp.finish(kernel.BootNS())
}

// killRecords are the records of an OOM kill at the limit of a cgroup, as they come with
// out_of_memory hooked, or with tracepoints alone.
func killRecords(bootNS uint64, hooked bool) []kernel.Record {
	limiter := kernel.Memcg{
		Key: events.CgroupKey{ID: 1}, Name: "rehearsal", OOMGroupKnown: true, OOMKill: 1, OOMKillKnown: true,
		Memory: kernel.Counter{Known: true, Usage: 1024, Max: 1024, High: kernel.NoLimit, Watermark: 1024},
		Swap:   kernel.Counter{Known: true, Max: kernel.NoLimit},
	}
	task := kernel.Task{TGID: 1, TID: 1, Comm: "rehearsal", LeaderComm: "rehearsal", Cgroup: limiter.Key}
	meta := kernel.Meta{BootNS: bootNS, Current: task}
	chosen := kernel.VictimChosen{
		Meta: meta, Ancestry: []kernel.Memcg{limiter}, Victim: task, LastReclaim: kernel.ReclaimMemcg, ReclaimNS: bootNS,
	}
	kill := kernel.Kill{Meta: meta, Target: task, FromKernel: true, Group: true, MemoryKnown: true, AnonPages: 1024}
	ends := []kernel.Record{kernel.Exit{Meta: meta, TGID: task.TGID}, kernel.Released{Meta: meta, TGID: task.TGID}}

	if !hooked {
		asOthers := kill
		asOthers.Sender = &kernel.Sender{}

		return append([]kernel.Record{
			kernel.Charge{Meta: meta, Memcgs: []kernel.MemcgCharge{{Key: limiter.Key}}},
			kill, asOthers, chosen, kernel.Mark{Meta: meta, PID: task.TID, Task: task, Killed: true},
		}, ends...)
	}

	meta.Invocation = 1
	kill.Meta, chosen.Meta = meta, meta
	chosen.Constraint, chosen.AllocKnown, chosen.GFP = kernel.ConstraintMemcg, true, 0xcc0
	chosen.TotalPages, chosen.Points = 1024, 1024

	return append([]kernel.Record{
		chosen, kernel.Charge{Meta: meta, Memcgs: []kernel.MemcgCharge{{Key: limiter.Key}}}, kill,
		kernel.Mark{Meta: meta, PID: task.TID, Task: task, Killed: true},
		kernel.OOMReturn{
			Meta: meta, Outcome: events.OutcomeKilled, Limiter: limiter.Key, LimiterMemcg: limiter, AllocKnown: true,
			Constraint: kernel.ConstraintMemcg, Chosen: task.TGID, Count: 1, FirstNS: bootNS, LastNS: bootNS,
		},
	}, ends...)
}
