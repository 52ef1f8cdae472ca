// SPDX-License-Identifier: Apache-2.0

package events

// The kinds of killers, as Killer.Kind has them.
const (
	KillerKernel = "kernel"
	KillerUser   = "user"
)

// The ways of a kill by the OOM killer, as Killer.Path has them.
const (
	PathMemcg   = "memcg"
	PathGlobal  = "global"
	PathGroup   = "group" // memory.oom.group
	PathSysrq   = "sysrq"
	PathUnknown = "unknown"
)

// The senders of a SIGKILL in scope user, as Killer.Path has them.
const (
	PathRuntime     = "runtime"      // a container runtime, on request of a client
	PathSystemd     = "systemd"      // a service manager
	PathSystemdOOMD = "systemd-oomd" // this and the next three kill to free memory
	PathEarlyOOM    = "earlyoom"
	PathOOMD        = "oomd"
	PathNohang      = "nohang"
	PathSelf        = "self"        // a process of the same container or service
	PathPIDNS       = "pidns"       // PID 1 of the container exited, and the kernel killed the others
	PathCgroupKill  = "cgroup_kill" // a write to cgroup.kill by any other process
	PathHuman       = "human"       // a login session, a terminal
	PathCron        = "cron"
	PathTracer      = "tracer" // its tracer exited (PTRACE_O_EXITKILL)
	PathOther       = "other"

	// Nobody is named as the sender of the others.
	PathBPF           = "bpf"            // a BPF program, as security tools have them
	PathTimer         = "timer"          // a POSIX timer of the process itself
	PathSIGIO         = "sigio"          // a file whose signal is SIGKILL (F_SETSIG)
	PathRLimit        = "rlimit"         // the hard limit of CPU time
	PathMemoryFailure = "memory_failure" // a page that went bad
	PathKernel        = "kernel"         // any other reason of the kernel, or an interrupt; see the evidence
)

// The reasons of a kill in scope user, as Killer.Reason has them.
const (
	ReasonEviction   = "eviction"
	ReasonDelete     = "delete"
	ReasonProbe      = "probe"
	ReasonPreemption = "preemption"
	ReasonUnitStop   = "unit_stop"
	ReasonTimeout    = "timeout" // of a stop: SIGTERM was not enough
	ReasonMemory     = "memory_pressure"
	ReasonSwap       = "swap"
	ReasonRule       = "rule" // of systemd-oomd's rule files
	ReasonAsked      = "asked"
)

// IsMemoryResource reports whether a resource of Killer.Resource is memory: that of the node, or
// of all pods together.
func IsMemoryResource(name string) bool { return name == "memory" || name == "allocatableMemory" }

// Killer is the sender of the SIGKILL.
type Killer struct {
	// Kind is kernel or user. In scope user it is kernel where no process sent the signal: a BPF
	// program, a timer, a file, RLIMIT_CPU, a page that went bad. Then no process is named.
	Kind string `json:"kind"`
	// Path is the way of the kill: by the OOM killer memcg, global, group, sysrq or unknown; in scope
	// user runtime, systemd, systemd-oomd, earlyoom, oomd, nohang, self, pidns, cgroup_kill, human,
	// cron, tracer, bpf, timer, sigio, rlimit, memory_failure, kernel or other.
	Path string `json:"path"`
	// GroupCgroup is the cgroup whose memory.oom.group=1 made it a group kill.
	GroupCgroup *Cgroup `json:"group_cgroup,omitempty"`
	// GroupLevel is the level of that cgroup.
	GroupLevel Level `json:"group_level,omitempty"`
	// BPFProgram is the BPF program that sent the signal, with path bpf; absent: it is not known.
	BPFProgram *BPFProgram `json:"bpf_program,omitempty"`
	// PID is the process id of the sender, in scope user.
	PID int `json:"pid,omitempty"`
	// Comm is the name of the sender.
	Comm string `json:"comm,omitempty"`
	// Exe is the executable of the sender; only the last name of its path if it was gone before it
	// could be read.
	Exe string `json:"exe,omitempty"`
	// UID is the user id of the sender.
	UID *uint32 `json:"uid,omitempty"`
	// Cgroup is the cgroup of the sender.
	Cgroup *Cgroup `json:"cgroup,omitempty"`
	// Ancestry are the ancestors of the sender, the nearest first: the first eight as the kernel had
	// them at that instant.
	Ancestry []Ancestor `json:"ancestry,omitempty"`
	// Reason is the reason, as far as the node has evidence of it: eviction, delete, probe, preemption,
	// unit_stop, timeout, memory_pressure, swap, rule or asked.
	Reason string `json:"reason,omitempty"`
	// Resource is what the kubelet had to reclaim, with reason eviction, under its own name: memory,
	// ephemeral-storage, inodes, pids; absent: not known.
	Resource string `json:"resource,omitempty"`
	// Processes is how many processes the killer reported to have killed, in total; absent: it reported
	// no number.
	Processes *uint64 `json:"processes,omitempty"`
	// Evidence supports path and reason.
	Evidence []Evidence `json:"evidence,omitempty"`
	// TermBeforeNS is the time from the last SIGTERM to the same cgroup, or from the first of those
	// that were forwarded within it; absent: none since the victim started.
	TermBeforeNS *uint64 `json:"term_before_ns,omitempty"`
	// Login is the login session of the sender.
	Login *Login `json:"login,omitempty"`
}

// BPFProgram is a BPF program, as bpftool lists it.
type BPFProgram struct {
	// ID is the id of the program.
	ID uint32 `json:"id"`
	// Name is the name that its loader gave it, at most 15 bytes.
	Name string `json:"name,omitempty"`
}

// Ancestor is a parent of the sender, or a parent of its parents.
type Ancestor struct {
	// PID is the process id.
	PID int `json:"pid"`
	// Comm is the name of the process.
	Comm string `json:"comm"`
	// Exe is the path of its executable.
	Exe string `json:"exe,omitempty"`
}

// Login is a login session.
type Login struct {
	// Session is the session of logind.
	Session string `json:"session,omitempty"`
	// TTY is the terminal.
	TTY string `json:"tty,omitempty"`
	// User is the user who logged in (loginuid), also through sudo.
	User string `json:"user,omitempty"`
	// SudoUser is SUDO_USER of the environment, which any user may set.
	SudoUser string `json:"sudo_user,omitempty"`
}
