// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// runtime is a containerd with what it needs.
type runtime struct {
	containerd, ctr, runc string // files
	path                  string // PATH: where containerd finds its shim
	version               string
}

// fetched is one that scripts/containerd.sh left in a directory.
func fetched(dir string) (runtime, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return runtime{}, err
	}

	version, err := os.ReadFile(filepath.Join(dir, "version"))
	if err != nil {
		return runtime{}, fmt.Errorf("%w: run scripts/containerd.sh", err)
	}

	return runtime{
		containerd: filepath.Join(dir, "containerd"), ctr: filepath.Join(dir, "ctr"), runc: filepath.Join(dir, "runc"),
		path: dir + ":" + os.Getenv("PATH"), version: strings.TrimSpace(string(version)),
	}, nil
}

// installed is the machine's own.
func installed() (runtime, error) {
	r := runtime{path: os.Getenv("PATH")}
	var errs []error

	for name, file := range map[string]*string{"containerd": &r.containerd, "ctr": &r.ctr, "runc": &r.runc} {
		found, err := exec.LookPath(name)
		*file, errs = found, append(errs, err)
	}

	if err := errors.Join(errs...); err != nil {
		return r, err
	}

	text, err := exec.Command(r.containerd, "--version").Output()
	if err != nil {
		return r, fmt.Errorf("asking containerd for its version: %w", err)
	}
	// containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+deb13u1
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return r, fmt.Errorf("containerd says of its version %q", text)
	}
	r.version = fields[2]

	return r, nil
}

// runtimes are those of a directory, or the one that is named.
func runtimes(dir, only string) ([]runtime, error) {
	versions, err := filepath.Glob(filepath.Join(dir, "*", "version"))
	if err != nil || len(versions) == 0 {
		return nil, fmt.Errorf("no runtimes in %s: run scripts/containerd.sh", dir)
	}
	var all []runtime

	for _, v := range versions {
		if name := filepath.Dir(v); only == "" || filepath.Base(name) == only {
			r, err := fetched(name)
			if err != nil {
				return nil, err
			}

			all = append(all, r)
		}
	}

	if len(all) == 0 {
		return nil, fmt.Errorf("there is no runtime %q in %s", only, dir)
	}

	return all, nil
}
