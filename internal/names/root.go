// SPDX-License-Identifier: Apache-2.0

package names

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// hostRoot is where the node's file system is seen. Links in it are the node's:
// they are followed within it.
type hostRoot string

// path gives the place of a path of the node.
func (r hostRoot) path(path string) (string, error) {
	if r == "" || r == "/" {
		return path, nil
	}

	return securejoin.SecureJoin(string(r), path)
}

// read reads a regular file of at most so many bytes. Whoever may write there can
// put a pipe in its place: opening it does not wait.
func (r hostRoot) read(path string, most int64) ([]byte, error) {
	path, err := r.path(path)
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
		return nil, fmt.Errorf("%s is no regular file", path)
	case info.Size() > most:
		return nil, fmt.Errorf("%s is larger than %d bytes", path, most)
	}

	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}

	return text, err
}

// list gives names in a directory, at most so many.
func (r hostRoot) list(path string, most int) ([]string, error) {
	path, err := r.path(path)
	if err != nil {
		return nil, err
	}

	d, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer d.Close()

	names, err := d.Readdirnames(most)
	if errors.Is(err, io.EOF) {
		err = nil
	}

	return names, err
}

func (r hostRoot) exists(path string) bool {
	path, err := r.path(path)
	if err != nil {
		return false
	}
	_, err = os.Stat(path)

	return !errors.Is(err, fs.ErrNotExist)
}
