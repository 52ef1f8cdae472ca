// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
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

func (d decoder) stall(w *bpf.StallsWireStall) events.Stall {
	// The two objects have the same header, under two names.
	h := bpf.OomtraceWireHeader{Kind: w.H.Kind, Cpu: w.H.Cpu, BootNs: w.H.BootNs, Pass: w.H.Pass}
	h.CurrentTask = bpf.OomtraceWireTask(w.H.CurrentTask)
	return events.Stall{
		Meta: meta(&h), What: stallKind(w.Kind), DurationNS: w.DurationNs, ReclaimedPages: w.ReclaimedPages,
		Owner: owner(w.Hierarchy, w.OwnerId),
	}
}

// stallReader reads the counts of stalls. Where nothing stalled since the last
// reading it asks the kernel for nothing.
type stallReader struct {
	counts   *ebpf.Map
	activity *ebpf.Memory
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
	return &stallReader{counts: m, activity: activity}, nil
}

// read returns nil where nothing stalled since the last time.
func (r *stallReader) read() (map[events.StallKey]events.StallCount, error) {
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
	counts := make(map[events.StallKey]events.StallCount)
	var k bpf.StallsWireStallKey
	all := r.counts.Iterate()
	for all.Next(&k, &r.values) {
		sum := events.StallCount{}
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
		counts[events.StallKey{
			Cgroup: key(k.Hierarchy, k.CgroupId), Owner: owner(k.Hierarchy, k.OwnerId), What: stallKind(k.Kind),
		}] = sum
	}
	// Aborted: keys were deleted meanwhile; the next second has the rest.
	if err := all.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return nil, fmt.Errorf("reading the counts of stalls: %w", err)
	}
	return counts, nil
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
