// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
)

func failed(cases ...string) verdict {
	v := verdict{cells: map[string]map[string]string{"tmpfs": {"fentry": "ok"}}}
	for _, name := range cases {
		v.cells[name] = map[string]string{"fentry": "FAIL", "kprobe": "ok"}
		v.problem("%s fentry: no limiter", name)
	}

	return v
}

func TestDoubtful(t *testing.T) {
	for _, test := range []struct {
		name string
		v    verdict
		want []string
	}{
		{"nothing wrong", failed(), nil},
		{"one case", failed("burst"), []string{"burst"}},
		{"two cases", failed("burst", "global"), []string{"global", "burst"}},
		{"too many", failed("burst", "global", "slab"), nil},
	} {
		if got := doubtful(test.v); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	more := failed("burst")
	more.problem("fentry: the tracer did not end well")

	if got := doubtful(more); got != nil {
		t.Errorf("what is of no case is no doubt: %q", got)
	}
}

func TestPlayedAgain(t *testing.T) {
	v := failed("burst")
	v.again(verdict{cells: map[string]map[string]string{"burst": {"fentry": "ok", "kprobe": "ok"}}})

	if len(v.problems) != 0 || len(v.once) != 1 || v.cells["burst"]["fentry"] != playedAgain || v.cells["burst"]["kprobe"] != "ok" {
		t.Errorf("%+v", v)
	}
	v = failed("burst")
	v.again(failed("burst"))

	if len(v.problems) != 2 || len(v.once) != 0 || v.cells["burst"]["fentry"] != "FAIL" {
		t.Errorf("%+v", v)
	}
}
