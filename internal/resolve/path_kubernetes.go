// SPDX-License-Identifier: Apache-2.0

package resolve

import "strings"

// Quality of service classes, as the kubelet's cgroups are named. A guaranteed
// pod has no level of its own.
const (
	qosGuaranteed = "guaranteed"
	qosBurstable  = "burstable"
	qosBestEffort = "besteffort"
)

// kubernetes recognizes the cgroups of a kubelet down to the pod, and pods of runtimes that
// have their own.
func (w *walk) kubernetes(name string) bool {
	switch {
	case name == "kubepods":
		return w.enter(level{kind: kindKubepods})
	case (name == qosBurstable || name == qosBestEffort) && w.at(kindKubepods):
		return w.enter(level{kind: kindQoS, name: name})
	}

	return w.kubeSlice(name) || w.pod(name)
}

// kubeSlice recognizes the slices of the kubelet's systemd driver, which repeat the
// names above them: [root-]kubepods[-qos][-poduid].slice.
func (w *walk) kubeSlice(name string) bool {
	qos, uid, ok := parseKubeSlice(name)
	if !ok {
		return false
	}

	for last := w.last(); last != nil && (last.kind == kindKubepods || last.kind == kindQoS); last = w.last() {
		w.depth--
	}

	w.enter(level{kind: kindKubepods})

	if qos != "" {
		w.enter(level{kind: kindQoS, name: qos})
	}

	if uid != "" {
		w.enter(level{kind: kindPod, name: uid})
	}

	return true
}

func parseKubeSlice(name string) (qos, uid string, ok bool) {
	name, ok = strings.CutSuffix(name, ".slice")
	if !ok {
		return "", "", false
	}

	at := strings.LastIndex(name, "kubepods")
	if at < 0 || at > 0 && name[at-1] != '-' {
		return "", "", false
	}
	rest := name[at+len("kubepods"):]

	for _, q := range [...]string{qosBurstable, qosBestEffort} {
		if after, ok := cutWord(rest, q); ok {
			qos, rest = q, after
			break
		}
	}

	if rest == "" {
		return qos, "", true
	}

	if rest, ok = strings.CutPrefix(rest, "-"); !ok {
		return "", "", false
	}

	if uid, ok = podUID(rest); !ok {
		uid, ok = staticPodUID(rest)
		uid = strings.ReplaceAll(uid, "_", "-")
	}

	if qos == "" {
		qos = qosGuaranteed
	}

	return qos, uid, ok
}

// cutWord cuts "-word" off the start of s, at a word boundary.
func cutWord(s, word string) (string, bool) {
	after, ok := strings.CutPrefix(s, "-"+word)
	if !ok || after != "" && after[0] != '-' {
		return s, false
	}

	return after, true
}

// pod recognizes the pod's directory of the kubelet's cgroupfs driver, and pods of
// runtimes that have their own.
func (w *walk) pod(name string) bool {
	if w.belongsToPod() {
		return false
	}

	if strings.HasPrefix(name, "pod") {
		ofKubelet := w.at(kindKubepods) || w.at(kindQoS)

		uid, ok := podUID(name)
		if !ok && ofKubelet {
			uid, ok = staticPodUID(name)
		}

		if ok {
			if w.at(kindKubepods) {
				w.enter(level{kind: kindQoS, name: qosGuaranteed})
			}

			return w.enter(level{kind: kindPod, name: uid})
		}
	}

	runtime, id := w.runtimePod(name)
	if runtime == "" || !IsContainerID(id) {
		return false
	}

	return w.enter(level{kind: kindPod, name: id, system: runtime})
}

// belongsToPod reports whether the path is below a pod or a container of the same kubelet
// or machine: there are no pods in them.
func (w *walk) belongsToPod() bool {
	for i := w.depth - 1; i >= 0; i-- {
		switch w.levels[i].kind {
		case kindPod, kindContainer:
			return true
		case kindKubepods, kindGuest:
			return false
		}
	}

	return false
}

// runtimePod returns the runtime whose pod a directory is by its name, and the
// text that should be the pod's id.
func (w *walk) runtimePod(name string) (runtime, id string) {
	if runtime := w.table.ByPodParent(w.parent); runtime != nil {
		return runtime.Name, name
	}

	for i := range w.table {
		for _, prefix := range w.table[i].PodPrefixes {
			if _, after, ok := strings.Cut(name, prefix); ok {
				return w.table[i].Name, strings.TrimSuffix(after, ".slice")
			}
		}
	}

	return "", ""
}

// podUID parses pod<uid>: a UUID, or the 32 digits of a static pod's configuration. Unit
// names of systemd cannot hold the dashes of a UUID, so the kubelet writes underscores.
func podUID(s string) (string, bool) {
	s, ok := strings.CutPrefix(s, "pod")
	if !ok {
		return "", false
	}

	switch len(s) {
	case 32:
		return s, IsHex(s)
	case 36:
		return strings.ReplaceAll(s, "_", "-"), isUUID(s, "-_")
	}

	return "", false
}

// isUUID reports whether s is a UUID whose groups are separated by one of these characters.
func isUUID(s, separators string) bool {
	if len(s) != 36 {
		return false
	}

	at := 0
	for _, n := range [...]int{8, 4, 4, 4, 12} {
		if !IsHex(s[at : at+n]) {
			return false
		}

		at += n
		if at < len(s) {
			if strings.IndexByte(separators, s[at]) < 0 {
				return false
			}

			at++
		}
	}

	return true
}

// staticPodUID parses pod<uid> with the UID that a manifest of a static pod sets
// (metadata.uid), which may be any name. The kubelet takes it as it is
// (pkg/kubelet/config/common.go: applyDefaults).
func staticPodUID(s string) (string, bool) {
	s, ok := strings.CutPrefix(s, "pod")
	if !ok || s == "" || !isAlphanumeric(s[0]) {
		return "", false
	}

	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return "", false
		}
	}

	return s, true
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
