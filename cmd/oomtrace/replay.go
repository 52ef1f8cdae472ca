// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/record"
	"github.com/oomtrace/oomtrace/internal/report"
	"github.com/oomtrace/oomtrace/internal/timearg"
	"github.com/oomtrace/oomtrace/internal/view"
)

// selectionFlags pick a part of a recording.
type selectionFlags struct{ since, until, id string }

func (f *selectionFlags) add(flags *pflag.FlagSet) {
	flags.Var((*word)(&f.since), "since", "only what happened at this `time` or later")
	flags.Var((*word)(&f.until), "until", "only what happened until this `time`")
	flags.Var((*word)(&f.id), "id", "only the incident with this `id`")
}

func (f *selectionFlags) selection(now time.Time) (record.Selection, error) {
	s := record.Selection{ID: f.id}
	for _, bound := range []struct {
		name, text string
		into       *time.Time
	}{{"since", f.since, &s.Since}, {"until", f.until, &s.Until}} {
		if bound.text == "" {
			continue
		}

		t, err := timearg.Parse(bound.text, now)
		if err != nil {
			return s, usagef("--%s: %w", bound.name, err)
		}
		*bound.into = t
	}

	if !s.Since.IsZero() && !s.Until.IsZero() && s.Until.Before(s.Since) {
		return s, usagef("--until %s is before --since %s", s.Until.Format(time.DateTime), s.Since.Format(time.DateTime))
	}

	return s, nil
}

func newReplay(stdout, stderr io.Writer) *cobra.Command {
	f := traceFlags{tier: "auto"}
	var selected selectionFlags
	var follow bool
	cmd := &cobra.Command{
		Use:   "replay DIR|FILE|-",
		Short: "Show a recording as it was shown live",
		Long: `  sudo oomtrace replay /var/log/oomtrace
  sudo oomtrace replay /var/log/oomtrace --since "yesterday 03:00" --until "yesterday 04:00"
  sudo oomtrace replay /var/log/oomtrace -o json | jq .
  sudo oomtrace replay /var/log/oomtrace --since now --follow
  zstd -dc old.jsonl.zst | oomtrace replay -

replay feeds what was recorded (oomtrace record, or the output of -o json) to
the same output that a trace has. It may run while the recording goes on. What
is damaged is left out, and counted on stderr. Updates belong to their incident:
--since and --until look at the time of the incident. -o json gives each line as
it was recorded. Not recorded are the loadavg (-o bcc), and when a headline came
before its block: a replay shows it there.

` + timearg.Grammar,
		Args: oneArg("the directory or file of the recording, or - for stdin"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}

			selection, err := selected.selection(time.Now().In(f.location()))
			if err != nil {
				return err
			}

			if args[0] == "-" {
				// A read from a terminal or a pipe is called off only with the process.
				signal.Reset(os.Interrupt, syscall.SIGTERM)
			}

			r, err := record.Open(args[0])
			if err != nil {
				return err
			}
			defer r.Close()

			r.Select(selection)

			if follow {
				r.Follow(cmd.Context())
			}

			return replay(cmd.Context(), r, args[0], selection.ID, &f, stdout, stderr)
		},
	}
	f.addOutput(cmd.Flags())
	selected.add(cmd.Flags())
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "at the end, wait for what is recorded next, until interrupted")

	return cmd
}

func replay(ctx context.Context, r *record.Reader, name, id string, f *traceFlags, stdout, stderr io.Writer) error {
	p := newPlayer(f, stdout, stderr)

	for line, err := range r.Lines() {
		if err == nil {
			err = p.play(line)
		}

		if err != nil {
			return err
		}

		if ctx.Err() != nil {
			break
		}
	}

	if err := p.sink.close(); err != nil {
		return err
	}

	ended := ctx.Err() == nil // not called off
	if ended {
		if err := noEvents(r, name); err != nil {
			return err
		}
	}
	missed := ended && id != "" && p.played == 0

	p.nothing = p.played == 0 && !missed
	for _, remark := range append(r.Stats().Remarks(), p.remarks()...) {
		fmt.Fprintln(stderr, "oomtrace:", remark)
	}

	if missed {
		return report.NoSuchID(id)
	}

	return nil
}

// player feeds lines to the sink of a trace.
type player struct {
	sink       *sink
	raw        *rawLines // nil: not -o json
	played     int
	nothing    bool // was played, and is to be said
	undecoded  int  // of a kind that is known, but not readable
	unknown    int  // of kinds that are not known
	unfiltered bool
}

func newPlayer(f *traceFlags, stdout, stderr io.Writer) *player {
	p := &player{sink: newSink(f, stdout, stderr), unfiltered: !f.filter.active()}
	switch f.output {
	case "json":
		p.raw = &rawLines{out: stdout}
		p.sink.view = p.raw
	case "bcc":
		// The load of now says nothing of then.
		p.sink.view = view.NewBCC(stdout, nil, f.location())
	}

	return p
}

func (p *player) play(line *record.Line) error {
	p.played++
	if p.raw != nil {
		p.raw.line = line.Raw
		if p.unfiltered {
			return p.raw.write()
		}
	}

	decoded, err := line.Decode()
	if err != nil {
		p.undecoded++
		return nil
	}

	switch l := decoded.(type) {
	case *events.Incident:
		if line.Kind == events.KindIncidentUpdate {
			return p.sink.Update(l)
		}
		// Live, the headline was written at the first victim of an OOM kill.
		if l.Outcome == events.OutcomeKilled && l.Scope != events.ScopeUser {
			if err := p.sink.Headline(l); err != nil {
				return err
			}
		}

		return p.sink.Incident(l)
	case *events.StallLine:
		return p.sink.Stall(l)
	case *events.PressureLine:
		return p.sink.Pressure(l)
	case *events.Lost:
		return p.sink.Lost(l)
	case *events.Status:
		return p.sink.Status(l)
	}

	p.unknown++

	return nil
}

func (p *player) remarks() []string {
	var all []string
	if p.nothing {
		all = append(all, "nothing was recorded that is selected")
	}

	if p.undecoded > 0 {
		all = append(all, fmt.Sprintf("lines that are not as their kind should be, left out: %d", p.undecoded))
	}

	if p.unknown > 0 {
		all = append(all, fmt.Sprintf("lines of a kind that is not known here, left out: %d: use a newer oomtrace, or -o json", p.unknown))
	}

	return all
}

// rawLines is a view that gives the recorded line for what it is handed.
type rawLines struct {
	out  io.Writer
	line []byte
	buf  bytes.Buffer
}

func (v *rawLines) write() error {
	v.buf.Reset()
	v.buf.Write(v.line)
	v.buf.WriteByte('\n')

	if _, err := v.out.Write(v.buf.Bytes()); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}

	return nil
}

func (v *rawLines) Headline(view.Headline) error        { return nil }
func (v *rawLines) Incident(*events.Incident) error     { return v.write() }
func (v *rawLines) Update(*events.Incident) error       { return v.write() }
func (v *rawLines) Stall(*events.StallLine) error       { return v.write() }
func (v *rawLines) Pressure(*events.PressureLine) error { return v.write() }
func (v *rawLines) Lost(*events.Lost) error             { return v.write() }
func (v *rawLines) Status(*events.Status) error         { return v.write() }
func (v *rawLines) Close() error                        { return nil }
