// SPDX-License-Identifier: Apache-2.0

// Package runtimes kills programs of real language runtimes, and a real database, at the
// limit of a cgroup, and compares the advice with the settings that they were given.
package runtimes

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/testenv"
	"github.com/oomtrace/oomtrace/test/internal/lab"
	"github.com/oomtrace/oomtrace/test/internal/trace"
)

// victim is a program that fills the memory of a cgroup of its own until it is killed. It
// lives for some seconds before: what it runs is read one, three and eight seconds after its
// cgroup was created.
type victim struct {
	name     string
	limitMiB int
	args     []string
	env      []string
	uid, gid uint32
	kind     events.ProgramKind
	settings []string // NAME=VALUE
	advice   string   // a part of it
	cause    string   // the id of one of the causes; empty: any
}

// scripts of interpreters, which grow by 1 MiB each 10 ms.
const (
	pythonScript = "import time\ntime.sleep(9)\nkept = []\nwhile True:\n    kept.append(bytearray(b'1') * (1 << 20))\n    time.sleep(0.01)\n"
	nodeScript   = "const kept = []; setTimeout(() => setInterval(() => kept.push(new Array(1 << 17).fill(1.5)), 10), 9000)"
	phpScript    = "sleep(9); $kept = []; for (;;) { $kept[] = str_repeat('1', 1 << 20); usleep(10000); }"
)

func TestAdviceNamesTheSettingsOfRealRuntimes(t *testing.T) {
	lab.Require(t, "javac", "java", "node", "php", "python3", "go")
	testenv.Root(t)

	oomtrace, err := filepath.Abs(lab.Root + "/bin/oomtrace")
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	victims := append(interpreters(t, dir), postgres(t))

	p, err := trace.Start(oomtrace, dir, "trace")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Cmd.Process.Kill()

	if err := p.WaitReady(time.Minute); err != nil {
		t.Fatalf("%v\n%s", err, p.Stderr())
	}

	top := newCgroup(t, "", fmt.Sprintf("oomtrace-runtimes-%d", os.Getpid()), 0)
	paths := runAll(t, top, victims)

	if err := p.Stop(); err != nil {
		t.Fatalf("%v\n%s", err, p.Stderr())
	}

	var traced trace.Trace

	traced.Add(p.Lines()...)

	for i, v := range victims {
		t.Run(v.name, func(t *testing.T) { v.check(t, of(&traced, paths[i])) })
	}
}

// interpreters are programs that are killed themselves.
func interpreters(t *testing.T, dir string) []victim {
	t.Helper()

	built := filepath.Join(dir, "hog")
	run(t, "go", "build", "-o", built, "./testdata/hog")
	run(t, "javac", "-d", dir, "testdata/Hog.java")

	return []victim{
		{
			name: "java", limitMiB: 160, args: []string{"java", "-Xmx1g", "-cp", dir, "Hog", "-Xmx3g"}, kind: events.ProgramJVM,
			settings: []string{"-Xmx=1g"}, advice: "JVM: -Xmx is 1.0 GiB (command line), more than the limit of 160.0 MiB.", cause: "heap_limit",
		},
		{
			name: "java-variable", limitMiB: 160, args: []string{"java", "-cp", dir, "Hog"}, kind: events.ProgramJVM,
			env: []string{"JAVA_TOOL_OPTIONS=-Dkey=secret -Xmx2g"}, settings: []string{"-Xmx=2g"},
			advice: "JVM: -Xmx is 2.0 GiB (JAVA_TOOL_OPTIONS), more than the limit of 160.0 MiB.", cause: "heap_limit",
		},
		{
			name: "go", limitMiB: 96, args: []string{built}, kind: events.ProgramGo, env: []string{"GOMEMLIMIT=1GiB"},
			settings: []string{"GOMEMLIMIT=1GiB"}, advice: "Go: GOMEMLIMIT is 1.0 GiB (environment), more than the limit of 96.0 MiB.",
			cause: "heap_limit",
		},
		{
			name: "go-without", limitMiB: 96, args: []string{built}, kind: events.ProgramGo,
			advice: "Go: GOMEMLIMIT is not set, so the garbage collector does not know the limit of 96.0 MiB", cause: "own_limit",
		},
		{
			name: "python", limitMiB: 96, args: []string{"python3", "-c", pythonScript}, kind: events.ProgramPython,
			advice: "Python has no setting that bounds its memory", cause: "own_limit",
		},
		{
			name: "node", limitMiB: 128, args: []string{"node", "--max-old-space-size=2048", "-e", nodeScript}, kind: events.ProgramNode,
			settings: []string{"--max-old-space-size=2048"},
			advice:   "Node.js: --max-old-space-size is 2.0 GiB (command line), more than the limit of 128.0 MiB.", cause: "heap_limit",
		},
		{
			name: "php", limitMiB: 96, args: []string{"php", "-d", "memory_limit=1G", "-r", phpScript}, kind: events.ProgramPHP,
			settings: []string{"memory_limit=1G"}, advice: "PHP: memory_limit is 1.0 GiB (command line) for each process", cause: "heap_limit",
		},
	}
}

// postgres is a server of which a backend is killed. It refuses to be root's.
func postgres(t *testing.T) victim {
	t.Helper()

	servers, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(servers) == 0 {
		t.Fatal("got no PostgreSQL, want one: sudo scripts/setup.sh installs what the tests need")
	}

	account, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}

	uid, err1 := strconv.ParseUint(account.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(account.Gid, 10, 32)

	if err1 != nil || err2 != nil {
		t.Fatalf("got account %+v, want numbers", account)
	}

	dir, err := os.MkdirTemp("/tmp", "oomtrace-postgres-") // t.TempDir is root's alone
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { os.RemoveAll(dir) })

	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}

	server := servers[len(servers)-1]
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(filepath.Dir(server), "initdb"), "-D", data, "-A", "trust", "-N")
	initdb.Dir = dir
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}

	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}

	// The client waits for the server, and for some seconds more, so that the backend is known
	// by its postmaster.
	script := fmt.Sprintf(`%[1]s -D %[2]s/data -k %[2]s -h '' -c shared_buffers=64MB -c work_mem=1GB & server=$!
until psql -qh %[2]s -c 'select 1' postgres > /dev/null 2>&1; do sleep 0.2; kill -0 $server || exit; done
sleep 9
psql -qh %[2]s -c 'select count(*) from (select array_agg(g) from generate_series(1, 100000000) g) t' postgres
kill -QUIT $server
wait $server`, server, dir)

	return victim{
		name: "postgresql", limitMiB: 224, args: []string{"sh", "-c", script}, uid: uint32(uid), gid: uint32(gid), kind: events.ProgramPostgreSQL,
		settings: []string{"shared_buffers=64MB", "work_mem=1GB"},
		advice:   "PostgreSQL: shared_buffers is 64.0 MiB (command line), and work_mem (1.0 GiB) for each sort or hash", cause: "own_limit",
	}
}

// runAll runs all victims until they have ended, each in a cgroup of its own, and returns the
// paths of these.
func runAll(t *testing.T, top string, victims []victim) (paths []string) {
	t.Helper()

	var started []*exec.Cmd

	for _, v := range victims {
		dir := newCgroup(t, top, v.name, v.limitMiB)
		paths = append(paths, filepath.Join("/", filepath.Base(top), v.name))
		started = append(started, v.start(t, dir))
	}

	for i, cmd := range started {
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()

		select {
		case <-ended: // by a signal, most of them
		case <-time.After(2 * time.Minute):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
			t.Errorf("%s: got it alive after two minutes, want it killed at its limit", victims[i].name)
		}
	}

	return paths
}

// start starts a victim in a cgroup, in a process group of its own.
func (v victim) start(t *testing.T, dir string) *exec.Cmd {
	t.Helper()

	cmd := exec.Command("/bin/sh", append([]string{"-c", `read go; exec "$@"`, "sh"}, v.args...)...)
	cmd.Env = append(os.Environ(), v.env...)
	cmd.Dir = "/tmp"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	if v.uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: v.uid, Gid: v.gid}
	}

	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })

	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), strconv.AppendInt(nil, int64(cmd.Process.Pid), 10), 0); err != nil {
		t.Fatal(err)
	}

	if _, err := fmt.Fprintln(in); err != nil {
		t.Fatal(err)
	}

	return cmd
}

// of returns the first incident with a victim in a cgroup, nil if there is none.
func of(traced *trace.Trace, path string) *events.Incident {
	for _, inc := range traced.Incidents {
		if slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.Cgroup != nil && v.Cgroup.Path == path }) {
			return inc
		}
	}

	return nil
}

func (v victim) check(t *testing.T, inc *events.Incident) {
	t.Helper()

	if inc == nil {
		t.Fatal("got no kill, want one")
	}

	ran := inc.Victims[0].Program
	if ran == nil {
		t.Fatalf("got %s without a program, want %s", inc.Victims[0].Comm, v.kind)
	}

	var settings []string
	for _, s := range ran.Settings {
		settings = append(settings, s.Name+"="+s.Value)
	}

	if ran.Kind != v.kind || ran.By == events.ProgramByName || !isSubset(v.settings, settings) {
		t.Errorf("got %s by %s with settings %q, want %s with %q", ran.Kind, ran.By, settings, v.kind, v.settings)
	}

	if v.settings == nil && ran.Settings == nil {
		t.Error("got no settings, want an empty list: all could be read")
	}

	var ids, advice []string

	for _, c := range inc.Causes {
		ids = append(ids, c.ID)
		for _, a := range c.Advice {
			advice = append(advice, a.Layer+": "+a.Text)
		}
	}

	if !slices.Contains(ids, v.cause) {
		t.Errorf("got causes %q, want %q", ids, v.cause)
	}

	if !slices.ContainsFunc(advice, func(a string) bool { return strings.HasPrefix(a, "application: "+v.advice) }) {
		t.Errorf("got advice %q, want %q", advice, v.advice)
	}

	if all := fmt.Sprint(ran.Settings, advice); strings.Contains(all, "secret") {
		t.Errorf("got %s, want nothing of a variable but its memory settings", all)
	}
}

func isSubset(of, all []string) bool {
	return !slices.ContainsFunc(of, func(s string) bool { return !slices.Contains(all, s) })
}

// newCgroup creates a cgroup below another, or below the root of the memory hierarchy, with a
// limit; 0 MiB is none.
func newCgroup(t *testing.T, parent, name string, limitMiB int) (dir string) {
	t.Helper()

	layout, err := host.Cgroups()
	if err != nil {
		t.Fatal(err)
	}

	if parent == "" {
		parent = layout.MemoryMount
	}

	limit := "memory.limit_in_bytes"

	if layout.MemoryVersion == 2 {
		limit = "memory.max"

		if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
			t.Fatal(err)
		}
	}

	dir = filepath.Join(parent, name)
	testenv.Cgroup(t, dir)

	if limitMiB > 0 {
		if err := os.WriteFile(filepath.Join(dir, limit), strconv.AppendInt(nil, int64(limitMiB)<<20, 10), 0); err != nil {
			t.Fatal(err)
		}
	}

	return dir
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()

	cmd := exec.Command(name, args...)

	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")

	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
