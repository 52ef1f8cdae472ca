// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/phrase"
)

// follows is the kill that this one followed from.
func (b block) follows() group {
	f := b.inc.Follows
	if f == nil {
		return list()
	}

	items := []string{strings.TrimPrefix(phrase.Following(f), "followed ")}
	if f.TermAfterNS != nil {
		items = append(items, "SIGTERM "+phrase.Duration(*f.TermAfterNS)+" after that")
	}

	if f.ID != "" {
		items = append(items, "incident "+f.ID)
	}

	return list(items...)
}

// narrowFollowed is how much of what followed a narrow block shows.
const narrowFollowed = 6

func (b block) followed() []group {
	all := b.inc.Followed
	shown := b.shown(len(all), narrowFollowed)
	var groups []group

	for i := range all[:shown] {
		groups = append(groups, prose(phrase.Consequence(&all[i])))
	}

	return append(groups, more(len(all)-shown, "event"))
}
