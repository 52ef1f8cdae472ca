// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/kubelet"
	"github.com/oomtrace/oomtrace/internal/sigkill"
)

// senders looks up the senders of SIGKILLs while Run continues. It implements
// incident.Killers.
type senders struct {
	collector *sigkill.Collector
	log       *kubelet.Follower // nil: no kubelet, or its log cannot be read
}

// sendersOptions configure the look-ups.
type sendersOptions struct {
	lookUp     sigkill.Options // Cgroups may be empty: the layout has them
	hasKubelet bool            // or a log of one
	kubeletLog string          // as Options.KubeletLog
	hostRoot   string
	layout     host.Layout
	clock      *host.BootClock
	warn       func(text string)
	// processesHidden is true if /proc is that of another PID namespace.
	processesHidden bool
}

// start starts the look-ups.
func (s *senders) start(o sendersOptions) {
	if o.hasKubelet {
		var err error
		if s.log, err = kubelet.Follow(o.kubeletLog, o.hostRoot, o.warn); err != nil {
			o.warn(err.Error())
		} else {
			o.lookUp.Kubelet = podLog{s.log, o.clock}
		}
	}

	if o.lookUp.Cgroups == "" && o.layout.MemoryVersion == 2 && o.layout.MountRoot == "/" {
		o.lookUp.Cgroups = o.layout.MemoryMount
	}
	o.lookUp.ProcessesHidden = o.processesHidden
	s.collector = sigkill.NewCollector(o.lookUp)
}

// stop ends the look-ups, if they were started.
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
