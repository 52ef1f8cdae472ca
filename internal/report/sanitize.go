// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// maxTextBytes is how much of one text HTML shows. The JSON has all of it.
const maxTextBytes = 400

// sanitize makes every text of an incident safe for HTML, in place: runes that could hide
// or change their surroundings become visible escapes, and very long texts are cut, with
// a note.
func sanitize(inc *events.Incident) {
	*inc = events.MapTexts(*inc, func(text string) string { return limitText(phrase.Sanitize(text)) })
}

func limitText(s string) string {
	if len(s) <= maxTextBytes {
		return s
	}

	at := maxTextBytes
	for !utf8.RuneStart(s[at]) {
		at--
	}

	return fmt.Sprintf("%s… (%d bytes more in the JSON)", s[:at], len(s)-at)
}
