// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// seen is which stalls this kernel shows.
type seen struct{ high, throttle, pressure bool }

// reclaimColumn is a column between the time and the name.
type reclaimColumn struct {
	title string
	width int
	has   bool
	cell  func(*reclaimRow) string
}

// reclaimColumns are all columns in their order, and the titles in the order in which they
// get room.
func reclaimColumns(s seen) (columns []reclaimColumn, rank []string) {
	columns = []reclaimColumn{
		{"RECLAIMS", 8, true, func(r *reclaimRow) string { return count(r.reclaim.Count) }},
		{"NOPROG%", 7, true, func(r *reclaimRow) string { return ratio(r.reclaim.NoProgress, r.reclaim.Count) }},
		{"RECLAIM", 8, true, func(r *reclaimRow) string { return shortDuration(r.reclaim.TotalNS) }},
		{"HIGH", 8, s.high, func(r *reclaimRow) string { return shortDuration(r.highNS) }},
		{"THROTTLE", 8, s.throttle, func(r *reclaimRow) string { return shortDuration(r.throttleNS) }},
		{"RECLAIMED", 9, true, func(r *reclaimRow) string {
			bytes := r.reclaim.ReclaimedPages * uint64(host.PageSize())
			return phrase.ShortSize(&bytes)
		}},
		{"USED", 8, true, func(r *reclaimRow) string { return r.one(known(r.usage.usedBytes, shortSize)) }},
		{"HEADROOM", 9, true, func(r *reclaimRow) string { return r.one(headroom(r.usage)) }},
		{"PSI%", 5, s.pressure, func(r *reclaimRow) string { return r.one(known(r.usage.psiPercent, percent)) }},
		{"REFAULTS", 8, true, func(r *reclaimRow) string { return r.one(known(r.usage.refaultPages, count)) }},
	}

	return columns, []string{
		"RECLAIM", "HIGH", "HEADROOM", "USED", "NOPROG%", "RECLAIMS", "THROTTLE", "PSI%", "REFAULTS", "RECLAIMED",
	}
}

// one is a value of a row of one cgroup; a row of several has none.
func (r *reclaimRow) one(value string) string {
	if _, ok := r.onlyPath(); !ok {
		return "-"
	}

	return value
}

// reclaimText formats rows in lines of at most width columns. It keeps count of the lines,
// since the header comes again with each screenful.
type reclaimText struct {
	by        string
	location  *time.Location
	columns   []reclaimColumn
	leftOut   []string // the columns that there is no room for
	nameWidth int      // 0: as long as it is
	ascii     bool
	screen    int // lines until the header comes again; 0: never
	lines     int // since the last header
}

// leastReclaimName is the room that the name has before columns get some.
const leastReclaimName = 23

func newReclaimText(f *reclaimFlags, out io.Writer, s seen) *reclaimText {
	width, _ := terminal(out)
	if f.wide {
		width = 0
	}

	t := layOutReclaim(f.by, f.location(), width, terminalLines(out), s)
	t.ascii = !utf8Locale()

	return t
}

func layOutReclaim(by string, location *time.Location, width, screen int, s seen) *reclaimText {
	t := &reclaimText{by: by, location: location, screen: screen}
	columns, rank := reclaimColumns(s)
	rest := width - len(time.TimeOnly)
	fits := map[string]bool{}

	for _, title := range rank {
		i := slices.IndexFunc(columns, func(c reclaimColumn) bool { return c.title == title })
		if !columns[i].has {
			continue
		}

		if width > 0 && rest-1-columns[i].width < 2+leastReclaimName {
			t.leftOut = append(t.leftOut, title)
			continue
		}

		rest -= 1 + columns[i].width
		fits[title] = true
	}

	for _, c := range columns {
		if fits[c.title] {
			t.columns = append(t.columns, c)
		}
	}

	if width > 0 {
		t.nameWidth = rest - 2
	}

	return t
}

// terminalLines returns the height of a terminal, 0 if w is none.
func terminalLines(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0
	}

	_, height, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}

	return height
}

// format returns the lines of one interval; empty if nothing stalled.
func (t *reclaimText) format(now time.Time, rows []*reclaimRow, kswapd []kswapdRow) string {
	var b strings.Builder
	at := now.In(t.location).Format(time.TimeOnly)

	for _, row := range rows {
		line := at
		for _, c := range t.columns {
			line += fmt.Sprintf(" %*s", c.width, c.cell(row))
		}

		name := phrase.Sanitize(row.name)
		if t.nameWidth > 0 && strings.HasPrefix(name, "/") {
			name = phrase.ShortPath(name, t.nameWidth)
		} else if t.nameWidth > 0 {
			name = phrase.ClipMiddle(name, t.nameWidth)
		}

		if t.headerIsDue() {
			b.WriteString(t.line(t.header()))
		}

		b.WriteString(t.line(line + "  " + name))
	}

	for _, row := range rows {
		if row.service != "" {
			b.WriteString(t.line(fmt.Sprintf("%s critical service %s was stalled for %s", at, row.service, phrase.Duration(row.stallNS))))
		}
	}

	for _, k := range kswapd {
		b.WriteString(t.line(fmt.Sprintf("%s kswapd of NUMA node %d was awake for %s, woken up %s", at,
			k.node, phrase.Duration(k.AwakeNS), phrase.Plural(k.Wakeups, "time"))))
	}

	return b.String()
}

func (t *reclaimText) headerIsDue() bool {
	return t.lines == 0 || t.screen > 0 && t.lines >= t.screen-1
}

func (t *reclaimText) header() string {
	line := fmt.Sprintf("%-8s", "TIME")
	for _, c := range t.columns {
		line += fmt.Sprintf(" %*s", c.width, c.title)
	}
	t.lines = 0

	return line + "  " + strings.ToUpper(t.by)
}

// line returns a text as a line, and counts it.
func (t *reclaimText) line(text string) string {
	t.lines++
	return t.shown(phrase.Sanitize(text)) + "\n"
}

// shown is text as the terminal can show it.
func (t *reclaimText) shown(text string) string {
	if t.ascii {
		return phrase.ASCII(text)
	}

	return text
}

func count(n uint64) string         { return strconv.FormatUint(n, 10) }
func shortSize(bytes uint64) string { return phrase.ShortSize(&bytes) }
func percent(value float64) string  { return fmt.Sprintf("%.0f", value) }

// ratio is a part in percent; a dash where there is no whole.
func ratio(part, whole uint64) string {
	if whole == 0 {
		return "-"
	}

	return fmt.Sprintf("%.0f", 100*float64(part)/float64(whole))
}

// shortDuration is a time in a narrow column.
func shortDuration(ns uint64) string {
	if ns >= 60e9 {
		return fmt.Sprintf("%.1f min", float64(ns)/60e9)
	}

	return phrase.Duration(ns)
}

// known formats a value, or "?" for one that is not known.
func known[T any](value *T, format func(T) string) string {
	if value == nil {
		return "?"
	}

	return format(*value)
}

// headroom is what is left below the nearest limit, a dash where there is none.
func headroom(u cgroupUsage) string {
	switch {
	case u.headroomBytes == nil && u.usedBytes == nil:
		return "?"
	case u.headroomBytes == nil:
		return "-"
	case u.ancestorLimit:
		return phrase.ShortSize(u.headroomBytes) + "^"
	}

	return phrase.ShortSize(u.headroomBytes)
}

// formatHistogram returns the distribution of the stalls' durations over all cgroups, by
// kind.
func formatHistogram(counts map[kernel.StallKey]kernel.StallCount) string {
	sums := map[events.StallKind]*[kernel.StallBuckets]uint64{}
	for key, c := range counts {
		if sums[key.What] == nil {
			sums[key.What] = new([kernel.StallBuckets]uint64)
		}

		for b, n := range c.Buckets {
			sums[key.What][b] += n
		}
	}

	if len(sums) == 0 {
		return "no stalls\n"
	}

	var b strings.Builder

	for _, what := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&b, "%s\n", what)
		formatBuckets(&b, sums[what])
	}

	return b.String()
}

// formatBuckets writes a bar for each bucket between the first and the last that is not
// empty.
func formatBuckets(b *strings.Builder, buckets *[kernel.StallBuckets]uint64) {
	const width = 40
	first, last, most := kernel.StallBuckets, 0, uint64(0)

	for i, n := range buckets {
		if n > 0 {
			first, last, most = min(first, i), i, max(most, n)
		}
	}

	for i := first; i <= last; i++ {
		n := buckets[i]
		fmt.Fprintf(b, "  %10s .. %-10s %10d |%s\n",
			bucketStart(i), bucketStart(i+1), n, strings.Repeat("#", int(n*width/most)))
	}
}

// bucketStart returns the shortest duration of a bucket; the first has all below 2 us.
func bucketStart(bucket int) string {
	if bucket == 0 {
		return "0"
	}

	return (time.Microsecond << bucket).String()
}
