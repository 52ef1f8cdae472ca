// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/oomtrace/oomtrace/internal/host"
)

// workload is two readers in small cgroups, which run all the time.
type workload struct {
	dir     string // of the file that is read, and of the counters
	scratch []*host.Scratch
	cmds    []*exec.Cmd
}

const limitBytes = 2 << 20

func newWorkload() (*workload, error) {
	dir, err := os.MkdirTemp("", "oomtrace-bench-")
	if err != nil {
		return nil, err
	}

	w := &workload{dir: dir}
	if err := w.start(); err != nil {
		w.close()
		return nil, fmt.Errorf("start the workload: %w", err)
	}

	time.Sleep(500 * time.Millisecond)

	return w, nil
}

func (w *workload) start() error {
	file := filepath.Join(w.dir, "sparse")
	if err := sparseFile(file, 1<<30); err != nil {
		return err
	}

	for i := range 2 {
		s, err := host.NewScratch(fmt.Sprintf("oomtrace-bench-%d-%d", os.Getpid(), i), limitBytes)
		if err != nil {
			return err
		}

		w.scratch = append(w.scratch, s)

		cmd, err := startHog(s, "read", "0", file, w.counter(i))
		if err != nil {
			return err
		}

		w.cmds = append(w.cmds, cmd)
	}

	return nil
}

// counter returns the file in which a reader keeps the number of its reads.
func (w *workload) counter(i int) string { return filepath.Join(w.dir, fmt.Sprint("count", i)) }

func (w *workload) close() {
	for _, cmd := range w.cmds {
		end(cmd)
	}

	for _, s := range w.scratch {
		s.Close()
	}

	os.RemoveAll(w.dir)
}

func sparseFile(name string, sizeBytes int64) error {
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return err
	}

	return os.Truncate(name, sizeBytes)
}

// startHog starts test/vm/hog in a cgroup.
func startHog(s *host.Scratch, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(".cache/bench/hog", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}

	if err := cmd.Start(); err != nil {
		return nil, err
	}

	err = s.Add(cmd.Process.Pid)
	if err == nil {
		_, err = in.Write([]byte("go\n"))
	}

	if err != nil {
		end(cmd)
		return nil, err
	}

	return cmd, nil
}

// end kills a process and waits for its exit.
func end(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

// reads returns the number of reads so far, from the files that the readers have mapped.
func (w *workload) reads() (total uint64, err error) {
	for i := range w.cmds {
		b, err := os.ReadFile(w.counter(i))
		if err != nil {
			return 0, fmt.Errorf("read a counter: %w", err)
		}

		if len(b) < 8 {
			return 0, fmt.Errorf("read a counter: got %d bytes, want 8", len(b))
		}

		total += binary.LittleEndian.Uint64(b)
	}

	return total, nil
}

// rate returns the reads per second over a slice.
func (w *workload) rate() (float64, error) {
	before, err := w.reads()
	if err != nil {
		return 0, err
	}
	began := time.Now()

	time.Sleep(*slice)

	after, err := w.reads()

	return float64(after-before) / time.Since(began).Seconds(), err
}

// pair measures the workload without and with a contender.
func (w *workload) pair(c contender, r *result) error {
	without, err := w.rate()
	if err != nil {
		return err
	}

	if c.args == nil {
		with, err := w.rate()
		r.ratios = append(r.ratios, with/without)

		return err
	}

	t, err := startTracer(c.args)
	if err != nil {
		return err
	}
	defer t.stop()

	time.Sleep(700 * time.Millisecond) // attached, and warm

	cpu := t.cpuMeter()

	with, err := w.rate()
	if err != nil {
		return err
	}

	if t.ended() {
		return errors.New("it exited by itself: " + t.errors())
	}

	r.ratios = append(r.ratios, with/without)
	r.cpu = append(r.cpu, cpu())
	r.rss = append(r.rss, t.rssMiB())

	return nil
}
