// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/oomtrace/oomtrace/internal/testenv"
)

// TestWireLayout compares the Go types with the C structs in the object: size, and
// offset of each field. No byte may be padding: it would carry old kernel memory to
// user space.
func TestWireLayout(t *testing.T) {
	for object, load := range map[string]func() (*ebpf.CollectionSpec, error){"oomtrace": LoadOomtrace, "stalls": LoadStalls} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}

		compared := 0

		for name, value := range wireStructs {
			var c *btf.Struct
			if err := spec.Types.TypeByName(name, &c); err == nil {
				compareLayout(t, c, reflect.TypeOf(value))

				compared++
			} else if object == "oomtrace" {
				t.Errorf("%s: got %v, want the struct in the BTF of the object: run make generate", name, err)
			}
		}

		if compared == 0 {
			t.Errorf("%s: got no struct to compare, want at least one", object)
		}
	}
}

func compareLayout(t *testing.T, c *btf.Struct, g reflect.Type) {
	t.Helper()

	if uintptr(c.Size) != g.Size() {
		t.Errorf("%s: got %d bytes in Go, want %d as in C", c.Name, g.Size(), c.Size)
	}

	end := uint32(0)

	for _, member := range c.Members {
		offset := member.Offset.Bytes()
		if offset != end {
			t.Errorf("%s: got padding before %s, want none", c.Name, member.Name)
		}

		size, err := btf.Sizeof(member.Type)
		if err != nil {
			t.Fatal(err)
		}

		end = offset + uint32(size)
		field := strings.ReplaceAll(member.Name, "_", "")

		f, ok := g.FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, field) })
		if !ok || f.Offset != uintptr(offset) || f.Type.Size() != uintptr(size) {
			t.Errorf("%s.%s: got %d bytes at %d in Go, want %d at %d as in C",
				c.Name, member.Name, f.Type.Size(), f.Offset, size, offset)
		}
	}

	if end != c.Size {
		t.Errorf("%s: got padding at the end, want none", c.Name)
	}
}

// TestHeadersCompileAlone: each header includes everything that it uses.
func TestHeadersCompileAlone(t *testing.T) {
	testenv.Slow(t, "this test runs the compiler for each header")

	clang := testenv.Program(t, "clang-19")

	headers, err := filepath.Glob("*.h")
	if err != nil || len(headers) == 0 {
		t.Fatalf("got %d headers, %v; want some", len(headers), err)
	}

	// asm/types.h is in a directory of its own on Debian.
	multiarch, _ := exec.Command("gcc", "-print-multiarch").Output()
	include := filepath.Join("/usr/include", strings.TrimSpace(string(multiarch)))

	for _, header := range headers {
		out, err := exec.Command(clang, "-fsyntax-only", "-target", "bpf", "-D__TARGET_ARCH_x86", "-O2", "-Wall", "-Wextra",
			"-Wno-unused", "-Wno-unused-parameter", "-Werror", "-I"+include, "-x", "c", header).CombinedOutput()
		if err != nil {
			t.Errorf("%s: got %v, want it to compile alone\n%s", header, err, out)
		}
	}
}
