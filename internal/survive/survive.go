// SPDX-License-Identifier: Apache-2.0

// Package survive keeps this process alive, and the memory that it needs in place, on a
// node that has no memory left. What it does holds for the whole process.
//
// The OOM killer does not choose the process (Exempt), and its children do not inherit
// that (Command). A process that cannot be killed may not leak: Watch ends it at a bound
// of its own, and Bound stops what is faster. No page is faulted in where one may not be
// had any more: Lock makes resident what is needed, and Watch more of a heap that grows.
package survive

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

const scoreFile = "/proc/self/oom_score_adj"

// former is the oom_score_adj that this process had before Exempt; nil if it still has it.
var former atomic.Pointer[string]

// Exempt makes the OOM killer never choose this process. A score of -999 does not suffice:
// with everybody else exempt, or already dying, it is chosen, and so it is by
// vm.oom_kill_allocating_task if it allocates at that moment (mm/oom_kill.c, 5.10 to 6.12:
// oom_badness, out_of_memory). It needs CAP_SYS_RESOURCE (fs/proc/base.c: __set_oom_adj).
func Exempt() error {
	before, err := os.ReadFile(scoreFile)
	if err == nil {
		err = os.WriteFile(scoreFile, []byte("-1000"), 0)
	}

	if err != nil {
		return fmt.Errorf("set oom_score_adj to -1000: %w: the OOM killer may choose oomtrace itself, and kills are "+
			"then missed; run it as root or with CAP_SYS_RESOURCE", err)
	}

	text := strings.TrimSpace(string(before))
	former.CompareAndSwap(nil, &text)

	return nil
}
