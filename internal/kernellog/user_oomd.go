// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// oomdLine reads "oomd kill: 64.22 46.12 18.24 system.slice/a.service 2468151296
// ruleset:[r] detectorgroup:[d] killer:k v2" (src/oomd/plugins/BaseKillPlugin.cpp of oomd;
// before its rule sets: "detector:d killer:k"). Dry runs kill nobody.
func (p *parser) oomdLine(rec record, text string) bool {
	text = strings.TrimPrefix(text, "oomd kill: ")
	words := strings.Fields(text)

	at := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "ruleset:") || strings.HasPrefix(w, "detector:") })
	if at < 2 || strings.Contains(text, "killer:(dry)") {
		return false
	}
	cgroup := "/" + strings.TrimPrefix(words[at-2], "/")
	_, killer, _ := strings.Cut(text, " killer:")
	killer, _, _ = strings.Cut(killer, " ")

	reason := events.ReasonMemory
	if strings.Contains(killer, "swap") { // kill_by_swap_usage
		reason = events.ReasonSwap
	}
	inc := p.userKill(rec, "oomd", reason, cgroupVictim(cgroup), cgroupOnly...)
	inc.Killer.Comm = "oomd"

	if at >= 5 {
		addEvidence(inc, measured("memory pressure (10, 60 and 300 s)", strings.Join(words[at-5:at-2], ", "), "oomd"))
	}

	if _, group, ok := strings.Cut(text, "detectorgroup:["); ok {
		group, _, _ = strings.Cut(group, "]")
		addEvidence(inc, measured("detector group", group, "oomd"))
	}

	return true
}
