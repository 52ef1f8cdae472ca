// SPDX-License-Identifier: Apache-2.0

package program

import (
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// unit is a suffix of a size with what it stands for; an empty one is a size without any.
type unit struct {
	suffix string
	bytes  uint64
}

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	tib = 1 << 40
)

// The suffixes of sizes, as each program has them.
var (
	// jvmUnits are of src/hotspot/share/utilities/parseInteger.hpp.
	jvmUnits = []unit{{"k", kib}, {"K", kib}, {"m", mib}, {"M", mib}, {"g", gib}, {"G", gib}, {"t", tib}, {"T", tib}, {"", 1}}
	// goUnits are of runtime/string.go, parseByteCount.
	goUnits = []unit{{"KiB", kib}, {"MiB", mib}, {"GiB", gib}, {"TiB", tib}, {"B", 1}, {"", 1}}
	// phpUnits are of Zend/zend_ini.c.
	phpUnits = []unit{{"k", kib}, {"K", kib}, {"m", mib}, {"M", mib}, {"g", gib}, {"G", gib}, {"", 1}}
	// mysqlUnits are of mysys/my_getopt.cc.
	mysqlUnits = phpUnits
	// qemuUnits are those of -m, which is in MiB without one.
	qemuUnits = []unit{
		{"k", kib}, {"K", kib}, {"m", mib}, {"M", mib}, {"g", gib}, {"G", gib}, {"t", tib}, {"T", tib}, {"b", 1}, {"B", 1}, {"", mib},
	}
	cloudUnits = []unit{{"K", kib}, {"M", mib}, {"G", gib}, {"", 1}}
	mibUnits   = []unit{{"", mib}}
	// The units of PostgreSQL's parameters (src/backend/utils/misc/guc.c): without one,
	// shared_buffers counts blocks, and work_mem is in KiB.
	blockUnits    = slices.Concat(postgresUnits, []unit{{"", 8 * kib}})
	kilobyteUnits = slices.Concat(postgresUnits, []unit{{"", kib}})
	postgresUnits = []unit{{"kB", kib}, {"MB", mib}, {"GB", gib}, {"TB", tib}, {"B", 1}}
)

// maxDigits bounds the digits of a value, which may have any number of zeros in front. 64 bits need
// no more than 20.
const maxDigits = 32

// size parses a size that one of the units ends. It is not ok if anything else is in the
// text, or it has no room in 64 bits.
func size(text string, units []unit) (bytes uint64, ok bool) {
	if len(text) > maxDigits {
		return 0, false
	}

	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
			continue
		}

		n, err := strconv.ParseUint(digits, 10, 64)

		high, low := bits.Mul64(n, u.bytes)
		if err != nil || high != 0 {
			return 0, false
		}

		return low, true
	}

	return 0, false
}

// number reports whether a text is a number with at most one point.
func number(text string) bool {
	whole, part, point := strings.Cut(text, ".")
	digits := func(s string) bool { return s != "" && len(s) <= 20 && strings.Trim(s, "0123456789") == "" }

	return digits(whole) && (!point || digits(part))
}
