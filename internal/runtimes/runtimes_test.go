// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestRowsAreComplete: each field of each row is set, or the row has the reason why
// it is not.
func TestRowsAreComplete(t *testing.T) {
	for _, row := range Known() {
		checkRow(t, row, t.Errorf)
	}
}

func TestAnIncompleteRowIsFound(t *testing.T) {
	full := Known()[0]
	for name, change := range map[string]func(*Runtime){
		"a field is forgotten":           func(r *Runtime) { r.Units = nil },
		"a reason is empty":              func(r *Runtime) { r.Lacks = map[string]string{"Distribution": ""} },
		"a reason for what is there":     func(r *Runtime) { r.Lacks = withReason(r.Lacks, "Sockets") },
		"a reason for no field":          func(r *Runtime) { r.Lacks = withReason(r.Lacks, "Socket") },
		"a bundle without files":         func(r *Runtime) { r.Bundle = &Bundle{Pod: []string{"x"}} },
		"a bundle without an id in it":   func(r *Runtime) { r.Bundle = &Bundle{Pod: []string{"x"}, Files: []string{"config.json"}} },
		"a relative socket":              func(r *Runtime) { r.Sockets = []string{"x.sock"} },
		"a unit that is none of systemd": func(r *Runtime) { r.Units = []string{"containerd"} },
	} {
		row, found := full, false
		change(&row)
		checkRow(t, row, func(string, ...any) { found = true })

		if !found {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}

func withReason(lacks map[string]string, field string) map[string]string {
	out := map[string]string{field: "a reason"}
	for k, v := range lacks {
		out[k] = v
	}

	return out
}

func checkRow(t *testing.T, row Runtime, report func(string, ...any)) {
	t.Helper()

	value, kind := reflect.ValueOf(row), reflect.TypeFor[Runtime]()
	label := row.Name + " " + row.Distribution

	for i := range kind.NumField() {
		field := kind.Field(i).Name
		if field == "Lacks" {
			continue
		}

		reason, lacks := row.Lacks[field]
		switch empty := value.Field(i).IsZero(); {
		case empty && !lacks:
			report("%s: got no %s and no reason in Lacks, want one of the two", label, field)
		case !empty && lacks:
			report("%s: got %s and a reason why it is empty, want one of the two", label, field)
		case lacks && reason == "":
			report("%s: got an empty reason for %s, want a text", label, field)
		}
	}

	for field := range row.Lacks {
		if _, ok := kind.FieldByName(field); !ok {
			report("%s: got a reason for %s, want the name of a field", label, field)
		}
	}

	for _, path := range slices.Concat(row.Sockets, row.StateDirs) {
		if !strings.HasPrefix(path, "/") {
			report("%s: got path %q, want an absolute one", label, path)
		}
	}

	for _, unit := range row.Units {
		if !strings.HasSuffix(unit, ".service") {
			report("%s: got unit %q, want a .service", label, unit)
		}
	}

	if row.Format == FormatBundle {
		checkBundle(row.Bundle, label, report)
	}
}

func checkBundle(b *Bundle, label string, report func(string, ...any)) {
	if b == nil || len(b.Files) == 0 || len(b.Pod) == 0 {
		report("%s: got bundle %+v, want files and the annotation of the pod's name", label, b)
		return
	}

	for _, file := range b.Files {
		if !strings.Contains(file, ID) {
			report("%s: got file %q, want %s in it", label, file, ID)
		}
	}
}

// TestPrefixesAreUnique: a prefix that two rows had would name the wrong runtime.
func TestPrefixesAreUnique(t *testing.T) {
	table := Known()
	for _, values := range [][]string{
		table.collect(func(r *Runtime) []string { return r.CgroupPrefixes }),
		table.collect(func(r *Runtime) []string { return r.CgroupParents }),
		table.Sockets(), table.Units(),
	} {
		sorted := slices.Sorted(slices.Values(values))
		if unique := slices.Compact(slices.Clone(sorted)); len(unique) != len(sorted) {
			t.Errorf("got %q twice, want each once", sorted)
		}
	}
}

// TestPublishedNames: what recordings and dashboards hold must not change.
func TestPublishedNames(t *testing.T) {
	var got []string
	for _, row := range Known() {
		if row.Distribution == "" {
			got = append(got, row.Name)
		}
	}

	if want := []string{"containerd", "cri-o", "docker", "podman"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
