// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/resolve/names"
	"github.com/oomtrace/oomtrace/internal/resolve/source"
)

const (
	namedPods     = 10000
	podsPerSecond = 200
)

// way is one way to learn names. Without a version of the runtime there is no CRI.
type way struct {
	name, version string
	args          []string // of oomtrace
}

// naming measures what names cost: a tracer on a node with many pods, quiet and while
// pods come and go, and how long it takes until the name of a new container is known.
func naming(p *page) error {
	cgroups, removeCgroups, err := podCgroups()
	if err != nil {
		return err
	}
	defer removeCgroups()

	root, err := os.MkdirTemp("/tmp", "oomtrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)

	p.writef("## Names of pods\n")
	p.writef("A node with %d pods of one container each, of which %d per second are removed and replaced; the runtime is a fake\n"+
		"that answers at once. CPU is the tracer's, in percent of one core. The name of a pod may come from a file; \"to the\n"+
		"source\" is the time until the CRI has answered.\n", namedPods, podsPerSecond)
	p.writef("| source | start to ready, ms | quiet: CPU %% | RSS MiB | with churn: CPU %% | RSS MiB | to the name, ms: median | 99th | " +
		"to the source, ms: median | 99th |")
	p.writef("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")

	for _, w := range []way{
		{name: "none (--no-names)", args: []string{"--no-names"}},
		{name: "files only"},
		{name: "CRI, polled (1.6)", version: "1.6.20", args: []string{"--cri-endpoint", socketIn(root)}},
		{name: "CRI, events (2.x)", version: "v2.1.9", args: []string{"--cri-endpoint", socketIn(root)}},
	} {
		if err := namedBy(p, w, root, cgroups); err != nil {
			return err
		}
	}

	return nil
}

// podCgroups makes the cgroup of all pods.
func podCgroups() (path string, remove func(), err error) {
	layout, err := host.Cgroups()
	if err != nil {
		return "", nil, err
	}

	top := filepath.Join(layout.MemoryMount, fmt.Sprintf("oomtrace-bench-%d", os.Getpid()))
	path = filepath.Join(top, "kubepods/burstable")

	remove = func() {
		for _, dir := range []string{path, filepath.Dir(path), top} {
			os.Remove(dir)
		}
	}

	return path, remove, os.MkdirAll(path, 0o755)
}

// namedBy measures one row: one way to learn names.
func namedBy(p *page, w way, root, cgroups string) (err error) {
	runtime, stop, err := startFakeRuntime(w.version, root, cgroups)
	if err != nil {
		return err
	}
	defer stop()

	if w.version == "" {
		stop()
	}

	pods := &churn{runtime: runtime}
	defer func() { err = errors.Join(err, pods.clear()) }()

	if err := pods.fill(); err != nil {
		return err
	}

	cost, err := measureNaming(w, root, pods)
	if err != nil {
		return err
	}

	latency := []string{"–", "–", "–", "–"}
	if !slices.Contains(w.args, "--no-names") {
		if latency, err = untilNamed(w, root, pods); err != nil {
			return err
		}
	}

	p.writef("| %s | %s | %s |", w.name, cost, strings.Join(latency, " | "))

	return nil
}

// measureNaming measures a tracer, quiet and with churn, and returns its columns.
func measureNaming(w way, root string, pods *churn) (columns string, err error) {
	args := append([]string{"bin/oomtrace", "-o", "json", "--host-root", root}, w.args...)

	t, startMS, err := startTimed(root, args)
	if err != nil {
		return "", err
	}
	defer t.stop()

	time.Sleep(2 * time.Second) // the names of the pods that exist are looked up

	cpu := t.cpuMeter()

	time.Sleep(4 * *slice)
	quietCPU, quietRSS := cpu(), t.rssMiB()

	cpu = t.cpuMeter()

	if err := pods.replace(int((8**slice).Seconds()*podsPerSecond), func(fakePod) {}); err != nil {
		return "", err
	}

	return fmt.Sprintf("%.0f | %.2f | %.0f | %.1f | %.0f", startMS, quietCPU, quietRSS, cpu(), t.rssMiB()), nil
}

// churn replaces the pods of a node, the oldest first.
type churn struct {
	runtime      *fakeRuntime
	oldest, next int // the numbers of the pods that exist, next excluded
}

func (c *churn) fill() error {
	for c.next < namedPods {
		if err := c.add(); err != nil {
			return err
		}
	}

	for len(c.runtime.events) > 0 {
		<-c.runtime.events
	}

	return nil
}

func (c *churn) add() error {
	if err := c.runtime.create(podOf(c.next)); err != nil {
		return err
	}

	c.next++

	return nil
}

// clear removes all pods.
func (c *churn) clear() (err error) {
	for ; c.oldest < c.next; c.oldest++ {
		err = cmp.Or(err, c.runtime.remove(podOf(c.oldest)))
	}

	return err
}

// replace replaces a number of pods, one at a time, and calls created with each new one.
func (c *churn) replace(count int, created func(fakePod)) error {
	tick := time.NewTicker(time.Second / podsPerSecond)
	defer tick.Stop()

	for range count {
		<-tick.C

		if err := c.runtime.remove(podOf(c.oldest)); err != nil {
			return err
		}

		c.oldest++

		if err := c.add(); err != nil {
			return err
		}

		created(podOf(c.next - 1))
	}

	return nil
}

// untilNamed measures within this process, which can see when a name is known, and
// returns the columns of the latencies.
func untilNamed(w way, root string, pods *churn) (columns []string, err error) {
	cri := w.version != ""
	options := names.Options{HostRoot: root}

	if cri {
		options.CRIEndpoint = socketIn(root)
	}

	r, err := names.New(options)
	if err != nil {
		return nil, err
	}
	defer r.Close()

	if cri {
		awaitFirstList(r)
	}

	known := func(pod fakePod, source string) bool {
		w := r.Fill(&events.Workload{ContainerID: pod.container, PodUID: pod.uid})
		return w.Pod != "" && (source == "" || w.Source == source)
	}
	var toName, toSource []float64

	err = pods.replace(1000, func(pod fakePod) {
		began := time.Now()
		await := func(source string) (ms float64) {
			for !known(pod, source) && time.Since(began) < 2*time.Second {
				time.Sleep(10 * time.Microsecond)
			}

			return time.Since(began).Seconds() * 1e3
		}

		r.Seen(resolve.Ref{ContainerID: pod.container, PodUID: pod.uid})

		toName = append(toName, await(""))
		if cri {
			toSource = append(toSource, await(source.NameCRI))
		}
	})
	if err != nil {
		return nil, err
	}

	if last := podOf(pods.next - 1); !known(last, "") {
		return nil, fmt.Errorf("wait for the name of container %s: none within 2 s", last.container)
	}

	return append(medianAnd99th(toName), medianAnd99th(toSource)...), nil
}

// awaitFirstList waits until the resolver has the pods that exist.
func awaitFirstList(r *names.Resolver) {
	for i, learned := 0, 0; i < 1000 && learned < namedPods; i++ {
		refs, all := r.Learned()
		if learned += len(refs); all {
			return
		}

		time.Sleep(10 * time.Millisecond)
	}
}

func medianAnd99th(values []float64) []string {
	if len(values) == 0 {
		return []string{"–", "–"}
	}

	slices.Sort(values)

	return []string{fmt.Sprintf("%.2f", values[len(values)/2]), fmt.Sprintf("%.2f", values[len(values)*99/100])}
}
