// SPDX-License-Identifier: Apache-2.0

package sigkill

import (
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// way is how a SIGKILL is generated.
type way struct {
	// path is the killer's, empty where it depends on the sender.
	path string
	// bySender is true if the current process caused the signal. Other signals hit
	// whichever process is running, so it must not be named.
	bySender bool
	text     string // of the evidence; empty: it depends on the facts
}

var (
	bySystemCall  = &way{bySender: true}
	byPtraceKill  = &way{bySender: true, text: "PTRACE_KILL, by its tracer"}
	byParentExit  = &way{bySender: true, text: "PR_SET_PDEATHSIG: its parent exited"}
	byTracerExit  = &way{path: events.PathTracer, bySender: true, text: "PTRACE_O_EXITKILL: its tracer exited"}
	byNamespace   = &way{path: events.PathPIDNS, bySender: true}
	byReboot      = &way{bySender: true, text: "reboot(2) in its PID namespace"}
	byCgroupKill  = &way{bySender: true, text: "cgroup.kill was written"}
	byKilledFork  = &way{path: events.PathCgroupKill, text: "cgroup.kill was written during its fork; by whom is not known"}
	byTimer       = &way{path: events.PathTimer, text: "a POSIX timer of the process itself expired (timer_create, SIGEV_SIGNAL)"}
	byFile        = &way{path: events.PathSIGIO, text: "a file was ready, and SIGKILL is its signal (fcntl F_SETOWN, F_SETSIG)"}
	byCPULimit    = &way{path: events.PathRLimit, text: "the hard limit of CPU time: RLIMIT_CPU, or RLIMIT_RTTIME of a real-time thread"}
	byMemoryError = &way{path: events.PathMemoryFailure, text: "a hardware memory error in a page that it uses"}
	byProgram     = &way{path: events.PathBPF}
	byOOMKiller   = kernelWay("the OOM killer sent it")
	byQueue       = kernelWay("a message arrived in a POSIX queue, and SIGKILL is its signal (mq_notify)")
	byUSB         = kernelWay("a USB request of the process completed, and SIGKILL is its signal (usbfs)")
	byChildExit   = kernelWay("a child exited whose exit signal is SIGKILL (clone)")
	bySysrq       = kernelWay("sysrq-i was requested, which kills all processes")
	bySAK         = kernelWay("the secure attention key was pressed (SAK), which kills what uses the terminal")
	byAppArmor    = kernelWay("an AppArmor profile in kill mode was violated")
	byAudit       = kernelWay("the audit subsystem could not read the arguments of its execve(2)")
	byKernel      = kernelWay("sent by the kernel itself: a CPU time limit (RLIMIT_CPU), the exit of a tracer (ptrace), " +
		"a BPF program or a hardware memory error; which one is not known")
	byInterrupt = kernelWay("sent from an interrupt or by the kernel; the sender is not known")

	byTimerCode = kernelWay("its code is that of a POSIX timer of the process itself (SI_TIMER), which a sender can forge")
	byFileCode  = kernelWay("its code is that of a file whose signal is SIGKILL (SI_SIGIO), which a sender can forge")
)

func kernelWay(text string) *way { return &way{path: events.PathKernel, text: text} }

// plumbing are the functions that every signal passes on its way to
// trace_signal_generate (kernel/signal.c, 5.10 to 7.x). Their innermost caller that is
// none of them generated the signal.
var plumbing = set("__send_signal", "__send_signal_locked", "send_signal", "send_signal_locked", "__group_send_sig_info",
	"do_send_sig_info", "group_send_sig_info", "send_sig_info", "send_sig", "kill_pid", "kill_pid_info", "kill_pid_info_type",
	"kill_pid_info_as_cred", "kill_proc_info", "kill_pgrp", "__kill_pgrp_info", "force_sig", "force_sig_info",
	"force_sig_info_to_task", "force_fatal_sig", "force_exit_sig")

// generators are the functions that generate a SIGKILL. Static ones may be inlined, so
// their callers are listed as well.
var generators = func() map[string]*way {
	all := map[string]*way{}

	for w, functions := range map[*way][]string{
		// kernel/signal.c
		bySystemCall: {"sys_kill", "kill_something_info", "sys_tkill", "sys_tgkill", "do_tkill", "do_send_specific", "sys_rt_sigqueueinfo",
			"do_rt_sigqueueinfo", "sys_rt_tgsigqueueinfo", "do_rt_tgsigqueueinfo", "sys_pidfd_send_signal", "do_pidfd_send_signal"},
		byTimer:     {"send_sigqueue", "posixtimer_send_sigqueue"},
		byUSB:       {"kill_pid_usb_asyncio"},
		byChildExit: {"do_notify_parent"},
		// kernel/ptrace.c
		byPtraceKill: {"ptrace_request", "compat_ptrace_request", "arch_ptrace", "compat_arch_ptrace", "sys_ptrace"},
		byTracerExit: {"exit_ptrace"},
		// kernel/exit.c
		byParentExit: {"reparent_leader", "forget_original_parent", "exit_notify", "do_exit"},
		// kernel/pid_namespace.c
		byNamespace: {"zap_pid_ns_processes"},
		byReboot:    {"reboot_pid_ns"},
		// kernel/cgroup/cgroup.c
		byCgroupKill: {"__cgroup_kill", "cgroup_kill", "cgroup_kill_write"},
		byKilledFork: {"cgroup_post_fork"},
		// fs/fcntl.c
		byFile: {"send_sigio_to_task", "send_sigio", "kill_fasync"},
		// kernel/time/posix-cpu-timers.c
		byCPULimit: {"check_rlimit", "check_process_timers", "check_thread_timers", "handle_posix_cpu_timers", "posix_cpu_timers_work",
			"run_posix_cpu_timers"},
		// mm/memory-failure.c
		byMemoryError: {"kill_procs", "kill_proc", "hwpoison_user_mappings", "unmap_and_kill", "memory_failure"},
		// kernel/trace/bpf_trace.c
		byProgram: {"bpf_send_signal", "bpf_send_signal_thread", "bpf_send_signal_task", "bpf_send_signal_common", "do_bpf_send_signal"},
		// mm/oom_kill.c
		byOOMKiller: {"__oom_kill_process", "oom_kill_memcg_member", "oom_kill_process"},
		// ipc/mqueue.c
		byQueue: {"__do_notify", "do_mq_timedsend", "sys_mq_timedsend", "sys_mq_timedsend_time32"},
		// drivers/tty/sysrq.c, drivers/tty/tty_io.c
		bySysrq: {"send_sig_all", "sysrq_handle_kill"},
		bySAK:   {"__do_SAK", "do_SAK_work"},
		// security/apparmor/audit.c, kernel/auditsc.c
		byAppArmor: {"aa_audit"},
		byAudit:    {"audit_log_execve_info"},
	} {
		for _, function := range functions {
			all[function] = w
		}
	}

	return all
}()

func set(names ...string) map[string]bool {
	all := make(map[string]bool, len(names))
	for _, name := range names {
		all[name] = true
	}

	return all
}

// frame is a function of a kernel stack. Its name is empty where it is not the kernel's
// own: that of a module or a BPF program.
type frame struct {
	address uint64
	name    string
}

// origin is what a stack shows of a SIGKILL.
type origin struct {
	way *way
	// function is the kernel's, where no way is known for it.
	function string
	// caller is an address in the BPF program that sent the signal, 0 if it is not in the stack.
	caller uint64
}

// reporters are prefixes of the functions between trace_signal_generate and the BPF program
// that reports the signal.
var reporters = []string{"bpf_trace_run", "__bpf_trace_", "__traceiter_", "__do_trace_"}

// originOf returns what generated a SIGKILL: the innermost function of its stack that is
// not part of every signal's way. What an interrupt hit is further out. Only where there is
// no stack, siginfo is used.
func originOf(k kernel.Kill, stack []frame) origin {
	at := 0

	for at < len(stack) && stack[at].address == stack[0].address {
		at++ // the BPF program that reports the signal, which arm64 has twice
	}

	for at < len(stack) && slices.ContainsFunc(reporters, func(prefix string) bool { return strings.HasPrefix(stack[at].name, prefix) }) {
		at++
	}

	for at < len(stack) && plumbing[stack[at].name] {
		at++
	}

	if at == len(stack) {
		return origin{way: byCode(k)}
	}

	switch w := generators[stack[at].name]; w {
	case nil:
		return origin{way: byInterrupt, function: stack[at].name}
	case byProgram:
		return origin{way: w, caller: programOf(stack[at:])}
	default:
		return origin{way: w}
	}
}

// programOf returns the caller of bpf_send_signal. Where preemption or interrupts are
// disabled, a later interrupt sends the signal (do_bpf_send_signal): only if that
// interrupt came at once, it hit bpf_send_signal, and the stack has the program as well.
func programOf(stack []frame) uint64 {
	helper := false

	for _, f := range stack {
		switch {
		case f.name == "do_bpf_send_signal":
		case generators[f.name] == byProgram:
			helper = true
		case helper:
			return f.address
		}
	}

	return 0
}

// functionName returns the name by which a function is in generators. System calls have
// wrappers, whose names differ between architectures.
func functionName(name string) string {
	if strings.HasPrefix(name, "__") {
		if _, call, found := strings.Cut(name, "_sys_"); found {
			return "sys_" + call
		}
	}

	return name
}

// byCode concludes from siginfo. A process can forge codes from SI_QUEUE to SI_SIGIO by
// sigqueue(3) (kernel/signal.c: do_rt_sigqueueinfo), so that those prove nothing.
func byCode(k kernel.Kill) *way {
	s := k.Sender

	switch {
	case k.FromKernel && s.NamespaceInit && k.Current.Exiting:
		return byNamespace
	case k.FromKernel:
		return byKernel
	case s.NoInfo && !k.Group:
		return byCgroupKill
	case s.NoInfo && k.Current.Exiting:
		return byParentExit
	case s.NoInfo:
		return byKilledFork
	}

	switch k.Code {
	case kernel.CodeTimer:
		return byTimerCode
	case kernel.CodeSIGIO:
		return byFileCode
	case kernel.CodeMesgQ, kernel.CodeAsync:
		return byInterrupt
	}

	if k.Code > kernel.CodeUser { // SI_KERNEL, or POLL_IN of a file, or CLD_EXITED of a child
		return byInterrupt
	}

	return bySystemCall
}
