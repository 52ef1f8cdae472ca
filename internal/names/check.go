// SPDX-License-Identifier: Apache-2.0

package names

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/oomtrace/oomtrace/internal/events"
)

const (
	stateRunning    = "running"
	stateExited     = "exited"
	stateUnknown    = "unknown"
	reasonOOMKilled = "OOMKilled"
)

// exit is what a runtime says of a container's state.
type exit struct {
	state, reason string
	code          *int
	source        string
}

// Check asks what the runtime says of a container in which somebody was killed.
type Check struct {
	Incident string // its id, which comes back with the report
	Ref
	Container string // name, if it is known
	Kernel    Kernel
}

// Report is the answer to a Check.
type Report struct {
	Incident string
	events.Reported
}

const (
	// maxChecks bounds what is asked at the same time; more is dropped and counted.
	maxChecks = 4096
	// asking is how many calls are under way at most.
	asking = 8
	// settle is how long a report that contradicts the kernel is asked for again:
	// runtimes learn of the exit and of the OOM in two ways.
	settle = time.Second
)

// askAfter is when the runtime is asked, from the kill on. What still runs at the
// end runs on.
var askAfter = []time.Duration{
	50 * time.Millisecond, 150 * time.Millisecond, 400 * time.Millisecond, time.Second, 2 * time.Second,
	3500 * time.Millisecond, 5 * time.Second, 7500 * time.Millisecond, 10 * time.Second,
}

// Check asks without waiting; the answer comes by Reports some time later. Where no
// runtime is connected, none may come.
func (r *Resolver) Check(c Check) {
	select {
	case r.checks <- c:
	default:
		r.dropped.Add(1)
	}
}

// Reports gives the answers that came since it was last called.
func (r *Resolver) Reports() []Report { return r.done.take() }

type reports struct {
	mu   sync.Mutex
	list []Report
}

func (d *reports) add(r Report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, r)
}

func (d *reports) take() []Report {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.list
	d.list = nil

	return list
}

func (r *Resolver) runChecks() {
	room := make(chan struct{}, maxChecks)
	slots := make(chan struct{}, asking)

	for {
		select {
		case <-r.ctx.Done():
			return
		case c := <-r.checks:
			select {
			case room <- struct{}{}:
			default:
				r.dropped.Add(1)
				continue
			}

			r.work.Go(func() {
				r.check(c, slots)
				<-room
			})
		}
	}
}

// check asks until the container's fate is clear.
func (r *Resolver) check(c Check, slots chan struct{}) {
	begin := time.Now()
	last, known := exit{}, false
	var exited time.Time

	for _, after := range askAfter {
		select {
		case <-r.ctx.Done():
			return
		case <-time.After(time.Until(begin.Add(after))):
		}

		slots <- struct{}{}
		x, answer := r.exit(c.Ref)

		<-slots

		if answer == said {
			last, known = x, true
		}

		if answer == forgotten || !known {
			if x, ok := r.cache.exitOf(c.ContainerID); ok {
				last, known = x, true
			} else if answer == forgotten {
				break
			}
		}

		if known && last.state == stateExited {
			if exited.IsZero() {
				exited = time.Now()
			}

			agrees, _ := Verdict(c.Kernel, last.state, last.reason, last.code)
			if agrees || answer == forgotten || time.Since(exited) >= settle {
				break
			}
		}
	}

	if !known {
		if len(r.connected()) == 0 {
			return // nobody was there to ask
		}
		last = exit{state: stateUnknown, source: SourceCRI}
	}
	out := Report{Incident: c.Incident, Reported: events.Reported{
		ContainerID: c.ContainerID, Container: c.Container, State: last.state, Reason: clip(last.reason, maxName), ExitCode: last.code, Source: last.source,
	}}
	out.Agrees, out.Text = Verdict(c.Kernel, last.state, out.Reason, last.code)
	r.done.add(out)
}

type answer int

const (
	silent    answer = iota // nobody answered
	said                    // the state
	forgotten               // all say that there is no such container
)

// exit asks the runtimes, then Docker's files.
func (r *Resolver) exit(ref Ref) (exit, answer) {
	all := r.connected()
	unknown := 0

	for _, c := range all {
		x, err := c.exit(r.ctx, ref)
		switch {
		case err == nil:
			return x, said
		case status.Code(err) == codes.NotFound:
			unknown++
		}
	}

	for _, s := range r.local {
		if d, ok := s.(*disk); ok {
			if x, ok := d.exit(ref); ok {
				return x, said
			}
		}
	}

	if len(all) > 0 && unknown == len(all) {
		return exit{}, forgotten
	}

	return exit{}, silent
}

func (c *connection) exit(ctx context.Context, ref Ref) (exit, error) {
	answer, err := call(ctx, c.client.ContainerStatus, &cri.ContainerStatusRequest{ContainerId: ref.ContainerID})
	if err != nil {
		return exit{}, err
	}

	if answer.Status == nil {
		return exit{}, status.Error(codes.NotFound, "no status")
	}

	return exitOf(answer.Status), nil
}

func exitOf(s *cri.ContainerStatus) exit {
	x := exit{state: stateUnknown, source: SourceCRI}

	switch s.State {
	case cri.ContainerState_CONTAINER_CREATED, cri.ContainerState_CONTAINER_RUNNING:
		x.state = stateRunning
	case cri.ContainerState_CONTAINER_EXITED:
		code := int(s.ExitCode)
		x.state, x.reason, x.code = stateExited, clip(s.Reason, maxName), &code
	}

	return x
}
