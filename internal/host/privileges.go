// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Privileges tells which capabilities are missing.
type Privileges struct {
	Missing  []string // without these nothing works
	Optional []string // what is lost without others, in words
}

// ReadPrivileges looks at the effective capabilities of this process.
func ReadPrivileges() (Privileges, error) {
	text, err := readSmall("/proc/self/status")
	if err != nil {
		return Privileges{}, fmt.Errorf("reading the capabilities: %w", err)
	}

	caps, err := capabilities(text)
	if err != nil {
		return Privileges{}, fmt.Errorf("reading the capabilities: %w", err)
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
	// CAP_SYS_ADMIN has been enough always, the others since 5.8.
	if !has(unix.CAP_SYS_ADMIN) {
		if !has(unix.CAP_BPF) {
			p.Missing = append(p.Missing, "CAP_BPF")
		}

		if !has(unix.CAP_PERFMON) {
			p.Missing = append(p.Missing, "CAP_PERFMON")
		}
	}

	if !has(unix.CAP_SYSLOG) {
		p.Optional = append(p.Optional, "no CAP_SYSLOG: kernel symbols may be hidden, and with them what an allocation was for")
	}

	if !has(unix.CAP_SYS_RESOURCE) {
		p.Optional = append(p.Optional, "no CAP_SYS_RESOURCE: oomtrace itself can be a victim (oom_score_adj cannot be lowered)")
	}

	if !has(unix.CAP_DAC_READ_SEARCH) && !has(unix.CAP_DAC_OVERRIDE) {
		p.Optional = append(p.Optional, "no CAP_DAC_READ_SEARCH: cgroups that are not readable have no path")
	}

	return p
}

// Protect makes this process an unlikely victim of the OOM it watches, and with
// lock keeps its memory where it is: neither swapped nor, for the program's own
// pages, dropped and read again while the node thrashes. It returns in words what
// was refused.
func Protect(lock bool) []string {
	var refused []string
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0); err != nil {
		refused = append(refused, fmt.Sprintf("oomtrace itself can be a victim: lowering oom_score_adj: %v", err))
	}

	if !lock {
		return refused
	}
	// What is touched stays; what the runtime only reserves costs nothing.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		refused = append(refused, fmt.Sprintf("oomtrace may be slowed down by swap: locking its memory: %v", err))
	}

	return refused
}

// RealTime gives the calling thread the lowest real-time priority (SCHED_FIFO): it
// runs before all that has none.
func RealTime() error {
	err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
	if err != nil {
		return fmt.Errorf("asking for real-time priority: %w: it needs CAP_SYS_NICE, and a share of real time in a cgroup v1 cpu controller", err)
	}

	return nil
}
