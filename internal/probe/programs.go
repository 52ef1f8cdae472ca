// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
)

// programInfo is the start of struct bpf_prog_info (include/uapi/linux/bpf.h, since
// 4.18). The library's own would copy the instructions of every program.
type programInfo struct {
	kind, id      uint32
	tag           [8]byte
	jitedLen      uint32
	translatedLen uint32
	_, _          uint64 // instructions
	loadTime      uint64
	uid, mapCount uint32
	_             uint64 // maps
	name          [16]byte
	_, _          uint32
	_, _          uint64
	functionCount uint32
	lengthCount   uint32
	functions     uint64 // their addresses
	lengths       uint64
}

// maxFunctions bounds the functions of a program: BPF_MAX_SUBPROGS of the kernel is 256.
const maxFunctions = 512

var errHidden = errors.New("read the addresses of BPF programs: the kernel hides them: as root, set sysctl kernel.kptr_restrict=1 or 0")

// program is what the kernel returns of one program: the buffer of ProgramAt.
type program struct {
	info      programInfo
	functions [maxFunctions]uint64
	lengths   [maxFunctions]uint32
}

// ProgramAt returns the loaded BPF program whose code contains a kernel address, nil if
// none does any more. It returns an error if programs cannot be listed, or if the kernel
// hides their addresses. It makes three system calls for each loaded program, and is safe
// for concurrent use.
func ProgramAt(address uint64) (*events.BPFProgram, error) {
	p, visible := new(program), false // on the heap: the kernel gets addresses within it

	for id := uint32(0); ; {
		next := struct{ start, next, flags uint32 }{start: id}

		_, err := bpfCall(unix.BPF_PROG_GET_NEXT_ID, unsafe.Pointer(&next), unsafe.Sizeof(next))
		switch {
		case errors.Is(err, unix.ENOENT) && visible:
			return nil, nil
		case errors.Is(err, unix.ENOENT):
			return nil, errHidden
		case err != nil:
			return nil, fmt.Errorf("list the BPF programs (needs CAP_SYS_ADMIN): %w", err)
		}

		id = next.next
		if p.read(id) != nil {
			continue // it has been unloaded since
		}

		for i := range min(p.info.functionCount, p.info.lengthCount, maxFunctions) {
			start := p.functions[i]
			visible = visible || start != 0

			if start != 0 && start <= address && address-start < uint64(p.lengths[i]) {
				return &events.BPFProgram{ID: id, Name: unix.ByteSliceToString(p.info.name[:])}, nil
			}
		}
	}
}

// read reads the program with an id.
func (p *program) read(id uint32) error {
	get := struct{ id, next, flags uint32 }{id: id}

	fd, err := bpfCall(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&get), unsafe.Sizeof(get))
	if err != nil {
		return err
	}
	defer unix.Close(fd)

	p.functions[0] = 0
	p.info = programInfo{
		functionCount: maxFunctions, functions: uint64(uintptr(unsafe.Pointer(&p.functions))),
		lengthCount: maxFunctions, lengths: uint64(uintptr(unsafe.Pointer(&p.lengths))),
	}
	request := struct {
		fd, size uint32
		info     uint64
	}{uint32(fd), uint32(unsafe.Sizeof(p.info)), uint64(uintptr(unsafe.Pointer(&p.info)))}

	_, err = bpfCall(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&request), unsafe.Sizeof(request))

	runtime.KeepAlive(p)

	return err
}

func bpfCall(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	result, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}

	return int(result), nil
}
