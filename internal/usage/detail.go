// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"time"

	"github.com/oomtrace/oomtrace/internal/host"
)

// detail is what is read only of the cgroups that somebody looks at.
type detail struct {
	tick           uint64 // when somebody last did
	pressure, stat file
	psiTotal       counter
	refaultTotal   counter
	psi            Value[float64]
	refaults       Value[float64]
}

// counter is a reading of a number that only grows.
type counter struct {
	at time.Duration
	n  Value[uint64]
}

// rate returns the growth per second since the last reading, which n replaces. It is not
// known for the first one, or where the number did not grow: it belongs to another cgroup.
func (c *counter) rate(at time.Duration, n Value[uint64]) Value[float64] {
	before := *c
	*c = counter{at, n}

	if !n.Known || !before.n.Known || n.V < before.n.V || at <= before.at {
		return Value[float64]{}
	}

	return Known(float64(n.V-before.n.V) / (at - before.at).Seconds())
}

func (d *detail) close() {
	d.pressure.close()
	d.stat.close()
}

// readDetail reads pressure each time, and memory.stat every other time: the kernel sums it
// up over all CPUs.
func (s *Sampler) readDetail(c *cgroup, at time.Duration) {
	d := c.detail

	if s.opts.Layout.MemoryVersion == 2 {
		d.psi = Value[float64]{}

		if text, err := d.pressure.read(c.dir, "memory.pressure", s.buf, true); err == nil {
			d.psi = d.psiTotal.rate(at, pressureTotal(text))
			d.psi.V /= 1e6 // microseconds
		}
	}

	if d.refaultTotal.n.Known && (s.ticks+uint64(c.index))%2 == 1 {
		return
	}

	d.refaults = Value[float64]{}
	if text, err := d.stat.read(c.dir, "memory.stat", s.buf, true); err == nil {
		var n Value[uint64]
		if pages := host.Refaults(text); pages != nil {
			n = Known(*pages)
		}

		d.refaults = d.refaultTotal.rate(at, n)
	}
}
