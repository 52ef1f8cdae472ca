// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// recorderKills is how often recordKilled kills a recorder. In an emulator most of
// the time goes into the start of the next one.
var recorderKills = 4

// smallSegments let kills hit the change of segments and the compression, too.
const smallSegments = "16KiB"

// recordKilled kills a recorder at random moments while OOM kills happen. After
// each, the recording reads back, with every line that was ever printed.
func recordKilled(s *scene) {
	g := s.group("leaf", "leaf", 4, nil)
	dir, err := os.MkdirTemp("", "recording")
	check("a directory", err)

	s.clean = append(s.clean, func() { os.RemoveAll(dir) })
	printed := make(map[string]bool)
	var r *recorded

	for run := range recorderKills {
		recorder, err := startTracer("recorder", "--record", dir, "--segment-size", smallSegments)
		check("starting a recorder", err)
		// Some die before they see anything, the others after their first incident.
		var kill *time.Timer

		arm := func() { kill = time.AfterFunc(rand.N(time.Second), func() { recorder.cmd.Process.Kill() }) }
		if run%4 == 0 {
			arm()
		} else {
			check("waiting for a recorder", recorder.waitReady())
		}

		for ended := false; !ended; {
			s.hogOver(g, "anon", "8")

			if kill == nil && recorder.printedIncident() {
				arm()
			}

			select {
			case err = <-recorder.done:
				ended = true
			default:
			}
		}

		kill.Stop()

		if !killed(err) {
			check("killing a recorder", fmt.Errorf("run %d ended by itself: %v, %s", run, err, recorder.stderr()))
		}

		for line := range recorder.wholeLines() {
			printed[line] = true
		}
		r, err = readBack(dir)
		check("reading back", err)

		for line := range printed {
			if !r.lines[line] {
				check("reading back", fmt.Errorf("run %d: printed, and not recorded: %s", run, line))
			}
		}

		if strange := r.strange(tornTail); strange != "" {
			check("reading back", fmt.Errorf("run %d: %s", run, strange))
		}

		s.facts["recorder_kills"]++
	}

	for line := range printed {
		if isIncident([]byte(line)) {
			s.facts["printed"]++
		}
	}
	s.facts["recorded"] = uint64(len(r.incidents))
	s.facts["packed_segments"] = uint64(r.packed)
}

func killed(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.String() == "signal: killed"
}

// wholeLines are those that were printed; without its newline a line was not.
func (t *tracer) wholeLines() func(yield func(string) bool) {
	text, err := os.ReadFile(t.file("json"))
	check("reading what was printed", err)

	return func(yield func(string) bool) {
		for line := range bytes.Lines(text) {
			if whole, ok := bytes.CutSuffix(line, []byte("\n")); ok && !yield(string(whole)) {
				return
			}
		}
	}
}

func (t *tracer) printedIncident() bool {
	for line := range t.wholeLines() {
		if isIncident([]byte(line)) {
			return true
		}
	}

	return false
}

// recorded is a recording as a replay gives it.
type recorded struct {
	lines     map[string]bool
	incidents []string // lines, in their order
	remarks   []string // of the replay
	packed    int      // compressed segments
}

// readBack replays a recording. No incident comes twice. What was cut off before the
// first segment is an empty one.
func readBack(dir string) (*recorded, error) {
	segments, err := filepath.Glob(filepath.Join(dir, "*.jsonl*"))
	if err != nil || len(segments) == 0 {
		return &recorded{}, err
	}
	var stderr strings.Builder
	cmd := exec.Command("/bin/oomtrace", "replay", "-o", "json", dir)
	cmd.Stderr = &stderr

	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, stderr.String())
	}
	r := &recorded{lines: make(map[string]bool), remarks: strings.FieldsFunc(stderr.String(), func(c rune) bool { return c == '\n' })}

	for line := range bytes.Lines(out) {
		line := bytes.TrimSuffix(line, []byte("\n"))
		if isIncident(line) {
			if r.lines[string(line)] {
				return nil, fmt.Errorf("it comes twice: %s", line)
			}
			r.incidents = append(r.incidents, string(line))
		}
		r.lines[string(line)] = true
	}

	for _, name := range segments {
		if strings.HasSuffix(name, ".zst") {
			r.packed++
		}
	}

	return r, nil
}

func isIncident(line []byte) bool {
	var head events.Envelope
	return json.Unmarshal(line, &head) == nil && head.Kind == events.KindIncident
}

// Remarks of a replay on what a crash may leave.
const (
	tornTail     = "oomtrace: incomplete lines"
	damaged      = "oomtrace: damaged lines"
	nothingToSee = "oomtrace: nothing was recorded that is selected"
)

// strange is the first remark that does not begin as one of those.
func (r *recorded) strange(expected ...string) string {
	for _, remark := range r.remarks {
		known := remark == nothingToSee
		for _, prefix := range expected {
			known = known || strings.HasPrefix(remark, prefix)
		}

		if !known {
			return remark
		}
	}

	return ""
}
