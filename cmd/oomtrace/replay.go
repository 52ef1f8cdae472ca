// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/ledger"
	"github.com/oomtrace/oomtrace/internal/record"
	"github.com/oomtrace/oomtrace/internal/report"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/timearg"
	"github.com/oomtrace/oomtrace/internal/view"
)

func newReplay(stdout, stderr io.Writer) *cobra.Command {
	var f traceFlags
	var selected selectionFlags
	var follow bool
	cmd := &cobra.Command{
		Use:   "replay [DIR|FILE|-]",
		Short: "Print a recording as it was printed live",
		Example: `  sudo oomtrace replay                             # /var/log/oomtrace
  sudo oomtrace replay --since "yesterday 03:00"
  sudo oomtrace replay /srv/oomtrace -o json | jq .
  sudo oomtrace replay --since now --follow
  zstd -dc old.jsonl.zst | oomtrace replay -`,
		Long: `replay prints a recording (made by "oomtrace record" or -o json) in the formats
of "oomtrace trace", even while it is being written. Damaged lines are skipped
and counted on stderr. Without an argument it reads /var/log/oomtrace.

--since and --until select incidents by their time, with all their updates.
-o json prints lines as they were recorded; an incident that matches a filter
only once it was updated is printed with all its updates merged.

The load average (-o bcc) is not recorded.

` + timearg.Grammar,
		Args: recordingArg("the directory or file of a recording, or - for stdin"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}

			selection, err := selected.selection(time.Now().In(f.location()))
			if err != nil {
				return err
			}

			name, _ := recordingOf(args)
			f.recording = recordingWord(args)

			if !follow { // which has no end
				if err := resolveID(name, &selection); err != nil {
					return err
				}
			}

			ctx, cancel := whileRead(cmd.Context(), stdout)
			defer cancel()

			r, err := openRecording(ctx, name)
			if err != nil {
				return err
			}
			defer r.Close()

			r.Select(selection)

			if follow {
				r.Follow(ctx)
			}

			return replay(ctx, r, name, selection.ID, &f, stdout, stderr)
		},
	}
	f.addOutput(cmd)
	addFlags(cmd, headingFilters, selected.add)
	addFlags(cmd, headingSources, func(flags *pflag.FlagSet) {
		flags.BoolVarP(&follow, "follow", "f", false, "at the end, wait for new lines until interrupted")
	})

	return cmd
}

// openRecording opens a recording; - is stdin.
func openRecording(ctx context.Context, name string) (*record.Reader, error) {
	if name != "-" {
		return record.Open(name)
	}

	return record.NewReader(untilDone(ctx, os.Stdin)), nil
}

// untilDone returns a reader that ends when in does or ctx is done, so that what is held back is
// still printed. A read of a pipe or a terminal that waits then goes on until the process ends.
func untilDone(ctx context.Context, in io.Reader) io.Reader {
	out, copied := io.Pipe()

	context.AfterFunc(ctx, func() { copied.Close() })

	go func() {
		_, err := io.Copy(copied, in)
		copied.CloseWithError(err)
	}()

	return out
}

func replay(ctx context.Context, r *record.Reader, name, id string, f *traceFlags, stdout, stderr io.Writer) error {
	p := newReplayer(f, stdout, stderr)
	p.ids = events.NewIDFinder(id)

	if err := closing(p.out, p.printAll(ctx, r)); err != nil {
		return err
	}

	complete := ctx.Err() == nil // not interrupted
	if complete {
		if err := noEvents(r, name); err != nil {
			return err
		}
	}

	if _, err := p.ids.ID(); err != nil {
		return err
	}

	noSuchID := complete && id != "" && p.lines == 0
	warn := warnings(stderr)

	for _, text := range append(r.Stats().Warnings(), p.warnings()...) {
		warn(text)
	}

	switch {
	case noSuchID && name == "-":
		return fmt.Errorf("%w; a prefix is found in a file or directory only", report.NoSuchID(id))
	case noSuchID:
		return report.NoSuchID(id)
	case p.lines == 0:
		warn("no recorded line matches the selection")
	}

	return nil
}

// replayer prints the lines of a recording in the form that they had live.
type replayer struct {
	out       *output
	incidents *ledger.Ledger
	raw       *rawLines // nil without -o json
	decode    bool      // false where lines are copied
	ids       *events.IDFinder
	lines     int
	unread    int // lines of a known kind that could not be decoded
	unknown   int // lines of unknown kinds
}

func newReplayer(f *traceFlags, stdout, stderr io.Writer) *replayer {
	raw := &rawLines{out: stdout, encoder: view.NewJSON(stdout)}
	p := &replayer{
		out: newOutput(f, raw, stdout, stderr), incidents: ledger.New(record.OpenIncidents, nil), decode: true,
	}

	if f.output == "json" {
		p.raw, p.decode = raw, f.filter.active()
	}

	return p
}

// printAll prints lines to the end, or until ctx is done.
func (p *replayer) printAll(ctx context.Context, r *record.Reader) error {
	for line, err := range r.Lines() {
		if err == nil {
			err = p.print(line)
		}

		if err != nil || ctx.Err() != nil {
			return err
		}
	}

	return nil
}

func (p *replayer) print(recorded *record.Line) error {
	p.lines++

	if recorded.Kind == events.KindIncident {
		p.ids.Add(recorded.ID)
	}

	if p.raw != nil {
		p.raw.line = recorded
		if !p.decode {
			return p.raw.write()
		}
	}

	line, err := recorded.Decode()
	if err != nil {
		p.unread++
		return nil
	}

	if line == nil {
		p.unknown++
		return nil
	}

	if line, err = p.incidents.Take(line, len(recorded.Raw)); err != nil {
		return err
	}

	return p.out.Write(line)
}

// warnings returns a sentence about each kind of line that was skipped.
func (p *replayer) warnings() []string {
	var all []string

	if p.unread > 0 {
		all = append(all, fmt.Sprintf("malformed lines of a known kind, skipped: %d", p.unread))
	}

	if p.unknown > 0 {
		const text = "lines of an unknown kind, skipped: %d: use a newer oomtrace, or -o json"
		all = append(all, fmt.Sprintf(text, p.unknown))
	}

	return all
}

// rawLines is a sink that writes the recorded text of a line. A recorded line may have
// keys that this version does not know.
type rawLines struct {
	out     io.Writer
	encoder sink.Sink
	line    *record.Line
	buf     bytes.Buffer
}

// Write encodes an incident that a filter forwards at an update, because it matches only
// since then, as with late names: no recorded line is that incident with its updates.
func (r *rawLines) Write(l events.Line) error {
	if events.Published(l) == nil {
		return nil
	}

	if _, ok := l.(*events.Incident); ok && r.line.Kind != events.KindIncident {
		return r.encoder.Write(l)
	}

	return r.write()
}

func (r *rawLines) write() error {
	r.buf.Reset()
	r.buf.Write(r.line.Raw)
	r.buf.WriteByte('\n')

	if _, err := r.out.Write(r.buf.Bytes()); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}

	return nil
}
