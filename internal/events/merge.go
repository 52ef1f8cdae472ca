// SPDX-License-Identifier: Apache-2.0

package events

import (
	"reflect"
	"slices"
)

// Merge folds a later line of the same incident into the first one. A key that
// the update has replaces the one in into as a whole; only victims are matched,
// by pid, and merged key by key, and those not seen before are appended. The
// envelope and the id of into stay as they are: it remains the incident.
//
// Into takes over what the update points to. Merge does not check that the ids
// agree.
func Merge(into, update *Incident) {
	victims := mergeVictims(into.Victims, update.Victims)
	overlay(reflect.ValueOf(into).Elem(), reflect.ValueOf(update).Elem(), "Envelope", "ID")
	into.Victims = victims
}

// mergeVictims leaves the array behind old alone: copies of the incident may
// share it.
func mergeVictims(old, update []Victim) []Victim {
	if len(update) == 0 {
		return old
	}
	merged := slices.Clone(old)

	for i := range update {
		u := &update[i]

		at := slices.IndexFunc(merged, func(v Victim) bool { return v.PID == u.PID })
		if at < 0 {
			merged = append(merged, *u)
			continue
		}

		overlay(reflect.ValueOf(&merged[at]).Elem(), reflect.ValueOf(u).Elem())
	}

	return merged
}

// overlay sets each field of dst that src has. Reflection, so that a key which
// is added to the contract cannot be forgotten here; the zero value is what an
// absent key decodes to.
func overlay(dst, src reflect.Value, except ...string) {
	for i := range src.NumField() {
		field := src.Type().Field(i)
		switch {
		case slices.Contains(except, field.Name):
		case field.Anonymous:
			overlay(dst.Field(i), src.Field(i))
		case !src.Field(i).IsZero():
			dst.Field(i).Set(src.Field(i))
		}
	}
}
