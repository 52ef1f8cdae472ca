// SPDX-License-Identifier: Apache-2.0

package host

import (
	"time"

	"github.com/oomtrace/oomtrace/internal/kernel"
)

// BootClock maps CLOCK_BOOTTIME, the time of the kernel's records, to wall time.
// It belongs to one goroutine.
type BootClock struct {
	offset int64 // wall minus boot, ns
	synced uint64
}

// NewBootClock returns a clock whose offset has been measured.
func NewBootClock() *BootClock {
	c := &BootClock{}
	c.sync()

	return c
}

// BootNS maps wall time to nanoseconds of CLOCK_BOOTTIME, by the last offset.
func (c *BootClock) BootNS(t time.Time) uint64 { return uint64(max(t.UnixNano()-c.offset, 0)) }

// sync measures the offset between two readings of the boot clock, and keeps that of
// the closest of a few pairs: a preemption between two would be an error of
// milliseconds.
func (c *BootClock) sync() {
	best := uint64(1 << 62)

	for range 5 {
		before := kernel.BootNS()
		wall := time.Now().UnixNano()
		after := kernel.BootNS()

		if after-before < best {
			best = after - before
			c.offset = wall - int64(before+best/2)
			c.synced = after
		}
	}
}

// Sync measures the offset again, at most once a second: wall time may have been set.
func (c *BootClock) Sync() {
	if kernel.BootNS()-c.synced >= uint64(time.Second) {
		c.sync()
	}
}

// Time maps nanoseconds of CLOCK_BOOTTIME to wall time, by the last offset.
func (c *BootClock) Time(bootNS uint64) time.Time {
	return time.Unix(0, int64(bootNS)+c.offset)
}
