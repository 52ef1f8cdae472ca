// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
)

func TestHooksAreDescribed(t *testing.T) {
	names := make(map[string]bool)

	for i := range hooks {
		h := &hooks[i]

		if h.name == "" || names[h.name] {
			t.Errorf("hook %d: got name %q, want one of its own", i, h.name)
		}

		names[h.name] = true

		if h.without == "" || h.remedy == "" {
			t.Errorf("%s: got without %q and remedy %q, want text for doctor", h.name, h.without, h.remedy)
		}

		if len(h.modes) == 0 {
			t.Errorf("%s: got no modes, want some", h.name)
		}

		if !slices.IsSortedFunc(h.modes, func(a, b mode) int { return rank[a.tier] - rank[b.tier] }) {
			t.Errorf("%s: got modes %v, want the best first", h.name, h.modes)
		}

		if h.required && len(h.modes) != 1 {
			t.Errorf("%s: got %d modes, want one: Open fails without a required hook's first mode", h.name, len(h.modes))
		}
	}
}

// See the comment on hooks.
func TestHooksAreInOrder(t *testing.T) {
	if hooks[0].name != invocationHook {
		t.Errorf("got %s attached first, want %s", hooks[0].name, invocationHook)
	}

	index := func(program string) int {
		return slices.IndexFunc(hooks, func(h hook) bool { return slices.Contains(h.modes[0].programs, program) })
	}

	if gaveUp, mark := index("gave_up"), index("mark_victim"); gaveUp < 0 || gaveUp > mark {
		t.Errorf("got gave_up and mark_victim at places %d and %d, want both attached, gave_up first", gaveUp, mark)
	}
}

// A kernel may have inlined the choice of a victim: the OOM invocation does without.
func TestTheChoiceIsNoConditionOfTheInvocation(t *testing.T) {
	for _, m := range hookNamed(invocationHook).modes {
		if slices.ContainsFunc(m.programs, func(name string) bool { return strings.Contains(name, choiceHook) }) {
			t.Errorf("mode %s: got programs %q, want none of %s", m.tier, m.programs, choiceHook)
		}
	}

	modes := hookNamed(choiceHook).modes
	if last := modes[len(modes)-1]; len(last.programs) != 0 {
		t.Errorf("%s: got the last mode %v, want one without programs: the SIGKILL stands in", choiceHook, last)
	}
}

func TestEveryProgramBelongsToOneHook(t *testing.T) {
	owners := make(map[string][]string)

	for _, h := range hooks {
		for _, m := range h.modes {
			for _, program := range m.programs {
				if !slices.Contains(owners[program], h.name) {
					owners[program] = append(owners[program], h.name)
				}
			}
		}
	}

	for _, load := range []func() (*ebpf.CollectionSpec, error){bpf.LoadOomtrace, bpf.LoadStalls} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}

		for program := range spec.Programs {
			if len(owners[program]) != 1 {
				t.Errorf("program %s: got hooks %q, want one", program, owners[program])
			}

			delete(owners, program)
		}
	}

	for program, hooks := range owners {
		t.Errorf("hooks %q: got program %s, want one that exists", hooks, program)
	}
}

func TestEveryKindOfRecordHasALostName(t *testing.T) {
	owners := make(map[bpf.Kind]string)

	for _, h := range hooks {
		for kind := range h.lost {
			if owners[kind] != "" {
				t.Errorf("kind %d: got hooks %s and %s, want one", kind, owners[kind], h.name)
			}

			owners[kind] = h.name
		}
	}

	names := make(map[string]bool)

	for kind := bpf.Kind(1); kind < bpf.KindCount; kind++ {
		if name := lostNames[kind]; name == "" || names[name] {
			t.Errorf("kind %d: got lost name %q, want one of its own", kind, name)
		}

		names[lostNames[kind]] = true
	}
}

func TestEveryStallHasOneHook(t *testing.T) {
	for number, kind := range stallKinds {
		want := 1
		if kind == events.StallAfterKill {
			want = 0 // the hooks of the three kinds of reclaim report it
		}

		got := 0

		for _, h := range hooks {
			if h.stall == kind {
				got++
			}
		}

		if kind == "" || got != want {
			t.Errorf("stall %d (%q): got %d hooks, want %d", number, kind, got, want)
		}
	}

	if got := bpf.StallKind(len(stallKinds)); got != bpf.StallKinds {
		t.Errorf("got %d kinds of stall, want %d as in wire.h", got, bpf.StallKinds)
	}
}

func TestLost(t *testing.T) {
	for _, test := range []struct {
		hook   string
		tier   events.Tier
		losses bool
	}{
		{"exit_mmap", events.TierKprobe, false},
		{"exit_mmap", "", true},
		{"oom_kill_process", events.TierFentry, false},
		{"oom_kill_process", events.TierTracepoint, false}, // the SIGKILL, or oom:mark_victim, stands in
		{"out_of_memory", "", true},
		{"cgroup:cgroup_mkdir", events.TierTracepoint, false},
		{"of another version", "", false},
	} {
		if got := Lost(events.Hook{Name: test.hook, Tier: test.tier}) != ""; got != test.losses {
			t.Errorf("%s attached as %q: got losses %v, want %v", test.hook, test.tier, got, test.losses)
		}
	}
}

func TestUnseenStalls(t *testing.T) {
	p := &Probe{hooks: []events.Hook{
		{Name: "vmscan:mm_vmscan_throttled"},
		{Name: "memory.high"},
		{Name: "compaction:mm_compaction", Tier: events.TierTracepoint},
		{Name: "exit_mmap"},
	}}

	want := []events.StallKind{events.StallMemoryHigh, events.StallThrottle}
	if got := p.UnseenStalls(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
