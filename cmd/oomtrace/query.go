// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/diagnose"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/report"
)

// queryFlags select incidents of the past, and the form in which they are printed.
type queryFlags struct {
	formatFlags
	selected selectionFlags
	filter   filter
	source   sourceFlags
}

// add adds the flags of a command with these formats; the first is the default.
func (f *queryFlags) add(cmd *cobra.Command, outputs ...string) {
	addFlags(cmd, headingOutput, func(flags *pflag.FlagSet) { f.formatFlags.add(flags, outputs...) })
	addFlags(cmd, headingFilters, f.selected.add)
	addFlags(cmd, headingFilters, f.filter.add)
	addFlags(cmd, headingSources, f.source.add)
}

// addOfOne adds the flags of a command about one incident.
func (f *queryFlags) addOfOne(cmd *cobra.Command, outputs ...string) {
	addFlags(cmd, headingOutput, func(flags *pflag.FlagSet) { f.formatFlags.add(flags, outputs...) })
	addFlags(cmd, headingSources, f.source.add)
}

func (f *queryFlags) options(stdout io.Writer) (report.Options, error) {
	text := f.textOptions(stdout)
	history := &history{}
	o := report.Options{
		Now: time.Now(), Enrich: history.explain, Observe: history.journal.Add,
		Width: text.Width, TableWidth: tableWidth(text), Dates: text.Dates, Color: text.Color, ASCII: text.ASCII, Location: text.Location,
	}

	selected, err := f.selected.selection(o.Now.In(o.Location))
	if err != nil {
		return o, err
	}

	o.ID, o.Since, o.Until = selected.ID, selected.Since, selected.Until
	if err := f.filter.check(); err != nil {
		return o, err
	}

	if f.filter.active() {
		o.Match, o.MatchedBy, o.MatchLine = f.filter.incident, f.filter.String(), f.filter.line
	}

	return o, nil
}

// read calls write with the source that the arguments or a flag name, and prints the warnings where
// the output has no place for them.
func (f *queryFlags) read(
	ctx context.Context, args []string, o report.Options, stderr io.Writer,
	write func(report.Source, report.Options) (report.Result, error),
) error {
	source, end, err := f.source.open(ctx, args, o.Location)
	if err != nil {
		return err
	}
	defer end()

	o.ShowSource = f.source.words(args)

	result, err := write(source, o)
	if f.output != "text" {
		for _, text := range result.Warnings {
			warnings(stderr)(text)
		}
	}

	return err
}

// history explains incidents by themselves and by those before them.
type history struct{ journal diagnose.Journal }

// explain adds the causes to an incident that has none: one of an older recording, or of a kernel
// log; and the OOM kill that it followed from.
func (h *history) explain(inc *events.Incident) {
	if inc.Follows == nil {
		inc.Follows = h.journal.Follows(inc)
	}

	if len(inc.Causes) == 0 {
		inc.Causes = h.journal.Diagnose(inc)
	}
}
