// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
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

// unit is the systemd unit whose limit was hit; empty if it was another's.
func (f *facts) unit() string {
	l := f.limiter
	if !f.is(events.ScopeMemcg) || l.Level != events.LevelService || l.Workload == nil {
		return ""
	}

	return l.Workload.Unit
}

// engine is the command that updates the container whose limit was hit; empty if it was
// another's, or a pod's.
func (f *facts) engine() string {
	l := f.limiter
	if !f.is(events.ScopeMemcg) || l.Level != events.LevelContainer || l.Workload == nil || f.inPod() {
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
	if !ok {
		return ""
	}

	user := ""
	if c := f.limiter.Cgroup; c != nil && strings.Contains(c.Path, "/user@") {
		user = " --user"
	}

	return fmt.Sprintf("If %s needs this much memory, raise its limit, such as by 30 %%: systemctl%s set-property %s MemoryMax=%dM.",
		phrase.ClipName(f.unit()), user, phrase.ClipName(f.unit()), mib)
}

func raiseContainer(f *facts) string {
	mib, ok := f.raised()
	if !ok {
		return ""
	}

	name := f.limiter.Workload.Container
	if name == "" {
		name = f.limiter.Workload.ContainerID[:min(12, len(f.limiter.Workload.ContainerID))]
	}

	return fmt.Sprintf("If the container needs this much memory, raise its limit, such as by 30 %%: %s update --memory %dm %s, with "+
		"--memory-swap where that is set.", f.engine(), mib, phrase.ClipName(name))
}
