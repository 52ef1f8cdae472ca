// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// What a line of the kubelet's log can say.
const (
	FoundReclaim    = "reclaim"         // a threshold is crossed: the kubelet begins to make room
	FoundMustEvict  = "must_evict"      // what it could free itself was not enough
	FoundRanked     = "ranked"          // the pods, the first to go first
	FoundEvicted    = "evicted"         // Pod was evicted
	FoundNotEvicted = "not_evicted"     // no pod could be, or this one may not
	FoundPressure   = "memory_pressure" // the node's condition changed
	FoundSystemOOM  = "system_oom"      // the kubelet itself saw a kill of the whole node
	FoundKilling    = "killing"         // a container is being stopped, for whatever reason
	FoundProbe      = "probe_failed"
	FoundPreempted  = "preempted" // for a critical pod
)

// Finding is what a line says. What it does not say is empty.
type Finding struct {
	Time        time.Time
	What        string
	Resource    string // memory, ephemeral-storage, ...
	Pod         string // namespace/name
	PodUID      string
	Container   string
	ContainerID string
	Probe       string // Liveness, Readiness, Startup
	// GraceSeconds is how long a container that is being stopped has.
	GraceSeconds *int64
	// Text is the line's message, as it stands: it is not safe for a terminal.
	Text string
}

// String is the line for people, as Eviction.Log has it: it is not safe for a
// terminal.
func (f Finding) String() string {
	words := []string{f.Text}
	if !f.Time.IsZero() {
		words = []string{f.Time.UTC().Format(time.RFC3339), f.Text}
	}

	for _, w := range []string{f.Resource, f.Probe, f.Pod, f.Container} {
		if w != "" && !strings.Contains(f.Text, w) {
			words = append(words, w)
		}
	}

	return strings.Join(words, " ")
}

// phrases are how messages begin, in lower case: the kubelet changed the case and
// put arguments aside in 1.21.
var phrases = []struct{ begin, what string }{
	{"eviction manager: attempting to reclaim", FoundReclaim},
	{"eviction manager: must evict pod(s) to reclaim", FoundMustEvict},
	{"eviction manager: pods ranked for eviction", FoundRanked},
	{"eviction manager: pod is evicted successfully", FoundEvicted},
	{"eviction manager: unable to evict any pods", FoundNotEvicted},
	{"eviction manager: cannot evict a critical pod", FoundNotEvicted},
	{"eviction manager: pod failed to evict", FoundNotEvicted},
	{"eviction manager: not evicting", FoundNotEvicted},
	{"eviction manager: eviction thresholds have been met, but no pods are active", FoundNotEvicted},
	{"got sys oom event", FoundSystemOOM},
	{"killing container with a grace period", FoundKilling},
	{"probe failed", FoundProbe},
	{"preempting pod to free up resources", FoundPreempted},
	{"preempting pod ", FoundPreempted},
}

// Line reads one line of a kubelet's log: of klog, plain or structured, of
// --logging-format=json, with whatever a carrier put before it. False: it says
// nothing about memory or the end of a container. Where the line has no year,
// Time has none either: see Read.
func Line(text string) (Finding, bool) {
	m, ok := split(text)
	if !ok {
		return Finding{}, false
	}
	f := Finding{Time: m.time, Text: m.text}

	lower := strings.ToLower(m.text[:min(len(m.text), 256)])
	for _, p := range phrases {
		if strings.HasPrefix(lower, p.begin) {
			f.What = p.what
			break
		}
	}

	switch {
	case f.What != "":
	case strings.HasPrefix(lower, "eviction manager: pod ") && strings.Contains(lower, "is evicted successfully"):
		// eviction manager: pod name_namespace(uid) is evicted successfully
		f.What = FoundEvicted
	case strings.HasPrefix(lower, "recording event message for node") &&
		(m.values["event"] == "NodeHasInsufficientMemory" || m.values["event"] == "NodeHasSufficientMemory"):
		f.What, f.Text = FoundPressure, m.values["event"]
	default:
		return Finding{}, false
	}
	f.Resource = m.values["resourceName"]
	f.Pod, f.PodUID = m.values["pod"], m.values["podUID"]

	f.Container, f.ContainerID, f.Probe = m.values["containerName"], m.values["containerID"], m.values["probeType"]
	if _, id, ok := strings.Cut(f.ContainerID, "://"); ok {
		f.ContainerID = id
	}

	if n, err := strconv.ParseInt(m.values["gracePeriod"], 10, 64); err == nil {
		f.GraceSeconds = &n
	}

	f.old(lower)

	return f, true
}

// old reads arguments that stand in the message itself, before 1.21.
func (f *Finding) old(lower string) {
	if f.Resource == "" && (f.What == FoundReclaim || f.What == FoundMustEvict) {
		if words := strings.Fields(lower); len(words) > 0 && words[len(words)-1] != "reclaim" {
			f.Resource = words[len(words)-1]
		}
	}

	if f.Pod != "" || f.What != FoundEvicted {
		return
	}
	_, rest, ok := strings.Cut(f.Text, ": pod ")
	name, uid, ok2 := strings.Cut(rest, "(")
	uid, _, ok3 := strings.Cut(uid, ")")

	pod, namespace, ok4 := strings.Cut(name, "_")
	if ok && ok2 && ok3 && ok4 {
		f.Pod, f.PodUID = namespace+"/"+pod, uid
	}
}

// message is a line taken apart.
type message struct {
	time   time.Time
	text   string
	values map[string]string
}

func split(line string) (message, bool) {
	line = strings.TrimRight(line, "\r\n")
	if at := strings.Index(line, `{"`); at >= 0 && strings.Contains(line[at:], `"msg":`) {
		if m, ok := splitJSON(line[at:]); ok {
			return m, true
		}
	}
	// I0102 15:04:05.000000    1234 file.go:123] message
	source := strings.Index(line, ".go:")
	if source < 0 {
		return message{}, false
	}

	end := strings.Index(line[source:], "] ")
	if end < 0 || end > 16 {
		return message{}, false
	}

	m := message{time: klogTime(line[:source]), text: line[source+end+2:]}
	if quoted, err := strconv.QuotedPrefix(m.text); err == nil && quoted[0] == '"' {
		rest := m.text[len(quoted):]
		m.text, _ = strconv.Unquote(quoted)
		m.values = pairs(rest)
	}

	return m, true
}

// splitJSON reads k8s.io/component-base/logs/json: ts is in milliseconds.
func splitJSON(text string) (message, bool) {
	var fields map[string]any
	if json.NewDecoder(strings.NewReader(text)).Decode(&fields) != nil {
		return message{}, false
	}

	msg, ok := fields["msg"].(string)
	if !ok {
		return message{}, false
	}

	m := message{text: msg, values: map[string]string{}}
	if ts, ok := fields["ts"].(float64); ok && ts > 0 && ts < 1e14 {
		m.time = time.UnixMilli(0).Add(time.Duration(ts * 1e6)).Round(time.Microsecond)
	}

	for key, value := range fields {
		switch v := value.(type) {
		case string:
			m.values[key] = v
		case float64:
			m.values[key] = strconv.FormatFloat(v, 'f', -1, 64)
		case map[string]any: // a pod: {"name": ..., "namespace": ...}
			name, _ := v["name"].(string)
			namespace, _ := v["namespace"].(string)
			m.values[key] = strings.Trim(namespace+"/"+name, "/")
		}
	}

	return m, true
}

// klogTime reads the header that ends a line's head; its year is 0.
func klogTime(head string) time.Time {
	words := strings.Fields(head)
	for i := 0; i+1 < len(words); i++ {
		if len(words[i]) != 5 || !strings.ContainsRune("IWEF", rune(words[i][0])) {
			continue
		}

		if t, err := time.ParseInLocation("0102 15:04:05", words[i][1:]+" "+words[i+1], time.Local); err == nil {
			return t
		}
	}

	return time.Time{}
}

// pairs reads key="value" key=value key=[a b].
func pairs(text string) map[string]string {
	values := map[string]string{}
	for len(values) < 64 {
		text = strings.TrimLeft(text, " ")

		key, rest, ok := strings.Cut(text, "=")
		if !ok || strings.ContainsAny(key, " \"") {
			return values
		}
		end := 0

		if quoted, err := strconv.QuotedPrefix(rest); err == nil && quoted[0] == '"' {
			values[key], _ = strconv.Unquote(quoted)
			end = len(quoted)
		} else {
			stop := " "
			if strings.HasPrefix(rest, "[") {
				stop = "]"
			}

			if end = strings.Index(rest, stop); end < 0 {
				end = len(rest)
			} else if stop == "]" {
				end++
			}
			values[key] = rest[:end]
		}
		text = rest[end:]
	}

	return values
}

// maxLine bounds a line; what is longer is cut.
const maxLine = 64 << 10

// Read gives what the lines of a log say, the first first, and how many lines
// there were. A line's time is the carrier's if it has one (journalctl -o
// short-unix, RFC 3339), else klog's own, with the year that brings it next to
// near. It ends at most findings, with the lines so far.
func Read(log io.Reader, near time.Time, most int) (found []Finding, lines int, err error) {
	in := bufio.NewReaderSize(log, maxLine)
	for {
		text, isPrefix, err := in.ReadLine()
		if errors.Is(err, io.EOF) {
			return found, lines, nil
		}

		if err != nil {
			return found, lines, fmt.Errorf("reading the kubelet's log: %w", err)
		}

		lines++
		line := string(text)

		for isPrefix && err == nil {
			_, isPrefix, err = in.ReadLine()
		}

		f, ok := Line(line)
		if !ok {
			continue
		}

		if t := carrierTime(line); !t.IsZero() {
			f.Time = t
		} else if !f.Time.IsZero() && f.Time.Year() == 0 {
			f.Time = withYear(f.Time, near)
		}

		if found = append(found, f); len(found) == most {
			return found, lines, nil
		}
	}
}

// carrierTime is the time that a line begins with.
func carrierTime(line string) time.Time {
	word, _, _ := strings.Cut(line, " ")
	if seconds, err := strconv.ParseFloat(word, 64); err == nil && seconds > 1e8 && seconds < 1e11 {
		whole, part := math.Modf(seconds)
		return time.Unix(int64(whole), int64(part*1e9)).Round(time.Microsecond)
	}

	if t, err := time.Parse(time.RFC3339Nano, word); err == nil {
		return t
	}

	return time.Time{}
}

// withYear gives a time the year in which it is nearest to another.
func withYear(t, near time.Time) time.Time {
	best := time.Time{}

	for year := near.Year() - 1; year <= near.Year()+1; year++ {
		at := time.Date(year, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
		if best.IsZero() || at.Sub(near).Abs() < best.Sub(near).Abs() {
			best = at
		}
	}

	return best
}
