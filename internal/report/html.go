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
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

//go:embed web
var web embed.FS

func asset(name string) string {
	text, err := web.ReadFile("web/" + name)
	if err != nil {
		panic(err) // it is in the program, or the program does not build
	}

	return string(text)
}

// script is the library and what draws with it, and the licence that goes with
// every copy of the library.
func script() string {
	return "/*\nuPlot\n" + asset("uplot/LICENSE") + "\n*/\n" + asset("uplot/uPlot.iife.min.js") + "\n" + asset("report.js")
}

func style() string { return asset("uplot/uPlot.min.css") + "\n" + asset("report.css") }

// policy allows the file's own script and style, by their content, and nothing
// else: no request, no other script, no form.
func policy(script, style string) string {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}

	return "default-src 'none'; script-src " + hash(script) + "; style-src " + hash(style) +
		"; img-src data:; base-uri 'none'; form-action 'none'"
}

// HTML writes one file that needs nothing but itself: readable offline, in
// print, in light and dark, and without JavaScript.
func HTML(w io.Writer, src Source, o Options) (Result, error) {
	if o.MaxIncidents == 0 {
		o.MaxIncidents = DefaultIncidents
	}

	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	k := kept{max: o.MaxIncidents}
	var s Summary

	remarks, err := o.each(src, func(inc *events.Incident) error {
		s.add(inc)
		return k.add(inc)
	})
	if err != nil {
		return Result{Incidents: s.Incidents}, err
	}
	p := newDocument(&s, &k, remarks, &o)
	out := bufio.NewWriter(w)

	err = layout.Execute(out, p)
	if err == nil {
		err = out.Flush()
	}

	if err != nil {
		err = fmt.Errorf("write the report: %w", err)
	}

	return Result{s.Incidents, len(k.items), remarks}, err
}

func newDocument(s *Summary, k *kept, remarks []string, o *Options) *document {
	p := &document{
		Title: title(s), Made: clock(o.Now, o), Policy: policy(script(), style()), None: s.Incidents == 0,
		Incidents: func(yield func(*incidentPage) bool) {
			seq := 0
			for inc := range k.each() {
				seq++
				// What was marshalled once can be again.
				if page, err := newIncidentPage(inc, seq, o); err == nil && !yield(page) {
					return
				}
			}
		},
	}
	for _, r := range remarks {
		p.Remarks = append(p.Remarks, short(phrase.Sanitize(r)))
	}

	if k.drops > 0 {
		p.Remarks = append(p.Remarks, fmt.Sprintf("%s not shown in detail: the %d shown are those of the whole node and those that need a look, then kills, the newest first. "+
			"--max-incidents, --id, --since and --until choose others.", phrase.Plural(k.drops, "incident"), len(k.items)))
	}

	if s.Incidents > 1 {
		p.Summary = newSummaryPage(s, k, o)
	}

	return p
}

func title(s *Summary) string {
	names, _, others := s.Nodes.top(1)

	text := "Report of " + phrase.Plural(s.Incidents, "incident")
	if len(names) == 1 && others == 0 && names[0].Name != "" {
		text += " on node " + short(phrase.Sanitize(names[0].Name))
	} else if n := uint64(len(names)) + others; n > 1 {
		text += fmt.Sprintf(" on %d nodes", n)
	}

	return text
}

var layout = template.Must(template.New("report.html.tmpl").Funcs(template.FuncMap{
	"size":    func(v any) string { return orUnknown(anySize(v)) },
	"maybe":   size,
	"span":    func(ns uint64) string { return phrase.Duration(ns) },
	"maybes":  span,
	"task":    phrase.Task,
	"role":    phrase.Role,
	"stall":   phrase.Stall,
	"plural":  func(n int, thing string) string { return phrase.Plural(uint64(n), thing) },
	"spaced":  spaced,
	"script":  func() template.JS { return template.JS(script()) },
	"style":   func() template.CSS { return template.CSS(style()) },
	"number":  number,
	"percent": func(p float64) string { return fmt.Sprintf("%.1f", p) },
}).ParseFS(web, "web/*.tmpl"))

func anySize(v any) string {
	switch v := v.(type) {
	case *uint64:
		return size(v)
	case uint64:
		return phrase.Size(v)
	}

	return ""
}

func orUnknown(s string) string { return or(s, "?") }

// number shows an optional count.
func number(v any) string {
	switch v := v.(type) {
	case *int:
		if v != nil {
			return fmt.Sprint(*v)
		}
	case *int64:
		if v != nil {
			return fmt.Sprint(*v)
		}
	case *uint64:
		if v != nil {
			return fmt.Sprint(*v)
		}
	case *uint32:
		if v != nil {
			return fmt.Sprint(*v)
		}
	}

	return "?"
}
