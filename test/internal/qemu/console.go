// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Marks of the console. Base64 of gzip of a result stands between MarkBegin and
// MarkEnd, that of the text of an error between MarkError and MarkEnd.
const (
	MarkStart = "@@LAB-START@@"
	MarkCase  = "@@LAB-CASE@@" // before the name of a case that starts
	MarkBegin = "@@LAB-BEGIN@@"
	MarkError = "@@LAB-ERROR@@"
	MarkEnd   = "@@LAB-END@@"
	MarkDied  = "@@LAB-DIED@@" // the guest's program panicked outside of its main goroutine
)

// GuestError is the text of the error that ended the program of a guest.
type GuestError string

func (e GuestError) Error() string { return "the guest failed: " + string(e) }

// Send writes a result to the console.
func Send(console io.Writer, result any) error { return send(console, MarkBegin, result) }

// SendError writes the error that ends the guest's program to the console.
func SendError(console io.Writer, err error) error { return send(console, MarkError, err.Error()) }

// send packs a value into short lines: long ones get lost.
func send(console io.Writer, mark string, value any) error {
	var packed bytes.Buffer

	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err == nil {
		err = json.NewEncoder(z).Encode(value)
	}

	if err == nil {
		err = z.Close()
	}

	if err != nil {
		return fmt.Errorf("pack the result: %w", err)
	}

	text := base64.StdEncoding.EncodeToString(packed.Bytes())

	fmt.Fprintln(console, mark)

	for line := range slices.Chunk([]byte(text), 200) {
		fmt.Fprintf(console, "%s\n", line)
	}

	fmt.Fprintln(console, MarkEnd)

	return nil
}

// Receive decodes the first result on the console. Without one, its error is a
// [GuestError] if the guest sent that.
func Receive(console []byte, result any) error {
	if !bytes.Contains(console, []byte(MarkStart)) {
		return errors.New("the guest did not start")
	}

	sent, err := receive(console, MarkBegin, result)
	if sent {
		return err
	}

	if err := Failure(console); err != nil {
		return err
	}

	return errors.New("the guest did not finish")
}

// Failure returns the [GuestError] on the console, or nil. A program that died without
// sending one is an error, too.
func Failure(console []byte) error {
	var text string

	sent, err := receive(console, MarkError, &text)

	switch {
	case err != nil:
		return err
	case sent:
		return GuestError(text)
	case bytes.Contains(console, []byte(MarkDied)):
		return GuestError("its program died; end of the console: " + Tail(console))
	}

	return nil
}

// receive decodes the first value after a mark, and reports whether one was sent to its
// end.
func receive(console []byte, mark string, value any) (sent bool, err error) {
	text := strings.ReplaceAll(string(console), "\r", "")
	_, after, begun := strings.Cut(text, mark)

	packed, _, ended := strings.Cut(after, MarkEnd)
	if !begun || !ended {
		return false, nil
	}

	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(packed), ""))
	if err != nil {
		return true, fmt.Errorf("decode the result: %w", err)
	}

	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return true, fmt.Errorf("unpack the result: %w", err)
	}

	if err := json.NewDecoder(z).Decode(value); err != nil {
		return true, fmt.Errorf("parse the result: %w", err)
	}

	return true, nil
}
