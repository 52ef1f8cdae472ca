// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernellog"
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
	flags.Var((*word)(&f.kernelLog), "kernel-log", "read OOM reports of a kernel's log in this `file`, as of dmesg or syslog; - is stdin")
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
func (f *sourceFlags) open(ctx context.Context, args []string, loc *time.Location, stderr io.Writer) (report.Source, func(), error) {
	opts := kernellog.Options{Location: loc, Now: time.Now()}
	log := &logSource{stderr: stderr}
	var in io.ReadCloser
	var err error

	switch {
	case f.kernelLog == "-":
		in = io.NopCloser(os.Stdin)
	case f.kernelLog != "":
		if in, err = os.Open(f.kernelLog); err != nil {
			if errors.Is(err, fs.ErrPermission) {
				err = fmt.Errorf("%w: run as root", err)
			}

			return nil, nil, fmt.Errorf("open the kernel's log: %w", err)
		}
	case f.kmsg:
		opts.BootID, opts.Node, opts.PageSizeBytes = host.BootID(), host.Hostname(), host.PageSize()
		if clock, err := host.NewBootClock(); err == nil {
			opts.BootTime = clock.Time(0)
		}

		if in, err = kernellog.OpenKmsg(); err != nil {
			return nil, nil, err
		}
	case f.journal:
		opts.Node, opts.PageSizeBytes = host.Hostname(), host.PageSize()

		if in, err = kernellog.OpenJournal(ctx, true); err != nil {
			return nil, nil, err
		}
		log.empty = "journalctl gives no line of the kernel's: there is no journal here, or only root may read it: run as root, or try --kmsg"
	default:
		r, err := record.Open(args[0])
		if err != nil {
			return nil, nil, err
		}

		return recordingSource{report.Recording(r), r, args[0]}, func() { r.Close() }, nil
	}

	log.in, log.opts = in, opts
	if f.kernelLog != "" {
		if log.in, err = kernellog.Open(in, f.kernelLog); err != nil {
			in.Close()
			return nil, nil, err
		}
	}

	return log, func() { in.Close() }, nil
}

// recordingSource fails if what it was given is no recording.
type recordingSource struct {
	report.Source
	reader *record.Reader
	name   string
}

func (s recordingSource) Incidents(do func(*events.Incident) error) error {
	if err := s.Source.Incidents(do); err != nil {
		return err
	}

	return noEvents(s.reader, s.name)
}

// noEvents is the error of a recording that is none, with what to do: the file of
// somebody who took another one must not read as a node without a kill.
func noEvents(r *record.Reader, name string) error {
	begin, err := r.NoEvents()
	if err == nil || errors.Is(err, fs.ErrPermission) { // which says what to do
		return err
	}

	what, file := name, name
	if name == "-" {
		what, file = "the input", "FILE"
	}

	err = fmt.Errorf("%s: %w", what, err)
	if packing, cat, ok := kernellog.Packed(begin); ok {
		return fmt.Errorf("%w: it is %s: %s %s | oomtrace report -", err, packing, cat, file)
	}

	if kernellog.Looks(begin) {
		return fmt.Errorf("%w: it looks like a kernel's log: use --kernel-log: oomtrace report --kernel-log %s", err, name)
	}

	return fmt.Errorf("%w: give what oomtrace record or -o json wrote, or a kernel's log with report --kernel-log", err)
}

// logSource gives the incidents of a kernel's log.
type logSource struct {
	in     io.Reader
	opts   kernellog.Options
	stats  kernellog.Stats
	empty  string // said if there is no line at all; "" is not
	stderr io.Writer
}

func (s *logSource) Incidents(do func(*events.Incident) error) (err error) {
	s.stats, err = kernellog.Read(s.in, s.opts, do)
	if err == nil && s.stats.Lines == 0 && s.empty != "" {
		remark(s.stderr, errors.New(s.empty))
	}

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
