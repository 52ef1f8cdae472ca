// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	// plainShare of the limit in anonymous memory leaves no doubt what filled it.
	plainShare = 0.50
	// growthSpanNS and growthRows are the least that a rate can be read from: usage
	// moves in steps, and rows come once a second.
	growthSpanNS = 2e9
	growthRows   = 3
)

// plainRules are about a limit that was simply reached.
var plainRules = []rule{
	{
		id: "own_limit", class: classPlain,
		means:     "The container, or service, used its own limit up.",
		needs:     fmt.Sprintf("scope memcg; the limiter is the victim's own cgroup, container or service, and was not lowered. Certain if anonymous memory, of the limiter or where that is not known of the victim, is at least %s of the limit", percent(plainShare)),
		reference: `Documentation/admin-guide/cgroup-v2.rst, memory.max; Kubernetes "Assign Memory Resources to Containers and Pods"`,
		match:     ownLimit,
		advice: append([]advice{
			{layer: kubernetes, text: "If this is its real need: set the limit 20 to 40 % above the 95th to 99th percentile of its peak (VPA tells it).", when: ofAPod},
			{layer: cgroupLayer, text: "Set memory.high below memory.max as an early brake, and watch high in memory.events.", when: onV2},
		}, runtimeAdvice...),
	},
	{
		id: "node_exhausted", class: classPlain,
		means:     "The node's memory was used up, and no limit of a cgroup stood in the way.",
		needs:     "scope global, and what the node's memory or the victim's was",
		reference: "Documentation/admin-guide/mm/concepts.rst, OOM killer",
		match:     nodeExhausted,
		advice: []advice{
			{layer: cgroupLayer, text: "Set a limit for what may grow without bound, so that it meets its own limit before the node's."},
			{layer: kernel, text: "Alert on PSI memory some and full over 60 s and 300 s: it comes before the kill."},
			{layer: kubernetes, text: "Raise evictionHard and evictionSoft for memory.available, so that the kubelet acts before the kernel.", when: ofAPod},
		},
	},
}

func ownLimit(f *facts) *finding {
	own, known := f.ownLimit()
	if !f.is(events.ScopeMemcg) || !known || !own {
		return nil
	}

	if _, _, lowered := f.lowered(); lowered {
		return nil // a limit that came down was not reached
	}
	hit := &finding{confidence: Likely, evidence: limitEvidence(f)}
	l := f.limiter()

	hit.text = "The victim reached its own limit"
	if f.victim == nil {
		hit.text = "The cgroup reached its own limit"
	}

	if l.LimitBytes != nil {
		hit.text += " of " + phrase.Size(*l.LimitBytes)
	}

	if strings.HasPrefix(l.Which, "memory.memsw.") {
		hit.text += " for memory and swap together"
	}

	if l.Workload != nil || l.Cgroup != nil {
		hit.text += " (" + called(l.Workload, l.Cgroup) + ")"
	}

	if c := f.charge; c == nil || c.anon == nil {
		if v := f.victim; v != nil && v.AnonRSSBytes != nil && share(*v.AnonRSSBytes, value(l.LimitBytes)) >= plainShare {
			hit.confidence = Certain
			// A process's counters are a little off those of its cgroup.
			part := percent(share(*v.AnonRSSBytes, *l.LimitBytes)) + " of"
			if *v.AnonRSSBytes >= *l.LimitBytes {
				part = "all of"
			}
			hit.text += fmt.Sprintf(": the plain memory of %s is %s it", process(&v.Process), part)
			hit.evidence = append(hit.evidence, item("anonymous memory of "+process(&v.Process), of(*v.AnonRSSBytes, *l.LimitBytes), f.source(fromKernel)))
		}
	}

	if c := f.charge; c != nil {
		hit.evidence = append(hit.evidence, c.items(part{"anonymous memory", c.anon}, part{"page cache", c.cache})...)
		if c.share(c.anon) >= plainShare {
			hit.confidence = Certain
			hit.text += fmt.Sprintf(": the plain memory of its processes is %s of it", percent(c.share(c.anon)))
		}
	}

	if rate, over, ok := f.growth(); ok {
		hit.text += fmt.Sprintf(", growing by %s a second", phrase.Size(rate))
		hit.evidence = append(hit.evidence, item("growth", fmt.Sprintf("%s a second over %s", phrase.Size(rate), phrase.Duration(over)), f.source("memory.current before the kill")))
	}
	hit.text += "."

	return hit
}

// growth is the bytes a second by which the limiter's usage rose before the kill,
// and over what time that was seen.
func (f *facts) growth() (rate, overNS uint64, ok bool) {
	var rows []events.StallSecond

	for _, s := range f.before().Timeline {
		if s.UsageBytes != nil {
			rows = append(rows, s)
		}
	}

	if len(rows) < growthRows {
		return 0, 0, false
	}
	first, last := rows[0], rows[len(rows)-1]

	span := less(first.BeforeNS, last.BeforeNS)
	if span < growthSpanNS || *last.UsageBytes <= *first.UsageBytes {
		return 0, 0, false
	}

	return uint64(float64(*last.UsageBytes-*first.UsageBytes) / (float64(span) / 1e9)), span, true
}

func nodeExhausted(f *facts) *finding {
	n, size := f.node(), f.victimSize()
	if !f.is(events.ScopeGlobal) || n.TotalBytes == nil && size == 0 {
		return nil
	}
	hit := &finding{text: "The node's memory was used up", confidence: Certain}

	if n.TotalBytes != nil {
		whole := *n.TotalBytes
		for _, p := range []part{{"free", n.FreeBytes}, {"anonymous memory", n.AnonBytes}, {"page cache and tmpfs", n.FileBytes}} {
			if p.bytes != nil {
				hit.evidence = append(hit.evidence, item(p.what, of(*p.bytes, whole), f.nodeSource("/proc/meminfo")))
			}
		}

		if n.AnonBytes != nil && n.AfterNS == nil {
			hit.text += ": anonymous memory is " + within(*n.AnonBytes, whole, "it")
		}
	}

	if size > 0 {
		hit.text += fmt.Sprintf("; the victim %s had %s", process(&f.victim.Process), phrase.Size(size))
		hit.evidence = append(hit.evidence, item("memory of the victim", phrase.Size(size), f.source(fromKernel)))
	}

	if z := f.shortZone(); z != nil {
		hit.evidence = append(hit.evidence, item(fmt.Sprintf("zone %s of NUMA node %d", clip(z.Zone), z.Node),
			fmt.Sprintf("free %s, min watermark %s", phrase.Size(*z.FreeBytes), phrase.Size(*z.MinBytes)), f.nodeSource("/proc/zoneinfo")))
	}
	hit.text += "."

	return hit
}

// shortZone is the largest zone whose free memory is below its min watermark.
func (f *facts) shortZone() *events.Zone {
	var short *events.Zone

	zones := f.node().Zones
	for i := range zones {
		z := &zones[i]
		if z.FreeBytes == nil || z.MinBytes == nil || *z.FreeBytes >= *z.MinBytes {
			continue
		}

		if short == nil || value(z.ManagedBytes) > value(short.ManagedBytes) {
			short = z
		}
	}

	return short
}

// language is a runtime that is known by the names of its processes.
type language struct {
	name  string
	comms []string
	// heap is what bounds its heap; empty: nothing does.
	heap   string
	advice []advice
}

var languages = []language{
	{
		name: "java", comms: []string{"java", "javac", "jsvc"}, heap: "-Xmx, a quarter of the limit by default",
		advice: []advice{
			{layer: application, text: "JVM: set -Xmx and -XX:MaxDirectMemorySize so that both, with metaspace, code cache and thread stacks, fit; Native Memory Tracking (jcmd VM.native_memory) tells what is what."},
		},
	},
	{
		name: "node", comms: []string{"node", "nodejs"}, heap: "--max-old-space-size",
		advice: []advice{
			{layer: application, text: "Node.js: set --max-old-space-size below the limit; Buffers and native addons come on top of it."},
		},
	},
	{
		name: "dotnet", comms: []string{"dotnet"}, heap: "GCHeapHardLimit, three quarters of the limit by default",
		advice: []advice{
			{layer: application, text: ".NET: set DOTNET_GCHeapHardLimitPercent so that native memory and thread stacks fit beside the heap."},
		},
	},
	{
		name: "python", comms: []string{"python", "python2", "python3", "gunicorn", "uwsgi", "celery"},
		advice: []advice{
			{layer: application, text: "Python: bound the number of workers and recycle them (max-requests); look for memory of C extensions, which tracemalloc does not see."},
		},
	},
}

// runtime is the language of the victim, nil if it is not known by its name. Go
// programs are not: theirs is any.
func (f *facts) runtime() *language {
	if f.victim == nil {
		return nil
	}

	return languageOf(f.victim.Comm)
}

func languageOf(comm string) *language {
	for i := range languages {
		if slices.Contains(languages[i].comms, comm) {
			return &languages[i]
		}
	}

	if strings.HasPrefix(comm, "python3.") { // python3.12
		return languageOf("python3")
	}

	return nil
}

// runtimeAdvice is that of the victim's runtime.
var runtimeAdvice = func() []advice {
	var all []advice

	for i := range languages {
		l := &languages[i]
		for _, a := range l.advice {
			a.when = &condition{l.name, func(f *facts) bool { return f.runtime() == l }}
			all = append(all, a)
		}
	}

	return append(all, advice{
		layer: application, text: "Profile what grows: the heap profile of its runtime; for a Go program set GOMEMLIMIT below the limit and use pprof.",
		when: &condition{"no runtime that is known by its name", func(f *facts) bool { return f.runtime() == nil }},
	})
}()
