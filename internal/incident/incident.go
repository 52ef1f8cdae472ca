// SPDX-License-Identifier: Apache-2.0

// Package incident turns the kernel's records into incidents: one for each
// decision of the OOM path, with all its victims, whatever the order in which
// the records arrive.
//
// It is a pure state machine. Records and the time come in, incidents and
// updates go out; what it must know of the machine is in Config. It belongs to
// one goroutine.
package incident

import (
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// Cgroups knows the paths of cgroups, also of those that are gone.
// *resolve.Tree is one.
type Cgroups interface {
	Place(events.CgroupKey) (place resolve.Place, path string, ok bool)
	LearnChain(chain []kernel.Memcg, cut bool)
}

// Config is what a Correlator must know of the machine.
type Config struct {
	Tier      events.Tier // how decisions are seen
	PageSize  uint64      // bytes
	CgroupV1  bool        // of the hierarchy with the memory controller
	BootID    string
	Node      string
	RAMBytes  uint64 // 0: not known
	SwapBytes uint64 // valid where RAMBytes is
	Cgroups   Cgroups
	// WallClock maps CLOCK_BOOTTIME to wall time.
	WallClock func(bootNS uint64) time.Time
	// Symbol names the kernel function at an address; nil where addresses are
	// hidden.
	Symbol func(address uint64) (name string, ok bool)
	// OOMLocal is memory_events_local[MEMCG_OOM] of the cgroups that there were
	// before the tracer, as far as it is known. The tracepoint tier tells the
	// limiter by it.
	OOMLocal map[events.CgroupKey]uint64
	// Gone tells for certain that no process has that pid any more; nil: nobody
	// knows. It is asked seconds after a kill, if the victim's end was not seen.
	Gone func(pid int) bool
	// UserKills says which SIGKILLs from user space become incidents, and Killers
	// who sent them; nil: nobody knows more than the kernel's record.
	UserKills UserKills
	Killers   Killers
	// KernelKills reads oom_kill of /proc/vmstat; nil: no audit.
	KernelKills func() (uint64, error)
}

// Out takes what a Correlator finds. An incident belongs to Out once it has been
// given.
type Out interface {
	// Headline comes at the first victim, without waiting for anything. The
	// incident has an id, a time, a scope and that victim.
	Headline(*events.Incident) error
	// Incident comes once for each id.
	Incident(*events.Incident) error
	// Update has the id, and keys that are new or changed.
	Update(*events.Incident) error
	// Finding is a result of the audit that belongs to no incident.
	Finding(at time.Time, text string) error
}

const (
	// quietNS ends an incident where the return of out_of_memory is not seen:
	// members of a group follow each other within microseconds.
	quietNS = 20e6
	// lostEndNS ends one whose PassEnd did not come. Until the next pass it can
	// still come: the kernel may be writing its report to a slow console.
	lostEndNS = 2e9
	// noKillNS is how long a decision waits for its kill, for the same reason.
	noKillNS = 60e9
	// groupNS is how long members of a group may follow each other where the
	// return of out_of_memory is not seen: each has its line in the log.
	groupNS = 5e9
	// looseNS is how long a kernel SIGKILL waits for its mark.
	looseNS = 1e9
	// updateNS is how long news of an incident are collected.
	updateNS = 500e6
	// awaitNS is how long a victim's end may take before it is remarked on.
	awaitNS = 5e9
	// recentNS is how long an incident waits for its victims' ends, and takes in
	// passes of its limiter that wait for them.
	recentNS = 60e9
	// followNS is the time in which passes without a kill belong to the kill
	// before them: the victim is still giving its memory back.
	followNS = 10e9
	// After a kill, a limiter may find nobody to kill for a moment. More of it
	// is an incident of its own.
	followNoKillableNS    = 2e9
	followNoKillableCount = 100
)

// process makes the contract's process of a task.
func (c *Correlator) process(t kernel.Task) events.Process {
	p := events.Process{PID: int(t.TGID), TID: int(t.TID), Comm: t.LeaderComm, IsKernel: t.Kthread}
	if t.Comm != t.LeaderComm {
		p.Thread = t.Comm
	}

	if t.Cgroup.ID != 0 {
		cgroup, place := c.cgroup(t.Cgroup)
		p.Cgroup, p.Workload = &cgroup, place.Workload
	}

	return p
}

func (c *Correlator) cgroup(key events.CgroupKey) (events.Cgroup, resolve.Place) {
	place, path, _ := c.cfg.Cgroups.Place(key)
	return events.Cgroup{CgroupKey: key, Path: path}, place
}

func (c *Correlator) envelope(kind string, bootNS uint64) events.Envelope {
	return events.Envelope{
		V: events.Version, Kind: kind, Time: c.cfg.WallClock(bootNS).UTC(),
		BootID: c.cfg.BootID, Node: c.cfg.Node,
	}
}

func (c *Correlator) bytes(pages uint64) *uint64 {
	bytes := pages * c.cfg.PageSize
	return &bytes
}

// limit is nil for a limit that is not set.
func (c *Correlator) limit(pages uint64) *uint64 {
	if pages == kernel.NoLimit {
		return nil
	}

	return c.bytes(pages)
}

func pointer[T any](v T) *T { return &v }
