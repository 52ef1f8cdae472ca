// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"reflect"
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/phrase"
)

// maxTextBytes is how much of one text HTML shows; the raw event has all of it.
const maxTextBytes = 400

// plain makes every text in an incident safe to be shown, in place: what could
// hide, or change the look of its surroundings, becomes a visible escape, and
// what is very long is cut, which is said.
func plain(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			plain(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				plain(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			plain(v.Index(i))
		}
	case reflect.Map:
		clean := reflect.MakeMap(v.Type())
		for key, value := range v.Seq2() {
			k, e := reflect.New(key.Type()).Elem(), reflect.New(value.Type()).Elem()
			k.Set(key)
			e.Set(value)
			plain(k)
			plain(e)
			clean.SetMapIndex(k, e)
		}

		if !v.IsNil() {
			v.Set(clean)
		}
	case reflect.String:
		v.SetString(short(phrase.Sanitize(v.String())))
	}
}

func short(s string) string {
	if len(s) <= maxTextBytes {
		return s
	}

	at := maxTextBytes
	for !utf8.RuneStart(s[at]) {
		at--
	}

	return fmt.Sprintf("%s… (%d bytes more in the raw event)", s[:at], len(s)-at)
}
