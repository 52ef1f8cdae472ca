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
	"github.com/oomtrace/oomtrace/internal/ledger"
	"github.com/oomtrace/oomtrace/internal/record"
	"github.com/oomtrace/oomtrace/internal/report"
	"github.com/oomtrace/oomtrace/internal/timearg"
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

	if err := p.out.close(); err != nil {
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

// player feeds the lines of a recording to the output of a trace, in the form that they
// had live.
type player struct {
	out       *output
	open      *ledger.Ledger
	raw       *rawLines // nil: not -o json
	decodes   bool
	played    int
	nothing   bool // was played, and has to be reported
	undecoded int  // of a known kind, but not readable
	unknown   int  // of unknown kinds
}

func newPlayer(f *traceFlags, stdout, stderr io.Writer) *player {
	raw := &rawLines{out: stdout}
	p := &player{out: newOutput(f, raw, stdout, stderr), open: ledger.New(record.OpenIncidents, nil), decodes: true}

	if f.output == "json" {
		p.raw, p.decodes = raw, f.filter.active()
	}

	return p
}

func (p *player) play(recorded *record.Line) error {
	p.played++

	if p.raw != nil {
		p.raw.line = recorded.Raw
		if !p.decodes {
			return p.raw.write()
		}
	}

	line, err := recorded.Decode()
	if err != nil {
		p.undecoded++
		return nil
	}

	if line == nil {
		p.unknown++
		return nil
	}

	if line, err = p.open.Take(line, len(recorded.Raw)); err != nil {
		return err
	}

	// Live, the headline was written at the first victim of an OOM kill.
	if inc, ok := line.(*events.Incident); ok {
		if h, ok := events.HeadlineOf(inc); ok {
			if err := p.out.Write(h); err != nil {
				return err
			}
		}
	}

	return p.out.Write(line)
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

// rawLines is a sink that writes the recorded line instead of the line that it is given.
type rawLines struct {
	out  io.Writer
	line []byte
	buf  bytes.Buffer
}

func (r *rawLines) Write(l events.Line) error {
	if events.Published(l) == nil {
		return nil
	}

	return r.write()
}

func (r *rawLines) write() error {
	r.buf.Reset()
	r.buf.Write(r.line)
	r.buf.WriteByte('\n')

	if _, err := r.out.Write(r.buf.Bytes()); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}

	return nil
}
