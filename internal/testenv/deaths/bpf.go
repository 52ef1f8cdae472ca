// SPDX-License-Identifier: Apache-2.0

package deaths

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ProgramName is the name of the BPF program that Program attaches.
const ProgramName = "lab_enforcer"

// Helpers of BPF programs (include/uapi/linux/bpf.h).
const (
	getCurrentPIDTGID = 14
	sendSignal        = 109
)

// Program has a BPF program kill a process, as security tools do, at a raw tracepoint:
// sys_enter, or sched_switch, where interrupts are off. It kills until detach is called.
// The system calls are made here, since small machines run this without a library.
func Program(tracepoint string, pid int) (detach func(), err error) {
	instruction := func(code, register, offset, immediate int) uint64 {
		return uint64(code) | uint64(register)<<8 | uint64(offset)<<16 | uint64(uint32(immediate))<<32
	}
	instructions := []uint64{
		instruction(unix.BPF_JMP|unix.BPF_CALL, 0, 0, getCurrentPIDTGID),
		instruction(unix.BPF_ALU64|unix.BPF_RSH, 0, 0, 32),
		instruction(unix.BPF_JMP|unix.BPF_JNE, 0, 2, pid),
		instruction(unix.BPF_ALU64|unix.BPF_MOV, 1, 0, int(unix.SIGKILL)),
		instruction(unix.BPF_JMP|unix.BPF_CALL, 0, 0, sendSignal),
		instruction(unix.BPF_ALU64|unix.BPF_MOV, 0, 0, 0),
		instruction(unix.BPF_JMP|unix.BPF_EXIT, 0, 0, 0),
	}

	license, place := append([]byte("GPL"), 0), append([]byte(tracepoint), 0)

	load := &struct {
		kind, count          uint32
		instructions         *uint64
		license              *byte
		logLevel, logSize    uint32
		log                  uint64
		kernelVersion, flags uint32
		name                 [16]byte
	}{kind: unix.BPF_PROG_TYPE_RAW_TRACEPOINT, count: uint32(len(instructions)), instructions: &instructions[0], license: &license[0]}
	copy(load.name[:], ProgramName)

	var (
		program uintptr
		errno   = unix.EAGAIN
	)
	// The verifier gives up with EAGAIN while a signal is pending (kernel/bpf/verifier.c), as Go's for preemption.
	for tries := 0; errno == unix.EAGAIN && tries < 100; tries++ {
		program, _, errno = unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(load)), unsafe.Sizeof(*load))
	}

	if errno != 0 {
		return nil, fmt.Errorf("load a BPF program that kills: %w", errno)
	}

	open := &struct {
		name *byte
		fd   uint32
		pad  uint32
	}{&place[0], uint32(program), 0}

	attached, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_RAW_TRACEPOINT_OPEN, uintptr(unsafe.Pointer(open)), unsafe.Sizeof(*open))
	if errno != 0 {
		unix.Close(int(program))
		return nil, fmt.Errorf("attach a BPF program that kills: %w", errno)
	}

	runtime.KeepAlive(instructions)
	runtime.KeepAlive(license)
	runtime.KeepAlive(place)

	return func() {
		unix.Close(int(attached))
		unix.Close(int(program))
	}, nil
}
