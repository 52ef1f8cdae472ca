// SPDX-License-Identifier: Apache-2.0

package main

// contender is a tracer that users could choose; nil args stand for none.
type contender struct {
	name string
	args []string
}

const (
	histogramScript = `tracepoint:vmscan:mm_vmscan_memcg_reclaim_begin { @s[tid] = nsecs; }
tracepoint:vmscan:mm_vmscan_memcg_reclaim_end /@s[tid]/ { @ns[cgroup] = hist(nsecs - @s[tid]); delete(@s[tid]); }`
	printScript = `tracepoint:vmscan:mm_vmscan_memcg_reclaim_begin { @s[tid] = nsecs; }
tracepoint:vmscan:mm_vmscan_memcg_reclaim_end /@s[tid]/ { printf("%s %d %d\n", comm, tid, nsecs - @s[tid]); delete(@s[tid]); }`
	readPipe = `d=/sys/kernel/tracing/instances/oomtrace-bench
mkdir $d
trap 'echo 0 > $d/events/enable; kill $!; wait; rmdir $d' INT EXIT
echo 1 > $d/events/vmscan/mm_vmscan_memcg_reclaim_begin/enable
echo 1 > $d/events/vmscan/mm_vmscan_memcg_reclaim_end/enable
cat $d/trace_pipe > /dev/null & wait`
)

func contenders() []contender {
	return []contender{
		{"none (A/A control)", nil},
		{"oomtrace", []string{"bin/oomtrace", "-o", "json"}},
		{"oomtrace, every stall reported", []string{"bin/oomtrace", "-o", "json", "--stalls", "--min-stall", "0s"}},
		{"bpftrace, histogram per cgroup", []string{"bpftrace", "-e", histogramScript}},
		{"bpftrace, printf per reclaim", []string{"bpftrace", "-e", printScript}},
		{"perf record, reclaim begin and end", []string{
			"perf", "record", "-q", "-a", "-o", "/dev/null",
			"-e", "vmscan:mm_vmscan_memcg_reclaim_begin", "-e", "vmscan:mm_vmscan_memcg_reclaim_end",
		}},
		{"trace_pipe, reclaim begin and end", []string{"sh", "-c", readPipe}},
	}
}

// result is the cost of one contender.
type result struct {
	name   string
	ratios []float64 // of the throughput with it to that without it
	cpu    []float64 // of the tracer, percent of a core
	rss    []float64 // MiB
	failed error     // why it could not be measured
}

// throughput compares the tracers on one workload.
func throughput(p *page) error {
	w, err := newWorkload()
	if err != nil {
		return err
	}
	defer w.close()

	p.writef("## A workload that reclaims all the time\n")
	p.writef("Two processes read a sparse file in steps of 4 KiB, each in a cgroup with little room for page cache, so that the\n"+
		"kernel reclaims every few dozen reads. Each tracer ran for %d pairs of %s with and %s without it, in alternation with\n"+
		"all others. The first row shows the noise of the machine alone.\n", *rounds, *slice, *slice)
	p.writef("| tracer | throughput with/without | tracer CPU %% of a core | RSS MiB |")
	p.writef("| --- | --- | --- | --- |")

	results := compare(w, contenders())
	for _, r := range results {
		if r.failed != nil {
			p.writef("| %s | not measured: %v | | |", r.name, r.failed)
			continue
		}

		p.writef("| %s | %s | %s | %s |", r.name, spread(r.ratios, 2), spread(r.cpu, 1), spread(r.rss, 0))
	}

	throughputGoals(p, results)

	return nil
}

// compare measures all contenders in each round. One that fails is not tried again.
func compare(w *workload, contenders []contender) []result {
	results := make([]result, len(contenders))

	for range *rounds {
		for i, c := range contenders {
			r := &results[i]
			r.name = c.name

			if r.failed == nil {
				r.failed = w.pair(c, r)
			}
		}
	}

	return results
}

// throughputGoals expects the control, oomtrace and oomtrace with all stalls before the
// peers.
func throughputGoals(p *page, results []result) {
	control, ours := median(results[0].ratios), results[1]
	p.goal(median(ours.ratios) >= 0.97*control, "slowdown of a workload that reclaims all the time",
		"≥ 0.97 of the A/A control", "%.2f of %.2f", median(ours.ratios), control)
	p.goal(median(ours.cpu) <= 1, "tracer CPU during reclaim", "≤ 1 % of a core", "%.1f %%", median(ours.cpu))
	p.goal(median(ours.rss) <= 32, "memory, everything on", "≤ 32 MiB", "%.0f MiB", median(ours.rss))

	for _, peer := range results[3:] {
		if peer.failed == nil {
			p.goal(median(ours.ratios) >= median(peer.ratios), "ahead of "+peer.name,
				"at least its throughput", "%.2f, peer %.2f", median(ours.ratios), median(peer.ratios))
		}
	}
}
