// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernellog"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/record"
	"github.com/oomtrace/oomtrace/internal/report"
	"github.com/oomtrace/oomtrace/internal/unpack"
)

// sourceFlags choose the source of a report, if it is not a file or a directory.
type sourceFlags struct {
	kernelLog string
	kmsg      bool
	journal   bool
}

func (f *sourceFlags) add(flags *pflag.FlagSet) {
	flags.Var(newText(&f.kernelLog, "path"), "kernel-log",
		"read a file as a kernel log, whatever it looks like; - is stdin")
	flags.BoolVar(&f.kmsg, "kmsg", false, "read the log of the running kernel, /dev/kmsg")
	flags.BoolVar(&f.journal, "journal", false,
		"read the journal of all boots: the kernel log and the messages of user-space OOM killers")
}

func (f *sourceFlags) check(command string, args []string) error {
	given := len(args)

	for _, set := range []bool{f.kernelLog != "", f.kmsg, f.journal} {
		if set {
			given++
		}
	}

	if _, ok := recordingOf(nil); given == 0 && ok {
		return nil
	}

	if given != 1 {
		return usagef("%s needs one source: a recording or a log, --kernel-log FILE, --kmsg or --journal; "+
			"without, %s is read if it exists", command, defaultRecording)
	}

	return nil
}

// words are what names the source on a command line.
func (f *sourceFlags) words(args []string) string {
	switch {
	case f.kmsg:
		return "--kmsg"
	case f.journal:
		return "--journal"
	case f.kernelLog != "":
		return "--kernel-log " + shellWord(f.kernelLog)
	}

	return recordingWord(args)
}

// recordingWord is what names a recording on a command line: nothing if it is the default one.
func recordingWord(args []string) string {
	if len(args) == 0 || args[0] == defaultRecording {
		return ""
	}

	return shellWord(args[0])
}

// shellWord quotes a text that a shell would take apart.
func shellWord(text string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./:,@%="
	if strings.Trim(text, plain) == "" {
		return text
	}

	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// open opens the source: args[0], unless a flag names another.
func (f *sourceFlags) open(ctx context.Context, args []string, loc *time.Location) (report.Source, func(), error) {
	log := &logSource{opts: kernellog.Options{Location: loc, Now: time.Now()}}
	var err error

	switch {
	case f.kmsg:
		log.opts.BootID, log.opts.Node, log.opts.PageSizeBytes = host.BootID(), host.Hostname(), host.PageSize()
		log.opts.BootTime = host.NewBootClock().Time(0)
		log.ifEmpty = "/dev/kmsg has no messages"
		log.in, err = kernellog.OpenKmsg()
	case f.journal:
		log.opts.Node, log.opts.PageSizeBytes = host.Hostname(), host.PageSize()
		log.ifEmpty = "journalctl returned no kernel messages: no journal exists, or only root can read it: " +
			"run as root, or use --kmsg"
		log.in, err = kernellog.OpenJournal(ctx, true)
	case f.kernelLog != "":
		return log.openFile(ctx, f.kernelLog, true)
	default:
		name, _ := recordingOf(args)
		return log.openFile(ctx, name, false)
	}

	if err != nil {
		return nil, nil, err
	}

	return log, func() { log.in.Close() }, nil
}

// openFile opens what a user named: a file, a directory, or - for stdin. It finds out
// whether that is a recording or a log, unless it must be a log.
func (s *logSource) openFile(ctx context.Context, name string, mustBeLog bool) (report.Source, func(), error) {
	if name == "-" {
		return s.openStream(ctx, io.NopCloser(os.Stdin), name, mustBeLog)
	}

	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, openError(err)
	}

	if info.IsDir() {
		return s.openDir(ctx, name, mustBeLog)
	}

	file, err := os.Open(name)
	if err != nil {
		return nil, nil, openError(err)
	}

	source, end, err := s.openStream(ctx, file, name, mustBeLog)
	if err != nil {
		file.Close()
	}

	return source, end, err
}

func openError(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: run as root", err)
	}

	return fmt.Errorf("open the source of the report: %w", err)
}

// openDir opens a directory: of a recording, else of logs.
func (s *logSource) openDir(ctx context.Context, name string, mustBeLog bool) (report.Source, func(), error) {
	var notRecorded error

	if !mustBeLog {
		r, err := record.Open(name)
		if err == nil {
			return recordingSource{report.Recording(r), r, name}, func() { r.Close() }, nil
		}
		notRecorded = err
	}

	in, err := kernellog.OpenDir(ctx, name)

	switch {
	case err == nil:
	case errors.Is(err, fs.ErrPermission):
		return nil, nil, openError(err)
	case errors.Is(err, kernellog.ErrNoLogs) && notRecorded != nil:
		return nil, nil, fmt.Errorf("%w; %w", notRecorded, err)
	case errors.Is(err, kernellog.ErrNoLogs):
		return nil, nil, fmt.Errorf("read %s: %w", name, err)
	default:
		return nil, nil, err
	}

	s.in = in
	s.ifEmpty = "the logs in " + name + " are empty, or only root can read them"

	return s, func() { in.Close() }, nil
}

// openStream opens a stream of bytes, compressed or not, after a look at its start.
func (s *logSource) openStream(ctx context.Context, file io.ReadCloser, name string, mustBeLog bool) (report.Source, func(), error) {
	what := inputName(name)

	in, packing, err := unpack.NewReader(file)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", what, err)
	}

	start, err := peek(in)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", what, err)
	}

	switch {
	case kernellog.IsJournal(start) && (name == "-" || packing != ""):
		return nil, nil, fmt.Errorf("%s is a file of systemd's journal: decompress it to a file, and run oomtrace report FILE", what)
	case kernellog.IsJournal(start):
		journal, err := kernellog.OpenJournalFile(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		s.in = journal
		s.ifEmpty = "journalctl returned no kernel messages of " + name

		return s, func() { journal.Close(); file.Close() }, nil
	case len(start) > 262 && string(start[257:262]) == "ustar":
		return nil, nil, fmt.Errorf("%s is a tar archive: unpack it, and report on what is in it", what)
	case !mustBeLog && record.Looks(start):
		r := record.NewReader(in)

		return recordingSource{report.Recording(r), r, name}, func() { r.Close(); file.Close() }, nil
	case kernellog.IsBinary(start):
		return nil, nil, fmt.Errorf("%s is binary, neither a recording nor a kernel log", what)
	}

	s.ifEmpty = what + " is empty: pass the output of oomtrace record or -o json, or a kernel log"
	s.in = struct {
		io.Reader
		io.Closer
	}{in, file}

	if !mustBeLog && len(bytes.TrimSpace(start)) > 0 && !kernellog.Looks(start) {
		s.unsure = what
	}

	return s, func() { file.Close() }, nil
}

// inputName names an input in a message: - is stdin.
func inputName(name string) string {
	if name == "-" {
		return "the input"
	}

	return name
}

// peek returns the start of a stream, as far as it is there without waiting for more.
func peek(in *bufio.Reader) ([]byte, error) {
	start, err := in.Peek(1)
	if err == nil {
		start, err = in.Peek(in.Buffered())
	}

	if errors.Is(err, io.EOF) {
		err = nil
	}

	return start, err
}

// recordingSource is a recording. It returns an error if the file is something else.
type recordingSource struct {
	report.LineSource
	reader *record.Reader
	name   string
}

func (s recordingSource) Incidents(do func(*events.Incident) error) error { return s.Walk(do, nil) }

func (s recordingSource) Walk(do func(*events.Incident) error, other func(events.Line) error) error {
	if err := s.LineSource.Walk(do, other); err != nil {
		return err
	}

	return noEvents(s.reader, s.name)
}

// Coverage returns when the tracers ran, for the head of an HTML report.
func (s recordingSource) Coverage() record.Coverage { return s.reader.Coverage() }

// noEvents returns an error, with the next step, if the input is not a recording: such a
// file must not look like a node without a kill.
func noEvents(r *record.Reader, name string) error {
	start, err := r.NoEvents()
	if err == nil || errors.Is(err, fs.ErrPermission) { // has the next step already
		return err
	}

	err = fmt.Errorf("%s: %w", inputName(name), err)
	if format := unpack.Format(start); format != "" {
		return fmt.Errorf("%w: it is compressed (%s): use oomtrace report %s, which unpacks it", err, format, name)
	}

	if kernellog.Looks(start) {
		return fmt.Errorf("%w: it looks like a kernel log: use oomtrace report %s", err, name)
	}

	return fmt.Errorf("%w: pass the output of oomtrace record or -o json, or to oomtrace report a kernel log", err)
}

// logSource reads the incidents of a kernel log.
type logSource struct {
	in      io.ReadCloser
	opts    kernellog.Options
	stats   kernellog.Stats
	ifEmpty string // the error about a log without a line
	unsure  string // the name of what may be no log; empty if it is one
}

func (s *logSource) Incidents(do func(*events.Incident) error) (err error) {
	s.stats, err = kernellog.Read(s.in, s.opts, do)
	switch {
	case err != nil:
		return err
	case s.stats.Lines == s.stats.Blank && s.stats.Incidents == 0:
		return errors.New(s.ifEmpty)
	case s.stats.Incidents > 0:
	case s.stats.Unread > 0:
		return errors.New(s.unread())
	case s.unsure != "":
		return fmt.Errorf("%s: none of %d lines is an event or of a kernel log: "+
			"pass the output of oomtrace record or -o json, or a kernel log", s.unsure, s.stats.Lines)
	}

	return nil
}

// unread describes the lines that look like kills and were not understood.
func (s *logSource) unread() string {
	return fmt.Sprintf("%s with the kernel's words about an OOM kill could not be understood; the first is line %d: %s",
		phrase.Plural(s.stats.Unread, "line"), s.stats.FirstUnreadLine, phrase.Clip(phrase.Sanitize(s.stats.FirstUnread), 160))
}

func (s *logSource) Warnings() []string {
	var all []string
	if n := s.stats.CutLines; n > 0 {
		all = append(all, fmt.Sprintf("lines truncated because they were too long: %d", n))
	}

	if n := s.stats.Missed; n > 0 {
		all = append(all, fmt.Sprintf("lines that the log reports as lost: %d: reports may be incomplete or missing", n))
	}

	if s.stats.NewestFirst {
		all = append(all, "the log has its newest line first, so reports are torn: query it in ascending order "+
			"(Loki: direction=forward), or reverse a log of plain lines: tac FILE | oomtrace report -")
	}

	if s.stats.Unread > 0 {
		all = append(all, s.unread())
	}

	if n := s.stats.Quoted; n > 0 && s.stats.Incidents == 0 {
		all = append(all, fmt.Sprintf("%s of other programs with the kernel's words about an OOM kill, from line %d on, "+
			"not read as kills: if a program passed on a kernel log, remove its prefix", phrase.Plural(n, "line"), s.stats.FirstQuotedLine))
	}

	return all
}
