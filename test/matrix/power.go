// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/oomtrace/oomtrace/test/lab"
	"github.com/oomtrace/oomtrace/test/lab/disk"
)

// cutMachine is a machine whose power is cut again and again. Its disk stays: what
// package disk keeps of it.
type cutMachine struct {
	kernel   kernel
	image    string
	socket   string // of the disk
	disk     *disk.Disk
	patience time.Duration   // with one boot
	printed  map[string]bool // incidents of all boots, by [lab.LineSum]
}

// powerCuts boots a kernel again and again, and cuts its power at random moments
// while kills are recorded. The next boot tells what it finds on the disk: whatever
// had been printed must be there.
func powerCuts(k kernel, cuts int, o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if err := build(k.arch, o); err != nil {
		return err
	}

	image, err := pack(k, o)
	if err != nil {
		return err
	}

	dir, err := os.MkdirTemp("", "oomtrace-power-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	m := &cutMachine{
		kernel: k, image: image, socket: filepath.Join(dir, "socket"), patience: o.patience, printed: make(map[string]bool),
	}
	if m.disk, err = newDisk(filepath.Join(dir, "ext4")); err != nil {
		return err
	}

	listener, err := net.Listen("unix", m.socket)
	if err != nil {
		return err
	}

	defer listener.Close()
	go func() {
		if err := m.disk.Serve(listener); err != nil {
			fmt.Fprintln(os.Stderr, "vm-test:", err) // the machine misses its disk, and says so
		}
	}()

	for cut := range cuts {
		when := onceKilled
		if cut%4 == 3 {
			when = atStart
		}

		if err := m.boot(ctx, when); err != nil {
			return fmt.Errorf("boot %d: %w", cut+1, err)
		}
	}

	if err := m.boot(ctx, never); err != nil {
		return fmt.Errorf("the last boot: %w", err)
	}

	if len(m.printed) < cuts {
		return fmt.Errorf("only %d incidents were printed in %d boots: too few to tell", len(m.printed), cuts)
	}

	fmt.Printf("%s: %d power cuts; each of the %d incidents that were printed is in the recording\n", k.id(), cuts, len(m.printed))

	return nil
}

// newDisk makes a disk with an empty file system.
func newDisk(file string) (*disk.Disk, error) {
	if err := command("mke2fs", "-q", "-t", "ext4", file, "64M"); err != nil {
		return nil, err
	}

	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}

	return disk.New(content)
}

// moment says when the power is cut.
type moment int

const (
	onceKilled moment = iota // at random, once an incident was printed
	atStart                  // at random, while the recorder starts
	never                    // the machine reads back, and ends
)

// latestCut is how long a machine may live after it came to its moment.
const latestCut = 3 * time.Second

// boot runs the machine until its power is cut. An emulated machine may crash by
// itself, which is a cut too, and is booted again (see bootTries).
func (m *cutMachine) boot(ctx context.Context, when moment) error {
	for range bootTries {
		l, err := m.live(ctx, when)
		if err != nil || l.cut || when == never && l.back != nil {
			return err
		}

		fmt.Fprintf(os.Stderr, "%s: booting again; the console's end: %s\n", m.kernel.id(), tail(l.console))
	}

	return fmt.Errorf("%d boots that came to another end", bootTries)
}

// life is one boot.
type life struct {
	console []byte
	back    *lab.ReadBack
	printed int
	cut     bool
}

func (m *cutMachine) live(ctx context.Context, when moment) (l life, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.patience)
	defer cancel()

	line := "quiet panic=-1 psi=1 lab.power"
	if when == never {
		line += "=read"
	}
	qemu, args := emulator(m.kernel, m.image, line)
	cmd := exec.CommandContext(ctx, qemu, append(args, "-drive", "if=virtio,format=raw,file=nbd:unix:"+m.socket)...)

	console, err := cmd.StdoutPipe()
	if err != nil {
		return l, err
	}

	m.disk.On()

	if err := cmd.Start(); err != nil {
		return l, err
	}
	unflushed := make(chan int, 1)
	armed := false
	arm := func(now moment) {
		if armed || now != when {
			return
		}
		armed = true

		time.AfterFunc(rand.N(latestCut), func() {
			// Of what was not flushed, nothing, a half or all is kept. The disk goes first:
			// what the machine still prints rests on what was flushed.
			unflushed <- m.disk.Cut(float64(rand.IntN(3)) / 2)

			cmd.Process.Kill()
		})
	}

	in := bufio.NewReader(console)
	for {
		line, err := in.ReadString('\n')
		l.console = append(l.console, line...)

		if err != nil {
			break // a line without its end was not printed
		}

		switch words := strings.Fields(line); {
		case len(words) == 1 && words[0] == lab.MarkEnd && l.back == nil:
			l.back = new(lab.ReadBack)
			if err := m.compare(l.console, l.back); err != nil {
				cmd.Process.Kill()
				cmd.Wait()

				return l, err
			}

			arm(atStart)
		case len(words) == 2 && words[0] == lab.MarkPrinted:
			m.printed[words[1]] = true
			l.printed++

			arm(onceKilled)
		}
	}
	_ = cmd.Wait() // it was killed, or crashed, or ended

	if armed {
		n := <-unflushed
		l.cut = true
		fmt.Fprintf(os.Stderr, "%s: cut with %d sectors that were not flushed; incidents printed: %d\n", m.kernel.id(), n, l.printed)
	} else {
		m.disk.Cut(1)
	}

	return l, nil
}

// compare reads what a boot found on its disk, and looks for what was printed before.
func (m *cutMachine) compare(console []byte, back *lab.ReadBack) error {
	if err := lab.Receive(console, back); err != nil {
		return err
	}

	fmt.Fprintf(os.Stderr, "%s: found lines: %d, incidents: %d, compressed segments: %d, remarks: %q\n",
		m.kernel.id(), back.Lines, len(back.Incidents), back.Packed, back.Remarks)

	if back.Error != "" {
		return errors.New(back.Error)
	}
	missing := 0

	for sum := range m.printed {
		if !slices.Contains(back.Incidents, sum) {
			missing++
		}
	}

	if missing > 0 {
		return fmt.Errorf("%d of %d incidents were printed, and are not in the recording", missing, len(m.printed))
	}

	return nil
}
