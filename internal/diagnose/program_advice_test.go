// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func word(name, value, source string) events.Setting {
	return events.Setting{Name: name, Value: value, Source: source}
}

// TestAdviceNamesTheSettings: the container's limit is 512 MiB.
func TestAdviceNamesTheSettings(t *testing.T) {
	fromVariable := sized("-Xmx", 512*mib)
	fromVariable.Source = "JAVA_TOOL_OPTIONS"

	unread := func(kind events.ProgramKind) *events.Program {
		return &events.Program{Kind: kind, By: events.ProgramByExecutable}
	}

	for name, test := range map[string]struct {
		program *events.Program
		want    string // at the start of the advice
	}{
		"a heap as large as the limit": {ran(events.ProgramJVM, fromVariable),
			"JVM: -Xmx is 512.0 MiB of a limit of 512.0 MiB (JAVA_TOOL_OPTIONS). Leave 25 % or more"},
		"a larger heap": {ran(events.ProgramJVM, sized("-Xmx", gib)),
			"JVM: -Xmx is 1.0 GiB (command line), more than the limit of 512.0 MiB. Leave 25 %"},
		"a small heap": {ran(events.ProgramJVM, sized("-Xmx", 128*mib)),
			"JVM: -Xmx is 128.0 MiB of a limit of 512.0 MiB (command line), so much of the rest is outside the heap."},
		"a share": {ran(events.ProgramJVM, word("-XX:MaxRAMPercentage", "90.0", "command line")),
			"JVM: -XX:MaxRAMPercentage of 90 is 460.8 MiB of a limit of 512.0 MiB (command line). Leave 25 %"},
		"no heap": {ran(events.ProgramJVM),
			"JVM: it has neither -Xmx nor -XX:MaxRAMPercentage, so its heap is a quarter of the limit at most (128.0 MiB of 512.0 MiB)"},
		"options of a JVM that are not known": {unread(events.ProgramJVM), "JVM: set -Xmx (or -XX:MaxRAMPercentage)"},
		"a JVM that ignores the limit": {ran(events.ProgramJVM, word("-XX:UseContainerSupport", "false", "command line")),
			"JVM: set -Xmx (or -XX:MaxRAMPercentage)"},
		"no limit of Go": {ran(events.ProgramGo),
			"Go: GOMEMLIMIT is not set, so the garbage collector does not know the limit of 512.0 MiB"},
		"no collector of Go": {ran(events.ProgramGo, word("GOGC", "off", "environment")),
			"Go: GOMEMLIMIT is not set, so the garbage collector does not know the limit of 512.0 MiB, unless the program sets it itself. " +
				"GOGC=off turns the garbage collector off until then. Set it to about 90 % (460.8 MiB)"},
		"too high a limit of Go": {ran(events.ProgramGo, sized("GOMEMLIMIT", 600*mib)),
			"Go: GOMEMLIMIT is 600.0 MiB (command line), more than the limit of 512.0 MiB. Lower it to about 90 %"},
		"a limit of Go": {ran(events.ProgramGo, sized("GOMEMLIMIT", 256*mib)),
			"Go: GOMEMLIMIT is 256.0 MiB of a limit of 512.0 MiB (command line). It is no hard limit"},
		"an environment of Go that is not known": {unread(events.ProgramGo), "Go: set GOMEMLIMIT"},
		"too large an old space": {ran(events.ProgramNode, sized("--max-old-space-size", 2*gib)),
			"Node.js: --max-old-space-size is 2.0 GiB (command line), more than the limit of 512.0 MiB. Lower it"},
		"no old space": {ran(events.ProgramNode), "Node.js: it has no --max-old-space-size"},
		"a small old space": {ran(events.ProgramNode, sized("--max-old-space-size", 100*mib)),
			"Node.js: --max-old-space-size is 100.0 MiB of a limit of 512.0 MiB (command line), so much of the rest"},
		".NET without a setting": {ran(events.ProgramDotNet), ".NET: its heap may use 384.0 MiB of the limit of 512.0 MiB, 75 % by default."},
		".NET with too much": {ran(events.ProgramDotNet, word("GCHeapHardLimitPercent", "100", "DOTNET_GCHeapHardLimitPercent")),
			".NET: GCHeapHardLimitPercent of 100 is 512.0 MiB of a limit of 512.0 MiB (DOTNET_GCHeapHardLimitPercent). Lower it"},
		"Python": {ran(events.ProgramPython), "Python has no setting that bounds its memory"},
		"Ruby":   {ran(events.ProgramRuby, word("MALLOC_ARENA_MAX", "2", "environment")), "Ruby has no setting that bounds its memory: limit workers and threads, and recycle workers. MALLOC_ARENA_MAX is 2"},
		"PHP": {ran(events.ProgramPHP, sized("memory_limit", 128*mib)),
			"PHP: memory_limit is 128.0 MiB (command line) for each process, and the limit of all is 512.0 MiB: no more than 4 can have as much. " +
				"3 processes named hog were there."},
		"PHP without a limit": {ran(events.ProgramPHP, word("memory_limit", "-1", "command line")), "PHP: memory_limit times"},
		"PostgreSQL": {ran(events.ProgramPostgreSQL, sized("shared_buffers", 256*mib), sized("work_mem", 8*mib)),
			"PostgreSQL: shared_buffers is 256.0 MiB (command line), and work_mem (8.0 MiB) for each sort or hash of each connection comes on top"},
		"MySQL": {ran(events.ProgramMySQL, sized("innodb_buffer_pool_size", 400*mib)),
			"MySQL: innodb_buffer_pool_size is 400.0 MiB of a limit of 512.0 MiB (command line)."},
		"a program in C":     {ran(events.ProgramOther), "Find what grows with the heap profiler of the program's allocator"},
		"an unknown program": {nil, "Profile memory growth with the heap profiler of the program's language or allocator"},
	} {
		t.Run(name, func(t *testing.T) {
			inc := plainKill()
			inc.Victims[0].Program = test.program
			inc.Candidates = []events.Candidate{candidate(50, "hog", mib, 0), candidate(51, "hog", mib, 0), candidate(4711, "hog", mib, 0)}

			var got []string

			for _, a := range find(Diagnose(inc, nil), "own_limit").Advice {
				if a.Layer == application {
					got = append(got, a.Text)
				}
			}

			if len(got) != 1 || !strings.HasPrefix(got[0], test.want) {
				t.Errorf("got advice %q, want one text that starts with %q", got, test.want)
			}
		})
	}
}

// TestAdviceIsForWhoSetTheLimit: the way to raise a limit differs by who set it.
func TestAdviceIsForWhoSetTheLimit(t *testing.T) {
	service := func(unit, path string) *incident {
		inc := plainKill()
		inc.Ladder = nil
		inc.Limiter.Level, inc.Limiter.Cgroup = events.LevelService, cgroup(9010, path)
		inc.Limiter.Workload = &events.Workload{Unit: unit}
		inc.Victims[0].Cgroup, inc.Victims[0].Workload = inc.Limiter.Cgroup, inc.Limiter.Workload

		return inc
	}

	docker := plainKill()
	docker.Ladder = nil
	docker.Limiter.Workload = &events.Workload{ContainerID: containerID, Runtime: "docker"}
	docker.Victims[0].Workload = docker.Limiter.Workload

	nested := plainKill()
	nested.Ladder = nil
	nested.Limiter.Workload = &events.Workload{ContainerID: containerID, Runtime: "docker", NodeContainerID: strings.Repeat("a", 64)}
	nested.Victims[0].Workload = nested.Limiter.Workload

	ofKubelet := service("cart.service", "/system.slice/cart.service")
	ofKubelet.Eviction = &events.Eviction{HardBytes: new(100 * mib)}

	for name, test := range map[string]struct {
		inc  *incident
		want []string
		not  []string
	}{
		"a pod":     {plainKill(), []string{"kubernetes: If the workload needs this much memory"}, []string{"set-property", "docker update"}},
		"a service": {service("cart.service", "/system.slice/cart.service"), []string{"systemctl set-property cart.service MemoryMax=666M."}, []string{"kubernetes", "docker"}},
		"a service of a user": {service("cart.service", "/user.slice/user-1000.slice/user@1000.service/app.slice/cart.service"),
			[]string{"systemctl --user set-property cart.service"}, nil},
		"a container of Docker":           {docker, []string{"docker update --memory 666m " + containerID[:12]}, []string{"kubernetes", "systemctl"}},
		"a container of docker in docker": {nested, []string{"Profile memory growth"}, []string{"docker update"}},
		"a service with the name of a command": {service("a;reboot.service", "/system.slice/a;reboot.service"),
			[]string{"systemctl set-property UNIT MemoryMax=SIZE"}, []string{"reboot"}},
		"a service inside of a container":   {service("cart.service", "/lxc/web1/system.slice/cart.service"), nil, []string{"systemctl"}},
		"a service of a node of Kubernetes": {ofKubelet, []string{"systemctl set-property"}, []string{"If the workload needs"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, advice := explained(test.inc)

			for _, words := range test.want {
				if !strings.Contains(advice, words) {
					t.Errorf("got advice\n%swant %q", advice, words)
				}
			}

			for _, words := range test.not {
				if strings.Contains(advice, words) {
					t.Errorf("got advice\n%swant nothing of %q", advice, words)
				}
			}
		})
	}
}

// TestKubernetesAdviceNeedsKubernetes: the same cause, on a node with and without pods.
func TestKubernetesAdviceNeedsKubernetes(t *testing.T) {
	inc := nodeKill()
	inc.Victims[0].Workload = &events.Workload{Unit: "cart.service"}
	inc.NodeState.Cgroups = []events.Share{{Cgroup: *cgroup(3, "/system.slice"), Level: events.LevelSlice, UsageBytes: new(11 * gib)}}

	if _, got := explained(inc); strings.Contains(got, "kubernetes: ") {
		t.Errorf("got advice\n%swant none for Kubernetes", got)
	}

	inc.NodeState.Cgroups = append(inc.NodeState.Cgroups, kubepodsShare(9*gib))

	if _, got := explained(inc); !strings.Contains(got, "kubernetes: ") {
		t.Errorf("got advice\n%swant some for Kubernetes", got)
	}
}
