// SPDX-License-Identifier: Apache-2.0

// Package top is a live screen of the cgroups of a node, by how near they are to a limit,
// and of the last OOM kills. What it shows comes from snapshots (package usage) and from the
// lines of a trace, which a Feed takes without ever making the trace wait.
package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/usage"
)

// Source makes snapshots of the node; *usage.Sampler is one. It is called from one goroutine,
// which is locked to its thread.
type Source interface {
	Snapshot(now time.Time, shown []uint64) *usage.Snapshot
	Stalls(kernel.StallCounts)
}

// Options set up a screen. All but Untraced, ASCII, Tree and Filter are
// required.
type Options struct {
	// In and Out are the terminal, Env its environment: TERM, NO_COLOR and others.
	In  io.Reader
	Out io.Writer
	Env []string
	// Node is the name of the machine.
	Node     string
	Source   Source
	Feed     *Feed
	Interval time.Duration
	// Order is one of Orders, By one of Groupings.
	Order, By string
	Tree      bool
	Filter    string
	// Block returns the text of an incident, in lines of at most so many columns. It is
	// sanitized, and may have colours.
	Block    func(inc *events.Incident, width int) string
	Location *time.Location
	// Untraced is why kills and stalls are not traced; empty: they are.
	Untraced string
	// ASCII keeps to characters that every terminal has.
	ASCII bool

	shown func([]uint64) // takes the cgroups on the screen
}

// framesPerSecond bounds how often the screen is drawn. Drawing is cheap; waking up for it
// is what costs.
const framesPerSecond = 4

// Run shows the screen until the user quits, or ctx is done. It has given the terminal back
// when it returns.
func Run(ctx context.Context, opts Options) error {
	var shown atomic.Pointer[[]uint64]

	opts.shown = func(ids []uint64) { shown.Store(&ids) }

	outer := ctx

	ctx, end := context.WithCancel(ctx)
	defer end()

	program := tea.NewProgram(newModel(opts), tea.WithInput(opts.In), tea.WithOutput(opts.Out), tea.WithEnvironment(opts.Env),
		tea.WithContext(ctx), tea.WithoutSignalHandler(), tea.WithFPS(framesPerSecond))

	var work sync.WaitGroup

	work.Go(func() { opts.Feed.pump(ctx, func(lines linesMsg) { program.Send(lines) }) })
	work.Go(func() {
		runtime.LockOSThread() // the budget of the source is CPU time of its thread

		defer runtime.UnlockOSThread()

		sample(ctx, opts, &shown, func(s *usage.Snapshot) { program.Send(snapshotMsg{s}) })
	})

	_, err := program.Run()

	end()
	work.Wait()

	if err != nil && !(errors.Is(err, tea.ErrProgramKilled) && outer.Err() != nil) {
		return fmt.Errorf("show the screen: %w", err)
	}

	return nil
}

// sample takes a snapshot each interval.
func sample(ctx context.Context, opts Options, shown *atomic.Pointer[[]uint64], send func(*usage.Snapshot)) {
	ticker := time.NewTicker(opts.Interval)
	defer ticker.Stop()

	for now := time.Now(); ; {
		if counts := opts.Feed.counts.Swap(nil); counts != nil {
			opts.Source.Stalls(*counts)
		}

		var ids []uint64
		if p := shown.Load(); p != nil {
			ids = *p
		}

		send(opts.Source.Snapshot(now, ids))

		select {
		case <-ctx.Done():
			return
		case now = <-ticker.C:
		}
	}
}
