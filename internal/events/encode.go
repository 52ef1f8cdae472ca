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

// Marshal encodes the published line of a Line that has one, with its newline. The
// published line of an *Update is its change.
//
// The line is valid UTF-8 and has one newline, at its end. Runes that could control a
// terminal (see Printable) are written as JSON escapes. Strings that are not valid UTF-8,
// as process names and paths may be, are encoded by EscapeText. Times are converted to
// UTC. The value itself is not changed.
func Marshal(line Line) ([]byte, error) { return encode(Published(line)) }

// MarshalInspection encodes the object that inspect prints, with its newline, by the rules
// of Marshal.
func MarshalInspection(i *Inspection) ([]byte, error) { return encode(i) }

// MarshalObject encodes an object that is no line of the contract, with its newline, by the
// rules of Marshal.
func MarshalObject(object any) ([]byte, error) { return encode(object) }

func encode(line any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)

	if err := enc.Encode(MapTexts(line, EscapeText)); err != nil {
		return nil, fmt.Errorf("encode a line: %w", err)
	}
	body := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))

	return append(escapeRunes(body), '\n'), nil
}

// MapTexts returns a copy of a value of the contract in which f has replaced each string,
// those of maps with their keys. Times of the copy are in UTC.
func MapTexts[T any](of T, f func(string) string) T {
	return mapTexts(reflect.ValueOf(of), f).Interface().(T)
}

func mapTexts(v reflect.Value, f func(string) string) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}

		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().Set(mapTexts(v.Elem(), f))
	case reflect.Struct:
		if t, ok := v.Interface().(time.Time); ok {
			return reflect.ValueOf(t.UTC())
		}

		for i := range v.NumField() {
			out.Field(i).Set(mapTexts(v.Field(i), f))
		}
	case reflect.Slice:
		if v.IsNil() {
			return v
		}

		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))

		for i := range v.Len() {
			out.Index(i).Set(mapTexts(v.Index(i), f))
		}
	case reflect.Map:
		if v.IsNil() {
			return v
		}

		out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))

		for i := v.MapRange(); i.Next(); {
			out.SetMapIndex(mapTexts(i.Key(), f), mapTexts(i.Value(), f))
		}
	case reflect.String:
		out.SetString(f(v.String()))
	default:
		return v
	}

	return out
}

// escapeRunes replaces runes that are not Printable by \uXXXX. It changes the content of
// strings only: JSON is ASCII outside of strings, and encoding/json has escaped C0.
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

// EscapeText encodes a string of any bytes as valid UTF-8, without loss: each byte that is
// not part of a valid rune becomes U+FFFD followed by its two lower case hex digits, and
// so does each byte of a U+FFFD in the string. Other valid text is unchanged.
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

// UnescapeText reverses EscapeText. A U+FFFD that is not followed by two hex digits is
// kept.
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

// Printable reports whether a rune is safe to print: a letter, number, punctuation mark,
// symbol or the ASCII space. Controls, format characters (bidirectional and zero width
// ones among them), combining marks, invisible letters and other spaces are not: they
// could control a terminal, be invisible, or change how their neighbours are displayed.
func Printable(r rune) bool {
	return unicode.IsPrint(r) && !unicode.IsMark(r) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}
