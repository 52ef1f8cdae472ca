// SPDX-License-Identifier: Apache-2.0

package record

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"
)

const (
	plainSuffix  = ".jsonl"
	packedSuffix = plainSuffix + ".zst"
	// partSuffix marks what a compression has not finished; it is no segment yet.
	partSuffix = packedSuffix + ".part"

	startLayout = "20060102T150405Z"
)

var segmentName = regexp.MustCompile(`^(([0-9]{8,18})-[0-9]{8}T[0-9]{6}Z-[0-9A-Za-z-]{1,64})(\.jsonl|\.jsonl\.zst|\.jsonl\.zst\.part)$`)

// segment is one part of a recording, in one form or, after a crash, in both.
type segment struct {
	stem          string // the name without a suffix
	seq           uint64
	plain, packed bool
	bytes         int64 // of all its forms
}

// name is the form to read: the compressed one is complete if it is there.
func (s *segment) name() string {
	if s.packed {
		return s.stem + packedSuffix
	}

	return s.stem + plainSuffix
}

var unfit = regexp.MustCompile(`[^0-9A-Za-z-]`)

// stem names a segment. The boot id comes from the kernel; what does not fit a
// file name is left out.
func stem(seq uint64, begun time.Time, bootID string) string {
	bootID = unfit.ReplaceAllString(bootID, "")
	if bootID == "" {
		bootID = "unknown"
	}

	return fmt.Sprintf("%08d-%s-%.64s", seq, begun.UTC().Format(startLayout), bootID)
}

// listing is what a directory holds.
type listing struct {
	segments []segment // in the order of writing
	parts    []string  // of compressions that did not come to an end
	refused  []string  // named as segments, but no regular files
}

// list reads a directory. Files of other names are not looked at.
func list(root *os.Root) (listing, error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return listing{}, fmt.Errorf("list %s: %w", root.Name(), err)
	}
	var l listing
	byStem := make(map[string]int)

	for _, entry := range entries {
		match := segmentName.FindStringSubmatch(entry.Name())
		if match == nil {
			continue
		}

		if !entry.Type().IsRegular() {
			l.refused = append(l.refused, entry.Name())
			continue
		}

		if match[3] == partSuffix {
			l.parts = append(l.parts, entry.Name())
			continue
		}

		info, err := entry.Info()
		if err != nil {
			continue // removed or renamed meanwhile: its other form is in the list, or it is gone
		}

		i, known := byStem[match[1]]
		if !known {
			seq, _ := strconv.ParseUint(match[2], 10, 64) // 18 digits fit
			i = len(l.segments)
			byStem[match[1]] = i
			l.segments = append(l.segments, segment{stem: match[1], seq: seq})
		}
		s := &l.segments[i]
		s.bytes += info.Size()
		s.plain = s.plain || match[3] == plainSuffix
		s.packed = s.packed || match[3] == packedSuffix
	}

	l.sort()

	return l, nil
}

func (l *listing) sort() {
	slices.SortFunc(l.segments, func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.stem, b.stem))
	})
}

// mostLists is how often a directory is read that seems to lack a segment: a reader
// beside a writer that changes segments as fast as it can needs some.
const mostLists = 8

// listTwice reads a directory that has a writer. A segment whose compressed form
// comes, and whose original goes, just while the directory is read may be in
// neither list of names; one that is made and compressed between two readings is in
// none of both. So it is read until no segment between others is missing, at least
// twice.
func listTwice(root *os.Root) (listing, error) {
	all, err := list(root)
	if err != nil {
		return listing{}, err
	}

	for tries := 1; tries < mostLists && (tries == 1 || all.gaps()); tries++ {
		next, err := list(root)
		if err != nil {
			return listing{}, err
		}
		all = next.with(all)
	}

	return all, nil
}

// with adds the segments of an earlier listing that are not in this one.
func (l listing) with(earlier listing) listing {
	listed := make(map[string]bool, len(l.segments))
	for _, s := range l.segments {
		listed[s.stem] = true
	}

	for _, s := range earlier.segments {
		if !listed[s.stem] {
			l.segments = append(l.segments, s)
		}
	}

	l.sort()

	return l
}

// gaps tells that segments between others are missing.
func (l listing) gaps() bool {
	for i, s := range l.segments {
		if i > 0 && s.seq > l.segments[i-1].seq+1 {
			return true
		}
	}

	return false
}
