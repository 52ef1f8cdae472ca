// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

var update = flag.Bool("update", false, "write the golden files")

const mib = uint64(1) << 20

func base() time.Time { return time.Date(2026, 8, 20, 14, 3, 7, 0, time.UTC) }

func envelope(kind string, after time.Duration) events.Envelope {
	return events.Envelope{
		V: events.Version, Kind: kind, Time: base().Add(after), Node: "worker-3", BootID: "5f0c2c1e-8e0e-4b57-9b1f-3c8f0a4d2e61",
	}
}

const (
	podUID  = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"
	podPath = "/kubepods.slice/kubepods-pod6ba0af16_1c3e_4d5f_8a9b_0c1d2e3f4a5b.slice"
)

func podCgroup() *events.Cgroup {
	return &events.Cgroup{CgroupKey: events.CgroupKey{ID: 7}, Path: podPath}
}

func java() events.Process {
	return events.Process{
		PID: 4711, TID: 4711, Comm: "java",
		Cgroup:   &events.Cgroup{CgroupKey: events.CgroupKey{ID: 8}, Path: podPath + "/cri-containerd-3f2a91c07d4e.scope"},
		Workload: &events.Workload{Namespace: "shop", Pod: "cart-0", PodUID: podUID, Container: "app", ContainerID: "3f2a91c07d4e"},
	}
}

// podLimit is a kill at the limit of a pod, with three seconds before it.
func podLimit(id string, after time.Duration) *events.Incident {
	return &events.Incident{
		Envelope: envelope(events.KindIncident, after), ID: id, Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled,
		Limiter: &events.Limiter{
			Level: events.LevelPod, Which: "memory.max", LimitBytes: new(512 * mib), UsageBytes: new(512 * mib), Cgroup: podCgroup(),
			Workload: &events.Workload{Namespace: "shop", Pod: "cart-0", PodUID: podUID},
		},
		Victims: []events.Victim{{
			Process: java(), Role: events.RoleChosen, AnonRSSBytes: new(400 * mib),
			ExitAfterNS: new(uint64(30e6)), ReleasedAfterNS: new(uint64(40e6)),
		}},
		Killer: &events.Killer{Kind: events.KillerKernel, Path: events.PathMemcg},
		Before: &events.Before{
			WindowNS: 60e9,
			Stalls:   []events.StallSum{{What: "memcg_reclaim", Count: 9, TotalNS: 2e9, MaxNS: 7e8, ReclaimedBytes: mib}},
			Timeline: []events.StallSecond{ // the newest first: the order does not matter
				{BeforeNS: 5e8, Count: 5, TotalNS: 1e9, HighNS: 2e8, ReclaimedBytes: mib,
					UsageBytes: new(510 * mib), LimitBytes: new(512 * mib),
					PSISomeNS: new(uint64(3e9)), PSIFullNS: new(uint64(1e9)), MaxEvents: new(uint64(30))},
				{BeforeNS: 15e8, Count: 1, TotalNS: 5e8, UsageBytes: new(500 * mib), LimitBytes: new(512 * mib),
					PSISomeNS: new(uint64(2.5e9)), PSIFullNS: new(uint64(1e9)), MaxEvents: new(uint64(10))},
				{BeforeNS: 95e8, Count: 1, TotalNS: 1e8, UsageBytes: new(400 * mib), PSISomeNS: new(uint64(2e9))},
			},
			Longest: []events.LongStall{{
				What: "memcg_reclaim", BeforeNS: 1e8, DurationNS: 7e8, Limiter: podCgroup(),
				Task: events.Process{PID: 4711, TID: 4720, Comm: "java", Thread: "C2 Compiler", Cgroup: java().Cgroup},
			}},
		},
		Causes: []events.Cause{{
			ID: "ancestor_limit", Text: "The limit is the pod's.", Brief: "the limit is the pod's", Confidence: events.ConfidenceLikely,
			Advice: []events.Advice{{Layer: "kubernetes", Text: "Raise the limit of the pod."}},
		}},
		Notes: []string{"a note"}, Unknown: []string{"memory"},
	}
}

func global() *events.Incident {
	return &events.Incident{
		Envelope: envelope(events.KindIncident, 0), ID: "5f0c2c1e-2", Scope: events.ScopeGlobal, Outcome: events.OutcomeKilled,
		Limiter: &events.Limiter{Level: events.LevelNode, Which: "node", LimitBytes: new(8192 * mib)},
		Victims: []events.Victim{{Process: events.Process{PID: 30811, Comm: "ffmpeg"}}},
		Killer:  &events.Killer{Kind: events.KillerKernel, Path: events.PathGlobal},
		Before: &events.Before{
			WindowNS: 60e9, Kswapd: []events.Kswapd{{Node: 1, Wakeups: 12, AwakeNS: 5e9}},
			Guardians: []events.GuardianStall{{Unit: "kubelet.service", TotalNS: 3e9}},
		},
	}
}

func userKill() *events.Incident {
	return &events.Incident{
		Envelope: envelope(events.KindIncident, 0), ID: "5f0c2c1e-3", Scope: events.ScopeUser, Outcome: events.OutcomeKilled,
		Victims: []events.Victim{{Process: java(), ExitAfterNS: new(uint64(2e6))}},
		Killer:  &events.Killer{Kind: events.KillerUser, Path: events.PathRuntime, Comm: "runc", PID: 99},
	}
}

// noVictim is an incident that took no time that is known: an instant.
func noVictim() *events.Incident {
	inc := podLimit("5f0c2c1e-4", 0)
	inc.Outcome, inc.Victims, inc.Killer, inc.Before, inc.Causes = events.OutcomeNoKillable, nil, nil, nil, nil

	return inc
}

// ofLog is an incident of a kernel log that has uptimes alone.
func ofLog(uptimeNS *uint64) *events.Incident {
	inc := noVictim()
	inc.Time, inc.BootID, inc.Node = time.Unix(0, 31669e6).UTC(), "", ""
	inc.Unknown = []string{"time"}
	inc.Log = &events.Log{UptimeNS: uptimeNS}

	return inc
}

func stallLine(after, duration time.Duration, tid int) *events.StallLine {
	task := java()
	task.TID = tid

	return &events.StallLine{
		Envelope: envelope(events.KindStall, after), What: "memcg_reclaim", DurationNS: uint64(duration), Task: task, Limiter: podCgroup(),
	}
}

func pressureLine() *events.PressureLine {
	return &events.PressureLine{
		Envelope: envelope(events.KindPressure, 0), What: events.PressureNoProgress, Cgroup: *java().Cgroup, Workload: java().Workload,
		WindowNS: 10e9, TotalNS: 4e9, Count: 20, Fruitless: 19,
	}
}

// stalls are single stalls, of which the second and third overlap, an early warning and a loss.
func stalls() []events.Line {
	other := stallLine(6*time.Second, time.Second, 5)
	other.Limiter, other.Task.Workload = &events.Cgroup{Path: "/kubepods.slice"}, nil

	return []events.Line{
		stallLine(time.Second, time.Second, 1), stallLine(4*time.Second, 2*time.Second, 2), stallLine(5*time.Second, 2*time.Second, 3),
		other, pressureLine(), &events.Lost{Envelope: envelope(events.KindLost, 7*time.Second), What: "stall", Count: 42},
		&events.Status{Envelope: envelope(events.KindStatus, 0)},
	}
}

// write writes incidents and other lines in their order.
func write(t testing.TB, lines ...events.Line) ([]byte, Written) {
	t.Helper()

	var out bytes.Buffer

	written, err := writeTo(&out, slices.Values(lines))
	if err != nil {
		t.Fatal(err)
	}

	return out.Bytes(), written
}

func writeTo(out io.Writer, lines func(func(events.Line) bool)) (Written, error) {
	w := NewWriter(out)

	for line := range lines {
		err := w.Line(line)
		if inc, ok := line.(*events.Incident); ok {
			err = w.Incident(inc)
		}

		if err != nil {
			return Written{}, err
		}
	}

	return w.Close()
}

func fixtures() map[string][]events.Line {
	return map[string][]events.Line{
		"pod-limit": {podLimit("5f0c2c1e-1", 0)},
		"global":    {global()},
		"user-kill": {userKill()},
		"no-victim": {noVictim()},
		"uptime":    {ofLog(new(uint64(31669e6)))},
		"stalls":    stalls(),
	}
}

func TestGolden(t *testing.T) {
	for name, lines := range fixtures() {
		t.Run(name, func(t *testing.T) {
			trace, _ := write(t, lines...)
			testenv.Golden(t, name+".golden", []byte(text(t, decode(t, trace))), *update)
			check(t, trace)
		})
	}
}

// event is an event of a decoded trace.
type event struct {
	at, track uint64
	kind      int64
	name      string
	value     float64
}

// decoded is a trace as the trace processor sees it.
type decoded struct {
	names   map[uint64]string // of tracks, with those above
	counter map[uint64]bool
	events  []event
}

// check decodes a trace and reports what the trace processor would refuse or misread: a track without a
// descriptor before its first event, slices of one track that overlap, an event of the wrong kind.
func check(t testing.TB, trace []byte) decoded {
	t.Helper()

	d := decoded{names: map[uint64]string{}, counter: map[uint64]bool{}}

	for _, p := range decode(t, trace) {
		switch {
		case has(p, "track_descriptor"):
			m := field(p, "track_descriptor").Message()
			id, parent := field(m, "uuid").Uint(), field(m, "parent_uuid").Uint()

			if parent != 0 && d.names[parent] == "" {
				t.Errorf("got track %q below one that is not described", field(m, "name"))
			}

			d.names[id] = strings.TrimPrefix(d.names[parent]+" / "+field(m, "name").String(), " / ")
			d.counter[id] = has(m, "counter")
		case has(p, "track_event"):
			m := field(p, "track_event").Message()
			e := event{field(p, "timestamp").Uint(), field(m, "track_uuid").Uint(), field(m, "type").Int(), field(m, "name").String(),
				field(m, "double_counter_value").Float()}

			if d.names[e.track] == "" || d.counter[e.track] != (e.kind == typeCounter) || field(p, "timestamp_clock_id").Uint() == 0 {
				t.Errorf("got event %+v on track %q", e, d.names[e.track])
			}

			d.events = append(d.events, e)
		}
	}

	slices.SortStableFunc(d.events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	open := map[uint64]int{}

	for _, e := range d.events {
		switch e.kind {
		case typeSliceBegin:
			open[e.track]++
		case typeSliceEnd:
			open[e.track]--
		}

		if n := open[e.track]; n < 0 || n > 1 {
			t.Errorf("got %d open slices on track %q, want one at most", n, d.names[e.track])
		}
	}

	return d
}

// spans are the slices of a trace with the names of their tracks: begin and end in seconds after base.
func (d decoded) spans() []string {
	var all []string

	since := func(ns uint64) float64 { return float64(int64(ns)-base().UnixNano()) / 1e9 }
	begun := map[uint64]event{}

	for _, e := range d.events {
		switch e.kind {
		case typeSliceBegin:
			begun[e.track] = e
		case typeSliceEnd:
			all = append(all, fmt.Sprintf("%s: %g to %g", d.names[e.track], since(begun[e.track].at), since(e.at)))
		}
	}

	return all
}

func (d decoded) values(track string) []string {
	var all []string

	for _, e := range d.events {
		if e.kind == typeCounter && strings.HasSuffix(d.names[e.track], " / "+track) {
			all = append(all, fmt.Sprintf("%g: %g", float64(int64(e.at)-base().UnixNano())/1e9, e.value))
		}
	}

	return all
}

func TestOverlappingSlicesAreOnTracksOfTheSameName(t *testing.T) {
	trace, _ := write(t, stallLine(10*time.Second, 10*time.Second, 1), stallLine(11*time.Second, 2*time.Second, 2),
		stallLine(12*time.Second, time.Second, 3))

	const track = "worker-3 (boot 5f0c2c1e…) / pod shop/cart-0 / stalls: memcg reclaim"

	want := []string{track + ": 0 to 10", track + ": 9 to 11", track + ": 11 to 12"}
	if got := check(t, trace).spans(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMoreOverlapsThanLanes(t *testing.T) {
	var lines []events.Line
	for i := range 3 * maxLanes {
		lines = append(lines, stallLine(time.Duration(i)*time.Second, time.Hour, i+1))
	}

	trace, _ := write(t, lines...)
	if got := len(check(t, trace).spans()); got != len(lines) {
		t.Errorf("got %d slices, want %d", got, len(lines))
	}
}

// A stall that has a line of its own is among the longest of each incident that follows.
func TestAStallIsWrittenOnce(t *testing.T) {
	line := stallLine(-100*time.Millisecond+300, 700*time.Millisecond, 4720) // the clocks differ by 300 ns
	later := podLimit("5f0c2c1e-9", 3*time.Second)
	later.Before.Longest[0].BeforeNS += 3e9

	trace, written := write(t, line, podLimit("5f0c2c1e-1", 0), later)

	stalls := 0

	for _, span := range check(t, trace).spans() {
		if strings.Contains(span, "stalls:") {
			stalls++
		}
	}

	if stalls != 1 || written.Stalls != 1 {
		t.Errorf("got %d slices, and %d written, want 1 and 1", stalls, written.Stalls)
	}
}

func TestCountersHaveTheTimeline(t *testing.T) {
	trace, _ := write(t, podLimit("5f0c2c1e-1", 0))
	d := check(t, trace)

	for track, want := range map[string][]string{
		"memory used":  {"-9.5: 4.194304e+08", "-1.5: 5.24288e+08", "-0.5: 5.3477376e+08", "0: 5.36870912e+08"},
		"memory limit": {"-1.5: 5.36870912e+08", "-0.5: 5.36870912e+08", "0: 5.36870912e+08"},
		// Nothing stalled between the first second and the last two.
		"stalled per second, all tasks": {"-10.5: 1e+08", "-9.5: 0", "-2.5: 5e+08", "-1.5: 1e+09", "-0.5: 0"},
		"of that by memory.high":        {"-1.5: 2e+08", "-0.5: 0"},
		// Of totals, the growth since the row before: eight seconds, then one.
		"PSI some":                 {"-9.5: 6.25", "-1.5: 50", "-0.5: 0"},
		"limit reached per second": {"-1.5: 20", "-0.5: 0"},
		// Always 0: not drawn.
		"PSI full": nil,
	} {
		if got := d.values(track); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", track, got, want)
		}
	}
}

// The histories of two kills of a burst are mostly the same seconds.
func TestASecondIsCountedOnce(t *testing.T) {
	later := podLimit("5f0c2c1e-9", time.Second)
	for i := range later.Before.Timeline {
		later.Before.Timeline[i].BeforeNS += 1e9
	}

	later.Before.Timeline = append(later.Before.Timeline, events.StallSecond{BeforeNS: 2e8, Count: 3, TotalNS: 3e8})

	trace, _ := write(t, podLimit("5f0c2c1e-1", 0), later)

	want := []string{"-10.5: 1e+08", "-9.5: 0", "-2.5: 5e+08", "-1.5: 1e+09", "-0.5: 0", "0: 3e+08", "0.8: 0"}
	if got := check(t, trace).values("stalled per second, all tasks"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEachBootOfEachNodeIsAProcess(t *testing.T) {
	first, second, third := podLimit("a-1", 0), podLimit("b-1", time.Hour), podLimit("c-1", 0)
	second.BootID, third.Node = "9f1b344d-7a26-4c03-9bfe-792a504bf935", "worker-4"

	trace, _ := write(t, first, second, third, first)

	var pids, names []string

	for _, p := range decode(t, trace) {
		if m := field(p, "track_descriptor").Message(); has(m, "process") {
			process := field(m, "process").Message()
			pids = append(pids, field(process, "pid").String())
			names = append(names, field(process, "process_name").String())
		}
	}

	wantNames := []string{"worker-3 (boot 5f0c2c1e…)", "worker-3 (boot 9f1b344d…)", "worker-4 (boot 5f0c2c1e…)"}
	if !slices.Equal(pids, []string{"1", "2", "3"}) || !slices.Equal(names, wantNames) {
		t.Errorf("got processes %q %q, want 1, 2, 3 and %q", pids, names, wantNames)
	}
}

// A container that restarts has another cgroup, and the same name.
func TestRestartsOfAPodsContainerAreOneTrack(t *testing.T) {
	first, second := userKill(), userKill()
	second.Victims[0].Cgroup.Path = podPath + "/cri-containerd-ffffffffffff.scope"

	service := userKill()
	service.Victims[0].Workload = &events.Workload{Unit: "web.service"}
	service.Victims[0].Cgroup = &events.Cgroup{Path: "/system.slice/web.service"}

	trace, _ := write(t, first, second, service)
	want := []string{
		"worker-3 (boot 5f0c2c1e…)", "worker-3 (boot 5f0c2c1e…) / container app of pod shop/cart-0",
		"worker-3 (boot 5f0c2c1e…) / web.service",
	}

	var got []string
	for _, name := range check(t, trace).names {
		got = append(got, name)
	}

	if slices.Sort(got); !slices.Equal(slices.Compact(got), want) {
		t.Errorf("got tracks %q, want %q", got, want)
	}
}

func TestTimesDecideWhatIsWritten(t *testing.T) {
	uptime := new(uint64(31669e6))
	early, late, ancient := podLimit("a", 0), podLimit("b", 0), podLimit("c", 0)
	early.Time, late.Time, ancient.Time = time.Time{}, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(-1, 0)

	for name, test := range map[string]struct {
		lines []events.Line
		want  Written
	}{
		"wall clock":              {[]events.Line{podLimit("a", 0), stallLine(0, 1, 1)}, Written{Incidents: 1, Stalls: 1}},
		"uptime":                  {[]events.Line{ofLog(uptime), ofLog(uptime)}, Written{Incidents: 2, Uptime: true}},
		"uptime after wall clock": {[]events.Line{podLimit("a", 0), ofLog(uptime)}, Written{Incidents: 1, Unplaced: 1}},
		"wall clock after uptime": {[]events.Line{ofLog(uptime), podLimit("a", 0), stallLine(0, 1, 1)},
			Written{Incidents: 1, Unplaced: 1, UnplacedLines: 1, Uptime: true}},
		"no time, then wall clock": {[]events.Line{ofLog(nil), podLimit("a", 0)}, Written{Incidents: 1, Unplaced: 1}},
		"no time":                  {[]events.Line{ofLog(nil)}, Written{Unplaced: 1}},
		"a line without a time":    {[]events.Line{&events.StallLine{}, podLimit("a", 0)}, Written{Incidents: 1, UnplacedLines: 1}},
		"impossible times":         {[]events.Line{early, late, ancient, ofLog(new(uint64(math.MaxUint64)))}, Written{Unplaced: 4}},
		"nothing":                  {nil, Written{}},
	} {
		t.Run(name, func(t *testing.T) {
			trace, got := write(t, test.lines...)
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}

			check(t, trace)

			if unplaced := len(got.Warnings()) > 0; unplaced != (got.Unplaced+got.UnplacedLines > 0 || got.Uptime) {
				t.Errorf("got warnings %q of %+v", got.Warnings(), got)
			}
		})
	}
}

// hostile has hostile text and numbers wherever there can be some.
func hostile() []events.Line {
	nasty := "</script>\u202e\u2066\u200b\x1b[2J\x00\xff\"'&{{.}}\u2028"
	long := strings.Repeat("looong", 700)

	inc := podLimit(nasty, 0)
	inc.Node, inc.BootID = nasty, long
	inc.Limiter.Workload.Pod, inc.Limiter.Workload.Namespace = nasty, long
	inc.Limiter.Cgroup.Path = "/" + long + nasty
	inc.Before.Timeline = append(inc.Before.Timeline, events.StallSecond{BeforeNS: math.MaxUint64, TotalNS: math.MaxUint64},
		events.StallSecond{BeforeNS: math.MaxUint64}, events.StallSecond{PSISomeNS: new(uint64(math.MaxUint64))})
	inc.Before.Longest = append(inc.Before.Longest, events.LongStall{
		What: nasty + long, BeforeNS: math.MaxUint64, DurationNS: math.MaxUint64, Task: events.Process{Comm: nasty, PID: -1},
	}, events.LongStall{})
	inc.Before.Kswapd = []events.Kswapd{{Node: -1, Wakeups: math.MaxUint64, AwakeNS: math.MaxUint64}}
	inc.Victims[0].ExitAfterNS = new(uint64(math.MaxUint64))
	inc.Victims = append(inc.Victims,
		slices.Repeat([]events.Victim{{Process: events.Process{Comm: nasty}, Role: events.Role(long)}}, 100)...)
	inc.Causes[0].Brief, inc.Causes[0].Text, inc.Notes = nasty, long, slices.Repeat([]string{nasty}, 100)

	stall := stallLine(0, math.MaxInt64, 1)
	stall.What, stall.Task.Comm, stall.Node = nasty, long, ""
	pressure := pressureLine()
	pressure.What, pressure.WindowNS, pressure.Cgroup.Path, pressure.Workload = nasty, math.MaxUint64, long, nil

	return []events.Line{
		inc, stall, pressure, &events.Lost{Envelope: envelope(events.KindLost, 0), What: nasty, Count: math.MaxUint64},
		&events.Incident{Envelope: envelope(events.KindIncident, 0)}, &events.StallLine{Envelope: envelope(events.KindStall, 0)},
		&events.PressureLine{Envelope: envelope(events.KindPressure, 0)},
	}
}

func TestHostileTextIsSanitized(t *testing.T) {
	trace, _ := write(t, hostile()...)
	check(t, trace)

	strings := 0

	var walk func(m protoreflect.Message)

	walk = func(m protoreflect.Message) {
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			for _, v := range values(f, v) {
				if f.Kind() == protoreflect.MessageKind {
					walk(v.Message())
					continue
				}

				s, ok := v.Interface().(string)
				if !ok {
					continue
				}

				strings++

				if len(s) > maxTextBytes+100 || slices.ContainsFunc([]rune(s), func(r rune) bool { return !events.Printable(r) }) {
					t.Errorf("%s: got %.100q of %d bytes, want printable text of %d at most", f.Name(), s, len(s), maxTextBytes)
				}
			}

			return true
		})
	}

	for _, p := range decode(t, trace) {
		walk(p)
	}

	if strings < 100 {
		t.Errorf("got %d texts, want 100 or more", strings)
	}
}

func values(f protoreflect.FieldDescriptor, v protoreflect.Value) []protoreflect.Value {
	if !f.IsList() {
		return []protoreflect.Value{v}
	}

	var all []protoreflect.Value
	for i := range v.List().Len() {
		all = append(all, v.List().Get(i))
	}

	return all
}

func TestLongListsAreCounted(t *testing.T) {
	inc := podLimit("a", 0)
	inc.Victims = slices.Repeat(inc.Victims, maxListed+8)
	trace, _ := write(t, inc)

	if got, want := text(t, decode(t, trace)), `{int_value: 8 name: "victims_left_out"}`; !strings.Contains(got, want) {
		t.Errorf("got %s, want %s in it", got, want)
	}
}

// A recording may have any number of workloads, stalls and incidents.
func TestMemoryIsBounded(t *testing.T) {
	testenv.Slow(t, "it writes many lines")

	var most uint64

	lines := func(yield func(events.Line) bool) {
		for i := range 12 * maxTracks {
			line := stallLine(time.Duration(i)*time.Millisecond, time.Duration(i), i)
			line.Limiter, line.What = nil, fmt.Sprintf("kind %d %s", i, strings.Repeat("x", 200))
			line.Task.Workload.Pod = fmt.Sprintf("pod-%d-%s", i, strings.Repeat("x", 200))
			line.Node = fmt.Sprintf("node-%d-%s", i, strings.Repeat("x", 200))

			if !yield(line) {
				return
			}

			if i%5000 == 0 {
				var m runtime.MemStats

				runtime.GC()
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			}
		}
	}

	var before runtime.MemStats

	runtime.GC()
	runtime.ReadMemStats(&before)

	if _, err := writeTo(io.Discard, lines); err != nil {
		t.Fatal(err)
	}

	t.Logf("%d MiB in use", (most-before.HeapAlloc)/mib)

	if got, limit := most-before.HeapAlloc, 64*mib; got > limit {
		t.Errorf("got %d MiB in use, want %d at most", got/mib, limit/mib)
	}
}

// Tracks that were forgotten are described again, and their slices still do not overlap.
func TestForgottenTracks(t *testing.T) {
	lines := []events.Line{stallLine(time.Hour, time.Hour, 1)}

	for i := range maxTracks + 1 {
		line := stallLine(time.Second, time.Second, i)
		line.Task.Workload = &events.Workload{Namespace: "shop", Pod: fmt.Sprint("pod-", i), PodUID: podUID}
		lines = append(lines, line)
	}

	lines = append(lines, stallLine(time.Hour+time.Second, time.Hour, 2))
	trace, _ := write(t, lines...)

	if got := len(check(t, trace).spans()); got != len(lines) {
		t.Errorf("got %d slices, want %d", got, len(lines))
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestAnErrorOfTheOutputIsReturned(t *testing.T) {
	_, err := writeTo(full{}, func(yield func(events.Line) bool) {
		for yield(podLimit("a", 0)) { // ends with the error
		}
	})
	if err == nil || !strings.Contains(err.Error(), "write the trace: disk full") {
		t.Errorf("got error %v, want one about the disk", err)
	}

	if _, err := writeTo(full{}, slices.Values([]events.Line{podLimit("a", 0)})); err == nil {
		t.Error("got no error of what was buffered")
	}
}
