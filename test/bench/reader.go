// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// loss reports every stall individually, and counts the records that are lost.
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

	stalls, lost, lasted := countStalls(t.output())
	p.goal(lost == 0, "stalls lost, each of them reported", "0 at the workload's rate", "%d of %d", lost, stalls)
	p.writef("With `--stalls --min-stall 0s` each single stall is a line: %d in %.1f s, and %d records lost.",
		stalls, lasted.Seconds(), lost)
	p.writef("`TestStallFloodLosesNoKill` produces stalls as fast as the machine can while 50 processes are killed: every kill is\n" +
		"complete, and the reported and the lost stalls add up to all of them.")

	return nil
}

// countStalls counts the stalls and the lost records in a trace. Lasted is the time from
// its first stall to its last.
func countStalls(trace string) (stalls, lost uint64, lasted time.Duration) {
	var first, last time.Time

	for line := range strings.Lines(trace) {
		var head events.Envelope
		if json.Unmarshal([]byte(line), &head) != nil {
			continue
		}

		switch head.Kind {
		case events.KindStall:
			if stalls++; stalls == 1 {
				first = head.Time
			}
			last = head.Time
		case events.KindLost:
			var l events.Lost
			_ = json.Unmarshal([]byte(line), &l)
			lost += l.Count
		}
	}

	return stalls, lost, last.Sub(first)
}

// reader runs the benchmark of the reader.
func reader(p *page) error {
	text, err := exec.Command("go", "test", "-run", "^$", "-bench", "Reader", "-benchtime", "2000000x",
		"-count", fmt.Sprint(*rounds), "./internal/probe").CombinedOutput()
	if err != nil {
		return fmt.Errorf("run the reader's benchmark: %w\n%s", err, text)
	}

	values := benchmarkValues(string(text))
	rate, cpu := values["M-records/s"], values["cpu-ns/record"]
	p.writef("The reader takes bursts of records out of the ring, decodes them and passes them on (`BenchmarkReader`): %s\n"+
		"M records per second, %s ns of CPU per record.", spread(rate, 1), spread(cpu, 0))
	p.goal(median(rate) >= 2, "reader", "≥ 2 M records/s", "%.1f M/s", median(rate))
	p.goal(median(rate) >= 5, "reader, in a burst", "≥ 5 M records/s", "%.1f M/s", median(rate))
	p.goal(median(cpu) <= 100, "reader, CPU", "≤ 100 ns per record", "%.0f ns", median(cpu))

	return nil
}

// benchmarkValues returns the values in the output of go test -bench, by their unit.
func benchmarkValues(text string) map[string][]float64 {
	values := map[string][]float64{}

	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		for i := 1; i < len(fields); i++ {
			if v, err := strconv.ParseFloat(fields[i-1], 64); err == nil {
				values[fields[i]] = append(values[fields[i]], v)
			}
		}
	}

	return values
}
