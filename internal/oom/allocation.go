// SPDX-License-Identifier: Apache-2.0

package oom

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// longestSite bounds each name of an allocation site.
const longestSite = 128

// AllocationSite reads the tag of an allocation site, "mm/slub.c:2305 [module] func:alloc_slab_page",
// as /proc/allocinfo and the kernel's reports have it (lib/alloc_tag.c: alloc_tag_to_text, since
// 6.10). What follows is not read.
func AllocationSite(tag string) (site events.AllocationSite, ok bool) {
	location, rest, _ := strings.Cut(tag, " ")
	file, line, found := strings.Cut(location, ":")

	if !found || file == "" || !digits(line) || len(location) > longestSite {
		return site, false
	}
	site.Location = location

	if module, after, found := strings.Cut(rest, "] "); found && strings.HasPrefix(module, "[") {
		site.Module, rest = module[1:], after
	}

	function, found := strings.CutPrefix(rest, "func:")
	site.Function, _, _ = strings.Cut(function, " ")

	return site, found && len(site.Module) <= longestSite && len(site.Function) <= longestSite
}

func digits(s string) bool {
	return s != "" && len(s) <= 9 && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}
