// SPDX-License-Identifier: Apache-2.0

package report

import (
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/record"
)

// coveredList is a list with the runs of its tracers.
type coveredList struct {
	list
	runs []record.Run
}

func (l coveredList) Coverage() record.Coverage { return record.Coverage{Runs: l.runs} }

func TestHead(t *testing.T) {
	at := func(minutes int) time.Time { return base().Add(time.Duration(minutes) * time.Minute) }
	run := func(node string, begin, end int) record.Run {
		return record.Run{
			Node: node, KernelRelease: "6.12.0", Tier: events.TierFentry, Begin: at(begin), End: at(end), Started: true, Ended: true,
		}
	}
	killed := func(r record.Run) record.Run { r.Ended = false; return r }
	first := kill("a", 10*time.Minute, "p")
	first.Tier, first.NodeState = events.TierFentry, &events.NodeState{TotalBytes: new(1024 * mib)}

	for name, test := range map[string]struct {
		runs []record.Run
		o    Options
		want []string
	}{
		"no recording": {nil, Options{}, []string{"RAM: 1.0 GiB", "attach mode: fentry", "recorded: not known"}},
		"one run": {[]record.Run{run("n", 0, 90)}, Options{},
			[]string{"kernel: 6.12.0", "recorded: 2026-08-20 14:03:07 – 15:33:07", "gaps: none", "losses: none"}},
		"still running":     {[]record.Run{killed(run("n", 0, 90))}, Options{}, []string{"15:33:07; no end: still running, or killed"}},
		"the start is gone": {[]record.Run{{Node: "n", Begin: at(0), End: at(9), Ended: true}}, Options{}, []string{"14:12:07; what was before is gone"}},
		"a gap":             {[]record.Run{run("n", 0, 20), run("n", 30, 90)}, Options{}, []string{"gaps: 2026-08-20 14:23:07 – 14:33:07 (10 min)"}},
		"a crash":           {[]record.Run{killed(run("n", 0, 20)), run("n", 30, 90)}, Options{}, []string{"(10 min); the tracer was killed, and may have"}},
		"gaps": {[]record.Run{run("n", 0, 20), run("n", 30, 90), run("n", 110, 120)}, Options{},
			[]string{"gaps: 2, 30 min in all, the longest 2026-08-20 15:33:07 – 15:53:07 (20 min)"}},
		"of another node":   {[]record.Run{run("n", 0, 20), run("m", 30, 90)}, Options{}, []string{"gaps: none"}},
		"before the report": {[]record.Run{run("n", 0, 5), run("n", 7, 90)}, Options{Since: at(8)}, []string{"gaps: none"}},
	} {
		t.Run(name, func(t *testing.T) {
			html := string(renderHTML(t, coveredList{list{incidents: []*events.Incident{first}}, test.runs}, test.o))
			_, head, _ := strings.Cut(html, `<dl class="head">`)
			head, _, _ = strings.Cut(head, "</dl>")
			head = strings.NewReplacer("</dt><dd>", ": ", "</dd></div><div><dt>", "\n").Replace(head)

			for _, want := range test.want {
				if !strings.Contains(head, want) {
					t.Errorf("got\n%s\nwant %q", head, want)
				}
			}
		})
	}

	html := string(renderHTML(t, coveredList{list{incidents: []*events.Incident{first}, warnings: []string{"records lost: 3"}},
		[]record.Run{run("n", 0, 90)}}, Options{}))
	for _, want := range []string{"<dd>see the notes</dd>", `<p class="remark">records lost: 3</p>`} {
		if !strings.Contains(html, want) {
			t.Errorf("got HTML without %q, want it", want)
		}
	}
}
