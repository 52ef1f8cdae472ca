// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"github.com/cilium/ebpf"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// repeatReader reads the counts of OOM invocations that killed nobody. The programs
// count each and send one a second; what they have not sent is read from their map,
// for a few polls after the last record.
type repeatReader struct {
	reported map[kernel.RepeatKey]uint64 // counts, by the last record or reading
	polls    int                         // left
}

const pollsAfterRecord = 5

// saw notes a record that the programs sent.
func (r *repeatReader) saw(record kernel.OOMReturn) {
	if record.Outcome == events.OutcomeKilled {
		return
	}

	r.polls = pollsAfterRecord

	if r.reported == nil {
		r.reported = make(map[kernel.RepeatKey]uint64)
	}

	r.reported[record.Key()] = record.Count
}

// read returns a record for each count that has grown since the last one.
func (r *repeatReader) read(repeats *ebpf.Map, m kernel.Meta) []kernel.OOMReturn {
	if r.polls == 0 {
		return nil
	}

	r.polls--

	var (
		records  []kernel.OOMReturn
		k        bpf.RepeatKey
		w        bpf.Repeat
		reported = make(map[kernel.RepeatKey]uint64)
	)

	for all := repeats.Iterate(); all.Next(&k, &w); {
		record := kernel.OOMReturn{
			Meta: m, Outcome: outcome(k.Outcome), Constraint: constraint(k.Constraint),
			Count: w.Count, FirstNS: w.FirstNS, LastNS: w.LastNS,
		}
		if k.Global == 0 {
			record.Limiter = key(k.Hierarchy, k.CgroupID)
		}

		before, seen := r.reported[record.Key()]
		if !seen {
			continue // its first record, which has more, is on its way
		}

		reported[record.Key()] = w.Count
		if before != w.Count {
			records = append(records, record)
		}
	}

	r.reported = reported

	return records
}
