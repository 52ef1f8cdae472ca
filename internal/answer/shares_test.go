// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestSharesOfTheVictimAreThoseAtTheKill(t *testing.T) {
	share := func(path string, used uint64) events.Share {
		return events.Share{Cgroup: events.Cgroup{Path: path}, UsageBytes: &used}
	}
	inc := &events.Incident{Shares: []events.Share{share("/pod/b", 20), share("/pod/a", 1)}, SharesAfterNS: new(uint64(91e6))}

	if _, read := Shares(inc); read != "91 ms after the kill" {
		t.Errorf("got read %q without ancestors, want 91 ms after the kill", read)
	}

	inc.Ladder = []events.Rung{{Cgroup: events.Cgroup{Path: "/pod/a"}, UsageBytes: new(uint64(43))}}

	shares, read := Shares(inc)
	if *shares[0].UsageBytes != 20 || *shares[1].UsageBytes != 43 || read != "the others 91 ms after the kill" {
		t.Errorf("got %d and %d, %q, want 20 and 43, the others 91 ms after the kill", *shares[0].UsageBytes, *shares[1].UsageBytes, read)
	}

	if *inc.Shares[1].UsageBytes != 1 {
		t.Errorf("got %d in the incident, want 1 as before", *inc.Shares[1].UsageBytes)
	}
}
