// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestMarshalEscapesHostileText(t *testing.T) {
	comm := "a\xff\x1b[2J\n\u202e\u009b\u2028<&>\"\\\U000e0001\ufffd"
	in := &Incident{
		Envelope: Envelope{Time: time.Date(2026, 8, 20, 14, 0, 0, 0, time.FixedZone("", 7200))},
		Trigger:  &Process{Comm: comm},
	}

	line, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}

	body, newline := bytes.CutSuffix(line, []byte("\n"))
	if !newline || !utf8.Valid(body) {
		t.Fatalf("got %q, want a line of UTF-8", line)
	}

	for _, r := range string(body) {
		if !Printable(r) {
			t.Errorf("got %U in %s, want it escaped", r, body)
		}
	}

	if !strings.Contains(string(body), `<&>`) || !strings.Contains(string(body), `"2026-08-20T12:00:00Z"`) {
		t.Errorf("got %s, want <&> unescaped, and the time in UTC", body)
	}

	var out Incident
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatal(err)
	}

	if got := UnescapeText(out.Trigger.Comm); got != comm {
		t.Errorf("got %q after a round trip, want %q", got, comm)
	}

	if in.Trigger.Comm != comm {
		t.Errorf("got argument %q after Marshal, want it unchanged", in.Trigger.Comm)
	}
}

func TestMarshalEncodesEmptyLines(t *testing.T) {
	for _, line := range []Line{&Incident{}, &Update{Change: &Incident{}}, &Lost{}, &Status{}, (*Lost)(nil)} {
		if _, err := Marshal(line); err != nil {
			t.Errorf("%T: got error %v, want none", line, err)
		}
	}
}

func FuzzEscapeText(f *testing.F) {
	for _, s := range []string{"", "java", "\xff\xfe", "\ufffd41", "a\xc3", "日本"} {
		f.Add(s)
	}

	f.Fuzz(func(t *testing.T, s string) {
		escaped := EscapeText(s)
		if !utf8.ValidString(escaped) {
			t.Errorf("%q: got %q, want UTF-8", s, escaped)
		}

		if got := UnescapeText(escaped); got != s {
			t.Errorf("got %q after a round trip, want %q", got, s)
		}
	})
}
