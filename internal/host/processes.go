// SPDX-License-Identifier: Apache-2.0

package host

import (
	"path/filepath"
	"strconv"
	"strings"
)

// Processes returns the ids of the processes in a cgroup, not of those below it, or with an
// empty path of all processes; at most so many. None are returned where they cannot be read,
// as in a threaded cgroup.
func (r Reader) Processes(path string, most int) []int {
	if path == "" {
		all, _ := r.allPIDs()

		pids := make([]int, 0, min(len(all), most))
		for _, p := range all[:min(len(all), most)] {
			pids = append(pids, p.pid)
		}

		return pids
	}

	const digits = 8 // of a pid, with the end of its line
	// A last number that the bound cuts is of no process, or of one of another cgroup: it is
	// left out with all beyond the bound.
	text, err := readUpTo(filepath.Join(r.Layout.dir(path), "cgroup.procs"), int64(most+1)*digits)
	if err != nil {
		return nil
	}

	var pids []int

	for line := range strings.Lines(string(text)) {
		number, whole := strings.CutSuffix(line, "\n")

		// 0 is a process outside of our pid namespace.
		if pid, err := strconv.Atoi(number); err == nil && pid > 0 && whole && len(pids) < most {
			pids = append(pids, pid)
		}
	}

	return pids
}
