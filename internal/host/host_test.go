// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// tree writes files below a new directory, and returns it.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	return testenv.Tree(t, files)
}

func p64(n uint64) *uint64 { return &n }

const (
	mountV2     = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	mountMemory = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
	mountUnify  = "36 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw\n"
	mountCPU    = "34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)

func TestTheMemoryControllerIsFound(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  Layout
		err   string
	}{
		{"v2", map[string]string{
			"proc/self/mountinfo":              "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mountV2,
			"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
		}, Layout{Mode: "v2", MemoryVersion: 2, MemoryMount: "/sys/fs/cgroup", MountRoot: "/"}, ""},
		{"v2 with local events", map[string]string{
			"proc/self/mountinfo":              strings.Replace(mountV2, "nsdelegate", "nsdelegate,memory_localevents", 1),
			"sys/fs/cgroup/cgroup.controllers": "memory\n",
		}, Layout{Mode: "v2", MemoryVersion: 2, MemoryMount: "/sys/fs/cgroup", MountRoot: "/", LocalEvents: true}, ""},
		{"v1", map[string]string{
			"proc/self/mountinfo": mountCPU + mountMemory,
			"proc/self/cgroup":    "5:cpu,cpuacct:/\n4:memory:/user\n",
		}, Layout{Mode: "v1", MemoryVersion: 1, HierarchyID: 4, MemoryMount: "/sys/fs/cgroup/memory", MountRoot: "/"}, ""},
		{"hybrid", map[string]string{
			"proc/self/mountinfo": mountUnify + mountMemory,
			"proc/self/cgroup":    "11:memory:/\n0::/\n",
		}, Layout{Mode: "hybrid", MemoryVersion: 1, HierarchyID: 11, MemoryMount: "/sys/fs/cgroup/memory", MountRoot: "/"}, ""},
		{"in a container, with a blank in the path", map[string]string{
			"proc/self/mountinfo":         `30 23 0:26 /kubepods\040x /cgroup\040x rw - cgroup2 cgroup2 rw` + "\n",
			"cgroup x/cgroup.controllers": "memory\n",
		}, Layout{Mode: "v2", MemoryVersion: 2, MemoryMount: "/cgroup x", MountRoot: "/kubepods x"}, ""},
		{"nothing mounted", map[string]string{"proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"}, Layout{}, "mount -t cgroup2"},
		{"no memory controller", map[string]string{
			"proc/self/mountinfo":              mountV2,
			"sys/fs/cgroup/cgroup.controllers": "cpuset cpu\n",
		}, Layout{}, "cgroup_enable=memory"},
		{"no proc", nil, Layout{}, "is /proc mounted?"},
		{"nonsense", map[string]string{"proc/self/mountinfo": "\x00 - \n- -\n1 2 3 4 5 - cgroup2\n" + strings.Repeat("x", 1000)}, Layout{}, "mount -t cgroup2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := cgroups(tree(t, test.files))
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}

			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got error %v, want one with %q", err, test.err)
			}
		})
	}
}

func TestNumbersAreFoundByName(t *testing.T) {
	text := []byte("oom_kill_other 7\noom_kill 3\nbad x\nMemTotal:       16 kB\nlast")
	for name, want := range map[string]uint64{"oom_kill": 3, "MemTotal:": 16} {
		if got, ok := field(text, name); !ok || got != want {
			t.Errorf("%s: got %d, %v, want %d", name, got, ok, want)
		}
	}

	for _, name := range []string{"oom", "bad", "last", "nothing"} {
		if got, ok := field(text, name); ok {
			t.Errorf("%s: got %d, want none", name, got)
		}
	}
}

func TestSymbolsAreFound(t *testing.T) {
	s, err := parseKallsyms(strings.NewReader(
		"ffffffff81000300 T c.constprop.0\nffffffff81000100 T a\nffffffff81000200 t b.cold\nffffffff82000000 D data\n"+
			"ffffffffc0000000 t m\t[module]\nnonsense\n\nzz T x\nffffffff82000010 d other\nffffffff82000020 t listed_as_code\n"), []string{"data", "listed_as_code", "absent"})
	if err != nil {
		t.Fatal(err)
	}

	for address, want := range map[uint64]string{
		0xffffffff81000100: "a", 0xffffffff810001ff: "a", 0xffffffff81000250: "b", 0xffffffff81000300: "c", 0xffffffffc0000008: "m",
	} {
		if got, _, ok := s.Lookup(address); !ok || got != want {
			t.Errorf("%x: got %q, want %q", address, got, want)
		}
	}

	for address, want := range map[uint64]bool{
		0xffffffff810000ff: false, 0xffffffff81000100: true, 0xffffffff81000300: true, 0xffffffffc0000008: false,
	} {
		if got := s.InKernel(address); got != want {
			t.Errorf("%x in the kernel image: got %v, want %v", address, got, want)
		}
	}

	if (*Symbols)(nil).InKernel(0) {
		t.Error("without symbols: got an address in the kernel image, want none")
	}

	if address, ok := s.Address("data"); !ok || address != 0xffffffff82000000 {
		t.Errorf("got data at %x, %v, want it at ffffffff82000000", address, ok)
	}

	if address, ok := s.Address("listed_as_code"); !ok || address != 0xffffffff82000020 {
		t.Errorf("got listed_as_code at %x, %v, want it at ffffffff82000020", address, ok)
	}

	for _, name := range []string{"other", "absent", "a"} {
		if address, ok := s.Address(name); ok {
			t.Errorf("got %s at %x, want none", name, address)
		}
	}

	if name, _, ok := s.Lookup(1); ok {
		t.Errorf("got %s for an address below all, want none", name)
	}

	if _, err := parseKallsyms(strings.NewReader("0000000000000000 T a\n"), nil); !errors.Is(err, errHidden) {
		t.Errorf("got %v for hidden addresses, want %v", err, errHidden)
	}
}

func TestMissingCapabilitiesAreReported(t *testing.T) {
	all := uint64(1)<<41 - 1
	without := func(caps ...int) uint64 {
		left := all
		for _, c := range caps {
			left &^= 1 << c
		}

		return left
	}

	if p := privileges(all); len(p.Missing)+len(p.Optional) != 0 {
		t.Errorf("got %+v with all capabilities, want nothing missing", p)
	}

	if p := privileges(without(unix.CAP_BPF, unix.CAP_PERFMON)); len(p.Missing) != 0 {
		t.Errorf("got %+v with CAP_SYS_ADMIN, want nothing missing", p)
	}

	p := privileges(without(unix.CAP_SYS_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON))
	if !slices.Equal(p.Missing, []string{"CAP_BPF", "CAP_PERFMON"}) {
		t.Errorf("got %+v, want CAP_BPF and CAP_PERFMON missing", p)
	}

	if p := privileges(0); len(p.Optional) != 3 {
		t.Errorf("got %+v without capabilities, want three optional ones", p)
	}

	if _, err := capabilities([]byte("CapEff:\tnonsense\n")); err == nil {
		t.Error("got no error for nonsense, want one")
	}
}

func TestTheBootClockMapsTimes(t *testing.T) {
	c, boot := NewBootClock(), kernel.BootNS()

	if off := time.Since(c.Time(boot)).Abs(); off > 100*time.Millisecond {
		t.Errorf("got wall time off by %s, want at most 100ms", off)
	}

	if n := testing.AllocsPerRun(100, func() { c.Time(boot) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func TestThisMachineIsRead(t *testing.T) {
	if BootID() == "" || Hostname() == "" || KernelRelease() == "" || PageSize() < 4096 {
		t.Errorf("got boot id %q, host %q, kernel %q, page %d, want all of them", BootID(), Hostname(), KernelRelease(), PageSize())
	}

	if ram, _, err := Memory(); err != nil || ram < 1<<20 {
		t.Errorf("got %d bytes of memory, %v, want at least 1 MiB", ram, err)
	}

	if _, err := VMStatOOMKill(); err != nil {
		t.Error(err)
	}
}

func TestAScratchCgroupHasItsLimit(t *testing.T) {
	testenv.Root(t)

	s, err := NewScratch(fmt.Sprintf("oomtrace-test-%d", os.Getpid()), 16<<20)
	if err != nil {
		t.Fatal(err)
	}

	layout, err := Cgroups()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(layout.MemoryMount, strings.TrimPrefix(s.Path(), layout.MountRoot))

	limit := "memory.max"
	if layout.MemoryVersion == 1 {
		limit = "memory.limit_in_bytes"
	}

	if text, err := os.ReadFile(filepath.Join(dir, limit)); err != nil || strings.TrimSpace(string(text)) != "16777216" {
		t.Errorf("got limit %q, %v, want 16777216", text, err)
	}

	if err := s.Close(); err != nil {
		t.Error(err)
	}

	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("got %v after Close, want the cgroup removed", err)
	}
}
