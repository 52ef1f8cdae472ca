// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/alert"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/record"
	"github.com/oomtrace/oomtrace/internal/resolve/exitstatus"
	"github.com/oomtrace/oomtrace/internal/runtimes"
	"github.com/oomtrace/oomtrace/internal/sigkill"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/tracer"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

type traceFlags struct {
	output    string
	wide      bool
	utc       bool
	tier      string
	duration  time.Duration
	readyFile string
	noStalls  bool
	stalls    bool
	minStall  time.Duration
	guardians []string
	lock      bool
	realTime  bool
	pressure  bool
	limits    alert.Limits
	names     nameFlags
	userKills string
	kubelet   string // its log
	filter    filter
	record    recordFlags
}

var (
	outputs = []string{"text", "json", "table", "bcc"}
	tiers   = []string{"auto", string(events.TierFentry), string(events.TierKprobe), string(events.TierTracepoint)}
)

// addOutput adds what says how to show: the same for a trace and for a replay.
func (f *traceFlags) addOutput(flags *pflag.FlagSet) {
	flags.StringVarP(&f.output, "output", "o", "text", "`format`: "+strings.Join(outputs, ", "))
	flags.BoolVarP(&f.wide, "wide", "w", false, "leave nothing out: whole ids and paths, every victim, zeros")
	flags.BoolVar(&f.utc, "utc", false, "show times in UTC (JSON always does)")
	f.filter.add(flags)
}

// addSource adds what says how to trace.
func (f *traceFlags) addSource(flags *pflag.FlagSet) {
	flags.StringVar(&f.tier, "tier", "auto", "`way` to attach: "+strings.Join(tiers, ", "))
	flags.DurationVar(&f.duration, "duration", 0, "end after this `time`, such as 30s or 10m; 0: until interrupted")
	flags.StringVar(&f.readyFile, "ready-file", "", "create this `file` once nothing is missed any more")
	flags.BoolVar(&f.stalls, "stalls", false, "print a line for each long stall")
	flags.DurationVar(&f.minStall, "min-stall", 10*time.Millisecond, "how `long` a stall must be for a line")
	f.limits = alert.DefaultLimits
	flags.BoolVar(&f.pressure, "pressure", false, "warn early: of throttling, of reclaim that gains nothing, of guardians that stand still")
	flags.Uint64Var(&f.limits.HighPercent, "pressure-high", f.limits.HighPercent, "warn from this `percent` of the time over memory.high")
	flags.Uint64Var(&f.limits.FruitlessPercent, "pressure-fruitless", f.limits.FruitlessPercent, "warn if this `percent` of reclaims gain nothing")
	flags.Uint64Var(&f.limits.GuardianPercent, "pressure-guardian", f.limits.GuardianPercent, "warn if a guardian stands still for this `percent` of the time")
	flags.StringSliceVar(&f.guardians, "guardians", alert.CriticalServices(runtimes.Known()), "systemd `units` that the whole node depends on")
	flags.BoolVar(&f.noStalls, "no-stalls", false, "do not look at stalls at all: kills come without what was before")
	flags.BoolVar(&f.lock, "lock-memory", true, "keep the tracer's memory from being swapped or dropped")
	flags.BoolVar(&f.realTime, "realtime", false, "read events at real-time priority: lines come in time on a loaded node")
	flags.StringVar(&f.userKills, "user-kills", "workloads", "which SIGKILLs that no OOM explains are told: `workloads` (containers, pods, services), all, none")
	flags.StringVar(&f.kubelet, "kubelet-log", "", "`file` with the kubelet's log; default: its journal")
	f.names.add(flags)
}

// userKills are what --user-kills can be; empty where a command does not have it.
var userKills = map[string]incident.UserKills{
	"":          incident.UserKillsOfWorkloads,
	"workloads": incident.UserKillsOfWorkloads, "all": incident.UserKillsAll, "none": incident.UserKillsNone,
}

func (f *traceFlags) check() error {
	if !slices.Contains(outputs, f.output) {
		return usagef("--output %q: it is one of %s", f.output, strings.Join(outputs, ", "))
	}

	if !slices.Contains(tiers, f.tier) {
		return usagef("--tier %q: it is one of %s", f.tier, strings.Join(tiers, ", "))
	}

	if f.duration < 0 {
		return usagef("--duration %s: it cannot be negative", f.duration)
	}

	if f.minStall < 0 {
		return usagef("--min-stall %s: it cannot be negative", f.minStall)
	}

	if (f.stalls || f.pressure) && f.noStalls {
		return usagef("--no-stalls excludes --stalls and --pressure")
	}

	if err := f.record.check(); err != nil {
		return err
	}

	if _, ok := userKills[f.userKills]; !ok {
		return usagef("--user-kills %q: it is one of workloads, all, none", f.userKills)
	}

	if f.names.off && f.filter.byName() {
		return usagef("--no-names excludes the filters that need names: --namespace, --pod and --pod-label")
	}

	return f.filter.check()
}

// senders returns where the processes of the node are seen.
func (f *traceFlags) senders() sigkill.Options {
	root := f.names.options.HostRoot
	if root == "" || root == "/" {
		return sigkill.Options{}
	}

	return sigkill.Options{Proc: filepath.Join(root, "proc"), Passwd: filepath.Join(root, "etc/passwd")}
}

func (f *traceFlags) forcedTier() events.Tier {
	if f.tier == "auto" {
		return ""
	}

	return events.Tier(f.tier)
}

func newTrace(stdout, stderr io.Writer) *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Explain OOM kills as they happen (the default)",
		Long: `  sudo oomtrace trace --comm java       # only where java died
  sudo oomtrace trace -o json > oom.json
  sudo oomtrace trace --record /var/log/oomtrace

trace prints a block for every OOM kill, and later what became known of it.
Filters match the limiter or a victim; several filters must all match. They say
what is shown; --record records everything.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}

			return trace(cmd.Context(), &f, stdout, stderr)
		},
	}
	f.addOutput(cmd.Flags())
	f.addSource(cmd.Flags())
	cmd.Flags().Var((*word)(&f.record.dir), "record", "also record into this `directory`, each incident before it is printed")
	f.record.add(cmd.Flags())

	return cmd
}

func trace(ctx context.Context, f *traceFlags, stdout, stderr io.Writer) error {
	out := newOutput(f, nil, stdout, stderr)
	if err := f.run(ctx, out, stderr); err != nil {
		return err
	}

	return out.close()
}

// run traces into a sink, and records first if a recording is wanted: an incident is on
// disk before it is shown.
func (f *traceFlags) run(ctx context.Context, to sink.Sink, stderr io.Writer) (err error) {
	if f.record.dir != "" {
		recording, rerr := f.record.open(stderr)
		if rerr != nil {
			return rerr
		}
		defer func() { err = errors.Join(err, recording.Close()) }()

		to = sink.Tee(record.NewSink(recording), to)
	}

	var limits *alert.Limits
	if f.pressure {
		limits = &f.limits
	}
	warn := func(text string) { fmt.Fprintln(stderr, "oomtrace:", phrase.Sanitize(text)) }

	resolver, err := f.names.open(warn)
	if err != nil {
		return err
	}

	var known tracer.Names
	var reports tracer.RuntimeReports

	if resolver != nil {
		checker := exitstatus.New(resolver)
		known, reports = resolver, checker

		defer resolver.Close()
		defer checker.Close()
	}

	t, err := tracer.Open(tracer.Options{
		Names: known, RuntimeReports: reports, Warn: warn, HostRoot: f.names.options.HostRoot,
		UserKills: userKills[f.userKills], KubeletLog: f.kubelet, Senders: f.senders(),
		Tier: f.forcedTier(), Sink: to, Stalls: !f.noStalls, MinStall: f.minStall, StallLines: f.stalls,
		Alerts: limits, CriticalServices: f.guardians, NoLock: !f.lock, RealTime: f.realTime,
	})
	if err != nil {
		return err
	}
	defer t.Close()

	if f.duration > 0 {
		var cancel context.CancelFunc

		ctx, cancel = context.WithTimeout(ctx, f.duration)
		defer cancel()
	}

	return t.Run(ctx, f.ready)
}

func (f *traceFlags) ready() error {
	if f.readyFile == "" {
		return nil
	}

	file, err := os.OpenFile(f.readyFile, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("creating --ready-file: %w", err)
	}

	return file.Close()
}
