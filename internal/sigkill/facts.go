// SPDX-License-Identifier: Apache-2.0

// Package sigkill determines who sent a SIGKILL from user space, how, and as far as
// the evidence on this node goes, why.
//
// Classifier is pure: it turns facts into an answer. Collector gathers the facts: the
// kernel's record has the sender and its parents; the rest is read from /proc right
// afterwards, in a goroutine of its own, since a command like `runc kill` lives for
// some milliseconds.
package sigkill

import (
	"path"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/kubelet"
)

// Process is the sender, or one of its ancestors. What could not be read, because the
// process had exited, is empty.
type Process struct {
	PID     int
	Comm    string
	Exe     string   // a path; only its last name if the sender had exited
	Command []string // its arguments, bounded
	// Cgroups are its cgroups' paths, one for each hierarchy.
	Cgroups  []string
	TTY      string // pts/3
	SudoUser string // SUDO_USER of its environment
	User     string // the owner, by the real UID
}

// Facts are what is known of a SIGKILL. Where the process that was running did not send it,
// From, Sender and Ancestors are of no use.
type Facts struct {
	// Kill is the kernel's record, with a Sender.
	Kill kernel.Kill
	// From and To are the sender and the target as the correlator places them.
	From, To events.Process
	// Stack is the kernel stack of the signal; empty if it is not known.
	Stack []frame
	// Program is the BPF program that sent the signal; nil: none, or it is not known.
	Program *events.BPFProgram
	// Sender and Ancestors, the nearest first, are read from /proc; what could not be
	// read there is from the kernel's record.
	Sender    Process
	Ancestors []Process
	// User is the name of LoginUID.
	User string
	// OOMDKills is the xattr user.oomd_kill of the target's cgroup or of an ancestor:
	// how many processes systemd-oomd killed there. Empty if it killed none.
	OOMDKills string
	// Kubelet is what the kubelet logged about the target, oldest first.
	Kubelet []kubelet.Finding
}

// interpreters run programs that their process is named after.
var interpreters = []string{"python", "perl", "ruby", "bash", "sh", "dash", "busybox", "node", "java"}

// names returns the names by which a process is recognized: that of its executable,
// which only its owner can choose, and for interpreters also its comm, which the
// process sets itself.
func (p *Process) names() []string {
	if p.Exe == "" {
		return []string{p.Comm}
	}

	exe := strings.TrimSuffix(p.Exe, " (deleted)")
	if memory, ok := strings.CutPrefix(strings.TrimPrefix(exe, "/"), "memfd:"); ok { // runc runs a copy of itself
		exe, _, _ = strings.Cut(memory, "_cloned")
	}

	exe = path.Base(exe)
	if slices.ContainsFunc(interpreters, func(i string) bool { return strings.HasPrefix(exe, i) }) {
		return []string{exe, p.Comm}
	}

	return []string{exe}
}

// commLen is how many bytes the kernel keeps of a name (TASK_COMM_LEN without its
// zero byte).
const commLen = 15

// is reports whether a process has one of the names. A name that ends in * is a prefix.
func (p *Process) is(names ...string) bool {
	return slices.ContainsFunc(p.names(), func(own string) bool {
		return slices.ContainsFunc(names, func(name string) bool {
			if prefix, ok := strings.CutSuffix(name, "*"); ok {
				return strings.HasPrefix(own, prefix)
			}

			return own == name || len(own) == commLen && strings.HasPrefix(name, own)
		})
	})
}

// lineage returns the sender and its ancestors.
func (f *Facts) lineage() []*Process {
	all := []*Process{&f.Sender}
	for i := range f.Ancestors {
		all = append(all, &f.Ancestors[i])
	}

	return all
}

// find returns the nearest process of the lineage that has one of the names, nil if
// there is none.
func (f *Facts) find(names ...string) *Process {
	for _, p := range f.lineage() {
		if p.is(names...) {
			return p
		}
	}

	return nil
}

// cgroup returns the first component of a cgroup path of the lineage that matches,
// empty if none does.
func (f *Facts) cgroup(match func(component string) bool) (component string) {
	paths := []string{}
	if f.From.Cgroup != nil {
		paths = append(paths, f.From.Cgroup.Path)
	}

	for _, p := range f.lineage() {
		paths = append(paths, p.Cgroups...)
	}

	for _, path := range paths {
		for component := range strings.SplitSeq(path, "/") {
			if match(component) {
				return component
			}
		}
	}

	return ""
}
