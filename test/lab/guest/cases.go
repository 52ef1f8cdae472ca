// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/test/lab"
)

// cases in the order in which they are played; those that hurt come last.
var cases = []play{
	{name: "memcg-leaf", v1: true, do: func(s *scene) {
		s.hogOver(s.group("leaf", "leaf", 40, nil), "anon", "80")
	}},
	{name: "parent-limit", v1: true, do: func(s *scene) {
		parent := s.group("parent", "parent", 40, nil)
		s.hogOver(s.group("leaf", "leaf", 0, parent), "anon", "80")
	}},
	{name: "oom-group", do: func(s *scene) {
		g := s.group("group", "group", 60, nil)
		g.set("memory.oom.group", "1")

		for i, mb := range []int{15, 20} {
			p := s.start(fmt.Sprintf("member%d", i+1), g, 0, "anon", strconv.Itoa(mb))
			p.goAhead()
			p.waitRSS(mb)
		}

		s.hogOver(g, "anon", "80")

		for _, p := range s.procs {
			p.waitEnd()
		}
	}},
	{name: "multithread", v1: true, do: func(s *scene) {
		s.hogOver(s.group("leaf", "leaf", 40, nil), "thread", "80")
	}},
	{name: "zombie-leader", v1: true, do: func(s *scene) {
		s.hogOver(s.group("leaf", "leaf", 40, nil), "zombie", "80")
	}},
	{name: "shared-mm", v1: true, do: func(s *scene) {
		hog := s.start("hog", s.group("leaf", "leaf", 40, nil), 0, "shared", "80")
		hog.goAhead()
		pid, err := strconv.Atoi(hog.line())
		check("reading the sharer's pid", err)
		sharer := &process{Proc: lab.Proc{Name: "sharer", PID: pid, Comm: []byte("sharer"), Group: "leaf"}, done: make(chan struct{})}
		s.procs = append(s.procs, sharer)

		hog.waitEnd()

		for range 500 {
			if syscall.Kill(pid, 0) != nil {
				sharer.status = syscall.WaitStatus(syscall.SIGKILL)
				close(sharer.done)

				return
			}
			// Its parent is dead: it is ours, or our parent's, to reap.
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)

			time.Sleep(10 * time.Millisecond)
		}
	}},
	{name: "tmpfs", v1: true, do: func(s *scene) {
		file := "/tmp/tmpfs-case"

		s.clean = append(s.clean, func() { os.Remove(file) })
		s.hogOver(s.group("leaf", "leaf", 40, nil), "file", "80", file)
	}},
	{name: "huge-pages", v1: true, do: func(s *scene) {
		check("offering huge pages", os.WriteFile("/sys/kernel/mm/transparent_hugepage/enabled", []byte("madvise"), 0))
		// Old kernels keep up to 32 of them in each CPU's count.
		s.hogOver(s.group("leaf", "leaf", 200, nil), "huge", "300")
	}},
	{name: "swap-max", do: func(s *scene) {
		off := swapOn()
		s.clean = append(s.clean, off)
		g := s.group("leaf", "leaf", 32, nil)
		g.set("memory.swap.max", "16M")
		s.hogOver(g, "anon", "120")
	}},
	{name: "limit-lowered", v1: true, do: func(s *scene) {
		g := s.group("leaf", "leaf", 0, nil)
		hog := s.start("hog", g, 0, "anon", "60")
		hog.goAhead()
		hog.waitRSS(60)
		g.Max = 20 << 20
		writer := s.start("writer", nil, 0, "write", filepath.Join(g.dir, s.limitFile()), fmt.Sprint(g.Max))
		writer.goAhead()
		writer.waitEnd()

		if !s.m.v1 {
			hog.waitEnd()
		}
	}},
	{name: "no-killable", quiet: 2500 * time.Millisecond, do: func(s *scene) {
		g := s.group("leaf", "leaf", 40, nil)
		hog := s.start("hog", g, -1000, "anon", "60")
		hog.goAhead()
		time.Sleep(2500 * time.Millisecond)
		g.set("memory.max", "max")
		hog.waitRSS(60)
	}},
	{name: "already-exiting", do: alreadyExiting},
	{name: "two-at-once", v1: true, do: func(s *scene) {
		a := s.start("hog1", s.group("one", "one", 40, nil), 0, "anon", "80")
		b := s.start("hog2", s.group("two", "two", 40, nil), 0, "anon", "80")

		a.goAhead()
		b.goAhead()
		a.waitEnd()
		b.waitEnd()
	}},
	{name: "hostile-names", do: func(s *scene) {
		g := s.group("leaf", "sp ace\x1b[31m\u202e\"{", 40, nil)
		hog := s.launch(&process{Proc: lab.Proc{Name: "hog", Comm: []byte("\x1b[2J\"}\\\ne\xffvil")}}, g, 0, 0, "anon", "80")
		hog.goAhead()
		hog.waitEnd()
	}},
	{name: "user-kill", v1: true, quiet: 3 * time.Second, do: func(s *scene) {
		kill := func(p *process) { check("killing", syscall.Kill(p.PID, syscall.SIGKILL)) }
		begin := func(name string, g *group) *process {
			p := s.start(name, g, 0, "anon", "8")
			p.goAhead()
			p.waitRSS(8)

			return p
		}
		plain := begin("plain", s.group("leaf", "leaf", 40, nil))
		kill(plain)
		plain.waitEnd()
		g := s.container("stopped", "a", 40)
		p, q := begin("hog", g), begin("hog2", g)
		kill(p)
		kill(q)
		p.waitEnd()
		q.waitEnd()
		g = s.container("killed", "b", 40)

		r := begin("hog3", g)
		if err := os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0); err != nil {
			kill(r) // before 5.14
		} else {
			s.facts["cgroup_kill"] = 1
		}

		r.waitEnd()
	}},
	{name: "pidns-init", v1: true, quiet: 3 * time.Second, do: func(s *scene) {
		// Its end kills the namespace with the signal that the OOM killer uses.
		init := func(name string, g *group) *process {
			p := s.launch(&process{Proc: lab.Proc{Name: name, Comm: []byte(name)}}, g, 0, syscall.CLONE_NEWPID, "init", "3")
			p.goAhead()
			p.line()

			return p
		}
		for _, p := range []*process{init("plain", nil), init("stopped", s.container("stopped", "a", 0))} {
			// It is ignored: pid 1 of a namespace has no default handlers.
			check("asking", syscall.Kill(p.PID, syscall.SIGTERM))
			time.Sleep(200 * time.Millisecond)
			check("killing", syscall.Kill(p.PID, syscall.SIGKILL))
			p.waitEnd()
		}
		p := init("left", s.container("left", "b", 0))
		check("closing a pipe", p.in.Close()) // it leaves
		p.waitEnd()
	}},
	{name: "oom-init", v1: true, quiet: 3 * time.Second, do: func(s *scene) {
		// What its end takes with it is no incident of its own.
		g := s.container("leaf", "a", 40)
		hog := s.launch(&process{Proc: lab.Proc{Name: "hog", Comm: []byte("hog")}}, g, 0, syscall.CLONE_NEWPID, "family", "80")
		hog.goAhead()
		hog.waitEnd()
	}},
	{name: "memory-high", do: func(s *scene) {
		g := s.group("leaf", "leaf", 0, nil)
		g.set("memory.high", "20M")
		file := filepath.Join(s.tmpfs(), "felt")
		check("preparing the answer", os.WriteFile(file, make([]byte, 4096), 0o600)) // charged to us
		hog := s.start("hog", g, 0, "felt", "23", file)
		hog.goAhead()

		for range 600 {
			text, err := os.ReadFile(file)
			check("reading what was felt", err)

			if ms := binary.NativeEndian.Uint64(text); ms > 0 {
				s.facts["felt_ms"] = ms - 1
				return
			}

			time.Sleep(100 * time.Millisecond)
		}

		check("waiting for what was felt", fmt.Errorf("%s did not touch all in a minute", hog.Name))
	}},
	{name: "stalled-kill", do: stalledKill},
	{name: "high-order", do: func(s *scene) {
		count := eventCount("compaction", "mm_compaction_end")
		// As much as there is, but not the last: the limit is to be hit, not the node's.
		all := min(500, available()-150)
		hog := s.start("hog", s.group("leaf", "leaf", all+20, nil), 0, "compact", strconv.Itoa(all), "230")
		hog.goAhead()
		hog.waitEnd()
		time.Sleep(200 * time.Millisecond)
		s.facts["compactions"] = count(hog.PID)
	}},
	{name: "sysrq-f", v1: true, do: func(s *scene) {
		hog := s.start("hog", s.group("leaf", "leaf", 0, nil), 1000, "anon", "60")
		hog.goAhead()
		hog.waitRSS(60)
		check("asking for a kill", os.WriteFile("/proc/sysrq-trigger", []byte("f"), 0))
		hog.waitEnd()
	}},
	{name: "cpuset", do: func(s *scene) {
		g := s.group("leaf", "leaf", 0, nil)
		g.set("cpuset.mems", "1")
		s.hogOver(g, "anon", "2048")
	}},
	{name: "mempolicy", do: func(s *scene) {
		s.hogOver(s.group("leaf", "leaf", 0, nil), "bind", "2048")
	}},
	{name: "global", v1: true, do: func(s *scene) {
		count := eventTrace("vmscan", "mm_vmscan_direct_reclaim_end", "oom", "mark_victim")

		s.hogOver(s.group("leaf", "leaf", 0, nil), "anon", "4096")
		s.facts["direct_reclaims"] = count(anyone)
	}},
	{name: "page-tables", do: func(s *scene) {
		s.hogOver(s.group("leaf", "leaf", 24, nil), "page-tables", "262144")
	}},
	{name: "dirty-cache", do: dirtyCache},
	{name: "slab", do: func(s *scene) {
		dir := s.tmpfs()
		s.hogOver(s.group("leaf", "leaf", 40, nil), "files", "1000000", dir)
	}},
	{name: "host-daemon", do: func(s *scene) {
		slice := s.group("system", "system.slice", 0, nil)
		pods := s.group("kubepods", "kubepods.slice", 0, nil)
		pod := s.start("pod", pods, 0, "anon", "20")
		pod.goAhead()
		pod.waitRSS(20)
		daemon := s.start("daemon", s.group("daemon", "daemon.service", 0, slice), 0, "anon", "4096")
		daemon.goAhead()
		daemon.waitEnd()
	}},
	{name: "burst", quiet: 3 * time.Second, do: burst},
	{name: "record-killed", quiet: 3 * time.Second, do: recordKilled},
}

// available is the memory that can be had, in MiB.
func available() int {
	text, err := os.ReadFile("/proc/meminfo")
	check("reading how much memory there is", err)

	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemAvailable:" {
			kb, err := strconv.Atoi(fields[1])
			check("reading how much memory there is", err)

			return kb >> 10
		}
	}

	check("reading how much memory there is", errors.New("no MemAvailable"))

	return 0
}

// tmpfs mounts one that is gone after the case.
func (s *scene) tmpfs() (dir string) {
	dir, err := os.MkdirTemp("/tmp", "tmpfs-")
	check("a directory", err)
	check("mounting a tmpfs", unix.Mount("none", dir, "tmpfs", 0, "nr_inodes=0"))

	s.clean = append(s.clean, func() { _ = unix.Unmount(dir, 0); os.Remove(dir) })

	return dir
}

// hogOver starts a hog that goes over a limit, and waits for its end.
func (s *scene) hogOver(g *group, args ...string) {
	hog := s.start("hog", g, 0, args...)
	hog.goAhead()
	hog.waitEnd()
}

// alreadyExiting holds a process on its way out, with its memory, by ptrace.
// The kernel chooses it, sees that it is leaving, and only marks it
// (mm/oom_kill.c: oom_kill_process, task_will_free_mem).
func alreadyExiting(s *scene) {
	g := s.group("leaf", "leaf", 60, nil)
	leaving := s.start("leaving", g, 0, "exit", "40")
	leaving.goAhead()
	leaving.line()

	// ptrace is by thread.
	runtime.LockOSThread()

	defer runtime.UnlockOSThread()

	_, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(leaving.PID), 0, unix.PTRACE_O_TRACEEXIT, 0, 0)
	if errno != 0 {
		check("ptrace", errno)
	}
	// Detached at the end by the tracer's own end, or here.
	defer func() { _ = unix.PtraceDetach(leaving.PID) }()

	leaving.goAhead()
	stopped := false

	for range 200 {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", leaving.PID))
		if containsState(stat, 't') {
			stopped = true
			break
		}

		time.Sleep(20 * time.Millisecond)
	}

	if !stopped {
		check("waiting for the stop", fmt.Errorf("%s did not stop at its exit", leaving.Name))
	}
	other := s.start("other", g, 0, "anon", "30")
	other.goAhead()
	other.waitRSS(30)
}

// containsState looks at the state letter of /proc/PID/stat, after the name.
func containsState(stat []byte, state byte) bool {
	for i := len(stat) - 1; i > 0; i-- {
		if stat[i] == ')' {
			return i+2 < len(stat) && stat[i+2] == state
		}
	}

	return false
}

// stalledKill is 20 s of reclaim of page cache, and then a kill. The kernel's own
// trace counts beside us what was before the kill: what the victim goes on trying
// after it may not be over yet when the account of the kill is given.
func stalledKill(s *scene) {
	file, off := disk()
	s.clean = append(s.clean, off)
	count := eventTrace("vmscan", "mm_vmscan_memcg_reclaim_end", "oom", "mark_victim")
	g := s.group("leaf", "leaf", 24, nil)
	hog := s.start("hog", g, 0, "churn", "24", file, "20")
	hog.goAhead()
	hog.waitEnd()
	time.Sleep(200 * time.Millisecond)
	s.facts["reclaims"] = count(hog.PID)
}

// eventCount lets the kernel count an event by thread, until it is asked.
func eventCount(group, event string) func(pid int) uint64 {
	_ = unix.Mount("tracefs", tracing, "tracefs", 0, "")

	dir := filepath.Join(tracing, "events", group, event)
	if err := os.WriteFile(dir+"/trigger", []byte("hist:keys=common_pid:size=4096"), 0); err != nil {
		return eventTrace(group, event, "", "") // a kernel without CONFIG_HIST_TRIGGERS
	}

	return func(pid int) uint64 {
		text, err := os.ReadFile(dir + "/hist")
		check("reading the histogram", err)
		check("ending the histogram", os.WriteFile(dir+"/trigger", []byte("!hist:keys=common_pid:size=4096"), 0))

		for line := range strings.Lines(string(text)) {
			// { common_pid:        123 } hitcount:         45
			fields := strings.Fields(line)
			if len(fields) == 6 && fields[1] == "common_pid:" && fields[2] == strconv.Itoa(pid) {
				n, err := strconv.ParseUint(fields[5], 10, 64)
				check("reading the histogram", err)

				return n
			}
		}

		return 0
	}
}

const tracing = "/sys/kernel/tracing"

// anyone stands for all processes.
const anyone = -1

// eventTrace does the same by the lines of the kernel's trace. With an end, it counts
// up to the first event of that name.
func eventTrace(group, event, endGroup, endEvent string) func(pid int) uint64 {
	_ = unix.Mount("tracefs", tracing, "tracefs", 0, "")

	dirs := []string{filepath.Join(tracing, "events", group, event)}
	if endEvent != "" {
		dirs = append(dirs, filepath.Join(tracing, "events", endGroup, endEvent))
	}
	write := func(file, text string) { check("a trace", os.WriteFile(file, []byte(text), 0)) }
	write(tracing+"/buffer_size_kb", "32768")
	write(tracing+"/trace_clock", "mono") // the lines of both CPUs in their order
	// Names of tasks are recorded at each switch: the kernel would patch its busiest
	// code for that, while the other CPU runs it, which an emulator may not survive.
	write(tracing+"/options/record-cmd", "0")
	write(tracing+"/trace", "")

	for _, dir := range dirs {
		write(dir+"/enable", "1")
	}

	return func(pid int) (count uint64) {
		for _, dir := range dirs {
			write(dir+"/enable", "0")
		}
		text, err := os.ReadFile(tracing + "/trace")
		check("reading the trace", err)

		for line := range strings.Lines(string(text)) {
			// "   hog-123  [001] ....  12.3: mm_vmscan_memcg_reclaim_end: nr_reclaimed=0"
			if endEvent != "" && strings.Contains(line, ": "+endEvent+": ") {
				break
			}

			if pid == anyone && strings.Contains(line, ": "+event+": ") || strings.Contains(line, fmt.Sprintf("-%d ", pid)) {
				count++
			}
		}

		write(tracing+"/buffer_size_kb", "64")

		return count
	}
}

// disk makes one of compressed memory: what is read of it is page cache that can be
// dropped, unlike the pages of tmpfs.
func disk() (file string, off func()) {
	zram("96M")
	return "/dev/zram0", func() { _ = os.WriteFile("/sys/block/zram0/reset", []byte("1"), 0) }
}

// burst kills 200 processes within seconds, far more than the log's rate limit
// lets through.
func burst(s *scene) {
	const workers, each = 4, 50
	var all sync.WaitGroup
	var mu sync.Mutex

	for w := range workers {
		name := fmt.Sprintf("burst%d", w)
		g := s.group(name, name, 4, nil)
		dir, err := os.Open(g.dir)
		check("opening a cgroup", err)

		all.Add(1)
		go func() {
			defer all.Done()
			defer dir.Close()

			for tries, n := 0, 0; n < each && tries < 2*each; tries++ {
				cmd := exec.Command("/bin/hog", "anon", "64")
				cmd.Env = []string{"HOG_NOW=1", "HOG_NAME=" + name}
				cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
				p := &process{Proc: lab.Proc{Name: name, Comm: []byte(name), Group: name}, done: make(chan struct{})}
				close(p.done)

				if err := cmd.Start(); err != nil {
					continue // its cgroup has no room for it yet
				}

				n++
				p.PID = cmd.Process.Pid
				_ = cmd.Wait()
				p.status, _ = cmd.ProcessState.Sys().(syscall.WaitStatus)

				mu.Lock()

				s.procs = append(s.procs, p)
				mu.Unlock()
			}
		}()
	}

	all.Wait()
}

// dirtyCache writes far more than the disk takes: what is dirty cannot be given back.
// Without the writer being held up first, as it is by default (vm.dirty_ratio).
func dirtyCache(s *scene) {
	const at, disk = "/tmp/disk", "/dev/zram0"

	zram("256M")
	off := func() { _ = os.WriteFile("/sys/block/zram0/reset", []byte("1"), 0) }
	s.clean = append(s.clean, off)

	if out, err := exec.Command("/bin/busybox", "mke2fs", "-b", "4096", disk).CombinedOutput(); err != nil {
		check("making a file system", fmt.Errorf("%w: %s", err, out))
	}

	check("making a directory", os.MkdirAll(at, 0o755))
	check("mounting "+disk, unix.Mount(disk, at, "ext4", 0, "")) // of those, it writes back by cgroup

	s.clean = append(s.clean, func() { _ = unix.Unmount(at, 0) })

	for _, knob := range []struct{ file, value string }{{"dirty_ratio", "100"}, {"dirty_background_ratio", "99"}} {
		file := "/proc/sys/vm/" + knob.file
		old, err := os.ReadFile(file)
		check("reading "+file, err)
		check("setting "+file, os.WriteFile(file, []byte(knob.value), 0))

		s.clean = append(s.clean, func() { _ = os.WriteFile(file, old, 0) })
	}
	var stat unix.Stat_t
	check("looking at "+disk, unix.Stat(disk, &stat))
	number := fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	control := filepath.Join(s.m.mount, "cgroup.subtree_control")
	check("giving out the io controller", os.WriteFile(control, []byte("+io"), 0))

	s.clean = append(s.clean, func() { _ = os.WriteFile(control, []byte("-io"), 0) })
	g := s.group("leaf", "leaf", 40, nil)
	g.set("io.max", number+" wbps=65536")

	s.clean = append(s.clean, func() { _ = os.WriteFile(filepath.Join(g.dir, "io.max"), []byte(number+" wbps=max"), 0) })
	s.hogOver(g, "file", "80", filepath.Join(at, "file"))
}

// swapOn makes swap of compressed memory, and returns how to end it.
func swapOn() func() {
	zram("128M")

	for _, command := range [][]string{{"mkswap", "/dev/zram0"}, {"swapon", "/dev/zram0"}} {
		if out, err := exec.Command("/bin/busybox", command...).CombinedOutput(); err != nil {
			check(command[0], fmt.Errorf("%w: %s", err, out))
		}
	}

	return func() {
		_ = exec.Command("/bin/busybox", "swapoff", "/dev/zram0").Run()
		_ = os.WriteFile("/sys/block/zram0/reset", []byte("1"), 0)
	}
}

// zram makes a disk of compressed memory.
func zram(size string) {
	load("lzo_compress", "lz4_compress", "lz4hc_compress", "842_compress", "zstd_compress", "lzo", "lzo-rle", "zsmalloc", "zram")
	check("sizing zram", os.WriteFile("/sys/block/zram0/disksize", []byte(size), 0))
}

// load loads modules. Those that are built in are not there to load.
func load(modules ...string) {
	for _, module := range modules {
		file := "/modules/" + module + ".ko"
		if fd, err := unix.Open(file, unix.O_RDONLY, 0); err == nil {
			_ = unix.FinitModule(fd, "", 0)
			unix.Close(fd)
		}
	}
}
