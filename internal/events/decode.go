// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// Unmarshal decodes a line that Marshal encoded into a pointer to its type, and restores
// strings that were no valid UTF-8. Unknown keys are ignored.
func Unmarshal(line []byte, into any) error {
	if err := json.Unmarshal(line, into); err != nil {
		return fmt.Errorf("decode a line: %w", err)
	}

	if mayBeEscaped(line) {
		value := reflect.ValueOf(into).Elem()
		value.Set(mapTexts(value, UnescapeText))
	}

	return nil
}

// Decode decodes a line of a kind. It returns nil for an unknown kind, which a newer
// oomtrace may have written. An *Update has its Change only.
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

// mayBeEscaped reports whether the line may have text of EscapeText: U+FFFD, as a rune or
// as the escape that other JSON encoders write.
func mayBeEscaped(line []byte) bool {
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
