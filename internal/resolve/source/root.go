// SPDX-License-Identifier: Apache-2.0

package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	securejoin "github.com/cyphar/filepath-securejoin"

	"github.com/oomtrace/oomtrace/internal/runtimes"
)

// Root is the directory in which the node's file system is mounted; empty is "/".
// Symbolic links below it are the node's, and are followed within it.
type Root string

// Path returns the path in this process's mount namespace of a path on the node.
func (r Root) Path(path string) (string, error) {
	if r == "" || r == "/" {
		return path, nil
	}

	root, err := filepath.Abs(string(r)) // SecureJoin refuses a root with ..
	if err != nil {
		return "", err
	}

	return securejoin.SecureJoin(root, path)
}

// Read reads a regular file of at most limit bytes. Whoever may write there can put a
// FIFO in its place: opening it does not block.
func (r Root) Read(path string, limit int64) ([]byte, error) {
	path, err := r.Path(path)
	if err != nil {
		return nil, err
	}

	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}

	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}

	return text, err
}

// List returns the names in a directory, at most limit.
func (r Root) List(path string, limit int) ([]string, error) {
	path, err := r.Path(path)
	if err != nil {
		return nil, err
	}

	d, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer d.Close()

	names, err := d.Readdirnames(limit)
	if errors.Is(err, io.EOF) {
		err = nil
	}

	return names, err
}

// Exists reports whether a path exists on the node, or cannot be examined.
func (r Root) Exists(path string) bool {
	path, err := r.Path(path)
	if err != nil {
		return false
	}
	_, err = os.Stat(path)

	return !errors.Is(err, fs.ErrNotExist)
}

// Exist reports whether the node has a socket or files of a runtime, or the kubelet's logs.
func Exist(root Root, table runtimes.Table) bool {
	paths := append(table.Sockets(), podLogs, containerLogs)

	for _, row := range table {
		paths = append(paths, row.StateDirs...)
	}

	return slices.ContainsFunc(paths, root.Exists)
}
