// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"testing"
)

func sector(fill byte) []byte { return bytes.Repeat([]byte{fill}, SectorBytes) }

func TestCutKeepsWhatWasFlushed(t *testing.T) {
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
			t.Errorf("before the cut: got %x, want the sectors that were written", all[:1])
		}

		if n := d.Cut(keep); n != 2 {
			t.Errorf("got %d sectors that were not flushed, want 2", n)
		}

		if d.operation(func() { t.Error("an operation ran on a disk that is off") }) {
			t.Error("after a cut: got a disk that is on, want off")
		}

		d.On()

		want := [][]byte{sector(1), sector(1), sector(3), sector(0)}
		if keep == 1 {
			want = [][]byte{sector(1), sector(2), sector(3), sector(4)}
		}

		d.operation(func() { d.read(all, 0) })

		if !bytes.Equal(all, bytes.Join(want, nil)) {
			got := []byte{all[0], all[SectorBytes], all[2*SectorBytes], all[3*SectorBytes]}
			t.Errorf("keep %v: got sectors %d, want %d", keep, got, []byte{want[0][0], want[1][0], want[2][0], want[3][0]})
		}
	}
}

func TestCutTearsNoPhysicalSector(t *testing.T) {
	kept := 0

	for range 64 {
		d, err := New(make([]byte, 2*physicalSectors*SectorBytes))
		if err != nil {
			t.Fatal(err)
		}

		d.operation(func() { d.write(bytes.Repeat([]byte{1}, 2*SectorBytes), 2*SectorBytes, false) })
		d.Cut(0.5)

		first, second := d.medium[2*SectorBytes], d.medium[3*SectorBytes]
		if first != second {
			t.Fatalf("got sectors %d and %d of one physical sector, want both or none", first, second)
		}
		kept += int(first)
	}

	if kept == 0 || kept == 64 {
		t.Errorf("got the sectors on the medium %d of 64 times, want sometimes", kept)
	}
}
