// SPDX-License-Identifier: Apache-2.0

// Command bench measures what oomtrace costs, on this machine: the throughput of a
// workload that reclaims all the time, with and without a tracer, in interleaved
// pairs with an A/A control in the same run; the programs' time in the kernel; the
// tracer's CPU time and memory; how long a start takes. Absolute times on a shared
// machine say little: the ratios count.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/node"
)

var (
	rounds = pflag.Int("rounds", 7, "alternating pairs for each tracer")
	slice  = pflag.Duration("slice", 2*time.Second, "how long each half of a pair runs")
	out    = pflag.String("out", "", "write the page to this file, too")
)

func main() {
	pflag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// contender is a tracer that users would pick; nil args is none at all.
type contender struct {
	name string
	args []string
}

func contenders() []contender {
	hist := `tracepoint:vmscan:mm_vmscan_memcg_reclaim_begin { @s[tid] = nsecs; }
tracepoint:vmscan:mm_vmscan_memcg_reclaim_end /@s[tid]/ { @ns[cgroup] = hist(nsecs - @s[tid]); delete(@s[tid]); }`
	print := `tracepoint:vmscan:mm_vmscan_memcg_reclaim_begin { @s[tid] = nsecs; }
tracepoint:vmscan:mm_vmscan_memcg_reclaim_end /@s[tid]/ { printf("%s %d %d\n", comm, tid, nsecs - @s[tid]); delete(@s[tid]); }`
	return []contender{
		{"none (A/A control)", nil},
		{"oomtrace", []string{"bin/oomtrace", "-o", "json"}},
		{"bpftrace, histogram per cgroup", []string{"bpftrace", "-e", hist}},
		{"bpftrace, printf per reclaim", []string{"bpftrace", "-e", print}},
		{"perf record, reclaim begin and end", []string{"perf", "record", "-q", "-a", "-o", "/dev/null",
			"-e", "vmscan:mm_vmscan_memcg_reclaim_begin", "-e", "vmscan:mm_vmscan_memcg_reclaim_end"}},
	}
}

// result is what one contender cost.
type result struct {
	name   string
	ratios []float64 // throughput with it to without it
	cpu    []float64 // of the tracer, percent of a core
	rss    []float64 // MiB
	start  []float64 // ms until it attached, where it tells
	why    string    // it could not be measured
}

func run() error {
	w, err := newWorkload()
	if err != nil {
		return err
	}
	defer w.close()
	var page strings.Builder
	say := func(format string, args ...any) {
		fmt.Fprintf(&page, format+"\n", args...)
		fmt.Printf(format+"\n", args...)
	}
	say("# Overhead\n")
	say("Written by `scripts/bench.sh`. %s, %s, kernel %s, %d CPUs.\n", time.Now().Format("2006-01-02"), node.Arch(), node.KernelRelease(), cpus())
	say("Two processes read a file in 4 KiB steps, each in a cgroup with little room for page cache, so that they reclaim all the time.")
	say("Each tracer ran for %d pairs of %s with and %s without it, in alternation; the first row shows what the machine's noise alone makes.\n",
		*rounds, *slice, *slice)
	say("| tracer | throughput with/without: median [min–max] | tracer CPU %% of a core | RSS MiB |")
	say("| --- | --- | --- | --- |")
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
			say("| %s | not measured: %s | | |", r.name, r.why)
			continue
		}
		say("| %s | %s | %s | %s |", r.name, spread(r.ratios, 2), spread(r.cpu, 1), spread(r.rss, 0))
	}
	say("")
	if err := w.kernelTime(say); err != nil {
		return err
	}
	if err := w.idle(say); err != nil {
		return err
	}
	if *out != "" {
		return os.WriteFile(*out, []byte(page.String()), 0o644)
	}
	return nil
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

// workload is two readers in small cgroups. They run all the time and say each
// 100 ms how many reads they made.
type workload struct {
	scratch []*node.Scratch
	cmds    []*exec.Cmd
	file    string
	reads   []*counter
}

type counter struct{ path string }

const limitBytes = 4 << 20

func newWorkload() (*workload, error) {
	w := &workload{}
	dir, err := os.MkdirTemp("", "oomtrace-bench-")
	if err != nil {
		return nil, err
	}
	w.file = filepath.Join(dir, "sparse")
	f, err := os.Create(w.file)
	if err == nil {
		err = f.Truncate(1 << 30)
		f.Close()
	}
	if err != nil {
		return nil, err
	}
	for i := range 2 {
		s, err := node.NewScratch(fmt.Sprintf("oomtrace-bench-%d-%d", os.Getpid(), i), limitBytes)
		if err != nil {
			return nil, err
		}
		w.scratch = append(w.scratch, s)
		count := filepath.Join(dir, fmt.Sprint("count", i))
		cmd := exec.Command(".cache/bench/hog", "read", "0", w.file, count)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
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
			return nil, err
		}
		w.cmds = append(w.cmds, cmd)
		w.reads = append(w.reads, &counter{count})
	}
	time.Sleep(500 * time.Millisecond)
	return w, nil
}

func (w *workload) close() {
	for _, cmd := range w.cmds {
		cmd.Process.Kill()
		cmd.Wait()
	}
	for _, s := range w.scratch {
		s.Close()
	}
	os.RemoveAll(filepath.Dir(w.file))
}

// done is the number of reads so far: the readers keep it in a file they map.
func (w *workload) done() (total uint64, err error) {
	for _, c := range w.reads {
		b, err := os.ReadFile(c.path)
		if err != nil || len(b) < 8 {
			return 0, fmt.Errorf("reading a counter: %w", err)
		}
		for i := range 8 {
			total += uint64(b[i]) << (8 * i)
		}
	}
	return total, nil
}

// rate is reads per second over a slice.
func (w *workload) rate() (float64, error) {
	before, err := w.done()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	time.Sleep(*slice)
	after, err := w.done()
	return float64(after-before) / time.Since(began).Seconds(), err
}

// pair measures without and with a contender.
func (w *workload) pair(c contender, r *result) error {
	without, err := w.rate()
	if err != nil {
		return err
	}
	if c.args == nil {
		with, err := w.rate()
		r.ratios = append(r.ratios, with/without)
		return err
	}
	t, err := startTracer(c.args)
	if err != nil {
		return err
	}
	defer t.stop()
	time.Sleep(700 * time.Millisecond) // attached, and warm
	busy := t.cpu()
	began := time.Now()
	with, err := w.rate()
	if err != nil {
		return err
	}
	if t.gone() {
		return errors.New("it ended by itself: " + t.errors())
	}
	r.ratios = append(r.ratios, with/without)
	r.cpu = append(r.cpu, (t.cpu()-busy)/time.Since(began).Seconds()*100)
	r.rss = append(r.rss, t.rss())
	return nil
}

// kernelTime asks the kernel how long each program ran.
func (w *workload) kernelTime(say func(string, ...any)) error {
	const knob = "/proc/sys/kernel/bpf_stats_enabled"
	old, err := os.ReadFile(knob)
	if err != nil {
		return err
	}
	if err := os.WriteFile(knob, []byte("1"), 0); err != nil {
		return err
	}
	defer os.WriteFile(knob, old, 0)
	t, err := startTracer([]string{"bin/oomtrace", "-o", "json"})
	if err != nil {
		return err
	}
	defer t.stop()
	time.Sleep(3 * time.Second)
	text, err := exec.Command("bpftool", "-j", "prog", "show").Output()
	if err != nil {
		return fmt.Errorf("asking for the programs' time: %w", err)
	}
	var programs []struct {
		Name  string `json:"name"`
		Count uint64 `json:"run_cnt"`
		NS    uint64 `json:"run_time_ns"`
	}
	if err := json.Unmarshal(text, &programs); err != nil {
		return err
	}
	say("In the kernel, by its own statistics (which add some tens of ns to each run):\n")
	say("| program | runs | ns a run |")
	say("| --- | --- | --- |")
	for _, p := range programs {
		if p.Count > 1000 && (strings.HasPrefix(p.Name, "stall_") || strings.Contains(p.Name, "reclaim_begin")) {
			say("| %s | %d | %d |", p.Name, p.Count, p.NS/p.Count)
		}
	}
	say("")
	return nil
}

// idle measures a tracer where nothing happens, and starts.
func (w *workload) idle(say func(string, ...any)) error {
	for _, cmd := range w.cmds {
		cmd.Process.Signal(syscall.SIGSTOP)
	}
	var starts, cpu, rss []float64
	for range *rounds {
		ready := filepath.Join(filepath.Dir(w.file), "ready")
		os.Remove(ready)
		began := time.Now()
		t, err := startTracer([]string{"bin/oomtrace", "-o", "json", "--ready-file", ready})
		if err != nil {
			return err
		}
		for range 2000 {
			if _, err := os.Stat(ready); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		starts = append(starts, float64(time.Since(began).Microseconds())/1000)
		busy, from := t.cpu(), time.Now()
		time.Sleep(*slice)
		cpu = append(cpu, (t.cpu()-busy)/time.Since(from).Seconds()*100)
		rss = append(rss, t.rss())
		t.stop()
	}
	say("Idle: start to attached %s ms, CPU %s %% of a core, RSS %s MiB.", spread(starts, 0), spread(cpu, 2), spread(rss, 0))
	return nil
}

// tracer is a running contender.
type tracer struct {
	cmd  *exec.Cmd
	done chan struct{}
	errs strings.Builder
}

func startTracer(args []string) (*tracer, error) {
	if _, err := exec.LookPath(args[0]); err != nil {
		return nil, errors.New(args[0] + " is not installed")
	}
	t := &tracer{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	t.cmd.Stderr = &t.errs
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { t.cmd.Wait(); close(t.done) }()
	return t, nil
}

func (t *tracer) gone() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

func (t *tracer) errors() string {
	line, _, _ := strings.Cut(t.errs.String(), "\n")
	return line
}

func (t *tracer) stop() {
	t.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-t.done:
	case <-time.After(5 * time.Second):
		t.cmd.Process.Kill()
		<-t.done
	}
}

// cpu is the seconds of CPU that it used, children left aside.
func (t *tracer) cpu() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", t.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

func (t *tracer) rss() float64 {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", t.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}
