// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/oomtrace/oomtrace/internal/host"
)

// killsEach is how many processes die under each tracer in each round.
const killsEach = 5

// killToLine measures from the kernel's mark of a victim to the line with its pid,
// as another process reads it.
func killToLine(p *page) error {
	contenders := []contender{
		{"oomtrace", []string{"bin/oomtrace"}},
		{"oomtrace --realtime", []string{"bin/oomtrace", "--realtime"}},
		{"bpftrace, printf at mark_victim", []string{"bpftrace", "-e", `tracepoint:oom:mark_victim { printf("%d\n", args->pid); }`}},
		{"dmesg -w", []string{"dmesg", "-w"}},
	}

	p.say("## From the kill to the line\n")
	p.say("From the kernel's `mark_victim` to the moment at which another process has read the line with the victim's pid; %d kills each in", killsEach)
	p.say("%d rounds, in alternation. At load, %d processes compute beside.\n", *rounds, 4*runtime.NumCPU())
	p.say("| tracer | idle, ms | p90 | at load, ms | p90 |")
	p.say("| --- | --- | --- | --- | --- |")

	m, err := loadMinimal("minimal_mark")
	if err != nil {
		return err
	}
	defer m.close()
	took := make([][2][]float64, len(contenders))
	why := make([]string, len(contenders))

	for range *rounds {
		for load := range 2 {
			stop := func() {}
			if load == 1 {
				stop = burn(4 * runtime.NumCPU())
			}

			for i, c := range contenders {
				if why[i] != "" {
					continue
				}

				ms, err := kills(c, m)
				if err != nil {
					why[i] = err.Error()
				}

				took[i][load] = append(took[i][load], ms...)
			}

			stop()
		}
	}

	for i, c := range contenders {
		if why[i] != "" {
			p.say("| %s | not measured: %s | | | |", c.name, why[i])
			continue
		}

		p.say("| %s | %s | %.2f | %s | %.2f |", c.name, spread(took[i][0], 2), p90(took[i][0]), spread(took[i][1], 2), p90(took[i][1]))
	}

	const ours, realtime, bpftrace, dmesg = 0, 1, 2, 3
	for load, name := range []string{"idle", "at load"} {
		p.goal(median(took[ours][load]) <= 1.2*median(took[bpftrace][load]), "kill to line, "+name, "median ≤ 1.2x bpftrace's", "%.2f ms, it %.2f",
			median(took[ours][load]), median(took[bpftrace][load]))
		p.goal(p90(took[ours][load]) <= p90(took[dmesg][load]), "kill to line, "+name, "p90 ≤ dmesg -w's", "%.2f ms, it %.2f",
			p90(took[ours][load]), p90(took[dmesg][load]))
	}

	p.goal(p90(took[realtime][1]) <= p90(took[ours][1])/3, "kill to line at load, --realtime", "p90 ≤ 1/3 of the default's", "%.2f ms, it %.2f",
		p90(took[realtime][1]), p90(took[ours][1]))

	return nil
}

func p90(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return math.NaN() // as of median
	}

	return s[min(len(s)*9/10, len(s)-1)]
}

// burn keeps CPUs busy.
func burn(count int) (stop func()) {
	var all []*exec.Cmd

	for range count {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		if cmd.Start() == nil {
			all = append(all, cmd)
		}
	}

	return func() {
		for _, cmd := range all {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
}

// kills runs a tracer, and processes that die under it one after the other.
func kills(c contender, m *minimal) (ms []float64, err error) {
	t, err := startTracer(c.args)
	if err != nil {
		return nil, err
	}
	defer t.stop()
	// bpftrace says when it is attached, the others do not all.
	time.Sleep(2 * time.Second)

	for range killsEach {
		pid, err := oomKill()
		if err != nil {
			return nil, err
		}

		at, err := m.killedNS()
		if err != nil {
			return nil, err
		}

		read, ok := t.waitFor(strconv.Itoa(pid), 3*time.Second)
		if !ok {
			return nil, fmt.Errorf("no line for a kill: %s", t.errors())
		}

		ms = append(ms, float64(read-int64(at))/1e6)

		time.Sleep(50 * time.Millisecond)
	}

	return ms, nil
}

// oomKill lets a process die by the limit of a cgroup.
func oomKill() (pid int, err error) {
	s, err := host.NewScratch(fmt.Sprintf("oomtrace-bench-kill-%d", os.Getpid()), 8<<20)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	cmd := exec.Command(".cache/bench/hog", "anon", "32")

	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}

	if err == nil {
		err = s.Add(cmd.Process.Pid)
	}

	if err == nil {
		_, err = in.Write([]byte("go\n"))
	}

	if err != nil {
		return 0, err
	}
	_ = cmd.Wait()

	return cmd.Process.Pid, nil
}
