// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/diagnose"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernellog"
)

// recorded returns the incident of a report that a kernel wrote in a virtual machine.
func recorded(t *testing.T, name string) *events.Incident {
	t.Helper()

	text, err := os.Open(filepath.Join("../kernellog/testdata/dmesg", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()

	var last *events.Incident

	if _, err := kernellog.Read(text, kernellog.Options{}, func(inc *events.Incident) error {
		last = inc
		return nil
	}); err != nil || last == nil {
		t.Fatalf("got error %v and incident %v, want a report", err, last)
	}

	return last
}

// unknownToTracepoints is what an incident of tracepoints alone lacks on cgroup v2.
var unknownToTracepoints = []string{
	"victims.points", "victims.released_after_ns", "allocation.order", "allocation.gfp", "allocation.gfp_flags",
	"allocation.total_pages", "memory",
}

// byTracepoints is the incident that tracepoints alone show of a kill that the log has.
func byTracepoints(log *events.Incident, unknown ...string) *events.Incident {
	v := log.Victims[0]
	seen := events.Victim{
		Process: events.Process{PID: v.PID, TID: v.TID, Comm: v.Comm, Cgroup: v.Cgroup}, Role: v.Role,
		AnonRSSBytes: v.AnonRSSBytes, FileRSSBytes: v.FileRSSBytes, ShmemRSSBytes: v.ShmemRSSBytes, SwapBytes: v.SwapBytes,
		TotalVMBytes: v.TotalVMBytes, PgtablesBytes: v.PgtablesBytes,
	}
	inc := &events.Incident{
		Envelope: events.Envelope{V: events.Version, Kind: events.KindIncident, Time: time.Now(), BootID: testBoot}, ID: "live-1",
		Scope: log.Scope, Outcome: log.Outcome, Tier: events.TierTracepoint, Trigger: log.Trigger, Killer: log.Killer,
		Victims: []events.Victim{seen}, Allocation: &events.Allocation{},
		Unknown: append(slices.Clone(unknownToTracepoints), unknown...),
	}

	if l := log.Limiter; l.Cgroup != nil {
		own := *l
		own.Cgroup = &events.Cgroup{CgroupKey: events.CgroupKey{ID: 7}, Path: l.Cgroup.Path}
		inc.Limiter = &own
		inc.Ladder = []events.Rung{{
			Cgroup: *own.Cgroup, Level: l.Level, UsageBytes: l.UsageBytes, MaxBytes: l.LimitBytes, OOMGroup: new(false),
		}}
	} else {
		inc.Limiter = l
	}

	return inc
}

func merged(inc, change *events.Incident) *events.Incident {
	after := *inc
	events.Merge(&after, change)

	return &after
}

func firstCause(inc *events.Incident) string {
	if causes := diagnose.Diagnose(inc, nil); len(causes) > 0 {
		return causes[0].ID
	}

	return ""
}

func TestAnIncidentHasTheCauseOfItsLog(t *testing.T) {
	for _, test := range []struct {
		log  string
		want string
	}{
		{"6.12.117-memcg-tmpfs", "tmpfs"}, {"5.10.0-32-memcg-tmpfs", "tmpfs"}, {"7.3.4-memcg-leaf", "own_limit"},
	} {
		log := recorded(t, test.log)
		inc := byTracepoints(log)

		after := merged(inc, fromLog(inc, log))
		if got := firstCause(after); got != test.want || got != firstCause(log) {
			t.Errorf("%s: got cause %q, want %q; the log's is %q", test.log, got, test.want, firstCause(log))
		}

		for _, key := range []string{"memory", "allocation.order", "allocation.gfp", "allocation.gfp_flags", "victims.points"} {
			if from := after.SourceOf(key); from == nil || from.Source != events.SourceKernelLog || slices.Contains(after.Unknown, key) {
				t.Errorf("%s: got %s from %+v with unknown %q, want it from the kernel's log", test.log, key, from, after.Unknown)
			}
		}

		if after.Limiter.Cgroup.ID != 7 || !slices.Contains(after.Unknown, "victims.released_after_ns") {
			t.Errorf("%s: got limiter %+v and unknown %q, want what the trace saw", test.log, after.Limiter.Cgroup, after.Unknown)
		}
	}
}

func TestWhatTheTraceSawIsNotReplaced(t *testing.T) {
	log := recorded(t, "6.12.117-memcg-tmpfs")
	inc := byTracepoints(log)
	inc.Memory = &events.Memory{AnonBytes: new(uint64(1)), FileBytes: new(uint64(2)), ShmemBytes: new(uint64(3))}
	inc.Allocation = &events.Allocation{Order: new(9), Class: "slab"}
	inc.Unknown = []string{"allocation.gfp", "memory.percpu_bytes"}

	change := fromLog(inc, log)
	if change.Memory == nil || *change.Memory.AnonBytes != 1 || change.Memory.PercpuBytes == nil {
		t.Errorf("got memory %+v, want its own with the log's per-CPU memory", change.Memory)
	}

	if *change.Allocation.Order != 9 || change.Allocation.Class != "slab" || change.Allocation.GFP == nil {
		t.Errorf("got allocation %+v, want its own with the log's flags", change.Allocation)
	}

	if change.Limiter != nil || change.Scope != "" || change.Ladder != nil || change.Trigger != nil || change.Notes != nil {
		t.Errorf("got change %+v, want what is known left alone", change)
	}
}

func TestAConcludedNodeBecomesTheLogsNodes(t *testing.T) {
	for _, test := range []struct {
		log   string
		scope events.Scope
		cause string
	}{
		{"6.12.117-cpuset", events.ScopeCpuset, "cpuset_exhausted"},
		{"5.10.0-32-mempolicy", events.ScopeMempolicy, "mempolicy_exhausted"},
	} {
		log := recorded(t, test.log)
		inc := byTracepoints(log, "constraint", "limiter.usage_bytes", "limiter.swap_usage_bytes")
		inc.Scope = events.ScopeGlobal
		inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "node", LimitBytes: new(uint64(1 << 30))}
		inc.Killer = &events.Killer{Kind: "kernel", Path: "global"}

		after := merged(inc, fromLog(inc, log))
		if after.Scope != test.scope || after.Limiter.Which != "numa_nodes" || len(after.Limiter.Nodes) == 0 {
			t.Errorf("%s: got scope %s, limiter %+v, want NUMA nodes of a %s", test.log, after.Scope, after.Limiter, test.scope)
		}

		if slices.Contains(after.Unknown, "constraint") || !slices.Contains(after.Unknown, "limiter.limit_bytes") {
			t.Errorf("%s: got unknown %q, want the limit of the nodes and no constraint", test.log, after.Unknown)
		}

		if got := firstCause(after); got != test.cause {
			t.Errorf("%s: got cause %q, want %q", test.log, got, test.cause)
		}
	}

	log := recorded(t, "6.12.117-global")
	inc := byTracepoints(log, "constraint")

	if change := fromLog(inc, log); change.Scope != events.ScopeGlobal || slices.Contains(change.Unknown, "constraint") || change.Limiter != nil {
		t.Errorf("got change %+v, want the scope known and the limiter kept", change)
	}
}

func TestAGuessedLimiterBecomesTheLogs(t *testing.T) {
	log := recorded(t, "6.12.117-memcg-parent-limit")
	inc := byTracepoints(log, "limiter")
	parent := inc.Ladder[0]
	leaf := events.Cgroup{CgroupKey: events.CgroupKey{ID: 8}, Path: parent.Cgroup.Path + "/leaf"}
	inc.Limiter = &events.Limiter{Level: events.LevelCgroup, Cgroup: &leaf}
	inc.Ladder = []events.Rung{{Cgroup: leaf, Level: events.LevelCgroup, OOMGroup: new(true)}, parent}
	inc.Killer = &events.Killer{Kind: "kernel", Path: "memcg"}

	after := merged(inc, fromLog(inc, log))
	if pathOf(after.Limiter) != pathOf(log.Limiter) || after.Limiter.Cgroup.ID != 7 || slices.Contains(after.Unknown, "limiter") {
		t.Errorf("got limiter %+v with unknown %q, want the parent with its id", after.Limiter.Cgroup, after.Unknown)
	}

	if !after.Ladder[0].Below || after.Ladder[1].Below || inc.Ladder[0].Below {
		t.Errorf("got ladder %+v, want the leaf marked below the limiter, in a copy", after.Ladder)
	}

	if k := after.Killer; k.Path != "group" || k.GroupCgroup == nil || k.GroupCgroup.ID != 8 {
		t.Errorf("got killer %+v, want a group kill of the leaf", k)
	}

	if after.Memory == nil || after.SourceOf("limiter") == nil {
		t.Errorf("got memory %v and sources %+v, want those of the log", after.Memory, after.CompletedFrom)
	}
}

// The record of the kernel's decision was lost: only the victims are known.
func TestALostDecisionIsThatOfTheLog(t *testing.T) {
	log := recorded(t, "6.12.117-memcg-oom-group")
	v := log.Victims[0]
	inc := &events.Incident{
		ID: "live-1", Scope: events.ScopeUnknown, Outcome: log.Outcome, Tier: events.TierTracepoint,
		Killer:  &events.Killer{Kind: "kernel", Path: "unknown"},
		Victims: []events.Victim{{Process: events.Process{PID: v.PID, TID: v.TID, Comm: v.Comm}}},
		Unknown: []string{"scope", "trigger", "limiter", "ladder", "victims.anon_rss_bytes", "victims.file_rss_bytes", "memory"},
	}

	after := merged(inc, fromLog(inc, log))
	if after.Scope != log.Scope || pathOf(after.Limiter) != pathOf(log.Limiter) || len(after.Ladder) != len(log.Ladder) ||
		after.Trigger.TID != log.Trigger.TID || after.Killer.Path != "group" || after.Memory == nil {
		t.Errorf("got %+v, want the log's scope, limiter, ancestry, trigger, killer and charge", after)
	}

	if got := after.Victims[0]; *got.AnonRSSBytes != *v.AnonRSSBytes || *got.FileRSSBytes != *v.FileRSSBytes {
		t.Errorf("got victim %+v, want the sizes of the log's, %+v", got, v)
	}

	for _, name := range inc.Unknown {
		if slices.Contains(after.Unknown, name) {
			t.Errorf("got %s as unknown, want a value", name)
		}
	}

	for _, name := range []string{"limiter.cgroup.id", "ladder.cgroup.id", "trigger.cgroup", "killer.group_cgroup.id"} {
		if !slices.Contains(after.Unknown, name) {
			t.Errorf("got unknown %q, want %s, which no log has", after.Unknown, name)
		}
	}

	inc.Victims[0].Cgroup = &events.Cgroup{CgroupKey: events.CgroupKey{Hierarchy: 3, ID: 7}, Path: pathOf(log.Limiter)}
	log.Ladder = log.Ladder[len(log.Ladder)-1:]

	after = merged(inc, fromLog(inc, log))
	if after.Limiter.Cgroup.ID != 7 || after.Ladder[0].Cgroup.Hierarchy != 3 || slices.Contains(after.Unknown, "ladder.cgroup.id") ||
		slices.Contains(after.Unknown, "limiter.cgroup.id") {
		t.Errorf("got limiter %+v with unknown %q, want the id that the victim's cgroup has", after.Limiter.Cgroup, after.Unknown)
	}
}

// The log may name a thread: the victim's, if its leader has exited, or the trigger's.
func TestAProcessIsRecognisedByAThread(t *testing.T) {
	seen := events.Process{PID: 10, TID: 12, Comm: "app", Thread: "worker"}

	for _, test := range []struct {
		logged events.Process
		want   bool
	}{
		{events.Process{PID: 10, TID: 10, Comm: "app"}, true},
		{events.Process{PID: 12, TID: 12, Comm: "worker"}, true},
		{events.Process{PID: 10, TID: 10, Comm: "other"}, false},
		{events.Process{PID: 11, TID: 11, Comm: "app"}, false},
	} {
		if got := sameProcess(&seen, &test.logged); got != test.want {
			t.Errorf("%+v: got %t, want %t", test.logged, got, test.want)
		}
	}
}

func TestAContradictionIsANote(t *testing.T) {
	log := recorded(t, "6.12.117-memcg-leaf")
	inc := byTracepoints(log)
	inc.Limiter.Cgroup.Path = "/another"
	inc.Notes = []string{"first"}

	change := fromLog(inc, log)
	if len(change.Notes) != 2 || !strings.Contains(change.Notes[1], "/another") || !strings.Contains(change.Notes[1], pathOf(log.Limiter)) {
		t.Errorf("got notes %q, want the first and one with both cgroups", change.Notes)
	}

	if change.Limiter != nil || change.Memory != nil {
		t.Errorf("got limiter %v and memory %v, want neither from a log that contradicts", change.Limiter, change.Memory)
	}

	inc = byTracepoints(log)
	inc.Scope, inc.Limiter = events.ScopeGlobal, &events.Limiter{Level: events.LevelNode}

	if change := fromLog(inc, log); len(change.Notes) != 1 || change.Scope != "" || change.Allocation.TotalPages != nil {
		t.Errorf("got change %+v, want a note on the scope alone", change)
	}
}

// What the victim had is gone soon: a charge that no longer adds up to the usage would name
// the wrong part as the largest.
func TestMemoryStatCountsWhileItAddsUp(t *testing.T) {
	inc := byTracepoints(recorded(t, "6.12.117-memcg-tmpfs"))
	usage := *inc.Limiter.UsageBytes
	full := &events.Memory{AnonBytes: new(usage / 10), FileBytes: new(usage * 85 / 100), ShmemBytes: new(usage * 85 / 100)}

	after := merged(inc, fromMemoryStat(inc, full, 3e6))
	if from := after.SourceOf("memory"); from == nil || from.Source != events.SourceMemoryStat || from.AfterNS == nil || *from.AfterNS != 3e6 {
		t.Errorf("got memory from %+v, want memory.stat 3 ms after the kill", from)
	}

	if got := firstCause(after); got != "tmpfs" {
		t.Errorf("got cause %q, want tmpfs", got)
	}

	evidence := diagnose.Diagnose(after, nil)[0].Evidence[0].Source
	if want := "memory.stat, 3.0 ms after the kill"; evidence != want {
		t.Errorf("got evidence from %q, want %q", evidence, want)
	}

	gone := &events.Memory{AnonBytes: new(uint64(0)), FileBytes: new(usage / 4), ShmemBytes: new(usage / 4)}
	if change := fromMemoryStat(inc, gone, 3e6); change.Memory != nil || change.CompletedFrom != nil || change.Unknown != nil {
		t.Errorf("got change %+v of a charge without the victim's memory, want none", change)
	}

	hog := merged(inc, &events.Incident{Victims: []events.Victim{{Process: inc.Victims[0].Process, AnonRSSBytes: new(usage * 9 / 10)}}})
	if change := fromMemoryStat(hog, full, 3e6); change.Memory != nil {
		t.Error("got a charge that was full again, of other memory than the victim's, want none")
	}

	if change := fromMemoryStat(inc, full, statWithinNS+1); change.Memory != nil {
		t.Error("got a charge of long after the kill, want none")
	}

	unsure := merged(inc, &events.Incident{Unknown: []string{"memory", "limiter"}})
	if change := fromMemoryStat(unsure, full, 3e6); change.Memory != nil {
		t.Errorf("got the charge of a limiter that is a guess, want none")
	}
}

// The correlator's lists are those of the trace alone: an exit that it waited for must not
// make known keys unknown again.
func TestUpdatesOfTheTraceKeepWhatWasFilledIn(t *testing.T) {
	log := recorded(t, "6.18.44-nokprobes-memcg-v1-parent-limit")
	inc := byTracepoints(log)
	inc.Notes = []string{"from the kernel's log"}
	after := merged(inc, fromLog(inc, log))

	change := &events.Incident{ID: inc.ID, Unknown: append(slices.Clone(inc.Unknown), "victims.exit_after_ns"), Notes: []string{"late exit"}}
	keepCompletion(change, after)

	want := append(slices.Clone(after.Unknown), "victims.exit_after_ns")
	slices.Sort(want)
	slices.Sort(change.Unknown)

	if !slices.Equal(change.Unknown, want) || !slices.Contains(want, "memory.slab_bytes") {
		t.Errorf("got unknown %q, want %q with the parts that cgroup v1 does not split", change.Unknown, want)
	}

	if got := strings.Join(change.Notes, "; "); got != "late exit; from the kernel's log" {
		t.Errorf("got notes %q, want those of both", got)
	}
}
