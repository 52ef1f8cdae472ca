// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/kubelet"
	"github.com/oomtrace/oomtrace/internal/sigkill"
)

// senders looks up the senders of SIGKILLs while Run continues. It implements
// incident.Killers.
type senders struct {
	hasKubelet bool // or a log of one
	collector  *sigkill.Collector
	log        *kubelet.Follower // nil: no kubelet, or its log cannot be read
}

// start starts the look-ups, unless SIGKILLs from user space do not become incidents.
func (s *senders) start(t *Tracer) {
	if t.opts.UserKills == incident.UserKillsNone {
		return
	}

	opts := t.opts.Senders

	if s.hasKubelet {
		var err error
		if s.log, err = kubelet.Follow(t.opts.KubeletLog, t.opts.HostRoot, t.opts.Warn); err != nil {
			t.opts.Warn(err.Error())
		} else {
			opts.Kubelet = podLog{s.log, t.clock}
		}
	}

	if opts.Cgroups == "" && t.layout.MemoryVersion == 2 && t.layout.MountRoot == "/" {
		opts.Cgroups = t.layout.MemoryMount
	}
	s.collector = sigkill.NewCollector(opts)
}

func (s *senders) stop() {
	if s.collector != nil {
		s.collector.Close()
	}

	if s.log != nil {
		s.log.Close()
	}
}

// Saw starts to look up the sender of a SIGKILL, which may exit soon.
func (s *senders) Saw(k kernel.Kill, from, to events.Process) { s.collector.Saw(k, from, to) }

// Killer returns the sender of a SIGKILL, as far as it is known by now.
func (s *senders) Killer(k kernel.Kill, from, to events.Process) *events.Killer {
	return s.collector.Killer(k, from, to)
}

// podLog finds lines of the kubelet's log for the look-ups.
type podLog struct {
	log   *kubelet.Follower
	clock *host.BootClock
}

func (p podLog) About(w *events.Workload, bootNS uint64) []kubelet.Finding {
	return p.log.About(w, p.clock.Time(bootNS))
}
