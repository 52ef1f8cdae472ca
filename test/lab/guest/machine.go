// SPDX-License-Identifier: Apache-2.0

package main

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

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/test/lab"
)

// machine is the guest: its memory hierarchy, its log, its tracers.
type machine struct {
	v1      bool
	mount   string
	release string
	kmsg    int
	tracers map[string]*tracer
}

func newMachine(v1 bool) (*machine, error) {
	m := &machine{v1: v1, mount: "/sys/fs/cgroup"}
	if v1 {
		m.mount = "/sys/fs/cgroup/memory"
	}

	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, err
	}
	m.release = unix.ByteSliceToString(name.Release[:])

	var err error
	if m.kmsg, err = unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		return nil, fmt.Errorf("opening the kernel's log: %w", err)
	}
	write := func(path, text string) {
		if e := os.WriteFile(path, []byte(text), 0); e != nil && err == nil {
			err = e
		}
	}
	write("/proc/self/oom_score_adj", "-1000")
	write("/proc/sys/vm/overcommit_memory", "1") // hogs are larger than the machine
	write("/proc/sys/kernel/printk", "1")        // reports on the console are slow
	write("/proc/sys/kernel/sysrq", "1")
	m.log()

	return m, err
}

// log takes what the kernel wrote since the last time, and how often some of it was
// overwritten before.
func (m *machine) log() (lines []string, overruns int) {
	buf := make([]byte, 8192)
	for {
		n, err := unix.Read(m.kmsg, buf)
		if errors.Is(err, unix.EPIPE) {
			overruns++
			continue
		}

		if err != nil {
			return lines, overruns
		}
		// "priority,sequence,time,flags;text\n KEY=value\n..."
		text, _, _ := strings.Cut(string(buf[:n]), "\n")
		lines = append(lines, text)
	}
}

func oomKills() uint64 {
	text, _ := os.ReadFile("/proc/vmstat")
	return counter(string(text), "oom_kill")
}

func counter(text, name string) uint64 {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && key == name {
			n, _ := strconv.ParseUint(value, 10, 64)
			return n
		}
	}

	return 0
}

// scene is one case being played.
type scene struct {
	m      *machine
	groups []*group
	procs  []*process
	clean  []func()
	facts  map[string]uint64
}

type group struct {
	lab.Group
	dir string
}

type process struct {
	lab.Proc
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	done chan struct{}
	// status is valid once done is closed.
	status syscall.WaitStatus
}

// play is how a case is done. What goes wrong in it panics with a failure.
type play struct {
	name  string
	v1    bool          // it makes sense on cgroup v1 too
	quiet time.Duration // how long the tracers must be silent; 0: the usual
	do    func(*scene)
}

type failure struct{ err error }

func check(what string, err error) {
	if err != nil {
		panic(failure{fmt.Errorf("%s: %w", what, err)})
	}
}

func (m *machine) run(p play) (c lab.Case) {
	c = lab.Case{Name: p.name, Lines: map[string][]string{}}
	s := &scene{m: m, facts: map[string]uint64{}}
	m.log()

	for _, t := range m.tracers {
		t.lines()
	}
	c.OOMKills[0] = oomKills()
	began := time.Now()

	func() {
		defer func() {
			if f, ok := recover().(failure); ok {
				c.Error = f.err.Error()
			}
		}()

		p.do(s)
	}()
	done := time.Now()

	m.waitQuiet(max(p.quiet, 700*time.Millisecond))
	c.Seconds = [2]float64{done.Sub(began).Seconds(), time.Since(done).Seconds()}
	c.OOMKills[1] = oomKills()

	for _, g := range s.groups {
		g.read(m.v1)
		c.Groups = append(c.Groups, g.Group)
	}

	for _, proc := range s.procs {
		select {
		case <-proc.done:
			proc.Killed = proc.status.Signaled() && proc.status.Signal() == syscall.SIGKILL
		default:
		}

		c.Procs = append(c.Procs, proc.Proc)
	}
	c.Log, c.LogOverruns = m.log()

	c.Facts = s.facts
	for tier, t := range m.tracers {
		c.Lines[tier] = t.lines()
	}

	s.end()

	return c
}

func (m *machine) waitQuiet(quiet time.Duration) {
	size := func() (n int64) {
		for _, t := range m.tracers {
			n += t.size()
		}

		return n
	}

	last, since := size(), time.Now()
	for limit := time.Now().Add(30 * time.Second); time.Since(since) < quiet && time.Now().Before(limit); {
		time.Sleep(50 * time.Millisecond)

		if now := size(); now != last {
			last, since = now, time.Now()
		}
	}
}

func (s *scene) end() {
	for _, p := range s.procs {
		if p.cmd != nil {
			p.cmd.Process.Kill()
			<-p.done
		}
	}

	for i := len(s.clean) - 1; i >= 0; i-- {
		s.clean[i]()
	}

	for i := len(s.groups) - 1; i >= 0; i-- {
		for range 100 {
			if err := os.Remove(s.groups[i].dir); err == nil {
				break
			}

			time.Sleep(20 * time.Millisecond)
		}
	}
}

// container makes a cgroup in the place of a container of a pod.
func (s *scene) container(name string, digit string, maxMB int) *group {
	var parent *group

	for _, dir := range []string{"kubepods", "burstable", "pod" + lab.PodUID} {
		if i := slices.IndexFunc(s.groups, func(g *group) bool { return g.Name == dir }); i >= 0 {
			parent = s.groups[i]
			continue
		}
		parent = s.group(dir, dir, 0, parent)
	}

	return s.group(name, strings.Repeat(digit, 64), maxMB, parent)
}

// group makes a cgroup below the root or another one; maxMB 0 is no limit.
func (s *scene) group(name, dirName string, maxMB int, parent *group) *group {
	g := &group{Group: lab.Group{Name: name, Path: "/" + dirName}}
	if parent != nil {
		g.Path = parent.Path + "/" + dirName
		if s.m.v1 {
			// Before 5.11 a child's charge does not count at its parent without.
			_ = os.WriteFile(filepath.Join(parent.dir, "memory.use_hierarchy"), []byte("1"), 0)
		} else {
			check("giving out the memory controller", os.WriteFile(filepath.Join(parent.dir, "cgroup.subtree_control"), []byte("+memory"), 0))
		}
	}
	g.dir = filepath.Join(s.m.mount, g.Path)
	check("making a cgroup", os.Mkdir(g.dir, 0o755))
	var stat syscall.Stat_t
	check("looking at a cgroup", syscall.Stat(g.dir, &stat))
	g.ID = stat.Ino

	s.groups = append(s.groups, g)
	if maxMB > 0 {
		g.Max = uint64(maxMB) << 20
		g.set(s.limitFile(), fmt.Sprint(g.Max))
	}

	return g
}

func (s *scene) limitFile() string {
	if s.m.v1 {
		return "memory.limit_in_bytes"
	}

	return "memory.max"
}

func (g *group) set(file, value string) {
	check("setting "+file, os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0))
}

func (g *group) read(v1 bool) {
	if v1 {
		text, _ := os.ReadFile(filepath.Join(g.dir, "memory.oom_control"))
		g.OOMKill = counter(string(text), "oom_kill")

		return
	}
	text, _ := os.ReadFile(filepath.Join(g.dir, "memory.events"))
	g.OOM, g.OOMKill = counter(string(text), "oom"), counter(string(text), "oom_kill")
	text, _ = os.ReadFile(filepath.Join(g.dir, "memory.events.local"))
	g.OOMLocal = counter(string(text), "oom")
}

// start starts a hog in a cgroup; it begins only with go.
func (s *scene) start(name string, g *group, adj int, args ...string) *process {
	return s.launch(&process{Proc: lab.Proc{Name: name, Comm: []byte(name)}}, g, adj, 0, args...)
}

func (s *scene) launch(p *process, g *group, adj int, flags uintptr, args ...string) *process {
	p.done = make(chan struct{})
	p.cmd = exec.Command("/bin/hog", args...)
	p.cmd.Env = []string{"HOG_NAME=" + string(p.Comm)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	in, err := p.cmd.StdinPipe()
	check("a pipe", err)
	out, err := p.cmd.StdoutPipe()
	check("a pipe", err)
	p.cmd.Stderr = os.Stderr
	check("starting a hog", p.cmd.Start())
	p.in, p.out, p.PID = in, bufio.NewReader(out), p.cmd.Process.Pid

	s.procs = append(s.procs, p)
	go func() {
		if state, err := p.cmd.Process.Wait(); err == nil {
			p.status, _ = state.Sys().(syscall.WaitStatus)
		}

		close(p.done)
	}()

	check("setting oom_score_adj", os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.PID), []byte(fmt.Sprint(adj)), 0))

	if g != nil {
		p.Group = g.Name
		g.set("cgroup.procs", fmt.Sprint(p.PID))
	}

	return p
}

func (p *process) goAhead() {
	_, err := io.WriteString(p.in, "go\n")
	check("telling a hog to go on", err)
}

func (p *process) line() string {
	text, err := p.out.ReadString('\n')
	check("reading from a hog", err)

	return strings.TrimSpace(text)
}

func (p *process) waitEnd() {
	select {
	case <-p.done:
	case <-time.After(60 * time.Second):
		panic(failure{fmt.Errorf("%s is still there after 60 s", p.Name)})
	}
}

// waitRSS waits until a hog has what it was to take.
func (p *process) waitRSS(mb int) {
	for range 1200 {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID))

		fields := strings.Fields(string(text))
		if len(fields) > 1 {
			if pages, _ := strconv.Atoi(fields[1]); pages*os.Getpagesize() >= mb<<20 {
				return
			}
		}

		time.Sleep(20 * time.Millisecond)
	}

	panic(failure{fmt.Errorf("%s did not get its %d MiB", p.Name, mb)})
}
