// SPDX-License-Identifier: Apache-2.0

package names

import (
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
	"unique"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Bounds of text in bytes. Kubernetes allows less: names of 253, labels of 317
// and 63. What is longer ends with "…".
const (
	maxName       = 256
	maxImage      = 512
	maxLabelKey   = 320
	maxLabelValue = 256
	// Labels beyond these are left out, and counted under the key "…".
	maxLabels     = 64
	maxLabelBytes = 4096
)

const ellipsis = "…"

// bound cuts text that is too long. Names are as the runtime has them otherwise,
// whatever bytes they hold: who shows them makes them safe.
func bound(w *events.Workload) {
	for _, s := range []*string{&w.Namespace, &w.Pod, &w.PodUID, &w.Container, &w.ContainerID, &w.Runtime, &w.QoS} {
		*s = clip(*s, maxName)
	}

	w.Image = clip(w.Image, maxImage)
	for _, s := range []*string{&w.Namespace, &w.Container, &w.Runtime, &w.QoS, &w.Image} {
		*s = unique.Make(*s).Value() // thousands of pods share a few
	}
	w.Labels = boundLabels(w.Labels)
}

func boundLabels(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return nil
	}

	kept, bytes, left := make(map[string]string, min(len(labels), maxLabels)), 0, 0
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		k, v := clip(key, maxLabelKey), clip(labels[key], maxLabelValue)
		if len(kept) == maxLabels || bytes+len(k)+len(v) > maxLabelBytes {
			left++
			continue
		}
		kept[unique.Make(k).Value()] = unique.Make(v).Value()
		bytes += len(k) + len(v)
	}

	if left > 0 {
		kept[ellipsis] = strconv.Itoa(left) + " more labels"
	}

	return kept
}

// clip cuts at a rune's begin.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}

	end := most - len(ellipsis)
	for end > 0 && end > most-len(ellipsis)-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	// A copy, so that the whole text is not kept.
	return string(append([]byte(s[:end]), ellipsis...))
}
