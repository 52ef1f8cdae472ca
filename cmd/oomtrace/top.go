// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/resolve/exitstatus"
	"github.com/oomtrace/oomtrace/internal/resolve/names"
	"github.com/oomtrace/oomtrace/internal/top"
	"github.com/oomtrace/oomtrace/internal/tracer"
	"github.com/oomtrace/oomtrace/internal/usage"
	"github.com/oomtrace/oomtrace/internal/view"
)

type topFlags struct {
	trace    traceFlags // of the trace below the screen
	interval time.Duration
	order    string
	by       string
	filter   string
	tree     bool
}

func newTop(stdout, stderr io.Writer) *cobra.Command {
	var f topFlags
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show live which cgroups are near a limit, and the last kills",
		Example: `  sudo oomtrace top                      # all cgroups, the least headroom first
  sudo oomtrace top --by pod --sort stall
  sudo oomtrace top --tree --filter shop/`,
		Long: `top shows the cgroups of the node by how much they may still use before the
nearest limit on their way to the root, how fast they grow towards it and how
long their tasks stall for memory; below, the last kills. Enter opens a cgroup
or the whole block of a kill; ? explains keys and columns; q quits.

It needs a terminal. "oomtrace reclaim" prints rows, for a pipe or a file.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}

			return f.run(cmd.Context(), stdout, stderr)
		},
	}
	addFlags(cmd, headingOutput, func(flags *pflag.FlagSet) {
		addInterval(flags, &f.interval, "time between two readings of the cgroups")
		flags.Var(newChoice(&f.order, top.Orders...), "sort", "order of the cgroups")
		flags.Var(newChoice(&f.by, top.Groupings...), "by", "what each row is about")
		flags.BoolVar(&f.tree, "tree", false, "show the tree of cgroups")
		flags.StringVar(&f.filter, "filter", "", "show only cgroups with this `text` in their name or path")
	})
	addFlags(cmd, headingSources, f.trace.names.add)
	addFlags(cmd, headingTuning, func(flags *pflag.FlagSet) {
		addTier(flags, &f.trace.tier)
		addDuration(flags, &f.trace.duration)
	})

	return cmd
}

func (f *topFlags) check() error {
	if f.trace.duration < 0 {
		return usagef("--duration %s: must not be negative", f.trace.duration)
	}

	return checkInterval(f.interval)
}

// run shows the screen until the user quits. The trace below it has this goroutine, since
// records are read by the main thread; where it cannot be had the screen has no kills.
func (f *topFlags) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	out, err := terminalOf(stdout)
	if err != nil {
		return err
	}

	layout, err := host.Cgroups()
	if err != nil {
		return err
	}

	feed := top.NewFeed()
	defer func() { printWarnings(feed, stderr) }() // once the terminal has its lines back

	resolver, err := f.trace.names.open(feed.Warn)
	if err != nil {
		return err
	}

	var reports *exitstatus.Checker

	if resolver != nil {
		defer resolver.Close()

		reports = exitstatus.New(resolver)
		defer reports.Close()
	}

	options := top.Options{
		In: os.Stdin, Out: out, Env: os.Environ(), Node: host.Hostname(), Feed: feed, Interval: f.interval,
		Order: f.order, By: f.by, Tree: f.tree, Filter: f.filter, Location: time.Local, Block: block, ASCII: !utf8Locale(),
	}

	t, err := f.open(resolver, reports, feed)
	if err != nil {
		options.Untraced = err.Error()
	} else {
		defer t.Close()
	}

	sampler := usage.New(usage.Options{Layout: layout, Place: placer(resolver, t == nil), Budget: f.interval / budgetPart})
	defer sampler.Close()

	if t != nil {
		sampler.Traced(!slices.Contains(t.UnseenStalls(), string(events.StallMemoryHigh)))
	}
	options.Source = sampler

	ctx, cancel := withDuration(ctx, f.trace.duration)
	defer cancel()

	screen := make(chan error, 1)

	go func() {
		screen <- top.Run(ctx, options)

		cancel()
	}()

	if t != nil {
		err = t.Run(ctx, nil)

		cancel()
	} else {
		err = nil
	}

	return errors.Join(err, <-screen)
}

// open starts the trace below the screen.
func (f *topFlags) open(resolver *names.Resolver, reports *exitstatus.Checker, feed *top.Feed) (*tracer.Tracer, error) {
	o := tracer.Options{
		Tier: attachMode(f.trace.tier), HostRoot: f.trace.names.options.HostRoot, Sink: feed, Counts: feed.Counts, Warn: feed.Warn,
		Stalls: true, MinStall: time.Hour, UserKills: userKills[userKillModes[0]], Senders: f.trace.senders(),
		Protection: tracer.Protection{MaxBytes: defaultMaxMemory, Lock: true, Expendable: true},
	}
	if resolver != nil {
		o.Names, o.RuntimeReports = resolver, reports
	}

	return tracer.Open(o)
}

// terminalOf returns the terminal that output goes to. Keys are read from standard input,
// which must be one, too.
func terminalOf(stdout io.Writer) (*os.File, error) {
	out, ok := stdout.(*os.File)
	if !ok || !term.IsTerminal(int(out.Fd())) || !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, errors.New("top needs a terminal: run `oomtrace reclaim`, which prints rows")
	}

	return out, nil
}

// budgetPart is the part of a core's time that reading cgroups may take: 0.4 percent.
const budgetPart = 250

// mostAsked bounds how many containers and pods a placer remembers to have asked for.
const mostAsked = 8192

// placer returns a function from a cgroup's path to its place, with names. A trace has the
// names of all pods looked up; without one, the function does. It belongs to one goroutine.
func placer(resolver *names.Resolver, lookUp bool) func(string) (events.Level, *events.Workload) {
	if resolver == nil {
		return resolve.Placer(nil)
	}

	place, asked := resolve.Placer(resolver), map[resolve.Ref]bool{}

	return func(path string) (events.Level, *events.Workload) {
		level, w := place(path)
		if ref, ok := resolve.RefOf(w); ok && lookUp && !asked[ref] {
			if len(asked) == mostAsked {
				clear(asked) // asking again is only a waste
			}
			asked[ref] = true
			resolver.Found(ref)
		}

		return level, w
	}
}

// block is the text of an incident.
func block(inc *events.Incident, width int) string {
	var text bytes.Buffer

	opts := view.TextOptions{Width: width, Full: true, Color: os.Getenv("NO_COLOR") == "", ASCII: !utf8Locale()}
	if err := view.NewText(&text, opts).Write(inc); err != nil {
		return phrase.Sanitize(err.Error())
	}

	return text.String()
}

func printWarnings(feed *top.Feed, stderr io.Writer) {
	texts, more := feed.Warnings()
	warn := warnings(stderr)

	for _, text := range texts {
		warn(text)
	}

	if more > 0 {
		warn(fmt.Sprintf("%d more warnings", more))
	}
}
