// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/record"
)

// night is a recording of two days on one node: the incidents of the fixtures among many of a few
// others. The pictures of the documentation are made of it.
func night(t testing.TB) Source {
	t.Helper()

	var all []*events.Incident

	_, fixtures, _ := read(t, fixture(t, "pod-limit", "node", "user-kill"))
	briefs := map[string]string{
		"ancestor_limit": "the limit of the pod was hit, not that of the container", "tmpfs": "files in tmpfs hold 24 % of the limit",
		"kernel_memory": "kernel memory that cannot be reclaimed holds 35 % of the node", "evicted": "the kubelet evicted the pod",
	}

	id := func(at time.Time) string {
		return fmt.Sprintf("5f0c2c1e-%d", (at.Sub(base()) + 14*time.Hour + 15*time.Minute).Nanoseconds())
	}

	for _, inc := range fixtures {
		inc.ID = id(inc.Time)

		for i := range inc.Causes {
			inc.Causes[i].Brief = briefs[inc.Causes[i].ID]
		}

		all = append(all, inc)
	}

	java := &fixtures[0].Victims[0]
	java.Program = &events.Program{Kind: events.ProgramJVM, Name: "java", By: events.ProgramByExecutable, Settings: []events.Setting{
		{Name: "-Xmx", Value: "448m", Bytes: new(448 * mib), Source: events.SettingFromCommand},
	}}
	fixtures[0].NodeAtKill = &events.NodeState{
		TotalBytes: new(32089 * mib), FreeBytes: new(2210 * mib), AvailableBytes: new(14160 * mib), AnonBytes: new(12940 * mib),
		FileBytes: new(12700 * mib), SlabReclaimable: new(890 * mib), SlabUnreclaimable: new(2140 * mib), SwapTotalBytes: new(uint64(0)),
	}

	add := func(pod, container, comm string, pid int, at string, limit uint64, c events.Cause) {
		when, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			t.Fatal(err)
		}

		inc := kill(id(when), when.Sub(base()), pod)
		inc.Causes, inc.Tier = []events.Cause{c}, events.TierFentry
		inc.Limiter.LimitBytes, inc.Limiter.UsageBytes = new(limit*mib), new(limit*mib)
		inc.Limiter.Workload.Container, inc.Trigger.Comm, inc.Trigger.PID = container, comm, pid
		inc.Trigger.Workload = inc.Limiter.Workload

		v := &inc.Victims[0]
		v.Comm, v.PID, v.TID, v.Workload = comm, pid, pid, inc.Limiter.Workload
		v.AnonRSSBytes, v.FileRSSBytes, v.ShmemRSSBytes = new((limit-9)*mib), new(3*mib), new(uint64(0))
		v.OOMScoreAdj, v.Points, v.ExitAfterNS = new(968), new(int64(limit*256)), new(uint64(48e6))
		inc.Memory = &events.Memory{
			AnonBytes: new((limit - 8) * mib), FileBytes: new(2 * mib), ShmemBytes: new(uint64(0)), SlabBytes: new(4 * mib),
		}
		inc.Ladder = []events.Rung{{
			Cgroup: *inc.Limiter.Cgroup, Level: events.LevelContainer, UsageBytes: new(limit * mib), MaxBytes: new(limit * mib),
			Workload: inc.Limiter.Workload,
		}}
		all = append(all, inc)
	}

	leak := events.Cause{
		ID: "leak", Confidence: events.ConfidenceLikely, Brief: "its anonymous memory grew without an end",
		Text:     "Anonymous memory of the container grew by 4.1 MiB each second until the limit was reached.",
		Evidence: []events.Evidence{{What: "growth in the last minute", Value: "246.0 MiB", Source: "usage by second"}},
		Advice:   []events.Advice{{Layer: "application", Text: "Profile what grows, with tracemalloc or memray."}},
	}
	own := events.Cause{
		ID: "own_limit", Confidence: events.ConfidenceCertain, Brief: "worker needs more than its limit",
		Text:   "The victim holds 94 % of the limit of its container.",
		Advice: []events.Advice{{Layer: "kubernetes", Text: "Raise the limit of container render to what it needs at its peak."}},
	}

	for i := range 13 {
		at := base().Add(-11*time.Minute + time.Duration(i*i)*9*time.Minute).Format(time.RFC3339)
		add("billing-invoices-6b8c5d-kk9zq", "worker", "python3", 21000+i*113, at, 256, leak)
	}

	for i := range 4 {
		add("preview-5f7d9b-m4x2c", "render", "chrome", 30500+i*71, base().Add(time.Duration(i)*4*time.Hour).Format(time.RFC3339), 768, own)
	}

	add("checkout-7c9d8f-abcde", "app", "node", 8123, "2026-08-21T09:31:15.120Z", 384, own)

	slices.SortStableFunc(all, func(a, b *events.Incident) int { return a.Time.Compare(b.Time) })
	begin, restart := base().Add(-6*time.Hour), base().Add(20*time.Hour)
	before := record.Run{
		Node: "worker-3", KernelRelease: "6.12.57+deb13-amd64", Tier: events.TierFentry, Begin: begin, End: restart.Add(-3 * time.Minute),
		Started: true, Ended: true,
	}
	after := before
	after.Begin, after.End, after.Ended = restart, base().Add(40*time.Hour), false

	return coveredList{list{incidents: all}, []record.Run{before, after}}
}

// many is a source of at least n incidents: those of the fixtures with the names, or of all, again
// and again.
func many(t testing.TB, n int, names ...string) Source {
	l := newLarge(t, 0, names...)
	for range (n + len(l.fixtures) - 1) / len(l.fixtures) {
		l.more()
	}

	return lines(&l.queue)
}

// TestSizeOfManyIncidents: a page of 300 incidents has less than 2 MB, whichever of the richest they are.
func TestSizeOfManyIncidents(t *testing.T) {
	for _, name := range []string{"pod-limit", "node", "user-kill"} {
		html := renderHTML(t, many(t, 300, name), Options{})
		t.Logf("300 of %s: %d bytes", name, len(html))

		if len(html) > 2e6 {
			t.Errorf("%s: got %d bytes for 300 incidents, want at most 2 MB", name, len(html))
		}
	}
}
