// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Reclaim for the pod's limit leaves alone what memory.min of its containers protects, as
// far as they use it.
func TestWhatIsProtectedBelowTheNearestLimitIsFound(t *testing.T) {
	o := options(machine(t, map[string]string{
		"cg" + app + "/memory.min":  "700000\n",
		"cg" + side + "/memory.min": "max\n",
		"cg" + side + "/memory.low": "1000\n",
		"cg" + pod + "/memory.min":  "12000000\n", // does not count for its own limit
	}))

	i := Cgroup(context.Background(), o, app)
	l := i.Limiter

	if l.ProtectedMinBytes == nil || *l.ProtectedMinBytes != 9_700_000 || l.ProtectedLowBytes == nil || *l.ProtectedLowBytes != 1000 {
		t.Errorf("got %v and %v protected, want 9700000 and 1000", l.ProtectedMinBytes, l.ProtectedLowBytes)
	}

	if !slices.ContainsFunc(i.Causes, func(c events.Cause) bool { return c.ID == "protected" }) {
		t.Errorf("got causes %+v, want protected among them", i.Causes)
	}

	if l := Cgroup(context.Background(), options(machine(t, nil)), app).Limiter; l.ProtectedMinBytes != nil || l.ProtectedLowBytes != nil {
		t.Errorf("got %v and %v protected, want nothing", l.ProtectedMinBytes, l.ProtectedLowBytes)
	}
}

// Of two limits of cgroup v1 with as little left, that of memory and swap fails first.
func TestTheFileOfALimitOfCgroupV1(t *testing.T) {
	for memsw, want := range map[string]string{
		"12000000": "memory.memsw.limit_in_bytes", "12000001": "memory.limit_in_bytes", "": "memory.limit_in_bytes",
	} {
		files := map[string]string{
			"cg" + pod + "/memory.usage_in_bytes": "10000000\n",
			"cg" + pod + "/memory.limit_in_bytes": "12000000\n",
		}
		if memsw != "" {
			files["cg"+pod+"/memory.memsw.usage_in_bytes"] = "10000000\n"
			files["cg"+pod+"/memory.memsw.limit_in_bytes"] = memsw + "\n"
		}

		o := options(machine(t, files))
		o.Reader.Layout.MemoryVersion = 1

		if got := Cgroup(context.Background(), o, pod).Limiter.Which; got != want {
			t.Errorf("limit %q of memory and swap: got %s, want %s", memsw, got, want)
		}
	}
}
