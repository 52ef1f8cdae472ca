// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/oomtrace/oomtrace/test/internal/lab"
)

// binaries are those of a containerd.
type binaries struct {
	name                  string // of the subtest
	containerd, ctr, runc string // files
	path                  string // PATH: where containerd finds its shim
	version               string
}

// fetched returns those that scripts/containerd.sh fetched.
func fetched() (all []binaries, err error) {
	versions, err := filepath.Glob(filepath.Join(lab.Root, ".cache/cri/*/version"))
	if err != nil || len(versions) == 0 {
		return nil, errors.New("no containerd is fetched: run scripts/containerd.sh")
	}

	for _, file := range versions {
		version, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}

		dir, err := filepath.Abs(filepath.Dir(file))
		if err != nil {
			return nil, err
		}

		all = append(all, binaries{
			name: filepath.Base(dir), containerd: filepath.Join(dir, "containerd"), ctr: filepath.Join(dir, "ctr"),
			runc: filepath.Join(dir, "runc"), path: dir + ":" + os.Getenv("PATH"), version: strings.TrimSpace(string(version)),
		})
	}

	return all, nil
}

// ofMachine returns the machine's own.
func ofMachine() ([]binaries, error) {
	b := binaries{name: "installed", path: os.Getenv("PATH")}
	var errs []error

	for name, file := range map[string]*string{"containerd": &b.containerd, "ctr": &b.ctr, "runc": &b.runc} {
		found, err := exec.LookPath(name)
		*file, errs = found, append(errs, err)
	}

	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	text, err := exec.Command(b.containerd, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("run containerd --version: %w", err)
	}

	// containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+deb13u1
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return nil, fmt.Errorf("parse the output of containerd --version: %q", text)
	}

	b.version = fields[2]

	return []binaries{b}, nil
}
