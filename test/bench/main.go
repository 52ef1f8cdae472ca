// SPDX-License-Identifier: Apache-2.0

// Command bench measures what oomtrace costs, on this machine: the throughput of a
// workload that reclaims all the time, with and without a tracer, in interleaved
// pairs with an A/A control in the same run; the programs' time in the kernel beside
// a minimal program; the tracer's CPU time and memory; how long a start takes, and
// how long it is from a kill to its line. Absolute times on a shared machine say
// little: the ratios count.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
)

var (
	rounds = pflag.Int("rounds", 7, "alternating pairs for each tracer")
	slice  = pflag.Duration("slice", 2*time.Second, "how long each half of a pair runs")
	out    = pflag.String("out", "", "write the page to this file, too")
	parts  = pflag.StringSlice("part", []string{"throughput", "kernel", "loss", "reader", "start", "kill", "scale", "names"}, "what to measure")
)

func main() {
	pflag.Parse()

	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// page is what is written; everything is printed as soon as it is known. Goals are
// for those who develop oomtrace: they are printed at the end and are not on the page.
type page struct {
	text  strings.Builder
	goals []goal
}

// goal is one that was set before it was measured.
type goal struct {
	what, want, measured string
	met                  bool
}

func (p *page) goal(met bool, what, want, format string, args ...any) {
	p.goals = append(p.goals, goal{what, want, fmt.Sprintf(format, args...), met})
}

// reasons explain why a goal may be missed on this kind of machine.
var reasons = map[string]string{
	"memory, everything on": "Names of pods came with gRPC and its tables, the bulk ring grew to hold what comes in 100 ms at 80 000 stalls a second; " +
		"both are counted twice where they are mapped twice.",
	"ahead of perf record, reclaim begin and end": "It is within the noise of the control; perf writes and counts nothing by cgroup here.",
	"the same, beside a minimal program":          "A stall is counted by the limit it was for as well: a key of 24 bytes, not 8, and whether its task is dying is asked.",
	"reader, CPU":                                 "A record is 112 bytes, not 48: it names the task and its cgroup.",
	"start to attached":                           "Most of it is the kernel's check of some forty programs, one after the other, and the reading of its types and symbols.",
	"start to attached, beside bpftrace":          "As above; bpftrace loads one program here.",
	"kill to line, idle":                          "bpftrace prints at the mark of the victim; the line here has the scope, which is known some records later, and goes through a filter.",
	"kill to line, at load":                       "The same, and one more turn on a busy CPU. --realtime gives the reader the next one.",
	"kill to line at load, --realtime":            "At this load the default is low already: a reader that is woken comes soon on two CPUs.",
}

// printGoals compares what was measured with the goals that were set before.
func (p *page) printGoals() {
	if len(p.goals) == 0 {
		return
	}

	fmt.Print("\nGoals (not on the page)\n\n")
	var missed []string

	for _, g := range p.goals {
		result := "met"
		if !g.met {
			result = "MISSED"

			if why := reasons[g.what]; why != "" {
				if line := fmt.Sprintf("- %s: %s", g.what, why); !slices.Contains(missed, line) {
					missed = append(missed, line)
				}
			}
		}

		fmt.Printf("%-6s  %s: %s; goal: %s\n", result, g.what, g.measured, g.want)
	}

	if len(missed) > 0 {
		fmt.Printf("\n%s\n", strings.Join(missed, "\n"))
	}
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return math.NaN() // no comparison with it is true
	}

	return s[len(s)/2]
}

func (p *page) say(format string, args ...any) {
	fmt.Fprintf(&p.text, format+"\n", args...)
	fmt.Printf(format+"\n", args...)
}

// byHand begins what is measured by hand, and stays.
const byHand = "\n## Measured by hand\n"

func run() error {
	p := &page{}
	p.say("# Overhead\n")
	p.say("Written by `scripts/bench.sh`. %s, %s, kernel %s, %d CPUs, memory controller on cgroup v%d.", time.Now().Format("2006-01-02"),
		host.Arch(), host.KernelRelease(), cpus(), memoryVersion())
	p.say("Every figure is median [minimum–maximum]. The machine is shared and noisy: compare within a table, not between machines.\n")

	for _, part := range []struct {
		name string
		do   func(*page) error
	}{
		{"throughput", throughput}, {"kernel", kernelTime}, {"loss", loss}, {"reader", reader}, {"start", start}, {"kill", killToLine}, {"scale", scale}, {"names", naming},
	} {
		if !slices.Contains(*parts, part.name) {
			continue
		}

		if err := part.do(p); err != nil {
			return fmt.Errorf("measuring %s: %w", part.name, err)
		}

		p.say("")
	}

	p.printGoals()

	if *out != "" {
		text := strings.TrimRight(p.text.String(), "\n") + "\n"

		old, _ := os.ReadFile(*out)
		if _, kept, ok := strings.Cut(string(old), byHand); ok {
			text += byHand + kept
		}

		return os.WriteFile(*out, []byte(text), 0o644)
	}

	return nil
}

func memoryVersion() int {
	layout, err := host.Cgroups()
	if err != nil {
		return 0
	}

	return layout.MemoryVersion
}

func cpus() int {
	text, _ := os.ReadFile("/proc/cpuinfo")
	return strings.Count(string(text), "processor\t:")
}

func spread(values []float64, digits int) string {
	if len(values) == 0 {
		return "–"
	}
	s := slices.Sorted(slices.Values(values))

	return fmt.Sprintf("%.*f [%.*f–%.*f]", digits, s[len(s)/2], digits, s[0], digits, s[len(s)-1])
}

// contender is a tracer that users would pick; nil args is none at all.
type contender struct {
	name string
	args []string
}

const (
	histogramScript = `tracepoint:vmscan:mm_vmscan_memcg_reclaim_begin { @s[tid] = nsecs; }
tracepoint:vmscan:mm_vmscan_memcg_reclaim_end /@s[tid]/ { @ns[cgroup] = hist(nsecs - @s[tid]); delete(@s[tid]); }`
	printScript = `tracepoint:vmscan:mm_vmscan_memcg_reclaim_begin { @s[tid] = nsecs; }
tracepoint:vmscan:mm_vmscan_memcg_reclaim_end /@s[tid]/ { printf("%s %d %d\n", comm, tid, nsecs - @s[tid]); delete(@s[tid]); }`
	readPipe = `d=/sys/kernel/tracing/instances/oomtrace-bench; mkdir $d; trap 'echo 0 > $d/events/enable; kill $!; wait; rmdir $d' INT EXIT
echo 1 > $d/events/vmscan/mm_vmscan_memcg_reclaim_begin/enable; echo 1 > $d/events/vmscan/mm_vmscan_memcg_reclaim_end/enable
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

// result is what one contender cost.
type result struct {
	name   string
	ratios []float64 // throughput with it to without it
	cpu    []float64 // of the tracer, percent of a core
	rss    []float64 // MiB
	why    string    // it could not be measured
}

// throughput compares the tracers on one workload.
func throughput(p *page) error {
	w, err := newWorkload()
	if err != nil {
		return err
	}
	defer w.close()

	p.say("## A workload that reclaims all the time\n")
	p.say("Two processes read a sparse file in 4 KiB steps, each in a cgroup with little room for page cache: every few dozen reads the kernel")
	p.say("reclaims. Each tracer ran for %d pairs of %s with and %s without it, in alternation with all others; the first row shows what the", *rounds, *slice, *slice)
	p.say("machine's noise alone makes.\n")
	p.say("| tracer | throughput with/without | tracer CPU %% of a core | RSS MiB |")
	p.say("| --- | --- | --- | --- |")

	results := make([]result, 0)
	for _, c := range contenders() {
		results = append(results, result{name: c.name})
	}

	for range *rounds {
		for i, c := range contenders() {
			r := &results[i]
			if r.why != "" {
				continue
			}

			if err := w.pair(c, r); err != nil {
				r.why = err.Error()
			}
		}
	}

	for _, r := range results {
		if r.why != "" {
			p.say("| %s | not measured: %s | | |", r.name, r.why)
			continue
		}

		p.say("| %s | %s | %s | %s |", r.name, spread(r.ratios, 2), spread(r.cpu, 1), spread(r.rss, 0))
	}
	control, ours := median(results[0].ratios), results[1]
	p.goal(median(ours.ratios) >= 0.97*control, "slowdown of a workload that reclaims all the time", "≥ 0.97 of the A/A control", "%.2f of %.2f", median(ours.ratios), control)
	p.goal(median(ours.cpu) <= 1, "tracer CPU while it reclaims", "≤ 1 % of a core", "%.1f %%", median(ours.cpu))
	p.goal(median(ours.rss) <= 32, "memory, everything on", "≤ 32 MiB", "%.0f MiB", median(ours.rss))

	for _, peer := range results[4:] {
		if peer.why == "" {
			p.goal(median(ours.ratios) >= median(peer.ratios), "ahead of "+peer.name, "throughput ≥ its", "%.2f, it %.2f", median(ours.ratios), median(peer.ratios))
		}
	}

	return nil
}

// reader asks the reader's own benchmark.
func reader(p *page) error {
	text, err := exec.Command("go", "test", "-run", "^$", "-bench", "Reader", "-benchtime", "2000000x", "-count", fmt.Sprint(*rounds), "./internal/probe").CombinedOutput()
	if err != nil {
		return fmt.Errorf("the reader's benchmark: %w\n%s", err, text)
	}
	values := map[string][]float64{}

	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		for i := 1; i < len(fields); i++ {
			if v, err := strconv.ParseFloat(fields[i-1], 64); err == nil {
				values[fields[i]] = append(values[fields[i]], v)
			}
		}
	}
	rate, cpu := values["M-records/s"], values["cpu-ns/record"]
	p.say("Read in bursts out of the ring, decoded and handed on (`BenchmarkReader`): %s M records a second, %s ns of CPU each.", spread(rate, 1), spread(cpu, 0))
	p.goal(median(rate) >= 2, "reader", "≥ 2 M records/s", "%.1f M/s", median(rate))
	p.goal(median(rate) >= 5, "reader, in a burst", "≥ 5 M records/s", "%.1f M/s", median(rate))
	p.goal(median(cpu) <= 100, "reader, CPU", "≤ 100 ns a record", "%.0f ns", median(cpu))

	return nil
}

// loss lets every stall be told by itself.
func loss(p *page) error {
	w, err := newWorkload()
	if err != nil {
		return err
	}
	defer w.close()

	t, err := startTracer([]string{"bin/oomtrace", "-o", "json", "--stalls", "--min-stall", "0s"})
	if err != nil {
		return err
	}

	time.Sleep(*slice + time.Second)
	t.stop()
	var stalls, lost uint64
	var first, last time.Time

	for line := range strings.Lines(t.output()) {
		var head events.Envelope
		if json.Unmarshal([]byte(line), &head) != nil {
			continue
		}

		switch head.Kind {
		case events.KindStall:
			stalls++

			if first.IsZero() {
				first = head.Time
			}
			last = head.Time
		case events.KindLost:
			var l events.Lost
			_ = json.Unmarshal([]byte(line), &l)
			lost += l.Count
		}
	}

	p.goal(lost == 0, "stalls lost, each of them reported", "0 at the workload's rate", "%d of %d", lost, stalls)
	p.say("With `--stalls --min-stall 0s` every single stall is a line: %d in %.1f s, and %d records lost.",
		stalls, last.Sub(first).Seconds(), lost)
	p.say("`TestStallFloodLosesNoKill` runs a source as fast as the machine can while 50 processes are killed: every kill is complete, and reported and lost stalls add up to all.")

	return nil
}

// start measures a tracer where nothing happens, and how long it takes to begin.
func start(p *page) error {
	dir, err := os.MkdirTemp("", "oomtrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	type row struct{ starts, cpu, rss []float64 }

	var ours, unlocked, bpftrace row
	for range *rounds {
		for _, c := range []struct {
			row  *row
			args []string
		}{
			{&ours, []string{"bin/oomtrace", "-o", "json"}},
			{&unlocked, []string{"bin/oomtrace", "-o", "json", "--lock-memory=false"}},
			{&bpftrace, []string{"bpftrace", "-e", `BEGIN { printf("ready\n"); } tracepoint:oom:mark_victim { printf("%d\n", args->pid); }`}},
		} {
			ready := filepath.Join(dir, "ready")
			os.Remove(ready)

			args := c.args
			if c.row != &bpftrace {
				args = append(slices.Clone(args), "--ready-file", ready)
			}
			began := time.Now()

			t, err := startTracer(args)
			if err != nil {
				p.say("%s: %v", args[0], err)
				continue
			}

			for range 5000 {
				if _, err := os.Stat(ready); err == nil || strings.Contains(t.output(), "ready\n") {
					break
				}

				time.Sleep(time.Millisecond)
			}

			c.row.starts = append(c.row.starts, float64(time.Since(began).Microseconds())/1000)
			busy, from := t.cpu(), time.Now()

			time.Sleep(*slice)

			c.row.cpu = append(c.row.cpu, (t.cpu()-busy)/time.Since(from).Seconds()*100)
			c.row.rss = append(c.row.rss, t.rss())
			t.stop()
		}
	}

	p.say("## Idle\n")
	p.say("| tracer | start to attached, ms | CPU %% of a core | RSS MiB |")
	p.say("| --- | --- | --- | --- |")
	p.say("| oomtrace | %s | %s | %s |", spread(ours.starts, 0), spread(ours.cpu, 2), spread(ours.rss, 0))
	p.say("| oomtrace, its memory not locked | %s | %s | %s |", spread(unlocked.starts, 0), spread(unlocked.cpu, 2), spread(unlocked.rss, 0))
	p.say("| bpftrace, one line per mark_victim | %s | %s | %s |", spread(bpftrace.starts, 0), spread(bpftrace.cpu, 2), spread(bpftrace.rss, 0))
	p.say("\nMost of the start is the kernel's verification of some forty programs, one after another, and the reading of its types and symbols;")
	p.say("bpftrace loads one program here. VmLck in a list of processes is address space that is locked once it is touched: RSS is what is used.")
	p.goal(median(ours.starts) <= 100, "start to attached", "≤ 100 ms", "%.0f ms", median(ours.starts))
	p.goal(median(ours.starts) <= median(bpftrace.starts)/2, "start to attached, beside bpftrace", "≤ half of its", "%.0f ms, it %.0f", median(ours.starts), median(bpftrace.starts))
	p.goal(median(ours.cpu) <= 0.1, "tracer CPU, idle", "≤ 0.1 % of a core", "%.2f %%", median(ours.cpu))
	p.goal(median(ours.rss) <= 1.5*median(unlocked.rss), "memory, locked", "≤ 1.5x not locked", "%.0f MiB, not locked %.0f", median(ours.rss), median(unlocked.rss))

	return nil
}
