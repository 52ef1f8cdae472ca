// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv/deaths"
	"github.com/oomtrace/oomtrace/test/internal/must"
	"github.com/oomtrace/oomtrace/test/internal/qemu"
	"github.com/oomtrace/oomtrace/test/internal/trace"
)

// oomtrace is on the second disk of the machine.
const oomtrace = "/lab/oomtrace"

// KillersResult is what a guest sends of one boot.
type KillersResult struct {
	Kernel   string    `json:"kernel"`
	Attempts []Attempt `json:"attempts"`
	// Tracers are what was traced, by attach mode.
	Tracers map[events.Tier]KillersTracer `json:"tracers"`
}

// KillersTracer is what one oomtrace reported.
type KillersTracer struct {
	Lines  []string `json:"lines"`
	Stderr string   `json:"stderr,omitempty"`
	Failed string   `json:"failed,omitempty"` // how it ended, if not well
}

// killersTiers are the attach modes in which all kills are traced at the same time.
var killersTiers = []events.Tier{events.TierFentry, events.TierKprobe, events.TierTracepoint}

// Attempt is what one killer did.
type Attempt struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"` // why it could not be done
	// PID is the process that is to die, Unit its service.
	PID    int    `json:"pid"`
	Unit   string `json:"unit"`
	Killed bool   `json:"killed"`
	// Journal has what the killer logged.
	Journal []string `json:"journal,omitempty"`
}

// RunKillers runs the killers of lab.cases while oomtrace traces them in all attach modes.
func RunKillers() error {
	result := KillersResult{Kernel: release(), Tracers: map[events.Tier]KillersTracer{}}
	tracers := map[events.Tier]*trace.Process{}

	for _, tier := range killersTiers {
		p, err := trace.Start(oomtrace, "/tmp", "trace-"+string(tier), "--tier", string(tier))
		if err != nil {
			return err
		}

		tracers[tier] = p
	}

	for _, p := range tracers {
		if err := p.WaitReady(4 * time.Minute); err != nil {
			return err
		}
	}

	names := qemu.BootList("lab.cases")
	for i := range Killers {
		if k := &Killers[i]; slices.Contains(names, k.Name) {
			fmt.Println(qemu.MarkCase, k.Name)
			result.Attempts = append(result.Attempts, k.attempt())
		}
	}

	time.Sleep(2 * time.Second) // for what oomtrace learns later

	for tier, p := range tracers {
		var t KillersTracer
		if err := p.Stop(); err != nil {
			t.Failed = err.Error()
		}

		t.Lines, t.Stderr = p.Lines(), p.Stderr()
		result.Tracers[tier] = t
	}

	return qemu.Send(os.Stdout, result)
}

func release() string {
	var uname unix.Utsname
	_ = unix.Uname(&uname)

	return unix.ByteSliceToString(uname.Release[:])
}

// attempt starts a target, and has it killed.
func (k *Killer) attempt() (a Attempt) {
	a = Attempt{Name: k.Name, Unit: "lab-" + k.Name + ".service"}

	defer func() {
		if err := must.Failed(recover()); err != nil {
			a.Error = err.Error()
		}

		_ = exec.Command("systemctl", "kill", "--signal=KILL", a.Unit).Run()
		_ = exec.Command("systemctl", "reset-failed", a.Unit).Run()
	}()

	since := time.Now()

	if k.prepare != nil {
		k.prepare()
	}

	a.startTarget(k.die, k.properties, k.args)
	time.Sleep(300 * time.Millisecond) // systemd-run ends
	k.do(&a)

	a.Killed = waitFor(max(k.limit, usualLimit), a.gone)
	if k.journal != "" {
		a.Journal = journal(k.journal, since)
	}

	return a
}

// startTarget starts the target as a service of systemd.
func (a *Attempt) startTarget(die string, properties, args []string) {
	call := []string{"systemd-run", "--quiet", "--unit=" + a.Unit}
	if die != "" {
		call = append(call, "--setenv="+deaths.Variable(die, 0))
	}

	for _, p := range properties {
		call = append(call, "--property="+p)
	}

	if len(args) == 0 {
		args = []string{"1"}
	}

	run(append(append(call, "/lab/guest", "target"), args...)...)

	ok := waitFor(20*time.Second, func() bool {
		text, _ := exec.Command("systemctl", "show", "--property=MainPID", "--value", a.Unit).Output()
		a.PID, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", a.PID))

		return a.PID > 0 && strings.TrimSpace(string(comm)) == "guest"
	})
	if !ok {
		must.OK("wait for "+a.Unit, os.ErrDeadlineExceeded)
	}
}

// signaled sends the target SIGUSR1, which it ignores until it expects the signal, and
// reports whether the target is dead.
func (a *Attempt) signaled() bool {
	_ = unix.Kill(a.PID, unix.SIGUSR1)
	return a.gone()
}

// child has the target start its child, and returns the child's PID. Package os has another
// child before, for a moment, to learn what the kernel can do.
func (a *Attempt) child() (pid int) {
	ok := waitFor(usualLimit, func() bool {
		_ = unix.Kill(a.PID, unix.SIGUSR1)

		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", a.PID))
		for _, thread := range threads { // any of them may have forked
			text, _ := os.ReadFile(thread)
			pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))

			if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(comm)) == "sleep" {
				return true
			}
		}

		return false
	})
	if !ok {
		must.OK("wait for the child of "+a.Unit, os.ErrDeadlineExceeded)
	}

	return pid
}

// gone reports whether the target is dead.
func (a *Attempt) gone() bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.PID))
	if err != nil {
		return true
	}

	_, state, _ := strings.Cut(string(text), ") ")

	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}

func (a *Attempt) cgroupFile(file string) string {
	return filepath.Join("/sys/fs/cgroup/system.slice", a.Unit, file)
}

func journal(unit string, since time.Time) []string {
	from := fmt.Sprintf("--since=@%d", since.Unix())
	text, _ := exec.Command("journalctl", "--no-pager", "--output=cat", "--unit="+unit, from).Output()

	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func waitFor(limit time.Duration, done func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return true
		}
	}

	return false
}

// run runs a command, which must succeed.
func run(command ...string) {
	text, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, text)
	}

	must.OK(strings.Join(command, " "), err)
}

func compressedSwap() {
	run("sh", "-ec", "modprobe zram; echo 512M > /sys/block/zram0/disksize; mkswap /dev/zram0; swapon /dev/zram0")
}

// login opens a session as a person does, on a terminal, and types a command.
func login(command string) {
	cmd := exec.Command("login", "-f", "lab")
	cmd.Env = []string{"TERM=dumb"}
	terminal, err := pty.Start(cmd)
	must.OK("log in", err)

	defer terminal.Close()

	screen := make(chan string, 1)
	done := make(chan struct{})

	go func() {
		cmd.Wait()
		close(done)
	}()
	go func() {
		var all strings.Builder

		buf := make([]byte, 4096)
		for {
			n, err := terminal.Read(buf)
			all.Write(buf[:n])

			if err == nil {
				continue
			}

			// login hangs the terminal up once, to be alone on it.
			select {
			case <-done:
				screen <- all.String()
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()

	time.Sleep(3 * time.Second) // pam_systemd registers the session
	// The session ends only after oomtrace has read about it.
	_, err = fmt.Fprintf(terminal, "%s; echo done-$((40+2)); sleep 5; exit\n", command)
	must.OK("type", err)

	select {
	case <-done:
	case <-time.After(30 * time.Second):
		cmd.Process.Kill()
	}

	if text := <-screen; !strings.Contains(text, "done-42") {
		must.OK("run in the session", fmt.Errorf("it did not finish: %q", text))
	}
}

// RunTarget is the process that is killed: it takes so many MiB, and ignores SIGTERM. It
// takes them "slowly", or touches them "again" and again.
func RunTarget(args []string) {
	signal.Ignore(syscall.SIGTERM)

	mib, _ := strconv.Atoi(args[0])
	how := strings.Join(args[1:], "")

	var blocks [][]byte

	touch := func(block []byte) {
		for i := 0; i < len(block); i += 4096 {
			block[i]++
		}
	}

	for i := range mib {
		blocks = append(blocks, make([]byte, 1<<20))
		touch(blocks[i])

		if how == "slowly" && i%8 == 0 {
			time.Sleep(20 * time.Millisecond)
		}
	}

	for how == "again" {
		for _, block := range blocks {
			touch(block)
		}
	}

	for {
		time.Sleep(100 * time.Millisecond) // a program that kills at system calls needs some
	}
}
