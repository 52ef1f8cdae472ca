// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"
)

// notOurs are the records that other packages take: they have no part in an incident of
// this package.
var notOurs = []string{"Stall", "StallCounts", "GaveUp", "LimitWrite"}

// TestEveryRecordIsDispatched holds Correlator.Record to a case for each type of record in
// package kernel.
func TestEveryRecordIsDispatched(t *testing.T) {
	cases := recordCases(t)

	for _, name := range recordTypes(t) {
		if slices.Contains(cases, name) == slices.Contains(notOurs, name) {
			t.Errorf("kernel.%s: got cases %v and exceptions %v, want it in one of them", name, cases, notOurs)
		}
	}
}

// recordTypes returns the structs of package kernel that embed Meta.
func recordTypes(t *testing.T) (names []string) {
	t.Helper()

	files, err := filepath.Glob("../kernel/*.go")
	if err != nil {
		t.Fatal(err)
	}

	for _, file := range files {
		ast.Inspect(parseFile(t, file), func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}

			if s, ok := spec.Type.(*ast.StructType); ok && slices.ContainsFunc(s.Fields.List, isMeta) {
				names = append(names, spec.Name.Name)
			}

			return false
		})
	}

	if len(names) == 0 {
		t.Fatal("got no records in package kernel, want some")
	}

	return names
}

func isMeta(f *ast.Field) bool {
	name, ok := f.Type.(*ast.Ident)
	return ok && name.Name == "Meta" && len(f.Names) == 0
}

// recordCases returns the types in the switch of Correlator.Record.
func recordCases(t *testing.T) (names []string) {
	t.Helper()

	ast.Inspect(parseFile(t, "correlator.go"), func(n ast.Node) bool {
		if f, ok := n.(*ast.FuncDecl); ok && f.Name.Name != "Record" {
			return false
		}

		if clause, ok := n.(*ast.CaseClause); ok {
			for _, e := range clause.List {
				if s, ok := e.(*ast.SelectorExpr); ok {
					names = append(names, s.Sel.Name)
				}
			}
		}

		return true
	})

	return names
}

func parseFile(t *testing.T, name string) *ast.File {
	t.Helper()

	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}

	return file
}
