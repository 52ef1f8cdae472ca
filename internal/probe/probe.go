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
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// Options select what is loaded.
type Options struct {
	// Tier forces the attach mode in which the choice of a victim is observed; empty
	// selects the best one.
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
	tier   events.Tier
	hooks  []events.Hook
	loader *loader
	urgent *ringbuf.Reader
	bulk   *ringbuf.Reader
	decode decoder
	counts *ebpf.Memory          // of lost records, by the programs
	lost   [bpf.KindCount]uint64 // of them, as already reported
	polls  int

	repeats repeatReader
	stalls  *stallReader // nil if stalls are not traced
}

// Open loads and attaches the programs. It fails only if kills cannot be observed at
// all, or the forced attach mode is not supported; Hooks lists everything else that
// failed. The caller must close the probe.
func Open(opts Options) (*Probe, error) {
	// Before 5.11 the kernel counts BPF memory against RLIMIT_MEMLOCK.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise RLIMIT_MEMLOCK: %w: run as root or with CAP_SYS_RESOURCE", err)
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

	l.types, l.specs = nil, nil // tens of MiB

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
		return nil, fmt.Errorf("open the ring buffers: %w", err)
	}

	return p, nil
}

// Tier returns the attach mode in which the choice of a victim is observed.
func (p *Probe) Tier() events.Tier { return p.tier }

// Hooks returns how each hook is attached, and why not in a better mode.
func (p *Probe) Hooks() []events.Hook { return p.hooks }

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
	// Idle is called at least every 100 ms, with CLOCK_BOOTTIME. caughtUp is true if
	// the urgent ring was empty. It returns for how long the probe may sleep if
	// nothing happens.
	Idle(bootNS uint64, caughtUp bool) (time.Duration, error)
}

const (
	bulkEvery     = 100 * time.Millisecond
	countersEvery = time.Second
	missesEvery   = 10 // polls
)

// Run reads until ctx is done, and then the rest of both rings. It returns the
// handler's error, if any.
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
			return fmt.Errorf("read the ring buffer: %w", err)
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
		if sleep, err = h.Idle(kernel.BootNS(), caughtUp); err != nil || ctx.Err() != nil && caughtUp && !more {
			return err
		}

		if sleep = min(sleep, bulkEvery); more {
			sleep = 0
		}
	}
}

// The number of records that are read from one ring before the other has its turn: a
// few hundred microseconds. A flood never ends by itself.
const (
	urgentAtOnce = 64
	bulkAtOnce   = 1024
)

// drain reads from the bulk ring without waiting, and returns whether there may be more.
func (p *Probe) drain(h Handler) (more bool, err error) {
	var rec ringbuf.Record

	p.bulk.SetDeadline(time.Unix(1, 0))

	for range bulkAtOnce {
		err := p.bulk.ReadInto(&rec)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, nil
		}

		if err != nil {
			return false, fmt.Errorf("read the bulk ring buffer: %w", err)
		}

		if err := p.deliver(h, rec.RawSample); err != nil {
			return false, err
		}
	}

	return true, nil
}

func (p *Probe) deliver(h Handler, raw []byte) error {
	record, err := p.decode.record(raw)
	if err != nil {
		return err // the programs sent it: a bug, not bad input
	}

	if r, ok := record.(kernel.OOMReturn); ok {
		p.repeats.saw(r)
	}

	return h.Record(record)
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

	var raw [8 * len(p.lost)]byte
	if _, err := p.counts.ReadAt(raw[:], 0); err != nil {
		return fmt.Errorf("read the counts of lost records: %w", err)
	}

	for kind := range p.lost {
		count := binary.NativeEndian.Uint64(raw[8*kind:])
		if count == p.lost[kind] {
			continue
		}

		lost := kernel.RecordsLost{Meta: meta, What: lostNames[kind], Count: count - p.lost[kind]}
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

	for _, r := range p.repeats.read(p.loader.maps["repeats"], meta) {
		if err := h.Record(r); err != nil {
			return err
		}
	}

	return nil
}
