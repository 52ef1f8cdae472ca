// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// docs is what the source has and reflection has not: comments, the constants of
// each string type, and the keys of each struct in their order.
type docs struct {
	comments map[string]string // by "Type" and "Type.Field"
	consts   map[string][]constant
	fields   map[string][]field
}

type constant struct{ value, doc string }

// parseDocs reads the Go files of a folder, tests apart.
func parseDocs(dir string) (*docs, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	d := &docs{comments: map[string]string{}, consts: map[string][]constant{}, fields: map[string][]field{}}

	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}

		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("parse the contract: %w", err)
		}

		for _, decl := range file.Decls {
			if g, ok := decl.(*ast.GenDecl); ok {
				d.add(g)
			}
		}
	}

	if len(d.comments) == 0 {
		return nil, fmt.Errorf("no commented types in %s", dir)
	}

	return d, nil
}

func (d *docs) add(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			d.comments[s.Name.Name] = oneLine(g.Doc, s.Doc, s.Comment)
			if t, ok := s.Type.(*ast.StructType); ok {
				d.addStruct(s.Name.Name, t)
			}
		case *ast.ValueSpec:
			d.addConst(s)
		}
	}
}

// addStruct takes the comments of the fields. Readers of the schema know keys,
// not Go's names of them, so these are replaced.
func (d *docs) addStruct(typeName string, t *ast.StructType) {
	keys := map[string]string{}

	for _, f := range t.Fields.List {
		for _, name := range f.Names {
			keys[name.Name] = key(f)
			d.comments[typeName+"."+name.Name] = oneLine(f.Doc, f.Comment)
		}
	}
	rename := func(word string) string {
		if k, ok := keys[word]; ok {
			return k
		}

		return word
	}
	word := regexp.MustCompile(`\w+`)

	for _, name := range append(slices.Collect(maps.Keys(keys)), "") {
		at := strings.TrimSuffix(typeName+"."+name, ".")
		d.comments[at] = word.ReplaceAllStringFunc(d.comments[at], rename)
	}

	for _, f := range t.Fields.List {
		for _, name := range f.Names {
			// What has no tag is no part of the contract.
			if k := key(f); f.Tag != nil && k != "-" {
				d.fields[typeName] = append(d.fields[typeName], field{k, typeText(f.Type), d.comments[typeName+"."+name.Name]})
			}
		}
	}
}

// key is the field's name in JSON.
func key(f *ast.Field) string {
	if f.Tag == nil {
		return f.Names[0].Name
	}

	tag, err := strconv.Unquote(f.Tag.Value)
	if err != nil {
		return f.Names[0].Name
	}
	name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")

	return name
}

func (d *docs) addConst(s *ast.ValueSpec) {
	typeName, ok := s.Type.(*ast.Ident)
	if !ok || len(s.Values) != 1 {
		return
	}

	lit, ok := s.Values[0].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return
	}

	if value, err := strconv.Unquote(lit.Value); err == nil {
		d.consts[typeName.Name] = append(d.consts[typeName.Name], constant{value, oneLine(s.Doc, s.Comment)})
	}
}

// comment is the jsonschema.Reflector's LookupComment.
func (d *docs) comment(t reflect.Type, field string) string {
	if field == "" {
		return d.comments[t.Name()]
	}

	return d.comments[t.Name()+"."+field]
}

func oneLine(groups ...*ast.CommentGroup) string {
	for _, g := range groups {
		if text := strings.Join(strings.Fields(g.Text()), " "); text != "" {
			return text
		}
	}

	return ""
}
