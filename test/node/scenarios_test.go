// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Sizes in MiB: the limit of a container, and what goes beyond it.
const (
	limit  = 48
	beyond = 200
)

// scenario is something that happens to a pod. It expects what must be reported of that.
type scenario struct {
	name     string
	run      func(*suite) error
	cgroupV2 bool // only there
}

// earlyScenario is about a pod from before the watches.
const earlyScenario = "before-watch"

// scenarios in the order in which they run.
var scenarios = []scenario{
	{name: earlyScenario, run: (*suite).beforeWatch},
	{name: "init-oom", run: (*suite).initOOM},
	{name: "child-oom-init-exits", run: (*suite).childOOM},
	{name: "child-oom-init-stays", run: (*suite).childOOMInitStays},
	{name: "group", run: (*suite).groupOOM, cgroupV2: true},
	{name: "pod-limit", run: (*suite).podLimit},
	{name: "pod-limit-group", run: (*suite).podLimitGroup, cgroupV2: true},
	{name: "short-lived", run: (*suite).shortLived},
	{name: "stop-at-once", run: func(s *suite) error { return s.stop(0) }},
	{name: "stop-after-grace", run: func(s *suite) error { return s.stop(2) }},
	{name: "pid-namespace", run: (*suite).pidNamespace},
	{name: "restart", run: (*suite).restart},
	{name: "loop", run: (*suite).manyPods},
}

// runsOn reports whether a scenario runs where the memory controller is on a version of
// cgroups.
func (s scenario) runsOn(version int) bool { return version == 2 || !s.cgroupV2 }

// scenarioNames returns the names of those that run there.
func scenarioNames(version int) (names []string) {
	for _, s := range scenarios {
		if s.runsOn(version) {
			names = append(names, s.name)
		}
	}

	return names
}

// single starts a pod with one container.
func (s *suite) single(name string, args ...string) (*pod, *container, error) {
	p, err := s.newPod(name, 0)
	if err != nil {
		return nil, nil, err
	}

	c, err := p.run("app", limit, args...)

	return p, c, err
}

// finish waits for the end of a container, expects its kill, and removes its pod.
func (s *suite) finish(c *container, err error, kills ...podKill) error {
	if err == nil {
		err = c.exited()
	}

	if err != nil {
		return err
	}

	s.expect(kills...)

	return c.pod.remove()
}

// memcgKill is of PID 1 of a container. The runtime may have missed the OOM, but the
// kernel has not.
func memcgKill(pod string) podKill {
	return podKill{
		pod: pod, container: "app", scope: events.ScopeMemcg, level: events.LevelContainer, path: "memcg", init: true,
		state: "exited", code: 137,
		texts: []string{"runtime reports OOMKilled/137, kernel: memcg OOM at ", "runtime reports Error/137, kernel: memcg OOM at "},
	}
}

// removal is of a container that still runs when its pod is removed: it is killed at once.
func removal(pod, container string) podKill {
	return podKill{pod: pod, container: container, scope: events.ScopeUser, path: "runtime", init: true}
}

// groupKill is of three processes, first the hog.
func groupKill(pod string) podKill {
	k := memcgKill(pod)
	k.path, k.group, k.victims = "group", true, 3

	return k
}

func (s *suite) beforeWatch() error {
	pids, err := s.early.pids()
	if err != nil || len(pids) != 1 {
		return fmt.Errorf("processes of the container: got %v, %w; want one", pids, err)
	}

	return s.finish(s.early, syscall.Kill(pids[0], syscall.SIGUSR1), memcgKill("early-0"))
}

func (s *suite) initOOM() error {
	_, c, err := s.single("checkout-7d9f", "eat", fmt.Sprint(beyond))
	return s.finish(c, err, memcgKill("checkout-7d9f"))
}

func (s *suite) childOOM() error {
	_, c, err := s.single("child-0", "child", fmt.Sprint(beyond), "7")

	k := memcgKill("child-0")
	k.init, k.code = false, 7
	k.texts = []string{
		"runtime reports OOMKilled/7, but PID 1 exited by itself with status 7; a child was killed",
		"runtime reports Error/7: PID 1 exited by itself with status 7; a child was killed",
	}

	return s.finish(c, err, k)
}

func (s *suite) childOOMInitStays() error {
	p, _, err := s.single("child-1", "child", fmt.Sprint(beyond), "-1")
	if err != nil {
		return err
	}

	k := memcgKill("child-1")
	k.init, k.state = false, "running"
	k.texts = []string{"child killed, container not restarted"}
	s.expect(k)

	if err := p.remove(); err != nil {
		return err
	}

	s.expect(removal("child-1", "app"))

	return nil
}

func (s *suite) groupOOM() error {
	p, err := s.newPod("group-0", 0)
	if err != nil {
		return err
	}

	c, err := p.runGroup("app", limit, "crowd", fmt.Sprint(beyond))

	return s.finish(c, err, groupKill("group-0"))
}

// podLimit has a pod whose containers are within their own limits.
func (s *suite) podLimit() error {
	return s.sharedLimit("cart-0", (*pod).run, "eat", memcgKill("cart-0"))
}

// podLimitGroup is the same, with a group of one of the containers only.
func (s *suite) podLimitGroup() error {
	return s.sharedLimit("cart-1", (*pod).runGroup, "crowd", groupKill("cart-1"))
}

// sharedLimit has two containers under the limit of their pod: one takes too much, the
// other stays.
func (s *suite) sharedLimit(name string, run func(*pod, string, int, ...string) (*container, error), how string, k podKill) error {
	p, err := s.newPod(name, limit)
	if err != nil {
		return err
	}

	if _, err := p.run("sidecar", beyond, "eat", "8"); err != nil {
		return err
	}

	c, err := run(p, "app", beyond, how, fmt.Sprint(beyond))
	k.level = events.LevelPod

	if err := s.finish(c, err, k); err != nil {
		return err
	}

	s.expect(removal(name, "sidecar"))

	return nil
}

// shortLived has a container that runs for some milliseconds.
func (s *suite) shortLived() error {
	p, err := s.newPod("short-0", 0)
	if err != nil {
		return err
	}

	c, err := p.run("app", 16, "eat", fmt.Sprint(beyond))
	// With a limit this low, runc itself may be hit while it starts the container.
	if err != nil && !strings.Contains(err.Error(), "OOM-killed") {
		return err
	}

	lived, err := c.lived()
	s.t.Logf("it lived for %s", lived.Round(time.Millisecond))

	return s.finish(c, err, memcgKill("short-0"))
}

func (s *suite) stop(graceSeconds int64) error {
	name := fmt.Sprintf("stopped-%d", graceSeconds)

	p, c, err := s.single(name, "deaf")
	if err == nil {
		err = c.deaf()
	}

	if err != nil {
		return err
	}

	if err := c.stop(graceSeconds); err != nil {
		return err
	}

	s.expect(podKill{
		pod: name, container: "app", scope: events.ScopeUser, path: "runtime", init: true, term: graceSeconds > 0,
		state: "exited", code: 137, texts: []string{"runtime reports Error/137, kernel: SIGKILL from runc"},
	})

	return p.remove()
}

// pidNamespace has children that die because their PID 1 exits.
func (s *suite) pidNamespace() error {
	_, c, err := s.single("family-0", "family", "500")

	return s.finish(c, err, podKill{
		pod: "family-0", container: "app", scope: events.ScopeUser, path: "pidns", victims: 2,
		state: "exited", code: 0, texts: []string{"runtime reports Completed/0"},
	})
}

// restart restarts containerd before a kill.
func (s *suite) restart() error {
	if err := s.halt(); err != nil {
		return err
	}

	if err := s.start(); err != nil {
		return err
	}

	_, c, err := s.single("again-0", "eat", fmt.Sprint(beyond))

	return s.finish(c, err, memcgKill("again-0"))
}

// manyPods starts pods that are killed, some at a time, and compares only when all are
// gone.
func (s *suite) manyPods() error {
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		errs    []error
		kills   []podKill
		numbers = make(chan int)
	)

	one := func(i int) error {
		name := fmt.Sprintf("loop-%d", i)

		p, c, err := s.single(name, "eat", fmt.Sprint(beyond))
		if err == nil {
			err = c.exited()
		}

		if err != nil {
			return err
		}

		// The kubelet keeps a dead container for a while, too: the runtime is queried
		// about it.
		until(s.ctx, func() bool { return s.isReported(name) })

		return p.remove()
	}

	for range *atATime {
		wg.Go(func() {
			for i := range numbers {
				err := one(i)

				mu.Lock()

				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}

	for i := range *loop {
		if s.ctx.Err() != nil {
			break
		}

		kills = append(kills, memcgKill(fmt.Sprintf("loop-%d", i)))
		numbers <- i
	}

	close(numbers)
	wg.Wait()
	s.expect(kills...)

	return errors.Join(errs...)
}
