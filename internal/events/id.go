// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"slices"
	"strings"
)

// ShortID returns the part of an incident's id that is short enough to read and type: of a live
// trace the milliseconds since boot, of a kernel log the first digits. It allocates nothing. An id
// in another form is returned without what is before its first dash.
func ShortID(id string) string {
	const (
		nsDigits  = 6 // of a time since boot in nanoseconds, below a millisecond
		logDigits = 8 // of the 16 of a log's id
	)

	short := idTail(id)

	switch {
	case strings.HasPrefix(id, "log-") && len(short) == 2*logDigits:
		return short[:logDigits]
	case len(short) > nsDigits+3 && strings.Trim(short, "0123456789") == "":
		return short[:len(short)-nsDigits]
	}

	return short
}

// idTail returns what follows the boot of an id.
func idTail(id string) string {
	_, tail, ok := strings.Cut(id, "-")
	if !ok {
		return id
	}

	return tail
}

// MatchesID reports whether a user who gives a part of an id may mean this one: the part is the
// start of the id or of what follows the boot, as a short id is. It may match several: see IDFinder.
func MatchesID(id, given string) bool { return idRank(id, given) > 0 }

// idRank returns how well an id matches; 0: not at all.
func idRank(id, given string) int {
	switch {
	case given == "":
		return 0
	case id == given:
		return 3
	case ShortID(id) == given:
		return 2
	case strings.HasPrefix(id, given), strings.HasPrefix(idTail(id), given):
		return 1
	}

	return 0
}

// maxCandidates is how many ids the error about an ambiguous one lists.
const maxCandidates = 5

// IDFinder finds the id that a user means by a part of it. The whole id is preferred to a short id,
// and that to a prefix. The zero value finds nothing.
type IDFinder struct {
	given string
	rank  int
	found []string // with that rank, each once; at most one more than are listed
}

// NewIDFinder returns the finder of an id that was given.
func NewIDFinder(given string) *IDFinder { return &IDFinder{given: given} }

// Add takes the id of an incident.
func (f *IDFinder) Add(id string) {
	rank := idRank(id, f.given)
	if rank == 0 || rank < f.rank {
		return
	}

	if rank > f.rank {
		f.rank, f.found = rank, nil
	}

	if len(f.found) <= maxCandidates && !slices.Contains(f.found, id) {
		f.found = append(f.found, id)
	}
}

// ID returns the id that was found so far; empty: none. The error is an *AmbiguousIDError where
// several match equally well.
func (f *IDFinder) ID() (string, error) {
	switch len(f.found) {
	case 0:
		return "", nil
	case 1:
		return f.found[0], nil
	}

	listed := f.found[:min(len(f.found), maxCandidates)]

	return "", &AmbiguousIDError{Given: f.given, IDs: listed, More: len(f.found) > len(listed)}
}

// AmbiguousIDError is the error about an id that several incidents match.
type AmbiguousIDError struct {
	Given string
	IDs   []string // at most five
	More  bool     // there are others
}

func (e *AmbiguousIDError) Error() string {
	ids := fmt.Sprintf("%q", e.IDs)
	if e.More {
		ids = strings.TrimSuffix(ids, "]") + " and others]"
	}

	return fmt.Sprintf("the ID %q is ambiguous: it matches %s: use a longer prefix", e.Given, ids)
}
