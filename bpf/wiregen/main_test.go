// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestGoName(t *testing.T) {
	for c, want := range map[string]string{
		"wire_memcg_charge":       "MemcgCharge",
		"WIRE_KIND_OOM_RETURN":    "KindOOMReturn",
		"cgroup_id":               "CgroupID",
		"h":                       "H",
		"WIRE_SENDER_SAME_PIDNS":  "SenderSamePIDNS",
		"wire_cgroup_change_long": "CgroupChangeLong",
	} {
		if got := goName(c); got != want {
			t.Errorf("%s: got %s, want %s", c, got, want)
		}
	}
}

func TestDeclarations(t *testing.T) {
	text := "enum wire_a {\n};\n\nenum {\n\tWIRE_B = 1,\n};\n\n/* struct wire_c { */\nstruct wire_d {\n\tstruct wire_a a;\n};\n"

	want := []declaration{{"enum", "wire_a"}, {"struct", "wire_d"}}
	if got := declarations([]byte(text)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Needs no compiler: it fails after a new type in wire.h until make generate has run.
func TestAnchorsAreUpToDate(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", header))
	if err != nil {
		t.Fatal(err)
	}

	got, err := os.ReadFile(filepath.Join("..", anchors))
	if err != nil {
		t.Fatal(err)
	}

	if want := anchorHeader(declarations(text)); string(got) != string(want) {
		t.Errorf("got %s\nwant %s\nrun make generate", got, want)
	}
}
