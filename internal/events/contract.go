// SPDX-License-Identifier: Apache-2.0

// Package events is the event contract: the lines of -o json, of recordings and
// of replay. It imports nothing of the project, so that replay, reports and
// fuzzing stay light.
//
// Comments of types, fields and constants are published: the schema and the tables
// of docs/events.md are made from them, with the JSON key in the place of the
// field's name.
//
// Rules of the contract: keys are only ever added. Sizes are bytes (_bytes),
// durations nanoseconds (_ns), times RFC 3339 in UTC with nanoseconds. What
// could not be read is absent and named in "unknown"; zero means zero.
package events

import "time"

// Version is the value of "v" in every line.
const Version = 1

// Kinds of lines.
const (
	KindIncident       = "incident"
	KindIncidentUpdate = "incident_update"
	KindIncidentFinal  = "incident_final"
	KindLost           = "lost"
	KindStatus         = "status"
	KindStall          = "stall"
	KindPressure       = "pressure"
)

// Envelope is common to all lines.
type Envelope struct {
	// V is the version of the contract, 1. It changes only if a rule of the contract is broken.
	V int `json:"v"`
	// Kind is the kind of the line.
	Kind string `json:"kind"`
	// Time is when it happened: of an incident, its first victim, or its first OOM invocation if
	// nothing was killed.
	Time time.Time `json:"time"`
	// BootID is the id of the boot, /proc/sys/kernel/random/boot_id.
	BootID string `json:"boot_id"`
	// Node is the name of the node.
	Node string `json:"node"`
}
