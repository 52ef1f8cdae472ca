// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// mostUnkillable bounds the listed processes of oom_score_adj -1000. They are listed
// because they can hold the memory for which others are killed.
const mostUnkillable = 3

// Candidates are the processes that an OOM kill would choose from.
type Candidates struct {
	// List has the most likely victims first, then the largest unkillable processes.
	List []events.Candidate
	// LeftOut counts the processes that List does not have, Unread those that could not
	// be read.
	LeftOut, Unread int
	// TotalPages is what oom_score_adj is a share of (oom_control.totalpages), 0 if
	// unknown. No candidate has points then.
	TotalPages uint64
}

// Candidates ranks the processes in and below a cgroup, or with an empty path all
// processes of the host, as the kernel would if it had to kill one now
// (mm/oom_kill.c: oom_badness, since 4.17), and returns at most the given number of
// them. Like the kernel, it leaves out kernel threads, zombies and the host's init.
// What /proc does not show is not considered: a task in vfork, or one being reaped.
//
// It reads two files of /proc for each process (about 25 µs). Reading them takes no
// mmap lock, so a process stuck in reclaim does not block it. Once ctx is done, the
// remaining processes are counted as unread.
func (r Reader) Candidates(ctx context.Context, path string, most int) (Candidates, error) {
	var c Candidates
	c.TotalPages = r.totalPages(path)

	pids, err := r.pids(ctx, path)
	if err != nil {
		return c, err
	}
	all := make([]candidate, 0, len(pids))
	reader := procReader{root: r.in("proc")}
	init := reader.init()

	for i, at := range pids {
		if ctx.Err() != nil {
			c.Unread += len(pids) - i
			break
		}

		if at.pid == init {
			continue
		}

		p, err := reader.candidate(at.pid)
		switch {
		case errors.Is(err, errNoMemory), vanished(err), errors.Is(err, syscall.ESRCH):
			continue
		case err != nil:
			c.Unread++
			continue
		}
		p.cgroup = at.cgroup
		p.score(c.TotalPages)
		all = append(all, p)
	}

	slices.SortStableFunc(all, byBadness)
	c.List = r.pick(all, most)
	c.LeftOut = len(all) - len(c.List)

	return c, nil
}

// pick returns the first processes, and the largest unkillable ones, which are sorted
// behind all others.
func (r Reader) pick(all []candidate, most int) []events.Candidate {
	killable := slices.IndexFunc(all, func(p candidate) bool { return p.unkillable() })
	if killable < 0 {
		killable = len(all)
	}
	spared := all[killable:]
	picked := slices.Concat(all[:min(most, killable)], spared[:min(mostUnkillable, len(spared))])

	list := make([]events.Candidate, 0, len(picked))
	for _, p := range picked {
		if p.cgroup == "" {
			p.cgroup, _ = r.CgroupOf(p.pid)
		}
		list = append(list, r.contract(p))
	}

	return list
}

func (r Reader) contract(p candidate) events.Candidate {
	c := events.Candidate{
		Process:      events.Process{PID: p.pid, TID: p.pid, Comm: p.comm},
		AnonRSSBytes: p.anon, FileRSSBytes: p.file, ShmemRSSBytes: p.shmem,
		SwapBytes: p.swap, PgtablesBytes: p.pgtables,
		OOMScoreAdj: p.adj, Points: p.points, Unkillable: p.unkillable(),
	}
	if p.anon == nil {
		c.RSSBytes = p.rss
	}

	if p.cgroup != "" && r.Layout.MemoryMount != "" {
		cgroup := r.Cgroup(p.cgroup)
		c.Cgroup = &cgroup
		_, c.Workload = r.place(p.cgroup)
	}

	return c
}

// candidate is a process as /proc shows it; nil is unknown.
type candidate struct {
	pid                                    int
	comm, cgroup                           string
	rss, anon, file, shmem, swap, pgtables *uint64 // bytes
	adj                                    *int
	points                                 *int64
}

func (p *candidate) unkillable() bool { return p.adj != nil && *p.adj == oom.ScoreAdjMin }

// size is the badness without the adjustment, in bytes.
func (p *candidate) size() uint64 { return value(p.rss) + value(p.swap) + value(p.pgtables) }

func (p *candidate) score(totalPages uint64) {
	if p.adj == nil || p.rss == nil || totalPages == 0 || p.unkillable() {
		return
	}
	page := uint64(PageSize())
	points := oom.Badness(value(p.rss)/page+value(p.swap)/page+value(p.pgtables)/page, *p.adj, totalPages)
	p.points = &points
}

// byBadness sorts processes without points behind those with points, and unkillable
// ones last.
func byBadness(a, b candidate) int {
	if c := boolCompare(a.unkillable(), b.unkillable()); c != 0 {
		return c
	}

	if c := boolCompare(a.points == nil, b.points == nil); c != 0 {
		return c
	}

	if a.points != nil && *a.points != *b.points {
		return cmp.Compare(*b.points, *a.points)
	}

	return cmp.Compare(b.size(), a.size())
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}

	return -1
}

// totalPages is what oom_score_adj is a share of: RAM and swap, or the most that a
// cgroup may use of both (mm/memcontrol.c: mem_cgroup_get_max).
func (r Reader) totalPages(path string) uint64 {
	text, err := readSmall(r.in("proc/meminfo"))
	if err != nil {
		return 0
	}
	ram, okRAM := field(text, "MemTotal:")

	swap, okSwap := field(text, "SwapTotal:")
	if !okRAM || !okSwap {
		return 0
	}
	page := uint64(PageSize())
	ramPages, swapPages := ram*1024/page, swap*1024/page

	if path != "" && r.Layout.MemoryMount != "" {
		if _, limit := r.Layout.usage(path); limit != nil {
			return max(*limit/page+min(r.swapPages(path, *limit), swapPages), 1)
		}
	}

	return ramPages + swapPages
}

// swapPages is how much swap a cgroup may use in addition to its limit: none if its
// swappiness is 0.
func (r Reader) swapPages(path string, limitBytes uint64) uint64 {
	const all = 1 << 50
	dir := r.Layout.dir(path)

	swappiness := r.in("proc/sys/vm/swappiness") // cgroup v2 has one for all cgroups
	if r.Layout.MemoryVersion == 1 {
		swappiness = filepath.Join(dir, "memory.swappiness")
	}

	if n := readNumber(swappiness); n != nil && *n == 0 {
		return 0
	}
	page := uint64(PageSize())

	if r.Layout.MemoryVersion == 1 { // the limit is of memory and swap together
		if both := limited(readNumber(filepath.Join(dir, "memory.memsw.limit_in_bytes"))); both != nil {
			return (max(*both, limitBytes) - limitBytes) / page
		}

		return all
	}

	if n := readNumber(filepath.Join(dir, "memory.swap.max")); n != nil {
		return *n / page
	}

	return all
}

// location is a process and the cgroup in which it was found.
type location struct {
	pid    int
	cgroup string // empty: not known yet
}

// pids lists the processes in and below a cgroup, or all.
func (r Reader) pids(ctx context.Context, path string) ([]location, error) {
	if path == "" {
		return r.allPIDs()
	}

	return r.locations(ctx, path, "cgroup.procs")
}

// locations lists the processes or threads that a file has in and below a cgroup:
// cgroup.procs, or tasks of cgroup v1.
func (r Reader) locations(ctx context.Context, path, file string) ([]location, error) {
	var found []location
	seen := map[int]bool{}
	top := r.Layout.dir(path)
	walk := func(dir string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return fs.SkipAll
		case err != nil && dir == top:
			return err
		case err != nil || !entry.IsDir():
			return nil
		}

		rest, err := filepath.Rel(top, dir)
		if err != nil {
			return err
		}
		// Reading it fails in a threaded cgroup, whose processes are in its domain.
		text, err := readUpTo(filepath.Join(dir, file), maxProcs)
		if err != nil {
			return nil
		}

		for _, word := range strings.Fields(string(text)) {
			// 0 is a process outside of our pid namespace.
			pid, err := strconv.Atoi(word)
			if err != nil || pid <= 0 || seen[pid] {
				continue
			}
			seen[pid] = true
			found = append(found, location{pid, filepath.Join(path, rest)})
		}

		return nil
	}

	return found, filepath.WalkDir(top, walk)
}

// maxProcs bounds the size of cgroup.procs: more than PID_MAX_LIMIT processes need.
const maxProcs = 64 << 20

func (r Reader) allPIDs() ([]location, error) {
	dir, err := os.Open(r.in("proc"))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	var found []location

	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid > 0 {
			found = append(found, location{pid: pid})
		}
	}

	return found, err
}

// errNoMemory is returned for kernel threads and zombies.
var errNoMemory = errors.New("the process has no memory")

// procReader reads small files of many processes into one buffer.
type procReader struct {
	root string
	buf  [16 << 10]byte
}

// read makes the system calls itself: os.File would register each file with the poller.
func (r *procReader) read(path string) ([]byte, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)

	n := 0
	for n < len(r.buf) {
		got, err := syscall.Read(fd, r.buf[n:])
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return nil, err
		case got == 0:
			return r.buf[:n], nil
		}
		n += got
	}

	return r.buf[:n], nil
}

// candidate reads /proc/PID/status (fs/proc/task_mmu.c: task_mem) and oom_score_adj.
func (r *procReader) candidate(pid int) (candidate, error) {
	p := candidate{pid: pid}
	dir := r.root + "/" + strconv.Itoa(pid)

	text, err := r.read(dir + "/status")
	if err != nil {
		return p, err
	}

	p.status(text)

	if p.rss == nil {
		return p, errNoMemory
	}

	text, err = r.read(dir + "/oom_score_adj")
	if err != nil {
		return p, err
	}

	if adj, err := strconv.Atoi(string(bytes.TrimSpace(text))); err == nil && adj >= oom.ScoreAdjMin && adj <= 1000 {
		p.adj = &adj
	}

	return p, nil
}

// init returns the pid of the host's init, which the kernel never kills, or 0 if this
// /proc is of another pid namespace: one without kernel threads, whose pid 1 can be
// killed.
func (r *procReader) init() int {
	if p, err := r.candidate(2); errors.Is(err, errNoMemory) && p.comm == "kthreadd" {
		return 1
	}

	return 0
}

func (p *candidate) status(text []byte) {
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))

		name, rest, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		var to **uint64

		switch string(name) {
		case "Name":
			p.comm = unescapeName(string(bytes.TrimPrefix(rest, []byte("\t"))))
			continue
		case "VmRSS":
			to = &p.rss
		case "RssAnon":
			to = &p.anon
		case "RssFile":
			to = &p.file
		case "RssShmem":
			to = &p.shmem
		case "VmPTE":
			to = &p.pgtables
		case "VmSwap":
			to = &p.swap
		case "Threads":
			return // no field read here comes after it
		default:
			continue
		}

		kib, err := strconv.ParseUint(string(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte(" kB"))), 10, 50)
		if err == nil {
			kib *= 1024
			*to = &kib
		}
	}
}

// unescapeName reverts the escaping of fs/proc/array.c: proc_task_name.
func unescapeName(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}

	return strings.NewReplacer(`\\`, `\`, `\n`, "\n").Replace(s)
}
