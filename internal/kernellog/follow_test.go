// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
)

var dmesgLine = regexp.MustCompile(`^\[ *(\d+)\.(\d{6})\] (.*)$`)

// kmsgOf returns the records of /dev/kmsg that dmesg has printed as log, numbered from a
// number on.
func kmsgOf(t testing.TB, log string, from int) (records []string) {
	t.Helper()

	for line := range strings.Lines(log) {
		m := dmesgLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			t.Fatalf("got line %q without an uptime", line)
		}

		text := strings.ReplaceAll(m[3], `\`, `\x5c`)
		records = append(records, fmt.Sprintf("4,%d,%s%s,-;%s\n SUBSYSTEM=mem\n", from+len(records), strings.TrimLeft(m[1], "0"), m[2], text))
	}

	return records
}

// fakeKmsg is a device whose reads return one record each, or wait: a socket that keeps
// the bounds of messages. An empty record is read as EPIPE.
type fakeKmsg struct {
	*os.File
	kernel *os.File
}

func newFakeKmsg(t *testing.T) *fakeKmsg {
	t.Helper()

	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}

	k := &fakeKmsg{os.NewFile(uintptr(fds[0]), "kmsg"), os.NewFile(uintptr(fds[1]), "kernel")}

	t.Cleanup(func() { k.kernel.Close() })

	return k
}

const overwritten = "overwritten"

func (k *fakeKmsg) Read(p []byte) (int, error) {
	n, err := k.File.Read(p)
	if err == nil && string(p[:n]) == overwritten {
		return 0, &os.PathError{Op: "read", Path: "kmsg", Err: unix.EPIPE}
	}

	return n, err
}

func (k *fakeKmsg) write(t *testing.T, records ...string) {
	t.Helper()

	for _, r := range records {
		if _, err := k.kernel.WriteString(r); err != nil {
			t.Fatal(err)
		}
	}
}

// following runs a Follower of a fake device. The channel has its incidents.
func following(t *testing.T) (*fakeKmsg, *Follower, <-chan *events.Incident) {
	t.Helper()

	k := newFakeKmsg(t)
	f := newFollower(k, Options{Now: now, Location: time.UTC})
	found, done := make(chan *events.Incident, 16), make(chan error)
	ctx, stop := context.WithCancel(context.Background())

	go func() { done <- f.Run(ctx, func(inc *events.Incident) { found <- inc }) }()

	t.Cleanup(func() {
		stop()

		if err := <-done; err != nil {
			t.Errorf("got error %v at the end, want none", err)
		}
	})

	return k, f, found
}

func next(t *testing.T, found <-chan *events.Incident) *events.Incident {
	t.Helper()

	select {
	case inc := <-found:
		return inc
	case <-time.After(10 * time.Second):
		t.Fatal("got no incident, want one")
		return nil
	}
}

// TestFollowedReportsAreThoseOfTheLog reads recorded reports record by record: each must be
// emitted without anything after it, as it is read from the whole log.
func TestFollowedReportsAreThoseOfTheLog(t *testing.T) {
	k, f, found := following(t)
	seq := 1

	for _, name := range []string{
		"5.10.0-32-memcg-tmpfs", "6.12.117-memcg-oom-group", "6.18.15-cpuset", "6.18.44-nokprobes-memcg-v1-parent-limit", "7.3.4-global",
	} {
		log := readFile(t, "testdata/dmesg/"+name+".txt")
		records := kmsgOf(t, log, seq)
		seq += len(records)

		for _, want := range parse(t, log, Options{}) {
			k.write(t, records...)
			records = nil

			got := next(t, found)
			// The reaper's line may come after the incident.
			got.ID, got.Log, got.Notes = want.ID, want.Log, want.Notes
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %s, want %s", name, brief([]*events.Incident{got}), brief([]*events.Incident{want}))
			}
		}
	}

	if got := f.Overwritten(); got != 0 {
		t.Errorf("got %d overwritten records, want 0", got)
	}
}

// TestAChattyKernelDelaysNoReport writes other lines all the time: there is no quiet moment
// after the report.
func TestAChattyKernelDelaysNoReport(t *testing.T) {
	k, _, found := following(t)
	records := kmsgOf(t, readFile(t, "testdata/dmesg/6.12.117-memcg-leaf.txt"), 1)
	k.write(t, records...)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()

	stopped := make(chan struct{})

	go func() {
		defer close(stopped)

		for i := len(records) + 1; ctx.Err() == nil; i++ {
			_, _ = fmt.Fprintf(k.kernel, "6,%d,%d,-;eth0: link is up\n", i, time.Now().UnixMicro())
		}
	}()

	if got := next(t, found); len(got.Victims) != 1 {
		t.Errorf("got %d victims, want 1", len(got.Victims))
	}

	stop()
	<-stopped
}

func TestOverwrittenRecordsAreCountedAndMixNoReports(t *testing.T) {
	k, f, found := following(t)
	first := kmsgOf(t, readFile(t, "testdata/dmesg/6.12.117-memcg-leaf.txt"), 1)
	second := kmsgOf(t, readFile(t, "testdata/dmesg/6.12.117-memcg-tmpfs.txt"), len(first)+101)

	k.write(t, first[:20]...)
	k.write(t, overwritten)
	k.write(t, second...)

	want := parse(t, readFile(t, "testdata/dmesg/6.12.117-memcg-tmpfs.txt"), Options{})[0]

	for inc := next(t, found); ; inc = next(t, found) {
		if len(inc.Victims) == 0 {
			continue // what is left of the first
		}

		if !reflect.DeepEqual(inc.Memory, want.Memory) || inc.Trigger.TID != want.Trigger.TID {
			t.Errorf("got %s, want the second report alone", brief([]*events.Incident{inc}))
		}

		break
	}

	if got, want := f.Overwritten(), uint64(len(first)-20+100); got != want {
		t.Errorf("got %d overwritten records, want %d", got, want)
	}
}

func TestTheFollowerEndsWhenItIsClosed(t *testing.T) {
	f := newFollower(newFakeKmsg(t), Options{})

	if err := f.Close(); err != nil {
		t.Fatal(err)
	}

	if err := f.Run(t.Context(), nil); err != nil {
		t.Errorf("got error %v, want none", err)
	}
}
