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

func (b block) followed() []group {
	var groups []group
	for i := range b.inc.Followed {
		groups = append(groups, prose(phrase.Consequence(&b.inc.Followed[i])))
	}

	return groups
}
