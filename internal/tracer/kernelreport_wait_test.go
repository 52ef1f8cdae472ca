// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/ledger"
)

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

	for name, inc := range map[string]*events.Incident{"whole": whole, "by a user": user} {
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

// What the node's memory was at the kill, only the kernel's report has: after it, the victim's is free.
func TestTheNodeAtTheKillIsTheLogs(t *testing.T) {
	log := recorded(t, "6.12.117-global")
	inc := byTracepoints(log)
	inc.Unknown = []string{"limiter.usage_bytes", "limiter.swap_usage_bytes", "memory"}
	inc.NodeState = &events.NodeState{AfterNS: new(uint64(30e6)), FreeBytes: new(uint64(300 << 20))}

	if !newLab(fakeLog{}).begin(t, inc) {
		t.Error("got an incident of the node that awaits nothing, want one that awaits its report")
	}

	after := merged(inc, fromLog(inc, log))
	if after.NodeAtKill == nil || *after.NodeAtKill.FreeBytes != *log.NodeState.FreeBytes || *after.NodeState.FreeBytes != 300<<20 {
		t.Errorf("got node at the kill %+v, want the log's beside what was read after it", after.NodeAtKill)
	}

	memcg := recorded(t, "6.12.117-memcg-tmpfs")
	memcg.NodeState = log.NodeState

	if change := fromLog(byTracepoints(memcg), memcg); change.NodeAtKill != nil {
		t.Errorf("got node at the kill %+v for the limit of a cgroup, want none", change.NodeAtKill)
	}
}

// The trace has the node's size from its start.
func TestTheSizeOfTheNodeIsThatAtTheKill(t *testing.T) {
	log := recorded(t, "6.12.117-global")
	inc := byTracepoints(log)
	inc.Limiter = &events.Limiter{
		Level: events.LevelNode, Which: "node", LimitBytes: new(uint64(1 << 20)), SwapLimitBytes: new(uint64(1 << 30)),
	}

	after := merged(inc, fromLog(inc, log))
	if *after.Limiter.LimitBytes != *log.Limiter.LimitBytes || *after.Limiter.SwapLimitBytes != *log.Limiter.SwapLimitBytes {
		t.Errorf("got limiter %+v, want the log's RAM and swap", after.Limiter)
	}

	from := after.SourceOf("limiter.swap_limit_bytes")
	if from == nil || from.Source != events.SourceKernelLog || *inc.Limiter.LimitBytes != 1<<20 {
		t.Errorf("got source %+v, want the kernel's log, in a copy", from)
	}
}
