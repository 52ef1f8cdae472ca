// SPDX-License-Identifier: Apache-2.0

package kernellog

import "bytes"

// needles are what a line must hold to matter where no report is being read. Most
// lines of a log hold none and cost this search alone. Each way of beginning a
// report, of ending one, and of telling a gap has one.
var needles = [][]byte{
	[]byte("oom"), // invoked oom-killer, oom-kill:, oom_reaper, memory.oom.group, earlyoom, systemd-oomd, oomd
	[]byte("OOM"), // Manual OOM execution, OOM victim, Talos
	[]byte("Kill process"),
	[]byte("illed "), // Killed process, killed as a result of
	[]byte("no killable"),
	[]byte("SIGKILL"),
	[]byte("failcnt"),
	[]byte("Memory cgroup"),
	[]byte("ut of memory"),
	[]byte("deadlocked on memory"),
	[]byte("Missed "),     // systemd-journald: Missed N kernel messages
	[]byte("victi"),       // Eviction manager, Evicting pod; victim processes
	[]byte("sending SIG"), // earlyoom
}

// bytesMessage is how journalctl -o json writes a message that is no text.
var bytesMessage = []byte(`"MESSAGE":[`)

func relevant(line []byte) bool {
	for _, needle := range needles {
		if bytes.Contains(line, needle) {
			return true
		}
	}
	return len(line) > 0 && line[0] == '{' && bytes.Contains(line, bytesMessage)
}
