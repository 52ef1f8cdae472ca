// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestCausesChangeWithTheEvidence(t *testing.T) {
	inc := plainKill()
	split := inc.Memory
	inc.Memory, inc.Victims[0].AnonRSSBytes = nil, nil

	atVerdict := Diagnose(inc, nil)
	if len(atVerdict) != 1 || atVerdict[0].ID != "own_limit" || atVerdict[0].Confidence != likely {
		t.Errorf("at the verdict: got %+v, want own_limit, likely", atVerdict)
	}

	if Changed(atVerdict, Diagnose(inc, nil)) {
		t.Error("got a change without new evidence, want none")
	}

	inc.Memory = split

	withSplit := Diagnose(inc, nil)
	if len(withSplit) != 1 || withSplit[0].Confidence != certain || !Changed(atVerdict, withSplit) {
		t.Errorf("with the charge split: got %+v, want own_limit, certain", withSplit)
	}

	inc.Audit = &events.Audit{Explained: true}
	if Changed(withSplit, Diagnose(inc, nil)) {
		t.Error("got a change by the audit, which explains nothing, want none")
	}

	if Changed(withSplit, nil) {
		t.Error("got a change to no causes at all, want none")
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
			j.Diagnose(now)
		}
	})
}
