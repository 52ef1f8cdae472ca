// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Confinement is what keeps a process with every capability from tracing, or from seeing
// the machine as it is.
type Confinement struct {
	// Lockdown is the kernel's mode: integrity or confidentiality; empty if there is none.
	Lockdown string
	// SELinux is true if its policy is enforced.
	SELinux bool
	// PIDNamespace is true if this process is in a PID namespace of its own.
	PIDNamespace bool
}

// ReadConfinement reads what confines this process. What cannot be read does not.
func ReadConfinement() Confinement { return confinement("/") }

func confinement(root string) Confinement {
	var c Confinement

	// One of the modes is in brackets (security/lockdown/lockdown.c: lockdown_read).
	if text, err := readSmall(filepath.Join(root, "sys/kernel/security/lockdown")); err == nil {
		_, rest, _ := strings.Cut(string(text), "[")
		if mode, _, ok := strings.Cut(rest, "]"); ok && mode != "none" {
			c.Lockdown = mode
		}
	}

	if text, err := readSmall(filepath.Join(root, "sys/fs/selinux/enforce")); err == nil {
		c.SELinux = strings.TrimSpace(string(text)) == "1"
	}

	initial, known := initialPIDNamespace(root)
	c.PIDNamespace = known && !initial

	return c
}

// initialPIDNamespace reports whether this process is in the initial PID namespace, if that
// is known. PROC_PID_INIT_INO (include/linux/proc_ns.h) identifies it.
func initialPIDNamespace(root string) (initial, known bool) {
	own, err := os.Readlink(filepath.Join(root, "proc/self/ns/pid"))
	return own == fmt.Sprintf("pid:[%d]", 0xEFFFFFFC), err == nil
}

// ConfidentialityLockdown is the mode of lockdown in which BPF programs cannot read kernel
// memory, and kprobes cannot be attached (include/linux/security.h: enum lockdown_reason).
const ConfidentialityLockdown = "confidentiality"

// Denials returns what may have refused BPF to this process, in words.
func (c Confinement) Denials() []string {
	var reasons []string

	if c.Lockdown == ConfidentialityLockdown {
		reasons = append(reasons, "kernel lockdown (confidentiality) forbids BPF programs to read kernel memory, for root as well: "+
			"boot with lockdown=integrity, or without")
	}

	if c.SELinux {
		reasons = append(reasons, "SELinux is enforcing: its policy needs bpf { map_create map_read map_write prog_load prog_run } "+
			"and capability2 { bpf perfmon } for the domain of oomtrace; denials are in `ausearch -m AVC`")
	}

	return reasons
}

// Blindness returns what of the machine is hidden from this process, in words; empty if
// nothing is.
func (c Confinement) Blindness() string {
	if !c.PIDNamespace {
		return ""
	}

	return "oomtrace is in a PID namespace of its own (a pod without hostPID): process ids are the node's, and what /proc has of " +
		"processes outside (candidates, senders, late exits) is unknown"
}
