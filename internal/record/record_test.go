// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

const testBoot = "5f0c2c1e-8e0e-4b57-9b1f-3c8f0a4d2e61"

func testTime(n int) time.Time {
	return time.Date(2026, 8, 20, 14, 3, 7, 0, time.UTC).Add(time.Duration(n) * time.Second)
}

// incidentLine returns the line of an incident n seconds after the first.
func incidentLine(t testing.TB, id string, n int) []byte {
	return marshal(t, &events.Incident{
		Envelope: events.Envelope{V: 1, Kind: events.KindIncident, Time: testTime(n), BootID: testBoot, Node: "n"},
		ID:       id, Outcome: events.OutcomeKilled,
		Victims: []events.Victim{{Process: events.Process{PID: n, Comm: "java"}}},
	})
}

func updateLine(t testing.TB, id string, n int, note string) []byte {
	return marshal(t, &events.Incident{
		Envelope: events.Envelope{
			V: 1, Kind: events.KindIncidentUpdate, Time: testTime(n), BootID: testBoot, Node: "n",
		},
		ID: id, Notes: []string{note},
	})
}

func marshal(t testing.TB, v events.Line) []byte {
	line, err := events.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}

	return line
}

// create opens a writer whose warnings go to the test's log.
func create(t testing.TB, dir string, opts Options) *Writer {
	t.Helper()

	if opts.Warn == nil {
		opts.Warn = func(text string) { t.Log(text) }
	}

	w, err := Create(dir, opts)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { w.Close() })

	return w
}

// readAll returns the selected lines of a recording.
func readAll(t testing.TB, path string, s Selection) ([]string, Stats) {
	t.Helper()

	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	r.Select(s)
	var lines []string

	for l, err := range r.Lines() {
		if err != nil {
			t.Fatal(err)
		}

		lines = append(lines, string(l.Raw))
	}

	return lines, r.Stats()
}

func trimmed(lines ...[]byte) []string {
	var all []string
	for _, l := range lines {
		all = append(all, strings.TrimSuffix(string(l), "\n"))
	}

	return all
}

func names(t testing.TB, dir string) []string {
	t.Helper()

	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string

	for _, e := range entries {
		if e.Name() != lockName {
			all = append(all, e.Name())
		}
	}

	return all
}

func segmentFile(seq int, suffix string) string {
	return stem(uint64(seq), testTime(seq), testBoot) + suffix
}

func writeFile(t testing.TB, dir, name string, content []byte) {
	t.Helper()

	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func compressed(t testing.TB, content []byte) []byte {
	t.Helper()

	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()

	return enc.EncodeAll(content, nil)
}

// waitFor waits until a goroutine of the writer has done its work.
func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()

	for range 1000 {
		if done() {
			return
		}

		time.Sleep(10 * time.Millisecond)
	}

	t.Fatalf("got no end of waiting within 10 s, want: %s", what)
}

func TestLinesAreReadAsWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	w := create(t, dir, Options{BootID: testBoot, Node: "n"})

	want := [][]byte{incidentLine(t, "a", 1), updateLine(t, "a", 2, "x"), incidentLine(t, "b", 3)}
	for i, line := range want {
		w.Append(line, i != 1)
	}

	if got, stats := readAll(t, dir, Selection{}); !slices.Equal(got, trimmed(want...)) ||
		stats.Torn+stats.Damaged != 0 {
		t.Errorf("got %q, %+v while the writer is open, want %q", got, stats, trimmed(want...))
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	got, stats := readAll(t, dir, Selection{})
	if !slices.Equal(got, trimmed(want...)) || stats.Lines != 3 || stats.Segments != 1 || len(stats.Warnings()) != 0 {
		t.Errorf("got %q, %+v, warnings %q, want %q in one segment", got, stats, stats.Warnings(), trimmed(want...))
	}

	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("got mode %v of %s, error %v, want 0700", info.Mode(), dir, err)
	}

	for _, name := range append(names(t, dir), lockName) {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got mode %v of %s, error %v, want 0600", info.Mode(), name, err)
		}
	}
}

// All lines before the incident are on disk with it, also those in earlier segments.
func TestIncidentsAreOnDiskWhenAppendReturns(t *testing.T) {
	w := create(t, t.TempDir(), Options{SegmentBytes: 1000})
	for i := range 40 {
		w.Append(updateLine(t, "a", i, "x"), false)

		if i%4 == 3 {
			w.Append(incidentLine(t, fmt.Sprint(i), i), true)
			w.mu.Lock()
			if w.open.synced != w.open.written {
				t.Errorf("got %d lines synced, want all %d", w.open.synced, w.open.written)
			}
			w.mu.Unlock()
		}
	}
}

func TestOtherLinesAreOnDiskWithinASecond(t *testing.T) {
	testenv.Slow(t, "waits for the writer's timer")

	w := create(t, t.TempDir(), Options{})
	w.Append(updateLine(t, "a", 1, "last"), false)
	waitFor(t, "a line is synced without an incident", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()

		return w.open.synced == w.open.written
	})
}

func TestFinishedSegmentsAreCompressed(t *testing.T) {
	dir := t.TempDir()
	w := create(t, dir, Options{SegmentBytes: 4 << 10, BootID: testBoot})
	var want []string

	for i := range 200 {
		line := incidentLine(t, fmt.Sprint(i), i)
		want = append(want, trimmed(line)...)
		w.Append(line, false)
	}

	waitFor(t, "all segments but the open one are compressed", func() bool {
		plain := slices.DeleteFunc(names(t, dir), func(n string) bool { return strings.HasSuffix(n, compressedSuffix) })
		return len(plain) == 1
	})

	got, stats := readAll(t, dir, Selection{})
	if !slices.Equal(got, want) || len(stats.Warnings()) != 0 || stats.Segments < 5 {
		t.Errorf("got %d lines, %+v, want %d in 5 segments or more", len(got), stats, len(want))
	}

	for _, name := range names(t, dir) {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got mode %v of %s, error %v, want 0600", info.Mode(), name, err)
		}

		if !strings.Contains(name, testBoot) {
			t.Errorf("got name %s, want the boot id in it", name)
		}
	}
}

func TestOldSegmentsAreFinished(t *testing.T) {
	testenv.Slow(t, "waits for the writer's timer")

	dir := t.TempDir()
	w := create(t, dir, Options{SegmentAge: 10 * time.Millisecond})
	w.Append(incidentLine(t, "a", 1), true)
	time.Sleep(20 * time.Millisecond)
	w.Append(incidentLine(t, "b", 2), true)
	waitFor(t, "an old segment is finished without another line", func() bool {
		n := names(t, dir)
		return len(n) == 2 && strings.HasSuffix(n[0], compressedSuffix) && strings.HasSuffix(n[1], compressedSuffix)
	})

	if got, _ := readAll(t, dir, Selection{}); len(got) != 2 {
		t.Errorf("got %q, want two lines", got)
	}
}

// The writer and the reader both warn about removed segments.
func TestOldestSegmentsAreRemoved(t *testing.T) {
	testenv.Slow(t, "waits for compression")

	dir := t.TempDir()
	warnings := make(chan string, 1000)
	warn := func(text string) { warnings <- text }
	w := create(t, dir, Options{SegmentBytes: 4 << 10, TotalBytes: 12 << 10, Warn: warn})

	noise := make([]byte, 1500)
	for i := range 200 {
		for j := range noise { // must not compress
			noise[j] = 'a' + byte((i*7919+j*j*31+j*i)%26)
		}

		w.Append(updateLine(t, fmt.Sprint(i), i, string(noise)), false)

		if i%20 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	size := func() (total int64) {
		for _, name := range names(t, dir) {
			if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
				total += info.Size()
			}
		}

		return total
	}

	waitFor(t, "the total size is bounded", func() bool { return size() <= 12<<10 })

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	lines, stats := readAll(t, dir, Selection{})
	if !strings.Contains(<-warnings, "removed the oldest segments") || stats.Earlier == 0 ||
		!strings.Contains(strings.Join(stats.Warnings(), " "), "earlier segments") {
		t.Errorf("got %+v, want warnings about removed segments", stats)
	}

	if len(lines) == 0 || !strings.Contains(lines[len(lines)-1], `"id":"199"`) || stats.Missing != 0 {
		t.Errorf("got %d lines, %+v, want the last line, and no segment missing", len(lines), stats)
	}
}

func TestCreateRefusesUnusableOptions(t *testing.T) {
	if _, err := Create(t.TempDir(), Options{SegmentBytes: 1 << 20, TotalBytes: 1 << 20}); err == nil {
		t.Error("got a writer whose total size has no room for two segments, want an error")
	}

	if _, err := Create(filepath.Join(os.Args[0], "x"), Options{}); err == nil {
		t.Error("got a writer in a directory below a file, want an error")
	}
}

func TestADirectoryHasOneWriter(t *testing.T) {
	dir := t.TempDir()
	w := create(t, dir, Options{})

	_, err := Create(dir, Options{})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Fatalf("got error %v, want %v with the pid", err, ErrLocked)
	}

	w.Append(incidentLine(t, "a", 1), true)
	w.Close()
	w = create(t, dir, Options{})
	w.Append(incidentLine(t, "b", 2), true)
	w.Close()
	w.Append(incidentLine(t, "c", 3), true) // after Close: must not panic

	if got, _ := readAll(t, dir, Selection{}); len(got) != 2 {
		t.Errorf("got %q, want two lines", got)
	}
}

func TestParentsAreCreated(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "var", "log")

	w := create(t, filepath.Join(parent, "oomtrace")+"/", Options{})
	w.Close()

	for dir, want := range map[string]os.FileMode{parent: 0o755, filepath.Join(parent, "oomtrace"): 0o700} {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}

		if got := info.Mode().Perm(); got&^want != 0 || got&0o700 != 0o700 {
			t.Errorf("%s: got mode %o, want %o", dir, got, want)
		}
	}
}

// cutStep is the distance between two places at which a segment is cut.
func cutStep() int {
	if testing.Short() {
		return 23
	}

	return 1
}

// A crash may cut a segment at any byte. The next writer does not append to it.
func TestCompleteLinesOfATornSegmentAreRead(t *testing.T) {
	lines := [][]byte{incidentLine(t, "a", 1), updateLine(t, "a", 2, "x"), incidentLine(t, "b", 3)}

	whole := bytes.Join(lines, nil)
	for cut := 0; cut <= len(whole); cut += cutStep() {
		dir := t.TempDir()
		writeFile(t, dir, segmentFile(1, plainSuffix), whole[:cut])
		// A line that lacks nothing but its newline is complete.
		var want []string
		rest := whole[:cut]

		for _, line := range lines {
			body := bytes.TrimSuffix(line, []byte("\n"))
			if !bytes.HasPrefix(rest, body) {
				break
			}
			want = append(want, string(body))
			rest = rest[min(len(line), len(rest)):]
		}
		torn := min(len(rest), 1)

		got, stats := readAll(t, dir, Selection{})
		if !slices.Equal(got, want) || stats.Torn != torn || stats.Damaged != 0 {
			t.Fatalf("got %q, %+v when cut at %d, want %q and %d torn lines", got, stats, cut, want, torn)
		}

		if cut%23 != 0 {
			continue
		}

		w := create(t, dir, Options{})
		w.Append(incidentLine(t, "later", 9), true)
		w.Close()

		got, stats = readAll(t, dir, Selection{})
		if want := append(want, trimmed(incidentLine(t, "later", 9))...); !slices.Equal(got, want) ||
			stats.Torn != torn || stats.Damaged != 0 {
			t.Fatalf("got %q, %+v when cut at %d and written to again, want %q and %d torn lines",
				got, stats, cut, want, torn)
		}
	}
}

func TestLinesBeforeTheCutOfACompressedSegmentAreRead(t *testing.T) {
	var content []byte
	var want []string

	for i := range 200 {
		line := incidentLine(t, fmt.Sprint(i), i)
		content = append(content, line...)
		want = append(want, trimmed(line)...)
	}
	whole := compressed(t, content)
	dir := t.TempDir()
	writeFile(t, dir, segmentFile(2, plainSuffix), incidentLine(t, "next", 1))

	for cut := 0; cut < len(whole); cut += cutStep() {
		writeFile(t, dir, segmentFile(1, compressedSuffix), whole[:cut])
		got, stats := readAll(t, dir, Selection{})

		n := len(got) - 1
		if n < 0 || !strings.Contains(got[n], `"id":"next"`) || !slices.Equal(got[:n], want[:n]) ||
			n == len(want) && cut < len(whole)-4 {
			t.Fatalf("got %d lines when cut at %d, want the first ones, and that of the next segment", len(got), cut)
		}
		// A cut within the magic number looks like a torn line.
		if cut > 3 && (stats.CutOff != 1 ||
			!strings.Contains(strings.Join(stats.Warnings(), "\n"), "could not be read to the end")) {
			t.Fatalf("got %+v, warnings %q when cut at %d, want one segment cut off", stats, stats.Warnings(), cut)
		}
	}
}

// Each state that a crash can leave is read in the same way, and completed by the next
// writer.
func TestAnInterruptedCompressionIsRepeated(t *testing.T) {
	first, second := incidentLine(t, "a", 1), incidentLine(t, "b", 2)

	whole := compressed(t, first)
	for name, files := range map[string]map[string][]byte{
		"before":      {plainSuffix: first},
		"empty part":  {plainSuffix: first, partSuffix: nil},
		"half a part": {plainSuffix: first, partSuffix: whole[:len(whole)/2]},
		"whole part":  {plainSuffix: first, partSuffix: whole},
		"both":        {plainSuffix: first, compressedSuffix: whole},
		"compressed":  {compressedSuffix: whole},
		"all three":   {plainSuffix: first, compressedSuffix: whole, partSuffix: whole},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for suffix, content := range files {
				writeFile(t, dir, segmentFile(7, suffix), content)
			}

			if got, stats := readAll(t, dir, Selection{}); !slices.Equal(got, trimmed(first)) ||
				stats.Torn+stats.Damaged+stats.CutOff+stats.Missing != 0 {
				t.Errorf("got %q, %+v, want %q", got, stats, trimmed(first))
			}

			w := create(t, dir, Options{})
			w.Append(second, true)
			waitFor(t, "one compressed segment and an open one", func() bool {
				n := names(t, dir)
				return len(n) == 2 && n[0] == segmentFile(7, compressedSuffix) && strings.HasPrefix(n[1], "00000008-")
			})

			if got, _ := readAll(t, dir, Selection{}); !slices.Equal(got, trimmed(first, second)) {
				t.Errorf("got %q after the next writer, want %q", got, trimmed(first, second))
			}
		})
	}
}

// Neither the clock nor the boot id matters for the order.
func TestSegmentsAreReadInTheOrderOfTheirNumbers(t *testing.T) {
	dir := t.TempDir()

	for i, started := range []time.Time{testTime(50), testTime(-999_999), testTime(0)} {
		boot := fmt.Sprintf("%08d-0000-0000-0000-000000000000", 9-i)
		writeFile(t, dir, stem(uint64(i+1), started, boot)+plainSuffix, incidentLine(t, fmt.Sprint(i), i))
	}

	writeFile(t, dir, stem(123_456_789, testTime(-5), "")+plainSuffix, incidentLine(t, "3", 3))
	w := create(t, dir, Options{BootID: "../../etc\x00/passwd\n"})
	w.Append(incidentLine(t, "4", 4), true)
	w.Close()

	got, stats := readAll(t, dir, Selection{})
	if len(got) != 5 || stats.Missing != 123_456_785 {
		t.Fatalf("got %d lines, %+v, want 5, and 123456785 segments missing", len(got), stats)
	}

	for i, line := range got {
		if !strings.Contains(line, fmt.Sprintf(`"id":"%d"`, i)) {
			t.Errorf("got line %s, want id %d", line, i)
		}
	}

	if n := names(t, dir); !strings.HasSuffix(n[len(n)-1], "-etcpasswd.jsonl") {
		t.Errorf("got names %q, want the last one to end in -etcpasswd.jsonl", n)
	}
}

func TestMissingSegmentsAreCounted(t *testing.T) {
	dir := t.TempDir()
	for _, seq := range []int{3, 4, 7} {
		writeFile(t, dir, segmentFile(seq, plainSuffix), incidentLine(t, fmt.Sprint(seq), seq))
	}

	got, stats := readAll(t, dir, Selection{})
	if len(got) != 3 || stats.Earlier != 2 || stats.Missing != 2 {
		t.Errorf("got %d lines, %+v, want 3, 2 segments earlier and 2 missing", len(got), stats)
	}
}

func TestOpenRefusesWhatIsNoRecording(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, "notes.txt", []byte("x"))

	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "not a recording") {
		t.Errorf("got error %v for a directory without segments, want one", err)
	}

	if _, err := Open(filepath.Join(dir, "nothing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got error %v, want %v", err, os.ErrNotExist)
	}
}

// Such files are neither read nor written, compressed or locked.
func TestSymlinksAndDirectoriesAreIgnored(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	content := incidentLine(t, "outside", 1)
	writeFile(t, filepath.Dir(outside), "outside", content)
	dir := t.TempDir()
	writeFile(t, dir, segmentFile(1, plainSuffix), incidentLine(t, "a", 1))

	for i, target := range []string{outside, segmentFile(1, plainSuffix), "nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, segmentFile(2+i, plainSuffix))); err != nil {
			t.Fatal(err)
		}
	}

	if err := os.Mkdir(filepath.Join(dir, segmentFile(5, compressedSuffix)), 0o700); err != nil {
		t.Fatal(err)
	}

	got, stats := readAll(t, dir, Selection{})
	if len(got) != 1 || stats.Refused != 4 {
		t.Errorf("got %q, %+v, want one line and 4 files refused", got, stats)
	}

	// The name of the next segment may be that of such a file.
	w := create(t, dir, Options{})
	w.Append(incidentLine(t, "b", 2), true)
	w.Close()

	if got, _ := readAll(t, dir, Selection{}); len(got) != 2 {
		t.Errorf("got %q, want two lines", got)
	}

	if now, err := os.ReadFile(outside); err != nil || !bytes.Equal(now, content) {
		t.Errorf("got %q in the file outside, error %v, want it unchanged", now, err)
	}

	dir = t.TempDir()
	for _, target := range []string{outside, "other"} {
		if err := os.Symlink(target, filepath.Join(dir, lockName)); err != nil {
			t.Fatal(err)
		}

		if _, err := Create(dir, Options{}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("got error %v for a lock that is a symlink, want not a regular file", err)
		}

		os.Remove(filepath.Join(dir, lockName))
	}

	if now, err := os.ReadFile(outside); err != nil || !bytes.Equal(now, content) {
		t.Errorf("got %q in the file outside, error %v, want it unchanged", now, err)
	}
}

func TestASegmentRemovedWhileWritingIsReplaced(t *testing.T) {
	testenv.Slow(t, "waits for the writer's timer")

	dir := t.TempDir()
	w := create(t, dir, Options{})
	w.Append(incidentLine(t, "a", 1), true)

	for _, name := range names(t, dir) {
		os.Remove(filepath.Join(dir, name))
	}

	waitFor(t, "the writer notices the removed segment", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()

		return w.open == nil
	})
	w.Append(incidentLine(t, "b", 2), true)

	if got, _ := readAll(t, dir, Selection{}); len(got) != 1 || !strings.Contains(got[0], `"id":"b"`) {
		t.Errorf("got %q, want the line of b", got)
	}
}

// A reader sees each line at most once, in order, and misses none, while the writer
// rotates and compresses.
func TestReadingWhileWritingMissesNoLine(t *testing.T) {
	testenv.Slow(t, "reads the recording after nearly each of 3000 lines")

	dir := t.TempDir()
	w := create(t, dir, Options{SegmentBytes: 2 << 10})
	w.Append(incidentLine(t, "0", 0), true)

	done := make(chan struct{})
	go func() {
		defer close(done)

		for i := 1; i < 3000; i++ {
			w.Append(incidentLine(t, fmt.Sprint(i), i), false)
		}
	}()

	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}

		got, stats := readAll(t, dir, Selection{})
		if stats.Damaged+stats.CutOff+stats.Missing != 0 {
			t.Fatalf("got %+v, want nothing damaged, cut off or missing", stats)
		}

		for i, line := range got {
			if !strings.Contains(line, fmt.Sprintf(`"id":"%d"`, i)) {
				t.Fatalf("got line %s, want id %d", line, i)
			}
		}
	}

	if got, _ := readAll(t, dir, Selection{}); len(got) != 3000 {
		t.Errorf("got %d lines, want 3000", len(got))
	}
}

func TestListingsOfAChangingDirectoryAreMerged(t *testing.T) {
	of := func(numbers ...uint64) (l listing) {
		for _, n := range numbers {
			l.segments = append(l.segments, segment{stem: fmt.Sprint(n), seq: n})
		}

		return l
	}

	if l := of(1, 2, 4); !l.hasGaps() {
		t.Error("got no gap in 1, 2, 4, want one")
	}

	if l := of(1, 2, 4).merge(of(2, 3)); l.hasGaps() || len(l.segments) != 4 {
		t.Errorf("got %+v, want 1, 2, 3, 4", l)
	}

	if l := of(7); l.hasGaps() {
		t.Error("got a gap before the first segment, want none: earlier segments were removed")
	}
}
