// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

func mibs(n uint64) *uint64 { return new(n << 20) }

func inspections() map[string]*events.Inspection {
	const uid, id = "8f14e45f-ceea-467f-a8f1-0123456789ab", "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"
	envelope := events.Envelope{V: 1, Kind: events.KindInspection, Time: time.Date(2026, 8, 20, 14, 3, 7, 0, time.UTC), Node: "worker-3"}
	app := events.Cgroup{CgroupKey: events.CgroupKey{ID: 9}, Path: "/kubepods/burstable/pod" + uid + "/" + id}
	pod := events.Cgroup{CgroupKey: events.CgroupKey{ID: 8}, Path: "/kubepods/burstable/pod" + uid}
	workload := &events.Workload{PodUID: uid, ContainerID: id, QoS: "burstable", Source: "path"}
	podWorkload := &events.Workload{PodUID: uid, QoS: "burstable", Source: "path"}
	process := func(pid int, comm string, in *events.Cgroup, w *events.Workload) events.Process {
		return events.Process{PID: pid, TID: pid, Comm: comm, Cgroup: in, Workload: w}
	}
	ladder := []events.Rung{
		{Cgroup: app, Level: events.LevelContainer, Workload: workload, UsageBytes: mibs(300), MaxBytes: mibs(1024),
			HighBytes: mibs(900), Below: true},
		{Cgroup: pod, Level: events.LevelPod, Workload: podWorkload, UsageBytes: mibs(500), MaxBytes: mibs(512)},
	}
	container := &events.Inspection{
		Envelope: envelope, Cgroup: &app, Level: events.LevelContainer, Workload: workload, Ladder: ladder,
		Limiter: &events.Limiter{
			Level: events.LevelPod, Which: "memory.max", LimitBytes: mibs(512), UsageBytes: mibs(500), Cgroup: &pod, Workload: podWorkload,
		},
		HeadroomBytes: mibs(12),
		Memory: &events.Memory{AnonBytes: mibs(250), FileBytes: mibs(40), ShmemBytes: mibs(30),
			SlabBytes: mibs(10), InactiveFileBytes: mibs(5), FileDirtyBytes: mibs(2)},
		ScannedBytes: mibs(4096), ScannedProactivelyBytes: mibs(3072),
		Events:    &events.CgroupEvents{High: new(uint64(5)), Max: new(uint64(9)), OOM: new(uint64(1)), OOMKill: new(uint64(1))},
		OwnEvents: &events.CgroupEvents{High: new(uint64(0)), Max: new(uint64(0))},
		PSISome:   &events.PSI{Avg10: 12.5, Avg60: 3.25}, PSIFull: &events.PSI{Avg10: 1},
		Shares: []events.Share{
			{Cgroup: app, Level: events.LevelContainer, Workload: workload, UsageBytes: mibs(300), MaxBytes: mibs(1024)},
			{Cgroup: events.Cgroup{Path: "/kubepods/x\x1b[2J"}, Level: events.LevelCgroup, UsageBytes: mibs(200)},
		},
		SharesLeftOut: 1,
		Candidates: []events.Candidate{
			{Process: process(4711, "java", &app, workload), AnonRSSBytes: mibs(250), FileRSSBytes: mibs(4),
				ShmemRSSBytes: mibs(0), SwapBytes: mibs(0), OOMScoreAdj: new(985), Points: new(int64(194_000))},
			{Process: process(4712, "evil\x1b[31m\nname", &pod, podWorkload), AnonRSSBytes: mibs(9), OOMScoreAdj: new(-5), Points: new(int64(-2))},
			{Process: process(4713, "old", &app, workload), RSSBytes: mibs(7)},
			{Process: process(12, "sshd", nil, nil), AnonRSSBytes: mibs(2), OOMScoreAdj: new(-1000), Unkillable: true},
		},
		CandidatesLeftOut: 3, CandidatesUnread: 2, TotalPages: new(uint64(131072)), PageSizeBytes: 4096,
		NodeState: &events.NodeState{},
		Eviction: &events.Eviction{
			Text: "memory.available 3021Mi, 2921Mi above evictionHard 100Mi", MemAvailableBytes: mibs(4000), Source: "/var/lib/kubelet/config.yaml",
		},
		Causes:  []events.Cause{{Text: "The pod's limit is closer than the container's own.", Confidence: "certain"}},
		Unknown: []string{"ladder.peak_bytes"},
	}
	zone := func(node int, name string, free uint64) events.Zone {
		return events.Zone{
			Node: node, Zone: name, FreeBytes: mibs(free), MinBytes: mibs(60), LowBytes: mibs(75), HighBytes: mibs(90),
			ManagedBytes: mibs(16000),
			FreeBlocks:   []uint64{free, 1500, 0, 0, 0, 0, 0, 0, 0, 0, 1_200_000},
		}
	}

	waits := *container
	waits.Limiter = &events.Limiter{
		Level: events.LevelPod, Which: "memory.limit_in_bytes", LimitBytes: mibs(512), UsageBytes: mibs(512), Cgroup: &pod, Workload: podWorkload,
		OOMKillDisable: new(true), UnderOOM: new(true),
	}
	waits.HeadroomBytes, waits.Events, waits.OwnEvents, waits.Eviction = mibs(0), nil, nil, nil
	waits.Wait = &events.OOMWait{Tasks: []events.Process{
		process(4711, "java", &app, workload), process(4712, "evil\x1b[31m\nname", &pod, podWorkload),
	}, TasksLeftOut: 3}
	waits.Causes = []events.Cause{{Text: "Nothing is killed, and tasks wait until memory is freed.", Confidence: "certain"}}

	qemu := events.Cgroup{CgroupKey: events.CgroupKey{ID: 21}, Path: "/machine.slice/machine-qemu\\x2d1\\x2dbuild.scope/libvirt/emulator"}
	near := func(c events.Cgroup, level events.Level, w *events.Workload, used, limit uint64) events.NearLimit {
		return events.NearLimit{
			Cgroup: c, Level: level, Workload: w, UsageBytes: used << 20, LimitBytes: limit << 20, HeadroomBytes: (limit - used) << 20,
		}
	}

	unlimited := *container
	unlimited.Cgroup, unlimited.Level, unlimited.Workload, unlimited.Ladder = &pod, events.LevelPod, podWorkload, []events.Rung{
		{Cgroup: pod, Level: events.LevelPod, Workload: podWorkload, UsageBytes: mibs(500)},
	}
	unlimited.Limiter, unlimited.HeadroomBytes = &events.Limiter{Level: events.LevelNode, Which: "node"}, mibs(9000)
	unlimited.Shares, unlimited.SharesLeftOut, unlimited.Causes = nil, 0, nil
	unlimited.TotalPages = new(uint64(8192000))
	unlimited.Candidates = []events.Candidate{
		{Process: process(21615, "qemu-system-x86", &qemu, nil), AnonRSSBytes: mibs(9000), OOMScoreAdj: new(0), Points: new(int64(2304000))},
		{Process: process(4711, "java", &app, workload), AnonRSSBytes: mibs(250), OOMScoreAdj: new(3), Points: new(int64(88576))},
	}

	outranked := unlimited
	outranked.Candidates = unlimited.Candidates[:1]

	return map[string]*events.Inspection{
		"container": container, "waiting": &waits, "pod-without-limit": &unlimited, "pod-outranked": &outranked,
		"node": {
			Envelope: envelope, Limiter: &events.Limiter{Level: events.LevelNode, Which: "node"}, HeadroomBytes: mibs(300),
			NodeState: &events.NodeState{
				TotalBytes: mibs(32000), FreeBytes: mibs(200), AvailableBytes: mibs(300), AnonBytes: mibs(25000),
				FileBytes: mibs(150), ShmemBytes: mibs(2000),
				SlabReclaimable: mibs(100), SlabUnreclaimable: mibs(3000), SwapTotalBytes: mibs(0),
				TransparentHuge: "always", AnonTHPBytes: mibs(9000), KillAllocatingTask: new(true),
				HugetlbBytes: mibs(2048), HugetlbFreeBytes: mibs(2048),
				PSISome: &events.PSI{Avg10: 80, Avg60: 40, Avg300: 10},
				Zones:   []events.Zone{zone(0, "Normal", 50), zone(1, "Normal", 70), zone(1, "Movable", 100)},
				Slabs:   []events.SlabCache{{Name: "dentry", Bytes: 2 << 30}},
				Cgroups: []events.Share{{
					Cgroup: events.Cgroup{Path: "/kubepods"}, Level: events.LevelKubepods,
					UsageBytes: mibs(20000), MaxBytes: mibs(30000),
				}},
			},
			Candidates: container.Candidates[:1], TotalPages: new(uint64(131072)), PageSizeBytes: 4096,
		},
		"node-limits": {
			Envelope:      envelope,
			Limiter:       &events.Limiter{Level: events.LevelNode, Which: "node", UsageBytes: mibs(31700)},
			HeadroomBytes: mibs(300), TotalPages: new(uint64(8192000)), PageSizeBytes: 4096,
			NearestLimits: []events.NearLimit{
				near(pod, events.LevelPod, podWorkload, 500, 512),
				near(app, events.LevelContainer, &events.Workload{
					Namespace: "shop", Pod: "checkout-7d9c5b9d4-abcde", Container: "app", PodUID: uid, ContainerID: id,
				}, 800, 1024),
				near(events.Cgroup{Path: "/system.slice/postgresql@16-main.service"}, events.LevelService,
					&events.Workload{Unit: "postgresql@16-main.service"}, 3000, 4000),
				near(events.Cgroup{Path: "/user.slice/evil\x1b[2J"}, events.LevelCgroup, nil, 0, 2048),
			},
			NearestLimitsLeftOut: 31, NearestLimitsUnread: 2,
			NodeState: &events.NodeState{
				TotalBytes: mibs(32000), AvailableBytes: mibs(300), Slabs: []events.SlabCache{{Name: "dentry", Bytes: 2 << 30}},
			},
			Candidates: []events.Candidate{
				{Process: process(4711, "java", &app, workload), AnonRSSBytes: mibs(250), OOMScoreAdj: new(985), Points: new(int64(8133120))},
				{Process: process(21615, "qemu-system-x86", &qemu, nil), AnonRSSBytes: mibs(9000), OOMScoreAdj: new(0), Points: new(int64(2304000))},
				{Process: process(900, "postgres", &events.Cgroup{Path: "/system.slice/postgresql@16-main.service"},
					&events.Workload{Unit: "postgresql@16-main.service"}), AnonRSSBytes: mibs(2900), OOMScoreAdj: new(-900), Points: new(int64(-10))},
				{Process: process(12, "sshd", nil, nil), AnonRSSBytes: mibs(2), OOMScoreAdj: new(-1000), Unkillable: true},
			},
		},
		"nothing-known": {Envelope: envelope, Limiter: &events.Limiter{Level: events.LevelNode}, NodeState: &events.NodeState{}, Unknown: []string{"candidates"}},
	}
}

func TestInspection(t *testing.T) {
	for name, i := range inspections() {
		for _, columns := range []int{80, 120, 0} {
			var out bytes.Buffer
			if err := Inspection(&out, i, TextOptions{Width: columns, Location: time.UTC}); err != nil {
				t.Fatal(err)
			}

			for line := range strings.Lines(out.String()) {
				line = strings.TrimSuffix(line, "\n")
				if strings.ContainsFunc(line, func(r rune) bool { return !events.Printable(r) }) {
					t.Errorf("got an unprintable rune in %q", line)
				}

				if columns > 0 && phrase.Width(line) > columns {
					t.Errorf("got %d columns, want at most %d: %s", phrase.Width(line), columns, line)
				}
			}

			testenv.Golden(t, fmt.Sprintf("inspection-%s-%d.txt", name, columns), out.Bytes(), *rewrite)
		}
	}
}

func TestNearestLimitsFitANarrowTerminal(t *testing.T) {
	for name, i := range inspections() {
		if len(i.NearestLimits) == 0 {
			continue
		}

		for _, width := range []int{40, 60, 80} {
			var out bytes.Buffer
			if err := Inspection(&out, i, TextOptions{Width: width, Location: time.UTC}); err != nil {
				t.Fatal(err)
			}

			_, rows, _ := strings.Cut(out.String(), "nearest limits\n")
			for _, line := range strings.SplitAfterN(rows, "\n", 5)[:4] {
				if !strings.Contains(line, "iB") {
					t.Errorf("%s, %d columns: got a row on two lines, want one:\n%s", name, width, out.String())
				}
			}
		}
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestInspectionReturnsWriteErrors(t *testing.T) {
	if err := Inspection(fullWriter{}, inspections()["node"], TextOptions{}); err == nil {
		t.Error("got no error of a writer that failed")
	}
}
