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

// stallReader reads the counts of stalls. If nothing stalled since the last reading it
// makes no system call.
type stallReader struct {
	counts   *ebpf.Map
	activity *ebpf.Memory
	kswapd   *ebpf.Map
	values   []bpf.StallCount // of one key, by CPU; reused
}

// newStallReader returns nil if stalls are not traced.
func newStallReader(l *loader) (*stallReader, error) {
	counts := l.maps["stalls"]
	if counts == nil {
		return nil, nil
	}

	activity, err := l.maps["stall_activity"].Memory()
	if err != nil {
		return nil, fmt.Errorf("map the activity of stalls: %w", err)
	}

	return &stallReader{counts: counts, activity: activity, kswapd: l.maps["kswapd"]}, nil
}

// read returns nil if nothing stalled since the last time.
func (r *stallReader) read() (map[kernel.StallKey]kernel.StallCount, error) {
	var word [8]byte
	if _, err := r.activity.ReadAt(word[:], 0); err != nil {
		return nil, fmt.Errorf("read the activity of stalls: %w", err)
	}

	if binary.NativeEndian.Uint64(word[:]) == 0 {
		return nil, nil
	}

	// Cleared before the counts are read: a stall from here on is in them, or sets it again.
	if _, err := r.activity.WriteAt(make([]byte, 8), 0); err != nil {
		return nil, fmt.Errorf("clear the activity of stalls: %w", err)
	}

	counts := make(map[kernel.StallKey]kernel.StallCount)

	var k bpf.StallKey

	all := r.counts.Iterate()
	for all.Next(&k, &r.values) {
		var sum kernel.StallCount

		for i := range r.values {
			v := &r.values[i]
			sum.Count += v.Count
			sum.NoProgress += v.NoProgress
			sum.TotalNS += v.TotalNS
			sum.MaxNS = max(sum.MaxNS, v.MaxNS)
			sum.ReclaimedPages += v.ReclaimedPages

			for b := range v.Buckets {
				sum.Buckets[b] += v.Buckets[b]
			}
		}

		counts[kernel.StallKey{
			Cgroup: key(k.Hierarchy, k.CgroupID), Owner: limitOwner(k.Hierarchy, k.OwnerID), What: stallKind(k.Kind),
		}] = sum
	}

	// Aborted if keys were deleted in the meantime; the next reading has the rest.
	if err := all.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return nil, fmt.Errorf("read the counts of stalls: %w", err)
	}

	return counts, nil
}

// nodes reads the activity of kswapd on each NUMA node, up to nowNS of CLOCK_BOOTTIME.
func (r *stallReader) nodes(nowNS uint64) (map[int]kernel.KswapdCount, error) {
	nodes := make(map[int]kernel.KswapdCount)

	var (
		node uint32
		w    bpf.Kswapd
	)

	all := r.kswapd.Iterate()
	for all.Next(&node, &w) {
		count := kernel.KswapdCount{Wakeups: w.Wakeups, AwakeNS: w.AwakeNS}
		if w.AwakeSinceNS != 0 {
			count.AwakeNS += nowNS - min(w.AwakeSinceNS, nowNS)
		}

		nodes[int(node)] = count
	}

	if err := all.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return nil, fmt.Errorf("read the activity of kswapd: %w", err)
	}

	return nodes, nil
}

// forget deletes the counts of cgroups, to make room for others.
func (r *stallReader) forget(cgroups map[events.CgroupKey]bool) {
	var (
		gone []bpf.StallKey
		k    bpf.StallKey
	)

	for all := r.counts.Iterate(); all.Next(&k, &r.values); {
		if cgroups[key(k.Hierarchy, k.CgroupID)] {
			gone = append(gone, k)
		}
	}

	for _, k := range gone {
		_ = r.counts.Delete(k) // it fails only if the key is already gone
	}
}
