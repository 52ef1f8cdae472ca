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

// sourceFlags choose the source of a report, if it is not a recording.
type sourceFlags struct {
	kernelLog string
	kmsg      bool
	journal   bool
}

func (f *sourceFlags) add(flags *pflag.FlagSet) {
	flags.Var(newText(&f.kernelLog, "file"), "kernel-log",
		"read OOM reports from a kernel log, such as the output of dmesg or a syslog; - is stdin")
	flags.BoolVar(&f.kmsg, "kmsg", false, "read the log of the running kernel, /dev/kmsg")
	flags.BoolVar(&f.journal, "journal", false,
		"read the journal of all boots: the kernel log and the messages of user-space OOM killers")
}

func (f *sourceFlags) check(args []string) error {
	given := len(args)

	for _, set := range []bool{f.kernelLog != "", f.kmsg, f.journal} {
		if set {
			given++
		}
	}

	if given != 1 {
		return usagef("report needs one source: a recording, --kernel-log FILE, --kmsg or --journal")
	}

	return nil
}

// open opens the source: args[0], a recording, unless a flag names another.
func (f *sourceFlags) open(
	ctx context.Context, args []string, loc *time.Location, stderr io.Writer,
) (report.Source, func(), error) {
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

			return nil, nil, fmt.Errorf("open the kernel log: %w", err)
		}
	case f.kmsg:
		opts.BootID, opts.Node, opts.PageSizeBytes = host.BootID(), host.Hostname(), host.PageSize()
		opts.BootTime = host.NewBootClock().Time(0)

		if in, err = kernellog.OpenKmsg(); err != nil {
			return nil, nil, err
		}
	case f.journal:
		opts.Node, opts.PageSizeBytes = host.Hostname(), host.PageSize()

		if in, err = kernellog.OpenJournal(ctx, true); err != nil {
			return nil, nil, err
		}
		log.ifEmpty = "journalctl returned no kernel messages: no journal exists, or only root can read it: " +
			"run as root, or use --kmsg"
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

// recordingSource is a recording. It returns an error if the file is something else.
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

// noEvents returns an error, with the next step, if the input is not a recording: such a
// file must not look like a node without a kill.
func noEvents(r *record.Reader, name string) error {
	start, err := r.NoEvents()
	if err == nil || errors.Is(err, fs.ErrPermission) { // has the next step already
		return err
	}

	what, file := name, name
	if name == "-" {
		what, file = "the input", "FILE"
	}

	err = fmt.Errorf("%s: %w", what, err)
	if packing, cat, ok := kernellog.Packed(start); ok {
		return fmt.Errorf("%w: it is compressed (%s): use %s %s | oomtrace report -", err, packing, cat, file)
	}

	if kernellog.Looks(start) {
		return fmt.Errorf("%w: it looks like a kernel log: use oomtrace report --kernel-log %s", err, name)
	}

	return fmt.Errorf("%w: pass the output of oomtrace record or -o json, or a kernel log to report --kernel-log", err)
}

// logSource reads the incidents of a kernel log.
type logSource struct {
	in      io.Reader
	opts    kernellog.Options
	stats   kernellog.Stats
	ifEmpty string // the warning about a log without a line; may be empty
	stderr  io.Writer
}

func (s *logSource) Incidents(do func(*events.Incident) error) (err error) {
	s.stats, err = kernellog.Read(s.in, s.opts, do)
	if err == nil && s.stats.Lines == 0 && s.ifEmpty != "" {
		warnings(s.stderr)(s.ifEmpty)
	}

	return err
}

func (s *logSource) Warnings() []string {
	var all []string
	if n := s.stats.CutLines; n > 0 {
		all = append(all, fmt.Sprintf("lines truncated because they were too long: %d", n))
	}

	if n := s.stats.Missed; n > 0 {
		all = append(all, fmt.Sprintf("lines that the log reports as lost: %d: reports may be incomplete or missing", n))
	}

	return all
}
