// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// serviceManager returns a shell by the name of systemd, whose kill is its own.
func serviceManager(t *testing.T) string {
	t.Helper()

	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}

	text, err := os.ReadFile(shell)
	if err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(t.TempDir(), "systemd")
	if err := os.WriteFile(file, text, 0o755); err != nil {
		t.Fatal(err)
	}

	return file
}

// TestStopOfAUnitIsLinkedToTheOOMKillInIt kills a process of a unit for its limit, sends SIGTERM to
// the rest at once, as systemd does, and SIGKILL when the stop is over.
func TestStopOfAUnitIsLinkedToTheOOMKillInIt(t *testing.T) {
	for name, test := range map[string]struct {
		term, kill time.Duration // after the OOM kill
		incidents  int
		follows    bool
	}{
		"within the time of a cleanup":  {100 * time.Millisecond, time.Second, 1, false},
		"when its stop timeout is over": {100 * time.Millisecond, 11 * time.Second, 2, true},
		"stopped later by itself":       {11 * time.Second, 12 * time.Second, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := testCgroup(t, "system.slice", "lab.service")
			manager := serviceManager(t)
			limitTo(t, dir, 16<<20)

			var rest int

			k := traced(t, func() {
				stays, out := startIn(t, dir, "trap '' TERM; echo; while :; do sleep 1; done", &syscall.SysProcAttr{Setpgid: true})
				out.Scan()
				rest = stays.Process.Pid

				hog, _ := startIn(t, dir, "exec tail /dev/zero", nil)
				hog.Wait()

				script := fmt.Sprintf("sleep %.1f; kill -TERM %d; sleep %.1f; kill -KILL -%d",
					test.term.Seconds(), rest, (test.kill - test.term).Seconds(), rest)
				if err := exec.Command(manager, "-c", script).Run(); err != nil {
					t.Errorf("stop the unit: %v", err)
				}

				stays.Wait()
				time.Sleep(1500 * time.Millisecond)
			})
			if len(k.incidents) != test.incidents {
				t.Fatalf("got %d incidents, want %d", len(k.incidents), test.incidents)
			}

			kill := k.incidents[0]
			if test.incidents == 1 {
				if len(kill.Followed) != 1 || kill.Followed[0].Kind != events.AfterUnitStop {
					t.Errorf("got %+v, want the stop of the unit after the OOM kill", kill.Followed)
				}

				return
			}

			stop := k.of(rest)
			if stop == nil || stop.Killer.Path != events.PathSystemd {
				t.Fatalf("got %+v, want the stop of the rest by systemd", stop)
			}

			f := stop.Follows
			if linked := f != nil && f.ID == kill.ID && f.Kind == events.AfterUnitStop && f.Confidence == events.ConfidenceCertain &&
				len(kill.Followed) == 1 && kill.Followed[0].ID == stop.ID; linked != test.follows {
				t.Errorf("got %+v, followed by %+v, want them linked: %v", f, kill.Followed, test.follows)
			}

			for _, c := range stop.Causes {
				if c.ID == "not_memory" || (c.ID == "followed_oom") != test.follows {
					t.Errorf("got cause %s: %s, want followed_oom: %v", c.ID, c.Text, test.follows)
				}
			}

			t.Logf("%+v, %+v", f, kill.Followed)
		})
	}
}
