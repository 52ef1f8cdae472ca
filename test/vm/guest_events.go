// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/test/internal/must"
)

// The kernel's own trace counts beside oomtrace.

const tracefs = "/sys/kernel/tracing"

// countEvents counts an event by thread, until the returned function is called.
func countEvents(group, event string) func(pid int) uint64 {
	_ = unix.Mount("tracefs", tracefs, "tracefs", 0, "")

	dir := filepath.Join(tracefs, "events", group, event)
	if err := os.WriteFile(dir+"/trigger", []byte("hist:keys=common_pid:size=4096"), 0); err != nil {
		return traceEvents(group, event, "", "") // a kernel without CONFIG_HIST_TRIGGERS
	}

	return func(pid int) uint64 {
		text, err := os.ReadFile(dir + "/hist")
		must.OK("read the histogram", err)
		must.OK("end the histogram", os.WriteFile(dir+"/trigger", []byte("!hist:keys=common_pid:size=4096"), 0))

		for line := range strings.Lines(string(text)) {
			// { common_pid:        123 } hitcount:         45
			fields := strings.Fields(line)
			if len(fields) == 6 && fields[1] == "common_pid:" && fields[2] == strconv.Itoa(pid) {
				n, err := strconv.ParseUint(fields[5], 10, 64)
				must.OK("read the histogram", err)

				return n
			}
		}

		return 0
	}
}

// anyPID stands for all threads.
const anyPID = -1

// traceEvents counts an event in the lines of the kernel's trace. With an endEvent, it
// counts up to the first event of that name.
func traceEvents(group, event, endGroup, endEvent string) func(pid int) uint64 {
	_ = unix.Mount("tracefs", tracefs, "tracefs", 0, "")

	dirs := []string{filepath.Join(tracefs, "events", group, event)}
	if endEvent != "" {
		dirs = append(dirs, filepath.Join(tracefs, "events", endGroup, endEvent))
	}

	write := func(file, text string) { must.OK("set up the kernel's trace", os.WriteFile(file, []byte(text), 0)) }
	write(tracefs+"/buffer_size_kb", "32768")
	write(tracefs+"/trace_clock", "mono") // the lines of both CPUs in their order
	// With record-cmd, names of tasks are recorded at each switch: the kernel patches
	// its busiest code for that while the other CPU runs it, which an emulator may not
	// survive.
	write(tracefs+"/options/record-cmd", "0")
	write(tracefs+"/trace", "")

	for _, dir := range dirs {
		write(dir+"/enable", "1")
	}

	return func(pid int) (count uint64) {
		for _, dir := range dirs {
			write(dir+"/enable", "0")
		}

		text, err := os.ReadFile(tracefs + "/trace")
		must.OK("read the kernel's trace", err)

		for line := range strings.Lines(string(text)) {
			// "   hog-123  [001] ....  12.3: mm_vmscan_memcg_reclaim_end: nr_reclaimed=0"
			if endEvent != "" && strings.Contains(line, ": "+endEvent+": ") {
				break
			}

			if pid == anyPID && strings.Contains(line, ": "+event+": ") || strings.Contains(line, fmt.Sprintf("-%d ", pid)) {
				count++
			}
		}

		write(tracefs+"/buffer_size_kb", "64")

		return count
	}
}
