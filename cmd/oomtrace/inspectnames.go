// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"iter"
	"time"

	"github.com/oomtrace/oomtrace/internal/diagnose"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// namesTimeout bounds how long an inspection waits for names, namesEvery is how often it looks
// whether all are known. A runtime answers within milliseconds.
const (
	namesTimeout = 500 * time.Millisecond
	namesEvery   = 10 * time.Millisecond
)

// nameWorkloads adds the names of pods and containers to an inspection, and to its causes. It
// returns at once where there are none, and otherwise when all are known or the time is up.
func nameWorkloads(ctx context.Context, i *events.Inspection, names resolve.Names) {
	asked := map[resolve.Ref]bool{}

	for w := range workloads(i) {
		if ref, ok := resolve.RefOf(*w); ok && !asked[ref] {
			asked[ref] = true

			names.Found(ref)
		}
	}

	if len(asked) == 0 {
		return
	}

	ctx, cancel := context.WithTimeout(ctx, namesTimeout)
	defer cancel()

	for !allNamed(i, names) && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(namesEvery):
		}
	}

	for w := range workloads(i) {
		*w = names.Fill(*w)
	}

	i.Causes = diagnose.Prospect(i)
}

func allNamed(i *events.Inspection, names resolve.Names) bool {
	for w := range workloads(i) {
		if _, ok := resolve.RefOf(*w); !ok {
			continue
		}

		if named := names.Fill(*w); named.Pod == "" && named.Container == "" {
			return false
		}
	}

	return true
}

// workloads are the places of an inspection at which a workload is named.
func workloads(i *events.Inspection) iter.Seq[**events.Workload] {
	return func(yield func(**events.Workload) bool) {
		all := []**events.Workload{&i.Workload}

		if i.Limiter != nil {
			all = append(all, &i.Limiter.Workload)
		}

		for n := range i.Ladder {
			all = append(all, &i.Ladder[n].Workload)
		}

		for n := range i.NearestLimits {
			all = append(all, &i.NearestLimits[n].Workload)
		}

		for n := range i.Shares {
			all = append(all, &i.Shares[n].Workload)
		}

		for n := range i.Candidates {
			all = append(all, &i.Candidates[n].Workload)
		}

		if i.Wait != nil {
			for n := range i.Wait.Tasks {
				all = append(all, &i.Wait.Tasks[n].Workload)
			}
		}

		if i.NodeState != nil {
			for n := range i.NodeState.Cgroups {
				all = append(all, &i.NodeState.Cgroups[n].Workload)
			}
		}

		for _, w := range all {
			if *w != nil && !yield(w) {
				return
			}
		}
	}
}
