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

// machine has two pods, one of them with two containers, and services of the host.
func machine(t *testing.T, more map[string]string) host.Reader {
	t.Helper()
	files := map[string]string{
		"proc/meminfo":                                           "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
		"proc/4711/cgroup":                                       "0::" + app + "\n",
		"proc/4711/status":                                       "Name:\tjava\nVmRSS:\t2000 kB\nRssAnon:\t2000 kB\nVmPTE:\t40 kB\nVmSwap:\t0 kB\nThreads:\t1\n",
		"proc/4711/oom_score_adj":                                "985\n",
		"cg/system.slice/kubelet.service/x":                      "",
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
			if p.Workload != nil && p.Workload.PodUID == uid2 { // as a resolver that knows names does
				w := *p.Workload
				w.Namespace, w.Pod = "shop", "cart"

				return p.Level, &w
			}

			return p.Level, p.Workload
		},
	}
}

func TestFind(t *testing.T) {
	r := machine(t, nil)
	for _, test := range []struct{ name, want, err string }{
		{app, app, ""},
		{r.Layout.MemoryMount + pod + "/", pod, ""},
		{r.Layout.MemoryMount, "/", ""},
		{"/", "/", ""},
		{"/../../etc", "", "no cgroup \"/etc\" below"},
		{"4711", app, ""},
		{"4712", "", "called \"4712\""},
		{uid, pod, ""},
		{first, app, ""},
		{"c0ffee11", side, ""},
		{"c0ff", "", "ambiguous: [\"" + app + "\" \"" + side + "\"]"},
		{"c0f", "", "4 digits or more"},
		{"", "", "is called \"\""},
		{"kubelet", "/system.slice/kubelet.service", ""},
		{"kubelet.service", "/system.slice/kubelet.service", ""},
		{"user.slice", "/user.slice", ""},
		{"shop/checkout", pod, ""},
		{"shop/checkout/app", app, ""},
		{"shop/cart", pod2, ""},
		{"shop/cart/app", "", "is called"},
		{"other/checkout", "", "is called"},
		{"../../shop/checkout", "", "is called"},
		{"shop/*", "", "is called"},
	} {
		got, err := Find(r, test.name)
		if test.err == "" && (err != nil || got != test.want) {
			t.Errorf("%q: %q, %v", test.name, got, err)
		}

		if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%q: %q, error %v, want one with %q", test.name, got, err, test.err)
		}
	}

	var ambiguous *AmbiguousError
	if _, err := Find(r, "c0ff"); !errors.As(err, &ambiguous) || ambiguous.Count != 2 {
		t.Errorf("%v", err)
	}

	if _, err := Find(host.Reader{}, "4711"); err == nil || !strings.Contains(err.Error(), "memory controller") {
		t.Errorf("without cgroups: %v", err)
	}
}

func options(r host.Reader) Options {
	return Options{Reader: r, Most: 5, Envelope: events.Envelope{Time: time.Unix(1, 0), Node: "n"}}
}

func TestCgroup(t *testing.T) {
	o := options(machine(t, nil))
	asked := 0
	o.Rules = func(i *events.Inspection) []events.Cause {
		asked++

		if i.Limiter == nil || i.Limiter.Level != events.LevelPod || len(i.Candidates) != 1 || len(i.Shares) != 2 || i.NodeState == nil {
			t.Errorf("the rules got an incomplete inspection: %+v", i)
		}

		return []events.Cause{{ID: "x"}}
	}

	i := Cgroup(context.Background(), o, app)
	if i.V != events.Version || i.Kind != events.KindInspection || i.Level != events.LevelContainer || i.Workload.ContainerID != first {
		t.Errorf("%+v", i)
	}

	if i.Limiter.Level != events.LevelPod || i.Limiter.Which != "memory.max" || *i.HeadroomBytes != 2_000_000 || i.Limiter.Cgroup.Path != pod {
		t.Errorf("limiter %+v, headroom %d", i.Limiter, *i.HeadroomBytes)
	}

	if len(i.Ladder) != 3 || !i.Ladder[0].Below || i.Ladder[1].Below {
		t.Errorf("ladder %+v", i.Ladder)
	}

	if *i.Memory.AnonBytes != 5 || *i.Events.High != 3 || i.OwnEvents != nil || i.PSISome.Avg10 != 1 || i.PSIFull != nil {
		t.Errorf("%+v", i)
	}

	if i.Shares[0].Cgroup.Path != side || i.Candidates[0].PID != 4711 || i.Candidates[0].Cgroup.Path != app {
		t.Errorf("shares %+v, candidates %+v", i.Shares, i.Candidates)
	}

	if asked != 1 || len(i.Causes) != 1 || i.Eviction != nil {
		t.Errorf("asked %d times, causes %+v, eviction %+v", asked, i.Causes, i.Eviction)
	}

	if !slices.Contains(i.Unknown, "ladder.high_bytes") || !slices.Contains(i.Unknown, "memory.slab_bytes") || slices.Contains(i.Unknown, "memory.anon_bytes") {
		t.Errorf("unknown %v", i.Unknown)
	}
}

func TestNodeLimits(t *testing.T) {
	// What the node has left is less than the limit of any cgroup.
	o := options(machine(t, map[string]string{"proc/meminfo": "MemTotal: 1048576 kB\nMemAvailable: 1000 kB\nSwapTotal: 100 kB\nSwapFree: 10 kB\n"}))

	i := Cgroup(context.Background(), o, app)
	if i.Limiter.Level != events.LevelNode || *i.HeadroomBytes != 1010*1024 || len(i.Shares) != 0 {
		t.Errorf("%+v", i)
	}

	i = Node(context.Background(), o)
	if i.Cgroup != nil || i.Limiter.Level != events.LevelNode || len(i.NodeState.Cgroups) == 0 || len(i.Candidates) != 1 || i.Ladder != nil {
		t.Errorf("%+v", i)
	}
	// Nothing can be read.
	i = Node(context.Background(), options(host.Reader{Root: t.TempDir()}))
	if i.HeadroomBytes != nil || i.TotalPages != nil || !slices.Contains(i.Unknown, "candidates") {
		t.Errorf("%+v", i)
	}
}

func TestUnlimited(t *testing.T) {
	o := options(machine(t, nil))

	i := Cgroup(context.Background(), o, "/system.slice/kubelet.service")
	if i.Limiter.Level != events.LevelNode || *i.HeadroomBytes != 512<<20 {
		t.Errorf("%+v", i.Limiter)
	}

	if !slices.Contains(i.Unknown, "memory") || !slices.Contains(i.Unknown, "psi_some") {
		t.Errorf("unknown %v", i.Unknown)
	}
}
