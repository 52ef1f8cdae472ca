// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/oomtrace/oomtrace/internal/host"
)

// workload is two readers in small cgroups. They run all the time and say each
// 100 ms how many reads they made.
type workload struct {
	scratch []*host.Scratch
	cmds    []*exec.Cmd
	file    string
	reads   []*counter
}

type counter struct{ path string }

const limitBytes = 2 << 20

func newWorkload() (*workload, error) {
	w := &workload{}

	dir, err := os.MkdirTemp("", "oomtrace-bench-")
	if err != nil {
		return nil, err
	}
	w.file = filepath.Join(dir, "sparse")

	f, err := os.Create(w.file)
	if err == nil {
		err = f.Truncate(1 << 30)
		f.Close()
	}

	if err != nil {
		return nil, err
	}

	for i := range 2 {
		s, err := host.NewScratch(fmt.Sprintf("oomtrace-bench-%d-%d", os.Getpid(), i), limitBytes)
		if err != nil {
			return nil, err
		}

		w.scratch = append(w.scratch, s)
		count := filepath.Join(dir, fmt.Sprint("count", i))
		cmd := exec.Command(".cache/bench/hog", "read", "0", w.file, count)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}

		if err == nil {
			err = s.Add(cmd.Process.Pid)
		}

		if err == nil {
			_, err = in.Write([]byte("go\n"))
		}

		if err != nil {
			return nil, err
		}

		w.cmds = append(w.cmds, cmd)
		w.reads = append(w.reads, &counter{count})
	}

	time.Sleep(500 * time.Millisecond)

	return w, nil
}

func (w *workload) close() {
	for _, cmd := range w.cmds {
		cmd.Process.Kill()
		cmd.Wait()
	}

	for _, s := range w.scratch {
		s.Close()
	}

	os.RemoveAll(filepath.Dir(w.file))
}

// done is the number of reads so far: the readers keep it in a file they map.
func (w *workload) done() (total uint64, err error) {
	for _, c := range w.reads {
		b, err := os.ReadFile(c.path)
		if err != nil || len(b) < 8 {
			return 0, fmt.Errorf("reading a counter: %w", err)
		}

		for i := range 8 {
			total += uint64(b[i]) << (8 * i)
		}
	}

	return total, nil
}

// rate is reads per second over a slice.
func (w *workload) rate() (float64, error) {
	before, err := w.done()
	if err != nil {
		return 0, err
	}
	began := time.Now()

	time.Sleep(*slice)
	after, err := w.done()

	return float64(after-before) / time.Since(began).Seconds(), err
}

// pair measures without and with a contender.
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
	busy := t.cpu()
	began := time.Now()

	with, err := w.rate()
	if err != nil {
		return err
	}

	if t.gone() {
		return errors.New("it ended by itself: " + t.errors())
	}

	r.ratios = append(r.ratios, with/without)
	r.cpu = append(r.cpu, (t.cpu()-busy)/time.Since(began).Seconds()*100)
	r.rss = append(r.rss, t.rss())

	return nil
}
