// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"cmp"
	"encoding/json"
	"fmt"
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
	FoundDeleted    = "deleted"      // Pod was deleted, by the API or from a static source
	FoundStarted    = "started"      // a container was started
	FoundBackOff    = "back_off"     // a container is started again, after a pause
)

// Types of probes whose failure makes the kubelet kill the container.
const (
	ProbeLiveness = "Liveness"
	ProbeStartup  = "Startup"
)

// Finding is what a line of the kubelet's log states. Fields that the line lacks are
// empty.
type Finding struct {
	What        string
	Resource    string // memory, ephemeral-storage, ...
	Pod         string // namespace/name; a deletion may name several, separated by spaces
	PodUID      string
	Container   string
	ContainerID string
	Probe       string // Liveness, Readiness, Startup
	// Text is the line's message, unescaped: it is not safe for a terminal.
	Text string
}

// String returns the text, with the type of the probe if the text lacks it.
func (f Finding) String() string {
	if f.Probe == "" || strings.Contains(strings.ToLower(f.Text), strings.ToLower(f.Probe)) {
		return f.Text
	}

	return fmt.Sprintf("%s probeType=%q", f.Text, f.Probe)
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
	{"syncloop delete", FoundDeleted},
	{"syncloop (delete", FoundDeleted}, // before 1.21
	{"syncloop remove", FoundDeleted},
	{"syncloop (remove", FoundDeleted},
}

// ParseLine parses a line of a kubelet's log: in the format of klog, plain or
// structured, or of --logging-format=json, with any prefix of a log collector. It is
// not ok for a line that is neither about memory nor about the end of a container.
func ParseLine(text string) (f Finding, ok bool) {
	m, ok := split(text)
	if !ok {
		return Finding{}, false
	}
	// This one has what happens to the container in an argument (kuberuntime_manager.go).
	if m.text == "Message for Container of pod" {
		m.text = m.values["containerMessage"]
	}

	f = Finding{Text: m.text}

	lower := strings.ToLower(m.text[:min(len(m.text), 256)])
	for _, p := range phrases {
		if strings.HasPrefix(lower, p.prefix) {
			f.What = p.what
			break
		}
	}

	f.Probe = m.values["probeType"]

	if f.What == "" {
		switch {
		// eviction manager: pod name_namespace(uid) is evicted successfully
		case strings.HasPrefix(lower, "eviction manager: pod ") && strings.Contains(lower, "is evicted successfully"):
			f.What = FoundEvicted
		// Container name failed liveness probe, will be restarted
		case strings.HasPrefix(lower, "container ") && strings.Contains(lower, " failed liveness probe"):
			f.What, f.Probe = FoundProbe, ProbeLiveness
		case strings.HasPrefix(lower, "container ") && strings.Contains(lower, " failed startup probe"):
			f.What, f.Probe = FoundProbe, ProbeStartup
		// failed to "StartContainer" for "app" with CrashLoopBackOff: "back-off 10s restarting failed container=app ..."
		case strings.HasPrefix(lower, "error syncing pod") && strings.Contains(m.values["err"], "CrashLoopBackOff"):
			f.What = FoundBackOff
		case strings.HasPrefix(lower, "syncloop (pleg): event for pod") && strings.Contains(m.text+m.rest, "ContainerStarted"):
			f.What = FoundStarted
		default:
			return Finding{}, false
		}
	}

	f.Resource = cmp.Or(m.values["resourceName"], lowResource(m.values["message"]))
	f.Pod, f.PodUID = m.values["pod"], m.values["podUID"]

	if f.What == FoundDeleted { // pods=["shop/a","shop/b"]; older kubelets omit the quotes
		names := strings.FieldsFunc(m.values["pods"], func(r rune) bool { return strings.ContainsRune(`[]", `, r) })
		f.Pod = strings.Join(names, " ")
	}

	f.Container, f.ContainerID = m.values["containerName"], containerID(cmp.Or(m.values["containerID"], m.values["containerStatusID"]))

	if f.What == FoundStarted {
		f.PodUID, f.ContainerID = startedContainer(m.rest)
	}

	if f.What == FoundBackOff {
		_, rest, _ := strings.Cut(m.values["err"], " for \"")
		f.Container, _, _ = strings.Cut(rest, "\"")
	}

	f.unstructured(lower)

	return f, true
}

// containerID reads an id as the kubelet logs it: containerd://ID, or {"Type":"containerd","ID":"ID"}.
func containerID(value string) string {
	var object struct{ ID string }
	if json.Unmarshal([]byte(value), &object) == nil {
		return object.ID
	}

	if _, id, ok := strings.Cut(value, "://"); ok {
		return id
	}

	return value
}

// startedContainer reads event={"ID":"POD","Type":"ContainerStarted","Data":"CONTAINER"}, before
// 1.24 event=&{ID:POD Type:ContainerStarted Data:CONTAINER}.
func startedContainer(arguments string) (pod, container string) {
	_, event, _ := strings.Cut(arguments, "event=")
	value := func(key string) string {
		_, rest, _ := strings.Cut(event, key)
		rest = strings.TrimLeft(rest, `":`)
		end := strings.IndexAny(rest, `" }`)

		return rest[:max(end, 0)]
	}

	return value("ID"), value("Data")
}

// lowResource reads the resource in the message of an eviction: "The node was low on resource:
// memory. Threshold quantity: ..." (pkg/kubelet/eviction/helpers.go: nodeLowMessageFmt).
func lowResource(message string) string {
	_, rest, _ := strings.Cut(message, "The node was low on resource: ")
	resource, _, _ := strings.Cut(rest, ". ")

	return strings.TrimSuffix(resource, ".")
}

// unstructured parses arguments that are part of the message itself, before 1.21.
func (f *Finding) unstructured(lower string) {
	if f.Resource == "" && (f.What == FoundReclaim || f.What == FoundMustEvict) {
		if words := strings.Fields(lower); len(words) > 0 && words[len(words)-1] != "reclaim" {
			f.Resource = words[len(words)-1]
		}
	}

	var before string

	switch {
	case f.Pod != "":
		return
	case f.What == FoundEvicted:
		before = ": pod "
	case f.What == FoundDeleted: // SyncLoop (DELETE, "api"): "name_namespace(uid)"
		before = `: "`
	default:
		return
	}

	_, rest, ok := strings.Cut(f.Text, before)
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
	rest   string // the arguments as they stand
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
		m.rest, m.values = rest, pairs(rest)
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
		case map[string]any:
			m.values[key] = podName(v)
			if id, ok := v["ID"].(string); ok {
				m.values[key] = id
			}
		case []any:
			var names []string

			for _, one := range v {
				if pod, ok := one.(map[string]any); ok {
					names = append(names, podName(pod))
				}
			}
			m.values[key] = strings.Join(names, " ")
		}
	}

	return m, true
}

// podName returns namespace/name of {"name": ..., "namespace": ...}.
func podName(pod map[string]any) string {
	name, _ := pod["name"].(string)
	namespace, _ := pod["namespace"].(string)

	return strings.Trim(namespace+"/"+name, "/")
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
