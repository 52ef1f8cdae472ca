// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"sync"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/flight"
	"github.com/oomtrace/oomtrace/internal/host"
)

// splits reads what cgroups with stalls are charged for, for their samples of the flight
// recorder. The kernel sums up the counters of all CPUs for it (memory.stat), which may take
// milliseconds on a large machine, so a goroutine of its own does it. A sample whose split is not
// read in time has its usage alone.
type splits struct {
	layout host.Layout
	queue  chan splitRequest

	mu   sync.Mutex
	read []readSplit
}

// splitRequest requests the split of a cgroup for its sample of an instant.
type splitRequest struct {
	key    events.CgroupKey
	path   string
	bootNS uint64
}

type readSplit struct {
	splitRequest
	split *host.Split
}

func newSplits(layout host.Layout) *splits {
	return &splits{layout: layout, queue: make(chan splitRequest, samplesPerSecond)}
}

// run reads until ctx is done.
func (s *splits) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-s.queue:
			split := host.ReadSplit(s.layout, r.path)

			s.mu.Lock()
			s.read = append(s.read, readSplit{r, split})
			s.mu.Unlock()
		}
	}
}

// request does not wait: while the reading is late, samples go without.
func (s *splits) request(r splitRequest) {
	select {
	case s.queue <- r:
	default:
	}
}

// moveTo moves what was read since into the recorder, on whose goroutine it is called.
func (s *splits) moveTo(recorder *flight.Recorder) {
	s.mu.Lock()
	read := s.read
	s.read = nil
	s.mu.Unlock()

	for _, r := range read {
		recorder.Split(r.key, r.bootNS, r.split)
	}
}
