// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"bytes"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
	"github.com/oomtrace/oomtrace/internal/view"
)

// examples are incidents as a reader meets them.
var examples = []struct {
	name    string
	make    func() *incident
	history History
}{
	{"jvm", with(plainKill(), func(i *incident) {
		i.Victims[0].Comm, i.Trigger.Comm, i.Trigger.Thread = "java", "java", "C2 CompilerThre"
		i.Before = stalls(events.StallMemcgReclaim, 310, 296, 41e8)
		i.Before.Timeline = seconds([]uint64{400 * mib, 440 * mib, 480 * mib, 512 * mib}, 2*mib, mib, 0, 0)
	}), History{{Time: noon().Add(-9 * time.Minute), SameVictim: true}, {Time: noon().Add(-5 * time.Minute), SameVictim: true}}},
	{"tmpfs_of_a_pod", with(podKill(), func(i *incident) {
		i.Memory = memory(120 * mib)
		i.Memory.FileBytes, i.Memory.ShmemBytes = new(460*mib), new(450*mib)
		i.Allocation.Class = "tmpfs"
	}), nil},
	{"host_daemon", with(nodeKill(), func(i *incident) {
		i.NodeState.Cgroups = []events.Share{
			{Cgroup: *cgroup(3, "/system.slice"), Level: events.LevelSlice, UsageBytes: new(11 * gib)},
			{Cgroup: *cgroup(4, "/system.slice/backup.service"), Level: events.LevelService, UsageBytes: new(10 * gib), Workload: &events.Workload{Unit: "backup.service"}},
			kubepodsShare(4 * gib),
		}
		i.Candidates = []events.Candidate{candidate(4711, "hog", 2*gib, 985), candidate(812, "backup", 10*gib, 0)}
		i.Candidates[0].Victim = true
		i.Candidates[1].Cgroup, i.Candidates[1].Workload = cgroup(4, "/system.slice/backup.service"), &events.Workload{Unit: "backup.service"}
		i.Eviction = &events.Eviction{AvailableBytes: new(60 * mib), HardBytes: new(100 * mib), HardSinceNS: new(uint64(42e8)), Source: "/var/lib/kubelet/config.yaml"}
	}), nil},
	{"group", withGroup(nil), nil},
	{"cpuset", func() *incident { return numaKill(events.ScopeCpuset) }, nil},
	{"deleted", with(userKillOf("runtime", "delete"), func(i *incident) { i.Killer.TermBeforeNS = new(uint64(30e9)) }), nil},
	{"hostile", with(podKill(), func(i *incident) {
		evil := "\x1b[2J\xff\u202e\nwhy   all is well"
		i.Victims[0].Comm, i.Limiter.Workload, i.Limiter.Level = evil, nil, events.LevelCgroup
		i.Limiter.Cgroup.Path = "/" + evil
		i.Shares[0].Workload = &events.Workload{Container: evil}
	}), nil},
}

func TestGolden(t *testing.T) {
	for _, s := range examples {
		t.Run(s.name, func(t *testing.T) {
			inc := s.make()
			inc.Causes = Diagnose(inc, s.history)

			for _, c := range inc.Causes {
				if wrong := wrongBrief(c.Brief, briefRunes+1); wrong != "" {
					t.Errorf("%s: got brief %q, want %s", c.ID, c.Brief, wrong)
				}
			}

			var out bytes.Buffer
			for _, width := range []int{80, 0} {
				if err := view.NewText(&out, view.TextOptions{Width: width, Location: time.UTC}).Write(inc); err != nil {
					t.Fatal(err)
				}
			}

			testenv.Golden(t, s.name+".golden", out.Bytes(), *rewrite)
		})
	}
}
