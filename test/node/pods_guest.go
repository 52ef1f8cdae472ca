// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/oomtrace/oomtrace/test/internal/qemu"
)

// PodsResult is what a guest sends of a boot with pods.
type PodsResult struct {
	Kernel string `json:"kernel"`
	Output string `json:"output"` // of the tests
	Passed bool   `json:"passed"`
	Trace  string `json:"trace"` // of the oomtrace with the runtime's socket
}

// RunPods runs TestContainerd in the guest, with its own containerd and runc. lab.pods is
// the driver of cgroups, lab.cases has the scenarios.
func RunPods() error {
	// A sandbox gets the node's.
	if _, err := os.Stat("/etc/hosts"); errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile("/etc/hosts", []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
			return err
		}
	}

	driver, _ := qemu.BootOption("lab.pods")
	scenarios := strings.Join(qemu.BootList("lab.cases"), "|")

	dir, err := os.MkdirTemp("", "traces")
	if err != nil {
		return err
	}

	cmd := exec.Command("/lab/node.test", "-test.v", "-test.timeout=0",
		"-test.run=^TestContainerd$/^installed$/^"+driver+"$/^("+scenarios+")$",
		"-installed", "-oomtrace", oomtrace, "-hog", "/lab/hog", "-save", dir,
		// An emulator is slow, the more so the busier its host is.
		"-loop", "10", "-at-a-time", "2", "-patience", "4m")

	var output bytes.Buffer

	cmd.Env = append(os.Environ(), "OOMTRACE_LAB=1")
	cmd.Stdout = io.MultiWriter(os.Stdout, &output)
	cmd.Stderr = cmd.Stdout
	err = cmd.Run()

	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("start the tests: %w", err)
	}

	result := PodsResult{Kernel: release(), Output: output.String(), Passed: err == nil}
	trace, _ := os.ReadFile(filepath.Join(dir, "cri.jsonl")) // without it, a test has failed
	result.Trace = string(trace)

	return qemu.Send(os.Stdout, result)
}
