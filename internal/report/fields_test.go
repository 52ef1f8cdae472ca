// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/testenv"
)

// fields are the labels of the page that a word of explanation helps with, and the keys of the schema
// that have it.
var fields = map[string]string{
	"used": "Limiter.usage_bytes", "limit file": "Limiter.which", "swap used": "Limiter.swap_usage_bytes",
	"memory+swap used": "Limiter.memsw_usage_bytes", "NUMA nodes": "Limiter.nodes", "OOM killer": "Limiter.oom_kill_disable",
	"protected by memory.min": "Limiter.protected_min_bytes", "protected by memory.low": "Limiter.protected_low_bytes",
	"QoS": "Workload.qos", "restarts": "Workload.restart_count", "image": "Workload.image",
	"allocation": "Allocation.order", "for": "Allocation.class", "flags": "Allocation.gfp_flags", "usable in total": "Allocation.total_pages",
	"anonymous": "Victim.anon_rss_bytes", "shmem": "Victim.shmem_rss_bytes", "page tables": "Victim.pgtables_bytes",
	"address space": "Victim.total_vm_bytes", "badness": "Victim.points", "chosen by": "Victim.chosen_by", "program": "Victim.program",
	"settings": "Program.settings", "container init": "Victim.is_container_init", "exited after": "Victim.exit_after_ns",
	"memory reaped after": "Victim.reaped_after_ns", "memory freed after": "Victim.released_after_ns", "group kill": "Killer.group_cgroup",
	"SIGTERM": "Killer.term_before_ns", "executable": "Killer.exe", "parents": "Killer.ancestry", "resource": "Killer.resource",
	"Role": "Victim.role", "Badness": "Candidate.points", "Page tables": "Candidate.pgtables_bytes", "Exited after": "Victim.exit_after_ns",
	"Freed after": "Victim.released_after_ns", "No progress": "StallSum.fruitless_count", "Longest": "StallSum.max_ns",
	"Total": "StallSum.total_ns", "Ended before": "LongStall.before_ns", "Own limit": "Share.max_bytes",
	"available": "NodeState.available_bytes", "file": "NodeState.file_bytes", "vmalloc": "NodeState.vmalloc_bytes",
	"zsmalloc": "NodeState.zspages_bytes", "sockets": "NodeState.network_bytes", "balloon": "NodeState.balloon_bytes",
	"in no counter": "NodeLedger.unaccounted_bytes", "PSI some": "NodeState.psi_some", "PSI full": "NodeState.psi_full",
	"Managed": "Zone.managed_bytes", "min": "Zone.min_bytes", "memory.available": "Eviction.available_bytes",
	"audit": "incident.audit", "OOM invocations": "incident.passes", "source": "incident.tier", "completed": "incident.completed_from",
	"not known": "incident.unknown", "dirty": "Memory.file_dirty_bytes", "unevictable": "Memory.unevictable_bytes",
	"anonymous huge pages": "Memory.anon_thp_bytes",
}

// TestFields: what the page explains of a field is the description of the schema; -update takes it
// from there.
func TestFields(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "events.schema.json"))
	if err != nil {
		t.Fatal(err)
	}

	var schema struct {
		Defs map[string]struct {
			Properties map[string]struct{ Description string }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}

	all := map[string]string{}

	for label, key := range fields {
		typ, name, _ := strings.Cut(key, ".")

		_, rest, ok := strings.Cut(schema.Defs[typ].Properties[name].Description, " ") // without the key
		if !ok {
			t.Errorf("%q: got no description of %s in the schema", label, key)
			continue
		}

		rest = strings.TrimPrefix(strings.TrimPrefix(rest, "is "), "are ")
		all[label] = strings.ToUpper(rest[:1]) + rest[1:]
	}

	var out bytes.Buffer

	enc := json.NewEncoder(&out)
	enc.SetIndent("", " ")

	if err := enc.Encode(all); err != nil {
		t.Fatal(err)
	}

	testenv.Golden(t, filepath.Join("..", "web", "fields.json"), out.Bytes(), *update)
}
