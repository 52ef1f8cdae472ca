// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kubelet"
)

const (
	// listed is how many shares and candidates an incident gets.
	listed = 10
	// lookTimeout bounds a look at the processes: on a node without memory reading
	// may take long.
	lookTimeout = 500 * time.Millisecond
	// maxLooks is how many kills may wait to be looked after.
	maxLooks = 64
)

// aftermath looks at the node after a kill: who had how much of the limit, who else
// could have died, the state of the node, how far it was from an eviction. Reading
// files may take long on a node that is out of memory, so it has a goroutine of its
// own; the tracer hands kills to it without waiting and takes what it found.
type aftermath struct {
	reader  host.Reader
	kubelet *kubelet.EvictionTracker // nil: no kubelet here
	queue   chan look
	found   chan *events.Incident // updates without their envelope
}

// look is one at a kill; the zero look samples for the kubelet's watch.
type look struct {
	inc *events.Incident
	at  time.Time
}

func newAftermath(reader host.Reader, watch *kubelet.EvictionTracker) *aftermath {
	a := &aftermath{
		reader: reader, kubelet: watch,
		queue: make(chan look, maxLooks), found: make(chan *events.Incident, 2*maxLooks),
	}
	go func() {
		defer close(a.found)

		for l := range a.queue {
			if l.inc == nil {
				a.kubelet.Sample(l.at)
				continue
			}

			a.found <- a.look(l)
		}
	}()

	return a
}

// after has a kill looked after; false: too many are waiting.
func (a *aftermath) after(inc *events.Incident) bool {
	select {
	case a.queue <- look{inc, inc.Time}:
		return true
	default:
		return false
	}
}

// sample lets the kubelet's watch look, if there is time.
func (a *aftermath) sample(now time.Time) {
	if a.kubelet == nil {
		return
	}

	select {
	case a.queue <- look{at: now}:
	default:
	}
}

func (a *aftermath) look(l look) *events.Incident {
	inc := l.inc
	u := &events.Incident{ID: inc.ID}

	path := ""
	if inc.Limiter != nil && inc.Limiter.Cgroup != nil {
		path = inc.Limiter.Cgroup.Path
	}

	if path != "" {
		u.Shares, u.SharesLeftOut = a.reader.Shares(path, listed)
	}

	if inc.Scope != events.ScopeUser && (path != "" || inc.Scope != events.ScopeMemcg) {
		ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
		c, err := a.reader.Candidates(ctx, path, listed)

		cancel()

		if err == nil {
			u.Candidates = withVictims(inc, c.List, c.TotalPages, uint64(host.PageSize()))
			u.CandidatesLeftOut = c.LeftOut + c.Unread
		}
	}

	if u.NodeState = a.reader.State(); u.NodeState != nil {
		ns := uint64(max(time.Since(l.at), 0))
		u.NodeState.AfterNS = &ns
	}
	u.Eviction = a.kubelet.Eviction(l.at, evictionFailed(inc))

	return u
}

// evictionFailed tells of a shortage that the kubelet should have prevented: of the
// node, or of all its pods.
func evictionFailed(inc *events.Incident) bool {
	return inc.Scope == events.ScopeGlobal || inc.Limiter != nil && inc.Limiter.Level == events.LevelKubepods
}

// withVictims puts the victims among the processes that still live, by their points.
func withVictims(inc *events.Incident, living []events.Candidate, totalPages, pageBytes uint64) []events.Candidate {
	var all []events.Candidate

	dead := make(map[int]bool)
	for _, v := range inc.Victims {
		dead[v.PID] = true

		c := events.Candidate{
			Process: v.Process, Victim: true, AnonRSSBytes: v.AnonRSSBytes, FileRSSBytes: v.FileRSSBytes, ShmemRSSBytes: v.ShmemRSSBytes,
			SwapBytes: v.SwapBytes, PgtablesBytes: v.PgtablesBytes, OOMScoreAdj: v.OOMScoreAdj, Points: v.Points,
		}
		if c.Points == nil && v.AnonRSSBytes != nil && v.OOMScoreAdj != nil && totalPages > 0 {
			// mm/oom_kill.c: oom_badness
			var bytes uint64

			for _, part := range []*uint64{v.AnonRSSBytes, v.FileRSSBytes, v.ShmemRSSBytes, v.SwapBytes, v.PgtablesBytes} {
				if part != nil {
					bytes += *part
				}
			}
			points := int64(bytes/pageBytes) + int64(*v.OOMScoreAdj)*int64(totalPages)/1000
			c.Points = &points
		}
		all = append(all, c)
	}

	for _, c := range living {
		if !dead[c.PID] {
			all = append(all, c)
		}
	}
	points := func(c events.Candidate) int64 {
		switch {
		case c.Unkillable:
			return -1 << 62 // they come last
		case c.Points == nil:
			return -1 << 61
		}

		return *c.Points
	}

	slices.SortStableFunc(all, func(a, b events.Candidate) int { return cmp.Compare(points(b), points(a)) })

	return all
}

// told is how the tracer gives out updates: what names and causes are built on sees
// them, too.
func (t *Tracer) told(u *events.Incident) error {
	u.Envelope = t.envelope(events.KindIncidentUpdate)
	return outlet{t.opts.Sink, t}.Update(u)
}

// aftermaths gives out what was found after kills, and why they came: once it is
// told what was before them.
func (t *Tracer) aftermaths() error {
	if len(t.kills) > 0 {
		return nil
	}

	for _, id := range t.unlooked {
		if err := t.causes(id); err != nil {
			return err
		}
	}

	t.unlooked = nil
	if dropped := t.explainer.Dropped(); dropped > t.uncaused {
		lost := &events.Lost{Envelope: t.envelope(events.KindLost), What: "causes", Count: dropped - t.uncaused}

		t.uncaused = dropped
		if err := t.opts.Sink.Lost(lost); err != nil {
			return err
		}
	}

	for {
		select {
		case u := <-t.after.found:
			if err := t.afterwards(u); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// endAftermath waits for what is being looked at, and gives it out. On a node without
// memory that may take for ever: then it is left.
func (t *Tracer) endAftermath() error {
	close(t.after.queue)
	patience := time.After(2 * time.Second)

	for {
		select {
		case u, ok := <-t.after.found:
			if !ok {
				return nil
			}

			if err := t.afterwards(u); err != nil {
				return err
			}
		case <-patience:
			t.opts.Warn("the state of the node after the last kills could not be read in time")
			return nil
		}
	}
}

func (t *Tracer) afterwards(u *events.Incident) error {
	if names := t.opts.Names; names != nil {
		u.Shares = or(renamed(u.Shares, func(s *events.Share) **events.Workload { return &s.Workload }, names.Fill), u.Shares)
		u.Candidates = or(renamed(u.Candidates, func(c *events.Candidate) **events.Workload { return &c.Workload }, names.Fill), u.Candidates)
	}

	if err := t.told(u); err != nil {
		return err
	}

	return t.causes(u.ID)
}

func or[T any](a, b []T) []T {
	if a != nil {
		return a
	}

	return b
}

// causes tells why an incident came, if there is something to say.
func (t *Tracer) causes(id string) error {
	if causes := t.explainer.Explain(id); causes != nil {
		return t.told(&events.Incident{ID: id, Causes: causes})
	}

	return nil
}
