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
	// Strings were escaped only where the mark is; others may write it as \ufffd.
	if bytes.ContainsRune(line, utf8.RuneError) || bytes.Contains(bytes.ToLower(line), []byte(`\ufffd`)) {
		restore(reflect.ValueOf(into))
	}
	return nil
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
