// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/test/internal/must"
	"github.com/oomtrace/oomtrace/test/internal/qemu"
	"github.com/oomtrace/oomtrace/test/internal/trace"
)

// recordUntilCut sends what a recording on the disk has, and continues it while
// processes die, until the power is cut. With readOnly, it only reads.
func recordUntilCut(readOnly bool) error {
	const dir = "/disk/recording"
	// What is not synced goes to the disk soon, and is in its cache when the power goes.
	for _, file := range []string{"dirty_writeback_centisecs", "dirty_expire_centisecs"} {
		must.OK("set "+file, os.WriteFile("/proc/sys/vm/"+file, []byte("5"), 0))
	}

	mountDisk("/disk")

	if err := qemu.Send(os.Stdout, readDisk(dir)); err != nil || readOnly {
		return err
	}

	recorder := exec.Command(oomtrace, "trace", "-o", "json", "--record", dir, "--segment-size", smallSegments)
	recorder.Stderr = os.Stdout
	out, in, err := os.Pipe()
	must.OK("make a pipe", err)

	recorder.Stdout = in
	must.OK("start a recorder", recorder.Start())
	in.Close()

	lines := bufio.NewReader(out)
	next := func() string {
		// A recorder that hangs must not look like a crash of the emulator.
		must.OK("limit the wait for the recorder", out.SetReadDeadline(time.Now().Add(startLimit)))

		line, err := lines.ReadString('\n')
		must.OK("read from the recorder", err)

		return strings.TrimSuffix(line, "\n")
	}

	next() // with its first line it sees kills

	go killForever()

	for {
		// Only an incident is on disk before it is printed.
		if line := next(); trace.IsIncident(line) {
			fmt.Println(markPrinted, lineSum(line))
		}
	}
}

// killForever makes processes die by the limit of a cgroup, one after the other.
func killForever() {
	defer func() {
		if err := must.Failed(recover()); err != nil {
			fmt.Println("guest:", err)

			_ = qemu.SendError(os.Stdout, err)

			os.Exit(1) // nothing else ends a guest in which nobody dies
		}
	}()

	g := newGuest(false)
	leaf := g.leaf(4)

	for {
		g.hog(leaf, "anon", "8")
	}
}

// mountDisk mounts the file system of the disk; its journal is replayed then.
func mountDisk(at string) {
	loadModules("virtio_blk")

	const device = "/dev/vda"
	for range 500 {
		if _, err := os.Stat(device); err == nil {
			break
		}

		time.Sleep(10 * time.Millisecond)
	}

	must.OK("make a directory", os.MkdirAll(at, 0o755))
	must.OK("mount "+device, unix.Mount(device, at, "ext4", 0, ""))
}

// readDisk replays the recording on the disk; none is an empty one.
func readDisk(dir string) readBack {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return readBack{}
	}

	r, err := replay(dir)
	if err != nil {
		return readBack{Error: err.Error()}
	}

	back := readBack{Lines: len(r.lines), Packed: r.packed, Warnings: r.warnings}
	// What was not synced may be there in parts, anywhere.
	if w := r.unexpected(tornTail, damaged); w != "" {
		back.Error = w
	}

	for _, line := range r.incidents {
		back.Incidents = append(back.Incidents, lineSum(line))
	}

	return back
}
