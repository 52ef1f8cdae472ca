// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfinement(t *testing.T) {
	for _, test := range []struct {
		name     string
		files    map[string]string
		pidns    string
		want     Confinement
		denials  string
		blinding bool
	}{
		{"nothing to read", nil, "", Confinement{}, "", false},
		{
			"free", map[string]string{"sys/kernel/security/lockdown": "[none] integrity confidentiality\n", "sys/fs/selinux/enforce": "0"},
			"pid:[4026531836]", Confinement{}, "", false,
		},
		{
			"integrity costs nothing", map[string]string{"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"},
			"pid:[4026531836]", Confinement{Lockdown: "integrity"}, "", false,
		},
		{
			"confidentiality", map[string]string{"sys/kernel/security/lockdown": "none integrity [confidentiality]\n"},
			"", Confinement{Lockdown: "confidentiality"}, "lockdown", false,
		},
		{"selinux", map[string]string{"sys/fs/selinux/enforce": "1"}, "", Confinement{SELinux: true}, "ausearch", false},
		{"a pod", nil, "pid:[4026532200]", Confinement{PIDNamespace: true}, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()

			for name, text := range test.files {
				path := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}

				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}

			if test.pidns != "" {
				if err := os.MkdirAll(filepath.Join(root, "proc/self/ns"), 0o755); err != nil {
					t.Fatal(err)
				}

				if err := os.Symlink(test.pidns, filepath.Join(root, "proc/self/ns/pid")); err != nil {
					t.Fatal(err)
				}
			}

			got := confinement(root)
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}

			denials := strings.Join(got.Denials(), "; ")
			if (denials == "") != (test.denials == "") || !strings.Contains(denials, test.denials) {
				t.Errorf("got denials %q, want %q in them, and none for nothing", denials, test.denials)
			}

			if blind := got.Blindness(); (blind != "") != test.blinding {
				t.Errorf("got %q, want something hidden: %v", blind, test.blinding)
			}
		})
	}
}
