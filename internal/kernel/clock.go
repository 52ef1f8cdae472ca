// SPDX-License-Identifier: Apache-2.0

package kernel

import "golang.org/x/sys/unix"

// BootNS reads CLOCK_BOOTTIME, the clock of all records, in nanoseconds. Reading a clock
// that the kernel has cannot fail, and Linux has this one since 2.6.39.
func BootNS() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}

	return uint64(t.Nano())
}
