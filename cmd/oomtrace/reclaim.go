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
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/resolve/exitstatus"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/top"
	"github.com/oomtrace/oomtrace/internal/tracer"
	"github.com/oomtrace/oomtrace/internal/view"
)

type reclaimFlags struct {
	formatFlags
	names     nameFlags
	interval  time.Duration
	by        string
	filter    string
	histogram bool
	duration  time.Duration
	tier      string
	services  []string
}

func newReclaim(stdout, stderr io.Writer) *cobra.Command {
	var f reclaimFlags
	cmd := &cobra.Command{
		Use:   "reclaim",
		Short: "Print which workloads stall for memory, interval by interval",
		Example: `  sudo oomtrace reclaim                      # every second, by cgroup
  sudo oomtrace reclaim --by pod --interval 5
  sudo oomtrace reclaim -o json --filter shop/
  sudo oomtrace reclaim --histogram --duration 30s`,
		Long: `reclaim prints a row for each cgroup whose tasks stalled for memory during the
interval. Critical services and kswapd also get lines of their own. For a live
screen of all cgroups, see "oomtrace top".

  RECLAIMS   reclaims by its tasks; NOPROG% is the share that freed nothing
  RECLAIM    total time of these reclaims
  HIGH       total time that its tasks were throttled by memory.high (cgroup v2)
  THROTTLE   the part of reclaim in which they slept
  RECLAIMED  memory that was reclaimed
  USED       memory in use
  HEADROOM   what is left below the nearest limit; ^ marks an ancestor's
  PSI%       share of the interval in which any of its tasks stalled (cgroup v2)
  REFAULTS   reclaimed pages that were needed again

Columns for which the kernel has no values, or a line no room, are left out;
--wide and -o json include the latter.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}

			return reclaim(cmd.Context(), &f, stdout, stderr)
		},
	}
	addFlags(cmd, headingOutput, func(flags *pflag.FlagSet) {
		addInterval(flags, &f.interval, "shortest time between tables; counts are read once a second")
		flags.Var(newChoice(&f.by, top.Groupings...), "by", "what each row aggregates")
		flags.StringVar(&f.filter, "filter", "", "print only rows with this `text` in their name or path")
		flags.BoolVar(&f.histogram, "histogram", false, "print a histogram of stall durations at the end instead of tables")
		f.formatFlags.add(flags, "text", "json")
	})
	addFlags(cmd, headingEvents, func(flags *pflag.FlagSet) { addServices(flags, &f.services) })
	addFlags(cmd, headingSources, f.names.add)
	addFlags(cmd, headingTuning, func(flags *pflag.FlagSet) {
		addTier(flags, &f.tier)
		addDuration(flags, &f.duration)
	})

	return cmd
}

func (f *reclaimFlags) check() error {
	switch {
	case f.duration < 0:
		return usagef("--duration %s: must not be negative", f.duration)
	case f.histogram && f.output == "json":
		return usagef("--histogram cannot be combined with -o json")
	}

	return checkInterval(f.interval)
}

func reclaim(ctx context.Context, f *reclaimFlags, stdout, stderr io.Writer) error {
	r := &reclaimTable{
		flags: f, out: stdout, json: view.NewJSON(stdout), next: time.Now().Add(f.interval), began: time.Now(), warn: warnings(stderr),
	}

	resolver, err := f.names.open(r.warn)
	if err != nil {
		return err
	}

	options := tracer.Options{
		Tier: attachMode(f.tier), HostRoot: f.names.options.HostRoot,
		Stalls: true, MinStall: time.Hour, CriticalServices: f.services,
		Sink: r, Counts: r.counts, UserKills: incident.UserKillsNone,
		Protection: tracer.Protection{MaxBytes: defaultMaxMemory, Lock: true, Expendable: true},
		Warn:       r.warn,
	}

	if resolver != nil {
		defer resolver.Close()

		reports := exitstatus.New(resolver)
		defer reports.Close()

		options.Names, options.RuntimeReports = resolver, reports
	}

	t, err := tracer.Open(options)
	if err != nil {
		return err
	}
	defer t.Close()
	r.tracer = t
	r.seen = reclaimSeen(t)
	r.text = newReclaimText(f, stdout, r.seen)
	r.reportLeftOut()

	ctx, unwatch := whileRead(ctx, stdout)
	defer unwatch()

	ctx, cancel := withDuration(ctx, f.duration)
	defer cancel()

	if err := t.Run(ctx, nil); err != nil {
		return err
	}

	if f.histogram {
		_, err = io.WriteString(stdout, r.text.shown(formatHistogram(r.newest.Counts)))
	}

	return err
}

// reclaimSeen returns what this kernel shows.
func reclaimSeen(t *tracer.Tracer) seen {
	unseen := t.UnseenStalls()
	v2 := t.Layout().MemoryVersion == 2

	return seen{
		high:     v2 && !slices.Contains(unseen, string(events.StallMemoryHigh)),
		throttle: !slices.Contains(unseen, string(events.StallThrottle)), pressure: v2,
	}
}

// reclaimTable prints rows for each interval from counts since the start. As a sink it
// prints kills and lost records as a line each.
type reclaimTable struct {
	flags   *reclaimFlags
	out     io.Writer
	text    *reclaimText
	json    sink.Sink
	warn    func(string)
	tracer  *tracer.Tracer
	seen    seen
	next    time.Time
	began   time.Time // of the interval
	newest  kernel.StallCounts
	printed kernel.StallCounts      // as of the last table
	samples map[string]cgroupSample // by path, as of the last table
}

// reportLeftOut warns of columns that there is no room for.
func (r *reclaimTable) reportLeftOut() {
	if r.flags.output == "text" && !r.flags.histogram && len(r.text.leftOut) > 0 {
		r.warn("no room for " + strings.Join(r.text.leftOut, ", ") + ": --wide and -o json have them")
	}
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

// print writes the rows of the interval that ends now.
func (r *reclaimTable) print(now time.Time) error {
	rows := reclaimRows(r.printed.Counts, r.newest.Counts, r.identify)
	rows = slices.DeleteFunc(rows, func(row *reclaimRow) bool { return !row.matches(r.flags.filter) })
	kswapd := kswapdActivity(r.printed.Kswapd, r.newest.Kswapd)

	samples := make(map[string]cgroupSample)

	for _, row := range rows {
		if path, ok := row.onlyPath(); ok {
			sample := sampleCgroup(r.tracer.Layout(), path, now)
			row.usage, samples[path] = sample.since(r.samples[path]), sample
		}
	}
	took := now.Sub(r.began)
	r.printed, r.samples, r.began = r.newest, samples, now

	if r.flags.output == "json" {
		envelope := r.tracer.Status("").Envelope
		return writeReclaimJSON(r.out, envelope, r.flags.by, r.seen, took, rows, kswapd)
	}

	_, err := io.WriteString(r.out, r.text.format(now, rows, kswapd))

	return err
}

func (r *reclaimTable) identify(key events.CgroupKey) cgroupIdentity {
	path, place := r.tracer.Place(key)
	group, name := rowGroup(r.flags.by, path, place)

	return cgroupIdentity{path: path, group: group, name: name, workload: place.Workload, service: r.tracer.CriticalService(key)}
}

func (r *reclaimTable) Write(l events.Line) error {
	if r.flags.output == "json" {
		switch l.(type) {
		case *events.Incident, *events.Lost:
			return r.json.Write(l)
		}

		return nil
	}

	switch l := l.(type) {
	case *events.Incident:
		return r.kill(l)
	case *events.Lost:
		return r.line(fmt.Sprintf("%d lost: %s", l.Count, l.What))
	}

	return nil
}

func (r *reclaimTable) kill(inc *events.Incident) error {
	at := inc.Time.In(r.flags.location()).Format(time.TimeOnly)

	for _, v := range inc.Victims {
		if err := r.line(at + " OOM kill of " + phrase.Task(v.Comm, v.PID) + ", explained by `oomtrace trace`"); err != nil {
			return err
		}
	}

	return nil
}

func (r *reclaimTable) line(text string) error {
	_, err := io.WriteString(r.out, r.text.line(text))
	return err
}
