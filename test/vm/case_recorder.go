// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/test/internal/must"
	"github.com/oomtrace/oomtrace/test/internal/trace"
)

// recorderKills is how often recordKilled kills a recorder. In an emulator most of the
// time goes into the start of the next one.
var recorderKills = 4

// smallSegments let kills hit the change of segments and the compression, too.
const smallSegments = "16KiB"

// recordKilled kills a recorder at random moments while OOM kills happen. After each,
// the recording reads back, with every line that was ever printed. What a recorder leaves
// depends on the kernel no more than on the oldest and a usual one.
var recordKilled = Case{
	Name: "record-killed", On: []string{"5.10", "6.12"}, VictimsOnly: true, Burst: true, Quiet: 3 * time.Second,
	Do: func(g *Guest) {
		leaf := g.leaf(4)
		dir, err := os.MkdirTemp("", "recording")
		must.OK("make a directory", err)

		g.later(func() { os.RemoveAll(dir) })

		printed := make(map[string]bool)
		var r *recording

		for n := range recorderKills {
			for _, line := range recordUntilKilled(g, leaf, dir, n%4 == 0) {
				printed[line] = true
			}

			r, err = replay(dir)
			must.OK("replay", err)

			for line := range printed {
				if !r.lines[line] {
					must.OK("replay", fmt.Errorf("recorder %d printed, and did not record: %s", n, line))
				}
			}

			if w := r.unexpected(tornTail); w != "" {
				must.OK("replay", fmt.Errorf("after recorder %d: %s", n, w))
			}

			g.facts["recorder_kills"]++
		}

		for line := range printed {
			if trace.IsIncident(line) {
				g.facts["printed"]++
			}
		}

		g.facts["recorded"], g.facts["packed_segments"] = uint64(len(r.incidents)), uint64(r.packed)
	},
	// The guest has compared; the host makes sure that there was something to compare.
	Want: func(c *Check) {
		facts := c.Run.Facts
		if facts["recorder_kills"] < 4 {
			c.errorf("the case shows nothing: got %d kills of a recorder, want at least 4", facts["recorder_kills"])
		}

		if facts["printed"] < facts["recorder_kills"]/2 || facts["recorded"] < facts["printed"] {
			c.errorf("the case shows nothing: got %d incidents printed and %d recorded, want at least %d and as many",
				facts["printed"], facts["recorded"], facts["recorder_kills"]/2)
		}

		if facts["packed_segments"] == 0 {
			c.errorf("the case shows nothing: got no compressed segment, want at least 1")
		}
	},
}

// recordUntilKilled runs a recorder that is killed within a second of its start or of its
// first incident, and returns the lines that it printed.
func recordUntilKilled(g *Guest, leaf *group, dir string, atStart bool) (printed []string) {
	recorder, err := trace.Start(oomtrace, filesDir, "recorder", "--record", dir, "--segment-size", smallSegments)
	must.OK("start a recorder", err)

	var kill *time.Timer

	arm := func() { kill = time.AfterFunc(rand.N(time.Second), func() { recorder.Cmd.Process.Kill() }) }
	if atStart {
		arm()
	} else {
		must.OK("wait for a recorder", recorder.WaitReady(startLimit))
	}

	for ended := false; !ended; {
		g.hog(leaf, "anon", "8")

		for _, line := range recorder.Lines() {
			printed = append(printed, line)

			if kill == nil && trace.IsIncident(line) {
				arm()
			}
		}

		select {
		case err = <-recorder.Done:
			ended = true
		default:
		}
	}

	kill.Stop()

	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.String() != "signal: killed" {
		must.OK("kill a recorder", fmt.Errorf("it ended by itself: %v, %s", err, recorder.Stderr()))
	}

	return append(printed, recorder.Lines()...)
}

// recording is what a replay returns.
type recording struct {
	lines     map[string]bool
	incidents []string // lines, in their order
	warnings  []string // of the replay
	packed    int      // compressed segments
}

// replay reads a recording back. It fails if an incident comes twice. What was cut off
// before its first segment is empty.
func replay(dir string) (*recording, error) {
	segments, err := filepath.Glob(filepath.Join(dir, "*.jsonl*"))
	if err != nil || len(segments) == 0 {
		return &recording{}, err
	}

	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()

	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, oomtrace, "replay", "-o", "json", dir)
	cmd.Stderr = &stderr

	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, stderr.String())
	}

	r := &recording{lines: make(map[string]bool)}
	r.warnings = strings.FieldsFunc(stderr.String(), func(c rune) bool { return c == '\n' })

	for line := range strings.Lines(string(out)) {
		line := strings.TrimSuffix(line, "\n")
		if trace.IsIncident(line) {
			if r.lines[line] {
				return nil, fmt.Errorf("an incident comes twice: %s", line)
			}

			r.incidents = append(r.incidents, line)
		}

		r.lines[line] = true
	}

	for _, name := range segments {
		if strings.HasSuffix(name, ".zst") {
			r.packed++
		}
	}

	return r, nil
}

// Warnings of a replay about what a crash may leave.
const (
	tornTail    = "oomtrace: incomplete lines"
	damaged     = "oomtrace: damaged lines"
	nothingKept = "oomtrace: no recorded line matches the selection"
)

// unexpected returns the first warning that starts with none of the expected ones.
func (r *recording) unexpected(expected ...string) string {
	for _, warning := range r.warnings {
		known := warning == nothingKept
		for _, prefix := range expected {
			known = known || strings.HasPrefix(warning, prefix)
		}

		if !known {
			return warning
		}
	}

	return ""
}
