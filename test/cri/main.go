// SPDX-License-Identifier: Apache-2.0

// Command cri plays what happens to pods on a real containerd of its own, and
// compares what oomtrace says of it. It is run as root, at the top of the
// repository, and leaves nothing behind.
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

// suite is one runtime with its tracers.
type suite struct {
	*bed
	ctx      context.Context // done: end, and clean up
	oomtrace string
	loop     int
	user     bool
	traces   []*trace
	counts   map[string]int // incidents that were looked at, by tracer
	failed   []string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "test-cri: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	flags := pflag.NewFlagSet("test-cri", pflag.ContinueOnError)
	oomtrace := flags.String("oomtrace", "bin/oomtrace", "the `binary` to test")
	runtimes := flags.String("runtimes", ".cache/cri", "`directory` of what scripts/containerd.sh fetched")
	only := flags.String("runtime", "", "only this `name` of them, such as 1.6")
	loop := flags.Int("loop", 100, "how `many` pods are started and killed in a row")
	user := flags.Bool("user", true, "expect incidents of kills from user space, too")
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
	versions, err := filepath.Glob(filepath.Join(*runtimes, "*", "version"))
	if err != nil || len(versions) == 0 {
		return fmt.Errorf("no runtimes in %s: run scripts/containerd.sh", *runtimes)
	}
	ran := false
	for _, v := range versions {
		dir := filepath.Dir(v)
		if *only != "" && filepath.Base(dir) != *only {
			continue
		}
		ran = true
		text, _ := os.ReadFile(v)
		begin := time.Now()
		fmt.Printf("containerd %s\n", strings.TrimSpace(string(text)))
		if err := play(ctx, dir, *oomtrace, *loop, *user); err != nil {
			return fmt.Errorf("containerd %s: %w", strings.TrimSpace(string(text)), err)
		}
		fmt.Printf("  passed in %.1f s, nothing left behind\n", time.Since(begin).Seconds())
	}
	if !ran {
		return fmt.Errorf("there is no runtime %q in %s", *only, *runtimes)
	}
	return nil
}

func play(ctx context.Context, runtime, oomtrace string, loop int, user bool) (err error) {
	b, err := newBed(runtime)
	if err != nil {
		return err
	}
	s := &suite{bed: b, ctx: ctx, oomtrace: oomtrace, loop: loop, user: user, counts: map[string]int{}}
	defer func() {
		for _, t := range s.traces {
			err = errors.Join(err, t.stop())
			for _, p := range append(t.problems, t.remarks()...) {
				err = errors.Join(err, fmt.Errorf("oomtrace %s: %s", t.label, p))
			}
			fmt.Printf("  by %-4s %s\n", t.label, t.summary())
		}
		err = errors.Join(err, b.close())
	}()
	for _, scenario := range scenarios {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		begin := time.Now()
		if err := scenario.play(s); err != nil {
			return fmt.Errorf("%s: %w", scenario.name, err)
		}
		fmt.Printf("  %-44s %5.1f s\n", scenario.name, time.Since(begin).Seconds())
	}
	if len(s.failed) > 0 {
		return fmt.Errorf("%d expectations failed:\n  %s", len(s.failed), strings.Join(s.failed, "\n  "))
	}
	return nil
}
