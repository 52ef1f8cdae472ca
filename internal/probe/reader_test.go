// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// BenchmarkReader reads individually reported stalls as Run does, burst by burst: from
// the ring, through the decoder, to a handler.
func BenchmarkReader(b *testing.B) {
	testenv.Root(b)

	layout, err := host.Cgroups()
	if err != nil {
		b.Fatal(err)
	}

	p, err := open(Options{MemoryHierarchy: layout.HierarchyID, PageSize: uint64(os.Getpagesize()), Stalls: true})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()

	const times, runs = 128, 8 // a burst fits into half of the ring

	program := looped(b, p.loader, times, "stall_node_begin", "stall_node_end")
	c := &counter{}

	var (
		took time.Duration
		used int64
	)

	for c.stalls < uint64(b.N) {
		for range runs {
			if _, err := program.Run(&ebpf.RunOptions{Context: make([]uint64, 1)}); err != nil {
				b.Fatal(err)
			}
		}

		before, began := cpuNS(), time.Now()

		for more := true; more; {
			if more, err = p.drain(c); err != nil {
				b.Fatal(err)
			}
		}

		took += time.Since(began)
		used += cpuNS() - before
	}

	b.ReportMetric(float64(took.Nanoseconds())/float64(c.stalls), "ns/record")
	b.ReportMetric(float64(used)/float64(c.stalls), "cpu-ns/record")
	b.ReportMetric(float64(c.stalls)/took.Seconds()/1e6, "M-records/s")
}

// cpuNS is the CPU time of this process.
func cpuNS() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)

	return u.Utime.Nano() + u.Stime.Nano()
}
