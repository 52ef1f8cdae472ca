// SPDX-License-Identifier: Apache-2.0

package events

import (
	"encoding/json"
	"testing"
)

// TestCgroupKeyIsAbsentWhereUnknown encodes cgroups, and decodes them again.
func TestCgroupKeyIsAbsentWhereUnknown(t *testing.T) {
	for _, test := range []struct {
		cgroup Cgroup
		want   string
	}{
		{Cgroup{CgroupKey: CgroupKey{Hierarchy: 0, ID: 9}, Path: "/a"}, `{"hierarchy":0,"id":9,"path":"/a"}`},
		{Cgroup{CgroupKey: CgroupKey{Hierarchy: 4, ID: 9}}, `{"hierarchy":4,"id":9}`},
		{Cgroup{Path: "/a<b"}, `{"hierarchy":0,"path":"/a<b"}`},
		{Cgroup{Path: "/a", HierarchyUnknown: true}, `{"path":"/a"}`},
	} {
		line, err := test.cgroup.MarshalJSON()
		if err != nil || string(line) != test.want {
			t.Errorf("got %s, %v; want %s", line, err, test.want)
		}

		var back Cgroup
		if err := json.Unmarshal(line, &back); err != nil || back != test.cgroup {
			t.Errorf("%s: got %+v, %v; want %+v", line, back, err, test.cgroup)
		}
	}
}

// Recordings of older versions have zeros where nothing was known.
func TestZerosOfOlderLinesAreRead(t *testing.T) {
	var c Cgroup
	if err := json.Unmarshal([]byte(`{"hierarchy":0,"id":0,"path":"/a","later":1}`), &c); err != nil || c != (Cgroup{Path: "/a"}) {
		t.Errorf("got %+v, %v; want the path alone", c, err)
	}

	if err := json.Unmarshal([]byte(`{"id":"x"}`), &c); err == nil {
		t.Error("got no error for an id that is no number, want one")
	}
}
