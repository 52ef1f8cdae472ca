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
		means: "The victim's runtime bounds its heap, and the process had more than heaps are given: direct " +
			"buffers, JIT, native libraries, stacks.",
		needs: fmt.Sprintf("victim java, node or dotnet, with anonymous memory of at least %s of the limit",
			phrase.Percent(runtimeShare)),
		reference: "java(1), -XX:NativeMemoryTracking",
		match:     runtimeUncounted,
		advice:    runtimeAdvice[:len(runtimeAdvice)-1],
	},
	{
		id:    "swap_absent",
		means: "There is no swap: anonymous memory can go nowhere, and a short peak is a kill.",
		needs: fmt.Sprintf("memory.swap.max of the limiter is 0, or the node has no swap; anonymous memory at "+
			"least %s of the limit or the node", phrase.Percent(reachedShare)),
		reference: `Documentation/admin-guide/cgroup-v2.rst, memory.swap.max; Kubernetes "Swap memory management"`,
		match: func(f *facts) *finding {
			c, l, n := f.charge, f.limiter, f.node
			if c == nil || c.share(c.anon) < reachedShare {
				return nil
			}
			hit := &finding{confidence: Possible}

			switch {
			// The second limit of cgroup v1 counts memory as well.
			case l.SwapLimitBytes != nil && *l.SwapLimitBytes == 0 && !c.node && !f.v1():
				hit.text = "It may not use swap: a short peak of anonymous memory is a kill."
				hit.evidence = []events.Evidence{item("memory.swap.max", "0", f.source(fromCounters))}
			case n.SwapTotalBytes != nil && *n.SwapTotalBytes == 0:
				hit.text = "The node has no swap: a short peak of anonymous memory is a kill."
				hit.evidence = []events.Evidence{item("swap of the node", "none", f.nodeSource("/proc/meminfo"))}
			default:
				return nil
			}

			hit.evidence = append(hit.evidence, c.item("anonymous memory", c.anon))

			return hit
		},
		advice: []advice{
			{layer: cgroupLayer, text: "Off is a good choice for latency. Where a peak is short and rare, bounded " +
				"swap (memory.swap.max, LimitedSwap) with its latency measured is another."},
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
		text: fmt.Sprintf("%s had %s in anonymous memory, more than a heap is usually given: memory that the %s "+
			"runtime does not count may be part of it.",
			process(&f.victim.Process), phrase.PartOf(*f.victim.AnonRSSBytes, whole, f.limit()), lang.name),
		confidence: Possible,
		evidence: []events.Evidence{
			item("anonymous memory of "+process(&f.victim.Process), phrase.Part(*f.victim.AnonRSSBytes, whole), f.source(fromKernel)),
			item("what bounds the heap", lang.heap, "the runtime's documentation"),
		},
	}
	if t := f.trigger; t != nil && t.PID == f.victim.PID && strings.Contains(cmp.Or(t.Thread, t.Comm), "Compiler") {
		hit.add("thread whose allocation failed", phrase.ClipName(t.Thread)+", the JIT compiler", f.source(fromKernel))
	}

	return hit
}
