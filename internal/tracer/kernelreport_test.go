// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/diagnose"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/kernellog"
	"github.com/oomtrace/oomtrace/internal/ledger"
	"github.com/oomtrace/oomtrace/internal/testenv"
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

// fakeLog is a log without a device.
type fakeLog struct{ overwritten uint64 }

func (fakeLog) Run(context.Context, func(*events.Incident)) error { return nil }
func (f fakeLog) Overwritten() uint64                             { return f.overwritten }
func (fakeLog) Close() error                                      { return nil }

// lab is the enricher with incidents that are open.
type lab struct {
	*kernelReport
	open *ledger.Ledger
}

func newLab(log reportLog) *lab {
	l := &lab{open: ledger.New(ledger.Limits{}, nil)}
	wall := func(bootNS uint64) time.Time {
		return time.Now().Add(time.Duration(bootNS) - time.Duration(kernel.BootNS()))
	}
	l.kernelReport = newKernelReport(nil, wall, func(id string) *events.Incident { return l.open.Get(testBoot, id) })
	l.log = log

	return l
}

func (l *lab) begin(t *testing.T, inc *events.Incident) (awaited bool) {
	t.Helper()

	if err := l.open.Open(inc, 0); err != nil {
		t.Fatal(err)
	}

	return l.start(inc)
}

func TestReportsAndIncidentsMeetInEitherOrder(t *testing.T) {
	log := recorded(t, "6.12.117-memcg-tmpfs")

	for _, first := range []string{"report", "incident"} {
		l := newLab(fakeLog{})

		if first == "report" {
			l.reported(log)

			if got := l.findings(kernel.BootNS(), true); len(got) != 0 {
				t.Errorf("got %d findings without an incident, want none", len(got))
			}
		}

		if !l.begin(t, byTracepoints(log)) {
			t.Error("got an incident that awaits nothing, want its report awaited")
		}

		if first == "incident" {
			if got := l.findings(kernel.BootNS(), true); len(got) != 0 {
				t.Errorf("got %d findings without a report, want none", len(got))
			}

			l.reported(log)
		}

		l.kernelReport.charged = []chargeAnswer{{id: "live-1"}}

		got := l.findings(kernel.BootNS(), true)
		if len(got) != 1 || !got[0].last || got[0].change.Memory == nil {
			t.Errorf("%s first: got findings %+v, want the charge of the log at once", first, got)
		}

		if got := l.findings(kernel.BootNS(), true); len(got) != 0 || len(l.lacking)+len(l.reports) != 0 {
			t.Errorf("%s first: got %d more findings, %d incidents and %d reports kept, want none",
				first, len(got), len(l.lacking), len(l.reports))
		}
	}
}

// A report serves one incident: a pid that is used again has a report of its own.
func TestAReportIsOfOneKill(t *testing.T) {
	log := recorded(t, "6.12.117-memcg-tmpfs")
	l := newLab(fakeLog{})

	first, second := byTracepoints(log), byTracepoints(log)
	second.ID = "live-2"

	l.begin(t, first)
	l.begin(t, second)
	l.reported(log)
	l.kernelReport.charged = []chargeAnswer{{id: first.ID}, {id: second.ID}}

	if got := l.findings(kernel.BootNS(), true); len(got) != 1 || got[0].change.ID != first.ID {
		t.Errorf("got findings %+v, want one, of the first incident", got)
	}

	other := byTracepoints(log)
	other.ID, other.Victims[0].Comm = "live-3", "another"
	l.begin(t, other)
	l.kernelReport.charged = []chargeAnswer{{id: other.ID}}
	l.reported(log)

	got := l.findings(kernel.BootNS(), true)
	if len(got) != 1 || got[0].change.ID != second.ID {
		t.Errorf("got findings %+v, want one, of the incident with the same pid and name", got)
	}

	early := byTracepoints(log)
	early.ID, early.Time = "live-4", early.Time.Add(-readWithin)
	l.begin(t, early)
	l.reported(log)

	if got := l.findings(kernel.BootNS(), true); len(got) != 0 {
		t.Errorf("got findings %+v of a report long after the kill, want none", got)
	}
}

// In a storm an incident comes many seconds after its kill, and after its report.
func TestAReportWaitsForALateIncident(t *testing.T) {
	const late = 20 * time.Second

	log := recorded(t, "6.12.117-memcg-tmpfs")
	l := newLab(fakeLog{})
	l.reported(log)
	l.arrived[0].readNS -= uint64(late)

	if got := l.findings(kernel.BootNS(), true); len(got) != 0 {
		t.Errorf("got findings %+v without an incident, want none", got)
	}

	inc := byTracepoints(log)
	inc.Time = inc.Time.Add(-late)
	l.begin(t, inc)
	l.kernelReport.charged = []chargeAnswer{{id: inc.ID}}

	if got := l.findings(kernel.BootNS(), true); len(got) != 1 || got[0].change.Memory == nil {
		t.Errorf("got findings %+v of an incident that came late, want the charge of its report", got)
	}
}

// The kernel's rate limit suppresses the report, and leaves the line of the kill: nothing
// more will come.
func TestAKillAloneEndsTheWait(t *testing.T) {
	log := recorded(t, "6.12.117-memcg-tmpfs")
	inc := byTracepoints(log)
	l := newLab(fakeLog{})
	l.charge = func(string) *events.Memory {
		usage := *inc.Limiter.UsageBytes
		return &events.Memory{AnonBytes: new(uint64(0)), FileBytes: &usage, ShmemBytes: &usage}
	}
	l.begin(t, inc)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()

	go l.read(ctx)

	alone := &events.Incident{Outcome: log.Outcome, Scope: log.Scope, Victims: log.Victims, Unknown: []string{"limiter", "memory"}}
	l.reported(alone)
	l.finish(10 * time.Second)

	got := l.findings(kernel.BootNS(), true)
	if len(got) != 1 || !got[0].last || got[0].change.SourceOf("memory") == nil || got[0].change.SourceOf("memory").Source != events.SourceMemoryStat {
		t.Fatalf("got findings %+v, want the charge of memory.stat", got)
	}
}

// Where nothing can be killed, the limiter and the trigger show which report it is.
func TestReportsWithoutAVictimAreJoined(t *testing.T) {
	log := recorded(t, "6.12.117-memcg-no-killable")
	inc := &events.Incident{
		Envelope: events.Envelope{V: events.Version, Kind: events.KindIncident, Time: time.Now(), BootID: testBoot}, ID: "live-1",
		Scope: log.Scope, Outcome: log.Outcome, Tier: events.TierFentry, Trigger: log.Trigger, Limiter: log.Limiter,
		Unknown: []string{"memory"},
	}

	l := newLab(fakeLog{})
	if !l.begin(t, inc) {
		t.Fatal("got an incident that awaits nothing, want its report awaited")
	}

	other, trigger := *log, *log.Trigger
	trigger.PID, trigger.TID = trigger.PID+1, trigger.TID+1
	other.Trigger = &trigger

	l.reported(&other)
	l.reported(log)
	l.kernelReport.charged = []chargeAnswer{{id: inc.ID}}

	if got := l.findings(kernel.BootNS(), true); len(got) != 1 || !reflect.DeepEqual(got[0].change.Memory, log.Memory) {
		t.Errorf("got findings %+v, want the charge of the log", got)
	}

	if len(l.reports) != 1 {
		t.Errorf("got %d reports without an incident, want that of another trigger", len(l.reports))
	}
}

// The end of a trace does not wait for the whole time: what was read counts.
func TestTheEndTakesWhatThereIs(t *testing.T) {
	log := recorded(t, "6.12.117-memcg-tmpfs")
	inc := byTracepoints(log)
	usage := *inc.Limiter.UsageBytes
	stat := &events.Memory{AnonBytes: new(uint64(0)), FileBytes: &usage, ShmemBytes: &usage}

	l := newLab(fakeLog{})
	l.begin(t, inc)
	l.kernelReport.charged = []chargeAnswer{{id: inc.ID, memory: stat}}
	l.finish(0)

	if got := l.findings(kernel.BootNS(), true); len(got) != 1 || got[0].change.Memory == nil {
		t.Errorf("got findings %+v, want the charge of memory.stat", got)
	}
}

func TestWithoutAReportTheWaitEndsInTime(t *testing.T) {
	log := recorded(t, "6.12.117-memcg-tmpfs")
	l := newLab(fakeLog{})
	l.begin(t, byTracepoints(log))
	began := l.lacking[0].startedNS

	if got := l.findings(began+reportWithinNS-1, true); len(got) != 0 {
		t.Errorf("got findings %+v before the time is over, want none", got)
	}

	if got := l.findings(began+reportWithinNS, true); len(got) != 1 || !got[0].last || !isEmpty(got[0].change) {
		t.Errorf("got findings %+v at its end, want one without news", got)
	}

	if reportWithinNS >= causesWithinNS {
		t.Errorf("got %d ns for the report, want less than the %d ns of causes", uint64(reportWithinNS), uint64(causesWithinNS))
	}

	l.reported(log) // later than that

	if got := l.findings(began+reportWithinNS+1, true); len(got) != 1 || got[0].change.Memory == nil {
		t.Errorf("got findings %+v of a late report, want its charge", got)
	}
}

// brokenLog cannot be read any more.
type brokenLog struct{ fakeLog }

func (brokenLog) Run(context.Context, func(*events.Incident)) error { return os.ErrInvalid }

func TestALogThatFailsIsNotAwaited(t *testing.T) {
	log := recorded(t, "6.12.117-memcg-tmpfs")
	l := newLab(brokenLog{})
	l.begin(t, byTracepoints(log))

	var warnings []string

	l.follow(t.Context(), func(text string) { warnings = append(warnings, text) })

	if len(warnings) != 1 || !strings.Contains(warnings[0], os.ErrInvalid.Error()) {
		t.Errorf("got warnings %q, want one with the reason", warnings)
	}

	l.kernelReport.charged = []chargeAnswer{{id: "live-1"}}

	if got := l.findings(kernel.BootNS(), true); len(got) != 1 || !got[0].last {
		t.Errorf("got findings %+v, want the end of the wait", got)
	}

	next := byTracepoints(log)
	next.Limiter = nil

	if l.begin(t, next) {
		t.Error("got a report awaited, want none")
	}
}

func TestNothingIsAwaitedWhereNothingLacks(t *testing.T) {
	log := recorded(t, "6.12.117-memcg-tmpfs")

	whole := byTracepoints(log)
	whole.Unknown = []string{"victims.released_after_ns"}

	user := byTracepoints(log)
	user.Scope = events.ScopeUser

	node := byTracepoints(recorded(t, "6.12.117-global"))
	node.Unknown = []string{"limiter.usage_bytes", "limiter.swap_usage_bytes", "memory"}

	for name, inc := range map[string]*events.Incident{"whole": whole, "by a user": user, "of the node": node} {
		if newLab(fakeLog{}).begin(t, inc) {
			t.Errorf("%s: got an incident that awaits its report, want none", name)
		}
	}

	inc := byTracepoints(log)
	inc.Limiter = nil

	if newLab(nil).begin(t, inc) {
		t.Error("got a report awaited from a log that cannot be read, want none")
	}
}

func TestWhatIsSkippedOrOverwrittenIsCounted(t *testing.T) {
	log := recorded(t, "6.12.117-memcg-tmpfs")
	l := newLab(fakeLog{overwritten: 5})

	for range maxReports + 2 {
		l.reported(log)
	}

	for range maxLacking + 3 {
		l.start(byTracepoints(log))
	}

	// Beyond the queue, no memory.stat is read.
	want := uint64(5 + 2 + 3 + maxLacking + 3 - maxSamples)
	if what, got := l.dropped(); what != events.LostKernelLog || got != want {
		t.Errorf("got %d of %s, want %d of %s", got, what, want, events.LostKernelLog)
	}

	if got := len(l.findings(kernel.BootNS(), false)); got > 1 {
		t.Errorf("got %d findings while records wait to be read, want one at a time", got)
	}
}

// loggedKillOf returns the newest incident of the kernel's log that killed a process, nil if
// there is no whole report: the kernel writes ten in five seconds (mm/oom_kill.c: oom_rs).
func loggedKillOf(t *testing.T, pid int) *events.Incident {
	t.Helper()

	log, err := kernellog.OpenKmsg()
	if err != nil {
		testenv.Lacks(t, err.Error())
	}
	defer log.Close()

	var last *events.Incident

	if _, err := kernellog.Read(log, kernellog.Options{PageSizeBytes: os.Getpagesize()}, func(inc *events.Incident) error {
		if slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.PID == pid }) {
			last = inc
		}

		return nil
	}); err != nil {
		t.Fatal(err)
	}

	if last == nil || last.Memory == nil {
		return nil
	}

	return last
}

// TestAKillByTracepointsKnowsWhatTheLogKnows kills on this kernel: the live incident must have
// the charge and the first cause of the kernel's own report.
func TestAKillByTracepointsKnowsWhatTheLogKnows(t *testing.T) {
	file := filepath.Join("/dev/shm", testRoot())

	for name, test := range map[string]struct{ digit, script, cause string }{
		"tmpfs":    {"1", "exec dd if=/dev/zero bs=64k count=1000 of=" + file, "tmpfs"},
		"own heap": {"2", "exec tail /dev/zero", "own_limit"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := containerCgroup(t, containerID(test.digit))
			limitTo(t, dir, 24<<20)
			t.Cleanup(func() { os.Remove(file) })

			var inc, log *events.Incident

			for try := 0; log == nil; try++ {
				var pid int

				k := tracedBy(t, events.TierTracepoint, func() {
					cmd, _ := startIn(t, dir, test.script, nil)
					pid = cmd.Process.Pid
					cmd.Wait()
				})

				if inc = k.of(pid); inc == nil {
					t.Fatalf("got %d incidents, want one of pid %d", len(k.incidents), pid)
				}

				if log = loggedKillOf(t, pid); log == nil && try == 3 {
					t.Fatalf("got no whole report of four kills in the kernel's log, want one")
				} else if log == nil {
					os.Remove(file)
					time.Sleep(5 * time.Second) // there were kills just before
				}
			}

			if inc.Tier != events.TierTracepoint || inc.Memory == nil || !reflect.DeepEqual(inc.Memory, log.Memory) {
				t.Errorf("got tier %s, memory %+v, want that of the log, %+v", inc.Tier, inc.Memory, log.Memory)
			}

			if a := inc.Allocation; a == nil || a.Order == nil || a.GFP == nil || *a.GFP != *log.Allocation.GFP {
				t.Errorf("got allocation %+v, want that of the log, %+v", a, log.Allocation)
			}

			if want := firstCause(log); len(inc.Causes) == 0 || inc.Causes[0].ID != want || want != test.cause {
				t.Errorf("got causes %+v, want first that of the log, %q, which is %q", inc.Causes, want, test.cause)
			}
		})
	}
}
