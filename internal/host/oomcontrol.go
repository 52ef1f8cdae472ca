// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// OOMControl is memory.oom_control of a cgroup v1 memcg (5.10 mm/memcontrol.c, 6.12
// mm/memcontrol-v1.c: mem_cgroup_oom_control_read). cgroup v2 has no such file.
type OOMControl struct {
	// KillDisabled is oom_kill_disable: a task whose charge fails in a page fault sleeps,
	// and nothing is killed.
	KillDisabled bool
	// UnderOOM is under_oom: at the limit of this cgroup or of an ancestor tasks wait, or
	// the OOM killer is at work. The kernel marks the whole subtree of the limiter.
	UnderOOM bool
}

// OOMControl reads the file of a cgroup. It is not ok where that cannot be read: in cgroup
// v2, and for the root of a kernel that has none there.
func (r Reader) OOMControl(path string) (c OOMControl, ok bool) {
	if r.Layout.MemoryVersion != 1 {
		return c, false
	}

	text, err := readSmall(filepath.Join(r.Layout.dir(path), "memory.oom_control"))
	if err != nil {
		return c, false
	}
	disabled, okDisabled := field(text, "oom_kill_disable")
	under, okUnder := field(text, "under_oom")

	return OOMControl{disabled == 1, under == 1}, okDisabled && okUnder
}

// OOMWaitLimiter returns the cgroup whose OOM killer is disabled and at whose limit tasks
// in or below a cgroup may wait: the topmost such ancestor that is under OOM. That alone
// is no proof of waiting tasks: OOMWaiters finds them.
func (r Reader) OOMWaitLimiter(path string) (limiter string, ok bool) {
	for _, at := range r.Layout.Above(path) {
		c, known := r.OOMControl(at)
		if !known || !c.UnderOOM {
			break
		}

		if c.KillDisabled {
			limiter, ok = at, true
		}
	}

	return limiter, ok
}

// Limiter returns the limiter that an ancestor is at its limit, with its memory.oom_control
// in cgroup v1.
func (r Reader) Limiter(a *events.Rung) *events.Limiter {
	l := &events.Limiter{
		Level: a.Level, Which: "memory.max", LimitBytes: a.MaxBytes, UsageBytes: a.UsageBytes,
		SwapLimitBytes: a.SwapMaxBytes, SwapUsageBytes: a.SwapUsageBytes, Cgroup: &a.Cgroup, Workload: a.Workload,
	}
	if r.Layout.MemoryVersion == 1 {
		oom.V1Limiter(l, oom.V1LimitFile(room(a.UsageBytes, a.MaxBytes), room(a.SwapUsageBytes, a.SwapMaxBytes)))
	}

	if c, ok := r.OOMControl(a.Cgroup.Path); ok {
		l.OOMKillDisable, l.UnderOOM = &c.KillDisabled, &c.UnderOOM
	}

	return l
}

// room returns how much is left below a limit.
func room(usage, limit *uint64) uint64 {
	if limit == nil || usage == nil {
		return oom.NoLimit
	}

	return *limit - min(*usage, *limit)
}

// maxOOMWaitThreads bounds the threads that OOMWaiters examines, some 10 µs each.
const maxOOMWaitThreads = 4096

// OOMWaiters are the threads that wait for memory at the limit of a cgroup.
type OOMWaiters struct {
	Tasks []kernel.Task
	// LeftOut counts waiting threads beyond those listed, Unread threads that were not
	// examined.
	LeftOut, Unread int
}

// OOMWaiters finds the threads in and below a cgroup that sleep in
// mem_cgroup_oom_synchronize, and lists at most the given number of them. It examines a
// bounded number of threads; once ctx is done, the others are counted as unread. It reads
// status of each thread, and the stack of those in uninterruptible sleep. Neither takes an
// mmap lock; the stack takes exec_update_lock, which a thread in execve may hold.
func (r Reader) OOMWaiters(ctx context.Context, path string, most int) OOMWaiters {
	var w OOMWaiters
	reader := procReader{root: r.in("proc")}

	tids, err := r.locations(ctx, path, "tasks")
	if err != nil {
		return w
	}

	for i, at := range tids {
		if ctx.Err() != nil || i == maxOOMWaitThreads {
			w.Unread += len(tids) - i
			break
		}

		task, waits := reader.oomWaiter(at.pid)
		switch {
		case !waits:
		case len(w.Tasks) < most:
			task.Cgroup = r.Cgroup(at.cgroup).CgroupKey
			w.Tasks = append(w.Tasks, task)
		default:
			w.LeftOut++
		}
	}

	return w
}

// OOMWaits reports whether a thread sleeps in mem_cgroup_oom_synchronize.
func (r Reader) OOMWaits(tid int) bool {
	reader := procReader{root: r.in("proc")}
	_, waits := reader.oomWaiter(tid)

	return waits
}

// ThreadExited reports whether a thread is gone, or a zombie.
func (r Reader) ThreadExited(tid int) bool {
	text, err := readSmall(r.in(filepath.Join("proc", strconv.Itoa(tid), "status")))
	if err != nil {
		return vanished(err) || errors.Is(err, syscall.ESRCH)
	}
	state := fieldText(text, "State:")

	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}

// oomWaiter returns a thread and its process if it waits.
func (r *procReader) oomWaiter(tid int) (t kernel.Task, waits bool) {
	dir := r.root + "/" + strconv.Itoa(tid)

	text, err := r.read(dir + "/status")
	if err != nil || !strings.HasPrefix(fieldText(text, "State:"), "D") {
		return t, false
	}
	tgid, _ := field(text, "Tgid:")

	if !r.sleepsForOOM(dir) {
		return t, false
	}
	t.TGID, t.TID = uint32(tgid), uint32(tid)
	t.Comm, t.LeaderComm = r.comm(t.TID), r.comm(t.TGID)

	return t, true
}

// sleepsForOOM reports whether a thread in uninterruptible sleep waits for memory, by its
// kernel stack; else by wchan, for those who may not read the stack. wchan alone is not
// enough: x86 kernels before 5.16 without frame pointers show 0 there, or a chance value
// (5.10 arch/x86/kernel/process.c: get_wchan). Where neither is shown it does: the caller
// knows that its cgroup is under OOM.
func (r *procReader) sleepsForOOM(dir string) bool {
	const function = "mem_cgroup_oom_synchronize"

	if text, err := r.read(dir + "/stack"); err == nil && len(text) > 0 {
		return bytes.Contains(text, []byte(function))
	}

	text, err := r.read(dir + "/wchan")

	return err != nil || string(text) == "0" || bytes.HasPrefix(text, []byte(function))
}

// comm returns the name of a thread, empty if it cannot be read.
func (r *procReader) comm(tid uint32) string {
	text, err := r.read(r.root + "/" + strconv.Itoa(int(tid)) + "/comm")
	if err != nil {
		return ""
	}

	return strings.TrimSuffix(string(text), "\n")
}
