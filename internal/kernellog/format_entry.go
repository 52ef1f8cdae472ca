// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bytes"
	"encoding/binary"
	"strings"
	"time"
)

// entry collects the fields of an entry of the journal, which journalctl -o export and -o
// verbose write on lines of their own (https://systemd.io/JOURNAL_EXPORT_FORMATS).
type entry struct {
	open   bool
	indent int            // of the names of fields: -o verbose has 4 blanks
	fields map[string]any // those that are used
	last   string         // the field that a line without a name continues
	// sized is true if the next line starts with the size of the last field, of which left bytes
	// are still to come: so -o export writes fields of several lines.
	sized bool
	left  int
}

// entryFields are the fields of the journal that a record is made of
// (systemd.journal-fields).
var entryFields = map[string]bool{
	"MESSAGE": true, "__REALTIME_TIMESTAMP": true, "_SOURCE_REALTIME_TIMESTAMP": true, "_SOURCE_MONOTONIC_TIMESTAMP": true,
	"_BOOT_ID": true, "_HOSTNAME": true, "_TRANSPORT": true, "SYSLOG_IDENTIFIER": true, "_COMM": true, "_PID": true,
}

// cursor starts an entry of -o export.
var cursor = []byte("__CURSOR=s=")

// startsEntry reports whether a line is the first one of an entry: its cursor.
func startsEntry(line []byte) bool {
	return bytes.HasPrefix(line, cursor) ||
		bytes.HasSuffix(line, []byte("]")) && bytes.Contains(line, []byte(" [s=")) && bytes.Contains(line, []byte(";i="))
}

// takeEntry takes a line into the entry that is open, or that it starts. It returns the entry
// that is complete, nil if none is, and whether the line belongs to one.
func (d *decoder) takeEntry(line string) (complete *object, ok bool) {
	e := &d.entry
	inside := e.left > 0 || e.sized // of a field whose text may look like anything
	starts := !inside && startsEntry([]byte(line))

	if !starts && (inside || line != "") && e.add(line) {
		return nil, true
	}

	complete = e.end()
	if !starts {
		return complete, line == ""
	}

	d.entry = entry{open: true, fields: map[string]any{}}
	if !strings.HasPrefix(line, string(cursor)) {
		d.entry.indent = 4
		if t, _, _, ok := d.syslogTime(line); ok {
			d.entry.fields["@timestamp"] = t.Format(time.RFC3339Nano)
		}
	}

	return complete, true
}

// decodeEntry returns the records of an entry of the journal.
func (d *decoder) decodeEntry(o *object, number int) []record {
	r := record{line: number}
	text, _ := d.read(&r, o)

	return append(d.release(nil), d.finish(r, text))
}

// add takes in a line of an entry. It returns false for one that is of no entry.
func (e *entry) add(line string) bool {
	switch {
	case e.sized:
		return e.size(line)
	case e.left > 0:
		e.extend("\n" + line)
		return true
	}

	text := strings.TrimLeft(line, " ")
	indent := len(line) - len(text)
	name, value, found := strings.Cut(text, "=")

	switch {
	case indent == e.indent && isFieldName(name) && found:
		e.set(name, value)
	case indent == 0 && e.indent == 0 && isFieldName(text):
		e.set(text, "")
		e.sized = true
	case indent > e.indent && e.indent > 0 && e.last != "":
		e.extend("\n" + text)
	default:
		return false
	}

	return true
}

func (e *entry) set(name, value string) {
	e.last = name
	if entryFields[name] {
		e.fields[name] = value
	}
}

// size reads the size of a field before its text: eight bytes, the lowest first.
func (e *entry) size(line string) bool {
	e.sized = false

	if len(line) < 8 {
		return false
	}

	size := binary.LittleEndian.Uint64([]byte(line[:8]))
	if size > MaxLineBytes {
		return false
	}
	e.left = int(size) + 1 // and the newline that is taken for one before the text
	e.extend(" " + line[8:])

	if text, ok := e.fields[e.last].(string); ok {
		e.fields[e.last] = text[1:]
	}

	return true
}

func (e *entry) extend(text string) {
	e.left = max(e.left-len(text), 0)

	if before, ok := e.fields[e.last].(string); ok && len(before)+len(text) <= MaxLineBytes {
		e.fields[e.last] = before + text
	}
}

// isFieldName reports whether s can be the name of a field: capital letters, digits and
// underscores.
func isFieldName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// end closes the entry.
func (e *entry) end() *object {
	message, ok := e.fields["MESSAGE"].(string)
	fields := e.fields
	*e = entry{}

	if !ok {
		return nil
	}

	return &object{message: message, key: "MESSAGE", holders: []map[string]any{fields}}
}
