// SPDX-License-Identifier: Apache-2.0

// Command cri plays what happens to pods on a real containerd of its own, and
// compares what oomtrace says of it. It is run as root, at the top of the
// repository or with all binaries given, and leaves nothing behind.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

// The tracers that watch: one has the socket, the other only files.
const (
	byCRI  = "cri"
	byDisk = "disk"
)

// callPatience is how long one call to the runtime may take.
const callPatience = 60 * time.Second

// patience is how long anything may take that is waited for. Nothing is waited for
// longer than needed.
var patience time.Duration

// suite is one runtime with its tracers.
type suite struct {
	*bed
	options
	traces []*trace
	counts map[string]int // incidents that were looked at, by tracer
	failed []string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "test-cri: %v\n", err)
		os.Exit(1)
	}
}

// options are those of the command line.
type options struct {
	oomtrace, hog, driverName string
	save                      string // directory
	scenarios                 []string
	loop, atATime             int
}

func run() error {
	var o options
	flags := pflag.NewFlagSet("test-cri", pflag.ContinueOnError)
	flags.StringVar(&o.oomtrace, "oomtrace", "bin/oomtrace", "the `binary` to test")
	flags.StringVar(&o.hog, "hog", "", "the `binary` of the containers; without it, it is built")
	flags.StringVar(&o.driverName, "driver", "cgroupfs", "who makes cgroups: cgroupfs or systemd")
	flags.StringVar(&o.save, "save", "", "a `directory` for what the tracers say")
	flags.IntVar(&o.loop, "loop", 100, "how `many` pods are started and killed in a row")
	flags.IntVar(&o.atATime, "at-a-time", 8, "how `many` of them are there at the same time")
	flags.StringSliceVar(&o.scenarios, "case", nil, "only scenarios whose name has one of these `words` in it")
	flags.DurationVar(&patience, "patience", 30*time.Second, "how `long` anything may take")
	dir := flags.String("runtimes", ".cache/cri", "`directory` of what scripts/containerd.sh fetched")
	only := flags.String("runtime", "", "only this `name` of them, such as 1.6")

	own := flags.Bool("installed", false, "the machine's own containerd and runc instead")
	if err := flags.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}

		return err
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if os.Geteuid() != 0 {
		return errors.New("it takes root: containers are made")
	}
	var all []runtime
	var err error

	if *own {
		all = make([]runtime, 1)
		all[0], err = installed()
	} else {
		all, err = runtimes(*dir, *only)
	}

	if err != nil {
		return err
	}

	if o.hog == "" {
		dir, err := os.MkdirTemp("", "oomtrace-hog-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)

		o.hog = filepath.Join(dir, "hog")
		if err := buildHog(o.hog); err != nil {
			return err
		}
	}

	for _, r := range all {
		begin := time.Now()

		if err := play(ctx, r, o); err != nil {
			return fmt.Errorf("containerd %s: %w", r.version, err)
		}

		fmt.Printf("  passed in %.1f s, nothing left behind\n", time.Since(begin).Seconds())
	}

	return nil
}

func play(ctx context.Context, r runtime, o options) (err error) {
	b, err := newBed(ctx, r, o.driverName, o.hog)
	if err != nil {
		return err
	}

	fmt.Printf("containerd %s, cgroup v%d, driver %s\n", r.version, b.layout.MemoryVersion, o.driverName)

	s := &suite{bed: b, options: o, counts: map[string]int{}}
	defer func() {
		for _, t := range s.traces {
			err = errors.Join(err, t.stop())
			for _, late := range s.compare(t, nil) {
				err = errors.Join(err, fmt.Errorf("oomtrace %s, after all: %s", t.label, late))
			}

			for _, p := range append(t.problems, t.remarks()...) {
				err = errors.Join(err, fmt.Errorf("oomtrace %s: %s", t.label, p))
			}

			fmt.Printf("  by %-4s %s\n", t.label, t.summary())
		}
		err = errors.Join(err, b.close())
	}()

	for i, scenario := range scenarios {
		if !scenario.wanted(i, b.layout.MemoryVersion, o.scenarios) {
			continue
		}

		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		begin := time.Now()

		if err := scenario.play(s); err != nil {
			return errors.Join(append(s.failures(), fmt.Errorf("%s: %w", scenario.name, err))...)
		}

		fmt.Printf("  %-44s %5.1f s\n", scenario.name, time.Since(begin).Seconds())
	}

	return errors.Join(s.failures()...)
}

func (s *suite) failures() []error {
	if len(s.failed) == 0 {
		return nil
	}

	return []error{fmt.Errorf("%d expectations failed:\n  %s", len(s.failed), strings.Join(s.failed, "\n  "))}
}
