// SPDX-License-Identifier: Apache-2.0

// Package tracer runs a live trace: records of the probe go to the tree of cgroups, the
// flight recorder and the correlator; an incident that the correlator reports goes to the
// sink at once, and is then completed by enrichers that know nothing of each other.
//
// The files follow the data: dispatch.go routes records, scans.go reads paths of cgroups,
// followup.go keeps open incidents and what they wait for, and each enricher has a file:
// stalls.go, hoststate.go, limitwrites.go, programs.go, kernelreport.go with completion.go,
// names.go, runtimereport.go. splits.go reads for the flight recorder. oomwaits.go makes records of what no hook sees.
package tracer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/oomtrace/oomtrace/internal/alert"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/flight"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/kernellog"
	"github.com/oomtrace/oomtrace/internal/kubelet"
	"github.com/oomtrace/oomtrace/internal/probe"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/sigkill"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/survive"
)

// Options set up a trace. Sink is required.
type Options struct {
	Tier events.Tier // the only attach mode to try; empty: the best that works
	// Sink takes the lines, on the goroutine of Run. An error ends the trace.
	Sink sink.Sink
	// Stalls traces stalls for memory; kills then have a stall history.
	Stalls bool
	// MinStall is the duration from which on a stall is also recorded individually;
	// StallLines writes a line for each of these.
	MinStall   time.Duration
	StallLines bool
	// Names resolves pods and containers; nil leaves ids.
	Names Names
	// RuntimeReports asks how containers ended; it is set where Names is.
	RuntimeReports RuntimeReports
	// HostRoot is the root of the node's file system; empty means "/".
	HostRoot string
	// KubeletLog is a file with the kubelet's log. If it is empty and the node has a kubelet,
	// its journal is followed.
	KubeletLog string
	// CriticalServices are the units whose stalls are reported with each kill.
	CriticalServices []string
	// Alerts are the limits of early warnings; nil disables them.
	Alerts *alert.Limits
	// Counts is called with the counts of stalls in each second with stalls; it may be nil.
	Counts func(kernel.StallCounts) error
	// Idle is called between records, at least ten times a second, on the goroutine of Run; it
	// may be nil. An error ends the trace.
	Idle func() error
	// UserKills selects the SIGKILLs from user space that become incidents. Senders
	// configures the look-up of their senders.
	UserKills incident.UserKills
	Senders   sigkill.Options
	// Protection is what keeps the tracer alive on a node without memory. It holds for the
	// whole process; the zero value does nothing.
	Protection Protection
	// RealTime reads records at real-time priority.
	RealTime bool
	// Warn takes warnings for users, from several goroutines; nil drops them.
	Warn func(text string)
}

// Tracer is an attached trace. It belongs to one goroutine.
type Tracer struct {
	opts       Options
	layout     host.Layout
	ident      identity
	clock      *host.BootClock
	probe      *probe.Probe
	tree       resolve.NamedTree
	scans      *scans
	correlator *incident.Correlator
	followUp   *followUp
	stalls     *stallHistory
	host       *hostState
	waits      *oomWaits // nil: cgroup v2, which has none
	limits     *limitWrites
	programs   *programs
	reports    *kernelReport
	alerts     *alert.Detector // nil: no warnings
	senders    senders
	hasKubelet bool   // or a log of one
	lost       uint64 // records

	work     sync.WaitGroup  // the goroutines of Run
	workCtx  context.Context // theirs, ended by stopWork
	stopWork context.CancelFunc
}

type identity struct{ bootID, node string }

// Open attaches the probes. From its return on nothing is missed: records wait in the
// ring buffers for Run. Open starts no goroutine.
func Open(opts Options) (*Tracer, error) {
	if opts.Warn == nil {
		opts.Warn = func(string) {}
	}

	if p, err := host.ReadPrivileges(); err == nil && len(p.Missing) > 0 {
		return nil, fmt.Errorf("missing %s: run as root (sudo oomtrace)", strings.Join(p.Missing, " and "))
	}

	layout, err := host.Cgroups()
	if err != nil {
		return nil, err
	}

	opts.Protection.exempt(layout, opts.Warn)

	if hidden := host.ReadConfinement().Blindness(); hidden != "" {
		opts.Warn(hidden)
	}

	symbols, err := host.LoadKallsyms(probe.DataSymbols...)
	if err != nil {
		opts.Warn("allocation classes will be unknown: " + err.Error())
	}

	p, err := probe.Open(probe.Options{
		Tier: opts.Tier, MemoryHierarchy: layout.HierarchyID, PageSize: uint64(host.PageSize()),
		Stalls: opts.Stalls, MinStall: opts.MinStall, Address: symbols.Address,
	})
	if err != nil {
		return nil, err
	}

	t := &Tracer{
		opts: opts, layout: layout, clock: host.NewBootClock(), probe: p,
		ident: identity{bootID: host.BootID(), node: host.Hostname()},
		tree:  resolve.NewNamedTree(resolve.NewTree(resolve.TreeOptions{Hierarchies: []uint32{layout.HierarchyID}}), opts.Names),
	}
	t.scans = newScans(t.tree, layout, opts.Warn)

	if err := t.assemble(symbols); err != nil {
		_ = t.Close()
		return nil, err
	}
	// The BTF of the kernel was decoded for loading and is garbage now: return tens of MiB
	// to a node that may be short of them.
	debug.FreeOSMemory()

	return t, nil
}

// assemble joins the correlator and the enrichers.
func (t *Tracer) assemble(symbols *host.Symbols) error {
	if t.opts.Alerts != nil {
		t.alerts = alert.New(*t.opts.Alerts, t.CriticalService)
	}

	t.stalls = &stallHistory{
		enabled: t.opts.Stalls, counts: t.probe, unseen: t.UnseenStalls(), tree: t.tree, layout: t.layout, clock: t.clock,
		page: uint64(host.PageSize()), envelope: t.envelope, critical: t.CriticalService, recorder: flight.New(0),
		splits: newSplits(t.layout),
	}
	reader := host.Reader{Layout: t.layout, Place: resolve.Placer(t.opts.Names)}

	config, err := kubelet.Find(t.opts.HostRoot)
	if err != nil {
		t.opts.Warn("kubelet eviction thresholds will be unknown: " + err.Error())
	}
	t.hasKubelet = config != nil || t.opts.KubeletLog != ""
	t.host = newHostState(reader, kubelet.NewEvictionTracker(config, reader))
	t.host.processesHidden = host.ReadConfinement().PIDNamespace

	if t.layout.MemoryVersion == 1 {
		t.waits = newOOMWaits(reader, kernel.BootNS)

		if !t.opts.Stalls {
			t.opts.Warn("tasks that wait because the OOM killer of their cgroup is disabled will not be seen: stalls are not traced")
		}
	}

	f := newFollowUp(t.ident.bootID, t.opts.Sink.Write, t.envelope)
	t.limits = &limitWrites{tree: t.tree, clock: t.clock, page: uint64(host.PageSize())}

	t.reports = newKernelReport(reader.Charge, t.clock.Time, f.current)
	if log, err := kernellog.Follow(kernellog.Options{PageSizeBytes: host.PageSize()}); err != nil {
		t.opts.Warn("incidents will not be completed from the kernel's log: " + err.Error())
	} else {
		t.reports.log = log
	}

	t.programs = newPrograms(reader, t.clock, t.host.processesHidden)
	f.enrichers = []enricher{t.stalls, t.host, t.limits, t.programs, t.reports}

	if names := t.opts.Names; names != nil {
		f.resolvesNames = true
		f.enrichers = append(f.enrichers,
			&lateNames{names: names, current: f.current, now: kernel.BootNS}, &runtimeReport{t.opts.RuntimeReports, f.current})
	}
	t.followUp = f
	t.opts.Senders.Program = probe.ProgramAt

	if symbols != nil {
		t.opts.Senders.Symbol = func(address uint64) (string, bool) {
			name, _, ok := symbols.Lookup(address)
			return name, ok && symbols.InKernel(address)
		}
	}

	cfg := t.config(symbols)
	t.correlator = incident.New(cfg, correlated{t})

	if to := t.opts.Protection.Rehearse; to != nil {
		if err := t.rehearse(cfg, to); err != nil {
			return err
		}
	}

	_, err = t.correlator.Idle(kernel.BootNS(), true) // the audit's first reading

	return err
}

func (t *Tracer) config(symbols *host.Symbols) incident.Config {
	cfg := incident.Config{
		Tier: t.probe.Tier(), PageSize: uint64(host.PageSize()), CgroupV1: t.layout.MemoryVersion == 1, LocalEvents: t.layout.LocalEvents,
		BootID: t.ident.bootID, Node: t.ident.node,
		Cgroups: t.tree, WallClock: t.clock.Time, KernelKills: host.VMStatOOMKill, Gone: host.ProcessGone,
		ProcessesHidden: t.host.processesHidden,
	}
	if cfg.UserKills = t.opts.UserKills; cfg.UserKills != incident.UserKillsNone {
		cfg.Killers = &t.senders
	}

	if ram, swap, err := host.Memory(); err == nil {
		cfg.RAMBytes, cfg.SwapBytes = ram, swap
	}

	if symbols != nil {
		cfg.Symbol = func(address uint64) (string, bool) {
			// A return address is behind the call, perhaps in the next function.
			name, _, ok := symbols.Lookup(address - 1)
			return name, ok
		}
	}

	nodes, err := host.MemoryNodes()
	if err != nil {
		t.opts.Warn("with tracepoints only, cpusets and memory policies will be unknown: " + err.Error())
	}
	cfg.MemoryNodes = nodes

	return cfg
}

// Status returns a status line with the attach modes of the hooks.
func (t *Tracer) Status(phase string) *events.Status {
	var unknown []string
	if t.host.processesHidden {
		unknown = []string{"candidates"}
	}

	return &events.Status{
		Unknown:  unknown,
		Envelope: t.envelope(events.KindStatus), Phase: phase, Tier: t.probe.Tier(), Hooks: t.probe.Hooks(),
		CgroupMode: t.layout.Mode, KernelRelease: host.KernelRelease(), PageSizeBytes: host.PageSize(),
	}
}

func (t *Tracer) envelope(kind string) events.Envelope {
	return events.Envelope{
		V: events.Version, Kind: kind, Time: t.clock.Time(kernel.BootNS()).UTC(),
		BootID: t.ident.bootID, Node: t.ident.node,
	}
}

// Place returns the path of a cgroup, empty if it is unknown, and its place in the tree.
func (t *Tracer) Place(key events.CgroupKey) (string, resolve.Place) {
	place, path, _ := t.tree.Place(key)
	return path, place
}

// Layout returns the mount and the mode of the memory controller.
func (t *Tracer) Layout() host.Layout { return t.layout }

// Run traces until ctx is done, then reports what is still pending. It calls ready once the
// paths of cgroups are known, unless ctx is done before; ready may be nil. The goroutines
// that it starts have ended when it returns, unless a read of theirs hangs. It is called
// once.
func (t *Tracer) Run(ctx context.Context, ready func() error) error {
	t.start()
	defer t.stop()

	if err := t.opts.Sink.Write(t.Status(events.PhaseStart)); err != nil {
		return err
	}

	// Records are read by one thread, which is a matter of its own for the scheduler and for
	// whoever watches it. It stays locked: it ends with this goroutine, or with the process.
	runtime.LockOSThread()

	scanned := t.scans.await(ctx)

	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)

	t.keepAlive(end)

	if scanned && ready != nil {
		if err := ready(); err != nil {
			return err
		}
	}

	if t.opts.RealTime {
		if err := host.RealTime(); err != nil {
			t.opts.Warn(err.Error())
		}
	}

	if err := t.probe.Run(ctx, t); err != nil {
		return err
	}

	if err := t.end(); err != nil {
		return err
	}

	if large, ok := errors.AsType[*survive.TooLargeError](context.Cause(ctx)); ok {
		return large
	}

	return nil
}

// end reports what is still pending, and the totals.
func (t *Tracer) end() error {
	if err := t.oomWaiting(kernel.BootNS(), true); err != nil {
		return err
	}

	if err := t.correlator.Close(); err != nil {
		return err
	}

	if !t.host.finish(2 * time.Second) {
		t.opts.Warn("the state of the node after the last kills is missing: sampling it took too long")
	}

	t.reports.finish(finishWithin)
	t.programs.finish(finishWithin)

	t.stalls.readNS = 0 // read the counts for the last kills at once

	if err := t.followUp.finish(kernel.BootNS()); err != nil {
		return err
	}

	if t.stalls.err != nil {
		return t.stalls.err
	}
	incidents, victims := t.correlator.Totals()

	return t.opts.Sink.Write(&events.Status{
		Envelope: t.envelope(events.KindStatus), Phase: events.PhaseEnd,
		Incidents: &incidents, Victims: &victims, Lost: &t.lost,
	})
}

// start starts the goroutines of Run. They run until the last incident is complete, beyond
// the end of Run's context.
func (t *Tracer) start() {
	t.workCtx, t.stopWork = context.WithCancel(context.Background())

	t.scans.start(t.workCtx, &t.work)
	t.work.Go(func() { t.host.run(t.workCtx) })
	t.work.Go(func() { t.programs.run(t.workCtx) })
	t.work.Go(func() { t.stalls.splits.run(t.workCtx) })
	t.work.Go(func() { t.reports.follow(t.workCtx, t.opts.Warn) })
	t.work.Go(func() { t.reports.read(t.workCtx) })

	if t.waits != nil {
		t.work.Go(func() { t.waits.run(t.workCtx) })
	}

	if t.opts.UserKills != incident.UserKillsNone {
		t.senders.start(sendersOptions{
			lookUp: t.opts.Senders, hasKubelet: t.hasKubelet, kubeletLog: t.opts.KubeletLog, hostRoot: t.opts.HostRoot,
			layout: t.layout, clock: t.clock, warn: t.opts.Warn, processesHidden: t.host.processesHidden,
		})
	}
}

// finishWithin bounds how long the end of a trace waits for the kernel's reports of the last
// kills, and for the programs of their victims.
const finishWithin = 500 * time.Millisecond

// stopWithin bounds how long Run waits for its goroutines.
const stopWithin = 2 * time.Second

// stop ends these goroutines and waits for them. A read of /proc or of a cgroup's files may
// hang: it may wait for a lock that a stuck process holds. Such a read does not keep the
// trace from ending.
func (t *Tracer) stop() {
	t.stopWork()
	t.host.close()

	ended := make(chan struct{})

	go func() {
		t.senders.stop()
		t.work.Wait()
		close(ended)
	}()

	select {
	case <-ended:
	case <-time.After(stopWithin):
		t.opts.Warn("a read of /proc or of a cgroup file hung and was abandoned")
	}
}

// UnseenStalls returns the kinds of stall that no attached hook reports.
func (t *Tracer) UnseenStalls() []string {
	var names []string
	for _, kind := range t.probe.UnseenStalls() {
		names = append(names, string(kind))
	}

	return names
}

// Close detaches the probes. It does not wait for Run, which must have returned.
func (t *Tracer) Close() error {
	if t.reports != nil {
		t.reports.close()
	}

	return t.probe.Close()
}
