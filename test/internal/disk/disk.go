// SPDX-License-Identifier: Apache-2.0

// Package disk is a disk for test machines that loses what a real one may lose when the
// power is cut: all that was written and not flushed. An emulator can be killed, but what
// it wrote to a file stays in the page cache of the host, flushed or not; so a file would
// hide a missing flush.
//
// Simulated are a volatile write cache, of which each physical sector reaches the medium or not,
// by chance and in no order, and the physical sector as the unit that is written as a whole. Not
// simulated are torn or decaying sectors, and a disk that acknowledges a flush too early.
package disk

import (
	"fmt"
	"math/rand/v2"
	"sync"
)

// SectorBytes is the unit of reads and writes.
const SectorBytes = 512

// physicalSectors are written as a whole: 4 KiB, as by today's disks. The superblock of ext4 has
// two sectors and a checksum, and cannot be mounted with one of them new.
const physicalSectors = 8

// Disk is a medium and its write cache, both in memory. Its methods may be called
// concurrently.
type Disk struct {
	mu     sync.Mutex
	medium []byte
	cache  map[int64][]byte // by sector, what was not flushed
	off    bool
}

// New returns a disk with a content, whose size must be a multiple of [SectorBytes].
func New(content []byte) (*Disk, error) {
	if len(content) == 0 || len(content)%SectorBytes != 0 {
		return nil, fmt.Errorf("make a disk of %d bytes: its size must be a multiple of %d", len(content), SectorBytes)
	}

	return &Disk{medium: content, cache: make(map[int64][]byte)}, nil
}

// Bytes returns the size.
func (d *Disk) Bytes() int64 { return int64(len(d.medium)) }

// On switches the disk on.
func (d *Disk) On() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = false
}

// Cut cuts the power, and returns how many sectors were not flushed. Those of each physical
// sector are on the medium with the probability keep, else what was there before. Until
// [Disk.On], nothing is answered.
func (d *Disk) Cut(keep float64) (unflushed int) {
	d.mu.Lock()
	defer d.mu.Unlock()

	unflushed = len(d.cache)
	kept := map[int64]bool{} // by physical sector

	for sector, data := range d.cache {
		whole := sector / physicalSectors
		if _, known := kept[whole]; !known {
			kept[whole] = rand.Float64() < keep
		}

		if kept[whole] {
			copy(d.medium[sector*SectorBytes:], data)
		}
	}

	clear(d.cache)
	d.off = true

	return unflushed
}

// operation runs do under the lock, unless the disk is off, and returns whether it is on.
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

// The arguments of read and write are inside, and all are called by operation.

func (d *Disk) read(data []byte, offset int64) {
	copy(data, d.medium[offset:])

	for at := 0; at < len(data); at += SectorBytes {
		if cached, ok := d.cache[(offset+int64(at))/SectorBytes]; ok {
			copy(data[at:], cached)
		}
	}
}

// write writes data to the cache, or through it (FUA: force unit access).
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
