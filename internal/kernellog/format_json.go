// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxDepth bounds how deep in a JSON object a message is looked for.
const maxDepth = 6

// object is a line in JSON: its message, and the objects that hold it, innermost first.
// Log shippers have the same few facts under different keys; what is nearest to the message
// counts.
type object struct {
	message string
	key     string // of the message
	path    string // the keys that lead to the message
	holders []map[string]any
}

// The keys of a message: of the journal and Google Cloud, of Elastic, of dmesg -J and
// fluent-bit, of Docker, of Loki, and of other shippers.
var messageKeys = []string{
	"MESSAGE", "message", "msg", "log", "line", "textPayload", "text", "body", "event", "_raw", "original", "content",
}

var (
	programKeys = []string{"SYSLOG_IDENTIFIER", "syslog_identifier", "ident", "programname", "appname", "app_name", "program", "syslogtag"}
	hostKeys    = []string{"_HOSTNAME", "hostname", "host", "node_name", "nodename", "node"}
	timeKeys    = []string{
		"_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP", "@timestamp", "timestamp", "time", "ts", "date", "datetime",
		"receiveTimestamp",
	}
)

// json reads a line in JSON. kind is 0 if it is none; it is not ok if it has no message.
func (d *decoder) json(r *record, text string) (rest string, kind int, ok bool) {
	top, ok := parseObject(text)
	if !ok {
		return text, 0, true
	}

	o := d.object(top)
	if o == nil {
		return "", 0, false
	}

	rest, kind = d.read(r, o)

	return rest, kind, true
}

// read reads an object whose message is known.
func (d *decoder) read(r *record, o *object) (rest string, kind int) {
	o.times(d, r)

	r.host, r.boot = o.text(hostKeys...), bootID(o.text("_BOOT_ID"))
	if r.host == "" {
		r.host = o.nested("host", "name")
	}

	r.torn = o.torn(r.torn)
	message := strings.TrimRight(o.message, "\r\n")

	program := o.program()
	switch {
	case program == "kernel" || program == "" && o.fromKernel():
		return message, isSyslog | isUptime
	case program != "":
		r.program = program
		r.pid, _ = strconv.Atoi(o.text("_PID", "pid"))

		return message, isSyslog | isUptime
	}

	return message, isContainer
}

func parseObject(text string) (top map[string]any, ok bool) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()

	ok = decoder.Decode(&top) == nil && strings.Trim(text[decoder.InputOffset():], " \t,]") == ""

	return top, ok
}

// object chooses the message of a line: the one that the kernel may have written, else the
// one with the key of the last such one, else the one with the best known key. It returns
// nil if there is none.
func (d *decoder) object(top map[string]any) *object {
	var best *object

	for _, o := range messages(top, "", nil) {
		if find(o.message).kind != isNone {
			d.messagePath = o.path
			return o
		}

		if o.path == d.messagePath || best == nil && o.key != "" {
			best = o
		}
	}

	return best
}

// messages returns the strings of an object that can be its message, the likeliest first.
func messages(in map[string]any, path string, outer []map[string]any) []*object {
	holders := append([]map[string]any{in}, outer...)
	var found, unlikely, below []*object

	keys := slices.SortedFunc(maps.Keys(in), func(a, b string) int { return rankOf(a) - rankOf(b) + strings.Compare(a, b) })
	for _, key := range keys {
		at := path + "/" + key

		switch value := in[key].(type) {
		case map[string]any:
			if len(holders) < maxDepth {
				below = append(below, messages(value, at, holders)...)
			}
		case string:
			o := &object{message: value, path: at, holders: holders}
			if slices.Contains(messageKeys, key) {
				o.key = key
				found = append(found, o)
			} else {
				unlikely = append(unlikely, o)
			}
		case []any:
			if text, ok := byteText(value); ok && key == "MESSAGE" {
				found = append(found, &object{message: text, key: key, path: at, holders: holders})
			}
		}
	}

	return append(append(found, below...), unlikely...)
}

// rankOf returns the order of the keys of messages. The ranks are further apart than the
// results of strings.Compare.
func rankOf(key string) int {
	if i := slices.Index(messageKeys, key); i >= 0 {
		return 2 * i
	}

	return 2 * len(messageKeys)
}

// byteText decodes a message that is not text: journalctl -o json writes it as a list of
// bytes.
func byteText(list []any) (string, bool) {
	text := make([]byte, len(list))

	for i, value := range list {
		number, ok := value.(json.Number)
		if !ok {
			return "", false
		}

		n, err := strconv.ParseUint(string(number), 10, 8)
		if err != nil {
			return "", false
		}
		text[i] = byte(n)
	}

	return string(text), true
}

// text returns the first value of the keys, "" if none is a string or a number.
func (o *object) text(keys ...string) string {
	for _, holder := range o.holders {
		for _, key := range keys {
			switch value := holder[key].(type) {
			case string:
				return value
			case json.Number:
				return string(value)
			}
		}
	}

	return ""
}

// nested returns the value of a key in an object of a holder.
func (o *object) nested(name, key string) string {
	for _, holder := range o.holders {
		if inner, ok := holder[name].(map[string]any); ok {
			value, _ := inner[key].(string)
			return value
		}
	}

	return ""
}

func (o *object) has(key string) bool {
	_, ok := o.holders[0][key]
	return ok
}

// program returns which program wrote the message, "" if the line does not name it.
func (o *object) program() string {
	if transport := o.text("_TRANSPORT"); transport == "kernel" {
		return transport
	}

	program := o.text(programKeys...)
	if program == "" {
		program = o.nested("process", "name")
	}

	if program == "" && o.key == "MESSAGE" { // the journal has the kernel's transport
		program = o.text("_COMM")
		if program == "" {
			program = "?"
		}
	}

	program, _ = splitTag(strings.TrimSuffix(program, ":"))

	return program
}

// fromKernel reports whether the line is a record of the kernel's buffer: of dmesg -J, or of
// fluent-bit's kmsg input.
func (o *object) fromKernel() bool {
	return o.key == "msg" && (o.has("pri") || o.has("priority") && o.has("sec") && o.has("usec"))
}

// torn reports whether the message has an end. Docker splits long lines; only the last part
// ends with a newline.
func (o *object) torn(cut bool) bool {
	switch {
	case o.text("logtag") == "P":
		return true
	case o.key == "log" && o.has("stream") && !o.has("logtag"):
		return cut || !strings.HasSuffix(o.message, "\n")
	}

	return false // the object is complete, so the message is
}

// times reads the date and the uptime of the line.
func (o *object) times(d *decoder, r *record) {
	if us, err := strconv.ParseUint(o.text("_SOURCE_MONOTONIC_TIMESTAMP"), 10, 64); err == nil && us < 1<<53 {
		r.uptimeNS, r.uptime = us*1000, true
	}

	if o.fromKernel() && o.has("sec") {
		sec, err1 := strconv.ParseUint(o.text("sec"), 10, 32)
		us, err2 := strconv.ParseUint(o.text("usec"), 10, 32)

		if err1 == nil && err2 == nil && us < 1e6 {
			r.uptimeNS, r.uptime = sec*1e9+us*1e3, true
		}
	}

	for _, holder := range o.holders {
		for _, key := range timeKeys {
			if o.time(d, r, key, holder[key]) {
				return
			}
		}
	}
}

// time reads a value of a key for the time. It reports whether it is a date.
func (o *object) time(d *decoder, r *record, key string, value any) bool {
	switch value := value.(type) {
	case string:
		if t, ok := d.isoTime(value); ok {
			r.wall = t
			return true
		}

		return key != "date" && setEpoch(r, value)
	case json.Number:
		if ns, ok := seconds(string(value)); ok && ns < 1e17 { // dmesg -J: since the boot
			r.uptimeNS, r.uptime = ns, true
			return true
		}

		return setEpoch(r, string(value))
	}

	return false
}

// setEpoch reads a number that counts from 1970 in seconds, milliseconds, microseconds or
// nanoseconds: for the years from 1973 to 5138 its size determines which.
func setEpoch(r *record, text string) bool {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || n < 1e8 || n > 1e20 {
		return false
	}

	unit := int64(time.Second)
	for limit := 1e11; n >= limit && unit > 1; limit *= 1e3 {
		unit /= 1000
	}

	whole, frac, _ := strings.Cut(text, ".")

	count, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || count > math.MaxInt64/unit {
		return false
	}

	r.wall = time.Unix(0, count*unit).UTC()
	if ns, ok := seconds("0." + frac); ok && unit == int64(time.Second) {
		r.wall = r.wall.Add(time.Duration(ns))
	}

	return true
}

// bootID formats a boot id of 32 digits like /proc/sys/kernel/random/boot_id.
func bootID(s string) string {
	if len(s) != 32 {
		return s
	}

	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// objects collects JSON objects that are written over many lines: by dmesg -J, journalctl -o
// json-pretty, jq, or as elements of a list, as log stores answer. It hands on each object that is
// not within another one, each element of a list that is an object or a list, and a pair of a time
// and a line (Loki) as an object.
type objects struct {
	open    []byte // the kinds of the open brackets
	starts  []int  // where they open in text
	text    []byte
	quoted  bool
	escaped bool // the last byte was a backslash in a string
	// cut counts the elements of lists that were too long: their starts were dropped. dropped is true
	// until such a one ends.
	cut     int
	dropped bool
}

// begins reports whether a line is the start of JSON that goes on on the next line.
func (o *objects) begins(line []byte) bool {
	line = bytes.TrimSpace(line)
	if len(line) > 1 && line[0] == '{' && line[len(line)-1] == '}' {
		return false
	}

	return o.beginsLong(line)
}

// beginsLong is the same for a line whose end is not known.
func (o *objects) beginsLong(start []byte) bool {
	start = bytes.TrimLeft(start, " \t")
	if len(start) == 0 {
		return false
	}

	if rest := bytes.TrimSpace(start[1:]); start[0] == '[' {
		return len(rest) == 0 || rest[0] == '{'
	}

	return start[0] == '{'
}

// hasListOfObjects reports whether a value in a line is a list of objects, or of lists.
func hasListOfObjects(line []byte) bool {
	for {
		before, after, found := bytes.Cut(line, []byte("["))
		if !found {
			return false
		}

		before, line = bytes.TrimRight(before, " \t"), after
		after = bytes.TrimLeft(after, " \t")

		if bytes.HasSuffix(before, []byte(`":`)) && len(after) > 0 && (after[0] == '{' || after[0] == '[') {
			return true
		}
	}
}

// isAnswer reports whether a line is an object that has no message itself, and a list of objects.
func isAnswer(line []byte) bool {
	if len(line) == 0 || line[0] != '{' || !hasListOfObjects(line) {
		return false
	}

	top, ok := parseObject(string(line))

	return ok && !slices.ContainsFunc(messages(top, "", nil), func(o *object) bool { return o.key != "" })
}

// add takes in a line. It returns the objects that end in it, and whether the line is JSON.
func (o *objects) add(line []byte) (complete []string, ok bool) {
	complete, ok = o.addPart(line)

	return complete, ok && !o.quoted
}

// addPart takes in a part of a line. Objects that end before what is no JSON are complete.
func (o *objects) addPart(part []byte) (complete []string, ok bool) {
	for _, c := range part {
		opens := !o.quoted && (c == '{' || c == '[')
		if opens && (len(o.open) > 4*maxDepth || !o.mayOpen()) {
			return complete, false
		}

		o.text = append(o.text, c)

		switch {
		case o.escaped:
			o.escaped = false
		case o.quoted && c == '\\':
			o.escaped = true
		case c == '"':
			o.quoted = !o.quoted
		case o.quoted:
		case opens:
			o.open, o.starts = append(o.open, c), append(o.starts, len(o.text)-1)
		case c == '}' || c == ']':
			text, ok := o.end(c)
			if !ok {
				return complete, false
			}

			if text != "" {
				complete = append(complete, text)
			}
		case !strings.ContainsRune(" \t:,.+-0123456789truefalsnE", rune(c)):
			return complete, false
		}

		if len(o.text) > MaxLineBytes && !o.dropElement() {
			return complete, false
		}
	}

	return complete, true
}

// mayOpen reports whether a bracket may open here: directly in an object, only as a value.
func (o *objects) mayOpen() bool {
	if last := len(o.open) - 1; last < 0 || o.open[last] == '[' {
		return true
	}

	return bytes.HasSuffix(bytes.TrimRight(o.text, " \t"), []byte(":"))
}

// dropElement drops what there is of the element of the innermost list. It is false if no list is
// open.
func (o *objects) dropElement() bool {
	list := bytes.LastIndexByte(o.open, '[')
	if list < 0 || o.starts[list] > MaxLineBytes/2 {
		return false
	}

	o.text = o.text[:o.starts[list]+1]
	for i := list + 1; i < len(o.starts); i++ {
		o.starts[i] = len(o.text)
	}

	if !o.dropped {
		o.dropped = true
		o.cut++
	}

	return true
}

// end closes a bracket. It returns the text of the object if it is one to hand on.
func (o *objects) end(bracket byte) (text string, ok bool) {
	last := len(o.open) - 1
	if last < 0 || o.open[last] != bracket-2 { // ASCII: { and }, [ and ]
		return "", false
	}

	start := o.starts[last]
	o.open, o.starts = o.open[:last], o.starts[:last]

	switch {
	case last == 0:
		text = string(o.text[start:])
		o.text = o.text[:0]
	case o.open[last-1] == '[':
		text = string(o.text[start:])
		// The list may be as long as the log: what was before is dropped, unless it has a string, which
		// a pair needs.
		if list := o.starts[last-1]; bytes.IndexByte(o.text[list:start], '"') < 0 {
			start = list + 1
		}
		o.text = append(o.text[:start], "null"...)
		o.dropped = false
	}

	if bracket == ']' && text != "" {
		text = pair(text)
	}

	return text, true
}

// pair returns an element of a list as an object if it is a time, a line, and perhaps labels.
// Anything else is handed on as it is: it may be about a kill, which is counted then.
func pair(text string) string {
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) < 2 || len(list) > 3 {
		return text
	}

	if !startsTime(list[0]) || list[1][0] != '"' || len(list) == 3 && list[2][0] == '"' {
		return text
	}

	return fmt.Sprintf(`{"ts":%s,"line":%s}`, list[0], list[1])
}

// startsTime reports whether a value starts with a number of four digits: as a date does, and a
// count since 1970.
func startsTime(value []byte) bool {
	digits := bytes.TrimPrefix(value, []byte(`"`))

	return len(digits) >= 4 && bytes.Trim(digits[:4], "0123456789") == nil
}

// inside reports whether an object or list is open.
func (o *objects) inside() bool { return len(o.open) > 0 }

// collect takes a line into the JSON object that is open, or that it starts. isJSON reports
// whether the line belongs to one, and is no line of its own.
func (d *decoder) collect(line []byte) (complete []string, isJSON bool) {
	if !d.objects.inside() && !d.objects.begins(line) && !isAnswer(line) {
		return nil, false
	}

	complete, ok := d.objects.add(line)
	if !ok {
		d.objects = objects{}
		return nil, false
	}

	return complete, true
}
