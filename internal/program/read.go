// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/oomtrace/oomtrace/internal/events"
)

// The bounds of what is read of a process, in bytes. A process chooses all of it: an
// argument has up to 128 KiB, a class path often more than one page.
const (
	maxArgs = 256 << 10
	maxMaps = 1 << 20
	// tickNS is a clock tick in /proc, USER_HZ.
	tickNS = 10e6
)

// Reader reads processes in a mount of /proc. It reads all files into one buffer, so it belongs
// to one goroutine: processes are read where memory is short, and kills come in storms.
type Reader struct {
	// Root is the directory of /proc; empty is "/".
	Root string

	buffer []byte // made by the first read
}

// Process identifies a process: its id may be given to another one, and exec replaces what
// it runs, as a rule with its name.
type Process struct {
	PID     int
	StartNS uint64 // since boot, at a resolution of 10 ms
	Comm    string
}

// Process returns what /proc/PID/stat has. Reading it needs no lock of the process.
func (r *Reader) Process(pid int) (Process, error) {
	p, _, err := r.stat(pid)
	return p, err
}

// Program returns a process and what it runs. The error is that of the first file that cannot
// be read: the process has exited, has no memory any more, or is a kernel thread. It reads
// four files, and the executable or the mappings if its name is not enough (some 0.1 ms).
// Mappings, command line and environment wait for the lock of the process's mappings, and the
// executable for its file system.
func (r *Reader) Program(pid int) (Process, *events.Program, error) {
	p, parent, err := r.stat(pid)
	if err != nil {
		return p, nil, err
	}

	t := Traits{Comm: p.Comm}
	if t.Executable, err = os.Readlink(r.in(pid, "exe")); err != nil {
		return p, nil, err
	}

	r.readOptions(pid, &t)

	if err := r.readImage(pid, &t); err != nil {
		return p, nil, err
	}

	if exe, err := os.Readlink(r.in(parent, "exe")); err == nil && exe == t.Executable {
		t.StarterArgs, _ = r.args(parent)
	}

	if again, _, err := r.stat(pid); err != nil || again != p {
		return p, nil, fmt.Errorf("read process %d: it has been replaced meanwhile", pid)
	}

	return p, Identify(t), nil
}

func (r *Reader) in(pid int, name string) string {
	return filepath.Join("/", r.Root, "proc", strconv.Itoa(pid), name)
}

// stat parses /proc/PID/stat. The name is in parentheses, and may contain some itself.
func (r *Reader) stat(pid int) (p Process, parent int, err error) {
	text, _, err := r.read(r.in(pid, "stat"))
	if err != nil {
		return p, 0, err
	}

	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return p, 0, fmt.Errorf("read process %d: its stat has no name", pid)
	}

	// state ppid ...; starttime is the 22nd of all.
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 20 {
		return p, 0, fmt.Errorf("read process %d: its stat is too short", pid)
	}

	parent, err = strconv.Atoi(fields[1])
	if err != nil {
		return p, 0, fmt.Errorf("read the parent of process %d: %w", pid, err)
	}

	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return p, 0, fmt.Errorf("read the start of process %d: %w", pid, err)
	}

	return Process{PID: pid, StartNS: ticks * tickNS, Comm: string(text[open+1 : end])}, parent, nil
}

// readOptions reads the environment before the command line: a process always has the latter,
// so an empty one means that its memory is gone, and nothing is known of either.
func (r *Reader) readOptions(pid int, t *Traits) {
	env, whole, err := r.read(r.in(pid, "environ"))
	known, empty := selected(env), len(env) == 0
	clear(env) // the rest may be secret

	t.Args, t.Partly = r.args(pid)

	if err == nil && whole && (!empty || len(t.Args) > 0) {
		t.Env = known
	}
}

// selected keeps the variables that hold memory settings.
func selected(environ []byte) map[string]string {
	env := map[string]string{}

	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		name, value, _ := bytes.Cut(entry, []byte("="))
		if slices.Contains(variables, string(name)) {
			env[string(name)] = string(value)
		}
	}

	return env
}

// args returns a command line, nil if it cannot be read; partly, if it is longer than is
// read.
func (r *Reader) args(pid int) (args []string, partly bool) {
	text, whole, err := r.read(r.in(pid, "cmdline"))
	if err != nil || len(text) == 0 {
		return nil, true
	}

	args = strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
	clear(text)

	if !whole {
		args = args[:len(args)-1]
	}

	return args, !whole
}

// readImage reads what else a process is recognized by, where the name of its executable is
// not enough. What cannot be read may be what it is recognized by.
func (r *Reader) readImage(pid int, t *Traits) error {
	kind := kindOf(fileName(t.Executable))
	if kind != "" && kind != events.ProgramPostgreSQL || isRuncInit(t.Comm) {
		return nil
	}

	err := r.readMaps(pid, t)

	switch {
	case kind != "":
		return nil // only its shared memory is not known
	case err != nil || len(t.Libraries) > 0:
		return err
	}

	t.BuiltByGo, err = builtByGo(r.in(pid, "exe"))

	return err
}

// readMaps reads the known libraries, and the largest shared mapping without a file, of
// /proc/PID/maps (fs/proc/task_mmu.c: show_map_vma). A process without memory has none.
func (r *Reader) readMaps(pid int, t *Traits) error {
	file, err := os.Open(r.in(pid, "maps"))
	if err != nil {
		return err
	}
	defer file.Close()

	lines, any := bufio.NewScanner(io.LimitReader(file, maxMaps)), false

	for lines.Scan() {
		any = true

		if line := lines.Bytes(); bytes.Contains(line, []byte(".so")) || bytes.Contains(line, []byte("s ")) {
			t.mapping(string(line))
		}
	}

	if !any {
		return fmt.Errorf("read process %d: it has no memory any more", pid)
	}

	return lines.Err()
}

// mapping adds a line of maps: "7f00-7f10 rw-s 00000000 00:01 4711   /dev/zero (deleted)".
func (t *Traits) mapping(line string) {
	fields := strings.Fields(line)
	if len(fields) < 6 {
		return
	}

	file := fields[5][strings.LastIndexByte(fields[5], '/')+1:]
	if slices.ContainsFunc(libraries, func(l library) bool { return l.is(file) }) && !slices.Contains(t.Libraries, file) {
		t.Libraries = append(t.Libraries, file)
	}

	shared := []string{"/dev/zero", "/anon_hugepage", "/SYSV"} // mm/shmem.c: shmem_zero_setup; mm/mmap.c; ipc/shm.c
	if !strings.HasSuffix(fields[1], "s") || !slices.ContainsFunc(shared, func(s string) bool { return strings.HasPrefix(fields[5], s) }) {
		return
	}

	first, last, _ := strings.Cut(fields[0], "-")
	from, err1 := strconv.ParseUint(first, 16, 64)
	to, err2 := strconv.ParseUint(last, 16, 64)

	if err1 == nil && err2 == nil && to > from {
		t.SharedBytes = max(t.SharedBytes, to-from)
	}
}

// read reads a file up to the size of the buffer, and reports whether that is all. The text is
// valid until the next call. It makes the system calls itself: os.File would register each file
// with the poller.
func (r *Reader) read(path string) (text []byte, whole bool, err error) {
	if r.buffer == nil {
		r.buffer = make([]byte, maxArgs+1)
	}

	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, err
	}
	defer syscall.Close(fd)

	for n := 0; ; {
		got, err := syscall.Read(fd, r.buffer[n:maxArgs+1])

		switch {
		case err == syscall.EINTR:
		case err != nil:
			return nil, false, err
		case got == 0 && n <= maxArgs:
			return r.buffer[:n], true, nil
		case got == 0:
			return r.buffer[:maxArgs], false, nil
		default:
			n += got
		}
	}
}
