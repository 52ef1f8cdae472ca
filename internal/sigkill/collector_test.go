// SPDX-License-Identifier: Apache-2.0

package sigkill

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/kubelet"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// fakeProc is a /proc with processes in it.
type fakeProc struct {
	t    *testing.T
	root string
}

func newProc(t *testing.T) fakeProc { return fakeProc{t, t.TempDir()} }

func (p fakeProc) add(pid, parent int, comm, exe, cgroup string, tty int, startTicks uint64, environ ...string) {
	p.t.Helper()

	dir := filepath.Join(p.root, strconv.Itoa(pid))
	if err := os.Mkdir(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}

	stat := fmt.Sprintf("%d (%s) S %d 1 1 %d 0 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", pid, comm, parent, tty, startTicks)
	for name, text := range map[string]string{
		"stat": stat, "cgroup": cgroup, "cmdline": exe + "\x00-9\x00" + strings.Repeat("x", 4096),
		"environ": strings.Join(environ, "\x00") + "\x00",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}

	if err := os.Symlink(exe, filepath.Join(dir, "exe")); err != nil {
		p.t.Fatal(err)
	}
}

// drain waits until all queued senders have been read, and closes the collector.
func drain(c *Collector) {
	for len(c.queue) > 0 {
		time.Sleep(time.Millisecond)
	}

	c.Close()
}

func TestTheLineageIsFollowedInProc(t *testing.T) {
	p := newProc(t)
	const sessionScope = "1:name=systemd:/user.slice/user-1000.slice/session-3.scope\n0::/\n"
	// kill and its sudo have exited; the shell that ran them has called execve since;
	// the ancestors above are still running.
	p.add(750, 700, "sleep", "/usr/bin/sleep", sessionScope, 136<<8|3, 60)
	p.add(700, 600, "ba) S 1 (sh", "/usr/bin/bash", sessionScope, 136<<8|3, 50, "SUDO_USER=ada", "X=1")
	p.add(600, 500, "sshd", "/usr/sbin/sshd", sessionScope, 0, 40)
	p.add(500, 1, "sshd", "/usr/sbin/sshd", "0::/system.slice/ssh.service\n", 0, 30)
	p.add(1, 0, "systemd", "/usr/lib/systemd/systemd", "0::/init.scope\n", 0, 1)
	p.add(900, 1, "other", "/bin/other", "", 0, 10_100) // reuses the PID of kill

	passwd := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(passwd, []byte("root:x:0:0::/:/bin/sh\nada:x:1000:1000::/:/bin/sh\nbroken\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := NewCollector(Options{Proc: p.root, Passwd: passwd})
	f := facts(by("kill", ""))
	k := f.Kill
	k.Sender = &kernel.Sender{
		Exe:           "kill",
		Ancestors:     []kernel.ProcessName{{TGID: 800, Comm: "sudo"}, {TGID: 750, Comm: "sh"}, {TGID: 700, Comm: "ba) S 1 (sh"}},
		MoreAncestors: true, LoginKnown: true, LoginUID: 1000,
	}
	c.Saw(k, f.From, f.To)
	drain(c)
	got := c.Killer(k, f.From, f.To)

	var names []string
	for _, a := range got.Ancestry {
		names = append(names, fmt.Sprintf("%s[%d]%s", a.Comm, a.PID, a.Exe))
	}

	want := []string{"sudo[800]", "sh[750]", "ba) S 1 (sh[700]/usr/bin/bash", "sshd[600]/usr/sbin/sshd", "sshd[500]/usr/sbin/sshd", "systemd[1]/usr/lib/systemd/systemd"}
	if !slices.Equal(names, want) {
		t.Errorf("got ancestry %q, want %q", names, want)
	}

	if got.Exe != "kill" {
		t.Errorf("got exe %q, want kill", got.Exe)
	}

	login := events.Login{Session: "3", TTY: "pts/3", User: "ada", SudoUser: "ada"}
	if got.Path != events.PathHuman || got.Login == nil || *got.Login != login {
		t.Errorf("got path %s, login %+v, want %s, %+v", got.Path, got.Login, events.PathHuman, login)
	}

	for _, e := range got.Evidence {
		if len(e.Value) > 2*maxCommand {
			t.Errorf("got %d bytes of %s, want at most %d", len(e.Value), e.What, 2*maxCommand)
		}
	}
}

// TestProcessesOfAnotherNamespaceAreNotRead: /proc has another process under the sender's PID.
func TestProcessesOfAnotherNamespaceAreNotRead(t *testing.T) {
	p := newProc(t)
	p.add(900, 1, "kill", "/bin/other", "0::/user.slice/user-1000.slice/session-3.scope\n", 136<<8|3, 50)

	for hidden, want := range map[bool]string{true: events.PathOther, false: events.PathHuman} {
		c := NewCollector(Options{Proc: p.root, ProcessesHidden: hidden})
		f := facts(by("kill", ""))
		k := f.Kill
		k.Sender = &kernel.Sender{Exe: "kill"}
		c.Saw(k, f.From, f.To)
		drain(c)

		if got := c.Killer(k, f.From, f.To); got.Path != want || hidden && (got.Exe != "kill" || got.Login != nil) {
			t.Errorf("hidden %v: got path %s, exe %s, login %+v, want %s, and nothing of /proc if hidden", hidden, got.Path, got.Exe, got.Login, want)
		}
	}
}

func TestSamplesAreBounded(t *testing.T) {
	p := newProc(t)
	c := NewCollector(Options{Proc: p.root})

	for i := range uint32(5 * maxSamples) {
		k := facts(pid(int(1000 + i))).Kill
		c.Saw(k, events.Process{}, events.Process{})
		c.Saw(k, events.Process{}, events.Process{}) // the same sender within freshNS: one sample
	}

	drain(c)

	if len(c.samples) > maxSamples || len(c.order) > maxSamples {
		t.Errorf("got %d samples, %d in order, want at most %d", len(c.samples), len(c.order), maxSamples)
	}

	if k := c.Killer(facts().Kill, events.Process{}, events.Process{}); k.Path != events.PathOther {
		t.Errorf("got path %s of a sender without a sample, want %s", k.Path, events.PathOther)
	}
}

// TestCloseEndsTheGoroutine: Close returns after the goroutine has ended, also with a
// full queue.
func TestCloseEndsTheGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	c := NewCollector(Options{})

	for i := range uint32(maxSamples) {
		c.Saw(facts(pid(int(i+1))).Kill, events.Process{}, events.Process{})
	}

	c.Close()

	// A goroutine that has called WaitGroup.Done is counted until it is scheduled away.
	for end := time.Now().Add(time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}

	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("got %d goroutines after Close, want %d", after, before)
	}
}

func TestAncestryEnds(t *testing.T) {
	p := newProc(t)
	for i := range 40 { // deeper than maxAncestors
		p.add(1000+i, 1001+i, "sh", "/bin/sh", "", 0, 1)
	}

	p.add(2000, 2001, "a", "/bin/a", "", 0, 1)
	p.add(2001, 2000, "b", "/bin/b", "", 0, 1) // a cycle, as reused PIDs can make it seem

	for _, first := range []uint32{1000, 2000} {
		c := NewCollector(Options{Proc: p.root})
		k := facts().Kill
		k.Sender = &kernel.Sender{Ancestors: []kernel.ProcessName{{TGID: first, Comm: "sh"}}, MoreAncestors: true}
		c.Saw(k, events.Process{}, events.Process{})
		drain(c)

		if n := len(c.Killer(k, events.Process{}, events.Process{}).Ancestry); n != maxAncestors {
			t.Errorf("from %d: got %d ancestors, want %d", first, n, maxAncestors)
		}
	}
}

func TestTerminalsAreNamed(t *testing.T) {
	for device, want := range map[uint64]string{0: "", 136<<8 | 3: "pts/3", 137<<8 | 1: "pts/257", 4<<8 | 1: "tty1", 4<<8 | 64: "ttyS0", 5<<8 | 1: "tty 5:1"} {
		if got := ttyName(device); got != want {
			t.Errorf("%#x: got %q, want %q", device, got, want)
		}
	}
}

// TestThisProcessIsRead reads this process from the real /proc.
func TestThisProcessIsRead(t *testing.T) {
	got, parent, ok := proc{root: "/proc"}.process(os.Getpid(), 1<<62)

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	if !ok || parent != os.Getppid() || got.Exe != exe || len(got.Command) == 0 || len(got.Cgroups) == 0 {
		t.Errorf("got %+v, parent %d, %v, want this process with exe %s", got, parent, ok, exe)
	}

	if _, _, ok := (proc{root: "/proc"}).process(os.Getpid(), 1); ok {
		t.Error("got a process that started after the signal, want none")
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (a b) S 0 1 1 34816 0 0 0 0 0 0 0 0 0 0 20 0 1 0 12 0"))
	f.Add([]byte("1 ()) ) S"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, ok := parseStat(text); ok && len(s.comm) > len(text) {
			t.Errorf("got a name of %d bytes, want at most %d", len(s.comm), len(text))
		}
	})
}

func TestTheMarkOfOOMDIsFound(t *testing.T) {
	mount := t.TempDir()
	if err := os.MkdirAll(filepath.Join(mount, "system.slice/db.service/worker"), 0o755); err != nil {
		t.Fatal(err)
	}

	if err := unix.Setxattr(filepath.Join(mount, "system.slice/db.service"), "user.oomd_kill", []byte("12"), 0); err != nil {
		testenv.Lacks(t, fmt.Sprintf("this test needs extended attributes of users in %s: %v", mount, err))
	}

	for cgroup, want := range map[string]string{
		"/system.slice/db.service": "12", "/system.slice/db.service/worker": "12", "/system.slice": "", "/gone/x": "", "/": "", "": "",
	} {
		if got := oomdKills(mount, cgroup); got != want {
			t.Errorf("%s: got %q, want %q", cgroup, got, want)
		}
	}
}

// TestKubeletLinesAreOfPodsOnly: the log is read for pods only, at the instant of the
// SIGKILL.
func TestKubeletLinesAreOfPodsOnly(t *testing.T) {
	log := &fakeLog{}

	c := NewCollector(Options{Proc: t.TempDir(), Kubelet: log})
	defer c.Close()

	f := facts(by("runc", ""))
	if k := c.Killer(f.Kill, f.From, f.To); k.Reason != events.ReasonDelete || log.at != f.Kill.BootNS {
		t.Errorf("got reason %q at %d, want %q at %d", k.Reason, log.at, events.ReasonDelete, f.Kill.BootNS)
	}
	log.at = 0

	c.Killer(f.Kill, f.From, events.Process{Workload: &events.Workload{Unit: "db.service"}})

	if log.at != 0 {
		t.Error("got a query about a service, want none")
	}
}

type fakeLog struct{ at uint64 }

func (l *fakeLog) About(_ *events.Workload, bootNS uint64) []kubelet.Finding {
	l.at = bootNS
	return []kubelet.Finding{{What: kubelet.FoundDeleted, Pod: "shop/a", Text: "SyncLoop DELETE"}}
}

// BenchmarkSaw measures the cost of a SIGKILL for the reader of records.
func BenchmarkSaw(b *testing.B) {
	c := NewCollector(Options{Proc: b.TempDir()})
	defer c.Close()

	k := facts().Kill
	for b.Loop() {
		k.Current.TGID++
		c.Saw(k, events.Process{}, events.Process{})
	}
}

// BenchmarkProcess measures the cost of reading one process.
func BenchmarkProcess(b *testing.B) {
	for b.Loop() {
		proc{root: "/proc"}.process(os.Getpid(), 1<<62)
	}
}
