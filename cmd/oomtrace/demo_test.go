// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestDemoReportsItsOwnKill(t *testing.T) {
	rootAndTime(t)

	out, err := oomtrace("demo", "-o", "json").Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr(err))
	}

	var inc events.Incident
	if err := json.Unmarshal(out, &inc); err != nil {
		t.Fatal(err)
	}

	if inc.Scope != events.ScopeMemcg || len(inc.Victims) != 1 || !inc.Audit.Explained {
		t.Errorf("got %s, want one victim of a memcg limit, explained by the counters", out)
	}
}
