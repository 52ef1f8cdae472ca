// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// stallKinds are the kinds by the kernel side's number.
var stallKinds = [...]events.StallKind{
	bpf.StallsWireStallKindWIRE_MEMCG_RECLAIM:  events.StallMemcgReclaim,
	bpf.StallsWireStallKindWIRE_DIRECT_RECLAIM: events.StallDirectReclaim,
	bpf.StallsWireStallKindWIRE_NODE_RECLAIM:   events.StallNodeReclaim,
	bpf.StallsWireStallKindWIRE_MEMORY_HIGH:    events.StallMemoryHigh,
	bpf.StallsWireStallKindWIRE_COMPACTION:     events.StallCompaction,
	bpf.StallsWireStallKindWIRE_THROTTLE:       events.StallThrottle,
	bpf.StallsWireStallKindWIRE_AFTER_KILL:     events.StallAfterKill,
}

func stallKind(number uint32) events.StallKind {
	if int(number) < len(stallKinds) {
		return stallKinds[number]
	}

	return events.StallKind(fmt.Sprintf("kind_%d", number))
}

func (d decoder) stall(w *bpf.StallsWireStall) kernel.Stall { return namedStall(w, commName) }

func namedStall(w *bpf.StallsWireStall, name func(*comm) string) kernel.Stall {
	task := bpf.OomtraceWireTask(w.H.CurrentTask)

	return kernel.Stall{
		Meta: kernel.Meta{BootNS: w.H.BootNs, Pass: w.H.Pass, Current: namedTask(&task, name)}, What: stallKind(w.Kind), DurationNS: w.DurationNs, ReclaimedPages: w.ReclaimedPages,
		Owner: owner(w.Hierarchy, w.OwnerId),
	}
}

// stallDecoder decodes stalls without allocating: they can come by the ten thousand,
// of the same few tasks.
type stallDecoder struct {
	stall kernel.Stall
	names [64]struct {
		comm comm
		text string
	}
}

// decode gives a stall that is valid until the next one.
func (d *stallDecoder) decode(w *bpf.StallsWireStall) *kernel.Stall {
	d.stall = namedStall(w, d.name)
	return &d.stall
}

func (d *stallDecoder) name(c *comm) string {
	var sum uint8
	for _, char := range c {
		sum = sum*31 + uint8(char)
	}

	known := &d.names[sum%uint8(len(d.names))]
	if known.comm != *c {
		known.comm, known.text = *c, commName(c)
	}

	return known.text
}

// stallMeta is meta of the second object, whose header has another name in Go.
func stallMeta(w *bpf.StallsWireHeader) kernel.Meta {
	return meta(&bpf.OomtraceWireHeader{
		Kind: w.Kind, Cpu: w.Cpu, BootNs: w.BootNs, Pass: w.Pass, CurrentTask: bpf.OomtraceWireTask(w.CurrentTask),
	})
}

func (d decoder) gaveUp(w *bpf.StallsWireGaveUp) kernel.GaveUp {
	out := kernel.GaveUp{Meta: stallMeta(&w.H)}
	if w.ReclaimNs != 0 {
		out.Reclaim = &kernel.ReclaimRetry{
			BootNS: w.ReclaimNs, Order: w.Order, Zone: name(w.Zone[:]), Node: w.Node,
			ReclaimablePages: w.ReclaimablePages, AvailablePages: w.AvailablePages, MinWatermarkPages: w.MinWatermarkPages,
			NoProgressLoops: w.NoProgressLoops, WatermarkOK: w.WatermarkOk != 0,
		}
	}

	if w.CompactNs != 0 {
		out.Compact = &kernel.CompactRetry{
			BootNS: w.CompactNs, Order: w.CompactOrder, Priority: w.CompactPriority, Result: compactResult(w.CompactResult),
			Retries: w.CompactRetries, MaxRetries: w.CompactMaxRetries, Again: w.CompactAgain != 0,
		}
	}

	return out
}

// compactResults are the kernel's numbers (include/linux/compaction.h: enum
// compact_result, the same from 5.10 to 7.x).
var compactResults = [...]string{
	"not_suitable_zone", "skipped", "deferred", "no_suitable_page", "continue", "complete", "partial_skipped", "contended", "success",
}

func compactResult(number uint32) string {
	if int(number) < len(compactResults) {
		return compactResults[number]
	}

	return fmt.Sprintf("result_%d", number)
}

// stallReader reads the counts of stalls. Where nothing stalled since the last
// reading it asks the kernel for nothing.
type stallReader struct {
	counts   *ebpf.Map
	activity *ebpf.Memory
	kswapd   *ebpf.Map
	values   []bpf.StallsWireStalls // of one key, by CPU; kept for the next
}

func newStallReader(l *loader) (*stallReader, error) {
	m := l.maps["stalls"]
	if m == nil {
		return nil, nil
	}

	activity, err := l.maps["stall_activity"].Memory()
	if err != nil {
		return nil, fmt.Errorf("mapping the activity of stalls: %w", err)
	}

	return &stallReader{counts: m, activity: activity, kswapd: l.maps["kswapd"]}, nil
}

// read returns nil where nothing stalled since the last time.
func (r *stallReader) read() (map[kernel.StallKey]kernel.StallCount, error) {
	var word [8]byte
	if _, err := r.activity.ReadAt(word[:], 0); err != nil {
		return nil, fmt.Errorf("reading the activity of stalls: %w", err)
	}

	if binary.NativeEndian.Uint64(word[:]) == 0 {
		return nil, nil
	}
	// Cleared first: what stalls from here on is seen now or the next time.
	if _, err := r.activity.WriteAt(make([]byte, 8), 0); err != nil {
		return nil, fmt.Errorf("clearing the activity of stalls: %w", err)
	}
	counts := make(map[kernel.StallKey]kernel.StallCount)
	var k bpf.StallsWireStallKey

	all := r.counts.Iterate()
	for all.Next(&k, &r.values) {
		sum := kernel.StallCount{}

		for i := range r.values {
			v := &r.values[i]
			sum.Count += v.Count
			sum.Fruitless += v.Fruitless
			sum.TotalNS += v.TotalNs
			sum.MaxNS = max(sum.MaxNS, v.MaxNs)

			sum.ReclaimedPages += v.ReclaimedPages
			for b := range v.Buckets {
				sum.Buckets[b] += v.Buckets[b]
			}
		}
		counts[kernel.StallKey{
			Cgroup: key(k.Hierarchy, k.CgroupId), Owner: owner(k.Hierarchy, k.OwnerId), What: stallKind(k.Kind),
		}] = sum
	}
	// Aborted: keys were deleted meanwhile; the next second has the rest.
	if err := all.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return nil, fmt.Errorf("reading the counts of stalls: %w", err)
	}

	return counts, nil
}

// nodes reads what kswapd did on each NUMA node; it works by itself.
func (r *stallReader) nodes(nowNS uint64) (map[int]kernel.KswapdCount, error) {
	nodes := make(map[int]kernel.KswapdCount)
	var node uint32
	var w bpf.StallsWireKswapd

	all := r.kswapd.Iterate()
	for all.Next(&node, &w) {
		count := kernel.KswapdCount{Wakeups: w.Wakeups, AwakeNS: w.AwakeNs}
		if w.AwakeSinceNs != 0 {
			count.AwakeNS += nowNS - min(w.AwakeSinceNs, nowNS)
		}
		nodes[int(node)] = count
	}

	if err := all.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return nil, fmt.Errorf("reading what kswapd did: %w", err)
	}

	return nodes, nil
}

// owner is zero where none is known.
func owner(hierarchy uint32, id uint64) events.CgroupKey {
	if id == 0 {
		return events.CgroupKey{}
	}

	return key(hierarchy, id)
}

// forget makes room for other cgroups.
func (r *stallReader) forget(cgroups map[events.CgroupKey]bool) {
	var gone []bpf.StallsWireStallKey

	var k bpf.StallsWireStallKey
	for all := r.counts.Iterate(); all.Next(&k, &r.values); {
		if cgroups[key(k.Hierarchy, k.CgroupId)] {
			gone = append(gone, k)
		}
	}

	for _, k := range gone {
		_ = r.counts.Delete(k) // not there is as good
	}
}
