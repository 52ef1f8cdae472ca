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
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
)

const (
	scoreFile   = "/proc/self/oom_score_adj"
	exemptScore = "-1000"
)

// former is the oom_score_adj that this process had before Exempt; nil if it still has it.
var former atomic.Pointer[string]

// Exempt makes the OOM killer never choose this process. A score of -999 does not suffice:
// with everybody else exempt, or already dying, it is chosen, and so it is by
// vm.oom_kill_allocating_task if it allocates at that moment (mm/oom_kill.c, 5.10 to 6.12:
// oom_badness, out_of_memory). It needs CAP_SYS_RESOURCE (fs/proc/base.c: __set_oom_adj), unless
// whoever started the process has set it already.
func Exempt() error {
	before, err := os.ReadFile(scoreFile)
	if err != nil {
		return refused(err)
	}

	text := strings.TrimSpace(string(before))
	if text == exemptScore {
		return nil // and so are its children, which somebody wanted
	}

	if err := os.WriteFile(scoreFile, []byte(exemptScore), 0); err != nil {
		return refused(err)
	}

	former.CompareAndSwap(nil, &text)

	return nil
}

// refused is the error in one short line: it is printed at each start where it is expected.
func refused(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		err = file.Err
	}

	return fmt.Errorf("the OOM killer may choose oomtrace itself: set oom_score_adj to %s: %w", exemptScore, err)
}
