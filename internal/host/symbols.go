// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Symbols names kernel functions by address, and finds some data by name. It is safe
// for concurrent use.
type Symbols struct {
	data      map[string]uint64
	addresses []uint64
	offsets   []uint32 // of the names
	names     []byte
}

// LoadKallsyms reads the functions of /proc/kallsyms, and of its data the symbols
// that are named. It fails where the kernel hides addresses (kptr_restrict, or no
// CAP_SYSLOG).
func LoadKallsyms(data ...string) (*Symbols, error) {
	file, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, fmt.Errorf("reading the kernel's symbols: %w", err)
	}
	defer file.Close()

	s, err := parseKallsyms(file, data)
	if err != nil {
		return nil, fmt.Errorf("reading the kernel's symbols: %w", err)
	}

	return s, nil
}

var errHidden = errors.New("the kernel hides its addresses: as root, set sysctl kernel.kptr_restrict=1 or 0")

func parseKallsyms(r io.Reader, data []string) (*Symbols, error) {
	s := &Symbols{data: make(map[string]uint64)}
	sorted := true

	for lines := bufio.NewScanner(r); lines.Scan(); {
		// address type name [module]
		line := lines.Bytes()

		hex, rest, ok := bytes.Cut(line, []byte{' '})
		if !ok || len(rest) < 3 || rest[1] != ' ' {
			continue
		}
		// By its name: on 6.18 mem_cgroup_stats_index is listed as if it were code.
		wanted := slices.Contains(data, string(rest[2:]))
		if !wanted && !strings.ContainsRune("tTwW", rune(rest[0])) {
			continue
		}

		address, err := strconv.ParseUint(string(hex), 16, 64)
		if err != nil || address == 0 {
			continue
		}

		if wanted {
			s.data[string(rest[2:])] = address
			continue
		}
		name, _, _ := bytes.Cut(rest[2:], []byte{'\t'})
		// GCC names copies that it made: f.constprop.0, f.isra.0, f.cold.
		if i := bytes.IndexByte(name, '.'); i > 0 {
			name = name[:i]
		}

		if n := len(s.addresses); n > 0 && address < s.addresses[n-1] {
			sorted = false
		}
		s.addresses = append(s.addresses, address)
		s.offsets = append(s.offsets, uint32(len(s.names)))
		s.names = append(append(s.names, name...), 0)
	}

	if len(s.addresses) == 0 {
		return nil, errHidden
	}

	if !sorted {
		s.sort()
	}

	return s, nil
}

// sort orders the table by address; modules come after the kernel and between.
func (s *Symbols) sort() {
	order := make([]int, len(s.addresses))
	for i := range order {
		order[i] = i
	}

	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(s.addresses[a], s.addresses[b]) })

	addresses, offsets := make([]uint64, len(order)), make([]uint32, len(order))
	for i, from := range order {
		addresses[i], offsets[i] = s.addresses[from], s.offsets[from]
	}
	s.addresses, s.offsets = addresses, offsets
}

// Address finds data that LoadKallsyms was asked for; in nil symbols it finds none.
func (s *Symbols) Address(name string) (address uint64, ok bool) {
	if s == nil {
		return 0, false
	}
	address, ok = s.data[name]

	return address, ok
}

// Lookup names the function that address is in, and how far.
func (s *Symbols) Lookup(address uint64) (name string, offset uint64, ok bool) {
	i := sort.Search(len(s.addresses), func(i int) bool { return s.addresses[i] > address }) - 1
	if i < 0 {
		return "", 0, false
	}
	begin := s.offsets[i]

	end := begin
	for s.names[end] != 0 {
		end++
	}

	return string(s.names[begin:end]), address - s.addresses[i], true
}
