// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// BenchmarkKill measures one OOM kill, from the choice of the victim to the incident.
func BenchmarkKill(b *testing.B) {
	m := newHost(&testing.T{}, events.TierFentry)
	a, c := proc(10, "a"), leafToRoot(1000, kernel.NoLimit)

	b.ReportAllocs()

	for b.Loop() {
		m.oomKills(a, a, c)
		m.all = m.all[:0]
		m.headline = m.headline[:0]
	}
}

// BenchmarkKillTracepoint measures the same with tracepoints only.
func BenchmarkKillTracepoint(b *testing.B) {
	m := newHost(&testing.T{}, events.TierTracepoint)
	a, c := proc(10, "a"), leafToRoot(1000, kernel.NoLimit)

	b.ReportAllocs()

	for b.Loop() {
		m.marked(a, a, c, m.reclaims(0))
		m.idle(1e9)
		m.all = m.all[:0]
		m.headline = m.headline[:0]
	}
}
