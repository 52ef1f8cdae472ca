// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/usage"
)

// nearestLimits adds the cgroups with the least room below their own limits. Of a cgroup
// whose ancestor has less room, only the ancestor is listed: its limit is hit first.
func (o Options) nearestLimits(i *events.Inspection) {
	if o.Reader.Layout.MemoryMount == "" {
		i.Unknown = append(i.Unknown, "nearest_limits")
		return
	}

	sampler := usage.New(usage.Options{Layout: o.Reader.Layout, Root: o.Reader.Root, Place: o.Reader.Place})
	defer sampler.Close()

	all := sampler.Snapshot(i.Time, nil)
	i.NearestLimitsUnread = all.LeftOut

	var near []events.NearLimit

	for n := range all.Cgroups {
		c := &all.Cgroups[n]

		switch {
		case c.UsedBytes.Known && !c.LimitBytes.Known:
			i.NearestLimitsUnread++
		case c.Limiter == n:
			near = append(near, events.NearLimit{
				Cgroup: o.Reader.Cgroup(c.Path), Level: c.Level, Workload: c.Workload,
				UsageBytes: c.UsedBytes.V, LimitBytes: c.LimitBytes.V, HeadroomBytes: c.HeadroomBytes,
			})
		}
	}

	slices.SortFunc(near, func(a, b events.NearLimit) int {
		return cmp.Or(cmp.Compare(a.HeadroomBytes, b.HeadroomBytes), cmp.Compare(a.Cgroup.Path, b.Cgroup.Path))
	})

	i.NearestLimits = near[:min(len(near), o.Most)]
	i.NearestLimitsLeftOut = len(near) - len(i.NearestLimits)
}
