// SPDX-License-Identifier: Apache-2.0

// Schemagen writes the JSON Schema of the event contract from the Go types and
// their comments, and the tables of its reference.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"

	"github.com/invopop/jsonschema"

	"github.com/oomtrace/oomtrace/internal/events"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("schemagen", flag.ContinueOnError)
	src := flags.String("src", ".", "folder of the contract's source")

	page := flags.String("reference", "", "page whose tables to make anew; empty: none")
	out := flags.String("o", "events.schema.json", "file to write")

	if err := flags.Parse(args); err != nil {
		return err
	}

	schema, err := generate(*src)
	if err != nil {
		return err
	}

	if err := os.WriteFile(*out, schema, 0o644); err != nil || *page == "" {
		return err
	}

	docs, err := parseDocs(*src)
	if err != nil {
		return err
	}

	return writeReference(docs, *page)
}

// object is one kind of JSON object that the contract has, with its Go type.
type object struct {
	kind string
	is   any
}

// objects are the lines of a trace, in the order of the schema, and what inspect prints.
func objects() []object {
	var all []object
	for _, k := range events.Kinds() {
		all = append(all, object{k.Kind, reflect.ValueOf(events.Published(k.New())).Elem().Interface()})
	}

	return append(all, object{events.KindInspection, events.Inspection{}})
}

// generate makes the schema of one line. Keys that it does not know are valid,
// since keys are added, and so are values that it does not know.
func generate(src string) ([]byte, error) {
	docs, err := parseDocs(src)
	if err != nil {
		return nil, err
	}

	root := &jsonschema.Schema{
		Version:     jsonschema.Version,
		ID:          "https://github.com/oomtrace/oomtrace/docs/events.schema.json",
		Title:       "oomtrace events",
		Description: "One line of oomtrace -o json.",
		Definitions: jsonschema.Definitions{},
	}

	for _, o := range objects() {
		root.Definitions[o.kind] = lineSchema(docs, o.kind, o.is, root.Definitions)
		root.OneOf = append(root.OneOf, &jsonschema.Schema{Ref: "#/$defs/" + o.kind})
	}

	if cgroup := root.Definitions["Cgroup"]; cgroup != nil {
		cgroup.Required = nil // its encoder leaves out what is not known
	}

	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")

	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}

	return buf.Bytes(), nil
}

// lineSchema reflects the line of one kind and leaves the types that it uses in
// shared.
func lineSchema(docs *docs, kind string, line any, shared jsonschema.Definitions) *jsonschema.Schema {
	r := jsonschema.Reflector{
		Anonymous:                 true,
		ExpandedStruct:            true,
		AllowAdditionalProperties: true,
		LookupComment:             docs.comment,
		Mapper:                    docs.scalar,
	}

	s := r.Reflect(line)
	for name, def := range s.Definitions {
		if name != reflect.TypeOf(line).Name() {
			shared[name] = def
		}
	}
	s.Version, s.Definitions = "", nil
	setConst(s, "v", events.Version)
	setConst(s, "kind", kind)

	if kind == events.KindIncident {
		s.Required = append(s.Required, "scope") // a kernel log may have lost the outcome
	}

	return s
}

func setConst(s *jsonschema.Schema, key string, value any) {
	p, _ := s.Properties.Get(key)
	s.Properties.Set(key, &jsonschema.Schema{Const: value, Description: p.Description})
}

// scalar maps the types that the library would describe too loosely: numbers
// that cannot be negative, and names of which more may come.
func (d *docs) scalar(t reflect.Type) *jsonschema.Schema {
	switch {
	case t.Kind() == reflect.String && t.PkgPath() != "":
		return d.openEnum(t.Name())
	case t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64:
		return &jsonschema.Schema{Type: "integer", Minimum: "0"}
	}

	return nil
}

// openEnum lists the constants of a type, with what they mean, and allows any
// other string.
func (d *docs) openEnum(typeName string) *jsonschema.Schema {
	s := &jsonschema.Schema{}
	for _, c := range d.consts[typeName] {
		s.AnyOf = append(s.AnyOf, &jsonschema.Schema{Const: c.value, Description: c.doc})
	}

	s.AnyOf = append(s.AnyOf, &jsonschema.Schema{Type: "string"})

	return s
}
