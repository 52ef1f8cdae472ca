// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Marshal makes the published line, newline included, of any Line but a *Headline.
// Of an *Update it is the change.
//
// The line is valid UTF-8 and has one newline, at its end. Runes that could
// steer a terminal (see Printable) are written as JSON escapes, and strings
// that are no UTF-8, as process names and paths may be, by EscapeText. Times
// are turned to UTC. The value itself is left alone.
func Marshal(line Line) ([]byte, error) { return encode(Published(line)) }

// MarshalInspection makes the object, newline included, that inspect prints, by the
// rules of Marshal.
func MarshalInspection(i *Inspection) ([]byte, error) { return encode(i) }

func encode(line any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)

	if err := enc.Encode(canonical(reflect.ValueOf(line)).Interface()); err != nil {
		return nil, fmt.Errorf("encode a line: %w", err)
	}
	body := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))

	return append(escapeRunes(body), '\n'), nil
}

// canonical copies v with its strings escaped and its times in UTC.
func canonical(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}

		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().Set(canonical(v.Elem()))
	case reflect.Struct:
		if t, ok := v.Interface().(time.Time); ok {
			return reflect.ValueOf(t.UTC())
		}

		for i := range v.NumField() {
			out.Field(i).Set(canonical(v.Field(i)))
		}
	case reflect.Slice:
		if v.IsNil() {
			return v
		}

		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))

		for i := range v.Len() {
			out.Index(i).Set(canonical(v.Index(i)))
		}
	case reflect.Map:
		if v.IsNil() {
			return v
		}

		out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))

		for i := v.MapRange(); i.Next(); {
			out.SetMapIndex(canonical(i.Key()), canonical(i.Value()))
		}
	case reflect.String:
		out.SetString(EscapeText(v.String()))
	default:
		return v
	}

	return out
}

// escapeRunes writes what Printable refuses as \uXXXX. Outside of its strings
// JSON is ASCII, and encoding/json has escaped C0 already, so nothing but the
// content of strings is touched.
func escapeRunes(line []byte) []byte {
	out := make([]byte, 0, len(line)+1)
	for len(line) > 0 {
		r, n := utf8.DecodeRune(line)
		if Printable(r) {
			out = append(out, line[:n]...)
		} else {
			for _, unit := range utf16.Encode([]rune{r}) {
				out = fmt.Appendf(out, `\u%04x`, unit)
			}
		}
		line = line[n:]
	}

	return out
}

// EscapeText makes a string that may hold any bytes valid UTF-8 and loses
// nothing: each byte that is not part of a valid rune becomes U+FFFD followed
// by its two lower case hex digits. A U+FFFD that was there already becomes its
// own three bytes, written so. Valid text without U+FFFD stays as it is.
func EscapeText(s string) string {
	if utf8.ValidString(s) && !strings.ContainsRune(s, utf8.RuneError) {
		return s
	}
	var b strings.Builder

	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r != utf8.RuneError {
			b.WriteString(s[:n])
		} else {
			for i := range n {
				fmt.Fprintf(&b, "%c%02x", utf8.RuneError, s[i])
			}
		}
		s = s[n:]
	}

	return b.String()
}

// UnescapeText gives back the bytes that EscapeText was given. A U+FFFD that
// two hex digits do not follow is kept.
func UnescapeText(s string) string {
	const mark = string(utf8.RuneError)
	var b strings.Builder

	for {
		before, after, found := strings.Cut(s, mark)
		b.WriteString(before)

		if !found {
			return b.String()
		}

		s = after
		if len(after) >= 2 {
			if c, err := strconv.ParseUint(after[:2], 16, 8); err == nil {
				b.WriteByte(byte(c))
				s = after[2:]

				continue
			}
		}

		b.WriteString(mark)
	}
}

// Printable reports whether a rune shows as itself and as nothing else: a
// letter, number, punctuation mark, symbol or the ASCII space. Controls, format
// characters (bidirectional and zero width ones among them), combining marks,
// invisible letters and foreign spaces are not: they could steer a terminal,
// hide, or change the look of what stands beside them.
func Printable(r rune) bool {
	return unicode.IsPrint(r) && !unicode.IsMark(r) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}
