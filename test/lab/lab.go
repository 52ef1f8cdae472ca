// SPDX-License-Identifier: Apache-2.0

// Package lab is what the guest of a test machine and the checker outside agree
// on: what was done, and what the kernel and the tracers said of it.
package lab

// Result is all of one boot.
type Result struct {
	Kernel   string            `json:"kernel"` // uname -r
	CgroupV1 bool              `json:"cgroup_v1"`
	Tracers  map[string]Tracer `json:"tracers"` // by tier
	Cases    []Case            `json:"cases"`
	// StartSeconds is how long the tracers took to be ready, UpSeconds the machine in all.
	StartSeconds float64 `json:"start_seconds"`
	UpSeconds    float64 `json:"up_seconds"`
}

// Tracer tells of one running oomtrace.
type Tracer struct {
	Error  string   `json:"error,omitempty"` // it did not start
	Start  []string `json:"start,omitempty"` // its lines before the first case
	End    []string `json:"end,omitempty"`   // and after the last
	Stderr string   `json:"stderr,omitempty"`
	ExitOK bool     `json:"exit_ok"`
}

// Case is what one case did, and what was said of it.
type Case struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"` // the deed could not be done
	// Seconds are how long the deed took, and the wait for the tracers' last word.
	Seconds [2]float64 `json:"seconds"`
	// Procs and Groups are what the case made.
	Procs  []Proc  `json:"procs"`
	Groups []Group `json:"groups"`
	// OOMKills is oom_kill of /proc/vmstat before and after.
	OOMKills [2]uint64 `json:"oom_kills"`
	// Log is the kernel's log of the case, as /dev/kmsg has it: a record each.
	Log []string `json:"log"`
	// LogOverruns is how often records of it were overwritten before they were read.
	LogOverruns int `json:"log_overruns"`
	// Facts are numbers that the case measured by itself.
	Facts map[string]uint64 `json:"facts,omitempty"`
	// Lines are those of each tracer, by tier.
	Lines map[string][]string `json:"lines"`
}

// Proc is a process that a case started.
type Proc struct {
	Name   string `json:"name"` // in the case
	PID    int    `json:"pid"`
	Comm   []byte `json:"comm"`            // any bytes; JSON strings cannot hold them
	Group  string `json:"group,omitempty"` // name of its cgroup in the case
	Killed bool   `json:"killed"`          // it ended by SIGKILL before the case was cleaned up
}

// Group is a cgroup that a case made.
type Group struct {
	Name string `json:"name"`
	Path string `json:"path"`
	ID   uint64 `json:"id"`
	// Events are oom and oom_kill of memory.events, and oom of
	// memory.events.local, at the end; a new cgroup begins with zeros.
	OOM      uint64 `json:"oom"`
	OOMKill  uint64 `json:"oom_kill"`
	OOMLocal uint64 `json:"oom_local"`
	Max      uint64 `json:"max"` // bytes; 0: no limit
}

// PodUID is of the pod whose cgroups some cases make.
const PodUID = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"

// Markers of the console. Between Begin and End stands base64 of gzip of a
// Result.
const (
	MarkStart = "@@LAB-START@@"
	MarkCase  = "@@LAB-CASE@@"
	MarkBegin = "@@LAB-BEGIN@@"
	MarkEnd   = "@@LAB-END@@"
)
