// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"os"
	"regexp"
	"strings"

	pages "github.com/oomtrace/oomtrace/docs"
)

// field is one key of a JSON object.
type field struct {
	key, goType, doc string
}

// A table of the reference stands between a line with beginMark and one with endMark.
// It has the keys of a struct, or the constants of a string type:
//
//	<!-- keys of Victim -->
//	<!-- values of Scope -->
const endMark = "<!-- end -->"

var beginMark = regexp.MustCompile(`^<!-- (keys|values) of (\w+) -->$`)

// writeReference makes the tables of the page anew.
func writeReference(d *docs, name string) error {
	page, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read the reference: %w", err)
	}

	text, err := reference(d, page)
	if err != nil {
		return err
	}

	return os.WriteFile(name, text, 0o644)
}

// reference returns the page with its tables as the contract has them. What is
// outside of them stays as it is.
func reference(d *docs, page []byte) ([]byte, error) {
	sections := tableSections(page)

	var out bytes.Buffer
	open := ""

	for line := range strings.Lines(string(page)) {
		mark := strings.TrimSpace(line)
		switch m := beginMark.FindStringSubmatch(mark); {
		case m != nil && open != "":
			return nil, fmt.Errorf("the table of %s has no end", open)
		case m != nil:
			table, err := d.table(m[1], m[2], sections)
			if err != nil {
				return nil, err
			}

			open = m[2]

			out.WriteString(line + table)
		case mark == endMark:
			open = ""

			out.WriteString(line)
		case open == "":
			out.WriteString(line)
		}
	}

	if open != "" {
		return nil, fmt.Errorf("the table of %s has no end", open)
	}

	return out.Bytes(), nil
}

// section is a heading of the page, to link to.
type section struct{ title, anchor string }

// tableSections finds the heading that each table stands under.
func tableSections(page []byte) map[string]section {
	sections, current := map[string]section{}, section{}

	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if title := strings.TrimLeft(line, "#"); title != line && strings.HasPrefix(title, " ") {
			current = section{strings.TrimSpace(title), pages.Anchor(strings.TrimSpace(title))}
		}

		if m := beginMark.FindStringSubmatch(line); m != nil {
			sections[m[2]] = current
		}
	}

	return sections
}

func (d *docs) table(what, typeName string, sections map[string]section) (string, error) {
	var b strings.Builder

	if what == "values" {
		if len(d.consts[typeName]) == 0 {
			return "", fmt.Errorf("%s has no constants", typeName)
		}

		b.WriteString("| value | meaning |\n| --- | --- |\n")

		for _, c := range d.consts[typeName] {
			fmt.Fprintf(&b, "| `%s` | %s |\n", c.value, cell(c.doc))
		}

		return b.String(), nil
	}

	if len(d.fields[typeName]) == 0 {
		return "", fmt.Errorf("%s has no keys", typeName)
	}

	b.WriteString("| key | type | content |\n| --- | --- | --- |\n")

	for _, f := range d.fields[typeName] {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.key, d.jsonType(f.goType, sections), cell(withoutName(f.key, f.doc)))
	}

	return b.String(), nil
}

// withoutName drops the start of a sentence that repeats the key of its row.
func withoutName(key, doc string) string {
	for _, start := range []string{key + " is ", key + " are ", key + " "} {
		if rest, ok := strings.CutPrefix(doc, start); ok {
			return rest
		}
	}

	return doc
}

// code matches the words of a sentence that are names: of keys, files and values.
var code = regexp.MustCompile(`(^|[\s(,])([a-z]+(?:[._][a-z]+)+)\b`)

// cell is a sentence as a cell of a table.
func cell(doc string) string {
	doc = code.ReplaceAllString(doc, "$1`$2`")
	doc = strings.ReplaceAll(doc, "|", `\|`)

	return strings.TrimSuffix(doc, ".")
}

// jsonType names the type of a key, with a link to its table where there is one.
func (d *docs) jsonType(goType string, sections map[string]section) string {
	goType = strings.TrimPrefix(goType, "*")
	if item, ok := strings.CutPrefix(goType, "[]"); ok {
		return "list of " + d.jsonType(item, sections)
	}

	switch {
	case goType == "string" || goType == "bool":
		return goType
	case goType == "time.Time":
		return "time"
	case strings.HasPrefix(goType, "map["):
		return "object"
	case strings.HasPrefix(goType, "int") || strings.HasPrefix(goType, "uint") || strings.HasPrefix(goType, "float"):
		return "number"
	}

	if s, ok := sections[goType]; ok {
		return fmt.Sprintf("[%s](#%s)", strings.ToLower(s.title), s.anchor)
	}

	return "object"
}

// typeText is a field's type as it stands in the source.
func typeText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return "*" + typeText(e.X)
	case *ast.ArrayType:
		return "[]" + typeText(e.Elt)
	case *ast.MapType:
		return "map[" + typeText(e.Key) + "]" + typeText(e.Value)
	case *ast.SelectorExpr:
		return typeText(e.X) + "." + e.Sel.Name
	}

	return ""
}
