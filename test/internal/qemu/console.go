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
// MarkEnd.
const (
	MarkStart = "@@LAB-START@@"
	MarkCase  = "@@LAB-CASE@@" // before the name of a case that starts
	MarkBegin = "@@LAB-BEGIN@@"
	MarkEnd   = "@@LAB-END@@"
)

// Send writes a result to the console, in short lines: long ones get lost.
func Send(console io.Writer, result any) error {
	var packed bytes.Buffer

	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err == nil {
		err = json.NewEncoder(z).Encode(result)
	}

	if err == nil {
		err = z.Close()
	}

	if err != nil {
		return fmt.Errorf("pack the result: %w", err)
	}

	text := base64.StdEncoding.EncodeToString(packed.Bytes())

	fmt.Fprintln(console, MarkBegin)

	for line := range slices.Chunk([]byte(text), 200) {
		fmt.Fprintf(console, "%s\n", line)
	}

	fmt.Fprintln(console, MarkEnd)

	return nil
}

// Receive decodes the first result on the console.
func Receive(console []byte, result any) error {
	text := strings.ReplaceAll(string(console), "\r", "")
	if !strings.Contains(text, MarkStart) {
		return errors.New("the guest did not start")
	}

	_, after, begun := strings.Cut(text, MarkBegin)
	packed, _, ended := strings.Cut(after, MarkEnd)

	if !begun || !ended {
		return errors.New("the guest did not finish")
	}

	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(packed), ""))
	if err != nil {
		return fmt.Errorf("decode the result: %w", err)
	}

	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("unpack the result: %w", err)
	}

	if err := json.NewDecoder(z).Decode(result); err != nil {
		return fmt.Errorf("parse the result: %w", err)
	}

	return nil
}
