// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// noise is what an unprivileged tenant does all the time to have the kernel report it: each
// kind in a process of its own, in one cgroup.
type noise struct {
	began time.Time
	hogs  map[string]*exec.Cmd // by kind
}

// noiseKinds are those of the program hog.
var noiseKinds = []string{"trickle", "zombie", "cgroup"}

func startNoise(cgroupV1 bool) (*noise, error) {
	dir := filepath.Join(newGuest(cgroupV1).mount, "noise")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup for noise: %w", err)
	}

	cgroup, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer cgroup.Close()

	n := &noise{hogs: map[string]*exec.Cmd{}}

	for _, kind := range noiseKinds {
		cmd := exec.Command("/bin/hog", "noise", dir, kind, noiseCount(kind))
		cmd.Env = []string{"HOG_NAME=noise"}
		cmd.Stderr = os.Stderr

		stdin, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}

		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("start the noise: %w", err)
		}

		// It is as protected from the OOM killer as the guest, whose child it is.
		if _, err := fmt.Fprint(cgroup, cmd.Process.Pid); err != nil {
			return nil, fmt.Errorf("move the noise to its cgroup: %w", err)
		}

		if _, err := fmt.Fprintln(stdin); err != nil {
			return nil, fmt.Errorf("start the noise: %w", err)
		}

		n.hogs[kind] = cmd
	}

	n.began = time.Now()

	return n, nil
}

func noiseCount(kind string) string { return filepath.Join(filesDir, "noise-"+kind) }

// stop ends the noise, and returns how often per second each kind was made.
func (n *noise) stop() map[string]float64 {
	perSecond := map[string]float64{}

	for kind, cmd := range n.hogs {
		if count, err := os.ReadFile(noiseCount(kind)); err == nil && len(count) >= 8 {
			perSecond[kind] = float64(binary.NativeEndian.Uint64(count)) / time.Since(n.began).Seconds()
		}

		_ = cmd.Process.Kill()
		if err := cmd.Wait(); !strings.Contains(fmt.Sprint(err), "signal: killed") {
			perSecond[kind] = 0 // it ended by itself
		}
	}

	return perSecond
}
