// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// ringOf is a ring whose next record comes after a pause, for ever.
type ringOf struct {
	pause    time.Duration
	backlog  int // AvailableBytes after each record
	made     uint64
	deadline time.Time
}

// emptyRing never has a record.
const emptyRing = 1 << 62 * time.Nanosecond

func (r *ringOf) SetDeadline(t time.Time) { r.deadline = t }
func (r *ringOf) AvailableBytes() int     { return r.backlog }
func (r *ringOf) Flush() error            { return nil }
func (r *ringOf) Close() error            { return nil }

func (r *ringOf) ReadInto(rec *ringbuf.Record) error {
	if r.deadline.IsZero() {
		return errors.New("read without a deadline: it waits for a record, which may never come")
	}

	left := time.Until(r.deadline)
	if r.pause > 0 && left < r.pause {
		time.Sleep(left)
		return os.ErrDeadlineExceeded
	}

	time.Sleep(r.pause)

	r.made++
	w := bpf.Mark{H: bpf.Header{Kind: bpf.KindMark, BootNS: madeNS(r.made)}}
	rec.RawSample = append(rec.RawSample[:0], unsafe.Slice((*byte)(unsafe.Pointer(&w)), unsafe.Sizeof(w))...)

	return nil
}

// madeNS is the time of a record by its number: long ago, by the clock of this machine.
func madeNS(number uint64) uint64 { return 1000 + number }

var errSeen = errors.New("seen")

// idler ends Run at a call of Idle that want accepts, or after too many records.
type idler struct {
	records uint64
	most    uint64
	sleep   time.Duration
	want    func(readNS uint64, caughtUp bool) bool
	idles   []uint64 // the records before each
}

func (i *idler) Record(kernel.Record) error {
	if i.records++; i.records > i.most {
		return errors.New("too many records")
	}

	return nil
}

func (i *idler) Idle(readNS uint64, caughtUp bool) (time.Duration, error) {
	i.idles = append(i.idles, i.records)
	if i.want(readNS, caughtUp) {
		return 0, errSeen
	}

	return i.sleep, nil
}

// Idle of a ring that gets a record every few milliseconds sees it empty in between: it does
// not wait for a time without records.
func TestATrickleIsIdleBetweenItsRecords(t *testing.T) {
	p := &Probe{urgent: &ringOf{pause: 3 * time.Millisecond}, bulk: &ringOf{pause: emptyRing}}
	h := &idler{most: 40, sleep: 100 * time.Millisecond}
	h.want = func(readNS uint64, caughtUp bool) bool { return h.records > 0 && caughtUp && readNS > 1e6 }

	if err := p.Run(context.Background(), h); !errors.Is(err, errSeen) {
		t.Errorf("got %v after Idle at records %v, want Idle to see the ring empty", err, h.idles)
	}
}

// The ring is never empty: all that is known is that what was made before the newest record
// has been read.
func TestIdleOfAFloodHasTheTimeOfItsNewestRecord(t *testing.T) {
	p := &Probe{urgent: &ringOf{backlog: 1}, bulk: &ringOf{pause: emptyRing}}
	h := &idler{most: 1 << 30, sleep: 10 * time.Millisecond}
	h.want = func(readNS uint64, caughtUp bool) bool {
		if h.records == 0 {
			return false
		}

		if want := madeNS(h.records); readNS != want || caughtUp {
			t.Errorf("got Idle at %d after %d records, caught up: %v, want at %d, not caught up", readNS, h.records, caughtUp, want)
		}

		return len(h.idles) == 5
	}

	if err := p.Run(context.Background(), h); !errors.Is(err, errSeen) {
		t.Errorf("got %v after Idle at records %v, want five times Idle", err, h.idles)
	}
}

// On an idle node no record ever comes.
func TestIdleIsCalledWithoutAnyRecord(t *testing.T) {
	p := &Probe{urgent: &ringOf{pause: emptyRing}, bulk: &ringOf{pause: emptyRing}}
	h := &idler{sleep: time.Millisecond}
	h.want = func(uint64, bool) bool { return len(h.idles) == 3 }

	if err := p.Run(context.Background(), h); !errors.Is(err, errSeen) {
		t.Errorf("got %v after %d calls of Idle, want three", err, len(h.idles))
	}
}

// A flood of one ring does not keep the other from being read.
func TestNeitherRingStarvesTheOther(t *testing.T) {
	urgent, bulk := &ringOf{backlog: 1}, &ringOf{backlog: 1}
	p := &Probe{urgent: urgent, bulk: bulk}
	h := &idler{most: 1 << 30, sleep: 100 * time.Millisecond}
	h.want = func(uint64, bool) bool { return len(h.idles) == 20 }

	if err := p.Run(context.Background(), h); !errors.Is(err, errSeen) {
		t.Fatal(err)
	}

	if bulk.made < 10*bulkAtOnce || urgent.made < 100 {
		t.Errorf("got %d records of the urgent ring and %d of bulk in 20 turns, want both rings read in each", urgent.made, bulk.made)
	}
}
