/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Signals that are not the OOM killer's: who sent a SIGKILL, the limits above its
 * target, and the SIGTERM before it. A part of oomtrace.bpf.c, whose rings it fills.
 */
#ifndef OOMTRACE_USERS_H
#define OOMTRACE_USERS_H

/* The last SIGTERM to a process of a cgroup, until it is forgotten. */
struct term {
	__u64 boot_ns;
	struct wire_ancestor sender;
	__u32 ignored;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct wire_cgroup_key);
	__type(value, struct term);
} terms SEC(".maps");

/* When a cgroup's ladder was last sent. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct wire_cgroup_key);
	__type(value, __u64);
} ladders SEC(".maps");

static __always_inline void cgroup_key(struct wire_cgroup_key *key, struct task_struct *task)
{
	struct cgroup *cgroup = task_cgroup(task);

	key->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
	key->hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
	key->pad = 0;
}

/* The limits above a target, at most once a second for each cgroup. */
static __always_inline void send_ladder(struct task_struct *target, struct wire_cgroup_key *key)
{
	__u64 now = bpf_ktime_get_boot_ns(), *sent = bpf_map_lookup_elem(&ladders, key);
	struct mem_cgroup *memcg;
	struct wire_ladder *r;

	if (sent && now - *sent < 1000000000ull)
		return;
	r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);
	if (!r) {
		count_lost(WIRE_LADDER);
		return;
	}
	if (bpf_map_update_elem(&ladders, key, &now, BPF_ANY))
		count_lost(WIRE_STATE);
	fill_header(&r->h, WIRE_LADDER, 0);
	r->cgroup_id = key->cgroup_id;
	r->hierarchy = key->hierarchy;
	r->level_count = 0;
	r->pad = 0;
	memcg = css_memcg(task_memory_css(target));
	for (int i = 0; i < WIRE_LEVELS; i++) {
		if (!memcg)
			break;
		fill_level(&r->levels[i], memcg);
		r->level_count = i + 1;
		memcg = memcg_parent(memcg);
	}
	r->cut = memcg != 0;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP); /* the SIGKILL follows at once, and wakes */
}

/* Who sent it: its parents too, since a command may be gone before anybody looks. */
static __always_inline void fill_sender(struct wire_user_kill *r, void *info, struct task_struct *target, __u32 flags)
{
	struct task_struct *task = BPF_CORE_READ(current_task(), group_leader);

	r->flags = flags | (info == SEND_SIG_NOINFO ? WIRE_SENDER_NO_INFO : 0) |
		   (BPF_CORE_READ(target, signal, live.counter) > 0 ? 0 : WIRE_SENDER_TARGET_GONE);
	r->uid = (__u32)bpf_get_current_uid_gid();
	if (task_login(current_task(), &r->login_uid, &r->session_id))
		r->flags |= WIRE_SENDER_LOGIN;
	__builtin_memset(r->exe, 0, sizeof(r->exe));
	bpf_probe_read_kernel_str(r->exe, sizeof(r->exe), BPF_CORE_READ(task, mm, exe_file, f_path.dentry, d_name.name));
	r->ancestor_count = 0;
	__builtin_memset(r->ancestors, 0, sizeof(r->ancestors));
	for (int i = 0; i < WIRE_ANCESTORS; i++) {
		task = BPF_CORE_READ(task, real_parent, group_leader);
		r->ancestors[i].tgid = BPF_CORE_READ(task, tgid);
		if (!r->ancestors[i].tgid)
			return;
		BPF_CORE_READ_INTO(&r->ancestors[i].comm, task, comm);
		r->ancestor_count = i + 1;
		if (r->ancestors[i].tgid == 1)
			return;
	}
	r->flags |= WIRE_SENDER_MORE;
}

/*
 * A SIGKILL that is not the OOM killer's. However many there are, they leave
 * half of the ring to those.
 */
static __always_inline void on_user_kill(void *info, struct task_struct *target, bool group, int result, __u32 flags)
{
	struct wire_cgroup_key key;
	struct wire_user_kill *r;
	struct term *term;

	if (bpf_ringbuf_query(&urgent, BPF_RB_AVAIL_DATA) > URGENT_BYTES / 2) {
		count_lost(WIRE_USER_KILL);
		return;
	}
	cgroup_key(&key, target);
	send_ladder(target, &key);
	r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);
	if (!r) {
		count_lost(WIRE_USER_KILL);
		return;
	}
	fill_kill(&r->kill, WIRE_USER_KILL, 0, info, target, group, result);
	fill_sender(r, info, target, flags);
	term = bpf_map_lookup_elem(&terms, &key);
	if (term) {
		r->flags |= WIRE_SENDER_TERM | (term->ignored ? WIRE_SENDER_TERM_IGNORED : 0);
		r->term_ns = term->boot_ns;
		r->term_sender = term->sender;
	} else {
		r->term_ns = 0;
		__builtin_memset(&r->term_sender, 0, sizeof(r->term_sender));
	}
	bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
}

/*
 * A SIGTERM is only remembered: it says something if a SIGKILL follows. One that
 * a process passes on within its own cgroup does not hide who asked first.
 */
static __always_inline void on_sigterm(struct task_struct *target, int result)
{
	struct wire_cgroup_key key, own;
	struct term term = { .boot_ns = bpf_ktime_get_boot_ns(), .ignored = result == TRACE_SIGNAL_IGNORED };

	cgroup_key(&key, target);
	cgroup_key(&own, current_task());
	term.sender.tgid = bpf_get_current_pid_tgid() >> 32;
	BPF_CORE_READ_INTO(&term.sender.comm, current_task(), group_leader, comm);
	bpf_map_update_elem(&terms, &key, &term, own.cgroup_id == key.cgroup_id ? BPF_NOEXIST : BPF_ANY);
}

#endif
