// SPDX-License-Identifier: Apache-2.0

package phrase

import "github.com/oomtrace/oomtrace/internal/events"

// Victim is a victim in a list: "java[4711]". Where the killer named no process, it is what died
// instead, with where that was: "2104 processes in app-x.scope", "pod shop/cart-1". The killer may
// be nil.
func Victim(v *events.Victim, k *events.Killer) string {
	if v.Comm != "" || v.PID > 0 {
		return Task(v.Comm, v.PID)
	}

	place := Place(v.Workload, nil)
	if place != "" && k != nil && k.Reason == events.ReasonEviction {
		return place
	}

	who := "a process"
	if k != nil && k.Processes != nil {
		who = Plural(*k.Processes, "process")
	}

	if place != "" {
		who += " in " + place
	}

	return who
}
