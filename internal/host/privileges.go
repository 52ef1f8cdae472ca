// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
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
			"no CAP_SYSLOG: kernel symbols and log may be hidden, and the allocation class and what no hook sees may then be unknown")
	}

	if !has(unix.CAP_SYS_RESOURCE) {
		p.Optional = append(p.Optional, "no CAP_SYS_RESOURCE: cannot lower oom_score_adj, oomtrace itself may be killed")
	}

	if !has(unix.CAP_DAC_READ_SEARCH) && !has(unix.CAP_DAC_OVERRIDE) {
		p.Optional = append(p.Optional, "no CAP_DAC_READ_SEARCH: paths of unreadable cgroups are unknown")
	}

	return p
}

// Protect makes this process an unlikely victim of the OOM killer. With lock it also
// keeps the process's memory from being swapped and, for pages of the program itself,
// from being dropped and read again while the machine thrashes. It returns what was
// refused, in words.
func Protect(lock bool) []string {
	var refused []string
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0); err != nil {
		refused = append(refused, fmt.Sprintf("cannot lower oom_score_adj (%v): oomtrace itself may be killed", err))
	}

	if !lock {
		return refused
	}
	// MCL_ONFAULT: memory that the Go runtime only reserves costs nothing.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		refused = append(refused, fmt.Sprintf("cannot lock memory (%v): swapping may slow oomtrace down", err))
	}

	return refused
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
