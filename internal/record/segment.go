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
	plainSuffix      = ".jsonl"
	compressedSuffix = plainSuffix + ".zst"
	// partSuffix marks an unfinished compression, which is not a segment yet.
	partSuffix = compressedSuffix + ".part"

	startLayout = "20060102T150405Z"
)

var segmentName = regexp.MustCompile(`^(([0-9]{8,18})-[0-9]{8}T[0-9]{6}Z-[0-9A-Za-z-]{1,64})(\.jsonl|\.jsonl\.zst|\.jsonl\.zst\.part)$`)

// segment is one file of a recording: plain, compressed or, after a crash, both.
type segment struct {
	stem              string // the name without a suffix
	seq               uint64
	plain, compressed bool
	bytes             int64 // of both forms
}

// name returns the file to read. A compressed file is complete if it exists.
func (s *segment) name() string {
	if s.compressed {
		return s.stem + compressedSuffix
	}

	return s.stem + plainSuffix
}

var notInNames = regexp.MustCompile(`[^0-9A-Za-z-]`)

// stem returns the name of a segment without its suffix. Characters of the boot id that
// do not belong into a file name are dropped.
func stem(seq uint64, started time.Time, bootID string) string {
	bootID = notInNames.ReplaceAllString(bootID, "")
	if bootID == "" {
		bootID = "unknown"
	}

	return fmt.Sprintf("%08d-%s-%.64s", seq, started.UTC().Format(startLayout), bootID)
}

// listing has the files of a directory.
type listing struct {
	segments []segment // in the order of writing
	parts    []string  // of unfinished compressions
	refused  []string  // named as segments, but not regular files
}

// list lists a directory, and ignores files with other names.
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
			continue // removed or renamed meanwhile
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
		s.compressed = s.compressed || match[3] == compressedSuffix
	}

	l.sort()

	return l, nil
}

func (l *listing) sort() {
	slices.SortFunc(l.segments, func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.stem, b.stem))
	})
}

// maxListings bounds how often a directory is listed that seems to lack a segment. While
// a writer finishes segments as fast as it can, several listings are needed.
const maxListings = 8

// listStable lists a directory that may have a writer. A segment that is replaced by its
// compressed form while the directory is read may be listed in neither form, and one that
// is started and compressed between two listings is in none of them. So the directory is
// listed at least twice, until no segment between others is missing.
func listStable(root *os.Root) (listing, error) {
	all, err := list(root)
	if err != nil {
		return listing{}, err
	}

	for n := 1; n < maxListings && (n == 1 || all.hasGaps()); n++ {
		next, err := list(root)
		if err != nil {
			return listing{}, err
		}
		all = next.merge(all)
	}

	return all, nil
}

// merge adds the segments of an earlier listing that are not in l.
func (l listing) merge(earlier listing) listing {
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

// hasGaps reports whether segments between others are missing.
func (l listing) hasGaps() bool {
	for i, s := range l.segments {
		if i > 0 && s.seq > l.segments[i-1].seq+1 {
			return true
		}
	}

	return false
}
