// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/test/lab"
)

// power reads back what is recorded on the disk, and goes on recording while
// processes die, until the power is cut. With readOnly, it only reads.
func power(m *machine, readOnly bool) (err error) {
	defer func() { err = errors.Join(err, failed(recover())) }()
	const dir = "/disk/recording"
	// What is not synced goes to the disk soon, and is in its cache when the power goes.
	for _, file := range []string{"dirty_writeback_centisecs", "dirty_expire_centisecs"} {
		check("hurrying the page cache", os.WriteFile("/proc/sys/vm/"+file, []byte("5"), 0))
	}

	mountDisk("/disk")

	if err := lab.Send(os.Stdout, found(dir)); err != nil || readOnly {
		return err
	}
	recorder := exec.Command("/bin/oomtrace", "trace", "-o", "json", "--record", dir, "--segment-size", smallSegments)
	recorder.Stderr = os.Stdout
	out, err := recorder.StdoutPipe()
	check("a pipe", err)
	check("starting a recorder", recorder.Start())
	lines := bufio.NewReader(out)
	// The first line says that it sees kills from now on.
	_, err = lines.ReadBytes('\n')
	check("waiting for the recorder", err)

	go killForEver(m)

	for {
		line, err := lines.ReadBytes('\n')
		check("reading from the recorder", err)
		// Only an incident is on disk before it is printed.
		if line = bytes.TrimSuffix(line, []byte("\n")); isIncident(line) {
			fmt.Println(lab.MarkPrinted, lab.LineSum(line))
		}
	}
}

// failed is what went wrong, of what was recovered.
func failed(recovered any) error {
	switch f := recovered.(type) {
	case nil:
		return nil
	case failure:
		return f.err
	default:
		panic(recovered)
	}
}

// killForEver makes processes die by the limit of a cgroup, one after the other.
func killForEver(m *machine) {
	s := &scene{m: m, facts: map[string]uint64{}}

	defer func() {
		if err := failed(recover()); err != nil {
			fmt.Println("guest:", err)
		}
	}()

	g := s.group("leaf", "leaf", 4, nil)
	for {
		s.hogOver(g, "anon", "8")
	}
}

// mountDisk mounts the file system of the disk; its journal is replayed then.
func mountDisk(at string) {
	load("virtio_blk")

	const device = "/dev/vda"
	for range 500 {
		if _, err := os.Stat(device); err == nil {
			break
		}

		time.Sleep(10 * time.Millisecond)
	}

	check("a directory", os.MkdirAll(at, 0o755))
	check("mounting "+device, unix.Mount(device, at, "ext4", 0, ""))
}

// found is what a recording on the disk gives; none is an empty one.
func found(dir string) lab.ReadBack {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return lab.ReadBack{}
	}

	r, err := readBack(dir)
	if err != nil {
		return lab.ReadBack{Error: err.Error()}
	}
	back := lab.ReadBack{Lines: len(r.lines), Packed: r.packed, Remarks: r.remarks}
	// What was not synced may be there in parts, anywhere.
	if strange := r.strange(tornTail, damaged); strange != "" {
		back.Error = strange
	}

	for _, line := range r.incidents {
		back.Incidents = append(back.Incidents, lab.LineSum([]byte(line)))
	}

	return back
}
