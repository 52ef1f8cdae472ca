// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Kinds of lines in the kubelet's log.
const (
	FoundReclaim    = "reclaim"      // a threshold is crossed: the kubelet starts to free resources
	FoundMustEvict  = "must_evict"   // that was not enough
	FoundEvicting   = "evicting"     // Pod is about to be evicted
	FoundEvicted    = "evicted"      // Pod was evicted
	FoundNotEvicted = "not_evicted"  // no pod could be evicted, or this one must not be
	FoundKilling    = "killing"      // a container is being stopped, for any reason
	FoundProbe      = "probe_failed" // of a container
	FoundPreempted  = "preempted"    // for a critical pod
)

// Finding is what a line of the kubelet's log states. Fields that the line lacks are
// empty.
type Finding struct {
	What        string
	Resource    string // memory, ephemeral-storage, ...
	Pod         string // namespace/name
	PodUID      string
	Container   string
	ContainerID string
	Probe       string // Liveness, Readiness, Startup
	// Text is the line's message, unescaped: it is not safe for a terminal.
	Text string
}

// phrases are the prefixes of messages, in lower case: the kubelet changed the case
// and separated the arguments in 1.21.
var phrases = []struct{ prefix, what string }{
	{"eviction manager: attempting to reclaim", FoundReclaim},
	{"eviction manager: must evict pod(s) to reclaim", FoundMustEvict},
	{"evicting pod", FoundEvicting},
	{"eviction manager: pod is evicted successfully", FoundEvicted},
	{"eviction manager: unable to evict any pods", FoundNotEvicted},
	{"eviction manager: cannot evict a critical pod", FoundNotEvicted},
	{"eviction manager: pod failed to evict", FoundNotEvicted},
	{"eviction manager: not evicting", FoundNotEvicted},
	{"eviction manager: eviction thresholds have been met, but no pods are active", FoundNotEvicted},
	{"killing container with a grace period", FoundKilling},
	{"probe failed", FoundProbe},
	{"preempting pod to free up resources", FoundPreempted},
	{"preempting pod ", FoundPreempted},
}

// ParseLine parses a line of a kubelet's log: in the format of klog, plain or
// structured, or of --logging-format=json, with any prefix of a log collector. It is
// not ok for a line that is neither about memory nor about the end of a container.
func ParseLine(text string) (f Finding, ok bool) {
	m, ok := split(text)
	if !ok {
		return Finding{}, false
	}
	f = Finding{Text: m.text}

	lower := strings.ToLower(m.text[:min(len(m.text), 256)])
	for _, p := range phrases {
		if strings.HasPrefix(lower, p.prefix) {
			f.What = p.what
			break
		}
	}

	if f.What == "" {
		// eviction manager: pod name_namespace(uid) is evicted successfully
		if !strings.HasPrefix(lower, "eviction manager: pod ") || !strings.Contains(lower, "is evicted successfully") {
			return Finding{}, false
		}
		f.What = FoundEvicted
	}

	f.Resource = m.values["resourceName"]
	f.Pod, f.PodUID = m.values["pod"], m.values["podUID"]

	f.Container, f.ContainerID, f.Probe = m.values["containerName"], m.values["containerID"], m.values["probeType"]
	if _, id, ok := strings.Cut(f.ContainerID, "://"); ok {
		f.ContainerID = id
	}

	f.unstructured(lower)

	return f, true
}

// unstructured parses arguments that are part of the message itself, before 1.21.
func (f *Finding) unstructured(lower string) {
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

// message is the message of a line, with its arguments.
type message struct {
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

	m := message{text: line[source+end+2:]}
	if quoted, err := strconv.QuotedPrefix(m.text); err == nil && quoted[0] == '"' {
		rest := m.text[len(quoted):]
		m.text, _ = strconv.Unquote(quoted)
		m.values = pairs(rest)
	}

	return m, true
}

// splitJSON parses the format of k8s.io/component-base/logs/json.
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

// pairs parses key="value" key=value key=[a b].
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
