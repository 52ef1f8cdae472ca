// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/oomtrace/oomtrace/internal/testenv"
)

// processes writes a /proc, and other files beside it.
func processes(t testing.TB, statuses map[int]string, adj map[int]int, more map[string]string) string {
	files := map[string]string{
		// 1000 MiB of RAM and 24 MiB of swap.
		"proc/meminfo": "MemTotal: 1024000 kB\nSwapTotal: 24576 kB\n",
	}

	for pid, text := range statuses {
		dir := "proc/" + strconv.Itoa(pid)
		files[dir+"/status"] = text
		files[dir+"/oom_score_adj"] = strconv.Itoa(adj[pid]) + "\n"
		files[dir+"/cgroup"] = fmt.Sprintf("4:memory:/v1/%d\n0::/v2/%d\n", pid, pid)
	}

	maps.Copy(files, more)

	return testenv.Tree(t, files)
}

// status is of a process that has anon, swap and page tables, in KiB.
func status(comm string, anon, swap, pte int) string {
	return fmt.Sprintf("Name:\t%s\nVmRSS:\t%d kB\nRssAnon:\t%d kB\nRssFile:\t4 kB\nRssShmem:\t0 kB\nVmPTE:\t%d kB\nVmSwap:\t%d kB\nThreads:\t1\nVmRSS:\t9 kB\n",
		comm, anon+4, anon, pte, swap)
}

func TestCandidates(t *testing.T) {
	root := processes(t, map[int]string{
		1:  status("init", 900_000, 0, 100),
		2:  "Name:\tkthreadd\nThreads:\t1\n",
		3:  "Name:\tzombie\nState:\tZ (zombie)\n",
		10: status("small", 4000, 0, 40),
		11: status(`big\nname \\`, 400_000, 8192, 400),
		12: status("nice", 4000, 0, 40),
		13: status("sshd", 8000, 0, 40),
		14: status("protected", 500_000, 0, 40),
	}, map[int]int{12: 1000, 13: -1000, 14: -997}, nil)
	r := Reader{Root: root}

	c, err := r.Candidates(context.Background(), "", 3)
	if err != nil {
		t.Fatal(err)
	}
	page := PageSize() / 1024

	total := 1048576 / page
	if c.TotalPages != uint64(total) || c.Unread != 0 || c.LeftOut != 1 {
		t.Errorf("got %d pages in all, %d unread, %d left out, want %d, 0, 1", c.TotalPages, c.Unread, c.LeftOut, total)
	}
	type row struct {
		pid    int
		points int64
	}
	var got []row

	for _, p := range c.List {
		points := int64(-1)
		if p.Points != nil {
			points = *p.Points
		}
		got = append(got, row{p.PID, points})
	}

	want := []row{
		{12, int64((4004+40)/page + total/1000*1000)},
		{11, int64((400_004 + 8192 + 400) / page)},
		{10, int64((4004 + 40) / page)},
		{13, -1},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	big := c.List[1]
	if big.Comm != "big\nname \\" || value(big.AnonRSSBytes) != 400_000*1024 || value(big.SwapBytes) != 8<<20 || big.RSSBytes != nil {
		t.Errorf("got %+v, want comm %q, 400000 KiB anonymous, 8 MiB swap and no RSS", big, "big\nname \\")
	}

	if spared := c.List[3]; !spared.Unkillable || *spared.OOMScoreAdj != -1000 {
		t.Errorf("got %+v, want it unkillable with oom_score_adj -1000", spared)
	}

	ended, cancel := context.WithCancel(context.Background())
	cancel()

	if c, err := r.Candidates(ended, "", 3); err != nil || len(c.List) != 0 || c.Unread != 8 {
		t.Errorf("out of time: got %+v and error %v, want no candidates, 8 unread", c, err)
	}
}

func TestCandidatesBelow(t *testing.T) {
	root := processes(t, map[int]string{
		10: status("a", 4000, 0, 40), 11: status("b", 8000, 0, 40), 12: status("other", 9000, 0, 40),
	}, map[int]int{10: 500}, map[string]string{
		"cg/pod/memory.max":          "104857600\n",
		"cg/pod/memory.swap.max":     "1048576\n",
		"cg/pod/cgroup.procs":        "",
		"cg/pod/c1/cgroup.procs":     "10\n0\n",
		"cg/pod/c1/sub/cgroup.procs": "11\n11\n77\n",
		"cg/other/cgroup.procs":      "12\n",
	})
	r := Reader{Root: root, Layout: Layout{MemoryVersion: 2, MemoryMount: root + "/cg", MountRoot: "/"}}

	c, err := r.Candidates(context.Background(), "/pod", 9)
	if err != nil {
		t.Fatal(err)
	}

	if want := uint64(101 << 20 / PageSize()); c.TotalPages != want {
		t.Errorf("got %d pages in all, want %d", c.TotalPages, want)
	}

	if len(c.List) != 2 || c.List[0].PID != 10 || c.List[0].Cgroup.Path != "/pod/c1" || c.List[1].Cgroup.Path != "/pod/c1/sub" {
		t.Errorf("got %+v, want 10 in /pod/c1, then one in /pod/c1/sub", c.List)
	}

	if _, err := r.Candidates(context.Background(), "/gone", 9); err == nil {
		t.Error("got candidates of a cgroup that does not exist, want an error")
	}
}

func TestTotalPages(t *testing.T) {
	const ram, swap = 1000, 24 // MiB
	for _, test := range []struct {
		name    string
		version int
		files   map[string]string
		want    uint64 // MiB
	}{
		{"v2, no limit", 2, map[string]string{"cg/a/memory.max": "max\n"}, ram + swap},
		{"v2, swap not limited", 2, map[string]string{"cg/a/memory.max": "104857600\n", "cg/a/memory.swap.max": "max\n"}, 100 + swap},
		{"v2, no swap for it", 2, map[string]string{"cg/a/memory.max": "104857600\n", "cg/a/memory.swap.max": "0\n"}, 100},
		{"v2, nobody swaps", 2, map[string]string{"cg/a/memory.max": "104857600\n", "proc/sys/vm/swappiness": "0\n"}, 100},
		{"v1, swap not limited", 1, map[string]string{"cg/a/memory.limit_in_bytes": "104857600\n"}, 100 + swap},
		{"v1, both limited", 1, map[string]string{"cg/a/memory.limit_in_bytes": "104857600\n", "cg/a/memory.memsw.limit_in_bytes": "105906176\n"}, 101},
		{"v1, it does not swap", 1, map[string]string{"cg/a/memory.limit_in_bytes": "104857600\n", "cg/a/memory.swappiness": "0\n"}, 100},
		{"v1, no limit", 1, map[string]string{"cg/a/memory.limit_in_bytes": "9223372036854771712\n"}, ram + swap},
	} {
		root := processes(t, nil, nil, test.files)

		r := Reader{Root: root, Layout: Layout{MemoryVersion: test.version, MemoryMount: root + "/cg", MountRoot: "/"}}
		if got := r.totalPages("/a") * uint64(PageSize()) >> 20; got != test.want {
			t.Errorf("%s: got %d MiB, want %d", test.name, got, test.want)
		}
	}

	if got := (Reader{Root: t.TempDir()}).totalPages(""); got != 0 {
		t.Errorf("got %d pages of an empty tree, want 0", got)
	}
}

// hogMiB is what the hog of TestLivingHog takes.
const hogMiB = 64

// TestHog is not a test: it is the process that TestLivingHog looks at.
func TestHog(t *testing.T) {
	if os.Getenv("OOMTRACE_TEST_HOG") == "" {
		t.Skip("only as a process of its own")
	}
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until it is in its cgroup
	// Populated by the kernel: what is written by Go is shadowed by the race detector.
	if _, err := syscall.Mmap(-1, 0, hogMiB<<20, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_POPULATE); err != nil {
		t.Fatal(err)
	}

	fmt.Println("\nfull")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// TestLivingHog compares with the numbers of the kernel itself: the charge and the
// badness of a process whose memory is known.
func TestLivingHog(t *testing.T) {
	testenv.Root(t)

	layout, err := Cgroups()
	if err != nil {
		t.Fatal(err)
	}

	s, err := NewScratch(fmt.Sprintf("oomtrace-living-%d", os.Getpid()), 2*hogMiB<<20)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	hog := exec.Command(os.Args[0], "-test.run=^TestHog$")

	hog.Env = append(os.Environ(), "OOMTRACE_TEST_HOG=1")

	stdin, err := hog.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	stdout, err := hog.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := hog.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		_ = stdin.Close()
		_, _ = io.Copy(io.Discard, stdout)
		_ = hog.Wait()
	})

	pid := hog.Process.Pid
	if err := s.Add(pid); err != nil {
		t.Fatal(err)
	}

	if _, err := io.WriteString(stdin, "go\n"); err != nil {
		t.Fatal(err)
	}

	for lines := bufio.NewScanner(stdout); lines.Scan() && lines.Text() != "full"; {
	}

	r := Reader{Layout: layout}
	const slack = 32 << 20 // Go's own memory, more under the race detector

	charge := r.Charge(s.Path())
	if charge == nil || value(charge.AnonBytes) < hogMiB<<20 || value(charge.AnonBytes) > hogMiB<<20+slack {
		t.Errorf("got charge %+v, want %d MiB anonymous, and at most %d MiB more", charge, hogMiB, slack>>20)
	}

	ancestors, _ := r.Ancestry(s.Path())
	if len(ancestors) == 0 || value(ancestors[0].MaxBytes) != 2*hogMiB<<20 || value(ancestors[0].UsageBytes) < hogMiB<<20 {
		t.Fatalf("got ancestry %+v, want a limit of %d MiB and a usage of %d MiB or more first", ancestors, 2*hogMiB, hogMiB)
	}

	below, err := r.Candidates(context.Background(), s.Path(), 5)
	if err != nil || len(below.List) != 1 || below.List[0].PID != pid {
		t.Fatalf("got candidates %+v and error %v, want process %d alone", below, err, pid)
	}

	got := below.List[0]
	if anon := value(got.AnonRSSBytes); anon < hogMiB<<20 || anon > hogMiB<<20+slack {
		t.Errorf("got %d bytes anonymous, want %d to %d", anon, hogMiB<<20, hogMiB<<20+slack)
	}

	if below.TotalPages != 2*hogMiB<<20/uint64(PageSize()) && value(r.State().SwapTotalBytes) == 0 {
		t.Errorf("got %d pages in all, want %d", below.TotalPages, 2*hogMiB<<20/uint64(PageSize()))
	}

	// Of the whole machine, the kernel reports the score of each process:
	// (1000 + points*1000/totalpages)*2/3 (fs/proc/base.c: proc_oom_score, since 5.9).
	all, err := r.Candidates(context.Background(), "", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	found := false

	for _, c := range all.List {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score", c.PID))
		if err != nil || c.Points == nil {
			continue // it ended, or cannot be killed
		}

		score, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
		if err != nil {
			t.Fatal(err)
		}

		want := (1000 + *c.Points*1000/int64(all.TotalPages)) * 2 / 3
		if diff := score - want; diff < -1 || diff > 1 {
			t.Errorf("%s[%d]: got %d points, a score of %d, want the kernel's, %d", c.Comm, c.PID, *c.Points, want, score)
		}
		found = found || c.PID == pid
	}

	if !found {
		t.Errorf("got no candidate of the node with PID %d, want one", pid)
	}
}

func BenchmarkCandidatesOfNode(b *testing.B) {
	layout, _ := Cgroups()
	r := Reader{Layout: layout}
	var n int

	for b.Loop() {
		c, err := r.Candidates(context.Background(), "", 10)
		if err != nil {
			b.Fatal(err)
		}
		n = len(c.List) + c.LeftOut
	}

	b.ReportMetric(float64(n), "processes")
}

// BenchmarkCandidates10000 is of files on a disk: what is ours of the cost, without
// what the kernel takes to write /proc.
func BenchmarkCandidates10000(b *testing.B) {
	statuses, adj := map[int]string{}, map[int]int{}
	for pid := 10; pid < 10_010; pid++ {
		statuses[pid], adj[pid] = status(strings.Repeat("x", 15), pid*16, 0, pid), pid%1000
	}

	r := Reader{Root: processes(b, statuses, adj, nil)}
	for b.Loop() {
		if _, err := r.Candidates(context.Background(), "", 10); err != nil {
			b.Fatal(err)
		}
	}
}
