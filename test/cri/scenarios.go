// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
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

// killed is the runtime's word on an OOM kill of PID 1. It may have missed the OOM,
// but the kernel has not.
var killed = []string{"runtime reports OOMKilled/137, kernel: memcg OOM at ", "runtime reports Error/137, kernel: memcg OOM at "}

// scenario is something that happens to a pod, and says what must be told of it.
type scenario struct {
	name string
	play func(*suite) error
	v2   bool // only with cgroup v2
}

// scenarios are played in this order. The first one starts the tracers.
var scenarios = []scenario{
	{name: "a pod that was there before the tracer", play: (*suite).before},
	{name: "OOM of PID 1", play: (*suite).init},
	{name: "OOM of a child, PID 1 leaves with 7", play: (*suite).child},
	{name: "OOM of a child, PID 1 stays", play: (*suite).childOnly},
	{name: "memory.oom.group, three processes", play: (*suite).group, v2: true},
	{name: "a limit of the pod, two containers", play: (*suite).podLimit},
	{name: "a limit of the pod, memory.oom.group", play: (*suite).podGroup, v2: true},
	{name: "dead 100 ms after its start", play: (*suite).shortLived},
	{name: "StopContainer, grace 0", play: func(s *suite) error { return s.stop(0) }},
	{name: "StopContainer, grace 2 s", play: func(s *suite) error { return s.stop(2) }},
	{name: "end of the pid namespace", play: (*suite).pidNamespace},
	{name: "containerd is restarted", play: (*suite).restart},
	{name: "pods in a loop", play: (*suite).manyPods},
}

func (s scenario) wanted(number, cgroupVersion int, words []string) bool {
	if s.v2 && cgroupVersion != 2 {
		return false
	}

	return number == 0 || len(words) == 0 || slices.ContainsFunc(words, func(w string) bool { return strings.Contains(s.name, w) })
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

// stoppedByRuntime is what happens to a container that still runs when its pod is
// removed: SIGKILL at once.
func stoppedByRuntime(pod, container string) want {
	return want{pod: pod, container: container, scope: events.ScopeUser, path: "runtime", init: true}
}

// groupKill is one of three processes, the hog's.
func groupKill(pod string) want {
	w := initKill(pod)
	w.path, w.group, w.victims = "group", true, 3

	return w
}

func (s *suite) before() error {
	p, c, err := s.single("early-0", "told", fmt.Sprint(beyond))
	if err != nil {
		return err
	}

	for label, args := range map[string][]string{byCRI: {"--cri-endpoint", "unix://" + s.socket()}, byDisk: {"--host-root", s.dir}} {
		t, err := startTrace(s.bed, s.oomtrace, s.save, label, args...)
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
	w.said = []string{"runtime reports OOMKilled/7, but PID 1 exited by itself with status 7; a child was killed", "runtime reports Error/7: PID 1 exited by itself with status 7; a child was killed"}
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

	if err := p.remove(); err != nil {
		return err
	}

	s.expect("child only, removed", stoppedByRuntime("child-1", "app"))

	return nil
}

func (s *suite) group() error {
	p, err := s.newPod("group-0", 0)
	if err != nil {
		return err
	}

	c, err := p.runGroup("app", limit, "crowd", fmt.Sprint(beyond))
	if err != nil {
		return err
	}

	if err := c.exited(); err != nil {
		return err
	}

	s.expect("group", groupKill("group-0"))

	return p.remove()
}

// podLimit has a pod whose containers are within their own limits.
func (s *suite) podLimit() error {
	return s.shared("cart-0", (*pod).run, "eat", initKill("cart-0"))
}

// podGroup is the same, with a group that is one of the containers only.
func (s *suite) podGroup() error {
	return s.shared("cart-1", (*pod).runGroup, "crowd", groupKill("cart-1"))
}

// shared has two containers under one limit: one takes too much, the other stays.
func (s *suite) shared(name string, run func(*pod, string, int, ...string) (*container, error), how string, w want) error {
	p, err := s.newPod(name, limit)
	if err != nil {
		return err
	}

	if _, err := p.run("sidecar", beyond, "eat", "8"); err != nil {
		return err
	}

	c, err := run(p, "app", beyond, how, fmt.Sprint(beyond))
	if err != nil {
		return err
	}

	if err := c.exited(); err != nil {
		return err
	}
	w.level = events.LevelPod
	s.expect("pod limit", w)

	if err := p.remove(); err != nil {
		return err
	}

	s.expect("pod limit, removed", stoppedByRuntime(name, "sidecar"))

	return nil
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
		state: "exited", code: 137, said: []string{"runtime reports Error/137, kernel: SIGKILL from runc"},
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
		state: "exited", code: 0, said: []string{"runtime reports Completed/0"},
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
		until(s.ctx, func() bool { return s.isReported(name) })

		return p.remove()
	}

	for range s.atATime {
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
