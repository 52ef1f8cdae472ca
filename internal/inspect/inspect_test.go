// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

const (
	uid    = "8f14e45f-ceea-467f-a8f1-0123456789ab"
	uid2   = "9f14e45f-ceea-467f-a8f1-0123456789ab"
	first  = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"
	second = "c0ffee11c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"
	pod    = "/kubepods.slice/kubepods-pod8f14e45f_ceea_467f_a8f1_0123456789ab.slice"
	pod2   = "/kubepods.slice/kubepods-pod9f14e45f_ceea_467f_a8f1_0123456789ab.slice"
	app    = pod + "/crio-" + first + ".scope"
	side   = pod + "/crio-" + second + ".scope"
)

// machine is a node with two pods, one of them with two containers, and services.
func machine(t *testing.T, more map[string]string) host.Reader {
	t.Helper()
	files := map[string]string{
		"proc/meminfo":                                           "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
		"proc/4711/cgroup":                                       "0::" + app + "\n",
		"proc/4711/status":                                       "Name:\tjava\nVmRSS:\t2000 kB\nRssAnon:\t2000 kB\nVmPTE:\t40 kB\nVmSwap:\t0 kB\nThreads:\t1\n",
		"proc/4711/oom_score_adj":                                "985\n",
		"cg/system.slice/kubelet.service/x":                      "",
		"cg/lxc.payload.web1/system.slice/sshd.service/x":        "",
		"cg/slurm/uid_1000/job_2457196/step_0/x":                 "",
		"cg/system.slice/ssh.socket/x":                           "",
		"cg" + app + "/cgroup.procs":                             "4711\n",
		"cg" + app + "/memory.current":                           "1000000\n",
		"cg" + app + "/memory.max":                               "900000000\n",
		"cg" + app + "/memory.stat":                              "anon 5\n",
		"cg" + app + "/memory.events":                            "high 3\n",
		"cg" + app + "/memory.pressure":                          "some avg10=1.00 avg60=0.00 avg300=0.00 total=1\n",
		"cg" + app + "/container/cgroup.procs":                   "",
		"cg" + side + "/memory.current":                          "9000000\n",
		"cg" + side + "/memory.max":                              "max\n",
		"cg" + pod + "/memory.current":                           "10000000\n",
		"cg" + pod + "/memory.max":                               "12000000\n",
		"cg/kubepods.slice/memory.current":                       "20000000\n",
		"cg/kubepods.slice/memory.max":                           "90000000\n",
		"cg" + pod2 + "/x":                                       "",
		"cg/user.slice/app.scope/evil\x1b[2J/x":                  "",
		"var/log/pods/shop_checkout_" + uid + "/x":               "",
		"var/log/containers/checkout_shop_app-" + first + ".log": "",
	}
	maps.Copy(files, more)
	root := testenv.Tree(t, files)

	return host.Reader{
		Root: root, Layout: host.Layout{Mode: "v2", MemoryVersion: 2, MemoryMount: root + "/cg", MountRoot: "/"},
		Place: func(path string) (events.Level, *events.Workload) {
			p := resolve.ParsePath(path)
			if p.Workload != nil && p.Workload.PodUID == uid2 { // as if a resolver knew its names
				w := *p.Workload
				w.Namespace, w.Pod = "shop", "cart"

				return p.Level, &w
			}

			return p.Level, p.Workload
		},
	}
}

func TestFindAcceptsPathsIDsAndNames(t *testing.T) {
	r := machine(t, nil)
	for _, test := range []struct{ name, want, err string }{
		{app, app, ""},
		{r.Layout.MemoryMount + pod + "/", pod, ""},
		{r.Layout.MemoryMount, "/", ""},
		{"/", "/", ""},
		{"/../../etc", "", "no cgroup \"/etc\" below"},
		{"4711", app, ""},
		{"4712", "", "matches \"4712\""},
		{uid, pod, ""},
		{uid[:8], pod, ""},
		{first, app, ""},
		{"c0ffee11", side, ""},
		{"c0ff", "", "ambiguous: [\"" + app + "\" \"" + side + "\"]"},
		{"c0f", "", "4 or more digits"},
		{"", "", "matches \"\""},
		{"kubelet", "/system.slice/kubelet.service", ""},
		{"kubelet.service", "/system.slice/kubelet.service", ""},
		{"user.slice", "/user.slice", ""},
		{"web1", "/lxc.payload.web1", ""},
		{"2457196", "/slurm/uid_1000/job_2457196", ""},
		{"shop/checkout", pod, ""},
		{"shop/checkout/app", app, ""},
		{"shop/cart", pod2, ""},
		{"shop/cart/app", "", "no pod, container, cgroup, unit or PID matches"},
		{"other/checkout", "", "no pod, container, cgroup, unit or PID matches"},
		{"../../shop/checkout", "", "no pod, container, cgroup, unit or PID matches"},
		{"shop/*", "", "no pod, container, cgroup, unit or PID matches"},
	} {
		got, err := Find(r, test.name)
		if test.err == "" && (err != nil || got != test.want) {
			t.Errorf("%q: got %q, error %v, want %q", test.name, got, err, test.want)
		}

		if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%q: got %q, error %v, want an error with %q", test.name, got, err, test.err)
		}
	}

	var ambiguous *AmbiguousError
	if _, err := Find(r, "c0ff"); !errors.As(err, &ambiguous) || ambiguous.Count != 2 {
		t.Errorf("got error %v, want two matches", err)
	}

	if _, err := Find(host.Reader{}, "4711"); err == nil || !strings.Contains(err.Error(), "memory controller") {
		t.Errorf("got error %v without cgroups, want one about the memory controller", err)
	}
}

func options(r host.Reader) Options {
	return Options{Reader: r, Most: 5, Envelope: events.Envelope{Time: time.Unix(1, 0), Node: "n"}}
}

func TestCgroupFindsTheNearestLimit(t *testing.T) {
	o := options(machine(t, nil))

	i := Cgroup(context.Background(), o, app)
	if i.V != events.Version || i.Kind != events.KindInspection || i.Level != events.LevelContainer ||
		i.Workload.ContainerID != first {
		t.Errorf("got %+v, want an inspection of container %s", i, first)
	}

	if i.Limiter.Level != events.LevelPod || i.Limiter.Which != "memory.max" || *i.HeadroomBytes != 2_000_000 ||
		i.Limiter.Cgroup.Path != pod {
		t.Errorf("got limiter %+v, headroom %d, want the pod with 2000000", i.Limiter, *i.HeadroomBytes)
	}

	if len(i.Ladder) != 3 || !i.Ladder[0].Below || i.Ladder[1].Below {
		t.Errorf("got ladder %+v, want three ancestors, only the first below the limiter", i.Ladder)
	}

	if *i.Memory.AnonBytes != 5 || *i.Events.High != 3 || i.OwnEvents != nil || i.PSISome.Avg10 != 1 ||
		i.PSIFull != nil {
		t.Errorf("got %+v, want the values of the files", i)
	}

	if i.Shares[0].Cgroup.Path != side || i.Candidates[0].PID != 4711 || i.Candidates[0].Cgroup.Path != app {
		t.Errorf("got shares %+v, candidates %+v, want %s first, and pid 4711", i.Shares, i.Candidates, side)
	}

	// This cause takes the limiter, the ladder and the shares.
	if len(i.Causes) != 1 || i.Causes[0].ID != "ancestor_limit" || !strings.Contains(i.Causes[0].Text, "largest user") {
		t.Errorf("got causes %+v, want the ancestor's limit, with the largest user", i.Causes)
	}

	if i.Eviction != nil {
		t.Errorf("got eviction %+v without a kubelet, want none", i.Eviction)
	}

	if !slices.Contains(i.Unknown, "ladder.high_bytes") || !slices.Contains(i.Unknown, "memory.slab_bytes") ||
		slices.Contains(i.Unknown, "memory.anon_bytes") {
		t.Errorf("got unknown %v, want what the files lack", i.Unknown)
	}
}

// v1 is a node with cgroup v1: a pod with a limit, and a container whose OOM killer is
// disabled, as docker run --oom-kill-disable does.
func v1(t *testing.T, control map[string]string) Options {
	t.Helper()
	files := map[string]string{
		"proc/meminfo":                        "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
		"proc/4711/cgroup":                    "9:memory:/docker/app\n",
		"proc/4711/status":                    "Name:\tjava\nState:\tD (disk sleep)\nTgid:\t4711\nVmRSS:\t2000 kB\nThreads:\t2\n",
		"proc/4711/oom_score_adj":             "0\n",
		"proc/4711/comm":                      "java\n",
		"proc/4711/wchan":                     "futex_wait_queue",
		"proc/4712/cgroup":                    "9:memory:/docker/app\n",
		"proc/4712/status":                    "Name:\tGC\nState:\tD (disk sleep)\nTgid:\t4711\n",
		"proc/4712/comm":                      "GC\n",
		"proc/4712/wchan":                     "mem_cgroup_oom_synchronize",
		"cg/docker/app/cgroup.procs":          "4711\n",
		"cg/docker/app/tasks":                 "4711\n4712\n",
		"cg/docker/app/memory.usage_in_bytes": "20000000\n",
		"cg/docker/app/memory.limit_in_bytes": "20000000\n",
		"cg/docker/memory.usage_in_bytes":     "20000000\n",
		"cg/docker/memory.limit_in_bytes":     "30000000\n",
		"cg/docker/app/memory.oom_control":    "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
		"cg/docker/memory.oom_control":        "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
		"cg/docker/app/memory.failcnt":        "7\n",
	}
	maps.Copy(files, control)
	root := testenv.Tree(t, files)

	return options(host.Reader{Root: root, Layout: host.Layout{
		Mode: "v1", MemoryVersion: 1, HierarchyID: 9, MemoryMount: root + "/cg", MountRoot: "/",
	}})
}

func TestAForecastKnowsThatNothingWouldBeKilled(t *testing.T) {
	const disabled, waits = "oom_kill_disable 1\nunder_oom 0\noom_kill 0\n", "oom_kill_disable 1\nunder_oom 1\noom_kill 0\n"

	for _, test := range []struct {
		name     string
		control  map[string]string
		limiter  string
		disabled bool
		waiting  int
	}{
		{"it kills", nil, "/docker/app", false, 0},
		{"disabled for it", map[string]string{"cg/docker/app/memory.oom_control": disabled}, "/docker/app", true, 0},
		// What counts is the cgroup whose limit is hit (mem_cgroup_oom).
		{"disabled for its parent", map[string]string{"cg/docker/memory.oom_control": disabled}, "/docker/app", false, 0},
		{"they wait", map[string]string{"cg/docker/app/memory.oom_control": waits}, "/docker/app", true, 1},
		// The parent has more headroom, by what was freed since; its tasks wait all the same.
		{"they wait for its parent", map[string]string{
			"cg/docker/memory.oom_control":     waits,
			"cg/docker/app/memory.oom_control": "oom_kill_disable 0\nunder_oom 1\noom_kill 0\n",
		}, "/docker", true, 1},
	} {
		i := Cgroup(context.Background(), v1(t, test.control), "/docker/app")

		l := i.Limiter
		if l.Cgroup == nil || l.Cgroup.Path != test.limiter || l.OOMKillDisable == nil || *l.OOMKillDisable != test.disabled {
			t.Errorf("%s: got limiter %+v, want %s, disabled %v", test.name, l, test.limiter, test.disabled)
			continue
		}

		if *i.HeadroomBytes != *l.LimitBytes-*l.UsageBytes || i.Ladder[0].Below != (test.limiter == "/docker") {
			t.Errorf("%s: got headroom %d, ladder %+v, want those of %s", test.name, *i.HeadroomBytes, i.Ladder, test.limiter)
		}

		first := ""
		if len(i.Causes) > 0 {
			first = i.Causes[0].ID
		}

		if (first == "oom_kill_disabled") != test.disabled {
			t.Errorf("%s: got causes %+v, want oom_kill_disabled first: %v", test.name, i.Causes, test.disabled)
		}

		switch {
		case test.waiting == 0 && i.Wait != nil, test.waiting > 0 && i.Wait == nil:
			t.Errorf("%s: got wait %+v, want %d tasks", test.name, i.Wait, test.waiting)
		case i.Wait == nil:
		case len(i.Wait.Tasks) != 1 || i.Wait.Tasks[0].PID != 4711 || i.Wait.Tasks[0].TID != 4712 || i.Wait.Tasks[0].Comm != "java" ||
			i.Wait.Tasks[0].Thread != "GC" || i.Wait.Tasks[0].Cgroup.Path != "/docker/app":
			t.Errorf("%s: got tasks %+v, want thread GC[4712] of java[4711]", test.name, i.Wait.Tasks)
		case !slices.Contains(i.Unknown, "wait.since"):
			t.Errorf("%s: got unknown %v, want wait.since among them", test.name, i.Unknown)
		}
	}
}

func TestTheNodeLimitsIfItHasTheLeastHeadroom(t *testing.T) {
	// The node has less headroom than any cgroup.
	o := options(machine(t, map[string]string{"proc/meminfo": "MemTotal: 1048576 kB\nMemAvailable: 1000 kB\nSwapTotal: 100 kB\nSwapFree: 10 kB\n"}))

	i := Cgroup(context.Background(), o, app)
	if i.Limiter.Level != events.LevelNode || *i.HeadroomBytes != 1010*1024 || len(i.Shares) != 0 {
		t.Errorf("got %+v, want the node as the limiter with 1010 KiB", i)
	}

	i = Node(context.Background(), o)
	if i.Cgroup != nil || i.Limiter.Level != events.LevelNode || len(i.NodeState.Cgroups) == 0 ||
		len(i.Candidates) != 1 || i.Ladder != nil {
		t.Errorf("got %+v, want the node without a cgroup", i)
	}

	// /proc of another PID namespace.
	o.ProcessesHidden = true
	if i = Node(context.Background(), o); len(i.Candidates) != 0 || !slices.Contains(i.Unknown, "candidates") {
		t.Errorf("got %d candidates, unknown %v, want none, and candidates unknown", len(i.Candidates), i.Unknown)
	}

	// A node of which nothing can be read.
	i = Node(context.Background(), options(host.Reader{Root: t.TempDir()}))
	if i.HeadroomBytes != nil || i.TotalPages != nil || !slices.Contains(i.Unknown, "candidates") {
		t.Errorf("got %+v, want unknown headroom and candidates", i)
	}
}

func TestTheNodeLimitsACgroupWithoutLimits(t *testing.T) {
	o := options(machine(t, nil))

	i := Cgroup(context.Background(), o, "/system.slice/kubelet.service")
	if i.Limiter.Level != events.LevelNode || *i.HeadroomBytes != 512<<20 {
		t.Errorf("got limiter %+v, headroom %d, want the node with 512 MiB", i.Limiter, *i.HeadroomBytes)
	}

	if !slices.Contains(i.Unknown, "memory") || !slices.Contains(i.Unknown, "psi_some") {
		t.Errorf("got unknown %v, want memory and psi_some", i.Unknown)
	}
}

func TestTheNodeHasTheNearestLimits(t *testing.T) {
	o := options(machine(t, map[string]string{
		"cg/system.slice/kubelet.service/memory.current": "4000\n",
		"cg/system.slice/kubelet.service/memory.max":     "5000\n",
		"cg/user.slice/app.scope/memory.current":         "4000\n",
	}))

	i := Node(context.Background(), o)

	var got []string
	for _, n := range i.NearestLimits {
		got = append(got, n.Cgroup.Path)

		if n.HeadroomBytes != n.LimitBytes-n.UsageBytes || n.Cgroup.ID == 0 {
			t.Errorf("got %+v, want the room below its limit, and its id", n)
		}
	}

	// The limit of the container in the pod is farther than that of the pod.
	want := []string{"/system.slice/kubelet.service", pod, "/kubepods.slice"}
	if !slices.Equal(got, want) || i.NearestLimitsLeftOut != 0 {
		t.Errorf("got %q and %d left out, want %q", got, i.NearestLimitsLeftOut, want)
	}

	if n := i.NearestLimits[1]; n.Level != events.LevelPod || n.Workload.PodUID != uid || i.NearestLimitsUnread != 1 {
		t.Errorf("got %+v and %d unread, want the pod, and one cgroup without the file of its limit", n, i.NearestLimitsUnread)
	}

	o.Most = 1
	if i = Node(context.Background(), o); len(i.NearestLimits) != 1 || i.NearestLimitsLeftOut != 2 {
		t.Errorf("got %d limits and %d left out, want 1 and 2", len(i.NearestLimits), i.NearestLimitsLeftOut)
	}

	if i = Node(context.Background(), options(host.Reader{Root: t.TempDir()})); !slices.Contains(i.Unknown, "nearest_limits") {
		t.Errorf("got unknown %v without cgroups, want nearest_limits", i.Unknown)
	}
}

func TestProcessesOfTheInspectedCgroupAreListed(t *testing.T) {
	files := map[string]string{
		"cg/user.slice/app.scope/cgroup.procs":   "20\n21\n",
		"cg/user.slice/app.scope/memory.current": "1000000\n",
		"cg/user.slice/app.scope/memory.max":     "max\n",
	}
	for pid, kib := range map[string]string{"20": "300", "21": "400"} {
		files["proc/"+pid+"/cgroup"] = "0::/user.slice/app.scope\n"
		files["proc/"+pid+"/status"] = "Name:\tsmall\nVmRSS:\t" + kib + " kB\nRssAnon:\t" + kib + " kB\nVmPTE:\t0 kB\nVmSwap:\t0 kB\nThreads:\t1\n"
		files["proc/"+pid+"/oom_score_adj"] = "0\n"
	}

	o := options(machine(t, files))
	o.Most = 1

	i := Cgroup(context.Background(), o, "/user.slice/app.scope")

	var got []int
	for _, c := range i.Candidates {
		got = append(got, c.PID)
	}

	// java is likelier; of the two in the cgroup, as many are listed as of all.
	if want := []int{4711, 21}; !slices.Equal(got, want) || i.CandidatesLeftOut != 1 {
		t.Errorf("got candidates %v and %d left out, want %v and 1", got, i.CandidatesLeftOut, want)
	}
}
