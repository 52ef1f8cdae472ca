// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/oomtrace/oomtrace/internal/testenv"
)

func TestBPFProgramsAreFoundByAddress(t *testing.T) {
	testenv.Root(t)

	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "lab_found", Type: ebpf.SocketFilter, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()

	info, err := program.Info()
	if err != nil {
		t.Fatal(err)
	}

	id, _ := info.ID()

	addresses, ok := info.JitedKsymAddrs()
	if !ok || len(addresses) != 1 {
		t.Fatalf("got addresses %x, want one", addresses)
	}

	lengths, _ := info.JitedFuncLens()
	start, end := uint64(addresses[0]), uint64(addresses[0])+uint64(lengths[0])

	for _, address := range []uint64{start, end - 1} {
		found, err := ProgramAt(address)
		if err != nil || found == nil || found.ID != uint32(id) || found.Name != "lab_found" {
			t.Errorf("got %+v, %v at %x, want program %d lab_found", found, err, address-start, id)
		}
	}

	for _, address := range []uint64{0, 1, start - 1, end} {
		if found, err := ProgramAt(address); err != nil || found != nil && found.ID == uint32(id) {
			t.Errorf("got %+v, %v at %x, want another program or none", found, err, address-start)
		}
	}
}
