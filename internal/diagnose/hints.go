// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

var hintRules = []rule{
	{
		id:    "swap_absent",
		means: "Without swap, anonymous memory cannot be swapped out, so even a brief spike is fatal.",
		needs: fmt.Sprintf("memory.swap.max of the limiter is 0, or the node has no swap; "+
			"anonymous memory is at least %s of the limit or the node", phrase.Percent(reachedShare)),
		reference: `Documentation/admin-guide/cgroup-v2.rst, memory.swap.max; Kubernetes "Swap memory management"`,
		match: func(f *facts) *finding {
			c, l, n := f.charge, f.limiter, f.node
			if c == nil || c.share(c.anon) < reachedShare || value(l.OOMKillDisable) {
				return nil // where tasks wait instead, no spike is fatal
			}
			hit := &finding{confidence: possible}

			switch {
			// The second limit of cgroup v1 counts memory as well.
			case l.SwapLimitBytes != nil && *l.SwapLimitBytes == 0 && !c.node && !f.limiter.V1():
				hit.text = "The cgroup may not use swap, so even a brief spike in anonymous " +
					"memory is fatal."
				hit.brief = "the cgroup may not use swap"
				hit.evidence = []events.Evidence{item("memory.swap.max", "0", f.source(fromCounters))}
			case n.SwapTotalBytes != nil && *n.SwapTotalBytes == 0:
				hit.text = "The node has no swap, so even a brief spike in anonymous memory is fatal."
				hit.brief = "the node has no swap"
				hit.evidence = []events.Evidence{item("swap of the node", "none", f.nodeSource("/proc/meminfo"))}
			default:
				return nil
			}

			hit.evidence = append(hit.evidence, c.item("anonymous memory", c.anon))

			return hit
		},
		advice: []advice{
			{layer: cgroupLayer, text: "Keep swap off for latency-sensitive workloads. For " +
				"short, rare spikes consider limited swap (memory.swap.max, LimitedSwap), and " +
				"measure its latency."},
		},
	},
}
