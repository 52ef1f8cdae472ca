// SPDX-License-Identifier: Apache-2.0

package events

import (
	"reflect"
	"slices"
)

// Merge applies an update to its incident. A key of the update replaces that of into as a
// whole. Victims are the exception: they are matched by pid and merged key by key, and new
// ones are appended. The envelope and the id of into are kept.
//
// Afterwards into shares what the update points to. Merge does not compare the ids.
func Merge(into, update *Incident) {
	victims := mergeVictims(into.Victims, update.Victims)
	overlay(reflect.ValueOf(into).Elem(), reflect.ValueOf(update).Elem(), "Envelope", "ID")
	into.Victims = victims
}

// mergeVictims copies old on write: copies of the incident may share its array.
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

// overlay sets the fields of dst that are set in src. It uses reflection so that no key of
// the contract can be forgotten here. An absent key decodes to the zero value.
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
