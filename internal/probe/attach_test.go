// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestAForcedModeFailsWithItsOwnReason(t *testing.T) {
	const after = ": leave the flag out to use the best mode that works"

	for _, test := range []struct {
		forced    events.Tier
		why, want string
	}{
		{events.TierFentry, "fentry: " + refusal + "; kprobe: this kernel has no kprobes", "--tier fentry: this kernel refuses fentry (EPERM)"},
		{events.TierKprobe, "kprobe: this kernel has no kprobes", "--tier kprobe: this kernel does not offer kprobe (this kernel has no kprobes)"},
		{events.TierFentry, "", "--tier fentry: this kernel does not offer fentry ()"},
	} {
		if got := unavailable(test.forced, test.why).Error(); got != test.want+after {
			t.Errorf("got %q, want %q", got, test.want+after)
		}
	}
}
