// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/sink"
)

func candidate(pid int, comm string, anon uint64, adj int) events.Candidate {
	return events.Candidate{
		Process:      events.Process{PID: pid, TID: pid, Comm: comm, Cgroup: cgroup(9010, appPath), Workload: workload(containerID)},
		AnonRSSBytes: new(anon), OOMScoreAdj: new(adj), Points: new(int64(anon / 4096)), Unkillable: adj == -1000,
	}
}

func share(container string, usage uint64, limit *uint64) events.Share {
	return events.Share{
		Cgroup: *cgroup(0, podPath+"/x"), Level: events.LevelContainer, Workload: &events.Workload{Container: container, PodUID: podUID},
		UsageBytes: new(usage), MaxBytes: limit,
	}
}

func cause(id, confidence, text string, advice ...events.Advice) events.Cause {
	return events.Cause{
		ID: id, Confidence: confidence, Text: text, Advice: advice, Reference: "Documentation/admin-guide/cgroup-v2.rst, memory.max",
		Evidence: []events.Evidence{
			{What: "used of the pod's limit", Value: "600.0 MiB of 600.0 MiB (100 %)", Source: "page counters at the kill"},
			{What: "used by container app", Value: "300.0 MiB", Source: "memory.current"},
		},
	}
}

// explained is a kill whose causes come after the verdict.
func explained() func(sink.Sink) error {
	inc := container()
	inc.ID = "5f0c2c1e-40"
	inc.Scope, inc.Limiter.Level = events.ScopeMemcg, events.LevelPod
	inc.Limiter.Cgroup, inc.Limiter.Workload = cgroup(9004, podPath), &events.Workload{PodUID: podUID, QoS: "burstable"}

	later := update(inc.ID, 40*time.Millisecond)
	later.Shares = []events.Share{
		share("app", 300*mib, new(500*mib)), share("a-sidecar-with-a-name-that-is-far-too-long-for-this", 200*mib, nil),
		{Cgroup: *cgroup(0, ""), Level: events.LevelContainer},
	}
	later.Candidates = []events.Candidate{candidate(4711, "java", 480*mib, 985), candidate(30, "big", 900*mib, -1000)}
	later.Candidates[0].Victim = true
	later.Reported = []events.Reported{
		{ContainerID: containerID, Container: "app", State: "exited", Reason: "Error", ExitCode: new(137), Source: "cri",
			Text: "exited with 137, reason Error: the runtime missed the OOM event"},
		{ContainerID: sidecarID, State: "exited", Reason: "Completed", ExitCode: new(0), Source: "cri", Agrees: true},
	}
	sizing := events.Advice{Layer: "kubernetes", Text: "Give each container of the pod its own limit, and set the pod's limit to their sum."}
	later.Causes = []events.Cause{
		cause("ancestor_limit", "certain", "The pod's limit was hit, not the container's own. Container app had used 300.0 MiB of its 500.0 MiB (60 %).",
			sizing, events.Advice{Layer: "cgroup", Text: "Set memory.high below memory.max."}),
		cause("thp", "possible", "400.0 MiB (83 % of anonymous memory) is in transparent huge pages, each of them charged in full even if little of it is used.", sizing),
	}

	return feed(headline(inc), inc, later)
}

// explainedAtLength has more of everything than a narrow block shows.
func explainedAtLength() func(sink.Sink) error {
	inc := container()
	inc.ID, inc.Scope = "5f0c2c1e-41", events.ScopeGlobal
	inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "node", LimitBytes: new(62 * gib)}
	inc.Ladder, inc.Memory, inc.Killer.Path = nil, nil, "global"
	inc.Eviction = &events.Eviction{
		AvailableBytes: new(60 * mib), MemAvailableBytes: new(90 * mib), HardBytes: new(100 * mib), HardSinceNS: new(uint64(4_200_000_000)),
		SoftBytes: new(500 * mib), Source: "/var/lib/kubelet/config.yaml", Text: "The node had been below the hard threshold for 4.2 s.",
		Log: []string{"attempting to reclaim memory", "must evict pod(s) to reclaim memory \x1b[31m"},
	}

	inc.NodeState = &events.NodeState{
		AfterNS: new(uint64(12_000_000)), TotalBytes: new(62 * gib), FreeBytes: new(60 * mib), AvailableBytes: new(90 * mib),
		AnonBytes: new(55 * gib), FileBytes: new(400 * mib), DirtyBytes: new(3 * mib), SlabReclaimable: new(gib),
		SlabUnreclaimable: new(2 * gib),
		SwapTotalBytes:    new(4 * gib), SwapFreeBytes: new(uint64(0)),
		PSISome: &events.PSI{Avg10: 91.27, Avg60: 60, Avg300: 15.5}, PSIFull: &events.PSI{Avg10: 80},
		Zones: []events.Zone{
			{Node: 0, Zone: "DMA32", FreeBytes: new(300 * mib), MinBytes: new(4 * mib)},
			{Node: 0, Zone: "Normal\x1b", FreeBytes: new(60 * mib), MinBytes: new(66 * mib),
				ManagedBytes: new(60 * gib), FreeBlocks: []uint64{900, 12, 0, 0}},
		},
		Slabs: []events.SlabCache{{Name: "dentry", Bytes: gib}, {Name: "kmalloc-1k", Bytes: 700 * mib}},
	}
	for i := range 9 {
		inc.Shares = append(inc.Shares, share(fmt.Sprint("c", i), uint64(9-i)*gib, nil))
		inc.Candidates = append(inc.Candidates, candidate(100+i, "worker", uint64(9-i)*gib, 0))
		inc.Causes = append(inc.Causes, cause(fmt.Sprint("cause_", i), "likely", fmt.Sprintf("Cause %d.", i),
			events.Advice{Layer: "kernel", Text: fmt.Sprintf("Do %d.", i)}))
	}

	inc.Causes[1].Text = "\x1b[2J\u202e" + strings.Repeat("日本", 60)
	for i := range 6 {
		inc.Causes[0].Advice = append(inc.Causes[0].Advice, events.Advice{Layer: "application", Text: fmt.Sprintf("Also do %d.", i)})
	}

	return feed(inc)
}

// FuzzCauses: no cause and no name makes a line longer than the width or puts an
// unprintable rune on the terminal.
func FuzzCauses(f *testing.F) {
	f.Add("java", "It reached its own limit.", "cgroup", uint8(80))
	f.Add("\x1b日本", strings.Repeat("日", 99), "\u202e\n", uint8(1))
	f.Fuzz(func(t *testing.T, name, text, word string, columns uint8) {
		inc := container()
		inc.Causes = []events.Cause{cause(word, word, text, events.Advice{Layer: word, Text: text})}
		inc.Shares = []events.Share{share(name, mib, nil)}
		inc.Candidates = []events.Candidate{candidate(1, name, mib, 0)}
		inc.Eviction = &events.Eviction{Text: text, Source: word, Log: []string{text}}
		inc.Reported = []events.Reported{{Container: name, State: word, Text: text}}
		inc.Scope = events.ScopeGlobal
		inc.NodeState = &events.NodeState{Zones: []events.Zone{{Zone: name}}, Slabs: []events.SlabCache{{Name: name}}}

		limit := max(int(columns)+1, minWidth)
		checkText(t, inc, TextOptions{Width: limit})
		checkText(t, inc, TextOptions{Width: limit, Full: true})
		checkText(t, inc, TextOptions{})
	})
}

// checkText shows an incident, and checks each line for unprintable runes and its width.
func checkText(t *testing.T, inc *events.Incident, opts TextOptions) {
	t.Helper()

	var out bytes.Buffer
	columns := opts.Width
	opts.Location = time.UTC

	if err := NewText(&out, opts).Write(inc); err != nil {
		t.Fatal(err)
	}

	for line := range strings.Lines(out.String()) {
		line = strings.TrimSuffix(line, "\n")
		if columns > 0 && phrase.Width(line) > columns {
			t.Errorf("got a line of %d columns, want at most %d: %q", phrase.Width(line), columns, line)
		}

		for _, r := range line {
			if !events.Printable(r) {
				t.Errorf("got unprintable %U in %q", r, line)
			}
		}
	}
}
