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
	"reflect"
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
	return "/*\nuPlot\n" + asset("uplot/LICENSE") + "\n*/\n" + asset("uplot/uPlot.iife.min.js") + "\n" + asset("report.js")
}

func style() string { return asset("uplot/uPlot.min.css") + "\n" + asset("report.css") }

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
// without JavaScript.
func HTML(w io.Writer, src Source, o Options) (Result, error) {
	if o.MaxIncidents == 0 {
		o.MaxIncidents = DefaultIncidents
	}

	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	selected := selection{most: o.MaxIncidents}
	var s Summary

	warnings, err := o.each(src, func(inc *events.Incident) error {
		s.add(inc)
		return selected.add(inc)
	})
	if err != nil {
		return Result{Incidents: s.Incidents}, err
	}
	p := newDocument(&s, &selected, warnings, &o)
	out := bufio.NewWriter(w)

	err = layout.Execute(out, p)
	if err == nil {
		err = out.Flush()
	}

	if err != nil {
		err = fmt.Errorf("write the report: %w", err)
	}

	return Result{s.Incidents, len(selected.entries), warnings}, err
}

func newDocument(s *Summary, selected *selection, warnings []string, o *Options) *document {
	p := &document{
		Title: title(s), Made: clock(o.Now, o), Policy: policy(script(), style()), None: s.Incidents == 0,
		Incidents: func(yield func(*incidentPage) bool) {
			seq := 0
			for inc := range selected.each() {
				seq++
				// Encoding it cannot fail: the selection did so before.
				if page, err := newIncidentPage(inc, seq, o); err == nil && !yield(page) {
					return
				}
			}
		},
	}
	for _, r := range warnings {
		p.Warnings = append(p.Warnings, limitText(phrase.Sanitize(r)))
	}

	if selected.dropped > 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%s not shown in detail: the %d shown are node-wide incidents "+
			"and those that need attention, then kills, the newest first. "+
			"Use --max-incidents, --id, --since and --until to select others.",
			phrase.Plural(selected.dropped, "incident"), len(selected.entries)))
	}

	if s.Incidents > 1 {
		p.Summary = newSummaryPage(s, selected, o)
	}

	return p
}

func title(s *Summary) string {
	names, _, others := s.Nodes.top(1)

	text := "Report on " + phrase.Plural(s.Incidents, "incident")
	if len(names) == 1 && others == 0 && names[0].Name != "" {
		text += " on node " + limitText(phrase.Sanitize(names[0].Name))
	} else if n := uint64(len(names)) + others; n > 1 {
		text += fmt.Sprintf(" on %d nodes", n)
	}

	return text
}

var layout = template.Must(template.New("report.html.tmpl").Funcs(template.FuncMap{
	"size":    anySize,
	"maybe":   size,
	"span":    phrase.Duration,
	"maybes":  span,
	"task":    task,
	"after":   func(c events.Consequence) string { return phrase.Consequence(&c) },
	"role":    phrase.Role,
	"stall":   phrase.Stall,
	"plural":  phrase.Plural[int],
	"spaced":  phrase.Spaced,
	"script":  func() template.JS { return template.JS(script()) },
	"style":   func() template.CSS { return template.CSS(style()) },
	"number":  number,
	"percent": func(p float64) string { return fmt.Sprintf("%.1f", p) },
}).ParseFS(web, "web/*.tmpl"))

// task is a process in a table; a killer in user space need not name it.
func task(comm string, pid int) string {
	if comm == "" && pid <= 0 {
		return "unknown process"
	}

	return phrase.Task(comm, pid)
}

// anySize is a size that may be a pointer; "?" for nil.
func anySize(v any) string {
	if bytes, ok := v.(uint64); ok {
		return phrase.Size(bytes)
	}
	bytes, _ := v.(*uint64)

	return phrase.SizeOrUnknown(bytes)
}

// number is the number that v points to; "?" for nil.
func number(v any) string {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return "?"
	}

	return fmt.Sprint(p.Elem().Interface())
}
