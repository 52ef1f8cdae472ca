// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/oomtrace/oomtrace/test/lab"
)

// pods plays what happens to pods, with the machine's own containerd and runc.
func pods(kernel, driver string, cases []string) error {
	// A sandbox gets the node's.
	if _, err := os.Stat("/etc/hosts"); errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile("/etc/hosts", []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
			return err
		}
	}
	result := lab.Pods{Kernel: kernel}

	save, err := os.MkdirTemp("", "traces")
	if err != nil {
		return err
	}
	var output bytes.Buffer

	args := []string{
		"--installed", "--driver", driver, "--oomtrace", "/lab/oomtrace", "--hog", "/lab/hog",
		// An emulator is slow, the more so the busier its host is.
		"--loop", "10", "--at-a-time", "2", "--patience", "4m", "--save", save,
	}
	for _, c := range cases {
		args = append(args, "--case", c)
	}
	cmd := exec.Command("/lab/cri", args...)
	cmd.Stdout = io.MultiWriter(os.Stdout, &output)
	cmd.Stderr = cmd.Stdout
	err = cmd.Run()

	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("starting the test of pods: %w", err)
	}
	result.Output, result.Passed = output.String(), err == nil

	trace, err := os.ReadFile(filepath.Join(save, "cri.jsonl"))
	if err != nil {
		return err
	}
	result.Trace = string(trace)

	return lab.Send(os.Stdout, result)
}
