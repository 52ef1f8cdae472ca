// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"reflect"
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/phrase"
)

// maxTextBytes is how much of one text HTML shows. The raw event has all of it.
const maxTextBytes = 400

// sanitize makes every text of an incident safe for HTML, in place: runes that could hide
// or change their surroundings become visible escapes, and very long texts are cut, with
// a note.
func sanitize(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			sanitize(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				sanitize(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			sanitize(v.Index(i))
		}
	case reflect.Map:
		clean := reflect.MakeMap(v.Type())
		for key, value := range v.Seq2() {
			k, e := reflect.New(key.Type()).Elem(), reflect.New(value.Type()).Elem()
			k.Set(key)
			e.Set(value)
			sanitize(k)
			sanitize(e)
			clean.SetMapIndex(k, e)
		}

		if !v.IsNil() {
			v.Set(clean)
		}
	case reflect.String:
		v.SetString(limitText(phrase.Sanitize(v.String())))
	}
}

func limitText(s string) string {
	if len(s) <= maxTextBytes {
		return s
	}

	at := maxTextBytes
	for !utf8.RuneStart(s[at]) {
		at--
	}

	return fmt.Sprintf("%s… (%d bytes more in the raw event)", s[:at], len(s)-at)
}
