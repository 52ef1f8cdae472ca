// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// The systems of guests, as Guest.System publishes them.
const (
	guestLXC        = "lxc"
	guestLibvirtLXC = "libvirt-lxc"
	guestNspawn     = "nspawn"
	guestVMSpawn    = "vmspawn"
	guestQEMU       = "qemu"
	guestMachine    = "machine"
)

// guests recognizes system containers and virtual machines.
func (w *walk) guests(name string) bool {
	switch {
	case strings.HasPrefix(name, "lxc.payload."):
		return w.guest(guestLXC, name[len("lxc.payload."):], "", "ns")
	case w.parent == "lxc.payload":
		return w.guest(guestLXC, name, "", "ns")
	case w.parent == "lxc" && w.above == "libvirt":
		return w.guest(guestLibvirtLXC, name, "", "")
	case w.parent == "lxc":
		return w.guest(guestLXC, name, "", "ns")
	case w.parent == "qemu" && w.above == "libvirt":
		return w.guest(guestQEMU, name, "", "")
	}

	return w.guestUnit(name) || w.libvirtDirectory(name)
}

func (w *walk) guest(system, name, unit, inner string) bool {
	if name == "" {
		return false
	}

	return w.enter(level{kind: kindGuest, name: unit, inner: inner, guest: &events.Guest{System: system, Name: name}})
}

// guestUnit recognizes guests that are units of systemd: of systemd-nspawn and vmspawn, of
// libvirt and systemd-machined, and of Proxmox.
func (w *walk) guestUnit(unit string) bool {
	if name, ok := cutBoth(unit, "systemd-nspawn@", ".service"); ok {
		return w.guest(guestNspawn, unescapeUnit(name), unit, "payload")
	}

	if name, ok := cutBoth(unit, "systemd-vmspawn@", ".service"); ok {
		return w.guest(guestVMSpawn, unescapeUnit(name), unit, "")
	}

	if name, ok := cutBoth(unit, "", ".scope"); ok && w.parent == "qemu.slice" && isNumber(name) {
		return w.guest(guestQEMU, name, unit, "")
	}

	if name, ok := cutBoth(unit, "machine-", ".scope"); ok {
		system, name := machineOf(unescapeUnit(name))
		return w.guest(system, name, unit, "payload")
	}

	return false
}

// machineOf splits the name of a machine that libvirt registered: <driver>-<id>-<name>
// (virDomainDriverGenerateMachineName). Any other has its own name.
func machineOf(machine string) (system, name string) {
	driver, rest, _ := strings.Cut(machine, "-")
	id, name, ok := strings.Cut(rest, "-")

	switch {
	case !ok || name == "" || !isNumber(id):
	case driver == "qemu":
		return guestQEMU, name
	case driver == "lxc":
		return guestLibvirtLXC, name
	}

	return guestMachine, machine
}

// libvirtDirectory recognizes the cgroups of libvirt without systemd: web.libvirt-qemu, and
// since 1.3 qemu-3-web.libvirt-qemu.
func (w *walk) libvirtDirectory(name string) bool {
	for _, g := range [...]struct{ suffix, system string }{{".libvirt-qemu", guestQEMU}, {".libvirt-lxc", guestLibvirtLXC}} {
		if machine, ok := strings.CutSuffix(name, g.suffix); ok {
			if system, name := machineOf(machine); system == g.system {
				machine = name
			}

			return w.guest(g.system, machine, "", "")
		}
	}

	return false
}

// cutBoth cuts a prefix and a suffix off, and reports whether something is left of a name
// that has both.
func cutBoth(s, prefix, suffix string) (string, bool) {
	if len(s) <= len(prefix)+len(suffix) || !strings.HasPrefix(s, prefix) || !strings.HasSuffix(s, suffix) {
		return "", false
	}

	return s[len(prefix) : len(s)-len(suffix)], true
}

// unescapeUnit undoes systemd-escape(1) for printable characters: \x2d is a dash. Any
// other escape stays as it is.
func unescapeUnit(s string) string {
	var b strings.Builder

	for {
		at := strings.Index(s, `\x`)
		if at < 0 || at+4 > len(s) {
			break
		}

		b.WriteString(s[:at])

		code, err := strconv.ParseUint(s[at+2:at+4], 16, 8)
		if err == nil && code > ' ' && code < 0x7f {
			b.WriteByte(byte(code))
		} else {
			b.WriteString(s[at : at+4])
		}
		s = s[at+4:]
	}

	if b.Len() == 0 {
		return s
	}

	b.WriteString(s)

	return b.String()
}

// isNumber reports whether s has nothing but digits, and one at least.
func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
