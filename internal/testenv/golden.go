// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Golden compares output with a file in testdata, or with update writes that file.
func Golden(t testing.TB, name string, got []byte, update bool) {
	t.Helper()

	file := filepath.Join("testdata", name)
	if update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}

		return
	}

	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	if !bytes.Equal(got, want) {
		t.Errorf("got other output than %s has (go test -update rewrites it):\n%s", file, got)
	}
}
