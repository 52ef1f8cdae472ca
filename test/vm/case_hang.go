// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/must"
)

// oomDisabled: the OOM killer of the cgroup is disabled, so the hog waits in its page
// fault. Once it is enabled, the hog is killed.
var oomDisabled = Case{
	Name: "oom-disabled", CgroupV1: true, On: []string{"5.10-v1", "6.1-v1"}, Quiet: 3 * time.Second,
	Do: func(g *Guest) {
		leaf := g.leaf(40)
		leaf.set("memory.oom_control", "1")

		hog := g.start("hog", leaf, "anon", "60")
		hog.proceed()
		leaf.waitUnderOOM()
		// The tracers read the counts of stalls once a second, and a wait twice.
		time.Sleep(5 * time.Second)

		leaf.set("memory.oom_control", "0")
		hog.waitEnd()
	},
	Want: func(c *Check) {
		c.equal("number of incidents", len(c.Incidents), 2)
		c.kill(limitHit)

		i := slices.IndexFunc(c.Incidents, func(inc *events.Incident) bool { return inc.Outcome == events.OutcomeOOMKillDisabled })
		if i < 0 {
			c.errorf("got no incident of tasks that wait, want one")
			return
		}

		inc, hog := c.Incidents[i], c.proc("hog")
		c.equal("scope", inc.Scope, events.ScopeMemcg)
		c.equal("number of victims", len(inc.Victims), 0)
		c.limiter(inc, "leaf")

		w := inc.Wait
		if w == nil || w.EndedAfterNS == nil || len(w.Tasks) != 1 {
			c.errorf("wait: got %+v, want one task, and its end", w)
			return
		}

		c.equal("pid of the waiting task", w.Tasks[0].PID, hog.PID)
		c.equal("end", w.End, events.WaitEndKillerEnabled)
	},
	Unlogged: []Unlogged{{string(events.OutcomeOOMKillDisabled), 1, "nothing is killed"}},
	FirstCause: func(_ *Check, inc *events.Incident) []string {
		if inc.Outcome == events.OutcomeOOMKillDisabled {
			return []string{"oom_kill_disabled"}
		}

		return []string{"own_limit"}
	},
}

// waitUnderOOM waits until a task sleeps at the limit of a cgroup v1.
func (g *group) waitUnderOOM() {
	for range 1200 {
		text, _ := os.ReadFile(filepath.Join(g.dir, "memory.oom_control"))
		if counter(string(text), "under_oom") == 1 {
			return
		}

		time.Sleep(20 * time.Millisecond)
	}

	must.OK("wait for a task of "+g.Name, errors.New("none waits for memory"))
}
