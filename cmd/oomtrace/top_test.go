// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestTopWithoutATerminalNamesReclaim(t *testing.T) {
	var stdout, stderr bytes.Buffer

	status := run([]string{"top"}, &stdout, &stderr)
	if status != exitError || !strings.Contains(stderr.String(), "oomtrace reclaim") || stdout.Len() > 0 {
		t.Errorf("got status %d, stdout %q, stderr %q; want status %d and the command that prints rows",
			status, stdout.String(), stderr.String(), exitError)
	}
}

func TestTopRefusesWrongFlags(t *testing.T) {
	for _, args := range [][]string{
		{"--interval", "0"}, {"--interval", "soon"}, {"--sort", "size"}, {"--by", "node"}, {"--duration", "-1s"}, {"extra"},
	} {
		var stdout, stderr bytes.Buffer

		if status := run(append([]string{"top"}, args...), &stdout, &stderr); status != exitUsage {
			t.Errorf("%q: got status %d and %q, want %d", args, status, stderr.String(), exitUsage)
		}
	}
}

func TestUTF8LocaleIsTheFirstThatIsSet(t *testing.T) {
	for _, test := range []struct {
		all, ctype, lang string
		want             bool
	}{
		{"", "", "", false},
		{"", "", "en_US.UTF-8", true},
		{"", "C.utf8", "C", true},
		{"C", "", "en_US.UTF-8", false},
		{"de_DE.ISO-8859-1", "", "", false},
	} {
		env := map[string]string{"LC_ALL": test.all, "LC_CTYPE": test.ctype, "LANG": test.lang}
		for name, value := range env {
			t.Setenv(name, value)
		}

		if got := utf8Locale(); got != test.want {
			t.Errorf("%v: got %v, want %v", env, got, test.want)
		}
	}
}

func TestBlockOfTopIsThatOfTrace(t *testing.T) {
	inc := &events.Incident{
		Envelope: events.Envelope{Time: time.Unix(1_800_000_000, 0)}, ID: "b-1", Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled,
		Victims: []events.Victim{{Process: events.Process{PID: 7, Comm: "h\x1b[2Jog"}}},
	}

	got := block(inc, 60)
	if !strings.Contains(got, "OOM KILL") || !strings.Contains(got, `h\x1b[2Jog`) {
		t.Errorf("got %q, want the block of the incident, sanitized", got)
	}
}
