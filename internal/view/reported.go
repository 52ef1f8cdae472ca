// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// eviction is the kubelet's view of the node.
func (b block) eviction() []group {
	e := b.inc.Eviction
	if e == nil {
		return nil
	}

	var items []string
	if e.AvailableBytes != nil {
		items = append(items, "memory.available "+phrase.Size(*e.AvailableBytes))
	}

	if e.MemAvailableBytes != nil {
		items = append(items, "MemAvailable of the kernel "+phrase.Size(*e.MemAvailableBytes))
	}

	items = append(items, phrase.NonEmpty(threshold("hard", e.HardBytes, e.HardSinceNS), threshold("soft", e.SoftBytes, e.SoftSinceNS))...)
	if e.Source != "" {
		items = append(items, "thresholds from "+e.Source)
	}

	groups := []group{prose(e.Text), list(items...)}
	for _, line := range e.Log {
		groups = append(groups, prose(line))
	}

	return groups
}

func threshold(name string, bytes, since *uint64) string {
	if bytes == nil && since == nil {
		return ""
	}

	item := name + " threshold"
	if bytes != nil {
		item += " " + phrase.Size(*bytes)
	}

	if since != nil {
		item += ", below it for " + phrase.Duration(*since)
	}

	return item
}

// runtime is what the container runtime reported of the containers' ends.
func (b block) runtime() []group {
	var groups []group
	for i := range b.inc.Reported {
		groups = append(groups, prose(b.runtimeReport(&b.inc.Reported[i])))
	}

	return groups
}

func (b block) runtimeReport(r *events.Reported) string {
	text := r.Text
	if text == "" {
		status := ""
		if r.ExitCode != nil {
			status = fmt.Sprintf("exit status %d", *r.ExitCode)
		}
		text = phrase.Join(", ", r.State, r.Reason, status)
	}

	if !r.Agrees {
		text = "MISMATCH: " + text
	}

	return "container " + cmp.Or(r.Container, r.ContainerID) + ": " + text
}
