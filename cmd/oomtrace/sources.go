// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernellog"
	"github.com/oomtrace/oomtrace/internal/node"
	"github.com/oomtrace/oomtrace/internal/record"
	"github.com/oomtrace/oomtrace/internal/report"
)

// sourceFlags say where a report's incidents come from, if not from a recording.
type sourceFlags struct {
	kernelLog string
	kmsg      bool
	journal   bool
}

func (f *sourceFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.kernelLog, "kernel-log", "", "read OOM reports of a kernel's log in this `file`, as of dmesg or syslog; - is stdin")
	flags.BoolVar(&f.kmsg, "kmsg", false, "read this kernel's log, /dev/kmsg")
	flags.BoolVar(&f.journal, "journal", false, "read the kernel's log, and what user-space killers say, in the journal of all boots")
}

func (f *sourceFlags) check(args []string) error {
	given := len(args)
	for _, is := range []bool{f.kernelLog != "", f.kmsg, f.journal} {
		if is {
			given++
		}
	}
	if given != 1 {
		return usagef("report needs one source: a recording, --kernel-log FILE, --kmsg or --journal")
	}
	return nil
}

// open opens the source; args[0] is a recording, if there is no other.
func (f *sourceFlags) open(ctx context.Context, args []string, loc *time.Location) (report.Source, func(), error) {
	opts := kernellog.Options{Location: loc, Now: time.Now()}
	var in io.ReadCloser
	var err error
	switch {
	case f.kernelLog == "-":
		in = io.NopCloser(os.Stdin)
	case f.kernelLog != "":
		if in, err = os.Open(f.kernelLog); err != nil {
			return nil, nil, fmt.Errorf("open the kernel's log: %w", err)
		}
	case f.kmsg:
		opts.BootID, opts.Node, opts.PageSizeBytes = node.BootID(), node.Hostname(), node.PageSize()
		if clock, err := node.NewBootClock(); err == nil {
			opts.BootTime = clock.Time(0)
		}
		if in, err = kernellog.OpenKmsg(); err != nil {
			return nil, nil, err
		}
	case f.journal:
		opts.Node, opts.PageSizeBytes = node.Hostname(), node.PageSize()
		if in, err = kernellog.OpenJournal(ctx, true); err != nil {
			return nil, nil, err
		}
	default:
		r, err := record.Open(args[0])
		if err != nil {
			return nil, nil, err
		}
		return report.Recording(r), func() { r.Close() }, nil
	}
	return &logSource{in: in, opts: opts}, func() { in.Close() }, nil
}

// logSource gives the incidents of a kernel's log.
type logSource struct {
	in    io.Reader
	opts  kernellog.Options
	stats kernellog.Stats
}

func (s *logSource) Incidents(do func(*events.Incident) error) (err error) {
	s.stats, err = kernellog.Read(s.in, s.opts, do)
	return err
}

func (s *logSource) Remarks() []string {
	var all []string
	if n := s.stats.CutLines; n > 0 {
		all = append(all, fmt.Sprintf("lines that were too long, and cut: %d", n))
	}
	if n := s.stats.Missed; n > 0 {
		all = append(all, fmt.Sprintf("lines that the log itself says it lost: %d: reports may be incomplete, or missing", n))
	}
	return all
}
