// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

func updateOf(inc *incident, change func(*incident)) *incident {
	u := &incident{Envelope: inc.Envelope, ID: inc.ID}
	u.Kind = events.KindIncidentUpdate
	change(u)

	return u
}

func TestExplainerTellsWhatIsNew(t *testing.T) {
	var e Explainer
	inc := plainKill()
	split := inc.Memory
	inc.Memory, inc.Victims[0].AnonRSSBytes = nil, nil
	e.Take(inc)

	if c := e.Explain(inc.ID); len(c) != 1 || c[0].ID != "own_limit" || c[0].Confidence != Likely {
		t.Errorf("at the verdict: %+v", c)
	}

	if c := e.Explain(inc.ID); c != nil {
		t.Errorf("again: %v", ids(c))
	}

	e.Take(updateOf(inc, func(u *incident) { u.Memory = split }))

	if c := e.Explain(inc.ID); len(c) != 1 || c[0].Confidence != Certain {
		t.Errorf("with the split: %+v", c)
	}

	e.Take(updateOf(inc, func(u *incident) { u.Audit = &events.Audit{Explained: true} }))

	if c := e.Explain(inc.ID); c != nil {
		t.Errorf("the audit explains nothing: %v", ids(c))
	}

	if inc.Memory != nil || inc.Causes != nil {
		t.Error("the incident itself was changed")
	}
}

func TestExplainerRemembers(t *testing.T) {
	var e Explainer
	for i := range openIncidents + 1 {
		e.Take(killed(fmt.Sprint(i), time.Duration(i)*time.Second, nil))
	}

	if len(e.open) != openIncidents || len(e.order) != openIncidents {
		t.Errorf("%d incidents are held", len(e.open))
	}

	if c := e.Explain("0"); c != nil {
		t.Errorf("of an incident that is forgotten: %v", ids(c))
	}

	if e.Dropped() != 1 {
		t.Errorf("%d were dropped without causes, want 1", e.Dropped())
	}

	e.Take(updateOf(killed("0", 0, nil), func(u *incident) { u.Scope = events.ScopeGlobal }))

	if e.open["0"] != nil {
		t.Error("an update alone is no incident")
	}

	if c := e.Explain(fmt.Sprint(openIncidents)); !slices.Contains(ids(c), "kill_loop") {
		t.Errorf("causes %v", ids(c))
	}

	if e.Explain("never seen") != nil {
		t.Error("of an incident that never was")
	}
}

func BenchmarkDiagnose(b *testing.B) {
	var j Journal
	for i := range journalKills {
		j.Add(killed(fmt.Sprint(i), time.Duration(i)*time.Second, nil))
	}
	now := killed("now", time.Hour, nil)

	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			Diagnose(now, nil)
		}
	})
	b.Run("with a full journal", func(b *testing.B) {
		for b.Loop() {
			Diagnose(now, j.Before(now))
		}
	})
}
