// SPDX-License-Identifier: Apache-2.0

package sigkill

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// stackOf returns a stack by its names, innermost first, below the program that reports
// the signal. The address of each is its place.
func stackOf(names string) []frame {
	frames := []frame{{address: 1}}
	for i, name := range strings.Fields(names) {
		frames = append(frames, frame{uint64(i + 2), functionName(strings.TrimPrefix(name, "?"))})
	}

	return frames
}

const (
	traced = "bpf_trace_run5 __bpf_trace_signal_generate __traceiter_signal_generate "
	sent   = traced + "__send_signal_locked send_signal_locked do_send_sig_info "
	// An interrupt hit a process that is just sending a signal to another one.
	hitsKill = " __hrtimer_run_queues hrtimer_interrupt __sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt " +
		"do_send_sig_info group_send_sig_info kill_pid_info kill_something_info __x64_sys_kill do_syscall_64"
)

func TestTheStackShowsWhatSentTheSignal(t *testing.T) {
	for _, test := range []struct {
		name, stack string
		want        *way
		function    string
		caller      uint64
	}{
		{name: "kill(2), 6.12", stack: sent + "group_send_sig_info kill_pid_info_type kill_something_info __x64_sys_kill do_syscall_64", want: bySystemCall},
		{name: "kill(2), 5.10", stack: "bpf_trace_run5 __bpf_trace_signal_generate __send_signal send_signal do_send_sig_info group_send_sig_info kill_pid_info __do_sys_kill", want: bySystemCall},
		{name: "tgkill(2), arm64", stack: sent + "do_send_specific __arm64_sys_tgkill", want: bySystemCall},
		{name: "a 32-bit process", stack: sent + "do_rt_sigqueueinfo __ia32_compat_sys_rt_sigqueueinfo", want: bySystemCall},
		{name: "pidfd_send_signal(2)", stack: sent + "group_send_sig_info kill_pid_info_type do_pidfd_send_signal __se_sys_pidfd_send_signal", want: bySystemCall},
		{name: "a timer", stack: traced + "posixtimer_send_sigqueue posix_timer_fn" + hitsKill, want: byTimer},
		{name: "a timer, 5.10", stack: "bpf_trace_run5 __bpf_trace_signal_generate send_sigqueue posix_timer_event posix_timer_fn" + hitsKill, want: byTimer},
		{name: "RLIMIT_CPU, 5.10", stack: "bpf_trace_run5 __send_signal send_signal __group_send_sig_info check_rlimit run_posix_cpu_timers" + hitsKill, want: byCPULimit},
		{name: "RLIMIT_CPU, inlined", stack: traced + "__send_signal_locked send_signal_locked posix_cpu_timers_work task_work_run", want: byCPULimit},
		{name: "a file", stack: sent + "send_sigio_to_task send_sigio kill_fasync pipe_write vfs_write ksys_write", want: byFile},
		{name: "a file, from an interrupt", stack: sent + "send_sigio_to_task send_sigio kill_fasync sock_wake_async" + hitsKill, want: byFile},
		{name: "the exit of a tracer", stack: sent + "send_sig_info exit_ptrace do_exit do_group_exit", want: byTracerExit},
		{name: "the exit of a parent", stack: sent + "group_send_sig_info do_exit do_group_exit __x64_sys_exit_group", want: byParentExit},
		{name: "the exit of a child", stack: traced + "__send_signal_locked do_notify_parent do_exit", want: byChildExit},
		{name: "PTRACE_KILL", stack: sent + "send_sig_info ptrace_request arch_ptrace __x64_sys_ptrace", want: byPtraceKill},
		{name: "cgroup.kill", stack: sent + "send_sig __cgroup_kill cgroup_kill_write cgroup_file_write", want: byCgroupKill},
		{name: "a fork in a cgroup that is being killed", stack: sent + "cgroup_post_fork copy_process kernel_clone", want: byKilledFork},
		{name: "the end of a PID namespace", stack: sent + "group_send_sig_info zap_pid_ns_processes do_exit", want: byNamespace},
		{name: "reboot(2) in a PID namespace", stack: sent + "send_sig reboot_pid_ns __do_sys_reboot", want: byReboot},
		{name: "a memory error", stack: sent + "hwpoison_user_mappings memory_failure", want: byMemoryError},
		{name: "sysrq-i", stack: sent + "send_sig_all __handle_sysrq", want: bySysrq},
		{name: "AppArmor", stack: sent + "send_sig_info aa_audit aa_audit_file", want: byAppArmor},
		{name: "the OOM killer", stack: sent + "__oom_kill_process oom_kill_process out_of_memory", want: byOOMKiller},
		{name: "a message queue", stack: sent + "kill_pid_info __do_notify do_mq_timedsend __x64_sys_mq_timedsend", want: byQueue},
		{name: "a kernel function that nobody knows", stack: sent + "force_sig_info_to_task force_sig die_kernel_fault do_syscall_64", want: byInterrupt, function: "die_kernel_fault"},
		{name: "a module", stack: sent + "send_sig ? __x64_sys_ioctl", want: byInterrupt},
		{name: "a kernel with other plumbing blames nobody", stack: traced + "later_send_signal" + hitsKill, want: byInterrupt, function: "later_send_signal"},

		{name: "a BPF program", stack: sent + "group_send_sig_info bpf_send_signal_common bpf_send_signal ? bpf_trace_run2", want: byProgram, caller: 11},
		{name: "a BPF program by its kfunc", stack: sent + "group_send_sig_info bpf_send_signal_common bpf_send_signal_task ? bpf_trace_run2", want: byProgram, caller: 11},
		{name: "a BPF program, by an interrupt at once",
			stack: traced + "__send_signal_locked do_send_sig_info group_send_sig_info do_bpf_send_signal irq_work_single irq_work_run asm_sysvec_irq_work bpf_send_signal_common bpf_send_signal ? bpf_trace_run2",
			want:  byProgram, caller: 14},
		{name: "a BPF program, by an interrupt later", stack: sent + "group_send_sig_info do_bpf_send_signal irq_work_single irq_work_run asm_sysvec_irq_work finish_task_switch", want: byProgram},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := facts().Kill
			got := originOf(k, stackOf(test.stack))

			if got.way != test.want || got.function != test.function || got.caller != test.caller {
				t.Errorf("got %+v (function %q, caller %d), want %+v (function %q, caller %d)",
					*got.way, got.function, got.caller, *test.want, test.function, test.caller)
			}
		})
	}
}

// arm64 has the program that reports the signal as the caller of the tracepoint, and as the
// first frame that it unwinds.
func TestTheReporterMayBeInTheStackTwice(t *testing.T) {
	stack := append([]frame{{address: 1}}, stackOf(sent+"kill_pid_info_type sys_kill")...)

	if got := originOf(facts().Kill, stack); got.way != bySystemCall {
		t.Errorf("got %+v, want %+v", *got.way, *bySystemCall)
	}
}

// Without a stack, siginfo shows the sender unless the sender can forge it.
func TestWithoutAStackTheCodeIsUsed(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*kernel.Kill)
		want   *way
	}{
		{"kill(2)", func(*kernel.Kill) {}, bySystemCall},
		{"tkill(2)", func(k *kernel.Kill) { k.Code = kernel.CodeThread }, bySystemCall},
		{"sigqueue(3)", func(k *kernel.Kill) { k.Code = kernel.CodeQueue }, bySystemCall},
		{"a code that only a sender can set", func(k *kernel.Kill) { k.Code = -60 }, bySystemCall},
		{"a timer", func(k *kernel.Kill) { k.Code = kernel.CodeTimer }, byTimerCode},
		{"a file", func(k *kernel.Kill) { k.Code = kernel.CodeSIGIO }, byFileCode},
		{"a file, POLL_IN", func(k *kernel.Kill) { k.Code = 1 }, byInterrupt},
		{"a message queue", func(k *kernel.Kill) { k.Code = kernel.CodeMesgQ }, byInterrupt},
		{"a USB request", func(k *kernel.Kill) { k.Code = kernel.CodeAsync }, byInterrupt},
		{"force_sig", func(k *kernel.Kill) { k.Code = kernel.CodeKernel }, byInterrupt},
		{"the kernel", func(k *kernel.Kill) { k.FromKernel, k.Code = true, kernel.CodeKernel }, byKernel},
		{"the kernel, as PID 1 of the namespace exits", func(k *kernel.Kill) {
			k.FromKernel, k.Sender.NamespaceInit, k.Current.Exiting = true, true, true
		}, byNamespace},
		{"cgroup.kill", func(k *kernel.Kill) { k.Sender.NoInfo, k.Group = true, false }, byCgroupKill},
		{"cgroup.kill at a fork", func(k *kernel.Kill) { k.Sender.NoInfo = true }, byKilledFork},
		{"the exit of a parent", func(k *kernel.Kill) { k.Sender.NoInfo, k.Current.Exiting = true, true }, byParentExit},
	} {
		k := facts().Kill
		test.change(&k)

		for name, stack := range map[string][]frame{"none": nil, "cut": stackOf(sent)} {
			if got := originOf(k, stack); got.way != test.want {
				t.Errorf("%s, stack %s: got %+v, want %+v", test.name, name, *got.way, *test.want)
			}
		}
	}
}

// Whoever is running when an interrupt sends a signal is innocent: nothing of it is shown.
func TestAnInterruptedProcessIsNotNamed(t *testing.T) {
	innocent := facts(by("qemu", "/usr/bin/qemu", "qemu", "-m", "1G"), below("bash on pts/3", "sshd"), fromUnit("vm.service"),
		termBefore(2*second, "systemd"))

	for _, stack := range []string{
		traced + "posixtimer_send_sigqueue posix_timer_fn" + hitsKill,
		sent + "group_send_sig_info do_bpf_send_signal irq_work_single",
		sent + "send_sig ?",
		sent + "memory_failure",
		sent + "cgroup_post_fork",
	} {
		innocent.Stack = stackOf(stack)

		k := known.Classify(innocent)
		if k.Kind != events.KillerKernel || k.PID != 0 || k.Comm != "" || k.Exe != "" || k.UID != nil || k.Cgroup != nil ||
			k.Ancestry != nil || k.Login != nil || k.Reason != "" {
			t.Errorf("%s: got %+v, want a killer without a process", stack, k)
		}

		if len(k.Evidence) == 0 || slices.ContainsFunc(k.Evidence, func(e events.Evidence) bool { return strings.Contains(e.Value, "qemu") }) {
			t.Errorf("%s: got evidence %v, want some, without qemu", stack, k.Evidence)
		}

		if k.TermBeforeNS == nil {
			t.Errorf("%s: got no SIGTERM before, want one: it was sent to the target", stack)
		}
	}
}

func TestBPFProgramsAreLookedUp(t *testing.T) {
	names := strings.Fields(sent + "group_send_sig_info bpf_send_signal_common bpf_send_signal")
	k := facts().Kill
	k.FromKernel, k.Code = true, kernel.CodeKernel

	k.Sender.Stack = []uint64{0xbad}
	for i := range names {
		k.Sender.Stack = append(k.Sender.Stack, uint64(0x1000+i*16+1))
	}

	k.Sender.Stack = append(k.Sender.Stack, 0xb001)

	var asked []uint64

	collect := func(program func(uint64) (*events.BPFProgram, error)) *events.Killer {
		c := NewCollector(Options{
			Proc: t.TempDir(), Program: program,
			Symbol: func(address uint64) (string, bool) {
				if at := (address - 0x1000) / 16; at < uint64(len(names)) {
					return names[at], true
				}

				return "", false
			},
		})
		c.Saw(k, events.Process{}, events.Process{})
		c.Saw(k, events.Process{}, events.Process{}) // a moment later: it is not looked up again
		drain(c)

		return c.Killer(k, events.Process{}, events.Process{})
	}

	found := collect(func(address uint64) (*events.BPFProgram, error) {
		asked = append(asked, address)
		return &events.BPFProgram{ID: 42, Name: "enforce"}, nil
	})
	if p := found.BPFProgram; p == nil || p.ID != 42 || found.Path != events.PathBPF || !slices.Equal(asked, []uint64{0xb001}) {
		t.Errorf("got %+v, program %+v, asked for %x; want path bpf, program 42, asked for b001 once", found, p, asked)
	}

	for name, program := range map[string]func(uint64) (*events.BPFProgram, error){
		"not loaded any more": func(uint64) (*events.BPFProgram, error) { return nil, nil },
		"hidden":              func(uint64) (*events.BPFProgram, error) { return nil, errors.New("hidden") },
		"no look-up":          nil,
	} {
		if got := collect(program); got.BPFProgram != nil || got.Path != events.PathBPF || len(got.Evidence) != 1 {
			t.Errorf("%s: got %+v, want path bpf without a program, and one evidence", name, got)
		}
	}
}
