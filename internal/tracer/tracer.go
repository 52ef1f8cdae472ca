// SPDX-License-Identifier: Apache-2.0

// Package tracer joins the parts into a running trace: the probe's records go to
// the tree of cgroups and the correlator, and what comes out goes to a sink.
package tracer

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/alert"
	"github.com/oomtrace/oomtrace/internal/diagnose"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/flight"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/kubelet"
	"github.com/oomtrace/oomtrace/internal/probe"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/sigkill"
)

// Sink takes the lines of a trace. Its methods are called from the goroutine of
// Run; an error ends the trace.
type Sink interface {
	// Headline comes at the first victim: an incident with an id, a time, a
	// scope and that victim.
	Headline(*events.Incident) error
	Incident(*events.Incident) error
	Update(*events.Incident) error
	Stall(*events.StallLine) error
	Pressure(*events.PressureLine) error
	Lost(*events.Lost) error
	Status(*events.Status) error
}

// findings makes status lines of what the audit finds.
type findings struct {
	outlet
}

func (f findings) Finding(_ time.Time, text string) error {
	return f.Status(&events.Status{Envelope: f.t.envelope(events.KindStatus), Phase: "audit", Text: text})
}

// Options say how to trace.
type Options struct {
	Tier events.Tier // empty: the best there is
	Sink Sink
	// Stalls also looks at where tasks stall for memory; kills then tell what
	// stalled before them.
	Stalls bool
	// MinStall is how long a single stall must be to be remembered by itself;
	// TellStalls gives those to the sink.
	MinStall   time.Duration
	TellStalls bool
	// Names knows pods and containers by name; nil leaves ids.
	Names Names
	// Exits asks the runtime how containers ended; it is set where Names is.
	Exits Exits
	// HostRoot is where the node's own files are; empty is "/".
	HostRoot string
	// KubeletLog is a file with the kubelet's log; empty: it is followed in the
	// journal, if there is a kubelet.
	KubeletLog string
	// Guardians are the units whose stalls are told with each kill.
	Guardians []string
	// Pressure are the limits of early warnings; nil gives none.
	Pressure *alert.Limits
	// Counts takes the counts of stalls, each second in which there are any; nil
	// drops them.
	Counts func(kernel.StallCounts) error
	// UserKills says which SIGKILLs from user space become incidents, Killer where
	// to look for who sent them.
	UserKills incident.UserKills
	Killer    sigkill.Options
	// NoLock leaves the tracer's memory to the kernel, which may swap it.
	NoLock bool
	// RealTime reads events at real-time priority.
	RealTime bool
	// Warn takes remarks on what could not be had, for people; nil drops them.
	Warn func(text string)
}

// Tracer is an attached trace. It belongs to one goroutine.
type Tracer struct {
	opts   Options
	layout host.Layout
	ident  identity
	clock  *host.BootClock
	probe  *probe.Probe
	tree   *resolve.Tree
	scan   chan *resolve.Scan
	core   *incident.Correlator
	lost   uint64
	page   int
	flight *flight.Recorder
	naming *naming            // nil: ids only
	watch  *alert.Detector    // nil: no warnings
	killer *sigkill.Collector // nil: no incidents of scope user
	kills  []*events.Incident // that want their past
	pastNS uint64             // when kills were last given theirs
	after  *aftermath
	log    *kubelet.Follower // nil: no kubelet, or no log of it
	// unlooked are ids of kills that nobody had time to look after.
	unlooked  []string
	uncaused  uint64 // incidents that were held no longer when their causes were due
	explainer diagnose.Explainer
	gone      []goneCgroup    // oldest first
	gaveUp    []kernel.GaveUp // oldest first, at most gaveUpMost
}

// goneCgroup is a removed one whose counts in the kernel make room soon.
type goneCgroup struct {
	key    events.CgroupKey
	bootNS uint64
}

// pastEveryNS is how often counts are read for kills: in a storm, for many at once.
const pastEveryNS = 300e6

// gaveUpMost is how many give-ups are kept until their kills are told.
const gaveUpMost = 64

// forgetNS is how long the stalls of a removed cgroup are kept.
const forgetNS = 65e9

type identity struct{ bootID, node string }

// Open attaches the probes. From its return on nothing is missed; the paths of
// cgroups are read meanwhile.
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

	clock, err := host.NewBootClock()
	if err != nil {
		return nil, fmt.Errorf("reading the clocks: %w", err)
	}

	for _, gap := range host.Protect(!opts.NoLock) {
		opts.Warn(gap)
	}
	page := uint64(host.PageSize())

	symbols, err := host.LoadKallsyms(probe.DataSymbols...)
	if err != nil {
		opts.Warn("the kind of an allocation will be unknown: " + err.Error())
	}

	p, err := probe.Open(probe.Options{
		Tier: opts.Tier, MemoryHierarchy: layout.HierarchyID, PageSize: page, Stalls: opts.Stalls, MinStall: opts.MinStall, Address: symbols.Address,
	})
	if err != nil {
		return nil, err
	}

	t := &Tracer{
		opts: opts, layout: layout, clock: clock, probe: p,
		ident: identity{bootID: host.BootID(), node: host.Hostname()},
		tree:  resolve.NewTree(resolve.TreeOptions{Hierarchies: []uint32{layout.HierarchyID}}),
		scan:  make(chan *resolve.Scan, 1), page: int(page), flight: flight.New(0),
	}
	if opts.Names != nil {
		t.naming = &naming{names: opts.Names, exits: opts.Exits}
	}

	if opts.Pressure != nil {
		t.watch = alert.New(*opts.Pressure, t.Guardian)
	}

	t.startScan()
	t.lookAfter()
	t.watchKillers()

	t.core = incident.New(t.config(page, symbols), findings{outlet{opts.Sink, t}})
	if _, err := t.core.Idle(probe.BootNS(), true); err != nil { // the audit's first reading
		p.Close()
		return nil, err
	}
	// The kernel's types were decoded for the load, and are not needed any more:
	// tens of MiB that a node out of memory can use.
	debug.FreeOSMemory()

	return t, nil
}

func (t *Tracer) config(page uint64, symbols *host.Symbols) incident.Config {
	cfg := incident.Config{
		Tier: t.probe.Tier(), PageSize: page, CgroupV1: t.layout.MemoryVersion == 1,
		BootID: t.ident.bootID, Node: t.ident.node,
		Cgroups: t.places(), WallClock: t.clock.Time, KernelKills: host.VMStatOOMKill, Gone: host.ProcessGone,
	}
	if cfg.UserKills = t.opts.UserKills; t.killer != nil {
		cfg.Killers = t.killer
	}

	if ram, swap, err := host.Memory(); err == nil {
		cfg.RAMBytes, cfg.SwapBytes = ram, swap
	}

	if symbols != nil {
		cfg.Symbol = func(address uint64) (string, bool) {
			name, _, ok := symbols.Lookup(address)
			return name, ok
		}
	}

	if cfg.Tier != events.TierFentry && !cfg.CgroupV1 { // the kernel may skip a kprobe
		seeds, err := host.ScanOOMLocal(t.layout)
		if err != nil {
			t.opts.Warn("some limiters may be unknown: " + err.Error())
		}

		cfg.OOMLocal = make(map[events.CgroupKey]uint64, len(seeds))
		for id, count := range seeds {
			cfg.OOMLocal[events.CgroupKey{ID: id}] = count
		}
	}

	return cfg
}

func (t *Tracer) startScan() {
	scan := t.tree.NewScan(t.layout.MemoryMount, t.layout.HierarchyID)

	scan.Base = t.layout.MountRoot
	go func() {
		if err := scan.Run(); err != nil {
			t.opts.Warn("some cgroups have no path: " + err.Error())
		}

		t.scan <- scan
	}()
}

// Status is the line that opens the trace.
func (t *Tracer) Status(phase string) *events.Status {
	return &events.Status{
		Envelope: t.envelope(events.KindStatus), Phase: phase, Tier: t.probe.Tier(), Hooks: t.probe.Hooks(),
		CgroupMode: t.layout.Mode, KernelRelease: host.KernelRelease(), PageSizeBytes: host.PageSize(),
	}
}

func (t *Tracer) envelope(kind string) events.Envelope {
	return events.Envelope{
		V: events.Version, Kind: kind, Time: t.clock.Time(probe.BootNS()).UTC(),
		BootID: t.ident.bootID, Node: t.ident.node,
	}
}

// Place tells a cgroup's path, empty if it is not known, and what it is.
func (t *Tracer) Place(key events.CgroupKey) (string, resolve.Place) {
	place, path, _ := t.places().Place(key)
	return path, place
}

// Layout tells where the memory controller is.
func (t *Tracer) Layout() host.Layout { return t.layout }

// Run traces until ctx is done, then reports what is open. ready is called once
// paths are known; it may be nil.
func (t *Tracer) Run(ctx context.Context, ready func() error) error {
	if err := t.opts.Sink.Status(t.Status("start")); err != nil {
		return err
	}

	t.merge(<-t.scan)

	if ready != nil {
		if err := ready(); err != nil {
			return err
		}
	}

	if t.opts.RealTime {
		// The thread is given back with its priority: it ends with this goroutine, or
		// with the process.
		runtime.LockOSThread()

		if err := host.RealTime(); err != nil {
			t.opts.Warn(err.Error())
		}
	}

	if err := t.probe.Run(ctx, t); err != nil {
		return err
	}

	if err := t.core.Close(); err != nil {
		return err
	}

	if err := t.past(); err != nil {
		return err
	}

	if err := t.endAftermath(); err != nil {
		return err
	}

	if err := t.name(probe.BootNS()); err != nil {
		return err
	}
	incidents, victims := t.core.Totals()

	return t.opts.Sink.Status(&events.Status{
		Envelope: t.envelope(events.KindStatus), Phase: "end",
		Incidents: &incidents, Victims: &victims, Lost: &t.lost,
	})
}

// Close detaches.
func (t *Tracer) Close() error {
	if t.killer != nil {
		t.killer.Close()
	}

	if t.log != nil {
		t.log.Close()
	}

	return t.probe.Close()
}

// watchKillers begins to look at who sends SIGKILLs, if anybody wants to know.
func (t *Tracer) watchKillers() {
	if t.opts.UserKills == incident.UserKillsNone {
		return
	}

	opts := t.opts.Killer
	if t.log != nil {
		opts.Kubelet = podLog{t.log, t.clock}
	}

	if opts.Cgroups == "" && t.layout.MemoryVersion == 2 && t.layout.MountRoot == "/" {
		opts.Cgroups = t.layout.MemoryMount
	}
	t.killer = sigkill.NewCollector(opts)
}

// lookAfter begins to look at the node after kills.
func (t *Tracer) lookAfter() {
	reader := host.Reader{Layout: t.layout, Place: func(path string) (events.Level, *events.Workload) {
		place := resolve.ParsePath(path)
		return place.Level, place.Workload
	}}

	config, err := kubelet.Find(t.opts.HostRoot)
	if err != nil {
		t.opts.Warn("how far an eviction is will be unknown: " + err.Error())
	}

	t.after = newAftermath(reader, kubelet.NewEvictionTracker(config, reader))
	if t.opts.UserKills == incident.UserKillsNone || config == nil && t.opts.KubeletLog == "" {
		return
	}

	if t.log, err = kubelet.Follow(t.opts.KubeletLog, t.opts.HostRoot, t.opts.Warn); err != nil {
		t.opts.Warn(err.Error())
	}
}

// podLog gives the killer's watch the kubelet's lines.
type podLog struct {
	log   *kubelet.Follower
	clock *host.BootClock
}

func (p podLog) About(w *events.Workload, bootNS uint64) []string {
	return p.log.About(w, p.clock.Time(bootNS))
}

// Record implements probe.Handler.
func (t *Tracer) Record(r kernel.Record) error {
	switch r := r.(type) {
	case *kernel.Stall:
		t.flight.Stall(*r)

		if t.opts.TellStalls {
			return t.opts.Sink.Stall(t.stallLine(*r))
		}

		return nil
	case kernel.GaveUp:
		if len(t.gaveUp) == gaveUpMost {
			t.gaveUp = slices.Delete(t.gaveUp, 0, 1)
		}
		t.gaveUp = append(t.gaveUp, r)

		return nil
	case kernel.StallCounts:
		t.flight.Counts(r)
		t.sample(r.BootNS)
		t.after.sample(t.clock.Time(r.BootNS))

		if err := t.warn(r.BootNS); err != nil {
			return err
		}

		if t.opts.Counts != nil {
			return t.opts.Counts(r)
		}

		return nil
	case kernel.CgroupChange:
		t.tree.Observe(r)

		if t.naming != nil {
			place, _, _ := t.tree.Place(r.Key)
			switch r.Op {
			case "mkdir":
				tell(place, t.opts.Names.Seen)
			case "rmdir":
				tell(place, t.opts.Names.Gone)
			}
		}

		if r.Op == "rmdir" && t.opts.Stalls {
			t.gone = append(t.gone, goneCgroup{r.Key, r.BootNS})
		}
	case kernel.RecordsLost:
		t.lost += r.Count
		if err := t.opts.Sink.Lost(&events.Lost{Envelope: t.envelope(events.KindLost), What: r.What, Count: r.Count}); err != nil {
			return err
		}
	}

	return t.core.Record(r)
}

// Idle implements probe.Handler.
func (t *Tracer) Idle(bootNS uint64, caughtUp bool) (time.Duration, error) {
	select {
	case scan := <-t.scan:
		t.merge(scan)
	default:
	}

	t.clock.Sync()
	t.forget(bootNS)

	sleep, err := t.core.Idle(bootNS, caughtUp)
	if err != nil {
		return 0, err
	}

	if err := t.name(bootNS); err != nil {
		return 0, err
	}

	if !caughtUp {
		return sleep, nil
	}

	if len(t.kills) > 0 && bootNS-min(t.pastNS, bootNS) >= pastEveryNS {
		t.pastNS = bootNS
		if err := t.past(); err != nil {
			return 0, err
		}
	}

	return sleep, t.aftermaths()
}

// forget drops the stalls of cgroups that have been gone for longer than a kill
// looks back.
func (t *Tracer) forget(bootNS uint64) {
	due := make(map[events.CgroupKey]bool)
	for len(t.gone) > 0 && bootNS-min(t.gone[0].bootNS, bootNS) > forgetNS {
		due[t.gone[0].key] = true
		t.gone = t.gone[1:]
	}

	if len(due) > 0 {
		t.probe.ForgetStalls(due)
		t.flight.Forget(due)
	}
}

func (t *Tracer) merge(scan *resolve.Scan) {
	if !t.tree.Merge(scan) {
		t.startScan()
	}

	if t.naming != nil {
		t.tree.Live(func(place resolve.Place) { tell(place, t.opts.Names.Found) })
	}
}

// places are those of the tree, with names.
func (t *Tracer) places() namedTree { return namedTree{t.tree, t.opts.Names} }

// name gives out what became known by name of earlier incidents.
func (t *Tracer) name(bootNS uint64) error {
	if t.naming == nil {
		return nil
	}

	for _, u := range t.naming.due(bootNS) {
		// The merged incident has it already.
		u.Envelope = t.envelope(events.KindIncidentUpdate)
		t.explainer.Take(u)

		if err := t.opts.Sink.Update(u); err != nil {
			return err
		}
	}

	if lost := t.naming.lost(); lost > 0 {
		return t.opts.Sink.Lost(&events.Lost{Envelope: t.envelope(events.KindLost), What: "name_lookup", Count: lost})
	}

	return nil
}
