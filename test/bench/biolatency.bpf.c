// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* test/bench/biolatency.bpf.c - the peer of the block probe: device latency as most tools count it.
 *
 * Issue time in a hash by request, at completion the power of two of the microseconds in one array.
 * No devices, operations, origins, flushes, queue time, bytes or errors. Arguments as since 5.11. */
#include "bpf/kernel_types.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, struct request *);
	__type(value, __u64);
} start SEC(".maps");

__u64 slots[27] = {};

SEC("tp_btf/block_rq_issue")
int BPF_PROG(issue, struct request *rq)
{
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&start, &rq, &now, BPF_ANY);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(complete, struct request *rq, int error, unsigned int bytes)
{
	__u64 *begin = bpf_map_lookup_elem(&start, &rq), us;
	__u32 slot = 0;

	if (!begin)
		return 0;
	us = (bpf_ktime_get_ns() - *begin) / 1000;
	for (__u32 half = 16; half > 0; half /= 2) {
		if (us >> half) {
			us >>= half;
			slot += half;
		}
	}
	if (slot > 26)
		slot = 26;
	__sync_fetch_and_add(&slots[slot], 1);
	bpf_map_delete_elem(&start, &rq);
	return 0;
}
