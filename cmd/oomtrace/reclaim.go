// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oomtrace/oomtrace/internal/alert"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/tracer"
	"github.com/oomtrace/oomtrace/internal/view"
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
	flags.StringSliceVar(&f.guardians, "guardians", alert.DefaultGuardians, "systemd `units` that get a line of their own")

	return cmd
}

func reclaim(ctx context.Context, f reclaimFlags, stdout, stderr io.Writer) error {
	r := &reclaimTable{flags: f, out: stdout, next: time.Now().Add(f.interval)}

	t, err := tracer.Open(tracer.Options{
		Tier: attachMode(f.tier), Stalls: true, MinStall: time.Hour, CriticalServices: f.guardians,
		Sink: r, Counts: r.counts, UserKills: incident.UserKillsNone,
		Warn: func(text string) { fmt.Fprintln(stderr, "oomtrace:", text) },
	})
	if err != nil {
		return err
	}
	defer t.Close()
	r.tracer = t

	ctx, cancel := withDuration(ctx, f.duration)
	defer cancel()

	if err := t.Run(ctx, nil); err != nil {
		return err
	}

	if f.histogram {
		_, err = io.WriteString(stdout, formatHistogram(r.newest.Counts))
	}

	return err
}

// reclaimTable turns counts since the start into a table for each interval. Kills
// are one line each.
type reclaimTable struct {
	flags   reclaimFlags
	out     io.Writer
	tracer  *tracer.Tracer
	next    time.Time
	newest  kernel.StallCounts
	printed kernel.StallCounts      // as of the last table
	samples map[string]cgroupSample // by path, as of the last table
}

func (r *reclaimTable) counts(c kernel.StallCounts) error {
	r.newest = c

	now := time.Now()
	if now.Before(r.next) || r.flags.histogram {
		return nil
	}
	r.next = now.Add(r.flags.interval - 50*time.Millisecond) // counts come each second

	return r.print(now)
}

// print writes the table of the interval that ends now.
func (r *reclaimTable) print(now time.Time) error {
	rows := reclaimRows(r.printed.Counts, r.newest.Counts, r.identify)
	kswapd := kswapdActivity(r.printed.Kswapd, r.newest.Kswapd)

	samples := make(map[string]cgroupSample)

	for _, row := range rows {
		if path, ok := row.onlyPath(); ok {
			sample := sampleCgroup(r.tracer.Layout(), path, now)
			row.usage, samples[path] = sample.since(r.samples[path]), sample
		}
	}
	r.printed, r.samples = r.newest, samples

	_, err := io.WriteString(r.out, formatReclaim(now, r.flags.by, rows, kswapd))

	return err
}

func (r *reclaimTable) identify(key events.CgroupKey) cgroupIdentity {
	path, place := r.tracer.Place(key)

	return cgroupIdentity{path: path, name: rowName(r.flags.by, path, place), service: r.tracer.CriticalService(key)}
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
		if _, err := fmt.Fprintf(r.out, "%s OOM kill of %s[%d], see `oomtrace trace`\n", inc.Time.Local().Format("15:04:05"), view.Sanitize(v.Comm), v.PID); err != nil {
			return err
		}
	}

	return nil
}
