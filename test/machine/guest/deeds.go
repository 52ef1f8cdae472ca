// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/creack/pty"

	"github.com/oomtrace/oomtrace/test/lab"
)

// deed is one way to kill a service.
type deed struct {
	name       string
	properties []string // of the service
	args       []string // of the target
	before     func()   // the target is started; nil: nothing
	do         func(*lab.Deed)
	seconds    int    // how long it may take; 0: 20
	journal    string // unit of the one who may write about it
}

func (d deed) patience() time.Duration {
	if d.seconds > 0 {
		return time.Duration(d.seconds) * time.Second
	}

	return 20 * time.Second
}

// deeds; what must be said of each is in ../expect.go.
var deeds = []deed{
	{name: "shell", properties: []string{"User=lab"}, do: func(d *lab.Deed) { login(fmt.Sprintf("kill -9 %d", d.PID)) }},
	{name: "sudo", do: func(d *lab.Deed) { login(fmt.Sprintf("sudo kill -9 %d", d.PID)) }},
	{name: "cgroup-kill", do: func(d *lab.Deed) {
		login("echo 1 | sudo tee " + cgroupFile(d.Unit, "cgroup.kill"))
	}},
	{name: "unit-stop", properties: []string{"TimeoutStopSec=1"}, do: func(d *lab.Deed) {
		check("stopping", exec.Command("systemctl", "stop", d.Unit).Run())
	}},
	{name: "self", do: func(d *lab.Deed) {
		// From inside of the same service.
		sh := exec.Command("sh", "-c", fmt.Sprintf("echo $$ > %s; kill -9 %d", cgroupFile(d.Unit, "cgroup.procs"), d.PID))
		check("killing", sh.Run())
	}},
	{name: "earlyoom", args: []string{"700", "slowly"}, seconds: 90, journal: "lab-earlyoom-daemon.service", do: func(d *lab.Deed) {
		text, err := exec.Command("systemd-run", "--quiet", "--unit=lab-earlyoom-daemon.service", "--property=OOMScoreAdjust=-100",
			"/usr/bin/earlyoom", "-r", "0", "-m", "70,68", "-s", "100,100").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, text)
		}

		check("starting earlyoom", err)
		waitFor(90*time.Second, func() bool { return gone(d.PID) })
		check("stopping earlyoom", exec.Command("systemctl", "stop", "lab-earlyoom-daemon.service").Run())
	}},
	{
		name: "systemd-oomd", args: []string{"150", "again"}, seconds: 150, journal: "systemd-oomd.service",
		// It kills what is below a cgroup that it watches, if pages are scanned there:
		// there must be swap.
		before:     swap,
		properties: []string{"Slice=lab.slice", "MemoryHigh=40M"},
		do: func(*lab.Deed) {
			check("letting systemd-oomd watch", exec.Command("systemctl", "set-property", "--runtime", "lab.slice",
				"ManagedOOMMemoryPressure=kill", "ManagedOOMMemoryPressureLimit=1%").Run())
		},
	},
	{name: "cron", seconds: 130, do: func(d *lab.Deed) {
		job := fmt.Sprintf("* * * * * root kill -9 %d\n", d.PID)
		check("writing a job", os.WriteFile("/etc/cron.d/lab", []byte(job), 0o644))
		waitFor(125*time.Second, func() bool { return gone(d.PID) })
		os.Remove("/etc/cron.d/lab")
	}},
	{name: "oom", properties: []string{"MemoryMax=40M", "MemorySwapMax=0"}, args: []string{"100", "slowly"}, do: func(*lab.Deed) {}},
}

// swap gives the machine compressed swap.
func swap() {
	check("swap", exec.Command("sh", "-ec", "modprobe zram; echo 512M > /sys/block/zram0/disksize; mkswap /dev/zram0; swapon /dev/zram0").Run())
}

// login opens a session as a person does, on a terminal, and types a command.
func login(command string) {
	cmd := exec.Command("login", "-f", "lab")
	cmd.Env = []string{"TERM=dumb"}
	terminal, err := pty.Start(cmd)
	check("logging in", err)

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
	_, err = fmt.Fprintf(terminal, "%s; echo done-$((40+2)); sleep 1; exit\n", command)
	check("typing", err)

	select {
	case <-done:
	case <-time.After(30 * time.Second):
		cmd.Process.Kill()
	}

	text := <-screen
	if !strings.Contains(text, "done-42") {
		check("the session", fmt.Errorf("%q", text))
	}
}

func signalIgnoreTerm() { signal.Ignore(syscall.SIGTERM) }

// kept holds the memory of a target.
var kept [][]byte

func grow(mib int) {
	block := make([]byte, mib<<20)
	for i := 0; i < len(block); i += 4096 {
		block[i] = byte(i>>12) | 1
	}
	kept = append(kept, block)
}

// touch needs all of it again.
func touch() {
	for _, block := range kept {
		for i := 0; i < len(block); i += 4096 {
			block[i]++
		}
	}
}
