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

// kubeletLooks is how often the kubelet compares (pkg/kubelet/kubelet.go:
// evictionMonitoringPeriod).
const kubeletLooks = 10 * time.Second

// remembered is how many samples are kept: a kill is explained some seconds later.
const remembered = 32

// Watch remembers since when the node is below the kubelet's thresholds. A nil
// Watch is of a node without a kubelet: it takes nothing and tells nothing. It is
// safe for concurrent use.
type Watch struct {
	config *Config
	reader host.Reader

	mu      sync.Mutex
	samples []sample // oldest first
}

// sample is an instant, and since when each threshold had been crossed then; the
// zero time: it was not.
type sample struct {
	at                   time.Time
	memory               Memory
	hard, soft           *uint64 // thresholds in bytes
	hardSince, softSince time.Time
	allocatable          *uint64
	allocatableSince     time.Time
}

// NewWatch returns a watch over the memory that reader reads; nil if there is no
// configuration.
func NewWatch(config *Config, reader host.Reader) *Watch {
	if config == nil {
		return nil
	}

	return &Watch{config: config, reader: reader}
}

// Sample looks once. Called each second while memory is reclaimed it costs some
// 100 µs: the kernel sums up the root's memory.stat. What was crossed in samples
// more than ten seconds apart may have recovered in between, and counts anew.
func (w *Watch) Sample(now time.Time) {
	if w == nil {
		return
	}

	w.observe(now, w.config.Read(w.reader))
}

func (w *Watch) observe(at time.Time, m Memory) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := sample{at: at, memory: m}
	// What does not parse keeps the kubelet itself from running.
	s.hard, _ = Threshold(w.config.EvictionHard, signalMemory, m.CapacityBytes)
	s.soft, _ = Threshold(w.config.EvictionSoft, signalMemory, m.CapacityBytes)
	// The hard threshold holds for all pods together too, with their own capacity.
	s.allocatable, _ = Threshold(w.config.EvictionHard, signalMemory, m.AllocatableBytes)

	var last sample
	if n := len(w.samples); n > 0 && at.Sub(w.samples[n-1].at) <= kubeletLooks {
		last = w.samples[n-1]
	}
	s.hardSince = since(m.AvailableBytes, s.hard, last.hardSince, at)
	s.softSince = since(m.AvailableBytes, s.soft, last.softSince, at)
	s.allocatableSince = since(m.AllocatableAvailableBytes, s.allocatable, last.allocatableSince, at)

	if len(w.samples) == remembered {
		w.samples = slices.Delete(w.samples, 0, 1)
	}
	w.samples = append(w.samples, s)
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

// Eviction is the kubelet's side at an instant: by the last sample before it,
// since what a kill has freed must not count. Where none is near, only the
// thresholds are told. Lost says that the kernel killed then for what an eviction
// should have prevented: a shortage of the node or of all pods.
func (w *Watch) Eviction(at time.Time, lost bool) *events.Eviction {
	if w == nil {
		return nil
	}

	w.mu.Lock()
	defer w.mu.Unlock()

	e := &events.Eviction{Signals: w.config.signals(), Source: w.config.Source}
	for _, s := range slices.Backward(w.samples) {
		if s.at.After(at) {
			continue
		}

		if at.Sub(s.at) <= kubeletLooks {
			w.config.tell(e, s, at)

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
	e.Text = "how far the node was from an eviction was not looked at"

	return e
}

// Now looks once, and tells how far the node is from an eviction.
func (w *Watch) Now(now time.Time) *events.Eviction {
	w.Sample(now)
	return w.Eviction(now, false)
}

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

func (c *Config) tell(e *events.Eviction, s sample, at time.Time) {
	m := s.memory
	e.AvailableBytes, e.MemAvailableBytes = m.AvailableBytes, m.MemAvailableBytes
	e.HardBytes, e.SoftBytes = s.hard, s.soft
	e.HardSinceNS, e.SoftSinceNS = ago(s.hardSince, at), ago(s.softSince, at)

	var words []string

	say := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if m.AvailableBytes == nil {
		say("memory.available is not known")
	}

	switch {
	case e.HardSinceNS != nil:
		say("%s %s, below evictionHard %s%s (the kubelet looks every %s)",
			signalMemory, quantity(*m.AvailableBytes), c.EvictionHard[signalMemory], lasting(*e.HardSinceNS), kubeletLooks)
	case s.hard == nil:
		say("evictionHard has no %s: the kubelet evicts nothing at once for lack of memory", signalMemory)
	case m.AvailableBytes != nil:
		say("%s %s, %s above evictionHard %s", signalMemory, quantity(*m.AvailableBytes),
			quantity(*m.AvailableBytes-*s.hard), c.EvictionHard[signalMemory])
	}

	if e.SoftSinceNS != nil {
		text := fmt.Sprintf("below evictionSoft %s%s", c.EvictionSoft[signalMemory], lasting(*e.SoftSinceNS))
		if grace, ok := c.grace(signalMemory); ok {
			text += fmt.Sprintf(", it may be for %s", grace)
		}

		say("%s", text)
	}

	if past := ago(s.allocatableSince, at); past != nil {
		say("of all pods %s %s of %s, below evictionHard%s", signalAllocatable,
			quantity(*m.AllocatableAvailableBytes), quantity(*m.AllocatableBytes), lasting(*past))
	}
	e.Text = strings.Join(words, "; ")
}

func ago(since, at time.Time) *uint64 {
	if since.IsZero() {
		return nil
	}

	return pointer(uint64(max(at.Sub(since), 0)))
}

// lasting says for how long, unless it was seen for the first time.
func lasting(ns uint64) string {
	if ns == 0 {
		return ""
	}

	return " for " + seconds(ns)
}

func seconds(ns uint64) string {
	return (time.Duration(ns).Round(100 * time.Millisecond)).String()
}
