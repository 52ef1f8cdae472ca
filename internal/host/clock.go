// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// BootClock maps CLOCK_BOOTTIME, the time of the kernel's records, to wall time.
// It belongs to one goroutine.
type BootClock struct {
	offset int64 // wall minus boot, ns
	synced uint64
}

// NewBootClock returns a clock whose offset has been measured.
func NewBootClock() (*BootClock, error) {
	c := &BootClock{}
	return c, c.sync()
}

// BootNS maps wall time to nanoseconds of CLOCK_BOOTTIME, by the last offset.
func (c *BootClock) BootNS(t time.Time) uint64 { return uint64(max(t.UnixNano()-c.offset, 0)) }

func now(clock int32) (int64, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("read clock %d: %w", clock, err)
	}

	return t.Nano(), nil
}

// sync measures the offset between two readings of the boot clock, and keeps that of
// the closest of a few pairs: a preemption between two would be an error of
// milliseconds.
func (c *BootClock) sync() error {
	best := int64(1 << 62)

	for range 5 {
		before, err := now(unix.CLOCK_BOOTTIME)
		if err != nil {
			return err
		}

		wall, err := now(unix.CLOCK_REALTIME)
		if err != nil {
			return err
		}

		after, err := now(unix.CLOCK_BOOTTIME)
		if err != nil {
			return err
		}

		if after-before < best {
			best = after - before
			c.offset = wall - (before + best/2)
			c.synced = uint64(after)
		}
	}

	return nil
}

// Sync measures the offset again, at most once a second: wall time may have been set.
func (c *BootClock) Sync() {
	boot, err := now(unix.CLOCK_BOOTTIME)
	if err == nil && uint64(boot)-c.synced >= uint64(time.Second) {
		// On an error the last offset stays.
		_ = c.sync()
	}
}

// Time maps nanoseconds of CLOCK_BOOTTIME to wall time, by the last offset.
func (c *BootClock) Time(bootNS uint64) time.Time {
	return time.Unix(0, int64(bootNS)+c.offset)
}
