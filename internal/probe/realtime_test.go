// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// The lock of a ring buffer, as the types of four kernels describe it.
func TestRingsThatSleep(t *testing.T) {
	number := &btf.Int{Name: "unsigned int", Size: 4}
	lock := func(name string, inner string) btf.Type {
		return &btf.Struct{Name: name, Size: 4, Members: []btf.Member{
			{Name: "lock", Type: &btf.Struct{Name: inner, Size: 4, Members: []btf.Member{{Name: "value", Type: number}}}},
		}}
	}

	for _, test := range []struct {
		name string
		lock btf.Type
		want bool
	}{
		{"spinlock_t", &btf.Typedef{Name: "spinlock_t", Type: lock("spinlock", "raw_spinlock")}, false},
		{"spinlock_t with PREEMPT_RT", &btf.Typedef{Name: "spinlock_t", Type: lock("spinlock", "rt_mutex_base")}, true},
		{"spinlock_t with PREEMPT_RT, 5.10", &btf.Typedef{Name: "spinlock_t", Type: lock("spinlock", "rt_mutex")}, true},
		{"raw_spinlock_t", &btf.Typedef{Name: "raw_spinlock_t", Type: lock("raw_spinlock", "qspinlock")}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			ring := &btf.Struct{Name: "bpf_ringbuf", Size: 4, Members: []btf.Member{{Name: "spinlock", Type: test.lock}}}

			if got := sleepingRings(specOf(t, ring)); got != test.want {
				t.Errorf("got sleeping rings %v, want %v", got, test.want)
			}
		})
	}

	if sleepingRings(specOf(t, number)) {
		t.Error("got sleeping rings of a kernel whose ring is unknown, want none")
	}
}

func specOf(t *testing.T, types ...btf.Type) *btf.Spec {
	t.Helper()

	builder, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}

	raw, err := builder.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}

	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}

	return spec
}
