// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/oomtrace/oomtrace/internal/host"
)

// killsEach is how many processes die under each tracer in each round.
const killsEach = 5

// latency is how long the lines of one tracer took, idle and under load.
type latency struct {
	ms     [2][]float64
	failed error // why it could not be measured
}

// killToLine measures the time from the kernel's mark of a victim to the moment at which
// another process has read the line with its pid.
func killToLine(p *page) error {
	contenders := []contender{
		{"oomtrace", []string{"bin/oomtrace"}},
		{"oomtrace --realtime", []string{"bin/oomtrace", "--realtime"}},
		{"bpftrace, printf at mark_victim", []string{"bpftrace", "-e", `tracepoint:oom:mark_victim { printf("%d\n", args->pid); }`}},
		{"dmesg -w", []string{"dmesg", "-w"}},
	}

	p.writef("## From the kill to the line\n")
	p.writef("From the kernel's `mark_victim` to the moment at which another process has read the line with the victim's pid: %d\n"+
		"kills in each of %d rounds, alternating between the tracers. Under load, %d processes compute at the same time.\n",
		killsEach, *rounds, 4*runtime.NumCPU())
	p.writef("| tracer | idle, ms | p90 | under load, ms | p90 |")
	p.writef("| --- | --- | --- | --- | --- |")

	m, err := loadMinimal("minimal_mark")
	if err != nil {
		return err
	}
	defer m.close()

	took := make([]latency, len(contenders))

	for range *rounds {
		measureKills(contenders, m, took, 0)

		stop := burn(4 * runtime.NumCPU())

		measureKills(contenders, m, took, 1)
		stop()
	}

	for i, c := range contenders {
		if err := took[i].failed; err != nil {
			p.writef("| %s | not measured: %v | | | |", c.name, err)
			continue
		}

		ms := took[i].ms
		p.writef("| %s | %s | %.2f | %s | %.2f |", c.name, spread(ms[0], 2), p90(ms[0]), spread(ms[1], 2), p90(ms[1]))
	}

	killGoals(p, took)

	return nil
}

// measureKills adds the kills of one round. A tracer that fails is not tried again.
func measureKills(contenders []contender, m *minimal, took []latency, load int) {
	for i, c := range contenders {
		if took[i].failed != nil {
			continue
		}

		ms, err := kills(c, m)
		took[i].ms[load], took[i].failed = append(took[i].ms[load], ms...), err
	}
}

// killGoals expects the tracers in the order of killToLine.
func killGoals(p *page, took []latency) {
	ours, realtime, bpftrace, dmesg := took[0].ms, took[1].ms, took[2].ms, took[3].ms

	for load, name := range []string{"idle", "under load"} {
		p.goal(median(ours[load]) <= 1.2*median(bpftrace[load]), "kill to line, "+name,
			"median ≤ 1.2x bpftrace's", "%.2f ms, bpftrace %.2f", median(ours[load]), median(bpftrace[load]))
		p.goal(p90(ours[load]) <= p90(dmesg[load]), "kill to line, "+name,
			"p90 ≤ dmesg -w's", "%.2f ms, dmesg %.2f", p90(ours[load]), p90(dmesg[load]))
	}

	p.goal(p90(realtime[1]) <= p90(ours[1])/3, "kill to line under load, --realtime",
		"p90 ≤ 1/3 of the default's", "%.2f ms, default %.2f", p90(realtime[1]), p90(ours[1]))
}

// burn keeps CPUs busy until stop is called.
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
			end(cmd)
		}
	}
}

// kills starts a tracer, and then processes that are killed under it one after the other.
func kills(c contender, m *minimal) (ms []float64, err error) {
	t, err := startTracer(c.args)
	if err != nil {
		return nil, err
	}
	defer t.stop()

	time.Sleep(2 * time.Second) // not all contenders report that they are attached

	for range killsEach {
		pid, err := oomKill()
		if err != nil {
			return nil, err
		}

		at, err := m.killedNS()
		if err != nil {
			return nil, err
		}

		read, ok := t.waitFor(fmt.Sprintf(`\b%d\b`, pid), 3*time.Second)
		if !ok {
			return nil, fmt.Errorf("wait for the line of a kill: none within 3 s: %s", t.errors())
		}

		ms = append(ms, float64(read-int64(at))/1e6)

		time.Sleep(50 * time.Millisecond)
	}

	return ms, nil
}

// oomKill runs a process that exceeds the limit of its cgroup, until it is killed.
func oomKill() (pid int, err error) {
	s, err := host.NewScratch(fmt.Sprintf("oomtrace-bench-kill-%d", os.Getpid()), 8<<20)
	if err != nil {
		return 0, err
	}
	defer s.Close()

	cmd, err := startHog(s, "anon", "32")
	if err != nil {
		return 0, err
	}
	_ = cmd.Wait()

	return cmd.Process.Pid, nil
}
