// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
)

const (
	// maxSections and maxSectionNames bound what is read of an executable: linkers write some
	// 40 sections.
	maxSections     = 256
	maxSectionNames = 64 << 10
)

// goSection has the build information of Go; the linker writes it into each executable, also
// into one without symbols (cmd/link/internal/ld/data.go, buildinfo).
const goSection = ".go.buildinfo"

// builtByGo reports whether an executable has a section of that name. It reads the header of
// the file, its section headers and their names; a file that has none of these is no error. It
// parses by hand: debug/elf reads all sections that a header claims, and the header is
// anybody's.
func builtByGo(path string) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()

	names, err := sectionNames(file)

	return err == nil && bytes.Contains(names, []byte("\x00"+goSection+"\x00")), nil
}

// sectionNames returns the table of section names of a 64-bit little-endian ELF file.
func sectionNames(file io.ReaderAt) ([]byte, error) {
	var header elf.Header64
	if err := readAt(file, 0, &header); err != nil {
		return nil, err
	}

	const ident = elf.ELFMAG + string(elf.ELFCLASS64) + string(elf.ELFDATA2LSB)
	if !bytes.HasPrefix(header.Ident[:], []byte(ident)) || header.Shnum > maxSections || header.Shstrndx >= header.Shnum {
		return nil, elfError("is not one of 64 bits with few sections")
	}

	const size = 64 // of a section header

	var section elf.Section64
	if err := readAt(file, header.Shoff+uint64(header.Shstrndx)*size, &section); err != nil {
		return nil, err
	}

	names := make([]byte, min(section.Size, maxSectionNames))

	_, err := io.ReadFull(io.NewSectionReader(file, int64(section.Off&^(1<<63)), int64(len(names))), names)

	return names, err
}

type elfError string

func (e elfError) Error() string { return "read an ELF file: it " + string(e) }

// readAt reads a structure at an offset, which may be any.
func readAt(file io.ReaderAt, off uint64, to any) error {
	return binary.Read(io.NewSectionReader(file, int64(off&^(1<<63)), int64(binary.Size(to))), binary.LittleEndian, to)
}
