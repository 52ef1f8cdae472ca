// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/resolve/source"
)

const (
	namedPods     = 10000
	podsPerSecond = 200
)

// naming measures what names cost: a tracer on a node with many pods, quiet and
// while pods come and go, and how long it takes until a new container has its name.
func naming(p *page) error {
	layout, err := host.Cgroups()
	if err != nil {
		return err
	}

	top := filepath.Join(layout.MemoryMount, fmt.Sprintf("oomtrace-bench-%d", os.Getpid()))

	cgroups := filepath.Join(top, "kubepods/burstable")
	if err := os.MkdirAll(cgroups, 0o755); err != nil {
		return err
	}
	defer func() {
		for _, dir := range []string{cgroups, filepath.Dir(cgroups), top} {
			os.Remove(dir)
		}
	}()

	root, err := os.MkdirTemp("/tmp", "oomtrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)

	p.say("## Names of pods\n")
	p.say("A node with %d pods of one container each, of which %d a second are removed and made anew; the runtime is a fake that", namedPods, podsPerSecond)
	p.say("answers at once. The CPU is the tracer's, of one core. A name is there when it is known from a file, a source when all is known.\n")
	p.say("| source | start to ready, ms | quiet: CPU %% | RSS MiB | with churn: CPU %% | RSS MiB | to the name, ms: median | 99th | to the source, ms: median | 99th |")
	p.say("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")

	for _, way := range []struct{ name, version string }{{"none (--no-names)", ""}, {"files only", ""}, {"CRI, polled (1.6)", "1.6.20"}, {"CRI, events (2.x)", "v2.1.9"}} {
		if err := namedBy(p, way.name, way.version, root, cgroups); err != nil {
			return err
		}
	}

	return nil
}

func namedBy(p *page, way, version, root, cgroups string) (err error) {
	sham, stop, err := startSham(version, root, cgroups)
	if err != nil {
		return err
	}

	if version == "" {
		stop()
	}

	oldest, next := 0, 0
	defer func() {
		for ; oldest < next; oldest++ {
			if e := sham.remove(podOf(oldest)); err == nil {
				err = e
			}
		}

		if version != "" {
			stop()
		}
	}()

	for ; next < namedPods; next++ {
		if err := sham.create(podOf(next)); err != nil {
			return err
		}
	}

	for len(sham.events) > 0 {
		<-sham.events
	}

	options := resolve.Options{HostRoot: root}
	ready := filepath.Join(root, "ready")
	os.Remove(ready)

	args := []string{"bin/oomtrace", "-o", "json", "--ready-file", ready, "--host-root", root}
	if version != "" {
		options.CRIEndpoint = filepath.Join(root, "c.sock")
		args = append(args, "--cri-endpoint", options.CRIEndpoint)
	} else if way[0] == 'n' {
		args = append(args, "--no-names")
	}
	began := time.Now()

	t, err := startTracer(args)
	if err != nil {
		return err
	}
	defer t.stop()

	for range 30000 {
		if _, err := os.Stat(ready); err == nil {
			break
		}

		time.Sleep(time.Millisecond)
	}
	start := float64(time.Since(began).Microseconds()) / 1000

	time.Sleep(2 * time.Second) // what is there is looked up
	busy, from := t.cpu(), time.Now()

	time.Sleep(4 * *slice)
	quiet, quietRSS := (t.cpu()-busy)/time.Since(from).Seconds()*100, t.rss()

	turn := func(times int, made func(shamPod)) error {
		tick := time.NewTicker(time.Second / podsPerSecond)
		defer tick.Stop()

		for range times {
			<-tick.C

			if err := sham.remove(podOf(oldest)); err != nil {
				return err
			}

			oldest++

			pod := podOf(next)
			if err := sham.create(pod); err != nil {
				return err
			}

			next++

			made(pod)
		}

		return nil
	}
	busy, from = t.cpu(), time.Now()

	if err := turn(int((8**slice).Seconds()*podsPerSecond), func(shamPod) {}); err != nil {
		return err
	}
	churn, churnRSS := (t.cpu()-busy)/time.Since(from).Seconds()*100, t.rss()
	t.stop()

	cells := []string{"–", "–", "–", "–"}
	if way[0] != 'n' {
		if cells, err = untilNamed(options, version != "", turn); err != nil {
			return err
		}
	}

	p.say("| %s | %.0f | %.2f | %.0f | %.1f | %.0f | %s | %s | %s | %s |", way, start, quiet, quietRSS, churn, churnRSS, cells[0], cells[1], cells[2], cells[3])

	return nil
}

// untilNamed measures within this process, where the instant of a name can be seen.
func untilNamed(options resolve.Options, cri bool, turn func(int, func(shamPod)) error) (cells []string, err error) {
	r, err := resolve.New(options)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	known := func(pod shamPod, source string) bool {
		w := r.Fill(&events.Workload{ContainerID: pod.container, PodUID: pod.uid})
		return w.Pod != "" && (source == "" || w.Source == source)
	}
	last := podOf(0)

	for i, learned := 0, 0; cri && i < 1000 && learned < namedPods; i++ { // the first list
		refs, all := r.Learned()
		if learned += len(refs); all {
			break
		}

		time.Sleep(10 * time.Millisecond)
	}
	var toName, toSource []float64
	err = turn(1000, func(pod shamPod) {
		last = pod
		began := time.Now()

		r.Seen(resolve.Ref{ContainerID: pod.container, PodUID: pod.uid})

		patience := began.Add(2 * time.Second)
		for !known(pod, "") && time.Now().Before(patience) {
			time.Sleep(10 * time.Microsecond)
		}

		toName = append(toName, time.Since(began).Seconds()*1e3)

		for cri && !known(pod, source.NameCRI) && time.Now().Before(patience) {
			time.Sleep(10 * time.Microsecond)
		}

		if cri {
			toSource = append(toSource, time.Since(began).Seconds()*1e3)
		}
	})

	if !known(last, "") {
		return nil, fmt.Errorf("%s got no name", last.container)
	}

	for _, values := range [][]float64{toName, toSource} {
		if len(values) == 0 {
			cells = append(cells, "–", "–")
			continue
		}

		slices.Sort(values)
		cells = append(cells, fmt.Sprintf("%.2f", values[len(values)/2]), fmt.Sprintf("%.2f", values[len(values)*99/100]))
	}

	return cells, err
}
