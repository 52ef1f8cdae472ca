// SPDX-License-Identifier: Apache-2.0

// Package vm tests oomtrace on real kernels in an emulator. A [Case] has what the guest
// does and what the host expects of it. The files without _test are compiled into the
// guest, and import little.
package vm

import (
	"crypto/sha256"
	"encoding/hex"
)

// Result is what a guest sends of one boot.
type Result struct {
	Kernel    string            `json:"kernel"`  // uname -r
	Tracers   map[string]Tracer `json:"tracers"` // by tier
	Runs      []*Run            `json:"runs"`
	UpSeconds float64           `json:"up_seconds"`
	// StartSeconds is how long the tracers took to be ready.
	StartSeconds float64 `json:"start_seconds"`
	// Noise is how often per second each kind of noise was made; nil without noise.
	Noise map[string]float64 `json:"noise,omitempty"`
}

// Tracer is one oomtrace of a boot.
type Tracer struct {
	Error  string   `json:"error,omitempty"` // why it did not start
	Start  []string `json:"start,omitempty"` // its lines before the first case
	End    []string `json:"end,omitempty"`   // and after the last
	Failed string   `json:"failed,omitempty"`
}

// Run is what one case did, and what was reported of it.
type Run struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"` // why it could not be done
	// Seconds is how long the case took, QuietSeconds the wait for the tracers' last line.
	Seconds      float64 `json:"seconds"`
	QuietSeconds float64 `json:"quiet_seconds"`
	// Procs and Groups are those that the case made.
	Procs  []Proc  `json:"procs"`
	Groups []Group `json:"groups"`
	// OOMKills is oom_kill of /proc/vmstat before and after.
	OOMKills [2]uint64 `json:"oom_kills"`
	// Log has the records of /dev/kmsg; LogOverruns counts those that were overwritten
	// before they were read.
	Log         []string `json:"log"`
	LogOverruns int      `json:"log_overruns"`
	// Facts are numbers that the case measured itself.
	Facts map[string]uint64 `json:"facts,omitempty"`
	// Lines are those of each tracer, by tier.
	Lines map[string][]string `json:"lines"`
	// DelaysMS is how long after its time each incident was printed, by tier and id.
	DelaysMS map[string]map[string]float64 `json:"delays_ms"`
}

// Proc is a process that a case started.
type Proc struct {
	Name   string `json:"name"` // in the case
	PID    int    `json:"pid"`
	Comm   []byte `json:"comm"`            // any bytes; JSON strings cannot hold them
	Group  string `json:"group,omitempty"` // name of its cgroup in the case
	Killed bool   `json:"killed"`          // it ended by SIGKILL before the case was cleaned up
	// Threads are the ids of its threads but the first, where the log may name them.
	Threads []int `json:"threads,omitempty"`
}

// Group is a cgroup that a case made.
type Group struct {
	Name string `json:"name"` // in the case
	Path string `json:"path"`
	ID   uint64 `json:"id"`
	// OOM and OOMKill are from memory.events, OOMLocal from memory.events.local, at the
	// end; a new cgroup starts with zeros.
	OOM      uint64 `json:"oom"`
	OOMKill  uint64 `json:"oom_kill"`
	OOMLocal uint64 `json:"oom_local"`
	Max      uint64 `json:"max"` // bytes; 0: no limit
}

// podUID is of the pod whose cgroups some cases make.
const podUID = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"

// markPrinted precedes the [lineSum] of an incident that was printed, in a machine whose
// power will be cut.
const markPrinted = "@@LAB-PRINTED@@"

// readBack is what such a machine finds on its disk when it starts, before it records
// again.
type readBack struct {
	Error     string   `json:"error,omitempty"` // the recording does not read back
	Incidents []string `json:"incidents"`       // lineSum of each
	Lines     int      `json:"lines"`           // of any kind
	Packed    int      `json:"packed"`          // compressed segments
	Warnings  []string `json:"warnings"`        // of the replay
}

// lineSum identifies a line: long lines get lost on the console.
func lineSum(line string) string {
	sum := sha256.Sum256([]byte(line))
	return hex.EncodeToString(sum[:16])
}
