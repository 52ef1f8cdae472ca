// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

func TestFixturesMatchTheContract(t *testing.T) {
	for _, name := range []string{"pod-limit", "node", "user-kill"} {
		dec := json.NewDecoder(fixture(t, name))
		dec.DisallowUnknownFields()

		for dec.More() {
			if err := dec.Decode(new(events.Incident)); err != nil {
				t.Errorf("%s: got error %v, want an incident of the contract", name, err)
				break
			}
		}
	}
}

func TestText(t *testing.T) {
	all := []string{"pod-limit", "node", "user-kill"}
	for _, test := range []struct {
		name string
		o    Options
		from []string
	}{
		{"text-80", Options{Width: 80}, all},
		{"text-wide", Options{}, all[:1]},
		{"text-summary", Options{Width: 80, SummaryOnly: true}, all},
	} {
		var out bytes.Buffer
		if _, err := Text(&out, lines(fixture(t, test.from...)), fixed(test.o)); err != nil {
			t.Fatal(err)
		}

		for line := range strings.Lines(out.String()) {
			if strings.TrimRight(line, " \n")+"\n" != line {
				t.Errorf("%s: got trailing blanks in %q", test.name, line)
			}

			if n := len([]rune(strings.TrimSuffix(line, "\n"))); test.o.Width > 0 && n > test.o.Width {
				t.Errorf("%s: got %d columns, want at most %d: %q", test.name, n, test.o.Width, line)
			}
		}

		testenv.Golden(t, test.name+".golden", out.Bytes(), *update)
	}
}

func TestTextIsSanitized(t *testing.T) {
	for _, o := range []Options{{Width: 80}, {}, {SummaryOnly: true, Width: 60}} {
		var out bytes.Buffer
		if _, err := Text(&out, hostileSource(), fixed(o)); err != nil {
			t.Fatal(err)
		}

		for _, r := range out.String() {
			if r != '\n' && !events.Printable(r) {
				t.Errorf("got unprintable %U", r)
			}
		}

		if !strings.Contains(out.String(), "onerror=alert(1)") {
			t.Error("got text without the name, want it")
		}
	}
}

func TestASCIITextHasNothingElse(t *testing.T) {
	src := hostileSource()

	for _, o := range []Options{{Width: 80}, {}, {SummaryOnly: true, Width: 60}} {
		var out bytes.Buffer

		o.ASCII = true
		if _, err := Text(&out, src, fixed(o)); err != nil {
			t.Fatal(err)
		}

		for _, r := range out.String() {
			if r >= 0x80 {
				t.Errorf("got %q in text of %d columns, want ASCII alone", r, o.Width)
			}
		}
	}
}

func TestTextWithoutIncidents(t *testing.T) {
	var out bytes.Buffer

	r, err := Text(&out, list{warnings: []string{"2 lines could not be read"}}, fixed(Options{Width: 80}))
	if err != nil || r.Incidents != 0 {
		t.Fatal(r, err)
	}

	if want := "no incidents\nnote: 2 lines could not be read\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// TestJSONIsMerged: each incident is one line with its updates, and a report of that is the
// same.
func TestJSONIsMerged(t *testing.T) {
	var out bytes.Buffer

	r, err := JSON(&out, lines(fixture(t, "pod-limit", "node")), fixed(Options{}))
	if err != nil || r.Incidents != 2 {
		t.Fatal(r, err)
	}

	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(got) != 2 {
		t.Fatalf("got %d lines, want 2", len(got))
	}

	var inc events.Incident
	if err := json.Unmarshal([]byte(got[0]), &inc); err != nil {
		t.Fatal(err)
	}

	if inc.Kind != events.KindIncident || inc.Before == nil || len(inc.Causes) != 3 ||
		inc.Victims[0].ExitAfterNS == nil || inc.Audit == nil {
		t.Errorf("got an incident without its updates: %s", got[0])
	}

	var again bytes.Buffer
	if _, err := JSON(&again, lines(&out), fixed(Options{})); err != nil || again.String() != strings.Join(got, "\n")+"\n" {
		t.Errorf("report of a report: got error %v and\n%s\nwant\n%s", err, again.String(), strings.Join(got, "\n"))
	}
}

// TestJSONOfHostileNames: bytes that are not UTF-8 survive reading and writing.
func TestJSONOfHostileNames(t *testing.T) {
	var first, again bytes.Buffer
	if _, err := JSON(&first, hostileSource(), fixed(Options{})); err != nil {
		t.Fatal(err)
	}

	line := first.String()
	if _, err := JSON(&again, lines(&first), fixed(Options{})); err != nil || again.String() != line {
		t.Errorf("got error %v and\n%.2000q\nwant\n%.2000q", err, again.String(), line)
	}
}

func TestSelection(t *testing.T) {
	src := list{incidents: []*events.Incident{kill("a-1", 0, "p"), kill("a-2", time.Minute, "p"), kill("a-10", time.Hour, "q")}}
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{}, "a-1 a-2 a-10"},
		{Options{ID: "a-1"}, "a-1"},
		{Options{Since: base().Add(time.Minute)}, "a-2 a-10"},
		{Options{Until: base().Add(time.Minute)}, "a-1 a-2"},
		{Options{Since: base().Add(time.Second), Until: base().Add(2 * time.Minute)}, "a-2"},
	} {
		var got []string
		enriched, missing := map[string]bool{}, 0

		test.o.Enrich = func(inc *events.Incident) { enriched[inc.ID] = true }
		if _, err := test.o.each(src, func(inc *events.Incident) error {
			if got = append(got, inc.ID); !enriched[inc.ID] {
				missing++
			}

			return nil
		}); err != nil {
			t.Fatal(err)
		}

		if strings.Join(got, " ") != test.want || missing > 0 {
			t.Errorf("%+v: got %q with %d not enriched, want %q, all enriched", test.o, got, missing, test.want)
		}
	}
}

// TestNoSuchID: an id that matches no incident is an error, not an empty report.
func TestNoSuchID(t *testing.T) {
	src := list{incidents: []*events.Incident{kill("a-1", 0, "p"), kill("a-10", 0, "p")}}

	for _, o := range []Options{{ID: "b"}, {ID: "a-1", Since: base().Add(time.Second)}} {
		var out bytes.Buffer
		for name, err := range map[string]error{"text": second(Text(&out, src, o)), "json": second(JSON(&out, src, o)),
			"html": second(HTML(&out, src, o))} {
			if err == nil || !strings.Contains(err.Error(), "no incident in the selected time has the ID") || out.Len() > 0 {
				t.Errorf("%s: got error %v and output %q, want \"no incident in the selected time has the ID\" alone", name, err, out.String())
			}
		}
	}
}

// TestUptimesAlone: incidents without a wall-clock time that a period leaves out are counted.
func TestUptimesAlone(t *testing.T) {
	timeless := kill("a-1", 0, "p")
	timeless.Time, timeless.Unknown = time.Unix(100, 0), []string{"time"}

	src := list{incidents: []*events.Incident{timeless, kill("a-2", 0, "p")}, warnings: []string{"one"}}
	for _, test := range []struct {
		o         Options
		incidents uint64
		warning   bool
	}{
		{Options{}, 2, false},
		{Options{Since: base()}, 1, true},
		{Options{Until: base()}, 1, true},
		{Options{ID: "a-1", Since: base()}, 0, true},
		{Options{ID: "a-2", Since: base()}, 1, false},
	} {
		var text, html, json bytes.Buffer

		for name, show := range map[string]func() (Result, error){
			"text": func() (Result, error) { return Text(&text, src, fixed(test.o)) },
			"html": func() (Result, error) { return HTML(&html, src, fixed(test.o)) },
			"json": func() (Result, error) { return JSON(&json, src, fixed(test.o)) },
		} {
			r, err := show()

			warning := strings.Contains(strings.Join(r.Warnings, "\n"), "no wall-clock time: 1: --since and --until cannot select them")
			if err != nil || r.Incidents != test.incidents || warning != test.warning || r.Warnings[0] != "one" {
				t.Errorf("%+v: %s: got %+v and error %v, want %d incidents, the warning: %v", test.o, name, r, err, test.incidents, test.warning)
			}
		}

		for name, out := range map[string]string{"text": text.String(), "html": html.String()} {
			if strings.Contains(out, "no wall-clock time:") != test.warning {
				t.Errorf("%+v: %s: want the warning on uptimes: %v, got\n%s", test.o, name, test.warning, out)
			}
		}
	}
}

func TestEnrichedCausesAreShown(t *testing.T) {
	o := fixed(Options{Enrich: func(inc *events.Incident) {
		inc.Causes = []events.Cause{{ID: "x", Text: "the moon was full", Confidence: "possible", Advice: []events.Advice{{Layer: "kernel", Text: "wait"}}}}
	}})
	src := list{incidents: []*events.Incident{kill("a", 0, "p"), kill("b", 0, "p")}}

	var text, summary bytes.Buffer
	if _, err := Text(&text, src, o); err != nil {
		t.Fatal(err)
	}

	html := renderHTML(t, src, o)
	for _, out := range []string{text.String(), string(html)} {
		if !strings.Contains(out, "the moon was full") {
			t.Errorf("want the cause, got %.300q", out)
		}
	}

	if !bytes.Contains(html, []byte("</span> wait</li>")) {
		t.Error("got HTML without the advice, want it")
	}

	o.SummaryOnly = true
	if _, err := Text(&summary, src, o); err != nil || !strings.Contains(summary.String(), "CAUSE") {
		t.Errorf("got error %v and %q, want a table of causes", err, summary.String())
	}
}

func TestErrorsOfTheSourceAreReturned(t *testing.T) {
	broken := errors.New("broken")
	src := list{incidents: []*events.Incident{kill("a", 0, "p")}, err: broken}

	var out bytes.Buffer
	if _, err := Text(&out, src, fixed(Options{})); !errors.Is(err, broken) {
		t.Errorf("text: got error %v, want %v", err, broken)
	}

	if _, err := JSON(&out, src, fixed(Options{})); !errors.Is(err, broken) {
		t.Errorf("JSON: got error %v, want %v", err, broken)
	}

	out.Reset()

	if _, err := HTML(&out, src, fixed(Options{})); !errors.Is(err, broken) || out.Len() > 0 {
		t.Errorf("HTML: got error %v and %d bytes, want %v and none", err, out.Len(), broken)
	}
}

type full struct{}

var errFull = errors.New("full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestErrorsOfTheWriterAreReturned(t *testing.T) {
	src := list{incidents: []*events.Incident{kill("a", 0, "p")}}
	for name, err := range map[string]error{
		"text": second(Text(full{}, src, fixed(Options{}))), "json": second(JSON(full{}, src, fixed(Options{}))),
		"html": second(HTML(full{}, src, fixed(Options{}))),
	} {
		if !errors.Is(err, errFull) {
			t.Errorf("%s: got error %v, want %v", name, err, errFull)
		}
	}
}

func second(_ Result, err error) error { return err }

// TestHTMLShowsTheMostImportant in full, and all in the list and in short.
func TestHTMLShowsTheMostImportant(t *testing.T) {
	var all []*events.Incident

	for i := range 30 {
		inc := kill(fmt.Sprintf("id-%02d", i), time.Duration(i)*time.Minute, "p")
		switch i {
		case 3:
			inc.Scope = events.ScopeGlobal
		case 5:
			inc.Audit = &events.Audit{Text: "one kill was not seen"}
		case 29:
			inc.Outcome, inc.Victims = events.OutcomeSkipped, nil
		}

		all = append(all, inc)
	}

	html := string(renderHTML(t, list{incidents: all}, Options{MaxIncidents: 5}))

	for i := range 30 {
		class := "incident short"
		if i == 3 || i == 5 || i >= 26 && i < 29 {
			class = "incident"
		}

		for _, words := range []string{fmt.Sprintf(`<article class="%s" id="%02d">`, class, i), fmt.Sprintf(`<a href="#%02d"`, i)} {
			if !strings.Contains(html, words) {
				t.Errorf("incident %d: got HTML without %s, want it", i, words)
			}
		}
	}

	for _, words := range []string{"25 incidents in short", "Counters of the kernel differ: one kill was not seen", "30 incidents on node worker-3", "<dt>victims</dt><dd>29</dd>"} {
		if !strings.Contains(html, words) {
			t.Errorf("got HTML without %q, want it", words)
		}
	}
}

// TestListIsBounded: what is not listed is counted.
func TestListIsBounded(t *testing.T) {
	var all []*events.Incident
	for i := range maxListed + 10 {
		all = append(all, kill(fmt.Sprintf("id-%d", i), time.Duration(i)*time.Second, "p"))
	}

	html := string(renderHTML(t, list{incidents: all}, Options{MaxIncidents: 1}))
	if !strings.Contains(html, "10 incidents not listed, but counted") || !strings.Contains(html, fmt.Sprintf("%d incidents on node", maxListed+10)) {
		t.Error("got HTML that does not count the incidents that are not listed, want it")
	}

	if strings.Contains(html, `<a href="#9"`) || !strings.Contains(html, `<a href="#10"`) {
		t.Error("got another list than of the newest incidents")
	}
}

// TestRepeatsAreFolded: three of one workload and cause are one row with the number and the last time.
func TestRepeatsAreFolded(t *testing.T) {
	var all []*events.Incident

	for i, pod := range []string{"a", "b", "a", "a", "c", "b"} {
		inc := kill(fmt.Sprintf("id-%d", i), time.Duration(i)*7*time.Hour, pod)
		inc.Victims[0].PID = 100 + i
		all = append(all, inc)
	}

	html := string(renderHTML(t, list{incidents: all}, Options{}))
	want := `<b>×3</b></label><td><i>2026-08-20 </i>14:03:07<span class="last">last 08-21 11:03:07</span><td>java<td>shop/<wbr>a/<wbr>app<td>`

	if strings.Count(html, `<tr class="fold">`) != 1 || !strings.Contains(html, want) {
		t.Errorf("got no HTML with one group of %s", want)
	}
}

func TestAnchors(t *testing.T) {
	ids := anchors{}
	for _, test := range []struct{ short, want string }{
		{"1164701", "1164701"}, {"1164701", "1164701_2"}, {`"><img>`, "---img-"}, {"", "incident"}, {strings.Repeat("x", 99), strings.Repeat("x", 40)},
	} {
		if got := ids.add(test.short); got != test.want {
			t.Errorf("%q: got %q, want %q", test.short, got, test.want)
		}
	}
}

// TestRawEvent is in the page only if it is wanted.
func TestRawEvent(t *testing.T) {
	for _, raw := range []bool{false, true} {
		html := makeHTML(t, Options{Raw: raw}, "pod-limit")
		if got := bytes.Contains(html, []byte("memory_events_oom_kill")); got != raw {
			t.Errorf("got the raw event %v, want %v", got, raw)
		}
	}
}

// TestHTMLIsComplete: whatever the incidents, the frame of the page is the same.
func TestHTMLIsComplete(t *testing.T) {
	for _, src := range []Source{list{}, list{incidents: []*events.Incident{kill("a", 0, "p")}},
		list{incidents: []*events.Incident{{}, {}}}, hostileSource()} {
		html := string(renderHTML(t, src, Options{}))
		for _, words := range []string{"<!DOCTYPE html>", "default-src &#39;none&#39;", "Permission is hereby granted", "</html>"} {
			if strings.Count(html, words) != 1 {
				t.Errorf("got %q %d times, want once", words, strings.Count(html, words))
			}
		}

		for _, words := range []string{"<img", "ZgotmplZ", "<no value>", "%!"} {
			if at := strings.Index(html, words); at >= 0 {
				t.Errorf("got %s, want none: %q", words, html[max(0, at-100):min(len(html), at+100)])
			}
		}
	}
}

func TestLicenceOfTheLibrary(t *testing.T) {
	licence, err := os.ReadFile(filepath.Join("..", "..", "LICENSES", "MIT-uPlot.txt"))
	if err != nil || string(licence) != asset("uplot/LICENSE") {
		t.Errorf("got error %v, or another licence in LICENSES than with the library", err)
	}
}
