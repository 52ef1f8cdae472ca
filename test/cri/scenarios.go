// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Sizes in MiB: what a container may take, and what one takes that goes beyond.
const (
	limit  = 48
	beyond = 200
)

// The runtime's word on an OOM kill of PID 1. It may have missed the OOM, but the
// kernel has not.
var killed = []string{"runtime says OOMKilled/137, kernel: memcg OOM at ", "runtime says Error/137, kernel: memcg OOM at "}

// scenarios are played in this order; each says what must be told of it.
var scenarios = []struct {
	name string
	play func(*suite) error
}{
	{"a pod that was there before the tracer", (*suite).before},
	{"OOM of PID 1", (*suite).init},
	{"OOM of a child, PID 1 leaves with 7", (*suite).child},
	{"OOM of a child, PID 1 stays", (*suite).childOnly},
	{"a limit of the pod, two containers", (*suite).podLimit},
	{"dead 100 ms after its start", (*suite).shortLived},
	{"StopContainer, grace 0", func(s *suite) error { return s.stop(0) }},
	{"StopContainer, grace 2 s", func(s *suite) error { return s.stop(2) }},
	{"end of the pid namespace", (*suite).pidNamespace},
	{"containerd is restarted", (*suite).restart},
	{"pods in a loop", (*suite).manyPods},
}

// single runs a pod with one container to its end, and removes it.
func (s *suite) single(name string, args ...string) (*pod, *container, error) {
	p, err := s.newPod(name, 0)
	if err != nil {
		return nil, nil, err
	}
	c, err := p.run("app", limit, args...)
	return p, c, err
}

func initKill(pod string) want {
	return want{
		pod: pod, container: "app", scope: events.ScopeMemcg, level: events.LevelContainer, path: "memcg", init: true,
		state: "exited", code: 137, said: killed,
	}
}

func (s *suite) before() error {
	p, c, err := s.single("early-0", "told", fmt.Sprint(beyond))
	if err != nil {
		return err
	}
	for label, args := range map[string][]string{byCRI: {"--cri-endpoint", "unix://" + s.socket()}, byDisk: {"--host-root", s.dir}} {
		t, err := startTrace(s.bed, s.oomtrace, label, args...)
		if err != nil {
			return err
		}
		s.traces = append(s.traces, t)
	}
	pids, err := c.pids()
	if err != nil || len(pids) != 1 {
		return fmt.Errorf("processes of the container: %v, %w", pids, err)
	}
	if err := syscall.Kill(pids[0], syscall.SIGUSR1); err != nil {
		return err
	}
	if err := c.exited(); err != nil {
		return err
	}
	s.expect("early", initKill("early-0"))
	return p.remove()
}

func (s *suite) init() error {
	p, c, err := s.single("checkout-7d9f", "eat", fmt.Sprint(beyond))
	if err != nil {
		return err
	}
	if err := c.exited(); err != nil {
		return err
	}
	s.expect("init", initKill("checkout-7d9f"))
	return p.remove()
}

func (s *suite) child() error {
	p, c, err := s.single("child-0", "child", fmt.Sprint(beyond), "7")
	if err != nil {
		return err
	}
	if err := c.exited(); err != nil {
		return err
	}
	w := initKill("child-0")
	w.init, w.code = false, 7
	w.said = []string{"runtime says OOMKilled/7, but PID 1 left by itself with 7; a child was killed", "runtime says Error/7: PID 1 left by itself with 7; a child was killed"}
	s.expect("child", w)
	return p.remove()
}

func (s *suite) childOnly() error {
	p, _, err := s.single("child-1", "child", fmt.Sprint(beyond), "-1")
	if err != nil {
		return err
	}
	w := initKill("child-1")
	w.init, w.state = false, "running"
	w.said = []string{"child killed, container not restarted"}
	s.expect("child only", w)
	return p.remove()
}

// podLimit has a pod whose containers are within their own limits.
func (s *suite) podLimit() error {
	p, err := s.newPod("cart-0", limit)
	if err != nil {
		return err
	}
	if _, err := p.run("sidecar", beyond, "eat", "8"); err != nil {
		return err
	}
	c, err := p.run("app", beyond, "eat", fmt.Sprint(beyond))
	if err != nil {
		return err
	}
	if err := c.exited(); err != nil {
		return err
	}
	w := initKill("cart-0")
	w.level = events.LevelPod
	s.expect("pod limit", w)
	return p.remove()
}

// shortLived has nothing that slows it down: it runs for some milliseconds.
func (s *suite) shortLived() error {
	p, err := s.newPod("short-0", 0)
	if err != nil {
		return err
	}
	c, err := p.run("app", 16, "eat", fmt.Sprint(beyond))
	// With a limit this low runc itself may be hit while it starts the container.
	if err != nil && !strings.Contains(err.Error(), "OOM-killed") {
		return err
	}
	lived, err := c.lived()
	if err != nil {
		return err
	}
	fmt.Printf("  (it lived for %s)\n", lived.Round(time.Millisecond))
	s.expect("short", initKill("short-0"))
	return p.remove()
}

func (s *suite) stop(graceSeconds int64) error {
	name := fmt.Sprintf("stopped-%d", graceSeconds)
	p, c, err := s.single(name, "deaf")
	if err != nil {
		return err
	}
	if err := c.stop(graceSeconds); err != nil {
		return err
	}
	s.expect(name, want{
		pod: name, container: "app", scope: events.ScopeUser, path: "runtime", init: true, term: graceSeconds > 0,
		state: "exited", code: 137, said: []string{"runtime says Error/137, kernel: a SIGKILL by runc"},
	})
	return p.remove()
}

// pidNamespace has children that die because their PID 1 leaves.
func (s *suite) pidNamespace() error {
	p, c, err := s.single("family-0", "family", "500")
	if err != nil {
		return err
	}
	if err := c.exited(); err != nil {
		return err
	}
	s.expect("pid namespace", want{
		pod: "family-0", container: "app", scope: events.ScopeUser, path: "pidns", victims: 2,
		state: "exited", code: 0, said: []string{"runtime says Completed/0"},
	})
	return p.remove()
}

func (s *suite) restart() error {
	if err := s.halt(); err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	p, c, err := s.single("again-0", "eat", fmt.Sprint(beyond))
	if err != nil {
		return err
	}
	if err := c.exited(); err != nil {
		return err
	}
	s.expect("again", initKill("again-0"))
	return p.remove()
}

// manyPods starts pods, some at a time, that are killed, and looks only when all
// are gone.
func (s *suite) manyPods() error {
	const atATime = 8
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		errs    []error
		wants   []want
		numbers = make(chan int)
	)
	one := func(i int) error {
		name := fmt.Sprintf("loop-%d", i)
		p, c, err := s.single(name, "eat", fmt.Sprint(beyond))
		if err != nil {
			return err
		}
		if err := c.exited(); err != nil {
			return err
		}
		// The kubelet keeps a dead container for a while, too: it is what the
		// runtime is asked about.
		time.Sleep(500 * time.Millisecond)
		return p.remove()
	}
	for range atATime {
		wg.Go(func() {
			for i := range numbers {
				err := one(i)
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	for i := range s.loop {
		if s.ctx.Err() != nil {
			break
		}
		wants = append(wants, initKill(fmt.Sprintf("loop-%d", i)))
		numbers <- i
	}
	close(numbers)
	wg.Wait()
	s.expect("loop", wants...)
	return errors.Join(errs...)
}
