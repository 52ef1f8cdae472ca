// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

func outsideContainers(f *facts) *finding {
	n := f.node
	if !f.is(events.ScopeGlobal) {
		return nil
	}

	total := cmp.Or(n.TotalBytes, f.limiter.LimitBytes)
	if total == nil || *total == 0 {
		return nil
	}

	hit := f.hostUsage(*total)
	hog, size := f.hostHog()

	if hit.text == "" {
		if hog == nil || share(size, *total) < hogShare {
			return nil
		}
		hit.weight = share(size, *total)
		hit.text = fmt.Sprintf("%s, running outside any container, used %s",
			process(hog), phrase.PartOf(size, *total, "the node's memory"))
		hit.brief = clip(process(hog)) + ", in no container, used " + phrase.ShareOf(size, *total, f.whole())
	}

	hit.confidence = likely
	if hit.weight >= outsideMajor {
		hit.confidence = certain
	}
	hit.text += f.blame(hit, hog, size, *total) + "."

	return hit
}

// hostUsage is what the node uses outside of kubepods. Its text is empty where that is not
// known, or not much.
func (f *facts) hostUsage(total uint64) *finding {
	hit := &finding{}

	pods, idle := f.kubepods(), cmp.Or(f.node.AvailableBytes, f.node.FreeBytes)
	if pods == nil || pods.UsageBytes == nil || idle == nil {
		return hit
	}
	outside := less(total, *idle+*pods.UsageBytes)

	hit.weight = share(outside, total)
	if hit.weight < outsideShare {
		return hit
	}

	hit.text = fmt.Sprintf("Memory outside pods filled the node: %s, while all pods together used %s",
		phrase.PartOf(outside, total, "it"), phrase.Size(*pods.UsageBytes))
	hit.brief = phrase.ShareOf(outside, total, f.whole()) + " was used outside pods"
	hit.add("used outside pods", phrase.Part(outside, total),
		f.nodeSource("/proc/meminfo and memory.current of kubepods"))
	hit.add("used by all pods", phrase.Part(*pods.UsageBytes, total), f.nodeSource("memory.current of kubepods"))

	return hit
}

// blame adds the largest users of the memory outside of containers to the evidence, and
// names those with a substantial part of it.
func (f *facts) blame(hit *finding, hog *events.Process, size, total uint64) string {
	outside := uint64(hit.weight * float64(total))
	byHog := len(hit.evidence) == 0 // then the text has the process already
	var most []string

	name := func(what string, bytes uint64) {
		if !byHog && share(bytes, outside) >= blameShare {
			most = append(most, what+" with "+phrase.Size(bytes))
		}
	}
	if hog != nil {
		name(process(hog), size)
		hit.add("largest process outside of containers",
			process(hog)+" "+phrase.Part(size, total), f.source("memory of the processes"))
	}

	if c := f.hostCgroup(); c != nil {
		name(phrase.Cgroup(c.Level, c.Workload, &c.Cgroup), *c.UsageBytes)
		hit.add("largest cgroup outside pods",
			phrase.Cgroup(c.Level, c.Workload, &c.Cgroup)+" "+phrase.Part(*c.UsageBytes, total), f.nodeSource("memory.current"))
	}

	n := f.node
	if slab := oom.Sum(n.SlabUnreclaimable, n.SlabReclaimable); slab != nil {
		name("the kernel's slab", *slab)

		hit.add("slab", phrase.Part(*slab, total), f.nodeSource("/proc/meminfo"))

		if len(n.Slabs) > 0 {
			hit.add("largest slab cache", phrase.ClipName(n.Slabs[0].Name)+" "+phrase.Size(n.Slabs[0].Bytes),
				f.nodeSource("/proc/slabinfo"))
		}
	}

	switch {
	case byHog:
		return ""
	case len(most) == 0:
		return ". No known process, cgroup or slab accounts for it"
	}

	return ". Largest users: " + strings.Join(most, ", ")
}

// hostHog is the largest process that is known to run outside of containers.
func (f *facts) hostHog() (*events.Process, uint64) {
	var hog *events.Process
	var most uint64
	try := func(p *events.Process, size uint64) {
		if onHost(p) && size > most {
			hog, most = p, size
		}
	}

	for i := range f.victims {
		v := &f.victims[i]
		try(&v.Process, residentSize(v))
	}

	for i := range f.candidates {
		try(&f.candidates[i].Process, candidateSize(&f.candidates[i]))
	}

	return hog, most
}

// onHost reports whether a process is known to run outside pods and containers.
func onHost(p *events.Process) bool {
	if p.Cgroup == nil || p.Cgroup.Path == "" || inContainer(p) || p.Workload.Nested() {
		return false
	}

	return !strings.Contains(p.Cgroup.Path, "kubepods") && !containerIDs.MatchString(p.Cgroup.Path)
}

// hostCgroup is the largest cgroup outside pods, or one below it that has at least half
// of its memory.
func (f *facts) hostCgroup() *events.Share {
	list := f.node.Cgroups
	host := func(s events.Share) bool {
		switch s.Level {
		case events.LevelKubepods, events.LevelQoS, events.LevelPod, events.LevelContainer, events.LevelNode:
			return false
		}

		return s.UsageBytes != nil && s.Cgroup.Path != "/" && !strings.Contains(s.Cgroup.Path, "kubepods")
	}

	var top *events.Share
	for i := range list {
		if host(list[i]) && (top == nil || *list[i].UsageBytes > *top.UsageBytes) {
			top = &list[i]
		}
	}

	if top == nil {
		return nil
	}

	if i := slices.IndexFunc(list, func(s events.Share) bool {
		return host(s) && strings.HasPrefix(s.Cgroup.Path, top.Cgroup.Path+"/") && *s.UsageBytes*2 >= *top.UsageBytes
	}); i >= 0 {
		return &list[i]
	}

	return top
}
