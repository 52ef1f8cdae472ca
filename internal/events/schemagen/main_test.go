// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oomtrace/oomtrace/internal/events"
)

const (
	schemaFile    = "../../../docs/events.schema.json"
	referenceFile = "../../../docs/events.md"
)

func TestSchemaIsUpToDate(t *testing.T) {
	got, err := generate("..")
	if err != nil {
		t.Fatal(err)
	}

	want, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}

	if !bytes.Equal(got, want) {
		t.Error("got a docs/events.schema.json that differs from the Go types, want it as go generate ./internal/events makes it")
	}
}

func TestSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	const head = `"v":1,"time":"2026-08-20T12:03:07.412Z","boot_id":"b","node":"n"`

	tests := []struct {
		name, line string
		valid      bool
	}{
		{"incident", `{` + head + `,"kind":"incident","id":"1","scope":"memcg","outcome":"killed"}`, true},
		{"key and values that do not exist yet", `{` + head + `,"kind":"incident","id":"1","scope":"constraint_9","outcome":"panic","new":[1]}`, true},
		{"smallest update", `{` + head + `,"kind":"incident_update","id":"1"}`, true},
		{"incident without a scope", `{` + head + `,"kind":"incident","id":"1"}`, false},
		{"update without an id", `{` + head + `,"kind":"incident_update"}`, false},
		{"another version", `{` + strings.Replace(head, `"v":1`, `"v":2`, 1) + `,"kind":"incident_update","id":"1"}`, false},
		{"another kind", `{` + head + `,"kind":"stall"}`, false},
		{"size below zero", `{` + head + `,"kind":"incident_update","id":"1","memory":{"anon_bytes":-1}}`, false},
		{"lost", `{` + head + `,"kind":"lost","what":"kill","count":3}`, true},
		{"status", `{` + head + `,"kind":"status","phase":"start","page_size_bytes":4096}`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := validate(schema, []byte(tt.line))
			if (err == nil) != tt.valid {
				t.Errorf("got valid %v (error %v), want %v", err == nil, err, tt.valid)
			}
		})
	}
}

// TestReferenceExamples holds the reference to what it shows: its examples are
// lines of the contract, and there is one of each kind.
func TestReferenceExamples(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}

	page, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}

	for i, part := range strings.Split(string(page), "```json\n") {
		if i == 0 {
			continue
		}

		example, _, _ := strings.Cut(part, "```")
		if err := validate(schema, []byte(example)); err != nil {
			t.Errorf("example %d: got error %v, want a line of the contract:\n%s", i, err, example)
		}

		var line events.Envelope
		if err := json.Unmarshal([]byte(example), &line); err != nil {
			t.Fatal(err)
		}
		seen[line.Kind] = true
	}

	for _, o := range objects() {
		if !seen[o.kind] {
			t.Errorf("got no example of %q, want one", o.kind)
		}
	}
}

// TestReferenceNamesEveryKey fails when a key is added and not described.
func TestReferenceNamesEveryKey(t *testing.T) {
	page, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}

	raw, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}

	var schema struct {
		Defs map[string]struct{ Properties map[string]any } `json:"$defs"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}

	for name, def := range schema.Defs {
		for key := range def.Properties {
			if !bytes.Contains(page, []byte("`"+key+"`")) {
				t.Errorf("got no %s of %s in docs/events.md, want each key named", key, name)
			}
		}
	}
}

// TestReferenceIsUpToDate holds the tables of the reference to the contract.
func TestReferenceIsUpToDate(t *testing.T) {
	d, err := parseDocs("..")
	if err != nil {
		t.Fatal(err)
	}

	page, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}

	got, err := reference(d, page)
	if err != nil {
		t.Fatal(err)
	}

	if !bytes.Equal(got, page) {
		t.Error("got tables in docs/events.md that differ from the Go types, want them as go generate ./internal/events makes them")
	}
}

// TestReferenceHasEveryType fails when a struct of the contract has no table, or a
// key of it no sentence.
func TestReferenceHasEveryType(t *testing.T) {
	d, err := parseDocs("..")
	if err != nil {
		t.Fatal(err)
	}

	page, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	sections := tableSections(page)

	for name, fields := range d.fields {
		if sections[name].title == "" {
			t.Errorf("got no table of %s in docs/events.md, want one", name)
		}

		for _, f := range fields {
			if f.doc == "" {
				t.Errorf("%s: got no comment on key %s, want a sentence", name, f.key)
			}
		}
	}

	for name := range d.consts {
		if sections[name].title == "" {
			t.Errorf("got no table of the values of %s in docs/events.md, want one", name)
		}
	}
}

func TestReferenceTables(t *testing.T) {
	d := &docs{
		consts: map[string][]constant{"Role": {{"chosen", "by badness"}}},
		fields: map[string][]field{"Victim": {
			{"pid", "int", "pid is the process id."},
			{"role", "Role", "role is why: a|b, see memory.oom.group."},
			{"labels", "map[string]string", ""},
			{"others", "[]*Victim", "others are the rest."},
		}},
	}
	const page = "## A victim\n\n<!-- keys of Victim -->\nold\n<!-- end -->\n\n### Roles\n\n<!-- values of Role -->\n<!-- end -->\nkept\n"
	const want = "## A victim\n\n<!-- keys of Victim -->\n| key | type | content |\n| --- | --- | --- |\n" +
		"| `pid` | number | the process id |\n" +
		"| `role` | [roles](#roles) | why: a\\|b, see `memory.oom.group` |\n" +
		"| `labels` | object |  |\n" +
		"| `others` | list of [a victim](#a-victim) | the rest |\n" +
		"<!-- end -->\n\n### Roles\n\n<!-- values of Role -->\n| value | meaning |\n| --- | --- |\n| `chosen` | by badness |\n<!-- end -->\nkept\n"

	got, err := reference(d, []byte(page))
	if err != nil {
		t.Fatal(err)
	}

	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}

	for _, bad := range []string{"<!-- keys of Nothing -->\n<!-- end -->\n", "<!-- keys of Victim -->\n", "<!-- keys of Victim -->\n<!-- keys of Victim -->\n"} {
		if _, err := reference(d, []byte(bad)); err == nil {
			t.Errorf("page %q: got no error, want one", bad)
		}
	}
}

func validate(schema *jsonschema.Schema, line []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		return err
	}

	return schema.Validate(v)
}
