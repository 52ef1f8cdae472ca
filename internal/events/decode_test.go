// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"reflect"
	"testing"
	"time"
)

func TestUnmarshalRestoresEveryByte(t *testing.T) {
	at := time.Date(2026, 8, 20, 14, 3, 7, 5, time.UTC)

	for _, text := range []string{
		"java", "", "a\xffb", "\ufffd", "\ufffdff", "\x1b[2J\u202e\n", "\xed\xa0\x80", `\ufffd`, "😀\u0301",
	} {
		count := uint64(1) << 63
		want := &Incident{
			Envelope: Envelope{V: 1, Kind: KindIncident, Time: at, BootID: "b", Node: text},
			ID:       "1", Notes: []string{text, "x"},
			Victims: []Victim{{
				Process:      Process{Comm: text, Cgroup: &Cgroup{CgroupKey: CgroupKey{ID: 7}, Path: text}},
				AnonRSSBytes: &count, StartTime: &at,
			}},
			Limiter:  &Limiter{Workload: &Workload{Labels: map[string]string{text: "value", "key": text}}},
			Eviction: &Eviction{Signals: map[string]string{text: text}},
		}

		line, err := Marshal(want)
		if err != nil {
			t.Fatal(err)
		}

		var got Incident
		if err := Unmarshal(line, &got); err != nil || !reflect.DeepEqual(&got, want) {
			t.Errorf("%q: got %+v, error %v, want %+v", text, got, err, want)
		}

		// Other JSON encoders may escape U+FFFD.
		for _, escape := range []string{`\ufffd`, `\uFFFD`} {
			var again Incident
			if err := Unmarshal(bytes.ReplaceAll(line, []byte("\ufffd"), []byte(escape)), &again); err != nil ||
				!reflect.DeepEqual(&again, want) {
				t.Errorf("%q with %s: got %+v, error %v, want %+v", text, escape, again, err, want)
			}
		}
	}

	if err := Unmarshal([]byte(`{"id":`), &Incident{}); err == nil {
		t.Error("got no error for an incomplete line, want one")
	}
}
