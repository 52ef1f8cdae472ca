// SPDX-License-Identifier: Apache-2.0

package view

import "slices"

// difference is what after has and before does not: whole sections, but of notes, sources
// and the runtime's report only the new lines, and of victims only the new facts.
func difference(before, after []section) []section {
	var news []section

	for _, sec := range after {
		var old section
		if i := slices.IndexFunc(before, func(s section) bool { return s.label == sec.label }); i >= 0 {
			old = before[i]
		}

		switch {
		case slices.EqualFunc(old.groups, sec.groups, group.equal):
		case sec.label == "victims":
			news = append(news, victimNews(old.groups, sec.groups)...)
		case sec.label == "notes" || sec.label == "source" || sec.label == "runtime":
			news = append(news, section{label: sec.label, groups: without(sec.groups, old.groups)})
		default:
			news = append(news, sec)
		}
	}

	return news
}

// without leaves out the groups that are in old.
func without(groups, old []group) []group {
	return slices.DeleteFunc(slices.Clone(groups), func(g group) bool {
		return slices.ContainsFunc(old, g.equal)
	})
}

// victimNews has the victims that were not shown before, and what became known of those
// that were.
func victimNews(before, after []group) []section {
	added, then := section{label: "victims"}, section{label: "exit"}

	for _, g := range after {
		i := slices.IndexFunc(before, func(old group) bool { return old.key == g.key })
		if i < 0 {
			added.groups = append(added.groups, g)
			continue
		}

		if news := groupNews(before[i], g); len(news) > 0 {
			then.groups = append(then.groups, list(news...))
		}
	}

	return slices.DeleteFunc([]section{added, then}, func(s section) bool { return len(s.groups) == 0 })
}

// groupNews has the items of after that before does not have, and in front of them what
// they are about.
func groupNews(before, after group) []string {
	news := slices.DeleteFunc(slices.Clone(after.items), func(item string) bool { return slices.Contains(before.items, item) })

	switch {
	case len(news) == 0 || news[0] == after.items[0]: // the first item names its subject
		return news
	case after.title != "":
		news[0] = after.title + " " + news[0]
		return news
	}

	return append([]string{after.items[0]}, news...)
}
