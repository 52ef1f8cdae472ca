// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// TestUserKillsAreGroupedByTheInnermostWorkload: SIGKILLs within a second are one incident if the
// keys are the same.
func TestUserKillsAreGroupedByTheInnermostWorkload(t *testing.T) {
	const (
		slurm = "/system.slice/slurmstepd.scope"
		other = "/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	)

	for _, test := range []struct {
		name, a, b string
		same       bool
	}{
		{"steps of a job", slurm + "/job_1/step_0/user/task_0", slurm + "/job_1/step_1", true},
		{"jobs of a scheduler", slurm + "/job_1/step_0", slurm + "/job_2/step_0", false},
		{"a guest", "/lxc/202/ns", "/lxc/202", true},
		{"guests", "/lxc.payload.a", "/lxc.payload.b", false},
		{"units of a guest", "/lxc.payload.a/system.slice/a.service", "/lxc.payload.a/system.slice/b.service", false},
		{"units of two guests", "/lxc.payload.a/system.slice/a.service", "/lxc.payload.b/system.slice/a.service", false},
		{"a unit of the host and of a guest", "/system.slice/a.service", "/lxc.payload.b/system.slice/a.service", false},
		{"a unit's cgroups", "/system.slice/a.service/x", "/system.slice/a.service/y", true},
		{"units of two users", "/user.slice/user-1.slice/user@1.service/a.service", "/user.slice/user-2.slice/user@2.service/a.service", false},
		{"units of a container", other + "/system.slice/a.service", other + "/system.slice/b.service", false},
		{"a container's cgroups", other + "/x", other, true},
		{"plain cgroups", "/a", "/b", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := func(id uint64, path string) oom.Instance {
				return oom.InstanceOf(resolve.ParsePath(path).Workload, &events.Cgroup{CgroupKey: events.CgroupKey{ID: id}, Path: path})
			}

			if a, b := key(1, test.a), key(2, test.b); (a == b) != test.same {
				t.Errorf("got keys %+v and %+v, want the same: %v", a, b, test.same)
			}
		})
	}
}

func TestModeSelectsGuestsAndJobs(t *testing.T) {
	for path, want := range map[string]bool{
		"/lxc.payload.web1":                                         true,
		"/lxc.payload.web1/system.slice/sshd.service":               true,
		"/lxc.payload.web1/user.slice/user-0.slice/session-1.scope": false,
		"/slurm/uid_1000/job_7/step_0":                              true,
		"/podruntime/kubelet":                                       true,
		"/batch/x":                                                  false,
	} {
		if got := UserKillsOfWorkloads.selects(resolve.ParsePath(path), path); got != want {
			t.Errorf("%s: got selected %v, want %v", path, got, want)
		}
	}
}
