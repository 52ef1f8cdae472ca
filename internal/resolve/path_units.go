// SPDX-License-Identifier: Apache-2.0

package resolve

import "strings"

// units recognizes slices, services and scopes of systemd, and the services of Talos, which
// has no systemd.
func (w *walk) units(name string) bool {
	if w.inside(kindJob) {
		return false
	}

	if w.talosService(name) {
		return w.enter(level{kind: kindService, name: name, system: "talos"})
	}

	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 {
		return false
	}

	switch name[dot:] {
	case ".slice":
		return w.enter(level{kind: kindSlice, name: name})
	case ".service", ".scope", ".socket", ".mount", ".swap":
		// The init.scope of a user's service manager, or of a machine's, is not the node's
		// own: it is the manager's own cgroup within its service or machine.
		if name == "init.scope" && (w.inside(kindService) || !w.onHost()) {
			return false
		}

		return w.enter(level{kind: kindService, name: name})
	}

	return false
}

// talosService reports whether a cgroup is a service of Talos, by the names of
// pkg/machinery/constants: what runs pods is in /podruntime, the rest in /system.
func (w *walk) talosService(name string) bool {
	if w.below == 2 && w.parent == "podruntime" {
		return true
	}

	if w.below == 3 && w.parent == "extensions" && w.above == "system" {
		return true
	}

	if w.below != 2 || w.parent != "system" {
		return false
	}

	switch name {
	case "apid", "trustd", "runtime", "udevd", "dashboard":
		return true
	}

	return false
}
