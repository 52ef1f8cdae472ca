// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// everything enables each part of the tracer that has a goroutine of its own.
func everything(t *testing.T, s sink.Sink) Options {
	t.Helper()

	log := filepath.Join(t.TempDir(), "kubelet.log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	return Options{
		Sink: s, Stalls: true, UserKills: incident.UserKillsAll, KubeletLog: log,
		Warn: func(text string) { t.Log(text) },
	}
}

func TestNoGoroutineOutlivesRun(t *testing.T) {
	testenv.Slow(t, "loads the programs into the kernel")
	testenv.Root(t)

	full := errors.New("disk full")

	for name, test := range map[string]struct {
		sink  sink.Sink
		ready error
		want  error
	}{
		"canceled":          {sink: sink.Discard},
		"a sink that fails": {sink: sink.Func(func(events.Line) error { return full }), want: full},
		"ready that fails":  {sink: sink.Discard, ready: full, want: full},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())

			tr, err := Open(everything(t, test.sink))
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())

			err = tr.Run(ctx, func() error {
				stop()
				return test.ready
			})

			stop()

			if !errors.Is(err, test.want) {
				t.Errorf("got error %v, want %v", err, test.want)
			}

			if err := tr.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// On a node with very many cgroups the first scan takes seconds.
func TestTheWaitForTheFirstScanEndsWithTheContext(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()

	s := newScans(resolve.NamedTree{}, host.Layout{}, nil)
	if s.await(ctx) {
		t.Error("got a scan, want the end of the wait")
	}
}

func TestAFailedOpenLeavesNoGoroutine(t *testing.T) {
	testenv.Slow(t, "loads the programs into the kernel")

	testenv.Root(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())

	opts := everything(t, sink.Discard)
	opts.Tier = "no such attach mode"

	if tr, err := Open(opts); err == nil {
		tr.Close()
		t.Error("got a trace with an unknown attach mode, want an error")
	}
}

func TestAnOpenedTraceHasNoGoroutinesYet(t *testing.T) {
	testenv.Slow(t, "loads the programs into the kernel")

	testenv.Root(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())

	tr, err := Open(everything(t, sink.Discard))
	if err != nil {
		t.Fatal(err)
	}

	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}
