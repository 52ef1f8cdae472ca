// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/must"
)

const (
	burstWorkers = 4
	burstEach    = 50
)

// burst kills 200 processes within seconds, far more than the rate limit of the log lets
// through.
var burst = Case{
	Name: "burst", Burst: true, Quiet: 3 * time.Second,
	Do: func(g *Guest) {
		var all sync.WaitGroup
		var mu sync.Mutex

		for worker := range burstWorkers {
			name := fmt.Sprintf("burst%d", worker)
			dir, err := os.Open(g.group(name, name, 4, nil).dir)
			must.OK("open a cgroup", err)

			all.Go(func() {
				defer dir.Close()

				for tries, n := 0, 0; n < burstEach && tries < 2*burstEach; tries++ {
					p, ok := runBorn(name, dir)
					if !ok {
						continue // its cgroup has no room for it yet
					}

					n++

					mu.Lock()

					g.procs = append(g.procs, p)
					mu.Unlock()
				}
			})
		}

		all.Wait()
	},
	Want: func(c *Check) {
		c.equal("number of processes", len(c.Run.Procs), burstWorkers*burstEach)

		// The limit is 10 reports in 5 s (lib/ratelimit.c): how many come depends on how long
		// the machine takes for the kills.
		if c.Log.Reports >= len(c.Run.Procs) {
			c.errorf("the log was not rate limited: got %d reports of %d kills, want fewer", c.Log.Reports, len(c.Run.Procs))
		}

		for _, inc := range c.Incidents {
			c.equal("scope", inc.Scope, events.ScopeMemcg)

			// A process that is born in the cgroup may hit the limit before it is in it.
			if inc.Outcome != events.OutcomeNoKillable || c.Log.NoKillable == 0 {
				c.equal("outcome", inc.Outcome, events.OutcomeKilled)
			}
		}
	},
	NoReclaim: func(*Check) bool { return true }, // not in each of them
	// A process may die while it becomes another program.
	Unknown: []string{"victims.released_after_ns"},
}

// runBorn runs a hog that is born in a cgroup, to its end.
func runBorn(name string, cgroup *os.File) (*process, bool) {
	cmd := exec.Command("/bin/hog", "anon", "64")
	cmd.Env = []string{"HOG_NOW=1", "HOG_NAME=" + name}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}

	if err := cmd.Start(); err != nil {
		return nil, false
	}

	_ = cmd.Wait()

	p := &process{Proc: Proc{Name: name, PID: cmd.Process.Pid, Comm: []byte(name), Group: name}, done: make(chan struct{})}
	p.status, _ = cmd.ProcessState.Sys().(syscall.WaitStatus)
	close(p.done)

	return p, true
}
