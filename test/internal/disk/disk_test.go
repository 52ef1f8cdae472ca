// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"testing"
)

func sector(fill byte) []byte { return bytes.Repeat([]byte{fill}, SectorBytes) }

// TestCut: what was flushed, or written through, is there after a cut; of the rest,
// what chance has kept.
func TestCut(t *testing.T) {
	for _, keep := range []float64{0, 1} {
		d, err := New(make([]byte, 4*SectorBytes))
		if err != nil {
			t.Fatal(err)
		}

		d.operation(func() {
			d.write(append(sector(1), sector(1)...), 0, false)
			d.flush()
			d.write(sector(2), 1*SectorBytes, false)
			d.write(sector(2), 2*SectorBytes, false)
			d.write(sector(3), 2*SectorBytes, true)
			d.write(sector(4), 3*SectorBytes, false)
		})
		all := make([]byte, d.Bytes())
		d.operation(func() { d.read(all, 0) })

		if want := bytes.Join([][]byte{sector(1), sector(2), sector(3), sector(4)}, nil); !bytes.Equal(all, want) {
			t.Errorf("what was written does not read back")
		}

		if n := d.Cut(keep); n != 2 {
			t.Errorf("%d sectors were not flushed, not 2", n)
		}

		if d.operation(func() { t.Error("a disk that is off does something") }) {
			t.Error("it is on")
		}

		d.On()

		want := [][]byte{sector(1), sector(1), sector(3), sector(0)}
		if keep == 1 {
			want = [][]byte{sector(1), sector(2), sector(3), sector(4)}
		}

		d.operation(func() { d.read(all, 0) })

		if !bytes.Equal(all, bytes.Join(want, nil)) {
			t.Errorf("keep %v: %x", keep, []byte{all[0], all[SectorBytes], all[2*SectorBytes], all[3*SectorBytes]})
		}
	}
}
