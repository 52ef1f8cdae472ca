// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Tree writes files, text by name, into a temporary directory and returns its path. A name
// that ends in a slash becomes a symbolic link to the text.
func Tree(t testing.TB, files map[string]string) string {
	t.Helper()

	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}

		var err error
		if strings.HasSuffix(name, "/") {
			err = os.Symlink(text, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}

		if err != nil {
			t.Fatal(err)
		}
	}

	return root
}
