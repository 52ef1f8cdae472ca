// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestWhatFollowedAndFromWhat(t *testing.T) {
	for _, test := range []struct {
		f    events.Follows
		want string
	}{
		{events.Follows{Victim: "java[4711]", AfterNS: new(uint64(90.1e9)), Confidence: "certain"}, "followed the OOM kill of java[4711] 1 min 30 s earlier"},
		{events.Follows{Confidence: "likely"}, "followed the OOM kill (likely)"},
	} {
		if got := Following(&test.f); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}

	if got, want := Consequence(&events.Consequence{Text: "it ended", AfterNS: new(uint64(2e9))}), "2.0 s later: it ended"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	if got, want := Consequence(&events.Consequence{Text: "it ended"}), "it ended"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
