// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/oomtrace/oomtrace/internal/diagnose"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kubelet"
	"github.com/oomtrace/oomtrace/internal/oom"
)

const (
	// maxListed bounds the shares and the candidates of an incident.
	maxListed = 10
	// candidatesTimeout bounds the time for reading all processes, which is slow on a node
	// that is out of memory.
	candidatesTimeout = 500 * time.Millisecond
	// maxSamples is how many kills may wait to be sampled.
	maxSamples = 256
)

// hostState is the enricher that samples the node after a kill: shares of the limit, other
// candidates, the state of the node, and its distance to an eviction. Reading files is
// slow on a node that is out of memory, so a goroutine of its own does it.
type hostState struct {
	reader  host.Reader
	kubelet *kubelet.EvictionTracker // nil: no kubelet on this node
	queue   chan sampleRequest
	closing sync.Once     // of the queue
	done    chan struct{} // closed when run has returned
	// processesHidden is true if /proc is not that of the machine: it has no candidates.
	processesHidden bool

	// The last samples belong to run.
	shares     samples[shares]
	candidates samples[*host.Candidates]
	states     samples[*events.NodeState]

	mu    sync.Mutex
	found []finding

	refused uint64
}

// sampleRequest requests a sample for a kill or, without an incident, a sample of the
// kubelet's eviction signals.
type sampleRequest struct {
	inc *events.Incident
	at  time.Time
}

func newHostState(reader host.Reader, watch *kubelet.EvictionTracker) *hostState {
	return &hostState{reader: reader, kubelet: watch, queue: make(chan sampleRequest, maxSamples), done: make(chan struct{})}
}

// run samples until the queue is closed or ctx is done.
func (h *hostState) run(ctx context.Context) {
	defer close(h.done)

	for r := range h.queue {
		switch {
		case ctx.Err() != nil:
			return
		case r.inc == nil:
			h.kubelet.Sample(r.at)
		default:
			change := h.sample(ctx, r)

			h.mu.Lock()
			h.found = append(h.found, finding{change, true})
			h.mu.Unlock()
		}
	}
}

// close makes run return after the waiting requests, or at once if its context is done.
func (h *hostState) close() { h.closing.Do(func() { close(h.queue) }) }

// finish closes the queue, and reports whether all requests were answered in time.
func (h *hostState) finish(timeout time.Duration) bool {
	h.close()

	select {
	case <-h.done:
		return true
	case <-time.After(timeout):
		return false
	}
}

func (h *hostState) start(inc *events.Incident) bool {
	if !diagnose.Explicable(inc) {
		return false
	}

	select {
	case h.queue <- sampleRequest{inc, inc.Time}:
		return true
	default:
		h.refused++
		return false
	}
}

// findings returns one finding at a time while records wait to be read: reporting it takes
// time that a verdict may need.
func (h *hostState) findings(_ uint64, quiet bool) []finding {
	h.mu.Lock()
	defer h.mu.Unlock()

	n := len(h.found)
	if !quiet {
		n = min(n, 1)
	}

	found := slices.Clone(h.found[:n])
	h.found = slices.Delete(h.found, 0, n)

	return found
}

func (h *hostState) dropped() (string, uint64) { return events.LostHostState, h.refused }

// sampleKubelet requests a sample of the kubelet's eviction signals, unless the queue is
// full.
func (h *hostState) sampleKubelet(now time.Time) {
	if h.kubelet == nil {
		return
	}

	select {
	case h.queue <- sampleRequest{at: now}:
	default:
	}
}

// sample completes an incident. In a burst, kills wait for their sample while another one
// is taken: a sample that began after a kill serves it as well as one of its own.
func (h *hostState) sample(ctx context.Context, r sampleRequest) *events.Incident {
	inc := r.inc
	change := &events.Incident{ID: inc.ID}

	path := ""
	if inc.Limiter != nil && inc.Limiter.Cgroup != nil {
		path = inc.Limiter.Cgroup.Path
	}

	if path != "" {
		s, began := h.shares.after(r.at, path, func() shares {
			list, leftOut := h.reader.Shares(path, maxListed)
			return shares{list, leftOut}
		})
		change.Shares, change.SharesLeftOut = s.list, s.leftOut

		if len(s.list) > 0 {
			change.SharesAfterNS = sinceKill(began, r.at)
		}
	}

	if !h.processesHidden && inc.Scope != events.ScopeUser && (path != "" || inc.Scope != events.ScopeMemcg) {
		c, began := h.candidates.after(r.at, path, func() *host.Candidates { return h.readCandidates(ctx, path) })
		if c != nil {
			change.Candidates = withVictims(inc, c.List, c.TotalPages, uint64(host.PageSize()))
			change.CandidatesLeftOut = c.LeftOut + c.Unread

			if len(change.Candidates) > 0 {
				change.CandidatesAfterNS = sinceKill(began, r.at)
			}
		}
	}

	if state, began := h.states.after(r.at, "", h.reader.State); state != nil {
		own := *state
		own.AfterNS = sinceKill(began, r.at)
		change.NodeState = &own
	}

	change.Eviction = h.kubelet.Eviction(r.at, evictionFailed(inc))

	return change
}

// sinceKill is the time from a kill to a reading.
func sinceKill(read, kill time.Time) *uint64 { return new(uint64(max(read.Sub(kill), 0))) }

type shares struct {
	list    []events.Share
	leftOut int
}

// readCandidates returns nil if the processes cannot be read, or not in time.
func (h *hostState) readCandidates(ctx context.Context, path string) *host.Candidates {
	bounded, cancel := context.WithTimeout(ctx, candidatesTimeout)
	defer cancel()

	c, err := h.reader.Candidates(bounded, path, maxListed)
	if err != nil {
		return nil
	}

	return &c
}

// samples keeps the last sample of each cgroup. The zero value is ready.
type samples[T any] struct{ last map[string]timedSample[T] }

type timedSample[T any] struct {
	began time.Time
	value T
}

// maxKeptSamples bounds the cgroups whose last samples are kept.
const maxKeptSamples = 64

// after returns the last sample of a cgroup if it began after an instant, else a new one;
// and when it began.
func (s *samples[T]) after(at time.Time, path string, read func() T) (T, time.Time) {
	if kept, ok := s.last[path]; ok && !kept.began.Before(at) {
		return kept.value, kept.began
	}

	if s.last == nil || len(s.last) >= maxKeptSamples {
		s.last = make(map[string]timedSample[T])
	}
	began := time.Now()
	value := read()
	s.last[path] = timedSample[T]{began, value}

	return value, began
}

// evictionFailed reports whether the kubelet should have prevented the kill by evicting a
// pod: the node, or the limit of all its pods, was out of memory.
func evictionFailed(inc *events.Incident) bool {
	return inc.Scope == events.ScopeGlobal || inc.Limiter != nil && inc.Limiter.Level == events.LevelKubepods
}

// withVictims merges the victims into the candidates that are still alive, by points.
func withVictims(inc *events.Incident, alive []events.Candidate, totalPages, pageBytes uint64) []events.Candidate {
	var all []events.Candidate

	dead := make(map[int]bool)
	for _, v := range inc.Victims {
		dead[v.PID] = true

		c := events.Candidate{
			Process: v.Process, Victim: true,
			AnonRSSBytes: v.AnonRSSBytes, FileRSSBytes: v.FileRSSBytes, ShmemRSSBytes: v.ShmemRSSBytes,
			SwapBytes: v.SwapBytes, PgtablesBytes: v.PgtablesBytes, OOMScoreAdj: v.OOMScoreAdj, Points: v.Points,
		}
		if c.Points == nil && v.AnonRSSBytes != nil && v.OOMScoreAdj != nil && totalPages > 0 {
			var bytes uint64

			for _, part := range []*uint64{v.AnonRSSBytes, v.FileRSSBytes, v.ShmemRSSBytes, v.SwapBytes, v.PgtablesBytes} {
				if part != nil {
					bytes += *part
				}
			}
			points := oom.Badness(bytes/pageBytes, *v.OOMScoreAdj, totalPages)
			c.Points = &points
		}
		all = append(all, c)
	}

	for _, c := range alive {
		if !dead[c.PID] {
			all = append(all, c)
		}
	}
	points := func(c events.Candidate) int64 {
		switch {
		case c.Unkillable:
			return -1 << 62 // last
		case c.Points == nil:
			return -1 << 61
		}

		return *c.Points
	}

	slices.SortStableFunc(all, func(a, b events.Candidate) int { return cmp.Compare(points(b), points(a)) })

	return all
}
