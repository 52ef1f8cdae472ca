// SPDX-License-Identifier: Apache-2.0

// Package deaths has ways to die of a SIGKILL that no other process sent, for tests of who
// is named as its sender.
package deaths

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// environment is the variable with the way, and with a PID where it takes one.
const environment = "OOMTRACE_TEST_DEATH"

// The ways. A process that takes one prints its PID and waits for SIGUSR1, so that it can
// be moved to a cgroup; then it dies.
const (
	Wait     = "wait"      // until something else kills it
	Timer    = "timer"     // a POSIX timer with SIGEV_SIGNAL
	CPUTimer = "cpu-timer" // the same, of the process's CPU time
	CPULimit = "cpu-limit" // the hard limit of RLIMIT_CPU
	File     = "file"      // F_SETSIG of a pipe that its child writes to
	Sigqueue = "sigqueue"  // sigqueue(3) by its child, with the code of a timer
	Parent   = "parent"    // PR_SET_PDEATHSIG, of a child, whose PID is printed; it dies after a SIGUSR2
)

// What Command does to another process.
const (
	Forge = "forge" // sends SIGKILL by sigqueue(3), with the code of a timer
	Trace = "trace" // attaches with PTRACE_O_EXITKILL, and exits
)

// Command returns a command that takes a way, or kills the process with that PID: this
// program once more, which must call FromEnvironment.
func Command(way string, pid int) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")

	cmd.Env = append(os.Environ(), Variable(way, pid))

	return cmd
}

// Variable returns the environment of such a command: NAME=value.
func Variable(way string, pid int) string { return fmt.Sprintf("%s=%s %d", environment, way, pid) }

// FromEnvironment does what a Command requests, and then does not return.
func FromEnvironment() {
	text, ok := os.LookupEnv(environment)
	if !ok {
		return
	}

	var (
		way string
		pid int
	)

	_, err := fmt.Sscan(text, &way, &pid)
	must(err)

	switch way {
	case Forge:
		forge(pid)
		os.Exit(0)
	case Trace:
		trace(pid)
		os.Exit(0)
	}

	ways := map[string]func(){
		Wait: wait, Timer: timer(unix.CLOCK_MONOTONIC), CPUTimer: timer(unix.CLOCK_PROCESS_CPUTIME_ID),
		CPULimit: cpuLimit, File: file, Sigqueue: sigqueue, Parent: parent,
	}

	die, ok := ways[way]
	if !ok {
		must(fmt.Errorf("there is no way %s", way))
	}

	request := make(chan os.Signal, 1)
	signal.Notify(request, unix.SIGUSR1)
	fmt.Println(os.Getpid())
	<-request
	die()

	select {}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "death:", err)
		os.Exit(1)
	}
}

func sys(trap uintptr, args ...uintptr) {
	var a [6]uintptr
	copy(a[:], args)

	if _, _, errno := unix.Syscall6(trap, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		must(errno)
	}
}

func spin() {
	for {
	}
}

// wait makes system calls forever. A BPF program that kills at one of them may miss a few:
// the kernel skips it while a task that was preempted inside of it is on the same CPU.
func wait() {
	for {
		time.Sleep(10 * time.Millisecond)
	}
}

// timer returns a way that sets a timer of 20 ms.
func timer(clock uintptr) func() {
	return func() {
		event := struct {
			value  uint64
			signal int32
			notify int32 // SIGEV_SIGNAL
			rest   [48]byte
		}{signal: int32(unix.SIGKILL)}

		var id int32

		sys(unix.SYS_TIMER_CREATE, clock, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&id)))

		when := [2]unix.Timespec{1: {Nsec: 20e6}}
		sys(unix.SYS_TIMER_SETTIME, uintptr(id), 0, uintptr(unsafe.Pointer(&when)))

		if clock == unix.CLOCK_PROCESS_CPUTIME_ID {
			spin()
		}
	}
}

func cpuLimit() {
	must(unix.Setrlimit(unix.RLIMIT_CPU, &unix.Rlimit{Cur: 1, Max: 1}))
	spin()
}

// file has the kernel send SIGKILL when a pipe is readable, which its child, a shell, makes
// it.
func file() {
	var ends [2]int

	must(unix.Pipe(ends[:]))

	for _, set := range [][2]int{{unix.F_SETOWN, os.Getpid()}, {unix.F_SETSIG, int(unix.SIGKILL)}, {unix.F_SETFL, unix.O_ASYNC}} {
		_, err := unix.FcntlInt(uintptr(ends[0]), set[0], set[1])
		must(err)
	}

	writer := exec.Command("/bin/sh", "-c", "echo")
	writer.Stdout = os.NewFile(uintptr(ends[1]), "pipe")
	_ = writer.Run()
}

// sigqueue has a child pretend that its SIGKILL is that of a timer.
func sigqueue() { _ = Command(Forge, os.Getpid()).Run() }

func forge(pid int) {
	info := struct {
		signal, errno, code int32
		rest                [116]byte
	}{signal: int32(unix.SIGKILL), code: -2} // SI_TIMER
	sys(unix.SYS_RT_SIGQUEUEINFO, uintptr(pid), uintptr(unix.SIGKILL), uintptr(unsafe.Pointer(&info)))
}

// parent starts a child, prints its PID, and exits at SIGUSR2: the child dies.
func parent() {
	// The signal is sent at the exit of the thread that forked.
	runtime.LockOSThread()

	child := exec.Command("/bin/sleep", "100")
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}

	exit := make(chan os.Signal, 1)
	signal.Notify(exit, unix.SIGUSR2)
	must(child.Start())
	fmt.Println(child.Process.Pid)
	<-exit
	os.Exit(0)
}

func trace(pid int) {
	const exitKill = 0x100000 // PTRACE_O_EXITKILL

	runtime.LockOSThread() // the tracer is a thread
	sys(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, exitKill)
}
