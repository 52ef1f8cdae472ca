// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"
)

// choice is a flag that takes one of several values. Help shows them in place of a type.
type choice struct {
	value *string
	of    []string
}

// newOption returns the flag for a value that is not set, or one of the choices.
func newOption(value *string, of ...string) *choice { return &choice{value, of} }

// newChoice returns the flag for value, which becomes the first of the choices.
func newChoice(value *string, of ...string) *choice {
	*value = of[0]
	return &choice{value, of}
}

func (c *choice) String() string { return *c.value }
func (c *choice) Type() string   { return strings.Join(c.of, "|") }

func (c *choice) Set(text string) error {
	text = strings.ToLower(text)

	if text == "" {
		return errors.New("must not be empty")
	}

	if !slices.Contains(c.of, text) {
		return fmt.Errorf("must be one of %s", strings.Join(c.of, ", "))
	}
	*c.value = text

	return nil
}

// textValue is a flag that must not be empty if it is given: an empty text comes from a shell
// variable that is not set, and would select everything.
type textValue struct {
	value *string
	name  string // of the value, in the help
}

func newText(value *string, name string) *textValue { return &textValue{value, name} }

func (t *textValue) String() string { return *t.value }
func (t *textValue) Type() string   { return t.name }

func (t *textValue) Set(value string) error {
	if value == "" {
		return errors.New("must not be empty")
	}
	*t.value = value

	return nil
}

// byteSize is a number of bytes, with a unit of 1024: 512KiB, 16MiB, 1g.
type byteSize int64

func (b byteSize) String() string { return units.BytesSize(float64(b)) }
func (b byteSize) Type() string   { return "size" }

func (b *byteSize) Set(text string) error {
	n, err := units.RAMInBytes(text)
	if err != nil {
		return fmt.Errorf("%q is not a size: write 512KiB, 16MiB or 1GiB", text)
	}
	*b = byteSize(n)

	return nil
}
