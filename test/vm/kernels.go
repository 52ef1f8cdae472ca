// SPDX-License-Identifier: Apache-2.0

package vm

import "strings"

// Kernel is one to boot. Its files are those of scripts/kernels.sh.
type Kernel struct {
	Name     string // 6.12
	Arch     string // amd64 or arm64
	Dir      string // in .cache/kernels
	CgroupV1 bool   // with the memory controller on cgroup v1
	Without  string // a tier that the kernel does not offer
	LowZone  bool   // most of its memory is movable: only cases of that run
	Noise    bool   // beside what an unprivileged tenant can make the kernel report
}

// Kernels are those of the matrix. On arm64 6.1, fentry programs load and do not
// attach. From 6.12 on Debian builds no memory controller for cgroup v1.
var Kernels = []Kernel{
	{Name: "5.10", Arch: "amd64", Dir: "amd64-5.10"},
	{Name: "6.1", Arch: "amd64", Dir: "amd64-6.1"},
	{Name: "6.12", Arch: "amd64", Dir: "amd64-6.12"},
	{Name: "6.18", Arch: "amd64", Dir: "amd64-6.18"},
	{Name: "7.3", Arch: "amd64", Dir: "amd64-7.3"},
	{Name: "6.1", Arch: "arm64", Dir: "arm64-6.1", Without: tierFentry},
	{Name: "6.12", Arch: "arm64", Dir: "arm64-6.12"},
	{Name: "5.10-v1", Arch: "amd64", Dir: "amd64-5.10", CgroupV1: true},
	{Name: "6.1-v1", Arch: "amd64", Dir: "amd64-6.1", CgroupV1: true},
	{Name: "6.1-movable", Arch: "amd64", Dir: "amd64-6.1", LowZone: true},
	{Name: "6.12-movable", Arch: "amd64", Dir: "amd64-6.12", LowZone: true},
}

// ID is the name of the kernel's subtest.
func (k Kernel) ID() string { return k.Arch + "-" + k.Name }

// is reports whether the kernel is of a series, such as 6.1 or 7.
func (k Kernel) is(series string) bool {
	rest, ok := strings.CutPrefix(k.Name, series)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '-')
}

const (
	tierFentry     = "fentry"
	tierKprobe     = "kprobe"
	tierTracepoint = "tracepoint"
)

// Tiers are the attach modes, in the order in which oomtrace prefers them.
var Tiers = []string{tierFentry, tierKprobe, tierTracepoint}
