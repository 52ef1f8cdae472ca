// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
)

// monitoringPeriod is how often the kubelet compares memory with its thresholds
// (pkg/kubelet/kubelet.go: evictionMonitoringPeriod).
const monitoringPeriod = 10 * time.Second

// maxSamples bounds the samples that are kept: a kill is explained some seconds later.
const maxSamples = 32

// EvictionTracker remembers since when the node has been below the kubelet's
// thresholds. A nil tracker is that of a node without a kubelet: it takes no samples
// and returns nil. It is safe for concurrent use.
type EvictionTracker struct {
	config *Config
	reader host.Reader

	mu      sync.Mutex
	samples []sample // oldest first
}

// sample is the memory at an instant, and since when each threshold had been crossed
// then; zero: it was not crossed.
type sample struct {
	at                   time.Time
	memory               Memory
	hard, soft           *uint64 // thresholds in bytes
	hardSince, softSince time.Time
	allocatable          *uint64
	allocatableSince     time.Time
}

// NewEvictionTracker returns a tracker of the memory that reader reads, nil for a nil
// configuration.
func NewEvictionTracker(config *Config, reader host.Reader) *EvictionTracker {
	if config == nil {
		return nil
	}

	return &EvictionTracker{config: config, reader: reader}
}

// Sample takes a sample, which costs some 100 µs: the kernel sums up the root's
// memory.stat. A threshold that is crossed in two samples more than ten seconds apart
// may have recovered in between, and counts from the second.
func (t *EvictionTracker) Sample(now time.Time) {
	if t == nil {
		return
	}

	t.observe(now, t.config.Read(t.reader))
}

func (t *EvictionTracker) observe(at time.Time, m Memory) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := sample{at: at, memory: m}
	// A threshold that does not parse prevents the kubelet itself from starting.
	s.hard, _ = Threshold(t.config.EvictionHard, signalMemory, m.CapacityBytes)
	s.soft, _ = Threshold(t.config.EvictionSoft, signalMemory, m.CapacityBytes)
	// The hard threshold also applies to all pods together, with their own capacity.
	s.allocatable, _ = Threshold(t.config.EvictionHard, signalMemory, m.AllocatableBytes)

	var last sample
	if n := len(t.samples); n > 0 && at.Sub(t.samples[n-1].at) <= monitoringPeriod {
		last = t.samples[n-1]
	}
	s.hardSince = since(m.AvailableBytes, s.hard, last.hardSince, at)
	s.softSince = since(m.AvailableBytes, s.soft, last.softSince, at)
	s.allocatableSince = since(m.AllocatableAvailableBytes, s.allocatable, last.allocatableSince, at)

	if len(t.samples) == maxSamples {
		t.samples = slices.Delete(t.samples, 0, 1)
	}
	t.samples = append(t.samples, s)
}

func since(available, threshold *uint64, before, now time.Time) time.Time {
	switch {
	case available == nil || threshold == nil || *available >= *threshold:
		return time.Time{}
	case before.IsZero():
		return now
	}

	return before
}

// Eviction returns how far the node was from an eviction at an instant, by the last
// sample before it, since memory that a kill freed must not count. Without a sample
// near it, there are only the thresholds. Lost is set if the kernel killed for a
// shortage that an eviction should have prevented, of the node or of all pods.
func (t *EvictionTracker) Eviction(at time.Time, lost bool) *events.Eviction {
	if t == nil {
		return nil
	}

	t.mu.Lock()
	defer t.mu.Unlock()

	e := &events.Eviction{Signals: t.config.signals(), Source: t.config.Source}
	for _, s := range slices.Backward(t.samples) {
		if s.at.After(at) {
			continue
		}

		if at.Sub(s.at) <= monitoringPeriod {
			t.config.describe(e, s, at)

			past := e.HardSinceNS
			if past == nil {
				past = ago(s.allocatableSince, at)
			}

			if lost && past != nil {
				e.Text = "eviction lost the race by " + seconds(*past) + ": " + e.Text
			}

			return e
		}

		break
	}
	e.Text = "memory.available was not sampled shortly before the kill"

	return e
}

// Now takes a sample, and returns how far the node is from an eviction.
func (t *EvictionTracker) Now(now time.Time) *events.Eviction {
	t.Sample(now)
	return t.Eviction(now, false)
}

// signals returns the thresholds, by the names that Eviction.Signals publishes.
func (c *Config) signals() map[string]string {
	all := map[string]string{}
	for signal, threshold := range c.EvictionHard {
		all["evictionHard."+signal] = threshold
	}

	for signal, threshold := range c.EvictionSoft {
		all["evictionSoft."+signal] = threshold
	}

	return all
}

// describe fills in what a sample shows, in numbers and in words.
func (c *Config) describe(e *events.Eviction, s sample, at time.Time) {
	m := s.memory
	e.AvailableBytes, e.MemAvailableBytes = m.AvailableBytes, m.MemAvailableBytes
	e.HardBytes, e.SoftBytes = s.hard, s.soft
	e.HardSinceNS, e.SoftSinceNS = ago(s.hardSince, at), ago(s.softSince, at)

	var words []string

	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if m.AvailableBytes == nil {
		add("memory.available is unknown")
	}

	switch {
	case e.HardSinceNS != nil:
		add("%s %s, below evictionHard %s%s (the kubelet checks every %s)",
			signalMemory, quantity(*m.AvailableBytes), c.EvictionHard[signalMemory], lasting(*e.HardSinceNS), monitoringPeriod)
	case s.hard == nil:
		add("evictionHard has no %s: the kubelet never evicts immediately for lack of memory", signalMemory)
	case m.AvailableBytes != nil:
		add("%s %s, %s above evictionHard %s", signalMemory, quantity(*m.AvailableBytes),
			quantity(*m.AvailableBytes-*s.hard), c.EvictionHard[signalMemory])
	}

	if e.SoftSinceNS != nil {
		text := fmt.Sprintf("below evictionSoft %s%s", c.EvictionSoft[signalMemory], lasting(*e.SoftSinceNS))
		if grace, ok := c.grace(signalMemory); ok {
			text += fmt.Sprintf(", grace period %s", grace)
		}

		add("%s", text)
	}

	if past := ago(s.allocatableSince, at); past != nil {
		add("all pods: %s %s of %s, below evictionHard%s", signalAllocatable,
			quantity(*m.AllocatableAvailableBytes), quantity(*m.AllocatableBytes), lasting(*past))
	}
	e.Text = strings.Join(words, "; ")
}

// ago returns nanoseconds, nil for the zero time.
func ago(since, at time.Time) *uint64 {
	if since.IsZero() {
		return nil
	}

	return new(uint64(max(at.Sub(since), 0)))
}

// lasting returns " for" and a duration, empty in the first sample.
func lasting(ns uint64) string {
	if ns == 0 {
		return ""
	}

	return " for " + seconds(ns)
}

func seconds(ns uint64) string {
	return (time.Duration(ns).Round(100 * time.Millisecond)).String()
}
