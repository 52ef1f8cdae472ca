// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// Unmarshal reads a line that Marshal made into a pointer to its type, with the
// strings as they were before. Keys that the type does not have are left out.
func Unmarshal(line []byte, into any) error {
	if err := json.Unmarshal(line, into); err != nil {
		return fmt.Errorf("decode a line: %w", err)
	}

	if marked(line) {
		restore(reflect.ValueOf(into))
	}

	return nil
}

// Decode reads a line of a kind. It returns nil for an unknown kind: a newer oomtrace
// wrote it. An *Update has its Change only.
func Decode(kind string, line []byte) (Line, error) {
	l := NewLine(kind)
	if l == nil {
		return nil, nil
	}

	if err := Unmarshal(line, Published(l)); err != nil {
		return nil, err
	}

	return l, nil
}

// marked reports whether a string of the line may hold the mark of EscapeText, as
// itself or as another writer of JSON may put it.
func marked(line []byte) bool {
	if bytes.ContainsRune(line, utf8.RuneError) {
		return true
	}

	for {
		i := bytes.Index(line, []byte(`\u`))
		if i < 0 || len(line) < i+6 {
			return false
		}

		if bytes.EqualFold(line[i+2:i+6], []byte("fffd")) {
			return true
		}
		line = line[i+2:]
	}
}

// restore undoes EscapeText in all strings that canonical escaped.
func restore(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			restore(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				restore(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			restore(v.Index(i))
		}
	case reflect.String:
		v.SetString(UnescapeText(v.String()))
	}
}
