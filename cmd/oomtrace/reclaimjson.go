// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
)

// Kinds of lines of `reclaim -o json`, beside those of the event contract.
const (
	kindReclaim = "reclaim"
	kindKswapd  = "kswapd"
)

// reclaimLine is a row as JSON. Its keys are documented in docs/reading-the-output.md. The
// rules of the event contract hold: what could not be read is absent and named in unknown.
type reclaimLine struct {
	events.Envelope
	Unknown    []string `json:"unknown,omitempty"`
	IntervalNS uint64   `json:"interval_ns"`

	By       string           `json:"by"`
	Name     string           `json:"name"`
	Cgroups  []string         `json:"cgroups"`
	Workload *events.Workload `json:"workload,omitempty"`
	Service  string           `json:"guardian,omitempty"`

	StallNS        uint64  `json:"stall_ns"`
	Count          uint64  `json:"reclaim_count"`
	NoProgress     uint64  `json:"fruitless_count"`
	ReclaimNS      uint64  `json:"reclaim_ns"`
	HighNS         *uint64 `json:"memory_high_ns,omitempty"`
	ThrottleNS     *uint64 `json:"throttle_ns,omitempty"`
	ReclaimedBytes uint64  `json:"reclaimed_bytes"`

	UsageBytes    *uint64 `json:"usage_bytes,omitempty"`
	HeadroomBytes *uint64 `json:"headroom_bytes,omitempty"`
	Limiter       string  `json:"limiter,omitempty"`
	PSISomeNS     *uint64 `json:"psi_some_ns,omitempty"`
	RefaultPages  *uint64 `json:"refault_pages,omitempty"`
}

// kswapdLine is what kswapd of one NUMA node did in an interval.
type kswapdLine struct {
	events.Envelope
	IntervalNS uint64 `json:"interval_ns"`
	Node       int    `json:"numa_node"`
	Wakeups    uint64 `json:"wakeups"`
	AwakeNS    uint64 `json:"awake_ns"`
}

// writeReclaimJSON writes a line for each row and each kswapd.
func writeReclaimJSON(
	w io.Writer, envelope events.Envelope, by string, seen seen, took time.Duration, rows []*reclaimRow, kswapd []kswapdRow,
) error {
	var lines []any

	for _, row := range rows {
		line := row.json(by, seen, took)
		line.Envelope = envelope
		line.Kind = kindReclaim
		lines = append(lines, line)
	}

	for _, k := range kswapd {
		line := &kswapdLine{Envelope: envelope, IntervalNS: uint64(took), Node: k.node, Wakeups: k.Wakeups, AwakeNS: k.AwakeNS}
		line.Kind = kindKswapd
		lines = append(lines, line)
	}

	for _, line := range lines {
		text, err := events.MarshalObject(line)
		if err != nil {
			return err
		}

		if _, err := w.Write(text); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
	}

	return nil
}

func (r *reclaimRow) json(by string, seen seen, took time.Duration) *reclaimLine {
	line := &reclaimLine{
		IntervalNS: uint64(took), By: by, Name: r.name, Cgroups: r.paths, Workload: r.workload, Service: r.service,
		StallNS: r.stallNS, Count: r.reclaim.Count, NoProgress: r.reclaim.NoProgress, ReclaimNS: r.reclaim.TotalNS,
		ReclaimedBytes: r.reclaim.ReclaimedPages * uint64(host.PageSize()),
		UsageBytes:     r.usage.usedBytes, HeadroomBytes: r.usage.headroomBytes, Limiter: r.usage.limiter,
		RefaultPages: r.usage.refaultPages,
	}

	if seen.high {
		line.HighNS = &r.highNS
	}

	if seen.throttle {
		line.ThrottleNS = &r.throttleNS
	}

	if us := r.usage.psiUS; us != nil {
		line.PSISomeNS = new(*us * 1000)
	}

	for key, value := range map[string]*uint64{
		"memory_high_ns": line.HighNS, "throttle_ns": line.ThrottleNS,
		"psi_some_ns": line.PSISomeNS, "refault_pages": line.RefaultPages, "usage_bytes": line.UsageBytes,
	} {
		if value == nil {
			line.Unknown = append(line.Unknown, key)
		}
	}

	slices.Sort(line.Unknown)

	return line
}
