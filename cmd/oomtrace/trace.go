// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
)

type traceFlags struct {
	formatFlags
	filter     filter
	userKills  string
	stalls     bool
	minStall   time.Duration
	noStalls   bool
	pressure   bool
	limits     alert.Limits
	services   []string // critical ones
	names      nameFlags
	kubeletLog string
	record     recordFlags
	tier       string
	duration   time.Duration
	readyFile  string
	lock       bool
	realTime   bool
	maxMemory  byteSize

	// recording names the one that has the incidents, as typed in a shell; empty: the default one.
	recording string
	started   func(events.Tier) // called once tracing has started; may be nil
}

// defaultMaxMemory is several times what a trace needs on a large node: see
// docs/overhead.md.
const (
	defaultMaxMemory = 256 << 20
	leastMaxMemory   = 64 << 20
)

// The first value of each is the default.
var (
	outputs       = []string{"text", "json", "table", "bcc"}
	userKillModes = []string{"workloads", "all", "none"}
	tiers         = []string{
		"auto", string(events.TierFentry), string(events.TierKprobe), string(events.TierTracepoint),
	}
)

var userKills = map[string]incident.UserKills{
	"workloads": incident.UserKillsOfWorkloads, "all": incident.UserKillsAll, "none": incident.UserKillsNone,
}

// addOutput adds the flags that a trace and a replay share.
func (f *traceFlags) addOutput(cmd *cobra.Command) {
	addFlags(cmd, headingOutput, func(flags *pflag.FlagSet) { f.formatFlags.add(flags, outputs...) })
	addFlags(cmd, headingFilters, f.filter.add)
}

// addSource adds the flags that a trace and a recording share.
func (f *traceFlags) addSource(cmd *cobra.Command) {
	addFlags(cmd, headingEvents, f.addEvents)
	addFlags(cmd, headingSources, func(flags *pflag.FlagSet) {
		f.names.add(flags)
		flags.StringVar(&f.kubeletLog, "kubelet-log", "",
			"file with the kubelet's log; without it, the journal is read")
		metavar(flags, "path", "kubelet-log")
	})
	addFlags(cmd, headingTuning, f.addTuning)
}

func (f *traceFlags) addEvents(flags *pflag.FlagSet) {
	f.limits = alert.DefaultLimits
	l := &f.limits

	flags.Var(newChoice(&f.userKills, userKillModes...), "user-kills",
		"report SIGKILLs not sent by the OOM killer: of workloads (containers, pods, services), all or none")
	flags.BoolVar(&f.stalls, "stalls", false, "report each stall of at least --min-stall")
	flags.DurationVar(&f.minStall, "min-stall", 10*time.Millisecond, "shortest stall to report individually")
	flags.BoolVar(&f.noStalls, "no-stalls", false, "disable stall tracing; incidents then lack stall history")
	flags.BoolVar(&f.pressure, "pressure", false,
		"print early warnings: throttling, reclaim without progress, stalled critical services")
	flags.Uint64Var(&l.HighPercent, "pressure-high", l.HighPercent,
		"warn when tasks are throttled by memory.high for this percentage of the time")
	flags.Uint64Var(&l.NoProgressPercent, "pressure-fruitless", l.NoProgressPercent,
		"warn when this percentage of reclaims makes no progress")
	flags.Uint64Var(&l.CriticalPercent, "pressure-guardian", l.CriticalPercent,
		"warn when a critical service is stalled for this percentage of the time")
	metavar(flags, "n", "pressure-high", "pressure-fruitless", "pressure-guardian")
	addServices(flags, &f.services)
}

// addServices adds --guardians, the critical services.
func addServices(flags *pflag.FlagSet, services *[]string) {
	flags.StringSliceVar(services, "guardians", alert.CriticalServices(runtimes.Known()),
		"critical services: systemd units, or paths of cgroups, that the whole node depends on")
	flags.Lookup("guardians").DefValue = "a built-in list" // shown in the help only
	metavar(flags, "unit,...", "guardians")
}

func (f *traceFlags) addTuning(flags *pflag.FlagSet) {
	addTier(flags, &f.tier)
	addDuration(flags, &f.duration)
	flags.StringVar(&f.readyFile, "ready-file", "",
		"create this file once tracing has started and no kill can be missed")
	flags.BoolVar(&f.lock, "lock-memory", true, "keep oomtrace's own memory from being swapped out or dropped")
	flags.BoolVar(&f.realTime, "realtime", false,
		"read events at real-time priority, for timely output on an overloaded node")
	metavar(flags, "path", "ready-file")

	f.maxMemory = defaultMaxMemory
	flags.Var(&f.maxMemory, "max-memory",
		"exit with status 3 if oomtrace itself uses more memory than this; 0: no bound, and not exempt from the OOM killer")
}

func addTier(flags *pflag.FlagSet, tier *string) {
	flags.Var(newChoice(tier, tiers...), "tier", "attach mode: the best one available, or only this one")
}

func addDuration(flags *pflag.FlagSet, d *time.Duration) {
	flags.DurationVar(d, "duration", 0, "stop after this time, such as 30s or 10m; 0 means until interrupted")
}

func (f *traceFlags) check() error {
	switch {
	case f.duration < 0:
		return usagef("--duration %s: must not be negative", f.duration)
	case f.minStall < 0:
		return usagef("--min-stall %s: must not be negative", f.minStall)
	case f.maxMemory != 0 && f.maxMemory < leastMaxMemory:
		return usagef("--max-memory %s: must be at least %s, or 0", f.maxMemory, byteSize(leastMaxMemory))
	case (f.stalls || f.pressure) && f.noStalls:
		return usagef("--no-stalls cannot be combined with --stalls or --pressure")
	case f.names.off && f.filter.podNames() != "":
		return usagef("--no-names cannot be combined with %s: names are what it matches", f.filter.podNames())
	}

	if err := f.record.check(); err != nil {
		return err
	}

	return f.filter.check()
}

// senders returns where to read the processes that sent a SIGKILL.
func (f *traceFlags) senders() sigkill.Options {
	root := f.names.options.HostRoot
	if root == "" || root == "/" {
		return sigkill.Options{}
	}

	return sigkill.Options{Proc: filepath.Join(root, "proc"), Passwd: filepath.Join(root, "etc/passwd")}
}

// attachMode returns the mode of --tier; empty for auto.
func attachMode(tier string) events.Tier {
	if tier == "auto" {
		return ""
	}

	return events.Tier(tier)
}

func newTrace(stdout, stderr io.Writer) *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Explain OOM kills as they happen (the default)",
		Example: `  sudo oomtrace trace --comm java       # only kills of java
  sudo oomtrace trace -o json > oom.json
  sudo oomtrace trace --record /var/log/oomtrace`,
		Long: `trace prints a block for every OOM kill, and updates as more becomes known.
Filters match the limiter or a victim; several filters must all match. They only
limit what is printed: --record records everything.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}

			if f.record.dir != "" {
				f.recording = recordingWord([]string{f.record.dir})
			}

			return trace(cmd.Context(), &f, stdout, stderr)
		},
	}
	f.addOutput(cmd)
	f.addSource(cmd)
	addFlags(cmd, headingRecording, func(flags *pflag.FlagSet) {
		flags.Var(newText(&f.record.dir, "path"), "record",
			"also record into this directory; each incident is written before it is printed")
		f.record.add(flags)
	})

	return cmd
}

func trace(ctx context.Context, f *traceFlags, stdout, stderr io.Writer) error {
	out := newOutput(f, nil, stdout, stderr)

	ctx, cancel := whileRead(ctx, stdout)
	defer cancel()

	return closing(out, f.run(ctx, out, stderr))
}

// run traces into a sink. With --record, a line goes to the recording first, so an
// incident is on disk before it is shown.
func (f *traceFlags) run(ctx context.Context, to sink.Sink, stderr io.Writer) (err error) {
	options := f.tracerOptions()
	if out, ok := to.(*output); ok {
		options.Idle = out.Idle
	}

	if f.record.dir != "" {
		recording, rerr := f.record.open(stderr)
		if rerr != nil {
			return rerr
		}
		defer func() { err = errors.Join(err, recording.Close()) }()

		to = sink.Tee(record.NewSink(recording), to)
	}

	options.Sink = to
	options.Warn = warnings(stderr)

	for _, text := range f.filter.unmatched(ctx, f.names.options) {
		options.Warn(text)
	}

	resolver, err := f.names.open(options.Warn)
	if err != nil {
		return err
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

	ctx, cancel := withDuration(ctx, f.duration)
	defer cancel()

	return t.Run(ctx, func() error {
		if f.started != nil {
			f.started(t.Status(events.PhaseStart).Tier)
		}

		return f.ready()
	})
}

// tracerOptions returns the options that the flags set. Sink, Warn and Names are left to
// the caller.
func (f *traceFlags) tracerOptions() tracer.Options {
	o := tracer.Options{
		Tier: attachMode(f.tier), HostRoot: f.names.options.HostRoot,
		RealTime: f.realTime,
		Protection: tracer.Protection{
			MaxBytes: uint64(f.maxMemory), Lock: f.lock,
			Rehearse: newOutput(&traceFlags{formatFlags: f.formatFlags}, nil, io.Discard, io.Discard),
		},

		UserKills: userKills[f.userKills], Senders: f.senders(), KubeletLog: f.kubeletLog,

		Stalls: !f.noStalls, MinStall: f.minStall, StallLines: f.stalls, CriticalServices: f.services,
	}
	if f.pressure {
		o.Alerts = &f.limits
	}

	return o
}

// withDuration cancels the context after a duration; 0 means never.
func withDuration(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d == 0 {
		return context.WithCancel(ctx)
	}

	return context.WithTimeout(ctx, d)
}

// ready creates the file of --ready-file.
func (f *traceFlags) ready() error {
	if f.readyFile == "" {
		return nil
	}

	file, err := os.OpenFile(f.readyFile, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("create the file of --ready-file: %w", err)
	}

	return file.Close()
}
