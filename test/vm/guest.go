// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/oomtrace/oomtrace/test/internal/must"
)

// Guest is the machine in which one case runs: it makes cgroups and processes, which it
// removes after the case.
type Guest struct {
	cgroupV1 bool
	mount    string // of the memory controller's hierarchy
	facts    map[string]uint64

	groups  []*group
	procs   []*process
	cleanup []func()
}

func newGuest(cgroupV1 bool) *Guest {
	g := &Guest{cgroupV1: cgroupV1, mount: "/sys/fs/cgroup", facts: map[string]uint64{}}
	if cgroupV1 {
		g.mount = "/sys/fs/cgroup/memory"
	}

	return g
}

// group is a cgroup.
type group struct {
	Group
	dir string
}

// process is a child: a hog, unless cmd is nil.
type process struct {
	Proc
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	done chan struct{}
	// status is valid once done is closed.
	status syscall.WaitStatus
}

// later runs f after the case; what is added last runs first.
func (g *Guest) later(f func()) { g.cleanup = append(g.cleanup, f) }

// end kills all processes, undoes what was set up, and removes the cgroups.
func (g *Guest) end() {
	for _, p := range g.procs {
		if p.cmd != nil {
			p.cmd.Process.Kill()
			<-p.done
		}
	}

	for _, f := range slices.Backward(g.cleanup) {
		f()
	}

	for _, group := range slices.Backward(g.groups) {
		for range 100 {
			if err := os.Remove(group.dir); err == nil {
				break
			}

			time.Sleep(20 * time.Millisecond)
		}
	}
}

// group makes a cgroup below a parent, or below the root if that is nil. A limit of 0
// MiB is none.
func (g *Guest) group(name, dirName string, limitMiB int, parent *group) *group {
	made := &group{Group: Group{Name: name, Path: "/" + dirName}}

	if parent != nil {
		made.Path = parent.Path + "/" + dirName
		if g.cgroupV1 {
			// Before 5.11 a child's charge does not count at its parent without.
			_ = os.WriteFile(filepath.Join(parent.dir, "memory.use_hierarchy"), []byte("1"), 0)
		} else {
			parent.set("cgroup.subtree_control", "+memory")
		}
	}

	made.dir = filepath.Join(g.mount, made.Path)
	must.OK("make a cgroup", os.Mkdir(made.dir, 0o755))

	var stat syscall.Stat_t
	must.OK("stat a cgroup", syscall.Stat(made.dir, &stat))
	made.ID = stat.Ino

	g.groups = append(g.groups, made)
	if limitMiB > 0 {
		g.limit(made, limitMiB)
	}

	return made
}

// limit sets the limit of a cgroup.
func (g *Guest) limit(of *group, mib int) {
	of.Max = uint64(mib) << 20
	of.set(g.limitFile(), fmt.Sprint(of.Max))
}

// leaf makes the cgroup of most cases.
func (g *Guest) leaf(limitMiB int) *group { return g.group("leaf", "leaf", limitMiB, nil) }

// container makes a cgroup where a container of a pod has it; its id repeats a digit.
func (g *Guest) container(name, digit string, limitMiB int) *group {
	var parent *group

	for _, dir := range []string{"kubepods", "burstable", "pod" + podUID} {
		if i := slices.IndexFunc(g.groups, func(made *group) bool { return made.Name == dir }); i >= 0 {
			parent = g.groups[i]
		} else {
			parent = g.group(dir, dir, 0, parent)
		}
	}

	return g.group(name, strings.Repeat(digit, 64), limitMiB, parent)
}

func (g *Guest) limitFile() string {
	if g.cgroupV1 {
		return "memory.limit_in_bytes"
	}

	return "memory.max"
}

func (g *group) set(file, value string) {
	must.OK("set "+file, os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0))
}

// readCounters takes the counters of a cgroup.
func (g *group) readCounters(cgroupV1 bool) {
	read := func(file, name string) uint64 {
		text, _ := os.ReadFile(filepath.Join(g.dir, file))
		return counter(string(text), name)
	}

	if cgroupV1 {
		g.OOMKill = read("memory.oom_control", "oom_kill")
		return
	}

	g.OOM, g.OOMKill = read("memory.events", "oom"), read("memory.events", "oom_kill")
	g.OOMLocal = read("memory.events.local", "oom")
}

// counter returns a value of lines "NAME VALUE".
func counter(text, name string) uint64 {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && key == name {
			n, _ := strconv.ParseUint(value, 10, 64)
			return n
		}
	}

	return 0
}

// hog starts a hog in a cgroup, which it is to overrun, and waits for its end.
func (g *Guest) hog(in *group, args ...string) {
	hog := g.start("hog", in, args...)
	hog.proceed()
	hog.waitEnd()
}

// start starts a hog in a cgroup; nil is that of the guest. It waits for proceed.
func (g *Guest) start(name string, in *group, args ...string) *process {
	return g.startWith(options{name: name, comm: name}, in, args...)
}

// startFull starts a hog that proceeds, and waits until it has its MiB.
func (g *Guest) startFull(name string, in *group, mib int) *process {
	p := g.start(name, in, "anon", strconv.Itoa(mib))
	p.proceed()
	p.waitRSS(mib)

	return p
}

// options are what differs between hogs.
type options struct {
	name, comm string
	adj        int // oom_score_adj
	flags      uintptr
}

func (g *Guest) startWith(o options, in *group, args ...string) *process {
	p := &process{Proc: Proc{Name: o.name, Comm: []byte(o.comm)}, done: make(chan struct{})}
	p.cmd = exec.Command("/bin/hog", args...)
	p.cmd.Env = []string{"HOG_NAME=" + o.comm}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: o.flags}
	p.cmd.Stderr = os.Stderr

	stdin, err := p.cmd.StdinPipe()
	must.OK("make a pipe", err)
	stdout, err := p.cmd.StdoutPipe()
	must.OK("make a pipe", err)
	must.OK("start a hog", p.cmd.Start())

	p.in, p.out, p.PID = stdin, bufio.NewReader(stdout), p.cmd.Process.Pid
	g.procs = append(g.procs, p)

	go func() {
		if state, err := p.cmd.Process.Wait(); err == nil {
			p.status, _ = state.Sys().(syscall.WaitStatus)
		}

		close(p.done)
	}()

	must.OK("set oom_score_adj", os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.PID), []byte(fmt.Sprint(o.adj)), 0))

	if in != nil {
		p.Group = in.Name
		in.set("cgroup.procs", fmt.Sprint(p.PID))
	}

	return p
}

// child is a process that a hog started, and whose pid it prints.
func (g *Guest) child(name string, of *process, groupName string) *process {
	pid, err := strconv.Atoi(of.line())
	must.OK("read the pid of "+name, err)

	p := &process{Proc: Proc{Name: name, PID: pid, Comm: []byte(name), Group: groupName}, done: make(chan struct{})}
	g.procs = append(g.procs, p)

	return p
}

// waitGone waits for the end of a process whose parent is not the guest, by SIGKILL.
func (p *process) waitGone() {
	for range 500 {
		if syscall.Kill(p.PID, 0) != nil {
			p.status = syscall.WaitStatus(syscall.SIGKILL)
			close(p.done)

			return
		}

		// If its parent is dead, it is to be reaped here, or by the parent of the guest.
		_, _ = syscall.Wait4(p.PID, nil, syscall.WNOHANG, nil)

		time.Sleep(10 * time.Millisecond)
	}

	must.OK("wait for "+p.Name, errors.New("it was not killed"))
}

// startThreads starts a hog that touches its memory in threads, and has to proceed once more.
// It waits until all of them are there.
func (g *Guest) startThreads(name string, in *group, mib, count int) *process {
	p := g.start(name, in, "threads", strconv.Itoa(mib), strconv.Itoa(count))
	p.proceed()

	for range count {
		tid, err := strconv.Atoi(p.line())
		must.OK("read a thread's id", err)

		p.Threads = append(p.Threads, tid)
	}

	return p
}

// touch has a hog of pages touch some more, and waits until it has.
func (p *process) touch(pages int) {
	p.request(pages)
	p.line()
}

func (p *process) request(pages int) {
	_, err := fmt.Fprintln(p.in, pages)
	must.OK("let a hog touch pages", err)
}

// fill has a hog of pages fill its cgroup up to less than 10 pages of its limit.
func (g *Guest) fill(p *process, in *group) {
	const rest = 10

	for range 2000 {
		free := (int(in.Max) - g.usage(in)) / os.Getpagesize()
		if free < rest {
			return
		}

		p.touch(max(1, (free-rest)/2))
	}

	must.OK("fill "+in.Name, fmt.Errorf("%d bytes of %d are used", g.usage(in), in.Max))
}

// usage is the memory that a cgroup uses.
func (g *Guest) usage(of *group) int {
	file := "memory.current"
	if g.cgroupV1 {
		file = "memory.usage_in_bytes"
	}

	text, err := os.ReadFile(filepath.Join(of.dir, file))
	must.OK("read "+file, err)

	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must.OK("read "+file, err)

	return n
}

func (p *process) proceed() {
	_, err := io.WriteString(p.in, "go\n")
	must.OK("let a hog proceed", err)
}

func (p *process) line() string {
	text, err := p.out.ReadString('\n')
	must.OK("read from a hog", err)

	return strings.TrimSpace(text)
}

func (p *process) kill() { must.OK("kill "+p.Name, syscall.Kill(p.PID, syscall.SIGKILL)) }

func (p *process) waitEnd() {
	select {
	case <-p.done:
	case <-time.After(3 * time.Minute):
		must.OK("wait for "+p.Name, errors.New("it runs after 3 minutes"))
	}
}

// waitRSS waits until a hog has its memory.
func (p *process) waitRSS(mib int) {
	for range 1200 {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID))

		if fields := strings.Fields(string(text)); len(fields) > 1 {
			if pages, _ := strconv.Atoi(fields[1]); pages*os.Getpagesize() >= mib<<20 {
				return
			}
		}

		time.Sleep(20 * time.Millisecond)
	}

	must.OK("wait for "+p.Name, fmt.Errorf("it did not get its %d MiB", mib))
}
