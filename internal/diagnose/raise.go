// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// raisedBy is the factor by which an example raises a limit: 20 to 40 % above real usage are
// advised.
const raisedBy = 1.3

// raiseAdvice is how a limit is raised that the workload needs, by whoever set it. That of a
// pod is in its manifest.
var raiseAdvice = []advice{
	{
		layer: cgroupLayer, when: &condition{"a systemd unit", func(f *facts) bool { return f.unit() != "" }}, with: raiseUnit,
		text: "If the unit needs this much memory, raise its limit: systemctl set-property UNIT MemoryMax=SIZE.",
	},
	{
		layer: cgroupLayer, when: &condition{"a container of Docker or Podman", func(f *facts) bool { return f.engine() != "" }},
		with: raiseContainer,
		text: "If the container needs this much memory, raise its limit: docker update --memory SIZE CONTAINER, with --memory-swap " +
			"where that is set.",
	},
}

// raiseElsewhere is for limits that are set by none of these.
var raiseElsewhere = advice{
	layer: cgroupLayer, text: "If the workload needs this much memory, raise its limit where it is set: with the job scheduler, the " +
		"configuration of the guest, or the runtime of the container.",
	when: &condition{"neither a pod of this node, nor a unit of it, nor a container of Docker or Podman", func(f *facts) bool {
		return !f.inPod() && f.unit() == "" && f.engine() == ""
	}},
}

// unit is the systemd unit of the host whose limit was hit; empty if it was another's. A unit
// inside of a container has a cgroup of that above it.
func (f *facts) unit() string {
	l := f.limiter
	if !f.is(events.ScopeMemcg) || l.Level != events.LevelService || l.Workload == nil || l.Cgroup == nil {
		return ""
	}

	above, ok := strings.CutSuffix(l.Cgroup.Path, "/"+l.Workload.Unit)
	if !ok {
		return ""
	}

	for _, name := range strings.FieldsFunc(above, func(r rune) bool { return r == '/' }) {
		if !strings.HasSuffix(name, ".slice") && !strings.HasPrefix(name, "user@") {
			return ""
		}
	}

	return l.Workload.Unit
}

// engine is the command that updates the container whose limit was hit; empty if it was
// another's, a pod's, or a container's whose runtime is itself in a container or guest.
func (f *facts) engine() string {
	l := f.limiter
	if !f.is(events.ScopeMemcg) || l.Level != events.LevelContainer || l.Workload == nil || l.Workload.Nested() || f.inPod() {
		return ""
	}

	if r := l.Workload.Runtime; r == "docker" || r == "podman" {
		return r
	}

	return ""
}

// raised is a higher limit in MiB; false if the limit is not known.
func (f *facts) raised() (mib uint64, ok bool) {
	limit := f.limiter.LimitBytes
	if limit == nil {
		return 0, false
	}

	return uint64(float64(*limit)*raisedBy)>>20 + 1, true
}

func raiseUnit(f *facts) string {
	mib, ok := f.raised()
	if unit := f.unit(); !ok || !typed.MatchString(unit) {
		return ""
	}

	user := ""
	if c := f.limiter.Cgroup; c != nil && strings.Contains(c.Path, "/user@") {
		user = " --user"
	}

	return fmt.Sprintf("If %s needs this much memory, raise its limit, such as by 30 %%: systemctl%s set-property %s MemoryMax=%dM.",
		f.unit(), user, f.unit(), mib)
}

// typed matches a name that means nothing else to a shell: somebody will paste the command.
var typed = regexp.MustCompile(`^[A-Za-z0-9@:._][A-Za-z0-9@:._-]{0,254}$`)

func raiseContainer(f *facts) string {
	const idBytes = 12 // of an id, as these commands show it

	w := f.limiter.Workload
	name := cmp.Or(w.Container, w.ContainerID[:min(idBytes, len(w.ContainerID))])

	mib, ok := f.raised()
	if !ok || !typed.MatchString(name) {
		return ""
	}

	return fmt.Sprintf("If the container needs this much memory, raise its limit, such as by 30 %%: %s update --memory %dm %s, with "+
		"--memory-swap where that is set.", f.engine(), mib, name)
}
