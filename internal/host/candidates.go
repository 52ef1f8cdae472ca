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
)

// mostUnkillable is how many processes of oom_score_adj -1000 are told of: they
// can hold the memory that others die for.
const mostUnkillable = 3

// Candidates are the processes that an OOM kill would choose from.
type Candidates struct {
	// List has the likeliest first; after them the largest that cannot be killed.
	List []events.Candidate
	// LeftOut is how many more there are, Unread how many could not be looked at.
	LeftOut, Unread int
	// TotalPages is what points of oom_score_adj are taken of: 0 if it is not known,
	// and then no candidate has points.
	TotalPages uint64
}

// Candidates ranks the processes in and below a cgroup, or with an empty path all
// of the machine, as the kernel would if it had to kill one now (mm/oom_kill.c:
// oom_badness, since 4.17). It gives at most that many. Kernel threads, zombies
// and the machine's init are left out, as the kernel does. What a file cannot
// tell is not considered: a task in vfork, or one that is being reaped.
//
// Of each process it reads two files of /proc that take no lock of its memory,
// so that a process stuck in reclaim holds nobody up: some 25 µs. When ctx is
// done, the rest is counted as unread.
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

// pick takes the first, and the largest of those that cannot be killed, which
// are sorted behind all others.
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

// candidate is a process as /proc has it; nil is not known.
type candidate struct {
	pid                                    int
	comm, cgroup                           string
	rss, anon, file, shmem, swap, pgtables *uint64 // bytes
	adj                                    *int
	points                                 *int64
}

// oomScoreAdjMin is include/uapi/linux/oom.h: OOM_SCORE_ADJ_MIN.
const oomScoreAdjMin = -1000

func (p *candidate) unkillable() bool { return p.adj != nil && *p.adj == oomScoreAdjMin }

// size is the badness without the adjustment, in bytes.
func (p *candidate) size() uint64 { return value(p.rss) + value(p.swap) + value(p.pgtables) }

func (p *candidate) score(totalPages uint64) {
	if p.adj == nil || p.rss == nil || totalPages == 0 || p.unkillable() {
		return
	}
	page := uint64(PageSize())
	points := int64(value(p.rss)/page) + int64(value(p.swap)/page) + int64(value(p.pgtables)/page)
	points += int64(*p.adj) * int64(totalPages/1000)
	p.points = &points
}

// byBadness puts those without points behind, and those that cannot be killed last.
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

// totalPages is what the kernel takes oom_score_adj of: RAM and swap, or what a
// cgroup may use at most of both (mm/memcontrol.c: mem_cgroup_get_max).
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

// swapPages is how much swap a cgroup may use beside its limit: none where it does
// not swap at all.
func (r Reader) swapPages(path string, limitBytes uint64) uint64 {
	const all = 1 << 50
	dir := r.Layout.dir(path)

	swappiness := r.in("proc/sys/vm/swappiness") // of all in cgroup v2
	if r.Layout.MemoryVersion == 1 {
		swappiness = filepath.Join(dir, "memory.swappiness")
	}

	if n := readNumber(swappiness); n != nil && *n == 0 {
		return 0
	}
	page := uint64(PageSize())

	if r.Layout.MemoryVersion == 1 { // of memory and swap together
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

// location is a process and the cgroup it was found in.
type location struct {
	pid    int
	cgroup string // empty: not known yet
}

// pids lists the processes in and below a cgroup, or all.
func (r Reader) pids(ctx context.Context, path string) ([]location, error) {
	if path == "" {
		return r.allPIDs()
	}
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
		// Of a threaded cgroup it cannot be read: its domain has the processes.
		text, err := readUpTo(filepath.Join(dir, "cgroup.procs"), maxProcs)
		if err != nil {
			return nil
		}

		for _, word := range strings.Fields(string(text)) {
			// 0 is a process of another pid namespace than ours.
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

// maxProcs bounds cgroup.procs: more than the processes that a kernel can have.
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

// errNoMemory is of kernel threads and zombies.
var errNoMemory = errors.New("it has no memory")

// procReader reads small files of many processes by one buffer.
type procReader struct {
	root string
	buf  [16 << 10]byte
}

// read goes by system calls: os.File would ask the poller of each file first.
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

	if adj, err := strconv.Atoi(string(bytes.TrimSpace(text))); err == nil && adj >= oomScoreAdjMin && adj <= 1000 {
		p.adj = &adj
	}

	return p, nil
}

// init is the pid of the machine's init: 0 where another pid namespace is seen,
// one without kernel threads, whose first process may well be killed.
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
			return // nothing of ours comes after it
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

// unescapeName undoes what fs/proc/array.c: proc_task_name escapes.
func unescapeName(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}

	return strings.NewReplacer(`\\`, `\`, `\n`, "\n").Replace(s)
}
