// SPDX-License-Identifier: Apache-2.0

package oom

import (
	"reflect"
	"testing"
)

func TestSums(t *testing.T) {
	one, two := new(uint64(1)), new(uint64(2))

	for name, test := range map[string]struct {
		parts      []*uint64
		known, all *uint64
	}{
		"all known":  {[]*uint64{one, two}, new(uint64(3)), new(uint64(3))},
		"one known":  {[]*uint64{nil, two}, two, nil},
		"none known": {[]*uint64{nil, nil}, nil, nil},
	} {
		if got := Sum(test.parts...); !reflect.DeepEqual(got, test.known) {
			t.Errorf("%s: got the sum %v of what is known, want %v", name, got, test.known)
		}

		if got := SumOfAll(test.parts...); !reflect.DeepEqual(got, test.all) {
			t.Errorf("%s: got the sum %v of all, want %v", name, got, test.all)
		}
	}

	if *one != 1 || *two != 2 {
		t.Errorf("got parts of %d and %d, want them unchanged: 1 and 2", *one, *two)
	}
}
