// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestBlockShowsWhatFollowedAndFromWhat(t *testing.T) {
	stop := &events.Incident{
		ID: "5f0c2c1e-2", Scope: events.ScopeUser, Outcome: events.OutcomeKilled, Killer: &events.Killer{Kind: "user", Path: "systemd", PID: 1, Comm: "systemd"},
		Follows: &events.Follows{
			ID: "5f0c2c1e-1", Kind: "unit_stop", AfterNS: new(uint64(90.1e9)), TermAfterNS: new(uint64(1e8)), Victim: "work\x1b[2Jer[711]",
			Confidence: "certain",
		},
	}
	kill := &events.Incident{ID: "5f0c2c1e-1", Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled}

	for i := range 9 {
		kill.Followed = append(kill.Followed, events.Consequence{
			Kind: "killed", AfterNS: new(uint64(90e9)), Text: fmt.Sprintf("systemd killed gun\x1bicorn[%d]", i), Source: "log of systemd",
		})
	}

	got := rendered(t, stop)
	for _, want := range []string{"of work", "er[711] 1 min 30 s earlier", "SIGTERM 100 ms after that", "incident 5f0c2c1e-1", "systemd[1], after an OOM kill"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}

	got = rendered(t, kill)
	for _, want := range []string{"1 min 30 s later: systemd killed gun", "icorn[5]", "icorn[8]"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}

	if strings.ContainsRune(got, '\x1b') {
		t.Errorf("got %q, want it sanitized", got)
	}
}

func rendered(t *testing.T, inc *events.Incident) string {
	t.Helper()

	var out strings.Builder
	if err := NewText(&out, TextOptions{Width: 80, Full: true, Location: time.UTC}).Write(inc); err != nil {
		t.Fatal(err)
	}

	return strings.Join(strings.Fields(out.String()), " ")
}
