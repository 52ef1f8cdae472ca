// SPDX-License-Identifier: Apache-2.0

// Package exitstatus asks the container runtime how a container ended in which the
// kernel or a process has killed, and compares the two. They differ often: a runtime
// reports Error/137 for an OOM at the pod's limit, and nothing at all if a child of
// PID 1 was killed.
package exitstatus

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/resolve/source"
)

// Runtimes are the container runtimes of the node; *names.Resolver implements it.
type Runtimes interface {
	// Exit returns the state of a container, and waits for it; see names.Resolver.
	Exit(ctx context.Context, ref resolve.Ref) (source.Exit, error)
	// Connected reports whether any runtime can be asked.
	Connected() bool
}

// Check is a container in which a process was killed.
type Check struct {
	Incident string // an id, which is returned with the report
	resolve.Ref
	Container string // the name, if it is known
	Kernel    Kernel
}

// Report is the answer to a Check.
type Report struct {
	Incident string
	events.Reported
}

const (
	// maxChecks bounds how many checks are under way; more are dropped and counted.
	maxChecks = 4096
	// maxCalls bounds how many calls to a runtime are under way.
	maxCalls = 8
	// settle is how long a report that contradicts the kernel is asked for again:
	// runtimes learn of the exit and of the OOM in two ways.
	settle = time.Second
)

// askAfter are the times, from the kill on, at which the runtime is asked. A container
// that still runs after the last has survived the kill.
var askAfter = []time.Duration{
	50 * time.Millisecond, 150 * time.Millisecond, 400 * time.Millisecond, time.Second, 2 * time.Second,
	3500 * time.Millisecond, 5 * time.Second, 7500 * time.Millisecond, 10 * time.Second,
}

// Checker asks the runtimes about containers. Its methods are safe for concurrent use,
// and none but Close waits.
type Checker struct {
	runtimes Runtimes
	running  chan struct{} // a slot per check
	calls    chan struct{} // a slot per call
	dropped  atomic.Uint64

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	reports []Report
}

// New returns a checker that asks the given runtimes. Close ends it.
func New(runtimes Runtimes) *Checker {
	c := &Checker{runtimes: runtimes, running: make(chan struct{}, maxChecks), calls: make(chan struct{}, maxCalls)}
	c.ctx, c.cancel = context.WithCancel(context.Background())

	return c
}

// Close ends all checks, and returns once all goroutines have ended. It must come
// before the end of the runtimes.
func (c *Checker) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()

	c.cancel()
	c.work.Wait()
}

// Check starts to ask about a container; Reports returns the answer some seconds
// later. Where no runtime is connected there may be none.
func (c *Checker) Check(check Check) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.closed {
		return
	}

	select {
	case c.running <- struct{}{}:
	default:
		c.dropped.Add(1)
		return
	}

	c.work.Go(func() {
		c.check(check)
		<-c.running
	})
}

// Dropped counts checks that were not made, because too many were under way.
func (c *Checker) Dropped() uint64 { return c.dropped.Load() }

// Reports returns the answers that came since the last call.
func (c *Checker) Reports() []Report {
	c.mu.Lock()
	defer c.mu.Unlock()

	reports := c.reports
	c.reports = nil

	return reports
}

// check asks until the state of the container is final, and reports it.
func (c *Checker) check(check Check) {
	last, known := c.ask(check)
	if c.ctx.Err() != nil {
		return
	}

	if !known {
		if !c.runtimes.Connected() {
			return
		}
		last = source.Exit{State: source.StateUnknown, Source: source.NameCRI}
	}

	report := Report{Incident: check.Incident, Reported: events.Reported{
		ContainerID: check.ContainerID, Container: check.Container, State: last.State, Reason: last.Reason,
		ExitCode: last.Code, Source: last.Source,
	}}
	report.Agrees, report.Text = Compare(check.Kernel, last)

	c.mu.Lock()
	c.reports = append(c.reports, report)
	c.mu.Unlock()
}

// ask returns the last state that was reported; it is not known if none was.
func (c *Checker) ask(check Check) (last source.Exit, known bool) {
	start := time.Now()
	var exited time.Time

	for _, after := range askAfter {
		x, err := c.askAt(start.Add(after), check.Ref)
		if c.ctx.Err() != nil {
			return last, known
		}

		removed := errors.Is(err, source.ErrUnknown)
		if err == nil || x.State != "" && (removed || !known) {
			last, known = x, true
		}

		if removed && x.State == "" {
			return last, known
		}

		if !known || last.State != source.StateExited {
			continue
		}

		if exited.IsZero() {
			exited = time.Now()
		}

		agrees, _ := Compare(check.Kernel, last)
		if agrees || removed || time.Since(exited) >= settle {
			return last, known
		}
	}

	return last, known
}

// askAt waits until an instant, and asks.
func (c *Checker) askAt(at time.Time, ref resolve.Ref) (source.Exit, error) {
	select {
	case <-c.ctx.Done():
		return source.Exit{}, c.ctx.Err()
	case <-time.After(time.Until(at)):
	}

	select {
	case <-c.ctx.Done():
		return source.Exit{}, c.ctx.Err()
	case c.calls <- struct{}{}:
	}

	x, err := c.runtimes.Exit(c.ctx, ref)

	<-c.calls

	return x, err
}
