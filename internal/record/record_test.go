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
)

const testBoot = "5f0c2c1e-8e0e-4b57-9b1f-3c8f0a4d2e61"

func testTime(n int) time.Time {
	return time.Date(2026, 8, 20, 14, 3, 7, 0, time.UTC).Add(time.Duration(n) * time.Second)
}

// incidentLine is a line of an incident that began n seconds after the first.
func incidentLine(t testing.TB, id string, n int) []byte {
	return marshal(t, &events.Incident{
		Envelope: events.Envelope{V: 1, Kind: events.KindIncident, Time: testTime(n), BootID: testBoot, Node: "n"},
		ID:       id, Outcome: events.OutcomeKilled,
		Victims: []events.Victim{{Process: events.Process{PID: n, Comm: "java"}}},
	})
}

func updateLine(t testing.TB, id string, n int, note string) []byte {
	return marshal(t, &events.Incident{
		Envelope: events.Envelope{V: 1, Kind: events.KindIncidentUpdate, Time: testTime(n), BootID: testBoot, Node: "n"},
		ID:       id, Notes: []string{note},
	})
}

func marshal(t testing.TB, v events.Line) []byte {
	line, err := events.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}

	return line
}

// create opens a writer whose remarks go to the log.
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

// readAll gives all lines of a recording.
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

func packed(t testing.TB, content []byte) []byte {
	t.Helper()

	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()

	return enc.EncodeAll(content, nil)
}

// waitFor waits for what a goroutine of the writer does.
func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()

	for range 1000 {
		if done() {
			return
		}

		time.Sleep(10 * time.Millisecond)
	}

	t.Fatalf("not within 10 s: %s", what)
}

func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	w := create(t, dir, Options{BootID: testBoot, Node: "n"})

	want := [][]byte{incidentLine(t, "a", 1), updateLine(t, "a", 2, "x"), incidentLine(t, "b", 3)}
	for i, line := range want {
		w.Append(line, i != 1)
	}

	if got, stats := readAll(t, dir, Selection{}); !slices.Equal(got, trimmed(want...)) || stats.Torn+stats.Damaged != 0 {
		t.Errorf("while it is written: %q, %+v", got, stats)
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	got, stats := readAll(t, dir, Selection{})
	if !slices.Equal(got, trimmed(want...)) || stats.Lines != 3 || stats.Segments != 1 || len(stats.Remarks()) != 0 {
		t.Errorf("%q, %+v, %q", got, stats, stats.Remarks())
	}

	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v", dir, info.Mode(), err)
	}

	for _, name := range append(names(t, dir), lockName) {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// TestDurable: an incident is on disk when Append returns, with what came before
// it, also across segments.
func TestDurable(t *testing.T) {
	w := create(t, t.TempDir(), Options{SegmentBytes: 1000})
	for i := range 40 {
		w.Append(updateLine(t, "a", i, "x"), false)

		if i%4 == 3 {
			w.Append(incidentLine(t, fmt.Sprint(i), i), true)
			w.mu.Lock()
			if w.open.synced != w.open.written {
				t.Errorf("%d of %d lines are synced", w.open.synced, w.open.written)
			}
			w.mu.Unlock()
		}
	}

	w.Append(updateLine(t, "a", 1, "last"), false)
	waitFor(t, "a line is synced by time", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()

		return w.open.synced == w.open.written
	})
}

func TestRotationAndCompression(t *testing.T) {
	dir := t.TempDir()
	w := create(t, dir, Options{SegmentBytes: 4 << 10, BootID: testBoot})
	var want []string

	for i := range 200 {
		line := incidentLine(t, fmt.Sprint(i), i)
		want = append(want, trimmed(line)...)
		w.Append(line, false)
	}

	waitFor(t, "all but the open one are compressed", func() bool {
		plain := slices.DeleteFunc(names(t, dir), func(n string) bool { return strings.HasSuffix(n, packedSuffix) })
		return len(plain) == 1
	})

	got, stats := readAll(t, dir, Selection{})
	if !slices.Equal(got, want) || len(stats.Remarks()) != 0 || stats.Segments < 5 {
		t.Errorf("%d lines of %d, %+v", len(got), len(want), stats)
	}

	for _, name := range names(t, dir) {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}

		if !strings.Contains(name, testBoot) {
			t.Errorf("%s does not name the boot", name)
		}
	}
}

func TestAge(t *testing.T) {
	dir := t.TempDir()
	w := create(t, dir, Options{SegmentAge: 10 * time.Millisecond})
	w.Append(incidentLine(t, "a", 1), true)
	time.Sleep(20 * time.Millisecond)
	w.Append(incidentLine(t, "b", 2), true)
	waitFor(t, "an old segment is finished without a further line", func() bool {
		n := names(t, dir)
		return len(n) == 2 && strings.HasSuffix(n[0], packedSuffix) && strings.HasSuffix(n[1], packedSuffix)
	})

	if got, _ := readAll(t, dir, Selection{}); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// TestTotal: the oldest segments go, and that is told by both sides.
func TestTotal(t *testing.T) {
	dir := t.TempDir()
	told := make(chan string, 1000)
	w := create(t, dir, Options{SegmentBytes: 4 << 10, TotalBytes: 12 << 10, Warn: func(s string) { told <- s }})

	noise := make([]byte, 1500)
	for i := range 200 {
		for j := range noise { // what does not compress
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

	waitFor(t, "the total is bounded", func() bool { return size() <= 12<<10 })

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	lines, stats := readAll(t, dir, Selection{})
	if !strings.Contains(<-told, "removed the oldest segments") || stats.Earlier == 0 || !strings.Contains(strings.Join(stats.Remarks(), " "), "earlier segments") {
		t.Errorf("not told: %+v", stats)
	}

	if len(lines) == 0 || !strings.Contains(lines[len(lines)-1], `"id":"199"`) || stats.Missing != 0 {
		t.Errorf("%d lines, %+v", len(lines), stats)
	}
}

func TestOptions(t *testing.T) {
	if _, err := Create(t.TempDir(), Options{SegmentBytes: 1 << 20, TotalBytes: 1 << 20}); err == nil {
		t.Error("a total without room for two segments is taken")
	}

	if _, err := Create(filepath.Join(os.Args[0], "x"), Options{}); err == nil {
		t.Error("a directory below a file is taken")
	}
}

func TestSecondWriter(t *testing.T) {
	dir := t.TempDir()
	w := create(t, dir, Options{})

	_, err := Create(dir, Options{})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Fatalf("%v", err)
	}

	w.Append(incidentLine(t, "a", 1), true)
	w.Close()
	w = create(t, dir, Options{})
	w.Append(incidentLine(t, "b", 2), true)
	w.Close()
	w.Append(incidentLine(t, "c", 3), true) // too late, and harmless

	if got, _ := readAll(t, dir, Selection{}); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// TestParentsAreNotMade: a disk that is not mounted is not recorded beside.
func TestParentsAreNotMade(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "disk")

	_, err := Create(filepath.Join(parent, "oomtrace")+"/", Options{})
	if err == nil || !strings.Contains(err.Error(), "make its parent first: mkdir -p "+parent) {
		t.Errorf("%v", err)
	}

	if _, err := os.Stat(parent); err == nil {
		t.Error("it was made")
	}
	w := create(t, filepath.Dir(parent)+"/new/", Options{})
	w.Close()
}

// TestTornAtEveryByte: whatever a crash leaves of a segment, its whole lines are
// read, and what is written later is not joined to the rest.
func TestTornAtEveryByte(t *testing.T) {
	lines := [][]byte{incidentLine(t, "a", 1), updateLine(t, "a", 2, "x"), incidentLine(t, "b", 3)}

	whole := bytes.Join(lines, nil)
	for cut := range len(whole) + 1 {
		dir := t.TempDir()
		writeFile(t, dir, segmentFile(1, plainSuffix), whole[:cut])
		// A line that only lacks its newline is whole.
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
			t.Fatalf("cut at %d: %q, %+v", cut, got, stats)
		}

		if cut%23 != 0 {
			continue
		}
		w := create(t, dir, Options{})
		w.Append(incidentLine(t, "later", 9), true)
		w.Close()

		got, stats = readAll(t, dir, Selection{})
		if want := append(want, trimmed(incidentLine(t, "later", 9))...); !slices.Equal(got, want) || stats.Torn != torn || stats.Damaged != 0 {
			t.Fatalf("cut at %d, then written: %q, %+v", cut, got, stats)
		}
	}
}

func TestCutCompressed(t *testing.T) {
	var content []byte
	var want []string

	for i := range 200 {
		line := incidentLine(t, fmt.Sprint(i), i)
		content = append(content, line...)
		want = append(want, trimmed(line)...)
	}
	whole := packed(t, content)
	dir := t.TempDir()
	writeFile(t, dir, segmentFile(2, plainSuffix), incidentLine(t, "next", 1))

	for cut := range len(whole) {
		writeFile(t, dir, segmentFile(1, packedSuffix), whole[:cut])
		got, stats := readAll(t, dir, Selection{})

		n := len(got) - 1
		if n < 0 || !strings.Contains(got[n], `"id":"next"`) || !slices.Equal(got[:n], want[:n]) || n == len(want) && cut < len(whole)-4 {
			t.Fatalf("cut at %d: %d lines", cut, len(got))
		}
		// Below the size of the magic it looks like a torn line.
		if cut > 3 && (stats.CutOff != 1 || !strings.Contains(strings.Join(stats.Remarks(), "\n"), "cannot be read to their end")) {
			t.Fatalf("cut at %d: %+v", cut, stats)
		}
	}
}

// TestCrashOfCompression: each state that a crash can leave is read alike, and put
// in order by the next writer.
func TestCrashOfCompression(t *testing.T) {
	first, second := incidentLine(t, "a", 1), incidentLine(t, "b", 2)

	whole := packed(t, first)
	for name, files := range map[string]map[string][]byte{
		"before":         {plainSuffix: first},
		"nothing yet":    {plainSuffix: first, partSuffix: nil},
		"half":           {plainSuffix: first, partSuffix: whole[:len(whole)/2]},
		"not yet named":  {plainSuffix: first, partSuffix: whole},
		"both":           {plainSuffix: first, packedSuffix: whole},
		"original gone":  {packedSuffix: whole},
		"its name, lost": {plainSuffix: first, packedSuffix: whole, partSuffix: whole},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for suffix, content := range files {
				writeFile(t, dir, segmentFile(7, suffix), content)
			}

			if got, stats := readAll(t, dir, Selection{}); !slices.Equal(got, trimmed(first)) || stats.Torn+stats.Damaged+stats.CutOff+stats.Missing != 0 {
				t.Errorf("%q, %+v", got, stats)
			}
			w := create(t, dir, Options{})
			w.Append(second, true)
			waitFor(t, "one compressed, one open", func() bool {
				n := names(t, dir)
				return len(n) == 2 && n[0] == segmentFile(7, packedSuffix) && strings.HasPrefix(n[1], "00000008-")
			})

			if got, _ := readAll(t, dir, Selection{}); !slices.Equal(got, trimmed(first, second)) {
				t.Errorf("then: %q", got)
			}
		})
	}
}

// TestOrder: the number counts, not the clock and not the boot.
func TestOrder(t *testing.T) {
	dir := t.TempDir()

	for i, begun := range []time.Time{testTime(50), testTime(-999_999), testTime(0)} {
		boot := fmt.Sprintf("%08d-0000-0000-0000-000000000000", 9-i)
		writeFile(t, dir, stem(uint64(i+1), begun, boot)+plainSuffix, incidentLine(t, fmt.Sprint(i), i))
	}

	writeFile(t, dir, stem(123_456_789, testTime(-5), "")+plainSuffix, incidentLine(t, "3", 3))
	w := create(t, dir, Options{BootID: "../../etc\x00/passwd\n"})
	w.Append(incidentLine(t, "4", 4), true)
	w.Close()

	got, stats := readAll(t, dir, Selection{})
	if len(got) != 5 || stats.Missing != 123_456_785 {
		t.Fatalf("%d lines, %+v", len(got), stats)
	}

	for i, line := range got {
		if !strings.Contains(line, fmt.Sprintf(`"id":"%d"`, i)) {
			t.Errorf("%d is %s", i, line)
		}
	}

	if n := names(t, dir); !strings.HasSuffix(n[len(n)-1], "-etcpasswd.jsonl") {
		t.Errorf("%q", n)
	}
}

func TestMissingSegment(t *testing.T) {
	dir := t.TempDir()
	for _, seq := range []int{3, 4, 7} {
		writeFile(t, dir, segmentFile(seq, plainSuffix), incidentLine(t, fmt.Sprint(seq), seq))
	}

	got, stats := readAll(t, dir, Selection{})
	if len(got) != 3 || stats.Earlier != 2 || stats.Missing != 2 {
		t.Errorf("%d lines, %+v", len(got), stats)
	}
}

func TestNoRecording(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, "notes.txt", []byte("x"))

	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "no recording") {
		t.Errorf("%v", err)
	}

	if _, err := Open(filepath.Join(dir, "nothing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestForeignFiles: nothing but regular files of the directory itself is read,
// written, compressed or locked.
func TestForeignFiles(t *testing.T) {
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

	if err := os.Mkdir(filepath.Join(dir, segmentFile(5, packedSuffix)), 0o700); err != nil {
		t.Fatal(err)
	}

	got, stats := readAll(t, dir, Selection{})
	if len(got) != 1 || stats.Refused != 4 {
		t.Errorf("%q, %+v", got, stats)
	}
	// The next segment's name may be taken by what is not counted as one.
	w := create(t, dir, Options{})
	w.Append(incidentLine(t, "b", 2), true)
	w.Close()

	if got, _ := readAll(t, dir, Selection{}); len(got) != 2 {
		t.Errorf("%q", got)
	}

	if now, err := os.ReadFile(outside); err != nil || !bytes.Equal(now, content) {
		t.Errorf("the file outside: %q, %v", now, err)
	}

	dir = t.TempDir()
	for _, target := range []string{outside, "other"} {
		if err := os.Symlink(target, filepath.Join(dir, lockName)); err != nil {
			t.Fatal(err)
		}

		if _, err := Create(dir, Options{}); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("a lock that is a symlink: %v", err)
		}

		os.Remove(filepath.Join(dir, lockName))
	}

	if now, err := os.ReadFile(outside); err != nil || !bytes.Equal(now, content) {
		t.Errorf("the file outside: %q, %v", now, err)
	}
}

// TestRemovedWhileWriting: somebody cleans up below a writer.
func TestRemovedWhileWriting(t *testing.T) {
	dir := t.TempDir()
	w := create(t, dir, Options{})
	w.Append(incidentLine(t, "a", 1), true)

	for _, name := range names(t, dir) {
		os.Remove(filepath.Join(dir, name))
	}

	waitFor(t, "it is noticed", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()

		return w.open == nil
	})
	w.Append(incidentLine(t, "b", 2), true)

	if got, _ := readAll(t, dir, Selection{}); len(got) != 1 || !strings.Contains(got[0], `"id":"b"`) {
		t.Errorf("%q", got)
	}
}

// TestReadWhileWriting: a reader beside a writer that rotates and compresses sees
// each line at most once, in order, and none that was there is missing.
func TestReadWhileWriting(t *testing.T) {
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
			t.Fatalf("%+v", stats)
		}

		for i, line := range got {
			if !strings.Contains(line, fmt.Sprintf(`"id":"%d"`, i)) {
				t.Fatalf("%d is %s", i, line)
			}
		}
	}

	if got, _ := readAll(t, dir, Selection{}); len(got) != 3000 {
		t.Errorf("%d lines", len(got))
	}
}

// TestListings: of a directory that changes, two listings make one.
func TestListings(t *testing.T) {
	of := func(numbers ...uint64) (l listing) {
		for _, n := range numbers {
			l.segments = append(l.segments, segment{stem: fmt.Sprint(n), seq: n})
		}

		return l
	}
	if l := of(1, 2, 4); !l.gaps() {
		t.Error("3 is missing")
	}

	if l := of(1, 2, 4).with(of(2, 3)); l.gaps() || len(l.segments) != 4 {
		t.Errorf("%+v", l)
	}

	if l := of(7); l.gaps() {
		t.Error("what is before the first was removed")
	}
}
