// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"encoding/json"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/events"
)

// TestOrder: a reader takes the first cause for the answer.
func TestOrder(t *testing.T) {
	tests := []struct {
		name string
		make func() *incident
		want []string // the first causes
	}{
		{"plain", plainKill, []string{"own_limit"}},
		{"plain, with what most kills have", with(plainKill(), func(i *incident) {
			i.Victims[0].Comm = "java"
			i.Limiter.SwapLimitBytes, i.Memory.AnonTHPBytes = new(uint64(0)), new(400*mib)
			i.Before = stalls(events.StallMemcgReclaim, 100, 90, 5e9)
		}), []string{"own_limit", "stalled_before", "thp", "runtime_uncounted", "swap_absent"}},
		{"what fills most goes first", filled(func(m *events.Memory) {
			m.FileBytes, m.ShmemBytes, m.SlabUnreclaimableBytes = new(310*mib), new(300*mib), new(140*mib)
		}), []string{"tmpfs", "own_limit", "slab_unreclaimable"}},
		{"the other way round", filled(func(m *events.Memory) {
			m.FileBytes, m.ShmemBytes, m.SlabUnreclaimableBytes = new(150*mib), new(140*mib), new(300*mib)
		}), []string{"slab_unreclaimable", "own_limit", "tmpfs"}},
		{"dirty cache is not hot", filled(func(m *events.Memory) {
			m.FileBytes, m.FileDirtyBytes, m.ActiveFileBytes, m.InactiveFileBytes = new(400*mib), new(150*mib), new(390*mib), new(10*mib)
		}), []string{"page_cache_dirty", "own_limit"}},
		{"a part that does not explain it", with(plainKill(), func(i *incident) {
			i.Memory.AnonBytes, i.Memory.SlabReclaimableBytes = new(350*mib), new(140*mib)
		}), []string{"own_limit", "slab_reclaimable"}},
		{"an act beats what memory was used for", with(filled(func(m *events.Memory) { m.FileBytes, m.ShmemBytes = new(400*mib), new(400*mib) })(), func(i *incident) {
			i.Allocation.Class = "limit_lowered"
		}), []string{"limit_lowered", "tmpfs"}},
		{"a limit lowered, and nobody left", with(plainKill(), func(i *incident) {
			i.Allocation.Class, i.Outcome, i.Victims = "limit_lowered", events.OutcomeNoKillable, nil
		}), []string{"limit_lowered", "no_killable"}},
		{"pod limit", podKill, []string{"ancestor_limit"}},
		{"pod limit, of files in memory", with(podKill(), func(i *incident) {
			i.Memory = memory(100 * mib)
			i.Memory.FileBytes, i.Memory.ShmemBytes = new(450*mib), new(440*mib)
		}), []string{"tmpfs", "ancestor_limit"}},
		{"most of it protected", with(podKill(), func(i *incident) { i.Limiter.ProtectedMinBytes = new(400 * mib) }),
			[]string{"protected", "ancestor_limit"}},
		{"some of it protected", with(podKill(), func(i *incident) { i.Limiter.ProtectedMinBytes = new(200 * mib) }),
			[]string{"ancestor_limit", "protected"}},
		{"all pods", with(podKill(), func(i *incident) { i.Limiter.Level = events.LevelKubepods }), []string{"node_overcommitted", "ancestor_limit"}},
		{"swap", with(plainKill(), func(i *incident) { i.Limiter.SwapLimitBytes, i.Limiter.SwapUsageBytes = new(100*mib), new(100*mib) }),
			[]string{"swap_exhausted", "own_limit"}},
		{"group", withGroup(nil), []string{"group_kill", "own_limit"}},
		{"group of a process 1", withGroup(new(true)), []string{"own_limit", "group_kill"}},
		{"lowered", with(withGroup(nil)(), func(i *incident) { i.Allocation.Class = "limit_lowered" }), []string{"limit_lowered", "group_kill"}},
		{"nobody killable", with(plainKill(), func(i *incident) { i.Outcome, i.Victims = events.OutcomeNoKillable, nil }), []string{"no_killable", "own_limit"}},
		{"node", nodeKill, []string{"node_exhausted"}},
		{"node, all that goes with it", with(nodeKill(), func(i *incident) {
			i.NodeState.SwapFreeBytes = new(uint64(0))
			i.NodeState.Cgroups = []events.Share{kubepodsShare(4 * gib)}
			i.Eviction = &events.Eviction{HardSinceNS: new(uint64(3e9))}
			i.Candidates = []events.Candidate{candidate(4711, "hog", 2*gib, 985), candidate(30, "big", 5*gib, 0)}
		}), []string{"outside_containers", "node_exhausted", "swap_exhausted", "chosen_by_score", "eviction_lost_race"}},
		{"slab of the node", with(nodeKill(), func(i *incident) {
			i.NodeState.AnonBytes, i.NodeState.SlabUnreclaimable = new(4*gib), new(10*gib)
			i.NodeState.Cgroups = []events.Share{kubepodsShare(3 * gib)}
		}), []string{"slab_unreclaimable", "outside_containers", "node_exhausted"}},
		{"slab of the node, beside more", with(nodeKill(), func(i *incident) {
			i.NodeState.AnonBytes, i.NodeState.SlabReclaimable = new(10*gib), new(5*gib)
		}), []string{"slab_reclaimable", "node_exhausted"}},
		{"some slab of the node", with(nodeKill(), func(i *incident) {
			i.NodeState.AnonBytes, i.NodeState.SlabReclaimable = new(12*gib), new(3*gib)
		}), []string{"node_exhausted", "slab_reclaimable"}},
		{"cpuset", func() *incident { return numaKill(events.ScopeCpuset) }, []string{"cpuset_exhausted"}},
		{"mempolicy", func() *incident { return numaKill(events.ScopeMempolicy) }, []string{"mempolicy_exhausted"}},
		{"numa", func() *incident { return numaKill(events.ScopeGlobal) }, []string{"numa_imbalance"}},
		{"free in CMA areas", cmaKill, []string{"cma_free"}},
		{"little free in CMA areas", smallCMAKill, []string{"node_exhausted", "cma_free"}},
		{"slab, beside what is free in CMA areas", with(cmaKill(), func(i *incident) {
			i.NodeState.AnonBytes, i.NodeState.SlabUnreclaimable = new(2*gib), new(11*gib)
		}), []string{"slab_unreclaimable", "cma_free"}},
		{"high order", with(nodeKill(), func(i *incident) {
			i.Allocation.Order, i.NodeState.Zones[1].FreeBytes = new(3), new(400*mib)
			i.NodeState.AnonBytes = new(8 * gib)
		}), []string{"fragmentation"}},
		{"eviction", func() *incident { return userKillOf("runtime", "eviction") }, []string{"evicted"}},
		{"137", func() *incident { return userKillOf("runtime", "delete") }, []string{"runtime_stop", "not_memory"}},
		{"nothing killable on the node", with(nodeKill(), func(i *incident) {
			i.Outcome, i.Victims, i.Passes = events.OutcomePanic, nil, &events.Passes{NoKillable: 1}
		}), []string{"kernel_panic", "node_exhausted"}},
		{"suspended", with(nodeKill(), func(i *incident) { i.Outcome, i.Victims = events.OutcomeSuspending, nil }), []string{"suspending"}},
		{"sysrq", with(nodeKill(), func(i *incident) { i.Scope = events.ScopeSysrq }), []string{"sysrq"}},
		{"evidence lost", with(plainKill(), func(i *incident) { i.Scope, i.Limiter = events.ScopeUnknown, nil }), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ids(Diagnose(tt.make(), nil))
			if len(got) < len(tt.want) || !slices.Equal(got[:len(tt.want)], tt.want) || tt.want == nil && got != nil {
				t.Errorf("got causes %v, want them to start with %v", got, tt.want)
			}
		})
	}
}

// TestAKillForTheWorkingSetIsNotExplainedByAFullNode: kswapd kills before memory runs out,
// and a full node has the same evidence with any other trigger.
func TestAKillForTheWorkingSetIsNotExplainedByAFullNode(t *testing.T) {
	inc := nodeKill()
	inc.NodeState.SwapFreeBytes, inc.NodeState.AnonBytes, inc.NodeState.SlabUnreclaimable = new(uint64(0)), new(4*gib), new(10*gib)
	inc.NodeState.Cgroups = []events.Share{kubepodsShare(13 * gib)}
	inc.Eviction = &events.Eviction{HardSinceNS: new(uint64(3e9))}

	if got := ids(Diagnose(inc, nil)); len(got) < 4 || slices.Contains(got, "working_set_guard") {
		t.Fatalf("got causes %v, want those of a full node", got)
	}

	inc.Trigger = &events.Process{PID: 60, TID: 60, Comm: "kswapd0", IsKernel: true}

	if got, want := ids(Diagnose(inc, nil)), []string{"working_set_guard"}; !slices.Equal(got, want) {
		t.Errorf("got causes %v, want %v", got, want)
	}
}

// withGroup is a group kill in a container: its process 1 is chosen, or another process.
func withGroup(isInit *bool) func() *incident {
	return with(plainKill(), func(i *incident) {
		member := victim(4650, "server", 10*mib)
		member.Role = events.RoleGroup
		i.Victims[0].IsContainerInit = isInit
		i.Victims = append(i.Victims, member)
		i.Killer = &events.Killer{Kind: "kernel", Path: "group", GroupCgroup: i.Limiter.Cgroup, GroupLevel: events.LevelContainer}
	})
}

// TestKernelLogHasTheSameCauses: they are found, with the log as their source.
func TestKernelLogHasTheSameCauses(t *testing.T) {
	for _, inc := range []*incident{plainKill(), podKill(), nodeKill(), numaKill(events.ScopeCpuset)} {
		live := ids(Diagnose(inc, nil))
		inc.Tier = events.TierKernelLog

		logged := Diagnose(inc, nil)
		if got := ids(logged); !slices.Equal(got, live) {
			t.Errorf("got causes %v, want those of the live incident, %v", got, live)
		}

		for _, e := range logged[0].Evidence {
			if e.Source != "kernel log" && e.Source != "memory.current" { // shares are not in a log
				t.Errorf("%s: got source %q, want \"kernel log\"", e.What, e.Source)
			}
		}
	}
}

func TestAdviceFollowsFromTheEvidence(t *testing.T) {
	advice := func(inc *incident, id string) string {
		var all strings.Builder
		for _, a := range find(Diagnose(inc, nil), id).Advice {
			all.WriteString(a.Layer + ": " + a.Text + "\n")
		}

		return all.String()
	}
	java := plainKill()

	java.Victims[0].Comm = "java"
	if got := advice(java, "own_limit"); !strings.Contains(got, "-Xmx") || strings.Contains(got, "GOMEMLIMIT") {
		t.Errorf("JVM in a pod: want advice on -Xmx and none on GOMEMLIMIT, got\n%s", got)
	}

	if got := advice(plainKill(), "own_limit"); strings.Contains(got, "-Xmx") || strings.Contains(got, "GOMEMLIMIT") ||
		!strings.Contains(got, "heap profiler") {
		t.Errorf("unknown program: want advice on heap profilers and none on -Xmx or GOMEMLIMIT, got\n%s", got)
	}

	v1 := plainKill()

	v1.Limiter.Cgroup.Hierarchy = 4
	if got := advice(v1, "own_limit"); strings.Contains(got, "memory.high") {
		t.Errorf("cgroup v1: want no advice on memory.high, got\n%s", got)
	}
	service := plainKill()

	service.Limiter.Level, service.Limiter.Workload, service.Victims[0].Workload = events.LevelService, nil, nil
	if got := advice(service, "own_limit"); strings.Contains(got, kubernetes+":") {
		t.Errorf("not a pod: want no advice for Kubernetes, got\n%s", got)
	}
}

func TestGrowthNeedsThreeRows(t *testing.T) {
	inc := plainKill()
	inc.Before = &events.Before{Timeline: seconds([]uint64{200 * mib, 0, 300 * mib, 500 * mib}, 1, 1, 1, 1)}

	inc.Before.Timeline[1].UsageBytes = nil
	if c := find(Diagnose(inc, nil), "own_limit"); !strings.Contains(c.Text, "usage grew by 100.0 MiB/s") {
		t.Errorf("got %q, want the growth in it", c.Text)
	}

	inc.Before.Timeline = inc.Before.Timeline[2:] // two rows of a second
	if c := find(Diagnose(inc, nil), "own_limit"); strings.Contains(c.Text, "grew by") {
		t.Errorf("two rows: got %q, want no growth", c.Text)
	}
}

// TestDiagnoseDoesNotChangeTheIncident, which sinks share.
func TestDiagnoseDoesNotChangeTheIncident(t *testing.T) {
	for i, c := range cases() {
		inc, twin := c.make(), cases()[i].make()
		if Diagnose(inc, c.history); !reflect.DeepEqual(inc, twin) {
			t.Errorf("%s: got a changed incident", c.rule)
		}
	}
}

// words lead into the branches of the rules, and are hostile.
var words = []string{
	"memcg", "global", "cpuset", "mempolicy", "user", "sysrq", "killed", "no_killable_task", "chosen", "group", "container", "pod",
	"qos", "kubepods", "slice", "cgroup", "service", "memory.max", "limit_lowered", "eviction", "runtime", "pidns", "java", "python3",
	"memory_high", "memcg_reclaim", "Normal", "kernel_log", "/kubepods.slice/x", "/system.slice", "/system.slice/a.service", "",
	"\x1b[2J\xff\u202e", strings.Repeat("日", 300),
}

// scramble sets everything to a random value, or none; numbers are at the ends of their
// range.
func scramble(v reflect.Value, r *rand.Rand, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		if r.Intn(4) > 0 && depth < 12 {
			v.Set(reflect.New(v.Type().Elem()))
			scramble(v.Elem(), r, depth+1)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(r.Int63n(3), r.Int63n(4e9))))
			return
		}

		for i := range v.NumField() {
			scramble(v.Field(i), r, depth+1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.Intn(6), 8))

		for i := range v.Len() {
			scramble(v.Index(i), r, depth+1)
		}
	case reflect.String:
		v.SetString(words[r.Intn(len(words))])
	case reflect.Bool:
		v.SetBool(r.Intn(2) > 0)
	case reflect.Int, reflect.Int64:
		v.SetInt([]int64{-1 << 63, -1000, -1, 0, 1, 3, 9, 63, 1<<63 - 1}[r.Intn(9)])
	case reflect.Uint64, reflect.Uint32:
		v.SetUint([]uint64{0, 1, 16, 1 << 12, 1 << 28, 1 << 31, 1<<32 - 1, 1 << 40, 1<<64 - 1}[r.Intn(9)])
	case reflect.Float64:
		v.SetFloat(r.Float64() * 100)
	}
}

// TestRandomIncidents: any part of an incident may be missing or hostile.
func TestRandomIncidents(t *testing.T) {
	r, fired := rand.New(rand.NewSource(1)), map[string]bool{}

	for range 5000 {
		var inc incident
		var history History

		scramble(reflect.ValueOf(&inc).Elem(), r, 0)
		scramble(reflect.ValueOf(&history).Elem(), r, 0)
		var journal Journal
		journal.Add(&inc)
		journal.before(&inc)

		for _, c := range Diagnose(&inc, history) {
			fired[c.ID] = true
			if c.Text == "" || len(c.Evidence) == 0 || len(c.Advice) == 0 || doubt(c.Confidence) < 0 ||
				utf8.RuneCountInString(c.Text) > longest {
				t.Fatalf("got cause %+v, want text of at most %d runes, evidence, advice and a confidence", c, longest)
			}

			if wrong := wrongBrief(c.Brief, briefRunes+1); wrong != "" {
				t.Fatalf("%s: got brief %q, want %s", c.ID, c.Brief, wrong)
			}
		}
	}

	if len(fired) < len(rules)*2/3 {
		t.Errorf("got causes of %d rules, want at least %d", len(fired), len(rules)*2/3)
	}
}

// longest bounds the runes of a cause's text, with the mark of a gap.
const longest = textRunes + 1

// FuzzDiagnose reads incidents as a recording may have them.
func FuzzDiagnose(f *testing.F) {
	for _, c := range cases() {
		line, err := events.Marshal(c.make())
		if err != nil {
			f.Fatal(err)
		}

		f.Add(line)
	}

	f.Fuzz(func(t *testing.T, line []byte) {
		var inc incident
		if json.Unmarshal(line, &inc) != nil {
			return
		}
		var journal Journal
		journal.Add(&inc)

		for _, c := range journal.Diagnose(&inc) {
			if c.Text == "" || c.Brief == "" || len(c.Evidence) == 0 || len(c.Advice) == 0 {
				t.Errorf("got cause %+v, want text, a brief, evidence and advice", c)
			}
		}
	})
}

// TestProspectAssumesThatTheLimitIsReached: that is the premise, and no finding.
func TestProspectAssumesThatTheLimitIsReached(t *testing.T) {
	for name, i := range map[string]*events.Inspection{
		"node":  {NodeState: nodeKill().NodeState},
		"limit": {Limiter: plainKill().Limiter, Ladder: plainKill().Ladder, Memory: plainKill().Memory},
	} {
		if got := ids(Prospect(i)); slices.Contains(got, "node_exhausted") || slices.Contains(got, "own_limit") {
			t.Errorf("%s: got causes %q, want none of a limit that was reached", name, got)
		}
	}
	full := &events.Inspection{Limiter: podKill().Limiter, Memory: memory(100 * mib)}

	full.Memory.FileBytes, full.Memory.ShmemBytes = new(450*mib), new(440*mib)
	if got := ids(Prospect(full)); !slices.Contains(got, "tmpfs") {
		t.Errorf("got causes %q, want tmpfs among them", got)
	}
}
