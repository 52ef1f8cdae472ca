// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"flag"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

var rewrite = flag.Bool("update", false, "write the golden files")

type format struct {
	name string
	make func(io.Writer) sink.Sink
}

func formats() []format {
	loadavg := func() string { return "0.99 0.39 0.30 3/282 22724\n" }

	return []format{
		{"text-80", func(w io.Writer) sink.Sink { return NewText(w, TextOptions{Width: 80, Location: time.UTC}) }},
		{"text-120", func(w io.Writer) sink.Sink { return NewText(w, TextOptions{Width: 120, Location: time.UTC}) }},
		{"text-wide", func(w io.Writer) sink.Sink { return NewText(w, TextOptions{Location: time.UTC}) }},
		{"json", NewJSON},
		{"table-80", func(w io.Writer) sink.Sink { return NewTable(w, TableOptions{Width: 80, Location: time.UTC}) }},
		{"table", func(w io.Writer) sink.Sink { return NewTable(w, TableOptions{Location: time.UTC}) }},
		{"bcc", func(w io.Writer) sink.Sink { return NewBCC(w, loadavg, time.UTC) }},
	}
}

// render feeds a script to a sink, and checks what holds for every output.
func render(t *testing.T, s script, f format) []byte {
	t.Helper()

	var out bytes.Buffer
	if err := s.feed(f.make(&out)); err != nil {
		t.Fatal(err)
	}

	if n := out.Len(); n > 0 && out.Bytes()[n-1] != '\n' {
		t.Error("got a last line without a newline")
	}

	if !utf8.Valid(out.Bytes()) {
		t.Error("got output that is not UTF-8")
	}

	for line := range strings.Lines(out.String()) {
		line = strings.TrimSuffix(line, "\n")
		for _, r := range line {
			if !events.Printable(r) {
				t.Errorf("got unprintable %U in %q", r, line)
			}
		}

		if strings.HasSuffix(f.name, "-80") && phrase.Width(line) > 80 {
			t.Errorf("got %d columns, want at most 80: %s", phrase.Width(line), line)
		}

		if strings.TrimRight(line, " ") != line {
			t.Errorf("got trailing blanks in %q", line)
		}
	}

	return out.Bytes()
}

func TestGolden(t *testing.T) {
	for _, s := range scripts() {
		for _, f := range formats() {
			t.Run(s.name+"/"+f.name, func(t *testing.T) {
				testenv.Golden(t, s.name+"."+f.name+".golden", render(t, s, f), *rewrite)
			})
		}
	}
}

// TestJSONMatchesTheSchema checks each line against the published schema.
func TestJSONMatchesTheSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../../docs/events.schema.json")
	if err != nil {
		t.Fatal(err)
	}

	for _, s := range scripts() {
		var out bytes.Buffer
		if err := s.feed(NewJSON(&out)); err != nil {
			t.Fatal(err)
		}

		for line := range bytes.Lines(out.Bytes()) {
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
			if err != nil {
				t.Fatalf("%s: got error %v, want JSON", s.name, err)
			}

			if err := schema.Validate(v); err != nil {
				t.Errorf("%s: got error %v, want a line that the schema allows:\n%s", s.name, err, line)
			}
		}
	}
}
