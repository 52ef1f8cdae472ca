// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oomtrace/oomtrace/internal/alert"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/runtimes"
	"github.com/oomtrace/oomtrace/internal/tracer"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

type reclaimFlags struct {
	interval  time.Duration
	by        string
	histogram bool
	duration  time.Duration
	tier      string
	guardians []string
}

var groupings = []string{"cgroup", "container", "pod"}

func newReclaim(stdout, stderr io.Writer) *cobra.Command {
	f := reclaimFlags{}
	cmd := &cobra.Command{
		Use:   "reclaim",
		Short: "Show who stalls for memory, interval by interval",
		Long: `  sudo oomtrace reclaim                      # each second, by cgroup
  sudo oomtrace reclaim --by pod --interval 5s
  sudo oomtrace reclaim --histogram --duration 30s

reclaim prints, for each cgroup whose tasks stalled for memory in the interval,
how often and how long, what was reclaimed, and how near the limit is. PSI% is
the share of the time in which some task of the cgroup stood still for memory;
HEADROOM is what is left below the tightest limit; ^ marks an ancestor's limit.
REFAULTS are pages that were reclaimed and needed again. Services that the node
depends on, and kswapd, have lines of their own.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.interval < 100*time.Millisecond:
				return usagef("--interval %s: the shortest is 100ms", f.interval)
			case !slices.Contains(groupings, f.by):
				return usagef("--by %q: it is one of %s", f.by, strings.Join(groupings, ", "))
			case !slices.Contains(tiers, f.tier):
				return usagef("--tier %q: it is one of %s", f.tier, strings.Join(tiers, ", "))
			case f.duration < 0:
				return usagef("--duration %s: it cannot be negative", f.duration)
			}

			return reclaim(cmd.Context(), f, stdout, stderr)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.interval, "interval", time.Second, "`time` between tables")
	flags.StringVar(&f.by, "by", "cgroup", "`what` to sum up by: "+strings.Join(groupings, ", "))
	flags.BoolVar(&f.histogram, "histogram", false, "print how long stalls took, at the end")
	flags.DurationVar(&f.duration, "duration", 0, "end after this `time`; 0: until interrupted")
	flags.StringVar(&f.tier, "tier", "auto", "`way` to attach: "+strings.Join(tiers, ", "))
	flags.StringSliceVar(&f.guardians, "guardians", alert.CriticalServices(runtimes.Known()), "systemd `units` that get a line of their own")

	return cmd
}

func reclaim(ctx context.Context, f reclaimFlags, stdout, stderr io.Writer) error {
	r := &reclaimTable{flags: f, out: stdout, next: time.Now().Add(f.interval), last: map[kernel.StallKey]kernel.StallCount{}}

	options := tracer.Options{
		Stalls: true, MinStall: time.Hour, CriticalServices: f.guardians, Sink: r, Counts: r.counts, UserKills: incident.UserKillsNone,
		Warn: func(text string) { fmt.Fprintln(stderr, "oomtrace:", text) },
	}
	if f.tier != "auto" {
		options.Tier = events.Tier(f.tier)
	}

	t, err := tracer.Open(options)
	if err != nil {
		return err
	}
	defer t.Close()
	r.tracer = t

	if f.duration > 0 {
		var cancel context.CancelFunc

		ctx, cancel = context.WithTimeout(ctx, f.duration)
		defer cancel()
	}

	if err := t.Run(ctx, nil); err != nil {
		return err
	}

	if f.histogram {
		return r.printHistogram()
	}

	return nil
}

// reclaimTable turns counts since the start into a table for each interval. Kills
// are one line each.
type reclaimTable struct {
	flags              reclaimFlags
	out                io.Writer
	tracer             *tracer.Tracer
	next               time.Time
	last               map[kernel.StallKey]kernel.StallCount
	newest             map[kernel.StallKey]kernel.StallCount
	kswapd, lastKswapd map[int]kernel.KswapdCount
	samples            map[string]cgroupSample // by path, of the last table
}

type cgroupSample struct {
	host.Sample
	refaultPages *uint64
	at           time.Time
}

func (r *reclaimTable) counts(c kernel.StallCounts) error {
	r.newest, r.kswapd = c.Counts, c.Kswapd

	now := time.Now()
	if now.Before(r.next) || r.flags.histogram {
		return nil
	}
	r.next = now.Add(r.flags.interval - 50*time.Millisecond) // counts come each second

	return r.print(now)
}

type reclaimRow struct {
	name                     string
	count, fruitless         uint64
	reclaimNS, highNS, allNS uint64
	reclaimedPages           uint64
	paths                    []string
	guardian                 string
}

func (r *reclaimTable) print(now time.Time) error {
	rows := map[string]*reclaimRow{}

	for key, c := range r.newest {
		before := r.last[key]
		if c.Count == before.Count {
			continue
		}

		if c.Count < before.Count {
			before = kernel.StallCount{}
		}
		path, place := r.tracer.Place(key.Cgroup)
		name := r.name(path, place)

		row := rows[name]
		if row == nil {
			row = &reclaimRow{name: name, guardian: r.tracer.CriticalService(key.Cgroup)}
			rows[name] = row
		}

		if !slices.Contains(row.paths, path) {
			row.paths = append(row.paths, path)
		}
		ns := c.TotalNS - before.TotalNS

		switch key.What {
		case events.StallMemoryHigh:
			row.highNS += ns
		case events.StallMemcgReclaim, events.StallDirectReclaim, events.StallNodeReclaim:
			row.reclaimNS += ns
			row.count += c.Count - before.Count
			row.fruitless += c.Fruitless - before.Fruitless
			row.reclaimedPages += c.ReclaimedPages - before.ReclaimedPages
		}
		row.allNS += ns
	}
	r.last = r.newest

	sorted := make([]*reclaimRow, 0, len(rows))
	for _, row := range rows {
		sorted = append(sorted, row)
	}

	slices.SortFunc(sorted, func(a, b *reclaimRow) int { return cmp.Or(cmp.Compare(b.allNS, a.allNS), cmp.Compare(a.name, b.name)) })
	var b strings.Builder
	samples := make(map[string]cgroupSample)

	if len(sorted) > 0 {
		fmt.Fprintf(&b, "%-8s %9s %9s %10s %9s %10s %9s %9s %6s %9s  %s\n", "TIME", "RECLAIMS", "FRUITLESS", "RECLAIM-ms", "HIGH-ms", "RECLAIMED",
			"USED", "HEADROOM", "PSI%", "REFAULTS", strings.ToUpper(r.flags.by))
	}

	for _, row := range sorted {
		used, headroom, psi, refaults := "-", "-", "-", "-"

		if len(row.paths) == 1 && row.paths[0] != "" {
			layout, path := r.tracer.Layout(), row.paths[0]
			s := cgroupSample{host.SampleCgroup(layout, path), host.RefaultPages(layout, path), now}

			samples[path] = s
			if s.UsageBytes != nil {
				used = mib(*s.UsageBytes)
			}

			if room, limiter, ok := host.Headroom(layout, path); ok {
				headroom = mib(room)
				if limiter != path {
					headroom += "^" // an ancestor's limit is tighter
				}
			}
			// The first time there is nothing to compare with.
			if before, ok := r.samples[path]; ok {
				if us, ok := grown(before.PSISomeUS, s.PSISomeUS); ok {
					psi = fmt.Sprintf("%.0f", float64(us)/float64(now.Sub(before.at).Microseconds())*100)
				}

				if pages, ok := grown(before.refaultPages, s.refaultPages); ok {
					refaults = strconv.FormatUint(pages, 10)
				}
			}
		}

		fmt.Fprintf(&b, "%-8s %9d %9d %10.1f %9.1f %10s %9s %9s %6s %9s  %s\n", now.Format("15:04:05"), row.count, row.fruitless,
			float64(row.reclaimNS)/1e6, float64(row.highNS)/1e6, mib(row.reclaimedPages*uint64(host.PageSize())), used, headroom,
			psi, refaults, phrase.Sanitize(row.name))
	}
	r.samples = samples

	for _, row := range sorted {
		if row.guardian != "" {
			fmt.Fprintf(&b, "%-8s %s, which the node depends on, stood still for %.1f ms\n", now.Format("15:04:05"), phrase.Sanitize(row.guardian), float64(row.allNS)/1e6)
		}
	}

	for _, n := range slices.Sorted(maps.Keys(r.kswapd)) {
		if k, before := r.kswapd[n], r.lastKswapd[n]; k != before {
			fmt.Fprintf(&b, "%-8s kswapd of node %d was awake for %.1f ms, %d wakeups\n", now.Format("15:04:05"), n,
				float64(k.AwakeNS-before.AwakeNS)/1e6, k.Wakeups-before.Wakeups)
		}
	}
	r.lastKswapd = r.kswapd
	_, err := io.WriteString(r.out, b.String())

	return err
}

// grown is by how much a count grew, if both readings are known.
func grown(before, now *uint64) (uint64, bool) {
	if before == nil || now == nil || *now < *before {
		return 0, false
	}

	return *now - *before, true
}

func mib(bytes uint64) string { return fmt.Sprintf("%.1fM", float64(bytes)/(1<<20)) }

// name is what a row sums up by. What is no pod or container keeps its path.
func (r *reclaimTable) name(path string, place resolve.Place) string {
	w := place.Workload
	switch {
	case w != nil && r.flags.by == "pod" && w.PodUID != "":
		return "pod " + w.PodUID
	case w != nil && r.flags.by == "container" && w.ContainerID != "":
		return "container " + w.ContainerID
	case path == "":
		return "path not known"
	}

	return path
}

// printHistogram shows for each kind how long stalls took, over all cgroups.
func (r *reclaimTable) printHistogram() error {
	sums := map[events.StallKind]*[kernel.StallBuckets]uint64{}
	for key, c := range r.newest {
		if sums[key.What] == nil {
			sums[key.What] = new([kernel.StallBuckets]uint64)
		}

		for b, n := range c.Buckets {
			sums[key.What][b] += n
		}
	}

	var kinds []events.StallKind
	for what := range sums {
		kinds = append(kinds, what)
	}

	slices.Sort(kinds)

	var b strings.Builder
	for _, what := range kinds {
		fmt.Fprintf(&b, "%s\n", what)
		first, last, most := kernel.StallBuckets, 0, uint64(0)

		for i, n := range sums[what] {
			if n > 0 {
				first, last, most = min(first, i), i, max(most, n)
			}
		}

		for i := first; i <= last; i++ {
			n := sums[what][i]
			fmt.Fprintf(&b, "  %10s .. %-10s %10d |%s\n", micro(i), micro(i+1), n, strings.Repeat("#", int(n*40/most)))
		}
	}

	if len(kinds) == 0 {
		b.WriteString("nothing stalled\n")
	}
	_, err := io.WriteString(r.out, b.String())

	return err
}

// micro is the lower end of a bucket; the first holds all below 2 us.
func micro(bucket int) string {
	if bucket == 0 {
		return "0"
	}

	return (time.Microsecond << bucket).String()
}

// Write prints kills and lost records as a line each.
func (r *reclaimTable) Write(l events.Line) error {
	switch l := l.(type) {
	case *events.Incident:
		return r.kill(l)
	case *events.Lost:
		_, err := fmt.Fprintf(r.out, "%d lost: %s\n", l.Count, l.What)
		return err
	}

	return nil
}

func (r *reclaimTable) kill(inc *events.Incident) error {
	for _, v := range inc.Victims {
		if _, err := fmt.Fprintf(r.out, "%s OOM kill of %s[%d], see `oomtrace trace`\n", inc.Time.Local().Format("15:04:05"), phrase.Sanitize(v.Comm), v.PID); err != nil {
			return err
		}
	}

	return nil
}
