// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/test/internal/must"
	"github.com/oomtrace/oomtrace/test/internal/qemu"
	"github.com/oomtrace/oomtrace/test/internal/trace"
)

// Survival is what a guest sends that ran out of memory while tracers watched.
type Survival struct {
	Kernel    string          `json:"kernel"` // uname -r
	Rounds    []SurvivalRound `json:"rounds"`
	UpSeconds float64         `json:"up_seconds"`
}

// SurvivalRound is one way to run out of memory.
type SurvivalRound struct {
	Name    string              `json:"name"`
	Error   string              `json:"error,omitempty"` // why it could not be done
	Killed  []int               `json:"killed"`          // pids, by the kernel's log
	Tracers map[string]Survivor `json:"tracers"`         // by name
	Seconds float64             `json:"seconds"`
}

// Survivor is a tracer after a round.
type Survivor struct {
	Ended    string `json:"ended,omitempty"` // how, if it did
	ScoreAdj string `json:"score_adj"`
	Reported []int  `json:"reported"` // victims
	// Minor and Major are the page faults that its reader took in the round.
	Minor uint64 `json:"minor"`
	Major uint64 `json:"major"`
	RSS   uint64 `json:"rss"` // KiB
}

// survivors are the tracers, by their options.
var survivors = map[string][]string{"plain": nil, "realtime": {"--realtime"}}

// survivalRounds in the order in which they run. Everybody but the hogs, and some spare
// processes, is exempt from the OOM killer.
var survivalRounds = []struct {
	name string
	do   func(*Guest)
}{
	// LTP's oom01 does it like this: before 5.18 the reaper cannot take locked memory, so that
	// the next one is chosen while a victim still has all of its own.
	{"mlocked", lockAll},
	{"allocating-task", func(g *Guest) {
		g.setFile("/proc/sys/vm/oom_kill_allocating_task", "1")
		lockAll(g)
	}},
	{"swap-storm", swapStorm},
}

const killsInRound = 5

// lockAll has hogs take all memory and lock it, one after the other. The spare processes may
// die with each of them. If nobody could be killed, 5.10 would panic while the hog exits
// ("System is deadlocked on memory"), whoever watches.
func lockAll(g *Guest) {
	for i := range killsInRound * 8 {
		spare := g.startWith(options{name: fmt.Sprintf("spare%d", i), comm: "spare"}, nil, "anon", "1")
		spare.proceed()
	}

	for range killsInRound {
		g.hog(nil, "lock", "4096")
	}
}

// swapStorm has more memory in use than there is, so that it is swapped all the time, while
// processes die at the limit of a cgroup.
func swapStorm(g *Guest) {
	g.zram("256M")
	busybox("mkswap", zramDisk)
	busybox("swapon", zramDisk)
	g.later(func() { _ = exec.Command("/bin/busybox", "swapoff", zramDisk).Run() })

	storm := g.startWith(options{name: "storm", comm: "storm", adj: -1000}, nil, "storm", strconv.Itoa(availableMiB()+100))
	storm.proceed()
	storm.line() // it has been through all of its memory

	leaf := g.leaf(16)
	if _, err := os.Stat(filepath.Join(leaf.dir, "memory.swap.max")); err == nil {
		leaf.set("memory.swap.max", "0")
	}

	for range killsInRound {
		g.hog(leaf, "anon", "512")
	}
}

// runSurvival runs the rounds while the tracers watch.
func runSurvival() error {
	r := &runner{tracers: map[string]*trace.Process{}, result: Result{Tracers: map[string]Tracer{}}}

	var err error
	if r.kmsg, err = unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		return fmt.Errorf("open the kernel's log: %w", err)
	}

	// Compaction migrates locked pages as well, and NUMA balancing has threads fault on them to
	// learn who uses them (mm/compaction.c, kernel/sched/fair.c). Those are no faults of the
	// tracers.
	for _, file := range []string{"vm/compact_unevictable_allowed", "kernel/numa_balancing"} {
		err := os.WriteFile("/proc/sys/"+file, []byte("0"), 0)
		if !errors.Is(err, os.ErrNotExist) {
			must.OK("keep locked pages in place", err)
		}
	}

	// They must get exempt by themselves.
	must.OK("start without an exemption", os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0))

	for name, args := range survivors {
		p, err := trace.Start(oomtrace, filesDir, name, args...)
		must.OK("start a tracer", err)

		r.tracers[name] = p
	}

	for _, p := range r.tracers {
		must.OK("wait for a tracer", p.WaitReady(startLimit))
	}

	must.OK("get exempt", os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0))

	var uname unix.Utsname
	must.OK("read the kernel's release", unix.Uname(&uname))

	result := Survival{Kernel: unix.ByteSliceToString(uname.Release[:])}

	for _, round := range survivalRounds {
		fmt.Println(qemu.MarkCase, round.name)
		result.Rounds = append(result.Rounds, r.survive(round.name, round.do))
	}

	result.UpSeconds = upSeconds()

	return qemu.Send(os.Stdout, result)
}

// survive runs one round.
func (r *runner) survive(name string, do func(*Guest)) SurvivalRound {
	round := SurvivalRound{Name: name, Tracers: map[string]Survivor{}}
	before := map[string]Survivor{}

	r.readLog() // the rest of the round before

	for name, p := range r.tracers {
		p.Lines()

		before[name] = survivorOf(p)
	}

	began := time.Now()
	g := newGuest(false)

	if err := doSafely(do, g); err != nil {
		round.Error = err.Error()
	}

	r.waitQuiet(2 * usualQuiet)

	for name, p := range r.tracers {
		s := survivorOf(p)
		s.Minor -= before[name].Minor
		s.Major -= before[name].Major
		s.Reported = victims(p.Lines())
		round.Tracers[name] = s
	}

	log, overruns := r.readLog()
	round.Killed = killedIn(log)

	if overruns > 0 {
		round.Error = fmt.Sprintf("the kernel's log overran %d times", overruns)
	}

	g.end()

	round.Seconds = time.Since(began).Seconds()

	return round
}

func doSafely(do func(*Guest), g *Guest) (err error) {
	defer func() { err = must.Failed(recover()) }()

	do(g)

	return nil
}

// survivorOf reads the state of a tracer, whose reader is its main thread. Faults are those
// since its start.
func survivorOf(p *trace.Process) (s Survivor) {
	select {
	case err := <-p.Done:
		p.Done <- err // for the next round

		s.Ended = fmt.Sprintf("%v: %s", err, strings.TrimSpace(p.Stderr()))

		return s
	default:
	}

	dir := fmt.Sprintf("/proc/%d", p.Cmd.Process.Pid)
	score, _ := os.ReadFile(dir + "/oom_score_adj")
	s.ScoreAdj = strings.TrimSpace(string(score))

	stat, _ := os.ReadFile(fmt.Sprintf("%s/task/%d/stat", dir, p.Cmd.Process.Pid))
	_, rest, _ := strings.Cut(string(stat), ") ")

	if fields := strings.Fields(rest); len(fields) > 9 {
		s.Minor, _ = strconv.ParseUint(fields[7], 10, 64)
		s.Major, _ = strconv.ParseUint(fields[9], 10, 64)
	}

	statm, _ := os.ReadFile(dir + "/statm")
	if fields := strings.Fields(string(statm)); len(fields) > 1 {
		pages, _ := strconv.ParseUint(fields[1], 10, 64)
		s.RSS = pages * uint64(os.Getpagesize()) >> 10
	}

	return s
}

// victims returns the pids of all victims of incidents and updates, each once.
func victims(lines []string) (pids []int) {
	seen := map[int]bool{}

	for _, line := range lines {
		var l struct {
			Kind    string `json:"kind"`
			Outcome string `json:"outcome"`
			Victims []struct {
				PID int `json:"pid"`
			} `json:"victims"`
		}

		if json.Unmarshal([]byte(line), &l) != nil || !strings.HasPrefix(l.Kind, "incident") {
			continue
		}

		for _, v := range l.Victims {
			if !seen[v.PID] {
				seen[v.PID] = true
				pids = append(pids, v.PID)
			}
		}
	}

	return pids
}

var killedLine = regexp.MustCompile(`Killed process (\d+) `)

// killedIn returns the pids of the lines "Killed process", each once.
func killedIn(log []string) (pids []int) {
	seen := map[int]bool{}

	for _, line := range log {
		if m := killedLine.FindStringSubmatch(line); m != nil {
			if pid, _ := strconv.Atoi(m[1]); !seen[pid] {
				seen[pid] = true
				pids = append(pids, pid)
			}
		}
	}

	return pids
}
