// SPDX-License-Identifier: Apache-2.0

// Package probe is the kernel side as Go sees it: it loads the programs, picks
// for each hook the best way that this kernel takes, reads the ring buffers and
// turns wire records into records of package events. With bpf/ it is the only
// user of cilium/ebpf.
package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// Options say what to load.
type Options struct {
	// Tier forces the way in which the decision is seen; empty takes the best.
	Tier events.Tier
	// MemoryHierarchy is the hierarchy with the memory controller, 0 for cgroup v2.
	MemoryHierarchy uint32
	PageSize        uint64 // bytes
	// Address finds the kernel's data by its symbol; nil finds none. Some counters
	// are exact, or known at all, only with it: see DataSymbols.
	Address func(symbol string) (address uint64, ok bool)
	// Stalls also attaches to where tasks stall for memory.
	Stalls bool
	// MinStall is how long a stall must be to be told by itself.
	MinStall time.Duration
}

// DataSymbols are those that Options.Address is asked for. The constants of the
// programs have the same names.
var DataSymbols = []string{"__per_cpu_offset", "mem_cgroup_stats_index"}

// ErrNoBTF says that the kernel does not describe its types.
var ErrNoBTF = errors.New("this kernel has no BTF (/sys/kernel/btf/vmlinux): it needs CONFIG_DEBUG_INFO_BTF=y")

// Probe is a set of attached programs. It belongs to one goroutine; only Close
// of its context may come from another.
type Probe struct {
	tier   events.Tier
	hooks  []events.Hook
	loader *loader
	urgent *ringbuf.Reader
	bulk   *ringbuf.Reader
	decode decoder
	fast   stallDecoder
	counts *ebpf.Memory                           // of lost records, as the kernel side counts them
	lost   [bpf.OomtraceWireKindWIRE_KINDS]uint64 // as they were told
	polls  int
	folds  foldPoll
	stalls *stallReader // nil: not asked for
}

// Open loads and attaches. It returns an error only if kills cannot be seen at
// all, or the forced tier is not to be had; lesser gaps are in Hooks.
func Open(opts Options) (*Probe, error) {
	// Before 5.11 the kernel counts BPF memory against RLIMIT_MEMLOCK.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raising RLIMIT_MEMLOCK: %w: run as root, or with CAP_SYS_RESOURCE", err)
	}

	l, err := newLoader(opts)
	if err != nil {
		return nil, err
	}

	p := &Probe{loader: l, decode: decoder{pageSize: opts.PageSize}}
	if err := p.attach(opts.Tier, opts.Stalls); err != nil {
		p.Close()
		return nil, err
	}

	l.types = nil // tens of MiB
	if p.urgent, err = ringbuf.NewReader(l.maps["urgent"]); err == nil {
		p.bulk, err = ringbuf.NewReader(l.maps["bulk"])
	}

	if err == nil {
		p.counts, err = l.maps["lost"].Memory()
	}

	if err == nil {
		p.stalls, err = newStallReader(l)
	}

	if err != nil {
		p.Close()
		return nil, fmt.Errorf("opening the ring buffers: %w", err)
	}

	return p, nil
}

// Tier tells how decisions are seen.
func (p *Probe) Tier() events.Tier { return p.tier }

// Hooks tells how each hook is attached, and what keeps it from a better way.
func (p *Probe) Hooks() []events.Hook { return p.hooks }

// Close detaches everything.
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

// Handler takes what the probe reads. Its methods are called from the goroutine
// of Run.
type Handler interface {
	// Record takes a record. A stall comes as a pointer, valid until it returns.
	Record(kernel.Record) error
	// Idle comes now and then, with CLOCK_BOOTTIME. caughtUp says that the urgent
	// ring was empty. It returns how long the probe may sleep at most if nothing
	// happens.
	Idle(bootNS uint64, caughtUp bool) (time.Duration, error)
}

const (
	bulkEvery     = 100 * time.Millisecond
	countersEvery = time.Second
	missesEvery   = 10 // polls
)

// Run reads until ctx is done, and then what is left in the rings. It returns
// the handler's error, if any.
func (p *Probe) Run(ctx context.Context, h Handler) error {
	stop := context.AfterFunc(ctx, func() { p.urgent.Flush() })
	defer stop()

	var (
		rec      ringbuf.Record
		sleep    = bulkEvery
		bulk     time.Time
		counters = time.Now()
		turn     int
	)
	for {
		now := time.Now()
		p.urgent.SetDeadline(now.Add(sleep))
		err := p.urgent.ReadInto(&rec)

		caughtUp := err != nil
		switch {
		case err == nil:
			if err := p.deliver(h, rec.RawSample); err != nil {
				return err
			}

			if turn++; turn%urgentAtOnce != 0 || now.Sub(bulk) < bulkEvery {
				continue // a flood of urgent records must not starve the rest
			}
		case errors.Is(err, ringbuf.ErrFlushed):
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("reading the ring buffer: %w", err)
		}
		now = time.Now()

		more := false
		if now.Sub(bulk) >= bulkEvery || ctx.Err() != nil {
			if more, err = p.drain(h); err != nil {
				return err
			}

			if !more {
				bulk = now
			}
		}

		if ending := ctx.Err() != nil && caughtUp && !more; ending || now.Sub(counters) >= countersEvery {
			counters = now

			if err := p.poll(h, ending); err != nil {
				return err
			}
		}
		// The end is reached when both rings are empty.
		if sleep, err = h.Idle(BootNS(), caughtUp); err != nil || ctx.Err() != nil && caughtUp && !more {
			return err
		}

		if sleep = min(sleep, bulkEvery); more {
			sleep = 0
		}
	}
}

// How many records of one ring are read before the other has its turn: some hundred
// microseconds' worth. A flood never ends by itself.
const (
	urgentAtOnce = 64
	bulkAtOnce   = 1024
)

// drain reads the bulk ring without waiting. It tells whether there is more.
func (p *Probe) drain(h Handler) (more bool, err error) {
	var rec ringbuf.Record

	p.bulk.SetDeadline(time.Unix(1, 0))

	for range bulkAtOnce {
		err := p.bulk.ReadInto(&rec)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, nil
		}

		if err != nil {
			return false, fmt.Errorf("reading the bulk ring buffer: %w", err)
		}

		if err := p.deliver(h, rec.RawSample); err != nil {
			return false, err
		}
	}

	return true, nil
}

func (p *Probe) deliver(h Handler, raw []byte) error {
	if head, err := as[bpf.OomtraceWireHeader](raw); err == nil && bpf.OomtraceWireKind(head.Kind) == bpf.OomtraceWireKindWIRE_STALL {
		if w, err := as[bpf.StallsWireStall](raw); err == nil {
			return h.Record(p.fast.decode(w))
		}
	}

	record, err := p.decode.record(raw)
	if err != nil {
		return err // our own programs sent it: a bug, not an input
	}

	if pass, ok := record.(kernel.OOMReturn); ok {
		p.folds.saw(pass)
	}

	return h.Record(record)
}

// Stalls reads the counts of stalls. It returns nil where nothing stalled since the
// last reading, whoever made it.
func (p *Probe) Stalls() (*kernel.StallCounts, error) {
	if p.stalls == nil {
		return nil, nil
	}

	counts, err := p.stalls.read()
	if err != nil || counts == nil {
		return nil, err
	}
	now := BootNS()

	nodes, err := p.stalls.nodes(now)
	if err != nil {
		return nil, err
	}

	return &kernel.StallCounts{Meta: kernel.Meta{BootNS: now}, Counts: counts, Kswapd: nodes}, nil
}

// ForgetStalls drops the counts of cgroups that are gone, to make room for others.
func (p *Probe) ForgetStalls(cgroups map[events.CgroupKey]bool) {
	if p.stalls != nil {
		p.stalls.forget(cgroups)
	}
}

// poll reads what the kernel side only counts: lost records, and the passes
// that were folded since the last one that was sent. The last time, it asks for all.
func (p *Probe) poll(h Handler, last bool) error {
	meta := kernel.Meta{BootNS: BootNS()}

	var raw [8 * len(p.lost)]byte
	if _, err := p.counts.ReadAt(raw[:], 0); err != nil {
		return fmt.Errorf("reading the counts of lost records: %w", err)
	}

	for kind := range p.lost {
		count := binary.NativeEndian.Uint64(raw[8*kind:])
		if count == p.lost[kind] {
			continue
		}
		lost := kernel.RecordsLost{Meta: meta, What: lostName(bpf.OomtraceWireKind(kind)), Count: count - p.lost[kind]}

		p.lost[kind] = count
		if err := h.Record(lost); err != nil {
			return err
		}
	}

	if p.polls++; last || p.polls%missesEvery == 0 {
		for what, count := range p.loader.missed() {
			if err := h.Record(kernel.RecordsLost{Meta: meta, What: what, Count: count}); err != nil {
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

	for _, pass := range p.folds.poll(p.loader.maps["folds"], meta) {
		if err := h.Record(pass); err != nil {
			return err
		}
	}

	return nil
}
