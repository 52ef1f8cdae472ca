// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/tracer"
)

type reclaimFlags struct {
	interval  time.Duration
	by        string
	histogram bool
	duration  time.Duration
	tier      string
	services  []string
}

func newReclaim(stdout, stderr io.Writer) *cobra.Command {
	var f reclaimFlags
	cmd := &cobra.Command{
		Use:   "reclaim",
		Short: "Show which workloads stall for memory, interval by interval",
		Example: `  sudo oomtrace reclaim                      # every second, by cgroup
  sudo oomtrace reclaim --by pod --interval 5s
  sudo oomtrace reclaim --histogram --duration 30s`,
		Long: `reclaim prints a row for each cgroup whose tasks stalled for memory during the
interval. Critical services and kswapd also get lines of their own.

  RECLAIMS, RECLAIM-ms  number and total time of reclaims by its tasks
  NO-PROGRESS           reclaims that freed nothing
  HIGH-ms               total time that its tasks were throttled by memory.high
  RECLAIMED             memory that was reclaimed
  USED, HEADROOM        memory in use, and left below the tightest limit;
                        ^ marks the limit of an ancestor
  PSI%                  share of the interval in which any of its tasks stalled
  REFAULTS              pages that were needed again after they were reclaimed`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.interval < 100*time.Millisecond:
				return usagef("--interval %s: must be at least 100ms", f.interval)
			case f.duration < 0:
				return usagef("--duration %s: must not be negative", f.duration)
			}

			return reclaim(cmd.Context(), f, stdout, stderr)
		},
	}
	addFlags(cmd, headingOutput, func(flags *pflag.FlagSet) {
		flags.DurationVar(&f.interval, "interval", time.Second, "shortest time between tables; counts are read once a second")
		flags.Var(newChoice(&f.by, "cgroup", "container", "pod"), "by", "what each row aggregates")
		flags.BoolVar(&f.histogram, "histogram", false, "print a histogram of stall durations at the end instead of tables")
	})
	addFlags(cmd, headingEvents, func(flags *pflag.FlagSet) { addServices(flags, &f.services) })
	addFlags(cmd, headingTuning, func(flags *pflag.FlagSet) {
		addTier(flags, &f.tier)
		addDuration(flags, &f.duration)
	})

	return cmd
}

func reclaim(ctx context.Context, f reclaimFlags, stdout, stderr io.Writer) error {
	r := &reclaimTable{flags: f, out: stdout, next: time.Now().Add(f.interval)}

	t, err := tracer.Open(tracer.Options{
		Tier: attachMode(f.tier), Stalls: true, MinStall: time.Hour, CriticalServices: f.services,
		Sink: r, Counts: r.counts, UserKills: incident.UserKillsNone,
		Protection: tracer.Protection{MaxBytes: defaultMaxMemory, Lock: true},
		Warn:       warnings(stderr),
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

// reclaimTable prints a table for each interval from counts since the start. As a sink it
// prints kills and lost records as a line each.
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
	r.next = now.Add(r.flags.interval - 50*time.Millisecond) // counts arrive every second

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
	at := inc.Time.Local().Format(time.TimeOnly)

	for _, v := range inc.Victims {
		_, err := fmt.Fprintf(r.out, "%s OOM kill of %s[%d], explained by `oomtrace trace`\n",
			at, phrase.Sanitize(v.Comm), v.PID)
		if err != nil {
			return err
		}
	}

	return nil
}
