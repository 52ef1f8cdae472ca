// SPDX-License-Identifier: Apache-2.0

// Package disk is a disk for test machines that loses what a real one may lose when
// the power is cut: all that was written and not flushed. A process that emulates a
// machine can be killed, but what it wrote to a file stays in the page cache of its
// host, flushed or not; so a file would forgive a missing flush.
//
// Simulated are a volatile write cache, in which each sector that was not flushed
// comes to the medium or not, by chance and in no order, and the sector as the unit
// that is written as a whole. Not simulated are sectors that are torn, or that were
// good and went bad, and a disk that lies about flushes.
package disk

import (
	"fmt"
	"math/rand/v2"
	"sync"
)

// SectorBytes is the unit of reads and writes.
const SectorBytes = 512

// Disk is a medium and its write cache, both in memory. Its methods may be called from several
// goroutines.
type Disk struct {
	mu     sync.Mutex
	medium []byte
	cache  map[int64][]byte // by sector, what was not flushed
	off    bool
}

// New makes a disk with a content, whose size is a multiple of [SectorBytes].
func New(content []byte) (*Disk, error) {
	if len(content) == 0 || len(content)%SectorBytes != 0 {
		return nil, fmt.Errorf("a disk of %d bytes: not whole sectors of %d", len(content), SectorBytes)
	}

	return &Disk{medium: content, cache: make(map[int64][]byte)}, nil
}

// Bytes is the size.
func (d *Disk) Bytes() int64 { return int64(len(d.medium)) }

// On switches the disk on.
func (d *Disk) On() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = false
}

// Cut cuts the power. Each sector that was not flushed is on the medium with the
// probability keep, else what was there before. It tells how many sectors were not
// flushed. From then on nothing is answered, until [Disk.On].
func (d *Disk) Cut(keep float64) (unflushed int) {
	d.mu.Lock()
	defer d.mu.Unlock()

	unflushed = len(d.cache)
	for sector, data := range d.cache {
		if rand.Float64() < keep {
			copy(d.medium[sector*SectorBytes:], data)
		}
	}

	clear(d.cache)
	d.off = true

	return unflushed
}

// operation is done under the lock. It tells whether the disk is on; if not, nothing
// was done.
func (d *Disk) operation(do func()) (on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()

	if !d.off {
		do()
	}

	return !d.off
}

func (d *Disk) inside(offset, length int64) bool {
	return offset >= 0 && length >= 0 && offset%SectorBytes == 0 && length%SectorBytes == 0 &&
		offset <= d.Bytes() && length <= d.Bytes()-offset
}

// read, write and flush are for what is inside.

func (d *Disk) read(data []byte, offset int64) {
	copy(data, d.medium[offset:])

	for at := 0; at < len(data); at += SectorBytes {
		if cached, ok := d.cache[(offset+int64(at))/SectorBytes]; ok {
			copy(data[at:], cached)
		}
	}
}

// write brings data into the cache, or through it (FUA: force unit access).
func (d *Disk) write(data []byte, offset int64, through bool) {
	for at := 0; at < len(data); at += SectorBytes {
		sector := (offset + int64(at)) / SectorBytes
		if through {
			copy(d.medium[sector*SectorBytes:], data[at:at+SectorBytes])
			delete(d.cache, sector)
		} else {
			d.cache[sector] = append([]byte(nil), data[at:at+SectorBytes]...)
		}
	}
}

func (d *Disk) flush() {
	for sector, data := range d.cache {
		copy(d.medium[sector*SectorBytes:], data)
	}

	clear(d.cache)
}
