// SPDX-License-Identifier: Apache-2.0

package probe

import "golang.org/x/sys/unix"

// BootNS reads CLOCK_BOOTTIME, the clock of all records; 0 if it cannot be read.
func BootNS() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}

	return uint64(t.Nano())
}
