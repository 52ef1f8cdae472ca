// SPDX-License-Identifier: Apache-2.0

// Package probe loads and attaches the BPF programs, using the best attach mode that
// this kernel supports for each hook, reads their ring buffers and maps, and decodes
// the records into those of package kernel. Open fails only if kills cannot be
// observed, or a forced attach mode is not supported; everything else that failed is
// listed by Hooks. Only this package and bpf/ use cilium/ebpf.
package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// Options select what is loaded.
type Options struct {
	// Tier forces the attach mode of the OOM invocation; empty selects the best one.
	Tier events.Tier
	// MemoryHierarchy is the ID of the cgroup hierarchy with the memory controller, 0
	// for cgroup v2.
	MemoryHierarchy uint32
	PageSize        uint64 // bytes
	// Address returns the address of kernel data by its symbol; nil if none is known.
	// Some counters are exact, or available at all, only with those of DataSymbols.
	Address func(symbol string) (address uint64, ok bool)
	// Stalls also traces where tasks stall for memory.
	Stalls bool
	// MinStall is the duration from which on a stall is also reported individually.
	MinStall time.Duration
}

// DataSymbols are the symbols that Options.Address is called with. The constants of
// the programs have the same names.
var DataSymbols = []string{"__per_cpu_offset", "mem_cgroup_stats_index"}

// ErrNoBTF is returned by Open if the kernel does not describe its types.
var ErrNoBTF = errors.New("this kernel has no BTF (/sys/kernel/btf/vmlinux); use one built " +
	"with CONFIG_DEBUG_INFO_BTF=y")

// Probe is a set of attached programs. Its methods must be called from one goroutine;
// only the context given to Run may be cancelled from another.
type Probe struct {
	tier      events.Tier
	hooks     []events.Hook
	loader    *loader
	urgent    ring
	bulk      ring
	record    ringbuf.Record // read last
	delivered uint64         // records
	decode    decoder
	counts    *ebpf.Memory          // of lost records, by the programs
	lost      [bpf.KindCount]uint64 // of them, as already reported
	polls     int
	// uncounted is true if runs of kprobes may be missed without being counted.
	uncounted bool
	sleeps    bool

	hierarchy uint32                // of the memory controller
	throttles *ebpf.Memory          // counts of records over a tenant's budget, by the programs
	throttled [bpf.KindCount]uint64 // of them, as already reported

	repeats repeatReader
	stalls  *stallReader // nil if stalls are not traced
}

// ring is what is used of a *ringbuf.Reader.
type ring interface {
	SetDeadline(time.Time)
	ReadInto(*ringbuf.Record) error
	AvailableBytes() int
	Flush() error
	Close() error
}

// Open loads and attaches the programs. It fails only if kills cannot be observed at
// all, or the forced attach mode is not supported; Hooks lists everything else that
// failed. The caller must close the probe.
func Open(opts Options) (*Probe, error) {
	p, err := open(opts)
	if err != nil {
		return nil, err
	}

	p.loader.types, p.loader.specs = nil, nil // tens of MiB

	return p, nil
}

// open is Open, and keeps what only loading needs.
func open(opts Options) (*Probe, error) {
	// Before 5.11 the kernel counts BPF memory against RLIMIT_MEMLOCK.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise RLIMIT_MEMLOCK: %w: run as root or with CAP_SYS_RESOURCE", err)
	}

	l, err := newLoader(opts)
	if err != nil {
		return nil, err
	}

	p := &Probe{loader: l, decode: decoder{pageSize: opts.PageSize}, hierarchy: opts.MemoryHierarchy}
	if err := p.attach(opts); err != nil {
		p.Close()
		return nil, err
	}

	p.uncounted = p.usesKprobes() && !l.countsKprobes()

	if types, err := l.types.Kernel(); err == nil {
		p.sleeps = sleepingRings(types)
	}

	if p.urgent, err = openRing(l.maps["urgent"]); err == nil {
		p.bulk, err = openRing(l.maps["bulk"])
	}

	if err == nil {
		p.counts, err = l.maps["lost"].Memory()
	}

	if err == nil {
		p.throttles, err = l.maps["throttled"].Memory()
	}

	if err == nil {
		p.stalls, err = newStallReader(l)
	}

	if err != nil {
		p.Close()
		return nil, fmt.Errorf("open the ring buffers: %w", err)
	}

	return p, nil
}

func openRing(m *ebpf.Map) (ring, error) {
	r, err := ringbuf.NewReader(m)
	if err != nil {
		return nil, err // and not a ring that holds a nil reader
	}

	return r, nil
}

// Tier returns the attach mode of the OOM invocation.
func (p *Probe) Tier() events.Tier { return p.tier }

// Hooks returns how each hook is attached, and why not in a better mode.
func (p *Probe) Hooks() []events.Hook { return p.hooks }

// MissesUncounted reports whether hooks are attached by kprobe on a kernel that does not
// publish how often it skipped one, so that such losses cannot be reported.
func (p *Probe) MissesUncounted() bool { return p.uncounted }

// RingsSleep reports whether this kernel has PREEMPT_RT and ring buffers that take a sleeping
// lock where that is a bug: each record may end in "scheduling while atomic".
func (p *Probe) RingsSleep() bool { return p.sleeps }

func (p *Probe) usesKprobes() bool {
	return slices.ContainsFunc(p.hooks, func(h events.Hook) bool { return h.Tier == events.TierKprobe })
}

// Memory returns how many bytes of kernel memory the maps, ring buffers and programs take,
// by the kernel's own account. ok is false if that is unknown. They are charged to the
// cgroup of this process since 5.11.
func (p *Probe) Memory() (bytes uint64, ok bool) { return p.loader.memory() }

// Close detaches all programs and releases the maps.
func (p *Probe) Close() error {
	var errs []error
	if p.urgent != nil {
		errs = append(errs, p.urgent.Close())
	}

	if p.bulk != nil {
		errs = append(errs, p.bulk.Close())
	}

	return errors.Join(append(errs, p.loader.close())...)
}

// Handler processes what the probe reads. Its methods are called on the goroutine of
// Run; an error of theirs ends Run.
type Handler interface {
	// Record processes a record. A stall is a *kernel.Stall, valid until Record returns.
	Record(kernel.Record) error
	// Idle does what is due by time. It is called when the time that it returned is over, at
	// the latest 100 ms after the last call (250 ms once no record came for ten seconds) and
	// 10 ms after a record, however many records come in. Every record of the urgent ring that was made before readNS
	// (CLOCK_BOOTTIME) was passed to Record: with a ring that is never empty, readNS is the
	// time of the newest of them. caughtUp is true if no record was waiting. It returns for
	// how long the probe may sleep if nothing happens.
	Idle(readNS uint64, caughtUp bool) (time.Duration, error)
}

const (
	bulkEvery = 100 * time.Millisecond
	// quietEvery is instead of bulkEvery once no record came for quietAfter: most of what an idle
	// trace costs is waking up.
	quietEvery    = 250 * time.Millisecond
	quietAfter    = 10 * time.Second
	countersEvery = time.Second
	missesEvery   = 10 // polls
	// afterRecord is when Idle is due after a record: what it does by time may depend on it.
	afterRecord = 10 * time.Millisecond
	// bulkAtOnce bounds the records that are read from the bulk ring before the urgent one
	// has its turn, and urgentAtLeast is the turn of that one if it has records: a flood never
	// ends by itself.
	bulkAtOnce    = 1024
	urgentAtLeast = time.Millisecond
)

// Run reads until ctx is done, and then what was in the rings by that time. It returns the
// handler's error, if any.
func (p *Probe) Run(ctx context.Context, h Handler) error {
	stop := context.AfterFunc(ctx, func() { p.urgent.Flush() })
	defer stop()

	var (
		due      = time.Now() // when Idle is
		bulk     time.Time
		counters = time.Now()
		readNS   uint64
		endNS    uint64 // when ctx was seen to be done; 0: it was not
		seen     = p.delivered
		active   = due // when records were last seen
	)

	for {
		newestNS, err := p.readUrgent(h, due)
		if err != nil {
			return err
		}

		if endNS == 0 && ctx.Err() != nil {
			endNS = kernel.BootNS()
		}

		now, more := time.Now(), false
		if now.Sub(bulk) >= bulkEvery || endNS != 0 {
			if more, err = p.drain(h); err != nil {
				return err
			}

			if !more {
				bulk = now
			}
		}

		var caughtUp bool
		readNS, caughtUp = p.readUntil(max(readNS, newestNS))

		ended := endNS != 0 && readNS >= endNS && !more
		if ended || now.Sub(counters) >= countersEvery {
			counters = now

			if err := p.poll(h, ended); err != nil {
				return err
			}
		}

		sleep, err := h.Idle(readNS, caughtUp)
		if err != nil || ended {
			return err
		}

		if p.delivered != seen {
			seen, active = p.delivered, now
		}

		most := bulkEvery
		if now.Sub(active) >= quietAfter {
			most = quietEvery
		}

		if sleep = min(sleep, most); more {
			sleep = 0
		}

		due = time.Now().Add(sleep)
	}
}

// readUrgent waits for records of the urgent ring until due, or until afterRecord after the
// first one, and delivers them. It returns the time of the newest; 0 if there was none.
func (p *Probe) readUrgent(h Handler, due time.Time) (newestNS uint64, err error) {
	atLeast := time.Now().Add(urgentAtLeast)

	for {
		p.urgent.SetDeadline(due)

		err := p.urgent.ReadInto(&p.record)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ringbuf.ErrFlushed) {
			return newestNS, nil
		}

		if err != nil {
			return newestNS, fmt.Errorf("read the ring buffer: %w", err)
		}

		madeNS, err := p.deliver(h, p.record.RawSample)
		if err != nil {
			return newestNS, err
		}

		now := time.Now()
		if newestNS == 0 && now.Add(afterRecord).Before(due) {
			due = now.Add(afterRecord)
		}

		newestNS = max(newestNS, madeNS)

		if !now.Before(due) && !now.Before(atLeast) {
			return newestNS, nil
		}
	}
}

// readUntil returns the time until which all records of the urgent ring were delivered, of
// which the newest was made at newestNS, and whether no record is waiting. Records are read
// in the order in which they were made.
func (p *Probe) readUntil(newestNS uint64) (readNS uint64, caughtUp bool) {
	now := kernel.BootNS() // read before the ring is examined: a record that is made after that may be missed

	if p.urgent.AvailableBytes() == 0 {
		return now, true
	}

	return newestNS, false
}

// drain reads from the bulk ring without waiting, and returns whether there may be more.
func (p *Probe) drain(h Handler) (more bool, err error) {
	p.bulk.SetDeadline(time.Unix(1, 0))

	for range bulkAtOnce {
		err := p.bulk.ReadInto(&p.record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, nil
		}

		if err != nil {
			return false, fmt.Errorf("read the bulk ring buffer: %w", err)
		}

		if _, err := p.deliver(h, p.record.RawSample); err != nil {
			return false, err
		}
	}

	return true, nil
}

// deliver passes a record on, and returns when it was made.
func (p *Probe) deliver(h Handler, raw []byte) (madeNS uint64, err error) {
	record, err := p.decode.record(raw)
	if err != nil {
		return 0, err // the programs sent it: a bug, not bad input
	}

	p.delivered++

	madeNS = record.Header().BootNS // before the handler, which may keep or reuse it

	if r, ok := record.(kernel.OOMReturn); ok {
		p.repeats.saw(r)
	}

	return madeNS, h.Record(record)
}

// Stalls reads the counts of stalls. It returns nil if stalls are not traced, or if
// nothing stalled since the last reading, by this method or by Run.
func (p *Probe) Stalls() (*kernel.StallCounts, error) {
	if p.stalls == nil {
		return nil, nil
	}

	counts, err := p.stalls.read()
	if err != nil || counts == nil {
		return nil, err
	}

	now := kernel.BootNS()

	nodes, err := p.stalls.nodes(now)
	if err != nil {
		return nil, err
	}

	return &kernel.StallCounts{Meta: kernel.Meta{BootNS: now}, Counts: counts, Kswapd: nodes}, nil
}

// ForgetStalls deletes the counts of cgroups that are gone, to make room for others.
func (p *Probe) ForgetStalls(cgroups map[events.CgroupKey]bool) {
	if p.stalls != nil {
		p.stalls.forget(cgroups)
	}
}

// poll reads what the programs only count: lost records, stalls, and OOM invocations
// that killed nobody since the last one that was sent. Missed runs, which take a
// system call for each program, are read only sometimes, and the last time.
func (p *Probe) poll(h Handler, last bool) error {
	meta := kernel.Meta{BootNS: kernel.BootNS()}

	if err := p.pollLost(h, meta); err != nil {
		return err
	}

	if err := p.pollThrottled(h, meta); err != nil {
		return err
	}

	if p.polls++; last || p.polls%missesEvery == 0 {
		for program, count := range p.loader.missed() {
			lost := kernel.RecordsLost{
				Meta: meta, What: "missed run of " + program, Count: count, CgroupChanges: strings.HasPrefix(program, "cgroup_"),
			}
			if err := h.Record(lost); err != nil {
				return err
			}
		}
	}

	stalls, err := p.Stalls()
	if err != nil {
		return err
	}

	if stalls != nil {
		if err := h.Record(*stalls); err != nil {
			return err
		}
	}

	for _, r := range p.repeats.read(p.loader.maps["repeats"], meta) {
		if err := h.Record(r); err != nil {
			return err
		}
	}

	return nil
}

func (p *Probe) pollLost(h Handler, meta kernel.Meta) error {
	var raw [8 * len(p.lost)]byte
	if _, err := p.counts.ReadAt(raw[:], 0); err != nil {
		return fmt.Errorf("read the counts of lost records: %w", err)
	}

	for kind := range p.lost {
		count := binary.NativeEndian.Uint64(raw[8*kind:])
		if count == p.lost[kind] {
			continue
		}

		lost := kernel.RecordsLost{
			Meta: meta, What: lostNames[kind], Count: count - p.lost[kind], CgroupChanges: bpf.Kind(kind) == bpf.KindCgroupChange,
		}
		p.lost[kind] = count

		if err := h.Record(lost); err != nil {
			return err
		}
	}

	return nil
}

func (p *Probe) pollThrottled(h Handler, meta kernel.Meta) error {
	const size = int(unsafe.Sizeof(bpf.Throttled{}))

	var raw [size * len(p.throttled)]byte
	if _, err := p.throttles.ReadAt(raw[:], 0); err != nil {
		return fmt.Errorf("read the counts of throttled records: %w", err)
	}

	for kind := range p.throttled {
		w, err := as[bpf.Throttled](raw[size*kind : size*(kind+1)])
		if err != nil {
			return err
		}

		if w.Count == p.throttled[kind] {
			continue
		}

		lost := kernel.RecordsLost{
			Meta: meta, What: "throttled " + lostNames[kind], Count: w.Count - p.throttled[kind],
			Throttled: true, Tenant: key(p.hierarchy, w.Tenant), CgroupChanges: bpf.Kind(kind) == bpf.KindCgroupChange,
		}
		p.throttled[kind] = w.Count

		if err := h.Record(lost); err != nil {
			return err
		}
	}

	return nil
}
