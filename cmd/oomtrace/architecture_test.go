// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/oomtrace/oomtrace/"

// TestImportsFollowTheArchitecture compares the table of packages in
// docs/architecture.md with the imports of the code. Tests may import what they like.
func TestImportsFollowTheArchitecture(t *testing.T) {
	page, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}

	rows, err := packageTable(string(page))
	if err != nil {
		t.Fatal(err)
	}

	imports, err := packageImports("../..", "bpf", "cmd", "internal")
	if err != nil {
		t.Fatal(err)
	}

	for _, violation := range violations(rows, imports) {
		t.Error(violation)
	}
}

func TestViolationsOfTheArchitectureAreReported(t *testing.T) {
	rows, err := packageTable(`
| package | holds | imports of this project |
| --- | --- | --- |
| ` + "`bpf/`" + ` | programs | none |
| ` + "`internal/events`" + ` | lines | none |
| ` + "`internal/gone`" + ` | nothing | none |
| ` + "`internal/view`" + ` | formats | ` + "`events`, `later`" + ` |
| ` + "`internal/later`" + ` | x | all but ` + "`bpf`, `view`" + ` |
| ` + "`cmd/oomtrace`" + ` | flags | all |

text
`)
	if err != nil {
		t.Fatal(err)
	}

	got := violations(rows, map[string][]string{
		"bpf":                       nil,
		"internal/events":           {"bpf"},
		"internal/events/schemagen": {"internal/events"},
		"internal/view":             {"internal/events", "internal/view/html"},
		"internal/view/html":        nil,
		"internal/later":            {"internal/events", "internal/view"},
		"internal/stray":            nil,
		"cmd/oomtrace":              {"bpf", "internal/later", "internal/events/schemagen"},
	})
	want := []string{
		"internal/events imports bpf, its row allows none",
		"internal/gone has a row, and does not exist",
		"internal/later imports internal/view, its row allows all but bpf, internal/view",
		"internal/stray has no row",
		"internal/view imports internal/view/html, which is below it: whoever imports the one links the other",
		"the row of internal/view allows internal/later, which does not stand above it",
		"the row of internal/view allows internal/later, which it does not import",
	}

	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// tableRow is a package and what it may import. Packages in directories below it are a
// part of it.
type tableRow struct {
	name   string
	except bool     // it may import all packages but those named
	named  []string // the packages that it may import, or may not
}

var (
	tableLine = regexp.MustCompile("^\\| `([^`]+)` \\|.*\\| ([^|]*) \\|$")
	quoted    = regexp.MustCompile("`([^`]+)`")
)

// packageTable reads the table of packages from the page.
func packageTable(page string) ([]tableRow, error) {
	_, table, found := strings.Cut(page, "| package | holds | imports of this project |\n")
	if !found {
		return nil, fmt.Errorf("the page has no table of packages")
	}

	table, _, _ = strings.Cut(table, "\n\n")

	var rows []tableRow

	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| ---") {
			continue
		}

		match := tableLine.FindStringSubmatch(strings.TrimSpace(line))
		if match == nil {
			return nil, fmt.Errorf("cannot parse the row %q", line)
		}

		row := tableRow{name: strings.TrimSuffix(match[1], "/"), except: strings.HasPrefix(match[2], "all")}
		for _, name := range quoted.FindAllStringSubmatch(match[2], -1) {
			row.named = append(row.named, packagePath(name[1]))
		}

		if len(row.named) == 0 && match[2] != "all" && match[2] != "none" {
			return nil, fmt.Errorf("%s: cannot parse the imports %q", row.name, match[2])
		}
		rows = append(rows, row)
	}

	return rows, nil
}

// packagePath completes the short names of the last column.
func packagePath(name string) string {
	if name = strings.TrimSuffix(name, "/"); name == "bpf" || strings.Contains(name, "/") {
		return name
	}

	return "internal/" + name
}

func (r tableRow) allows(name string) bool {
	return name == r.name || r.except != slices.Contains(r.named, name)
}

// imports reports whether a package of the row imports one of another row.
func (r tableRow) imports(other string, imports map[string][]string) bool {
	for name, imported := range imports {
		if within(name, r.name) && slices.ContainsFunc(imported, func(i string) bool { return within(i, other) }) {
			return true
		}
	}

	return false
}

// within reports whether a package is a directory, or below it.
func within(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

func (r tableRow) String() string {
	names := strings.Join(r.named, ", ")
	switch {
	case r.except && names == "":
		return "all"
	case r.except:
		return "all but " + names
	case names == "":
		return "none"
	}

	return names
}

// violations returns where packages and table disagree, sorted.
func violations(rows []tableRow, imports map[string][]string) []string {
	var all []string
	report := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }

	for i, row := range rows {
		if _, ok := imports[row.name]; !ok {
			report("%s has a row, and does not exist", row.name)
		}

		for _, name := range row.named {
			above := slices.ContainsFunc(rows[:i], func(r tableRow) bool { return r.name == name })
			if !row.except && !above {
				report("the row of %s allows %s, which does not stand above it", row.name, name)
			}

			if !row.except && !row.imports(name, imports) {
				report("the row of %s allows %s, which it does not import", row.name, name)
			}
		}
	}

	for name, imported := range imports {
		row, ok := rowOf(rows, name)
		if !ok {
			report("%s has no row", name)
			continue
		}

		for _, other := range imported {
			if strings.HasPrefix(other, name+"/") {
				report("%s imports %s, which is below it: whoever imports the one links the other", name, other)
			}

			// A package without a row is reported by itself.
			if target, ok := rowOf(rows, other); ok && !row.allows(target.name) {
				report("%s imports %s, its row allows %s", name, other, row)
			}
		}
	}

	slices.Sort(all)

	return all
}

// rowOf returns the row of a package, or of a directory above it.
func rowOf(rows []tableRow, name string) (tableRow, bool) {
	for _, row := range rows {
		if within(name, row.name) {
			return row, true
		}
	}

	return tableRow{}, false
}

// packageImports returns the imports of every package below these directories, tests
// aside: only packages of this module, without its path.
func packageImports(root string, dirs ...string) (map[string][]string, error) {
	imports := map[string][]string{}

	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return err
			}

			if entry.Name() == "testdata" {
				return fs.SkipDir
			}

			pkg, err := build.ImportDir(path, 0)
			if noGo := (*build.NoGoError)(nil); errors.As(err, &noGo) {
				return nil
			}

			if err != nil {
				return err
			}

			name, err := filepath.Rel(root, path)
			imports[name] = nil

			for _, path := range pkg.Imports {
				if own, ok := strings.CutPrefix(path, module); ok {
					imports[name] = append(imports[name], own)
				}
			}

			return err
		})
		if err != nil {
			return nil, err
		}
	}

	return imports, nil
}
