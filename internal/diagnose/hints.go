// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// runtimeShare of the limit in one process whose runtime bounds its heap: above what a
// heap is usually given.
const runtimeShare = 0.80

var hintRules = []rule{
	{
		id: "runtime_uncounted",
		means: "The victim's language runtime limits its heap, and the process used more than " +
			"a heap is usually given: direct buffers, JIT code, native libraries, thread stacks.",
		needs: fmt.Sprintf("victim java, node or dotnet, with anonymous memory of at least %s of the limit",
			phrase.Percent(runtimeShare)),
		reference: "java(1), -XX:NativeMemoryTracking",
		match:     runtimeUncounted,
		advice:    runtimeAdvice[:len(runtimeAdvice)-1],
	},
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
				hit.evidence = []events.Evidence{item("memory.swap.max", "0", f.source(fromCounters))}
			case n.SwapTotalBytes != nil && *n.SwapTotalBytes == 0:
				hit.text = "The node has no swap, so even a brief spike in anonymous memory is fatal."
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

func runtimeUncounted(f *facts) *finding {
	lang := f.runtime()
	if lang == nil || lang.heap == "" || !f.is(events.ScopeMemcg) || f.victim.AnonRSSBytes == nil {
		return nil
	}

	whole := value(f.limiter.LimitBytes)
	if share(*f.victim.AnonRSSBytes, whole) < runtimeShare {
		return nil
	}

	hit := &finding{
		text: fmt.Sprintf("%s had %s in anonymous memory, more than a heap is usually given. "+
			"Part of it may be memory that the %s runtime does not count towards the heap.",
			process(&f.victim.Process), phrase.PartOf(*f.victim.AnonRSSBytes, whole, f.limit()), lang.name),
		confidence: possible,
		evidence: []events.Evidence{
			item("anonymous memory of "+process(&f.victim.Process), phrase.Part(*f.victim.AnonRSSBytes, whole), f.source(fromKernel)),
			item("heap limit", lang.heap, "the runtime's documentation"),
		},
	}
	if t := f.trigger; t != nil && t.PID == f.victim.PID && strings.Contains(cmp.Or(t.Thread, t.Comm), "Compiler") {
		hit.add("thread whose allocation failed", phrase.ClipName(t.Thread)+", the JIT compiler", f.source(fromKernel))
	}

	return hit
}
