// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// talosLine reads `Sending SIGKILL to cgroup {"cgroup": "/sys/fs/cgroup/..."}` and
// the line after it, `victim processes: {"processes": [12, 13]}`.
func (p *parser) talosLine(rec record, text string) bool {
	var facts struct {
		Cgroup    string
		Processes json.RawMessage
	}

	i := strings.IndexByte(text, '{')
	if i < 0 || json.Unmarshal([]byte(text[i:]), &facts) != nil {
		return false
	}

	if !strings.HasPrefix(text, "Sending") {
		r := p.earlier(rec, "talos", func(inc *events.Incident) bool { return len(inc.Killer.Evidence) == 1 })
		if r == nil {
			return false
		}

		p.more(r, rec)

		var pids []int
		if json.Unmarshal(facts.Processes, &pids) == nil && len(pids) > 0 {
			v := r.made.Victims[0]
			r.made.Victims = nil

			for _, pid := range pids[:min(len(pids), maxVictims)] {
				v.PID, v.TID = pid, pid
				r.made.Victims = append(r.made.Victims, v)
			}

			known(r.made, "victims.pid", "victims.tid")
		}

		return true
	}

	at := strings.TrimPrefix(facts.Cgroup, "/sys/fs/cgroup")
	if !strings.HasPrefix(at, "/") {
		return false
	}
	inc := p.userKill(rec, "talos", "memory_pressure", cgroupVictim(at), cgroupOnly...)
	inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "node"}

	inc.Unknown = append(slices.Clone(cgroupOnly[1:]), "limiter.limit_bytes", "limiter.usage_bytes")

	return true
}
