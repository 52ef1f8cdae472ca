// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//go:build ignore

/*
 * What the benchmark compares with: the least that measures reclaim by task and
 * counts it in a histogram; and the instant of each kill.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} began SEC(".maps");

struct histogram {
	__u64 count, total_ns, buckets[28];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct histogram);
} histograms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} killed SEC(".maps");

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int minimal_begin(void *ctx)
{
	__u64 *ns = bpf_task_storage_get(&began, (void *)bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (ns)
		*ns = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int minimal_end(void *ctx)
{
	__u64 *ns = bpf_task_storage_get(&began, (void *)bpf_get_current_task_btf(), 0, 0);
	__u64 key, took, bucket = 0;
	struct histogram *h;

	if (!ns || !*ns)
		return 0;
	took = bpf_ktime_get_ns() - *ns;
	*ns = 0;
	key = bpf_get_current_cgroup_id();
	h = bpf_map_lookup_elem(&histograms, &key);
	if (!h) {
		struct histogram fresh = {};

		bpf_map_update_elem(&histograms, &key, &fresh, BPF_NOEXIST);
		h = bpf_map_lookup_elem(&histograms, &key);
		if (!h)
			return 0;
	}
	h->count++;
	h->total_ns += took;
	for (took /= 1000; bucket < 27 && took > 1; bucket++)
		took >>= 1;
	if (bucket < 28)
		h->buckets[bucket]++;
	return 0;
}

SEC("raw_tp/mark_victim")
int minimal_mark(void *ctx)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 zero = 0;

	bpf_map_update_elem(&killed, &zero, &now, 0);
	return 0;
}
