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
)

func golden(t *testing.T, name string, got []byte) {
	t.Helper()

	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}

		return
	}

	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (-update writes it):\n%s", file, got)
	}
}

func TestFixturesKeepTheContract(t *testing.T) {
	for _, name := range []string{"pod-limit", "node", "user-kill"} {
		dec := json.NewDecoder(fixture(t, name))
		dec.DisallowUnknownFields()

		for dec.More() {
			if err := dec.Decode(new(events.Incident)); err != nil {
				t.Errorf("%s: %v", name, err)
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
				t.Errorf("%s: blanks at the end of %q", test.name, line)
			}

			if n := len([]rune(strings.TrimSuffix(line, "\n"))); test.o.Width > 0 && n > test.o.Width {
				t.Errorf("%s: %d columns: %q", test.name, n, line)
			}
		}

		golden(t, test.name, out.Bytes())
	}
}

func TestTextIsSafe(t *testing.T) {
	for _, o := range []Options{{Width: 80}, {}, {SummaryOnly: true, Width: 60}} {
		var out bytes.Buffer
		if _, err := Text(&out, hostileSource(), fixed(o)); err != nil {
			t.Fatal(err)
		}

		for _, r := range out.String() {
			if r != '\n' && !events.Printable(r) {
				t.Errorf("%U came through", r)
			}
		}

		if !strings.Contains(out.String(), "onerror=alert(1)") {
			t.Error("the name is not there")
		}
	}
}

func TestTextWithoutIncidents(t *testing.T) {
	var out bytes.Buffer

	r, err := Text(&out, list{remarks: []string{"2 lines could not be read"}}, fixed(Options{Width: 80}))
	if err != nil || r.Incidents != 0 {
		t.Fatal(r, err)
	}

	if want := "no incidents\nnote: 2 lines could not be read\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}

// TestJSON: what comes out is what went in, merged.
func TestJSON(t *testing.T) {
	var out bytes.Buffer

	r, err := JSON(&out, lines(fixture(t, "pod-limit", "node")), fixed(Options{}))
	if err != nil || r.Incidents != 2 {
		t.Fatal(r, err)
	}

	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(got) != 2 {
		t.Fatalf("%d got", len(got))
	}

	var inc events.Incident
	if err := json.Unmarshal([]byte(got[0]), &inc); err != nil {
		t.Fatal(err)
	}

	if inc.Kind != events.KindIncident || inc.Before == nil || len(inc.Causes) != 3 || inc.Victims[0].ExitAfterNS == nil || inc.Audit == nil {
		t.Errorf("not merged: %s", got[0])
	}

	var again bytes.Buffer
	if _, err := JSON(&again, lines(&out), fixed(Options{})); err != nil || again.String() != strings.Join(got, "\n")+"\n" {
		t.Error("a report of a report differs", err)
	}
}

// TestJSONOfHostileNames: bytes that are no text go through reading and writing.
func TestJSONOfHostileNames(t *testing.T) {
	var first, again bytes.Buffer
	if _, err := JSON(&first, hostileSource(), fixed(Options{})); err != nil {
		t.Fatal(err)
	}

	line := first.String()
	if _, err := JSON(&again, lines(&first), fixed(Options{})); err != nil || again.String() != line {
		t.Errorf("%v\n%.2000q\n%.2000q", err, line, again.String())
	}
}

func TestWhichIncidents(t *testing.T) {
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
		enriched := 0

		test.o.Enrich = func(*events.Incident) { enriched++ }
		if _, err := test.o.each(src, func(inc *events.Incident) error { got = append(got, inc.ID); return nil }); err != nil {
			t.Fatal(err)
		}

		if strings.Join(got, " ") != test.want || enriched != len(got) {
			t.Errorf("%+v: %q, %d enriched", test.o, got, enriched)
		}
	}
}

// TestNoSuchID: an id that is not there is no report of nothing.
func TestNoSuchID(t *testing.T) {
	src := list{incidents: []*events.Incident{kill("a-1", 0, "p"), kill("a-10", 0, "p")}}

	for _, o := range []Options{{ID: "a"}, {ID: "a-1", Since: base().Add(time.Second)}} {
		var out bytes.Buffer
		for name, err := range map[string]error{"text": second(Text(&out, src, o)), "json": second(JSON(&out, src, o)), "html": second(HTML(&out, src, o))} {
			if err == nil || !strings.Contains(err.Error(), "no incident has the id") || out.Len() > 0 {
				t.Errorf("%s: %v, %q", name, err, out.String())
			}
		}
	}
}

// TestTimesThatAreNone: what has an uptime alone is not left out in silence.
func TestTimesThatAreNone(t *testing.T) {
	timeless := kill("a-1", 0, "p")
	timeless.Time, timeless.Unknown = time.Unix(100, 0), []string{"time"}

	src := list{incidents: []*events.Incident{timeless, kill("a-2", 0, "p")}, remarks: []string{"one"}}
	for _, test := range []struct {
		o         Options
		incidents uint64
		said      bool
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

			said := strings.Contains(strings.Join(r.Remarks, "\n"), "only an uptime: 1: --since and --until cannot select them")
			if err != nil || r.Incidents != test.incidents || said != test.said || r.Remarks[0] != "one" {
				t.Errorf("%+v: %s: %+v, %v", test.o, name, r, err)
			}
		}

		for name, out := range map[string]string{"text": text.String(), "html": html.String()} {
			if strings.Contains(out, "only an uptime") != test.said {
				t.Errorf("%+v: %s does not say it, or does", test.o, name)
			}
		}
	}
}

func TestEnrichIsShown(t *testing.T) {
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
			t.Errorf("no cause in %.300q", out)
		}
	}

	if !bytes.Contains(html, []byte("</span> wait")) {
		t.Error("no advice")
	}

	o.SummaryOnly = true
	if _, err := Text(&summary, src, o); err != nil || !strings.Contains(summary.String(), "CAUSE") {
		t.Error(summary.String(), err)
	}
}

func TestErrorsOfTheSource(t *testing.T) {
	broken := errors.New("broken")
	src := list{incidents: []*events.Incident{kill("a", 0, "p")}, err: broken}

	var out bytes.Buffer
	if _, err := Text(&out, src, fixed(Options{})); !errors.Is(err, broken) {
		t.Error(err)
	}

	if _, err := JSON(&out, src, fixed(Options{})); !errors.Is(err, broken) {
		t.Error(err)
	}

	out.Reset()

	if _, err := HTML(&out, src, fixed(Options{})); !errors.Is(err, broken) || out.Len() > 0 {
		t.Error(err, out.Len())
	}
}

type full struct{}

var errFull = errors.New("full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestErrorsOfTheWriter(t *testing.T) {
	src := list{incidents: []*events.Incident{kill("a", 0, "p")}}
	for name, err := range map[string]error{
		"text": second(Text(full{}, src, fixed(Options{}))), "json": second(JSON(full{}, src, fixed(Options{}))), "html": second(HTML(full{}, src, fixed(Options{}))),
	} {
		if !errors.Is(err, errFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second(_ Result, err error) error { return err }

func TestHTMLKeepsTheMostImportant(t *testing.T) {
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
		want := i == 3 || i == 5 || i >= 26 && i < 29
		if got := strings.Contains(html, fmt.Sprintf("incident id-%02d<", i)); got != want {
			t.Errorf("incident %d: %v", i, got)
		}
	}

	for _, words := range []string{"25 incidents not shown in detail", "30 incidents, 29 victims"} {
		if !strings.Contains(html, words) {
			t.Errorf("not said: %s", words)
		}
	}
}

// TestHTMLIsWhole: one incident more or less changes nothing of the frame.
func TestHTMLIsWhole(t *testing.T) {
	for _, src := range []Source{list{}, list{incidents: []*events.Incident{kill("a", 0, "p")}}, list{incidents: []*events.Incident{{}, {}}}, hostileSource()} {
		html := string(renderHTML(t, src, Options{}))
		for _, words := range []string{"<!DOCTYPE html>", "default-src &#39;none&#39;", "Permission is hereby granted", "</html>"} {
			if strings.Count(html, words) != 1 {
				t.Errorf("%s is there %d times", words, strings.Count(html, words))
			}
		}

		for _, words := range []string{"<img", "ZgotmplZ", "<no value>", "%!"} {
			if at := strings.Index(html, words); at >= 0 {
				t.Errorf("%s: %q", words, html[max(0, at-100):min(len(html), at+100)])
			}
		}
	}
}

func TestLicenceOfTheLibrary(t *testing.T) {
	kept, err := os.ReadFile(filepath.Join("..", "..", "LICENSES", "MIT-uPlot.txt"))
	if err != nil || string(kept) != asset("uplot/LICENSE") {
		t.Error("LICENSES has another one", err)
	}
}
