// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/testenv"
)

// large is a recording of at least so many bytes, generated while it is read: the incidents
// of the fixtures with other ids, times and pods, each with its updates and some stalls.
type large struct {
	left     int // bytes
	n        int
	fixtures []string
	lines    [][]byte // of the fixtures
	queue    bytes.Buffer
}

func newLarge(t testing.TB, size int, fixtures ...string) *large {
	if len(fixtures) == 0 {
		fixtures = []string{"pod-limit", "node", "user-kill"}
	}

	text, err := io.ReadAll(fixture(t, fixtures...))
	if err != nil {
		t.Fatal(err)
	}

	return &large{left: size, fixtures: fixtures, lines: bytes.SplitAfter(bytes.TrimSpace(text), []byte("\n"))}
}

func (l *large) Read(p []byte) (int, error) {
	if l.queue.Len() == 0 {
		if l.left <= 0 {
			return 0, io.EOF
		}

		l.more()
		l.left -= l.queue.Len()
	}

	return l.queue.Read(p)
}

func (l *large) more() {
	at := base().Add(time.Duration(l.n) * 7 * time.Second).Format("2006-01-02T15:04:05")

	replace := strings.NewReplacer(
		`"id":"5f0c2c1e-`, fmt.Sprintf(`"id":"%d-`, l.n), // ids of the fixtures differ
		"cart-7d9f8c6b5-x2x8q", fmt.Sprintf("cart-%d", l.n%30000),
		"batch-transcode-28771", fmt.Sprintf("batch-%d", l.n%7),
		"2026-08-20T14:03:07", at, "2026-08-20T14:03:08", at, "2026-08-21T03:44:07", at, "2026-08-21T16:10:07", at,
	)
	for _, line := range l.lines {
		l.queue.WriteString(replace.Replace(strings.TrimSuffix(string(line), "\n")) + "\n")

		for i := range 8 {
			fmt.Fprintf(&l.queue, `{"v":1,"kind":"stall","time":"%sZ","boot_id":"b","node":"worker-3","what":"memcg_reclaim","duration_ns":%d,"reclaimed_bytes":4096,"task":{"pid":%d,"tid":%d,"comm":"java"}}`+"\n", at, 10_000_000+i, i, i)
		}
	}

	l.n++
}

func TestMain(m *testing.M) {
	if kind := os.Getenv("OOMTRACE_TEST_REPORT"); kind != "" {
		os.Exit(reportStdin(kind))
	}

	os.Exit(m.Run())
}

// reportStdin is the child of TestMemoryIsBounded.
func reportStdin(kind string) int {
	do := map[string]func(io.Writer, Source, Options) (Result, error){"text": Text, "json": JSON, "html": HTML, "perfetto": Perfetto}[kind]

	r, err := do(io.Discard, lines(os.Stdin), fixed(Options{Width: 80}))
	if err != nil || r.Incidents == 0 {
		fmt.Fprintln(os.Stderr, r, err)
		return 1
	}

	return 0
}

// TestMemoryIsBounded: a child process makes the report of a stream. A report that held
// what it reads would have a peak resident size (ru_maxrss) of several times the recording.
func TestMemoryIsBounded(t *testing.T) {
	testenv.Slow(t, "reports of 64 MiB take half a minute")
	const size, most = 64 << 20, 200 << 20

	for _, kind := range []string{"text", "json", "html", "perfetto"} {
		t.Run(kind, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")

			cmd.Env = append(os.Environ(), "OOMTRACE_TEST_REPORT="+kind)
			cmd.Stdin = newLarge(t, size)

			cmd.Stderr = os.Stderr
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
			t.Logf("peak resident size: %d MiB for a recording of %d MiB", rss>>20, size>>20)

			if rss > most {
				t.Errorf("got a peak resident size of %d MiB, want at most %d MiB", rss>>20, most>>20)
			}
		})
	}
}

// TestLargeIsARecording checks the generator of the test above.
func TestLargeIsARecording(t *testing.T) {
	ids, incidents, warnings := read(t, newLarge(t, 1<<20))

	seen := map[string]bool{}
	for i, id := range ids {
		if seen[id] {
			t.Fatalf("got incident %s twice", id)
		}

		seen[id] = true
		if incidents[i].Before == nil || len(incidents[i].Causes) == 0 {
			t.Fatalf("got incident %s without its updates", id)
		}
	}

	if len(ids) < 40 || len(warnings) > 0 {
		t.Errorf("got %d incidents with warnings %q, want at least 40 without", len(ids), warnings)
	}
}

// TestWriteLarge writes a recording to the file OOMTRACE_LARGE, of OOMTRACE_LARGE_MIB MiB,
// for measurements by hand.
func TestWriteLarge(t *testing.T) {
	name := os.Getenv("OOMTRACE_LARGE")
	if name == "" {
		t.Skip("OOMTRACE_LARGE names no file")
	}

	mebibytes := 1024
	if s := os.Getenv("OOMTRACE_LARGE_MIB"); s != "" {
		if _, err := fmt.Sscan(s, &mebibytes); err != nil {
			t.Fatal(err)
		}
	}

	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}

	if _, err := io.Copy(file, newLarge(t, mebibytes<<20)); err != nil {
		t.Fatal(err)
	}

	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}
