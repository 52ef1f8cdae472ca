// SPDX-License-Identifier: Apache-2.0

package sigkill

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
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

// done waits until what was seen has been looked at.
func (w *Watch) looked() {
	w.Close()
	<-w.done
}

func TestWatchFollowsTheLineage(t *testing.T) {
	p := newProc(t)
	const sessionScope = "1:name=systemd:/user.slice/user-1000.slice/session-3.scope\n0::/\n"
	// kill is gone, and so is its sudo; the shell that ran it has become another
	// program; what is above is there.
	p.add(750, 700, "sleep", "/usr/bin/sleep", sessionScope, 136<<8|3, 60)
	p.add(700, 600, "ba) S 1 (sh", "/usr/bin/bash", sessionScope, 136<<8|3, 50, "SUDO_USER=ada", "X=1")
	p.add(600, 500, "sshd", "/usr/sbin/sshd", sessionScope, 0, 40)
	p.add(500, 1, "sshd", "/usr/sbin/sshd", "0::/system.slice/ssh.service\n", 0, 30)
	p.add(1, 0, "systemd", "/usr/lib/systemd/systemd", "0::/init.scope\n", 0, 1)
	p.add(900, 1, "other", "/bin/other", "", 0, 10_100) // has the pid of kill by now

	passwd := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(passwd, []byte("root:x:0:0::/:/bin/sh\nada:x:1000:1000::/:/bin/sh\nbroken\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w := NewWatch(Options{Proc: p.root, Passwd: passwd})
	f := facts(by("kill", ""))
	k := f.Kill
	k.Sender = &kernel.Sender{
		Exe:           "kill",
		Ancestors:     []kernel.ProcessName{{TGID: 800, Comm: "sudo"}, {TGID: 750, Comm: "sh"}, {TGID: 700, Comm: "ba) S 1 (sh"}},
		MoreAncestors: true, LoginKnown: true, LoginUID: 1000,
	}
	w.Saw(k, f.From, f.To)
	w.looked()
	got := w.Killer(k, f.From, f.To)

	var names []string
	for _, a := range got.Ancestry {
		names = append(names, fmt.Sprintf("%s[%d]%s", a.Comm, a.PID, a.Exe))
	}

	want := []string{"sudo[800]", "sh[750]", "ba) S 1 (sh[700]/usr/bin/bash", "sshd[600]/usr/sbin/sshd", "sshd[500]/usr/sbin/sshd", "systemd[1]/usr/lib/systemd/systemd"}
	if !slices.Equal(names, want) {
		t.Errorf("ancestry %q", names)
	}

	if got.Exe != "kill" {
		t.Errorf("exe %q", got.Exe)
	}

	if got.Path != PathHuman || got.Login == nil || *got.Login != (events.Login{Session: "3", TTY: "pts/3", User: "ada", SudoUser: "ada"}) {
		t.Errorf("%s, login %+v", got.Path, got.Login)
	}

	for _, e := range got.Evidence {
		if len(e.Value) > 2*maxCommand {
			t.Errorf("%s has %d bytes", e.What, len(e.Value))
		}
	}
}

func TestWatchIsBounded(t *testing.T) {
	p := newProc(t)
	w := NewWatch(Options{Proc: p.root})

	for i := range uint32(5 * maxLooks) {
		k := facts(pid(int(1000 + i))).Kill
		w.Saw(k, events.Process{}, events.Process{})
		w.Saw(k, events.Process{}, events.Process{}) // the same sender, at once: one look
	}

	w.looked()

	if len(w.looks) > maxLooks || len(w.order) > maxLooks {
		t.Errorf("%d looks, %d in order", len(w.looks), len(w.order))
	}

	if k := w.Killer(facts().Kill, events.Process{}, events.Process{}); k.Path != PathOther {
		t.Errorf("%+v", k)
	}
}

func TestAncestryEnds(t *testing.T) {
	p := newProc(t)
	for i := range 40 { // deeper than is looked
		p.add(1000+i, 1001+i, "sh", "/bin/sh", "", 0, 1)
	}

	p.add(2000, 2001, "a", "/bin/a", "", 0, 1)
	p.add(2001, 2000, "b", "/bin/b", "", 0, 1) // a ring, as /proc may show while pids are reused

	for _, first := range []uint32{1000, 2000} {
		w := NewWatch(Options{Proc: p.root})
		k := facts().Kill
		k.Sender = &kernel.Sender{Ancestors: []kernel.ProcessName{{TGID: first, Comm: "sh"}}, MoreAncestors: true}
		w.Saw(k, events.Process{}, events.Process{})
		w.looked()

		if n := len(w.Killer(k, events.Process{}, events.Process{}).Ancestry); n != maxAncestors {
			t.Errorf("from %d: %d ancestors", first, n)
		}
	}
}

func TestTTYName(t *testing.T) {
	for device, want := range map[uint64]string{0: "", 136<<8 | 3: "pts/3", 137<<8 | 1: "pts/257", 4<<8 | 1: "tty1", 4<<8 | 64: "ttyS0", 5<<8 | 1: "tty 5:1"} {
		if got := ttyName(device); got != want {
			t.Errorf("%#x: %q, want %q", device, got, want)
		}
	}
}

// TestOwnProcess reads this process as the real /proc has it.
func TestOwnProcess(t *testing.T) {
	got, parent, ok := proc{root: "/proc"}.process(os.Getpid(), 1<<62)

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	if !ok || parent != os.Getppid() || got.Exe != exe || len(got.Command) == 0 || len(got.Cgroups) == 0 {
		t.Errorf("%+v, parent %d, %v", got, parent, ok)
	}

	if _, _, ok := (proc{root: "/proc"}).process(os.Getpid(), 1); ok {
		t.Error("a process that began later is taken for the sender")
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (a b) S 0 1 1 34816 0 0 0 0 0 0 0 0 0 0 20 0 1 0 12 0"))
	f.Add([]byte("1 ()) ) S"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, ok := parseStat(text); ok && len(s.comm) > len(text) {
			t.Error("a name from nowhere")
		}
	})
}

func TestOOMDMark(t *testing.T) {
	mount := t.TempDir()
	if err := os.MkdirAll(filepath.Join(mount, "system.slice/db.service/worker"), 0o755); err != nil {
		t.Fatal(err)
	}

	if err := unix.Setxattr(filepath.Join(mount, "system.slice/db.service"), "user.oomd_kill", []byte("12"), 0); err != nil {
		t.Skipf("no user xattrs in %s: %v", mount, err)
	}

	for cgroup, want := range map[string]string{
		"/system.slice/db.service": "12", "/system.slice/db.service/worker": "12", "/system.slice": "", "/gone/x": "", "/": "", "": "",
	} {
		if got := oomdKills(mount, cgroup); got != want {
			t.Errorf("%s: %q, want %q", cgroup, got, want)
		}
	}
}

// TestKubeletLines: they are asked for of pods only, at the instant of the SIGKILL.
func TestKubeletLines(t *testing.T) {
	log := &fakeLog{}

	w := NewWatch(Options{Proc: t.TempDir(), Kubelet: log})
	defer w.Close()

	f := facts(by("runc", ""))
	if k := w.Killer(f.Kill, f.From, f.To); k.Reason != ReasonDelete || log.at != f.Kill.BootNS {
		t.Errorf("%+v, asked for %d", k, log.at)
	}
	log.at = 0

	w.Killer(f.Kill, f.From, events.Process{Workload: &events.Workload{Unit: "db.service"}})

	if log.at != 0 {
		t.Error("it was asked about a service")
	}
}

type fakeLog struct{ at uint64 }

func (l *fakeLog) About(_ *events.Workload, bootNS uint64) []string {
	l.at = bootNS
	return []string{`"SyncLoop DELETE" source="api"`}
}

// BenchmarkSaw is what the reader of records pays for a SIGKILL.
func BenchmarkSaw(b *testing.B) {
	w := NewWatch(Options{Proc: b.TempDir()})
	defer w.Close()

	k := facts().Kill
	for b.Loop() {
		k.Current.TGID++
		w.Saw(k, events.Process{}, events.Process{})
	}
}

// BenchmarkProcess is what a look at one process takes.
func BenchmarkProcess(b *testing.B) {
	for b.Loop() {
		proc{root: "/proc"}.process(os.Getpid(), 1<<62)
	}
}
