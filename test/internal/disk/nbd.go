// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// The NBD protocol, as its doc/proto.md has it: fixed newstyle, simple replies.
const (
	magicServer  = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption  = 0x49484156454f5054 // "IHAVEOPT"
	magicAnswer  = 0x0003e889045565a9
	magicRequest = 0x25609513
	magicReply   = 0x67446698

	fixedNewstyle, noZeroes = 1 << 0, 1 << 1

	optionAbort, optionInfo, optionGo = 2, 6, 7
	answerAck, answerInfo             = 1, 3
	answerUnsupported                 = 1<<31 + 1
	infoExport, infoBlockSize         = 0, 3

	hasFlags, sendFlush, sendFUA = 1 << 0, 1 << 2, 1 << 3

	commandRead, commandWrite, commandDisconnect, commandFlush = 0, 1, 2, 3
	flagFUA                                                    = 1 << 0
	errorInvalid                                               = 22

	maxOptionBytes  = 64 << 10
	maxRequestBytes = 32 << 20
)

// Serve serves one client after the other by the NBD protocol, until the listener is
// closed. A disk that is off does not answer.
func (d *Disk) Serve(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}

		if err != nil {
			return fmt.Errorf("accept a client of the disk: %w", err)
		}
		err = d.serve(conn)
		conn.Close()

		if err != nil && !gone(err) {
			return fmt.Errorf("serve the disk: %w", err)
		}
	}
}

// gone reports whether the client ended without a disconnect, such as by a kill.
func gone(err error) bool {
	var broken *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &broken)
}

func (d *Disk) serve(conn net.Conn) error {
	s := &session{disk: d, in: bufio.NewReader(conn), out: bufio.NewWriter(conn)}
	if more, err := s.negotiate(); err != nil || !more {
		return err
	}

	for {
		if more, err := s.request(); err != nil || !more {
			return err
		}
	}
}

type session struct {
	disk *Disk
	in   *bufio.Reader
	out  *bufio.Writer
}

func (s *session) send(values ...any) error {
	for _, v := range values {
		if err := binary.Write(s.out, binary.BigEndian, v); err != nil {
			return err
		}
	}

	return s.out.Flush()
}

// negotiate answers options until one of them starts the transmission.
func (s *session) negotiate() (transmission bool, err error) {
	if err := s.send(uint64(magicServer), uint64(magicOption), uint16(fixedNewstyle|noZeroes)); err != nil {
		return false, err
	}

	var flags uint32
	if err := binary.Read(s.in, binary.BigEndian, &flags); err != nil {
		return false, err
	}

	for {
		var option struct {
			Magic         uint64
			Option, Bytes uint32
		}
		if err := binary.Read(s.in, binary.BigEndian, &option); err != nil {
			return false, err
		}

		if option.Magic != magicOption || option.Bytes > maxOptionBytes {
			return false, fmt.Errorf("parse an option: %+v", option)
		}

		if _, err := s.in.Discard(int(option.Bytes)); err != nil {
			return false, err
		}
		answer := func(kind uint32, data ...any) error {
			size := 0
			for _, v := range data {
				size += binary.Size(v)
			}

			return s.send(append([]any{uint64(magicAnswer), option.Option, kind, uint32(size)}, data...)...)
		}

		switch option.Option {
		case optionInfo, optionGo:
			err = errors.Join(
				answer(answerInfo, uint16(infoExport), uint64(s.disk.Bytes()), uint16(hasFlags|sendFlush|sendFUA)),
				answer(answerInfo, uint16(infoBlockSize), uint32(SectorBytes), uint32(4096), uint32(maxRequestBytes)),
				answer(answerAck))
			if err != nil || option.Option == optionGo {
				return err == nil, err
			}
		case optionAbort:
			return false, answer(answerAck)
		default:
			if err := answer(answerUnsupported); err != nil {
				return false, err
			}
		}
	}
}

// request serves one request. On a disk that is off it is not answered, nor is any after
// it, until the client ends.
func (s *session) request() (more bool, err error) {
	var r struct {
		Magic       uint32
		Flags, Type uint16
		Cookie      uint64
		Offset      uint64
		Bytes       uint32
	}
	if err := binary.Read(s.in, binary.BigEndian, &r); err != nil {
		return false, err
	}

	if r.Magic != magicRequest || r.Bytes > maxRequestBytes {
		return false, fmt.Errorf("parse a request: %+v", r)
	}
	offset := int64(r.Offset)

	var data []byte
	if r.Type == commandRead || r.Type == commandWrite {
		data = make([]byte, r.Bytes)
	}

	if r.Type == commandWrite {
		if _, err := io.ReadFull(s.in, data); err != nil {
			return false, err
		}
	}
	var do func()

	switch inside := s.disk.inside(offset, int64(len(data))); {
	case r.Type == commandDisconnect:
		return false, nil
	case r.Type == commandFlush:
		do = s.disk.flush
	case r.Type == commandRead && inside:
		do = func() { s.disk.read(data, offset) }
	case r.Type == commandWrite && inside:
		do = func() { s.disk.write(data, offset, r.Flags&flagFUA != 0) }
	default:
		return true, s.send(uint32(magicReply), uint32(errorInvalid), r.Cookie)
	}

	if !s.disk.operation(do) {
		_, err := io.Copy(io.Discard, s.in)
		return false, err
	}

	if r.Type != commandRead {
		data = nil
	}

	return true, s.send(uint32(magicReply), uint32(0), r.Cookie, data)
}
