// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/view"
)

const (
	// maxLineBytes is the longest line that is read: a group kill of thousands.
	maxLineBytes = 16 << 20
	// openBytes and openIncidents bound the incidents that updates are awaited
	// for. Updates follow within seconds, but for an OOM that goes on.
	openBytes     = 4 << 20
	openIncidents = 256
)

// NewLines reads the lines of -o json. Lines that are no incident are passed
// over; those that cannot be read are counted.
func NewLines(r io.Reader) Source { return &lines{in: bufio.NewReaderSize(r, 256<<10)} }

type lines struct {
	in *bufio.Reader

	open   map[string]*open
	queue  []*open // oldest first
	bytes  int
	buffer []byte // of a line longer than in's

	broken, long, late, lost uint64
	torn                     bool
}

// open is an incident that updates are awaited for.
type open struct {
	inc   *events.Incident
	bytes int
}

func (l *lines) Incidents(do func(*events.Incident) error) error {
	l.open = map[string]*open{}
	for {
		line, err := l.line()
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return fmt.Errorf("read the recording: %w", err)
		}
		l.take(line, last)
		for len(l.queue) > 0 && (last || l.bytes > openBytes || len(l.queue) > openIncidents) {
			if err := do(l.close()); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
	}
}

// line gives the next one, without its end; nil stands for one that is too long.
// What it gave is good until the next call.
func (l *lines) line() ([]byte, error) {
	l.buffer = l.buffer[:0]
	tooLong := false
	for {
		part, err := l.in.ReadSlice('\n')
		switch {
		case err == nil && len(l.buffer) == 0 && !tooLong:
			return bytes.TrimSuffix(part, []byte("\n")), nil
		case len(l.buffer)+len(part) > maxLineBytes:
			tooLong = true
			l.buffer = l.buffer[:0]
		case !tooLong:
			l.buffer = append(l.buffer, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if tooLong {
			l.long++
			return nil, err
		}
		return bytes.TrimSuffix(l.buffer, []byte("\n")), err
	}
}

// take merges an update, and opens an incident. The last line of a recording may
// be torn.
func (l *lines) take(line []byte, last bool) {
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return
	}
	var head struct {
		Kind  string `json:"kind"`
		Count uint64 `json:"count"`
	}
	switch kind := kindOf(line); kind {
	case "": // not as oomtrace writes it
		if json.Unmarshal(line, &head) != nil {
			l.unreadable(last)
			return
		}
	case events.KindLost:
		if json.Unmarshal(line, &head) != nil {
			l.unreadable(last)
			return
		}
	default:
		head.Kind = kind
	}
	switch head.Kind {
	case events.KindLost:
		l.lost += head.Count
	case events.KindIncident, events.KindIncidentUpdate:
		inc := new(events.Incident)
		if events.Unmarshal(line, inc) != nil {
			l.unreadable(last)
			return
		}
		l.merge(inc, len(line))
	}
}

func (l *lines) unreadable(last bool) {
	if last {
		l.torn = true
		return
	}
	l.broken++
}

// kindOf looks where oomtrace itself writes the kind, so that a line of another
// kind need not be parsed.
func kindOf(line []byte) string {
	rest, found := bytes.CutPrefix(line, []byte(`{"v":1,"kind":"`))
	if !found {
		return ""
	}
	kind, _, found := bytes.Cut(rest, []byte(`"`))
	if !found || bytes.ContainsRune(kind, '\\') {
		return ""
	}
	return string(kind)
}

func (l *lines) merge(inc *events.Incident, size int) {
	if o := l.open[inc.ID]; o != nil {
		events.Merge(o.inc, inc)
		o.bytes += size
		l.bytes += size
		return
	}
	if inc.Kind == events.KindIncidentUpdate {
		l.late++
		return
	}
	o := &open{inc, size}
	l.open[inc.ID] = o
	l.queue = append(l.queue, o)
	l.bytes += size
}

// close gives out the oldest.
func (l *lines) close() *events.Incident {
	o := l.queue[0]
	l.queue = slices.Delete(l.queue, 0, 1)
	delete(l.open, o.inc.ID)
	l.bytes -= o.bytes
	return o.inc
}

func (l *lines) Remarks() []string {
	var remarks []string
	say := func(n uint64, thing, what string) {
		if n > 0 {
			remarks = append(remarks, strings.TrimSpace(view.Plural(n, thing)+" "+what))
		}
	}
	say(l.lost, "record", "did not reach the tracer: what is shown may be incomplete")
	say(l.broken, "line", "could not be read")
	say(l.long, "line", fmt.Sprintf("longer than %s passed over", view.Size(maxLineBytes)))
	say(l.late, "update", "of incidents that are not in the recording, or long before, left out")
	if l.torn {
		remarks = append(remarks, "the last line is torn, and was left out")
	}
	return remarks
}
