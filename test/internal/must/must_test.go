// SPDX-License-Identifier: Apache-2.0

package must

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestFailedReturnsErrorsAndPanics(t *testing.T) {
	failed := func(do func()) (err error) {
		defer func() { err = Failed(recover()) }()

		do()

		return nil
	}

	if err := failed(func() { OK("read", nil) }); err != nil {
		t.Errorf("nothing wrong: got error %v, want none", err)
	}

	if err := failed(func() { OK("read", io.EOF) }); !errors.Is(err, io.EOF) || err.Error() != "read: EOF" {
		t.Errorf("an error: got %v, want read: EOF", err)
	}

	err := failed(func() { _ = []int{}[len(t.Name()):] })
	if err == nil || !strings.Contains(err.Error(), "slice bounds") || !strings.Contains(err.Error(), "must_test.go") {
		t.Errorf("a panic: got error %v, want one with the panic and its stack", err)
	}
}
