// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// TestServeSpeaksNBD is a client as an emulator is one.
func TestServeSpeaksNBD(t *testing.T) {
	d, err := New(make([]byte, 8*SectorBytes))
	if err != nil {
		t.Fatal(err)
	}

	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}

	served := make(chan error, 1)
	go func() { served <- d.Serve(listener) }()

	conn, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	send := func(values ...any) {
		for _, v := range values {
			if err := binary.Write(conn, binary.BigEndian, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	receive := func(what string, bytesWanted int) []byte {
		data := make([]byte, bytesWanted)
		if _, err := io.ReadFull(conn, data); err != nil {
			t.Fatalf("%s: %v", what, err)
		}

		return data
	}
	receive("the greeting", 18)
	send(uint32(fixedNewstyle | noZeroes))
	const structuredReplies = 8
	send(uint64(magicOption), uint32(structuredReplies), uint32(0))

	if kind := receive("an answer", 20)[12:16]; binary.BigEndian.Uint32(kind) != answerUnsupported {
		t.Errorf("unsupported option: got answer %x, want %x", kind, uint32(answerUnsupported))
	}

	send(uint64(magicOption), uint32(optionGo), uint32(6), uint32(0), uint16(0))

	if size := receive("the size", 20+12)[22:30]; binary.BigEndian.Uint64(size) != 8*SectorBytes {
		t.Errorf("size: got %x, want %x", size, 8*SectorBytes)
	}

	receive("the block size and the end", 20+14+20)

	request := func(kind, flags uint16, offset uint64, length uint32, data []byte) (code uint32) {
		send(uint32(magicRequest), flags, kind, uint64(7), offset, length, data)
		return binary.BigEndian.Uint32(receive("a reply", 16)[4:8])
	}
	for what, code := range map[string]uint32{
		"a write":             request(commandWrite, 0, SectorBytes, SectorBytes, sector(1)),
		"a flush":             request(commandFlush, 0, 0, 0, nil),
		"a write after it":    request(commandWrite, 0, SectorBytes, SectorBytes, sector(2)),
		"a write through":     request(commandWrite, flagFUA, 0, SectorBytes, sector(3)),
		"a write of the rest": request(commandWrite, 0, 7*SectorBytes, SectorBytes, sector(4)),
	} {
		if code != 0 {
			t.Errorf("%s: got error %d, want 0", what, code)
		}
	}

	for what, code := range map[string]uint32{
		"a write beyond the end":   request(commandWrite, 0, 8*SectorBytes, SectorBytes, sector(5)),
		"a read far beyond it":     request(commandRead, 0, 1<<63, SectorBytes, nil),
		"a read of half a sector":  request(commandRead, 0, 0, SectorBytes/2, nil),
		"a command of other disks": request(4, 0, 0, SectorBytes, nil),
	} {
		if code != errorInvalid {
			t.Errorf("%s: got error %d, want %d", what, code, errorInvalid)
		}
	}

	d.Cut(0)
	d.On()

	if code := request(commandRead, 0, 0, 2*SectorBytes, nil); code != 0 {
		t.Errorf("a read: got error %d, want 0", code)
	}

	if data := receive("data", 2*SectorBytes); !bytes.Equal(data, append(sector(3), sector(1)...)) {
		t.Errorf("after the cut: got sectors %d %d, want 3 1", data[0], data[SectorBytes])
	}

	conn.Close()
	listener.Close()

	if err := <-served; err != nil {
		t.Error(err)
	}
}
