// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

func pagesOf(bytes *uint64) uint64 {
	if bytes == nil {
		return 0
	}

	return *bytes / page
}

func TestProtectionOfTheAncestryAndOfWhatIsBelowTheLimiter(t *testing.T) {
	known := func(c []kernel.Memcg) []kernel.Memcg {
		c[0].Protection = kernel.Protection{Known: true, Min: 30, Low: 40}
		c[1].Protection = kernel.Protection{Known: true, Min: kernel.NoLimit, ChildrenMin: 300, ChildrenLow: 400}
		c[2].Protection = kernel.Protection{Known: true, ChildrenMin: 500}

		return c
	}
	unknown := func(c []kernel.Memcg) []kernel.Memcg {
		for i := range c {
			c[i].Protection = kernel.Protection{}
		}

		return c
	}
	v1 := func(c *Config) { c.CgroupV1 = true }

	for name, test := range map[string]struct {
		ancestry   []kernel.Memcg
		limiter    int
		constraint kernel.Constraint
		config     []func(*Config)
		min, low   uint64 // below the limiter, in pages
		unknown    bool
		ancestors  bool // have theirs
	}{
		"parent's limit":            {known(leafToRoot(1000, 1000)), 1, kernel.ConstraintMemcg, nil, 300, 400, false, true},
		"own limit":                 {known(leafToRoot(1000, 1000)), 0, kernel.ConstraintMemcg, nil, 0, 0, false, true},
		"node":                      {known(leafToRoot(1000, 1000)), -1, kernel.ConstraintNone, nil, 500, 0, false, true},
		"not read":                  {unknown(leafToRoot(1000, 1000)), 1, kernel.ConstraintMemcg, nil, 0, 0, true, false},
		"not read, node":            {unknown(leafToRoot(1000, 1000)), -1, kernel.ConstraintNone, nil, 0, 0, true, false},
		"cgroup v1 has none of it":  {unknown(leafToRoot(1000, 1000)), 1, kernel.ConstraintMemcg, []func(*Config){v1}, 0, 0, false, false},
		"none, and all of it known": {leafToRoot(1000, 1000), 1, kernel.ConstraintMemcg, nil, 0, 0, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, events.TierFentry, test.config...)
			m.invocation++
			a := proc(10, "a")
			m.chooses(a, a, test.ancestry, test.limiter, test.constraint)
			m.kill(a, a, true, false)
			m.returns(a, events.OutcomeKilled, kernel.Memcg{})

			inc := m.one()
			l := inc.Limiter

			if pagesOf(l.ProtectedMinBytes) != test.min || pagesOf(l.ProtectedLowBytes) != test.low {
				t.Errorf("got %v and %v protected below the limiter, want %d and %d pages",
					l.ProtectedMinBytes, l.ProtectedLowBytes, test.min, test.low)
			}

			for _, key := range []string{"limiter.protected_min_bytes", "limiter.protected_low_bytes", "ladder.min_bytes", "ladder.low_bytes"} {
				if got := slices.Contains(inc.Unknown, key); got != test.unknown {
					t.Errorf("got %s in unknown: %t, want %t", key, got, test.unknown)
				}
			}

			leaf, parent := inc.Ladder[0], inc.Ladder[1]
			got := pagesOf(leaf.MinBytes) == 30 && pagesOf(leaf.LowBytes) == 40 && parent.MinBytes != nil && parent.LowBytes == nil

			if got != test.ancestors {
				t.Errorf("got ladder %+v, %+v, want min 30 and low 40, and min max: %t", leaf, parent, test.ancestors)
			}
		})
	}
}

// memory.min of max is no limit that is not set.
func TestAProtectionOfEverythingIsShownAsTheKernelsLargest(t *testing.T) {
	b := &builder{cfg: &Config{PageSize: page}}
	if got := b.protection(kernel.NoLimit); got == nil || *got != events.ProtectAll {
		t.Errorf("got %v, want %d", got, events.ProtectAll)
	}

	if got := b.protection(0); got != nil {
		t.Errorf("got %v for none, want nil", got)
	}
}
