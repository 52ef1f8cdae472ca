// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

var update = flag.Bool("update", false, "write the golden files anew")

// now is the Options.Now of all tests.
var now = time.Date(2026, 12, 5, 12, 0, 0, 0, time.UTC)

func parse(t testing.TB, log string, opt Options) []*events.Incident {
	t.Helper()

	if opt.Location == nil {
		opt.Location = time.UTC
	}

	if opt.Now.IsZero() {
		opt.Now = now
	}
	var list []*events.Incident

	stats, err := Read(strings.NewReader(log), opt, func(inc *events.Incident) error {
		list = append(list, inc)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	if stats.Incidents != len(list) {
		t.Errorf("got %d incidents counted, want %d", stats.Incidents, len(list))
	}

	return list
}

func readFile(t testing.TB, name string) string {
	t.Helper()

	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}

	return string(text)
}

// verdicts are what must be read from each case of the files in testdata/dmesg. The files
// are the kernels' own reports of real OOM kills in virtual machines.
var verdicts = map[string]struct {
	scope   events.Scope
	outcome events.Outcome
	path    string // of the killer
	limiter string // cgroup
	task    string // cgroup of the victim
	victim  string
	class   string
	kills   int
	limit   uint64
	nodes   []int
}{
	"cpuset":                {scope: "cpuset", victim: "hogGC", class: "anon_fault", task: "/gc", nodes: []int{1}},
	"global":                {scope: "global", victim: "bigger", class: "anon_fault", task: "/"},
	"memcg-leaf":            {limiter: "/a", victim: "hogA", class: "anon_fault", limit: 40 << 20},
	"memcg-max-write":       {limiter: "/l", victim: "hogL", class: "limit_lowered", limit: 10 << 20},
	"memcg-multithread":     {limiter: "/t", victim: "hogT", class: "anon_fault", limit: 40 << 20},
	"memcg-no-killable":     {limiter: "/n", outcome: "no_killable_task", class: "anon_fault", limit: 40 << 20},
	"memcg-oom-group":       {limiter: "/d", path: "group", victim: "g3", class: "anon_fault", kills: 3, limit: 60 << 20},
	"memcg-parent-limit":    {limiter: "/b", task: "/b/leaf", victim: "hogB", class: "anon_fault", limit: 40 << 20},
	"memcg-swap-max":        {limiter: "/f", victim: "hogF", class: "anon_fault", limit: 40 << 20},
	"memcg-tmpfs":           {limiter: "/w", victim: "dd", class: "tmpfs", limit: 30 << 20},
	"mempolicy":             {scope: "mempolicy", victim: "hogGM", class: "anon_fault", task: "/", nodes: []int{1}},
	"sysrq-f":               {scope: "sysrq", path: "sysrq", victim: "hogK", class: "sysrq", task: "/"},
	"memcg-v1-parent-limit": {limiter: "/p", task: "/p/leaf", victim: "hogV1", class: "anon_fault", limit: 40 << 20},
}

func TestReportsOfRealKernelsHaveTheirVerdict(t *testing.T) {
	files, err := filepath.Glob("testdata/dmesg/*.txt")
	if err != nil || len(files) != 62 {
		t.Fatalf("got %d files and error %v, want some", len(files), err)
	}

	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			var which string
			for c := range verdicts {
				if strings.HasSuffix(name, "-"+c) && len(c) > len(which) {
					which = c
				}
			}

			want, ok := verdicts[which]
			if !ok {
				t.Fatal("got a file without an entry in verdicts, want one for each")
			}

			if want.scope == "" {
				want.scope = events.ScopeMemcg
			}

			if want.outcome == "" {
				want.outcome = events.OutcomeKilled
			}

			if want.path == "" && want.outcome == events.OutcomeKilled {
				want.path = "global"
				if want.scope == events.ScopeMemcg {
					want.path = "memcg"
				}
			}

			if want.kills == 0 && want.outcome == events.OutcomeKilled {
				want.kills = 1
			}

			if want.task == "" {
				want.task = want.limiter
			}

			if strings.HasPrefix(name, "6.18.44") {
				want.limiter, want.task, want.class = "/kfp", "/kfp/leaf", "page_cache"
			}
			// Some files begin with the end of another report: of which scope it is may be
			// unknown then, but not another.
			var inc *events.Incident

			list := parse(t, readFile(t, file), Options{})
			for _, one := range list {
				if inc == nil && one.Outcome == want.outcome && one.Trigger != nil {
					inc = one
				} else if one.Scope != want.scope && one.Scope != events.ScopeUnknown {
					t.Errorf("got an incident of scope %s at line %d, want none", one.Scope, one.Log.FirstLine)
				}
			}

			if inc == nil {
				t.Fatalf("got %d incidents, want one with outcome %s", len(list), want.outcome)
			}

			check(t, "scope", inc.Scope, want.scope)

			if (inc.Killer != nil) != (want.path != "") || inc.Killer != nil && inc.Killer.Path != want.path {
				t.Errorf("got killer %+v, want path %q", inc.Killer, want.path)
			}

			check(t, "class", inc.Allocation.Class, want.class)
			check(t, "victims", len(inc.Victims), want.kills)
			check(t, "tier", inc.Tier, events.TierKernelLog)

			if inc.Log.Truncated {
				t.Errorf("got a truncated report with notes %q, want a complete one", inc.Notes)
			}

			for i, v := range inc.Victims {
				if v.AnonRSSBytes == nil || v.TotalVMBytes == nil || v.PgtablesBytes == nil || v.UID == nil || v.SwapBytes == nil {
					t.Errorf("got victim %d without some of its sizes: %+v, want all", i, v)
				}
			}

			if want.kills > 0 {
				if !strings.HasSuffix(name, "-global") { // either of two
					check(t, "victim", inc.Victims[0].Comm, want.victim)
				}

				check(t, "role", inc.Victims[0].Role, events.RoleChosen)
				check(t, "task's cgroup", inc.Victims[0].Cgroup.Path, want.task)
			}

			if want.limiter != "" {
				check(t, "limiter", inc.Limiter.Cgroup.Path, want.limiter)
				check(t, "limit", *inc.Limiter.LimitBytes, want.limit)

				which := "memory.max"
				if strings.Contains(name, "v1") {
					which = "memory.limit_in_bytes"
				}

				check(t, "which", inc.Limiter.Which, which)

				if inc.Memory == nil || *inc.Memory.AnonBytes+*inc.Memory.FileBytes == 0 ||
					*inc.Memory.AnonBytes+*inc.Memory.FileBytes > *inc.Limiter.UsageBytes {
					t.Errorf("got memory %+v, want parts that make up the usage %d", inc.Memory, *inc.Limiter.UsageBytes)
				}
			} else {
				check(t, "level", inc.Limiter.Level, events.LevelNode)

				if inc.NodeState == nil || len(inc.NodeState.Zones) == 0 || inc.NodeState.TotalBytes == nil {
					t.Errorf("got node state %+v, want all of its sizes", inc.NodeState)
				}
			}

			if want.nodes != nil {
				check(t, "nodes", len(inc.Limiter.Nodes), 1)
				check(t, "node", inc.Limiter.Nodes[0], want.nodes[0])
			}

			if len(inc.Candidates) == 0 {
				t.Error("got no candidates, want the task table")
			}
		})
	}
}

func check[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()

	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
