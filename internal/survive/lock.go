// SPDX-License-Identifier: Apache-2.0

package survive

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Lock keeps the memory of this process from being swapped out, dropped, or missing when it
// is first used. The program, the tables of the Go runtime and as much of the heap as is
// needed soon are made resident, used or not, and so is all that is mapped later, so that
// the threads that run here take no page fault. Watch does the same for a heap that grows.
// Without CAP_IPC_LOCK and an unlimited RLIMIT_MEMLOCK nothing is locked, and the error
// states what that means; the heap is nil then.
func Lock() (*Heap, error) {
	heap, err := lock()
	if err != nil {
		return nil, fmt.Errorf("lock memory: %w: output may be late or missing on a node that swaps or thrashes; run "+
			"oomtrace as root or with CAP_IPC_LOCK, or pass --lock-memory=false", err)
	}

	return heap, nil
}

func lock() (*Heap, error) {
	if err := mayLock(); err != nil {
		return nil, err
	}

	// khugepaged would put huge pages in the place of others (mm/khugepaged.c: a fault for
	// whoever touches them meanwhile, and more memory).
	if err := unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0); err != nil {
		return nil, err
	}

	reserve()

	// What is not made resident below is locked once it is touched.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_ONFAULT); err != nil {
		return nil, err
	}

	// From now on, mmap faults all pages in. That is also how the Go runtime returns memory
	// that is locked: MADV_DONTNEED is refused for it (mm/madvise.c), so the runtime maps
	// something new in its place (runtime/mem_linux.go: sysUnusedOS). It does so at any time:
	// what is made resident before would be missing again.
	if err := unix.Mlockall(unix.MCL_FUTURE); err != nil {
		return nil, err
	}

	heap := newHeap()
	if err := heap.extend(); err != nil {
		return nil, err
	}

	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}

	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}

	arena := arenaOf(string(maps), heap.address())

	blocks, err := heap.usedBeyond(arena)
	if err != nil {
		return nil, err
	}

	for _, a := range append(blocks, resident(string(maps), exe, arena)...) {
		if err := a.lock(); err != nil {
			return nil, err
		}
	}

	return heap, nil
}

// mayLock makes sure that locking has no limit. Beyond one, mmap fails, and the Go runtime
// ends the process.
func mayLock() error {
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited) == nil {
		return nil
	}

	var (
		header = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		data   [2]unix.CapUserData
	)

	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the capabilities: %w", err)
	}

	if data[0].Effective&(1<<unix.CAP_IPC_LOCK) == 0 {
		return unix.EPERM
	}

	return nil
}

// area is a range of addresses.
type area struct{ start, end uint64 }

func (a area) size() uint64 { return a.end - a.start }

// lock faults all pages in and keeps them. Unlike mlockall with MCL_ONFAULT, mlock does so
// for pages that were not used yet, and copies those of a private mapping that can be
// written (mm/gup.c: populate_vma_page_range). The address never becomes a pointer: it may be
// of a part of the heap that is free, and the collector ends the process if it finds a
// pointer to one (runtime/mbitmap.go: badPointer).
func (a area) lock() error {
	if _, _, errno := unix.Syscall(unix.SYS_MLOCK, uintptr(a.start), uintptr(a.size()), 0); errno != 0 {
		return fmt.Errorf("lock %d KiB at %#x: %w", a.size()>>10, a.start, errno)
	}

	return nil
}

// present returns for each page of a, which starts at one, whether it is resident.
func (a area) present() ([]byte, error) {
	if a.size() == 0 {
		return nil, nil
	}

	pages := make([]byte, a.size()/uint64(os.Getpagesize()))

	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(a.start), uintptr(a.size()), uintptr(unsafe.Pointer(unsafe.SliceData(pages))))
	if errno != 0 {
		return nil, fmt.Errorf("read what is resident of %d KiB at %#x: %w", a.size()>>10, a.start, errno)
	}

	for i := range pages {
		pages[i] &= 1 // the other bits are reserved
	}

	return pages, nil
}

const (
	// dataHead is how much of uninitialized data is made resident, in bytes. The linker sorts
	// variables by size, and what comes last is a buffer of 32 MiB that package crypto uses
	// for entropy, and nothing here does.
	dataHead = 1 << 20
	// tableMax bounds what is made resident of the Go runtime's tables, in bytes. Its index of
	// arenas has 32 MiB, for all of the address space, and few pages of it are ever used.
	tableMax = 8 << 20
)

// mapping is a line of /proc/self/maps (Documentation/filesystems/proc.rst).
type mapping struct {
	area
	access string // such as rw-p
	path   string // empty: anonymous
}

// mappings parses /proc/self/maps.
func mappings(maps string) (all []mapping) {
	for line := range strings.Lines(maps) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}

		low, high, _ := strings.Cut(fields[0], "-")
		start, err1 := strconv.ParseUint(low, 16, 64)
		end, err2 := strconv.ParseUint(high, 16, 64)

		if err1 == nil && err2 == nil && start < end {
			all = append(all, mapping{area{start, end}, fields[1], strings.Join(fields[5:], " ")})
		}
	}

	return all
}

// resident selects from /proc/self/maps what is made resident apart from the heap: the
// program, and the tables of the Go runtime.
func resident(maps, exe string, heap area) (areas []area) {
	var program uint64 // where its last mapping ends

	for _, m := range mappings(maps) {
		switch {
		case m.path == exe && m.access[0] == 'r':
			areas = append(areas, m.area)
			program = m.end
		case m.path == "[stack]": // of the main thread
			areas = append(areas, m.area)
		case m.path != "" || m.access != "rw-p" || m.start >= heap.start && m.start < heap.end:
		case m.start == program:
			areas = append(areas, area{m.start, min(m.end, m.start+dataHead)})
		case m.end-m.start <= tableMax:
			areas = append(areas, m.area)
		}
	}

	return areas
}

// usage is how much memory the process has.
type usage struct{ resident, data uint64 } // bytes

// usageReader reads /proc/self/statm without allocating.
type usageReader struct {
	fd   int
	text [256]byte
}

func newUsageReader() (*usageReader, error) {
	fd, err := unix.Open("/proc/self/statm", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc/self/statm: %w", err)
	}

	return &usageReader{fd: fd}, nil
}

func (r *usageReader) close() { unix.Close(r.fd) }

func (r *usageReader) read() (usage, error) {
	n, err := unix.Pread(r.fd, r.text[:], 0)
	if err != nil {
		return usage{}, fmt.Errorf("read /proc/self/statm: %w", err)
	}

	var (
		pages [7]uint64 // size resident shared text lib data dt
		i     int
	)

	for _, c := range bytes.TrimSpace(r.text[:n]) {
		switch {
		case c >= '0' && c <= '9':
			pages[i] = 10*pages[i] + uint64(c-'0')
		case c == ' ' && i < len(pages)-1:
			i++
		default:
			return usage{}, fmt.Errorf("parse /proc/self/statm: %q", r.text[:n])
		}
	}

	size := uint64(os.Getpagesize())

	return usage{resident: pages[1] * size, data: pages[5] * size}, nil
}
