// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

//go:embed web
var web embed.FS

func asset(name string) string {
	text, err := web.ReadFile("web/" + name)
	if err != nil {
		panic(err) // it is embedded: the program would not build without it
	}

	return string(text)
}

// script is the chart library with its licence, and the code that draws with it.
func script() string {
	return "/*\nuPlot\n" + asset("uplot/LICENSE") + "\n*/\n" + asset("uplot/uPlot.iife.min.js") + lean("report.js")
}

func style() string { return asset("uplot/uPlot.min.css") + lean("report.css") }

// lean is an asset without the indentation, which is for its readers alone.
func lean(name string) string { return "\n" + indent.ReplaceAllString(asset(name), "\n") }

var indent = regexp.MustCompile(`\n\s+`)

// policy is a Content-Security-Policy that allows the file's own script and style, by
// their hashes, and nothing else: no request, no other script, no form.
func policy(script, style string) string {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}

	return "default-src 'none'; script-src " + hash(script) + "; style-src " + hash(style) +
		"; img-src data:; base-uri 'none'; form-action 'none'"
}

// HTML writes one self-contained file, readable offline, in print, in light and dark, and
// without JavaScript. It lists all incidents, and shows the most important ones in detail.
func HTML(w io.Writer, src Source, o Options) (Result, error) {
	if o.MaxIncidents == 0 {
		o.MaxIncidents = DefaultIncidents
	}

	if o.Now.IsZero() {
		o.Now = time.Now()
	}

	selected := selection{most: o.MaxIncidents}

	var (
		s      Summary
		around surroundings
	)

	warnings, err := o.each(src, func(inc *events.Incident) error {
		s.add(inc)
		around.add(inc)

		return selected.add(inc)
	})
	if err != nil {
		return Result{Incidents: s.Incidents}, err
	}

	p := newDocument(&s, &selected, warnings, &o)
	p.Head = headFacts(&s, &around, src, len(warnings) > 0, &o)
	out := bufio.NewWriter(w)

	err = layout.Execute(out, p)
	if err == nil {
		err = out.Flush()
	}

	if err != nil {
		err = fmt.Errorf("write the report: %w", err)
	}

	return Result{s.Incidents, len(selected.detailed), warnings}, err
}

func newDocument(s *Summary, selected *selection, warnings []string, o *Options) *document {
	var entries []*entry

	ids := anchors{}

	for e := range selected.each() {
		e.Anchor = ids.add(e.Short)
		entries = append(entries, e)
	}

	several := s.Nodes.several()

	p := &document{
		Title: title(s), Made: clock(o.Now, o), Policy: policy(script(), style()), None: s.Incidents == 0,
		Incidents: func(yield func(*incidentPage) bool) {
			for _, e := range entries {
				if !yield(newIncidentPage(e, several, o)) {
					return
				}
			}
		},
	}

	for _, r := range warnings {
		p.Warnings = append(p.Warnings, safe(r))
	}

	if short := len(entries) - len(selected.detailed); short > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("%s in short: the %d in full are those of the whole node and those that need attention, "+
			"then kills, the newest first. --max-incidents, --id, --since and --until select others.",
			phrase.Plural(short, "incident"), len(selected.detailed)))
	}

	if selected.unlisted > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("%s not listed, but counted: the list has the %d most important. "+
			"Use --since and --until to list others.", phrase.Plural(selected.unlisted, "incident"), len(entries)))
	}

	if s.Incidents > 1 {
		p.Summary = newSummaryPage(s, entries, selected.unlisted, o)
	}

	return p
}

func title(s *Summary) string {
	names, _, others := s.Nodes.top(1)

	text := phrase.Plural(s.Incidents, "incident")
	if s.Incidents == 0 {
		text = "No incidents"
	}

	if len(names) == 1 && others == 0 && names[0].Name != "" {
		text += " on node " + safe(names[0].Name)
	} else if n := uint64(len(names)) + others; n > 1 {
		text += fmt.Sprintf(" on %d nodes", n)
	}

	return text
}

var layout = template.Must(template.New("report.html.tmpl").Funcs(template.FuncMap{
	"after":   func(c events.Consequence) string { return phrase.Consequence(&c) },
	"breaks":  breaks,
	"percent": func(p float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", p), ".0") },
	"spaced":  phrase.Spaced,
	"script":  func() template.JS { return template.JS(script()) },
	"style":   func() template.CSS { return template.CSS(style()) },
	"fields":  func() template.JS { return template.JS(strings.TrimSpace(asset("fields.json"))) },
}).Parse(strings.TrimSpace(lean("report.html.tmpl"))))

// breaks allows a line break after each slash, so that a path is not broken within a name. It
// escapes the text.
func breaks(text string) template.HTML {
	return template.HTML(strings.ReplaceAll(template.HTMLEscapeString(text), "/", "/<wbr>"))
}
