// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// typicalIncident returns the lines of an incident of typical size, and of its updates.
func typicalIncident(b testing.TB, n int) (incident []byte, updates [][]byte) {
	envelope := func(kind string, after time.Duration) events.Envelope {
		return events.Envelope{V: 1, Kind: kind, Time: testTime(n).Add(after), BootID: testBoot, Node: "worker-3"}
	}
	id := fmt.Sprintf("5f0c2c1e-%d", n)
	path, work := "", &events.Workload{
		PodUID: "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b", ContainerID: fmt.Sprintf("%064x", n),
		Runtime: "containerd", QoS: "burstable", Source: "path",
	}
	inc := &events.Incident{
		Envelope: envelope(events.KindIncident, 0), ID: id, Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled,
	}

	for i, name := range []string{
		"/kubepods.slice", "/kubepods-burstable.slice",
		"/kubepods-burstable-pod6ba0af16_1c3e_4d5f_8a9b_0c1d2e3f4a5b.slice",
		"/cri-containerd-" + work.ContainerID + ".scope",
	} {
		path += name
		inc.Ladder = append(inc.Ladder, events.Rung{
			Cgroup: events.Cgroup{CgroupKey: events.CgroupKey{ID: uint64(n + i)}, Path: path}, Level: events.LevelPod,
			UsageBytes: new(uint64(n) << 12), MaxBytes: new(uint64(512 << 20)), OOMGroup: new(false),
			Workload: work,
		})
	}
	cgroup := &inc.Ladder[3].Cgroup
	inc.Limiter = &events.Limiter{
		Level: events.LevelContainer, Which: "memory.max", LimitBytes: new(uint64(512 << 20)),
		Cgroup: cgroup, Workload: work,
	}
	process := events.Process{PID: n, TID: n, Comm: "java", Cgroup: cgroup, Workload: work}
	inc.Trigger = &process
	inc.Victims = []events.Victim{
		{Process: process, Role: events.RoleChosen, AnonRSSBytes: new(uint64(n) << 12), OOMScoreAdj: new(985)},
	}

	history := &events.Incident{
		Envelope: envelope(events.KindIncidentUpdate, time.Second), ID: id, Before: &events.Before{WindowNS: 60e9},
	}
	for i := range 20 {
		history.Before.Timeline = append(history.Before.Timeline,
			events.StallSecond{BeforeNS: uint64(i) * 1e9, Count: uint64(n), TotalNS: uint64(n) * 1000})
	}
	exit := &events.Incident{
		Envelope: envelope(events.KindIncidentUpdate, time.Second), ID: id,
		Victims: []events.Victim{{
			Process:     events.Process{PID: n, TID: n, Comm: "java"},
			ExitAfterNS: new(uint64(31_000_000)), ReleasedAfterNS: new(uint64(40_000_000)),
		}},
	}

	return marshal(b, inc), [][]byte{marshal(b, history), marshal(b, exit)}
}

func BenchmarkAppend(b *testing.B) {
	for name, durable := range map[string]bool{"update": false, "incident": true} {
		b.Run(name, func(b *testing.B) {
			w := create(b, b.TempDir(), Options{})
			line, _ := typicalIncident(b, 4711)
			b.SetBytes(int64(len(line)))

			for b.Loop() {
				w.Append(line, durable)
			}
		})
	}
}

// The MB/s of BenchmarkRead are those of the decompressed lines.
func BenchmarkRead(b *testing.B) {
	var content []byte
	for i := 0; len(content) < 32<<20; i++ {
		incident, updates := typicalIncident(b, i)
		content = append(append(append(content, incident...), updates[0]...), updates[1]...)
	}

	path := filepath.Join(b.TempDir(), "x")
	for form, bytes := range map[string][]byte{"plain": content, "zstd": compressed(b, content)} {
		for name, read := range map[string]func(*Reader) error{
			"lines":     readLines,
			"incidents": func(r *Reader) error { return Incidents(r, func(*events.Incident) error { return nil }) },
		} {
			b.Run(name+"/"+form, func(b *testing.B) {
				if err := os.WriteFile(path, bytes, 0o600); err != nil {
					b.Fatal(err)
				}

				b.SetBytes(int64(len(content)))

				for b.Loop() {
					r, err := Open(path)
					if err != nil {
						b.Fatal(err)
					}

					if err := read(r); err != nil {
						b.Fatal(err)
					}

					r.Close()
				}
			})
		}
	}
}

func readLines(r *Reader) error {
	for _, err := range r.Lines() {
		if err != nil {
			return err
		}
	}

	return nil
}
