// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the kernel side: its C source, the objects made of it, and
// Go types of its records. `make generate` makes the objects again; they are
// committed, so that building oomtrace needs nothing but Go.
package bpf

// BPF2GO_CC and the directory of asm/types.h come from the Makefile.
//go:generate go tool bpf2go -tags linux -no-global-types -target amd64,arm64 -type wire_header -type wire_task -type wire_counter -type wire_level -type wire_charge_level -type wire_decision -type wire_charge -type wire_kill -type wire_mark -type wire_pass -type wire_exit -type wire_cgroup -type wire_cgroup_long -type wire_fold_key -type wire_fold -type wire_user_kill -type wire_ancestor -type wire_ladder -type wire_kind -type wire_tier -type wire_reclaim -type wire_limiter -type wire_outcome -type wire_cgroup_op -type wire_charge_item -type wire_task_flag -type wire_level_flag -type wire_decision_flag -type wire_kill_flag -type wire_sender_flag Oomtrace oomtrace.bpf.c
//go:generate go tool bpf2go -tags linux -no-global-types -target amd64,arm64 -type wire_stall -type wire_header -type wire_task -type wire_stall_key -type wire_stalls -type wire_kswapd -type wire_gave_up -type wire_stall_kind Stalls stalls.bpf.c
