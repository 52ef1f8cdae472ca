// SPDX-License-Identifier: Apache-2.0

// Command guest lets everybody who kills on a node kill a service, in a machine with
// a whole Debian, while a tracer watches. It is started by the machine's systemd.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/test/lab"
)

func main() {
	if len(os.Args) > 1 {
		target(os.Args[1:])
	}

	fmt.Println(lab.MarkStart)

	if err := run(); err != nil {
		fmt.Println("guest:", err)
		os.Exit(1)
	}
}

// target is what gets killed: it takes so many MiB, and does not listen to SIGTERM.
func target(args []string) {
	signalIgnoreTerm()
	mib, _ := strconv.Atoi(args[0])
	how := strings.Join(args[1:], "")

	for i := range mib {
		grow(1)

		if how == "slowly" && i%8 == 0 {
			time.Sleep(20 * time.Millisecond)
		}
	}

	for how == "again" {
		touch()
	}

	for {
		time.Sleep(time.Hour)
	}
}

const traceOut, traceErr, ready = "/tmp/trace.json", "/tmp/trace.err", "/tmp/trace.ready"

func run() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}

	kernel := unix.ByteSliceToString(name.Release[:])
	if driver := bootOption("lab.pods"); driver != "" {
		return pods(kernel, driver, wantedDeeds())
	}
	result := lab.Deeds{Kernel: kernel}

	out, err := os.Create(traceOut)
	if err != nil {
		return err
	}

	errs, err := os.Create(traceErr)
	if err != nil {
		return err
	}
	tracer := exec.Command("/lab/oomtrace", "trace", "-o", "json", "--ready-file", ready)

	tracer.Stdout, tracer.Stderr = out, errs
	if err := tracer.Start(); err != nil {
		return fmt.Errorf("starting oomtrace: %w", err)
	}

	if !waitFor(90*time.Second, func() bool { _, err := os.Stat(ready); return err == nil }) {
		text, _ := os.ReadFile(traceErr)
		return fmt.Errorf("oomtrace is not ready after 90 s: %s", text)
	}

	wanted := wantedDeeds()
	for _, d := range deeds {
		if len(wanted) > 0 && !slices.Contains(wanted, d.name) {
			continue
		}

		fmt.Println(lab.MarkCase, d.name)
		result.Deeds = append(result.Deeds, do(d))
	}

	time.Sleep(2 * time.Second) // for what the tracer learns later
	tracer.Process.Signal(syscall.SIGTERM)
	result.ExitOK = tracer.Wait() == nil
	text, _ := os.ReadFile(traceOut)
	result.Lines = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	text, _ = os.ReadFile(traceErr)
	result.Stderr = string(text)

	return lab.Send(os.Stdout, result)
}

func wantedDeeds() []string {
	if names := bootOption("lab.cases"); names != "" {
		return strings.Split(names, ",")
	}

	return nil
}

// bootOption is the value of a word on the kernel's command line.
func bootOption(name string) string {
	text, _ := os.ReadFile("/proc/cmdline")
	for word := range strings.FieldsSeq(string(text)) {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value
		}
	}

	return ""
}

func waitFor(patience time.Duration, done func() bool) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return true
		}
	}

	return false
}

// do plays a deed. What goes wrong in it panics with a failure.
func do(d deed) (result lab.Deed) {
	result = lab.Deed{Name: d.name, Unit: "lab-" + d.name + ".service"}

	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(failure)
			if !ok {
				panic(r)
			}
			result.Error = f.Error()
		}
		_ = exec.Command("systemctl", "kill", "--signal=KILL", result.Unit).Run()
		_ = exec.Command("systemctl", "reset-failed", result.Unit).Run()
	}()
	since := time.Now()

	if d.before != nil {
		d.before()
	}
	result.PID = service(result.Unit, d.properties, d.args...)

	time.Sleep(300 * time.Millisecond) // whoever starts it is done
	d.do(&result)

	result.Killed = waitFor(d.patience(), func() bool { return gone(result.PID) })
	if d.journal != "" {
		result.Said = journal(d.journal, since)
	}

	return result
}

type failure struct{ error }

func check(what string, err error) {
	if err != nil {
		panic(failure{fmt.Errorf("%s: %w", what, err)})
	}
}

// service starts a target as a service of systemd, and returns its pid.
func service(unit string, properties []string, args ...string) int {
	call := []string{"--quiet", "--unit=" + unit}
	for _, p := range properties {
		call = append(call, "--property="+p)
	}

	call = append(call, "/lab/guest")

	if len(args) == 0 {
		args = []string{"1"}
	}

	text, err := exec.Command("systemd-run", append(call, args...)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, text)
	}

	check("starting "+unit, err)

	return mainPID(unit)
}

func mainPID(unit string) (pid int) {
	ok := waitFor(20*time.Second, func() bool {
		text, _ := exec.Command("systemctl", "show", "--property=MainPID", "--value", unit).Output()
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))

		return pid > 0 && strings.TrimSpace(string(comm)) == "guest"
	})
	if !ok {
		check("waiting for "+unit, os.ErrDeadlineExceeded)
	}

	return pid
}

func gone(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(text), ") ")

	return strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
}

func journal(unit string, since time.Time) []string {
	text, _ := exec.Command("journalctl", "--no-pager", "--output=cat", "--unit="+unit, fmt.Sprintf("--since=@%d", since.Unix())).Output()
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func cgroupFile(unit, file string) string {
	return filepath.Join("/sys/fs/cgroup/system.slice", unit, file)
}
