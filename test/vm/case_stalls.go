// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/must"
)

// Stalls: what comes before a kill, or instead of one.

var memoryHigh = Case{
	Name: "memory-high", NotOOM: true,
	Do: func(g *Guest) {
		leaf := g.leaf(0)
		leaf.set("memory.high", "20M")

		file := filepath.Join(g.mountTmpfs(), "felt")
		must.OK("make a file", os.WriteFile(file, make([]byte, 4096), 0o600)) // charged to the guest
		hog := g.start("hog", leaf, "felt", "22", file)
		hog.proceed()

		for range 1800 { // beside noise, each fault is charged, and throttled, by itself
			text, err := os.ReadFile(file)
			must.OK("read what the hog measured", err)

			if ms := binary.NativeEndian.Uint64(text); ms > 0 {
				g.facts["felt_ms"] = ms - 1
				return
			}

			time.Sleep(100 * time.Millisecond)
		}

		must.OK("wait for the hog", errors.New("it did not touch its memory within three minutes"))
	},
	Want: func(c *Check) {
		c.noIncident()

		var reported uint64

		for _, s := range c.Stalls {
			if s.What == string(events.StallMemoryHigh) && s.Task.PID == c.proc("hog").PID {
				reported += s.DurationNS / 1e6
			}
		}

		felt := c.Run.Facts["felt_ms"]
		// It waits for a CPU as well, in an emulator on a busy machine.
		least, most := felt-felt/3, felt+felt/20

		switch {
		case felt < 100:
			c.errorf("the case shows nothing: got %d ms of throttling of the hog, want at least 100", felt)
		case c.Tier == tierTracepoint: // it cannot see memory.high
			c.equal("ms of throttling", reported, 0)
		case reported < least || reported > most:
			c.errorf("ms of throttling: got %d, want %d to %d", reported, least, most)
		}
	},
}

// stalledKill is 20 s of reclaim of page cache, and then a kill. Counted is what was
// before the kill: what the victim tries after it may not be over when the kill is
// reported.
var stalledKill = Case{
	Name: "stalled-kill", AnyPage: true,
	Do: func(g *Guest) {
		g.zram("96M")
		count := traceEvents("vmscan", "mm_vmscan_memcg_reclaim_end", "oom", "mark_victim")

		hog := g.start("hog", g.leaf(24), "churn", "24", zramDisk, "20")
		hog.proceed()
		hog.waitEnd()
		time.Sleep(200 * time.Millisecond)

		g.facts["reclaims"] = count(hog.PID)
	},
	Want: func(c *Check) {
		inc := c.kill(limitHitBy(""))
		if inc == nil || inc.Before == nil {
			return
		}

		reclaims := c.Run.Facts["reclaims"]
		c.equal("number of reclaims", stalled(inc, events.StallMemcgReclaim), reclaims)

		if reclaims < 100 {
			c.errorf("the case shows nothing: got %d reclaims, want at least 100", reclaims)
		}

		sampled := 0

		for _, s := range inc.Before.Timeline {
			if s.UsageBytes != nil && s.LimitBytes != nil && *s.LimitBytes == c.group("leaf").Max {
				sampled++
			}
		}

		if n := len(inc.Before.Timeline); n < 10 || sampled < 8 {
			c.errorf("timeline: got %d of 20 seconds, %d with the limiter's usage; want at least 10, 8", n, sampled)
		}
	},
}

var highOrder = Case{
	Name: "high-order", FreeLimit: true,
	Do: func(g *Guest) {
		count := countEvents("compaction", "mm_compaction_end")
		// The hog frees its huge pages, unless the case is cut short.
		g.later(func() { _ = os.WriteFile("/proc/sys/vm/nr_hugepages", []byte("0"), 0) })

		// All that is free but a rest: the cgroup's limit is to be hit, not the node's.
		all := min(500, availableMiB()-150)
		hog := g.start("hog", g.leaf(all+20), "compact", strconv.Itoa(all), "230")
		hog.proceed()
		hog.waitEnd()
		time.Sleep(200 * time.Millisecond)

		g.facts["compactions"] = count(hog.PID)
	},
	Want: func(c *Check) {
		inc := c.kill(limitHit)
		if inc == nil || inc.Before == nil {
			return
		}

		compactions := c.Run.Facts["compactions"]
		c.equal("number of compactions", stalled(inc, events.StallCompaction), compactions)

		if compactions == 0 {
			c.errorf("the case shows nothing: got no compaction, want at least 1")
		}
	},
}
