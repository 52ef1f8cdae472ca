// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"strconv"
	"strings"
)

// report is the kernel's own account of one OOM kill (mm/oom_kill.c:
// dump_header and __oom_kill_process). The log's rate limit may leave only kills.
type report struct {
	invoker    string
	invokerPID int // a thread's id; 0: not in the log
	gfp        uint32
	order      int
	constraint string // CONSTRAINT_MEMCG ...
	nodes      string // nodemask of a memory policy, or mems_allowed
	oomMemcg   string
	taskMemcg  string
	pid, uid   int
	usageKB    uint64
	limitKB    uint64
	whole      bool // the header was there
	kills      []logKill
	stat       map[string]uint64 // memory.stat of the limiter, in bytes
}

type logKill struct {
	pid                                       int
	comm                                      string
	totalVMKB, anonKB, fileKB, shmemKB, pgtKB uint64
	uid, adj                                  int
	memcg                                     bool
}

var (
	invokedLine = regexp.MustCompile(`^(.*) invoked oom-killer: gfp_mask=(0x[0-9a-f]+)\(.*\), order=(-?\d+), oom_score_adj=(-?\d+)$`)
	taskLine    = regexp.MustCompile(`^CPU: \d+ (?:UID: \d+ )?PID: (\d+) `)
	statLine    = regexp.MustCompile(`^(\w+) (\d+)$`)
	usageLine   = regexp.MustCompile(`^memory: usage (\d+)kB, limit (\d+)kB, failcnt \d+$`)
	killLine    = regexp.MustCompile(`^oom-kill:constraint=(\w+),nodemask=([^ ]*),cpuset=.*,mems_allowed=([^ ]*?),(?:oom_memcg=(.*)|global_oom),task_memcg=(.*),task=(.*),pid=(\d+),uid=(\d+)$`)
	killedLine  = regexp.MustCompile(`^(Memory cgroup out of memory|Out of memory[^:]*): Killed process (\d+) \((.*)\) total-vm:(\d+)kB, anon-rss:(\d+)kB, file-rss:(\d+)kB, shmem-rss:(\d+)kB, UID:(\d+) pgtables:(\d+)kB oom_score_adj:(-?\d+)$`)
)

// parseLog reads the reports of a log, and how often it says that there was
// nobody to kill.
func parseLog(lines []string) (reports []report, noKillable int) {
	var open *report
	flush := func() {
		if open != nil && len(open.kills) > 0 {
			reports = append(reports, *open)
		}
		open = nil
	}
	for _, line := range lines {
		if m := invokedLine.FindStringSubmatch(line); m != nil {
			flush()
			open = &report{
				invoker: m[1], gfp: uint32(number(m[2])), order: int(number(m[3])), whole: true, stat: make(map[string]uint64),
			}
			continue
		}
		if strings.Contains(line, "no killable processes") {
			noKillable++
			open = nil
			continue
		}
		if m := killedLine.FindStringSubmatch(line); m != nil {
			kill := logKill{
				memcg: strings.HasPrefix(m[1], "Memory"), pid: int(number(m[2])), comm: m[3],
				totalVMKB: uint64(number(m[4])), anonKB: uint64(number(m[5])), fileKB: uint64(number(m[6])),
				shmemKB: uint64(number(m[7])), uid: int(number(m[8])), pgtKB: uint64(number(m[9])), adj: int(number(m[10])),
			}
			if open == nil {
				open = &report{}
			}
			open.kills = append(open.kills, kill)
			continue
		}
		if open == nil {
			continue
		}
		switch m := taskLine.FindStringSubmatch(line); {
		case m != nil && open.invokerPID == 0:
			open.invokerPID = int(number(m[1]))
		}
		// Older kernels write the counters as one record of many lines.
		for part := range strings.SplitSeq(line, `\x0a`) {
			if m := statLine.FindStringSubmatch(part); m != nil && open.whole {
				open.stat[m[1]] = uint64(number(m[2]))
			}
		}
		if m := usageLine.FindStringSubmatch(line); m != nil {
			open.usageKB, open.limitKB = uint64(number(m[1])), uint64(number(m[2]))
		}
		if m := killLine.FindStringSubmatch(line); m != nil {
			open.constraint, open.oomMemcg, open.taskMemcg = m[1], m[4], m[5]
			open.pid, open.uid = int(number(m[7])), int(number(m[8]))
			open.nodes = m[3]
			if m[2] != "(null)" {
				open.nodes = m[2]
			}
		}
	}
	flush()
	return reports, noKillable
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 0, 64)
	return n
}
