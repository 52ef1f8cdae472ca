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

// Symbols maps addresses to kernel functions, and names of some data to addresses. It
// is safe for concurrent use.
type Symbols struct {
	data      map[string]uint64
	addresses []uint64
	offsets   []uint32 // of the names
	names     []byte
	first     uint64 // function of the kernel image
	last      uint64
}

// LoadKallsyms reads the functions of /proc/kallsyms, and the data symbols that are
// given by name. It fails where the kernel hides addresses (kptr_restrict, or no
// CAP_SYSLOG).
func LoadKallsyms(data ...string) (*Symbols, error) {
	file, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, fmt.Errorf("read the kernel symbols: %w", err)
	}
	defer file.Close()

	s, err := parseKallsyms(file, data)
	if err != nil {
		return nil, fmt.Errorf("read the kernel symbols: %w", err)
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
		// By name: 6.18 lists mem_cgroup_stats_index as code.
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

		name, _, module := bytes.Cut(rest[2:], []byte{'\t'})
		if !module {
			if s.first == 0 {
				s.first = address
			}

			s.first, s.last = min(s.first, address), max(s.last, address)
		}
		// GCC appends to the names of copies: f.constprop.0, f.isra.0, f.cold.
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

// sort orders the table by address: modules may precede each other in any order.
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

// Address returns the address of data that LoadKallsyms read. It is not ok for any
// other name, and for nil symbols.
func (s *Symbols) Address(name string) (address uint64, ok bool) {
	if s == nil {
		return 0, false
	}
	address, ok = s.data[name]

	return address, ok
}

// InKernel reports whether an address lies within the kernel image. The functions of
// modules and BPF programs lie outside of it; of those, Lookup knows only what was there
// when the symbols were read. It is false for nil symbols.
func (s *Symbols) InKernel(address uint64) bool {
	return s != nil && s.first <= address && address <= s.last
}

// Lookup returns the function that contains an address, and the offset in it.
func (s *Symbols) Lookup(address uint64) (name string, offset uint64, ok bool) {
	i := sort.Search(len(s.addresses), func(i int) bool { return s.addresses[i] > address }) - 1
	if i < 0 {
		return "", 0, false
	}
	start := s.offsets[i]

	end := start
	for s.names[end] != 0 {
		end++
	}

	return string(s.names[start:end]), address - s.addresses[i], true
}
