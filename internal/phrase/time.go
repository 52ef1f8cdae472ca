// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"fmt"
	"time"
)

// Duration is a time in nanoseconds, rounded to what a reader needs.
func Duration(ns uint64) string {
	d := time.Duration(min(ns, 1<<63-1))
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}

	minutes, seconds := int(d.Minutes()), int(d.Seconds())%60
	if seconds == 0 {
		return fmt.Sprintf("%d min", minutes)
	}

	return fmt.Sprintf("%d min %d s", minutes, seconds)
}

// uptimeUntil is the end of the times that are taken for an uptime: no machine runs
// longer, and no record is older.
var uptimeUntil = time.Unix(0, 0).AddDate(10, 0, 0)

// IsUptime reports whether a time is that of a kernel log without a wall clock: see When.
func IsUptime(at time.Time) bool { return at.Before(uptimeUntil) && !at.Before(time.Unix(0, 0)) }

// When formats a point in time. An incident of a kernel log without a wall clock has
// the machine's uptime as its time, counted from 1970 (see events.Incident); it is
// written as the kernel does, in seconds. A log without any time has 0: nothing is killed
// then.
func When(at time.Time, layout string, loc *time.Location) string {
	if at.Equal(time.Unix(0, 0)) {
		return "time unknown"
	}

	if IsUptime(at) {
		return fmt.Sprintf("[%d.%03d]", at.Unix(), at.Nanosecond()/1e6)
	}

	return at.In(loc).Format(layout)
}
