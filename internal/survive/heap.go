// SPDX-License-Identifier: Apache-2.0

package survive

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"unsafe"
)

// How much garbage the heap may have, in percent of what lives. Both are below the default:
// of a start, whose garbage is large, since what the heap has grown to is made resident by
// Lock; and later, since most of what lives are tables that are made once.
const (
	startPercent = 20
	runPercent   = 50
)

// Frugal keeps the heap small while a start fills it, until Lock. Samples of a memory profile
// would make tables of the runtime grow later, which is 64 faults at once.
func Frugal() {
	runtime.MemProfileRate = 0

	debug.SetGCPercent(startPercent)
}

// reserved is how much the heap has of the address space, resident or not, in bytes. Up to
// there it neither maps anything nor makes tables when it grows.
const reserved = 64 << 20

// reserve has the runtime map the heap, and the tables that describe its pages and objects:
// for objects of each size, and for as many spans as there may be. None of it stays in use,
// and what the heap does not need is returned. It is called before memory is locked: later,
// returning is mapping again, which makes resident.
func reserve() {
	debug.SetGCPercent(-1)

	fillMarkBits()
	fillFinalizers()

	h := newHeap()

	all := ofEachSize()

	for h.read().mapped < reserved {
		for range 16 {
			all = append(all, make([]byte, 8<<10)) // a span of its own; it is zero, so it is not touched
		}
	}

	// Two collections take turns with two sets of tables.
	runtime.GC()
	runtime.GC()
	runtime.KeepAlive(all)

	all = nil

	debug.SetGCPercent(runPercent)
	debug.FreeOSMemory()

	// The runtime still has a list of free pages for each of its processors, of the end of
	// the heap. The others give theirs up, this one's is used up; the next has the lowest.
	before := runtime.GOMAXPROCS(1)

	for range 128 {
		all = append(all, make([]byte, 8<<10))
	}

	runtime.GOMAXPROCS(before)
	runtime.KeepAlive(all)
}

// smallest is where fillMarkBits puts its objects, so that they are on the heap.
var smallest **byte

// fillMarkBits has the runtime map what it needs for the marks of a larger heap: it takes
// them in chunks of 64 KiB, one bit for each object, and keeps the chunks for later
// collections (runtime/mheap.go: newMarkBits). Objects of the smallest size have the most
// bits for their memory. Nothing refers to them, so there is nothing to mark.
func fillMarkBits() {
	for range 1 << 19 {
		smallest = new(*byte)
	}

	smallest = nil
}

// fillFinalizers has the runtime map what it needs to free what has to be closed, such as
// files and processes: for more of them at once than are used between two collections. It
// takes that in the thread that finds them, and keeps it (runtime/mfinal.go: queuefinalizer;
// runtime/mcleanup.go: enqueue).
func fillFinalizers() {
	for range 1 << 12 {
		runtime.SetFinalizer(new(*byte), func(**byte) {})
		runtime.AddCleanup(new(*byte), func(struct{}) {}, struct{}{})
	}
}

// ofEachSize allocates more than a span of objects of each size, with and without pointers.
func ofEachSize() (all []any) {
	const span = 32 << 10 // bytes, more than most have

	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)

	for _, class := range stats.BySize {
		for bytes := uint32(0); class.Size > 0 && bytes <= span; bytes += class.Size {
			all = append(all, make([]byte, class.Size), make([]*byte, class.Size/8))
		}
	}

	return all
}

// Heap keeps the start of the heap resident, as far as the runtime needs it: it takes the
// lowest pages that are free. It belongs to one goroutine.
type Heap struct {
	samples []metrics.Sample
	end     uint64 // of what is resident: bytes from the start of the heap
}

func newHeap() *Heap {
	return &Heap{samples: []metrics.Sample{
		{Name: "/gc/heap/goal:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}}
}

// address returns one in the heap.
func (h *Heap) address() uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(h.samples)))) }

// sizes are those of the heap, in bytes.
type sizes struct {
	mapped uint64 // of the address space
	peak   uint64 // that it aims to have in use before the next collection
}

func (h *Heap) read() (s sizes) {
	metrics.Read(h.samples)

	for i, sample := range h.samples {
		if i > 0 {
			s.mapped += sample.Value.Uint64()
		}

		if i < 3 {
			s.peak += sample.Value.Uint64()
		}
	}

	return s
}

// minRoom is the least that is resident beyond the peak in bytes: for a storm of kills
// between two readings, while the collector gets no CPU time.
const minRoom = 6 << 20

// extend makes more of the heap resident if it may need that soon.
func (h *Heap) extend() error {
	peak := h.read().peak

	want := peak + peak/8 + minRoom
	if want <= h.end {
		return nil
	}

	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}

	if h.end > 0 {
		want += minRoom / 4 // a little more at a time
	}
	arena := arenaOf(string(maps), h.address())
	from := min(arena.start+h.end, arena.end)

	if err := (area{from, max(from, min(arena.start+want, arena.end))}).lock(); err != nil {
		return err
	}

	h.end = want

	return nil
}

// blockSize is how much of the heap a processor of the runtime takes at a time to make spans
// of, aligned to it, in bytes (runtime/mpagecache.go: pageCachePages, 64 pages of 8 KiB).
const blockSize = 512 << 10

// usedBeyond returns the blocks of the heap that are used beyond what extend made resident,
// since reserve had filled all before them: a span may have more objects, and a block more
// spans, than were used so far.
func (h *Heap) usedBeyond(arena area) (blocks []area, err error) {
	rest := area{min(arena.start+h.end, arena.end), arena.end}
	rest.start -= rest.start % uint64(os.Getpagesize())

	pages, err := rest.present()
	if err != nil {
		return nil, err
	}

	for i, page := range pages {
		at := rest.start + uint64(i*os.Getpagesize())
		if page == 0 || len(blocks) > 0 && at < blocks[len(blocks)-1].end {
			continue
		}

		start := at - at%blockSize
		blocks = append(blocks, area{max(start, rest.start), min(start+blockSize, rest.end)})
	}

	return blocks, nil
}

// arenaOf returns the mappings around an object of the heap: those that can be written,
// without a gap between them.
func arenaOf(maps string, object uint64) (arena area) {
	for _, m := range mappings(maps) {
		switch {
		case m.path != "" || m.access != "rw-p":
		case arena.end != 0 && m.start == arena.end:
			arena.end = m.end
		case m.start <= object:
			arena = m.area
		}
	}

	return arena
}
