// SPDX-License-Identifier: Apache-2.0

package kernellog

import "bytes"

// needles are the strings of which a line must contain one to matter while no report is
// open. Most lines of a log contain none, and cost only this search. Each line that can
// start a report, end one, or report a gap contains one.
var needles = [][]byte{
	[]byte("oom"),       // invoked oom-killer, oom-kill:, oom_reaper, memory.oom.group, earlyoom, systemd-oomd, oomd
	[]byte("OOM"),       // Manual OOM execution, OOM victim, Talos
	[]byte("Kill"),      // Killed process, Kill process; systemd-oomd
	[]byte("killed as"), // a result of limit of
	[]byte("failcnt"),
	[]byte("Memory cgroup"),
	[]byte("ut of memory"), // no killable processes, panic
	[]byte("deadlocked on memory"),
	[]byte("Missed "), // systemd-journald: Missed N kernel messages
	[]byte("victi"),   // Eviction manager, Evicting pod; victim processes
	[]byte("SIG"),     // earlyoom, nohang, Talos
	[]byte("nohang"),  // its lines around a kill

	// What follows a kill: systemd and the kubelet.
	[]byte("restart job"), // Scheduled restart job
	[]byte("9/KILL"),      // Main process exited, code=killed, status=9/KILL
	[]byte("too quickly"), // Start request repeated too quickly
	[]byte("robe"),        // Probe failed, failed liveness probe
	[]byte("ContainerStarted"),
	[]byte("CrashLoopBackOff"),
}

// bytesMessage is how journalctl -o json writes a message that is not text.
var bytesMessage = []byte(`"MESSAGE":[`)

func relevant(line []byte) bool {
	for _, needle := range needles {
		if bytes.Contains(line, needle) {
			return true
		}
	}

	return len(line) > 0 && line[0] == '{' && bytes.Contains(line, bytesMessage)
}
