// SPDX-License-Identifier: Apache-2.0

package deaths

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// ProgramName is the name of the BPF program that Program attaches.
const ProgramName = "lab_enforcer"

// Program has a BPF program kill a process, as security tools do, at a raw tracepoint:
// sys_enter, or sched_switch, where interrupts are off. It kills until close is called.
func Program(tracepoint string, pid int) (closeProgram func(), err error) {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: ProgramName, Type: ebpf.RawTracepoint, License: "GPL",
		Instructions: asm.Instructions{
			asm.FnGetCurrentPidTgid.Call(),
			asm.RSh.Imm(asm.R0, 32),
			asm.JNE.Imm(asm.R0, int32(pid), "exit"),
			asm.Mov.Imm(asm.R1, 9),
			asm.FnSendSignal.Call(),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("exit"),
			asm.Return(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("load a BPF program that kills: %w", err)
	}

	attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: tracepoint, Program: program})
	if err != nil {
		program.Close()
		return nil, fmt.Errorf("attach a BPF program that kills: %w", err)
	}

	return func() {
		attached.Close()
		program.Close()
	}, nil
}
