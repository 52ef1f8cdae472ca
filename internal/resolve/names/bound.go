// SPDX-License-Identifier: Apache-2.0

package names

import (
	"maps"
	"slices"
	"strconv"
	"unique"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve/source"
)

// Bounds of text in bytes. Kubernetes allows less: names of 253, labels of 317
// and 63. Longer text is cut, and ends with "…".
const (
	maxName       = 256
	maxImage      = 512
	maxLabelKey   = 320
	maxLabelValue = 256
	// Labels beyond these are left out, and counted under the key "…".
	maxLabels     = 64
	maxLabelBytes = 4096
)

// bound cuts text that is too long. It does not sanitize: names may contain any bytes,
// and output escapes them.
func bound(w *events.Workload) {
	for _, s := range []*string{&w.Namespace, &w.Pod, &w.PodUID, &w.Container, &w.ContainerID, &w.Runtime, &w.QoS} {
		*s = source.Clip(*s, maxName)
	}

	w.Image = source.Clip(w.Image, maxImage)
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
		k, v := source.Clip(key, maxLabelKey), source.Clip(labels[key], maxLabelValue)
		if len(kept) == maxLabels || bytes+len(k)+len(v) > maxLabelBytes {
			left++
			continue
		}
		kept[unique.Make(k).Value()] = unique.Make(v).Value()
		bytes += len(k) + len(v)
	}

	if left > 0 {
		kept[source.Ellipsis] = strconv.Itoa(left) + " more labels"
	}

	return kept
}
