// SPDX-License-Identifier: Apache-2.0

package top

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

const (
	// waiting is how many lines may wait for the screen: a storm of kills has some hundred a
	// second, and the screen takes them ten times a second.
	waiting  = 512
	batchFor = 100 * time.Millisecond
	// keptWarnings is how many warnings are kept.
	keptWarnings = 50
)

// Feed takes what a trace reports, and hands it to the screen. None of its methods waits:
// what does not fit is dropped and counted. They are safe for concurrent use.
type Feed struct {
	lines   chan events.Line
	counts  atomic.Pointer[kernel.StallCounts]
	dropped atomic.Uint64

	warned   sync.Mutex
	warnings []string
	unkept   int
}

// NewFeed returns a Feed, which is a sink.Sink.
func NewFeed() *Feed { return &Feed{lines: make(chan events.Line, waiting)} }

// Write takes a line of the trace, if the screen has a use for it. It returns no error.
func (f *Feed) Write(l events.Line) error {
	switch l.(type) {
	case *events.Explained, *events.Final:
		return nil // updates had all of it: they are not worth room, and no loss
	}

	select {
	case f.lines <- l:
	default:
		f.dropped.Add(1)
	}

	return nil
}

// Counts takes the counts of stalls since the start of the trace: newer ones replace older
// ones. It returns no error.
func (f *Feed) Counts(c kernel.StallCounts) error {
	f.counts.Store(&c)
	return nil
}

// Warn takes a warning for the user.
func (f *Feed) Warn(text string) {
	f.warned.Lock()
	defer f.warned.Unlock()

	if len(f.warnings) == keptWarnings {
		f.unkept++
		return
	}
	f.warnings = append(f.warnings, text)
}

// Warnings returns the warnings so far, and how many more there were.
func (f *Feed) Warnings() (texts []string, more int) {
	f.warned.Lock()
	defer f.warned.Unlock()

	return append([]string(nil), f.warnings...), f.unkept
}

// linesMsg are lines of the trace, in their order.
type linesMsg []events.Line

// pump sends lines in batches, so that a storm does not draw the screen for each.
func (f *Feed) pump(ctx context.Context, send func(linesMsg)) {
	for {
		var batch linesMsg

		select {
		case <-ctx.Done():
			return
		case l := <-f.lines:
			batch = append(batch, l)
		}

		for len(f.lines) > 0 {
			batch = append(batch, <-f.lines)
		}

		send(batch)

		select {
		case <-ctx.Done():
			return
		case <-time.After(batchFor):
		}
	}
}
