// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/testenv"
	"github.com/oomtrace/oomtrace/test/internal/disk"
	"github.com/oomtrace/oomtrace/test/internal/lab"
	"github.com/oomtrace/oomtrace/test/internal/qemu"
)

var powerCuts = flag.Int("power-cuts", 5, "how often the power of a machine is cut")

// TestPowerCuts cuts the power of a machine at random moments while it records kills. The
// next boot reads back what is on the disk: every incident that was printed must be there.
// It needs virtio in the kernel.
func TestPowerCuts(t *testing.T) {
	requireEmulators(t)

	var (
		kernels []Kernel
		names   []string
	)

	for _, k := range Kernels {
		if k.Arch == "amd64" && !k.LowZone && (k.is("6.12") || k.is("6.18") || k.is("7")) {
			kernels, names = append(kernels, k), append(names, k.ID())
		}
	}

	lab.Select(t, names...)

	for _, k := range kernels {
		t.Run(k.ID(), func(t *testing.T) {
			ctx := lab.Context(t)
			m := newCutMachine(t, k)

			for cut := range *powerCuts {
				when := afterKill
				if cut%4 == 3 {
					when = atStart
				}

				if err := m.boot(ctx, when); err != nil {
					t.Fatalf("boot %d: %v", cut+1, err)
				}
			}

			if err := m.boot(ctx, never); err != nil {
				t.Fatalf("last boot: %v", err)
			}

			if len(m.printed) < *powerCuts {
				t.Errorf("it shows nothing: got %d incidents printed in %d boots, want at least as many", len(m.printed), *powerCuts)
			}

			lab.Logf(t, "%d power cuts; each of the %d incidents that were printed is in the recording", *powerCuts, len(m.printed))
		})
	}
}

// cutMachine is a machine whose power is cut again and again. What package disk keeps of
// its disk stays.
type cutMachine struct {
	t       *testing.T
	machine qemu.Machine
	disk    *disk.Disk
	printed map[string]bool // incidents of all boots, by lineSum
}

func newCutMachine(t *testing.T, k Kernel) *cutMachine {
	t.Helper()

	dir := t.TempDir()
	content := filepath.Join(dir, "ext4")
	socket := filepath.Join(dir, "socket")

	err := lab.Run("mke2fs", "-q", "-t", "ext4", content, "64M")
	if err != nil {
		t.Fatal(err)
	}

	m := &cutMachine{t: t, printed: map[string]bool{}}

	empty, err := os.ReadFile(content)
	if err == nil {
		m.disk, err = disk.New(empty)
	}

	if err != nil {
		t.Fatalf("make a disk: %v", err)
	}

	if m.machine, err = machine(k, ""); err != nil {
		t.Fatal(err)
	}

	m.machine.Disks = []string{"nbd:unix:" + socket}

	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}

	served := make(chan error, 1)
	go func() { served <- m.disk.Serve(listener) }()

	t.Cleanup(func() {
		listener.Close()

		if err := <-served; err != nil {
			t.Error(err)
		}
	})

	return m
}

// moment is when the power is cut.
type moment int

const (
	afterKill moment = iota // at random, once an incident was printed
	atStart                 // at random, while the recorder starts
	never                   // the machine reads back, and ends
)

// cutLimit is how long a machine may live after it came to its moment.
const cutLimit = 3 * time.Second

// boot runs the machine until its power is cut. An emulated machine may crash by itself,
// which is a cut, too, and is booted again (see [qemu.Boots]). An error of the guest is
// returned if it still had power: later, the cut may be its reason.
func (m *cutMachine) boot(ctx context.Context, when moment) error {
	for range qemu.Boots {
		l, err := m.live(ctx, when)

		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil || l.cut || when == never && l.back != nil:
			return err
		}

		lab.Logf(m.t, "boot again; end of the console: %s", qemu.Tail(l.console))
	}

	return fmt.Errorf("%d boots ended otherwise", qemu.Boots)
}

// life is one boot.
type life struct {
	console []byte
	back    *readBack
	cut     bool
}

func (m *cutMachine) live(ctx context.Context, when moment) (l life, err error) {
	ctx, cancel := context.WithTimeout(ctx, *bootLimit)
	defer cancel()

	booted := m.machine
	booted.CommandLine = "lab.power"

	if when == never {
		booted.CommandLine = "lab.power=read"
	}

	cmd := booted.Command(ctx)

	console, err := cmd.StdoutPipe()
	if err != nil {
		return l, err
	}

	m.disk.On()

	if err := cmd.Start(); err != nil {
		return l, err
	}

	unflushed := make(chan int, 1)

	var off atomic.Bool // the power

	armed := false
	arm := func(now moment) {
		if armed || now != when {
			return
		}

		armed = true

		time.AfterFunc(rand.N(cutLimit), func() {
			off.Store(true)
			// Of what was not flushed, nothing, a half or all is kept. The disk goes first:
			// what the machine still prints rests on what was flushed.
			unflushed <- m.disk.Cut(float64(rand.IntN(3)) / 2)

			cmd.Process.Kill()
		})
	}

	var failure error

	printed := 0

	for in := bufio.NewReader(console); ; {
		line, err := in.ReadString('\n')
		l.console = append(l.console, line...)

		if err != nil {
			break // a line without its end was not printed
		}

		switch words := strings.Fields(line); {
		case len(words) == 1 && words[0] == qemu.MarkEnd && l.back == nil:
			l.back = new(readBack)
			if err := m.checkReadBack(l.console, l.back); err != nil {
				cmd.Process.Kill()
				_ = cmd.Wait()

				return l, err
			}

			arm(atStart)
		case len(words) == 1 && (words[0] == qemu.MarkEnd || words[0] == qemu.MarkDied) && !off.Load():
			failure = qemu.Failure(l.console)
		case len(words) == 2 && words[0] == markPrinted:
			m.printed[words[1]] = true
			printed++

			arm(afterKill)
		}
	}

	_ = cmd.Wait() // it was killed, crashed, or ended

	if !armed {
		m.disk.Cut(1)
		return l, failure
	}

	l.cut = true

	lab.Logf(m.t, "power cut with %d sectors that were not flushed, %d incidents printed", <-unflushed, printed)

	return l, failure
}

// checkReadBack looks for what was printed before in what a boot found on its disk.
func (m *cutMachine) checkReadBack(console []byte, back *readBack) error {
	if err := qemu.Receive(console, back); err != nil {
		return err
	}

	lab.Logf(m.t, "read back %d lines, %d incidents, %d compressed segments; warnings %q",
		back.Lines, len(back.Incidents), back.Packed, back.Warnings)

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
		return fmt.Errorf("%d of %d incidents that were printed are not in the recording", missing, len(m.printed))
	}

	return nil
}

// TestCutMachineReturnsTheErrorOfTheGuest has an emulator that prints a console and counts
// its boots.
func TestCutMachineReturnsTheErrorOfTheGuest(t *testing.T) {
	testenv.Slow(t, "waits for random cuts")

	var before, after, armed bytes.Buffer // the guest read back its disk; it printed an incident

	err := errors.Join(
		qemu.SendError(&before, errors.New("mount /dev/vda")),
		qemu.Send(&after, readBack{}),
		qemu.SendError(&after, errors.New("start a recorder")),
		qemu.Send(&armed, readBack{}),
	)
	fmt.Fprintln(&armed, markPrinted, lineSum("incident"))

	if err := errors.Join(err, qemu.SendError(&armed, errors.New("read from the recorder"))); err != nil {
		t.Fatal(err)
	}

	for _, test := range []struct{ console, want string }{
		{before.String(), "mount /dev/vda"},
		{after.String(), "start a recorder"},
		{armed.String(), "read from the recorder"},
		{"panic: no such key\n" + qemu.MarkDied, "no such key"},
	} {
		dir := t.TempDir()
		script := fmt.Sprintf("#!/bin/sh\necho >> %s/boots\necho '%s\n%s'\n", dir, qemu.MarkStart, test.console)

		d, err := disk.New(make([]byte, 1<<20))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte(script), 0o700)
		}

		if err != nil {
			t.Fatal(err)
		}

		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))

		m := &cutMachine{t: t, machine: qemu.Machine{Arch: "amd64"}, disk: d, printed: map[string]bool{}}
		if err := m.boot(t.Context(), afterKill); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got error %v, want one with %q", err, test.want)
		}

		if boots, _ := os.ReadFile(filepath.Join(dir, "boots")); len(boots) != 1 {
			t.Errorf("%s: got %d boots, want 1", test.want, len(boots))
		}
	}
}

func TestCutMachineReturnsWhyItStopped(t *testing.T) {
	d, err := disk.New(make([]byte, 1<<20))
	if err != nil {
		t.Fatal(err)
	}

	want := errors.New("-timeout is near")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(want)

	m := &cutMachine{t: t, machine: qemu.Machine{Arch: "amd64"}, disk: d}
	if err := m.boot(ctx, afterKill); !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}
