// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

var update = flag.Bool("update", false, "write the golden files and the pictures of the documentation")

const (
	mib = uint64(1) << 20

	injection = `</script><img src=x onerror=alert(1)>`
)

// fixture joins recordings of testdata.
func fixture(t testing.TB, names ...string) io.Reader {
	t.Helper()
	var all bytes.Buffer

	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("testdata", name+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}

		all.Write(text)
	}

	return &all
}

func fixed(o Options) Options {
	o.Location = time.UTC
	o.Now = time.Date(2026, 8, 22, 9, 0, 0, 0, time.UTC)

	return o
}

func makeHTML(t testing.TB, o Options, names ...string) []byte {
	t.Helper()
	return renderHTML(t, lines(fixture(t, names...)), o)
}

func renderHTML(t testing.TB, src Source, o Options) []byte {
	t.Helper()

	var out bytes.Buffer
	if _, err := HTML(&out, src, fixed(o)); err != nil {
		t.Fatal(err)
	}

	return out.Bytes()
}

// list is a source of given incidents.
type list struct {
	incidents []*events.Incident
	err       error
	warnings  []string
}

func (l list) Incidents(do func(*events.Incident) error) error {
	for _, inc := range l.incidents {
		if err := do(inc); err != nil {
			return err
		}
	}

	return l.err
}

func (l list) Warnings() []string { return l.warnings }

func base() time.Time { return time.Date(2026, 8, 20, 14, 3, 7, 0, time.UTC) }

// kill is an OOM kill at a container's limit.
func kill(id string, after time.Duration, pod string) *events.Incident {
	w := &events.Workload{Namespace: "shop", Pod: pod, PodUID: "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b", Container: "app", ContainerID: "3f2a91c07d4e"}
	c := &events.Cgroup{CgroupKey: events.CgroupKey{ID: 7}, Path: "/kubepods.slice/" + pod}

	return &events.Incident{
		Envelope: events.Envelope{V: events.Version, Kind: events.KindIncident, Time: base().Add(after), Node: "worker-3"},
		ID:       id, Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled,
		Limiter: &events.Limiter{Level: events.LevelContainer, Which: "memory.max", LimitBytes: new(512 * mib),
			UsageBytes: new(512 * mib), Cgroup: c, Workload: w},
		Trigger: &events.Process{PID: 4711, TID: 4711, Comm: "java", Cgroup: c, Workload: w},
		Victims: []events.Victim{{
			Process: events.Process{PID: 4711, TID: 4711, Comm: "java", Cgroup: c, Workload: w},
			Role:    events.RoleChosen,
		}},
		Killer: &events.Killer{Kind: "kernel", Path: "memcg"},
	}
}

// hostileSource has hostile text in every place that can hold text.
func hostileSource() Source {
	nasty := injection + "\u202e\u2066\u200b\x1b[2J\x00\xff" + `"'&{{.}}` + "\u2028"
	long := strings.Repeat("looong", 700)
	w := &events.Workload{
		Namespace: nasty, Pod: nasty, PodUID: nasty, Container: nasty, ContainerID: nasty, Runtime: nasty, QoS: nasty, Unit: nasty,
		Image: nasty, Labels: map[string]string{nasty: nasty}, Source: nasty,
	}
	c := &events.Cgroup{CgroupKey: events.CgroupKey{ID: 7}, Path: "/" + nasty + "/" + long}
	process := events.Process{PID: 1, TID: 2, Comm: nasty, Thread: nasty, Cgroup: c, Workload: w}
	inc := kill(nasty, 0, nasty)
	inc.Node, inc.BootID = nasty, nasty
	inc.Limiter.Which, inc.Limiter.Workload, inc.Limiter.Cgroup, inc.Limiter.Level = nasty, w, c, events.LevelPod
	inc.Ladder = []events.Rung{
		{Cgroup: *c, Level: events.LevelPod, UsageBytes: new(mib), MaxBytes: new(512 * mib), HighBytes: new(500 * mib), Workload: w},
		{Cgroup: *c, Level: events.Level(nasty), MaxBytes: new(mib), Below: true},
		{Cgroup: events.Cgroup{Path: "/" + long}, Level: events.LevelCgroup, MaxBytes: new(600 * mib)},
	}
	inc.Trigger = &process
	inc.Victims = []events.Victim{{Process: process, Role: events.Role(nasty)}, {Process: events.Process{PID: 3, Comm: long}}}
	inc.Killer = &events.Killer{
		Kind: "user", Path: nasty, PID: 9, Comm: nasty, Exe: long, Cgroup: c, Ancestry: []events.Ancestor{{PID: 1, Comm: nasty, Exe: nasty}},
		Reason: nasty, Evidence: []events.Evidence{{What: nasty, Value: long, Source: nasty}}, Login: &events.Login{User: nasty, TTY: long},
	}
	inc.Allocation = &events.Allocation{Order: new(0), GFPFlags: []string{nasty, long}, Class: nasty}
	inc.Memory = &events.Memory{AnonBytes: new(mib), FileBytes: new(mib)}
	inc.Before = &events.Before{
		WindowNS: 60e9, Stalls: []events.StallSum{{What: nasty, Count: 1, TotalNS: 1e9}},
		Timeline: []events.StallSecond{
			{BeforeNS: 2e9, Count: 1, TotalNS: 1e8, UsageBytes: new(400 * mib), PSISomeNS: new(uint64(1e9)), MaxEvents: new(uint64(1))},
			{BeforeNS: 0, Count: 1, TotalNS: 5e8, UsageBytes: new(512 * mib), PSISomeNS: new(uint64(2e9)), MaxEvents: new(uint64(9))},
		},
		Unseen: []string{nasty}, Longest: []events.LongStall{{What: nasty, Task: process, Limiter: c}},
		Guardians: []events.GuardianStall{{Unit: nasty, TotalNS: 1e9}},
		GaveUp:    &events.GaveUpLine{Reclaim: &events.ReclaimAnswer{Zone: nasty}, Compact: &events.CompactAnswer{Result: nasty}},
	}
	inc.Shares = []events.Share{{Cgroup: *c, Level: events.LevelContainer, Workload: w, UsageBytes: new(mib)},
		{Cgroup: *c, UsageBytes: new(mib)}}
	inc.Candidates = []events.Candidate{{Process: process, Points: new(int64(5)), Victim: true},
		{Process: events.Process{Comm: long, Cgroup: c}, Unkillable: true}}
	inc.NodeState = &events.NodeState{
		TransparentHuge: nasty, Zones: []events.Zone{{Zone: nasty, FreeBlocks: make([]uint64, 400)}},
		Slabs: []events.SlabCache{{Name: nasty, Bytes: 1}, {Name: long, Bytes: 2}}, Cgroups: []events.Share{{Cgroup: *c}},
	}
	inc.Eviction = &events.Eviction{Signals: map[string]string{nasty: long}, Text: nasty, Source: long, Log: []string{nasty, long}}
	inc.Reported = []events.Reported{{ContainerID: nasty, Container: nasty, State: nasty, Reason: long, Source: nasty, Text: nasty}}
	inc.Causes = []events.Cause{{
		ID: nasty, Text: nasty + long, Confidence: nasty, Evidence: []events.Evidence{{What: long, Value: nasty, Source: long}},
		Advice: []events.Advice{{Layer: nasty, Text: long}}, Reference: "javascript:alert(1)",
	}}
	inc.Audit = &events.Audit{Text: nasty}
	inc.Log = &events.Log{Truncated: true}
	inc.Notes, inc.Unknown, inc.Tier = []string{nasty, long}, []string{nasty, long}, events.Tier(nasty)
	second := kill("b", time.Hour, long)
	second.Scope, second.Outcome = events.Scope(nasty), events.Outcome(nasty)

	return list{incidents: []*events.Incident{inc, second}, warnings: []string{nasty}}
}
