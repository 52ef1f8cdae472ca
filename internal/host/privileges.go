// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// Privileges lists what the missing capabilities cost.
type Privileges struct {
	Missing  []string // capabilities without which nothing works
	Optional []string // what the lack of others costs, in words
}

// ReadPrivileges reads the effective capabilities of this process.
func ReadPrivileges() (Privileges, error) {
	text, err := readSmall("/proc/self/status")
	if err != nil {
		return Privileges{}, fmt.Errorf("read the capabilities: %w", err)
	}

	caps, err := capabilities(text)
	if err != nil {
		return Privileges{}, fmt.Errorf("read the capabilities: %w", err)
	}

	return privileges(caps), nil
}

func capabilities(status []byte) (uint64, error) {
	words := fieldText(status, "CapEff:")

	caps, err := strconv.ParseUint(words, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("CapEff of /proc/self/status: %w", err)
	}

	return caps, nil
}

func privileges(caps uint64) Privileges {
	has := func(capability int) bool { return caps&(1<<capability) != 0 }
	var p Privileges
	// CAP_SYS_ADMIN suffices in all kernels, the others since 5.8.
	if !has(unix.CAP_SYS_ADMIN) {
		if !has(unix.CAP_BPF) {
			p.Missing = append(p.Missing, "CAP_BPF")
		}

		if !has(unix.CAP_PERFMON) {
			p.Missing = append(p.Missing, "CAP_PERFMON")
		}
	}

	if !has(unix.CAP_SYSLOG) {
		p.Optional = append(p.Optional,
			"no CAP_SYSLOG: kernel symbols and log may be hidden, and the allocation class and other details may then be unknown")
	}

	if !has(unix.CAP_SYS_RESOURCE) {
		p.Optional = append(p.Optional,
			"no CAP_SYS_RESOURCE: oom_score_adj cannot be lowered, so the OOM killer may choose oomtrace itself")
	}

	if !has(unix.CAP_DAC_READ_SEARCH) && !has(unix.CAP_DAC_OVERRIDE) {
		p.Optional = append(p.Optional, "no CAP_DAC_READ_SEARCH: paths of unreadable cgroups are unknown")
	}

	return p
}

// RealTime gives the calling thread the lowest real-time priority (SCHED_FIFO): it runs
// before all threads without one.
func RealTime() error {
	err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
	if err != nil {
		return fmt.Errorf("set real-time priority: %w: it needs CAP_SYS_NICE, and a share of real time in a cgroup v1 cpu controller", err)
	}

	return nil
}
