/* bpf/common.bpf.h - what both probes share: knobs, registered processes, counters.
 * SPDX: GPL-2.0 OR BSD-2-Clause. Includes kernel_types.h, events.h, libbpf's BPF-side headers.
 *
 * Knobs are `const volatile`, so they lie in .rodata, are set before the load and the verifier
 * removes the branches that they rule out. */
#ifndef BLIX_BPF_COMMON_BPF_H
#define BLIX_BPF_COMMON_BPF_H

#include "bpf/kernel_types.h"

#include "bpf/events.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* A wait this long is slow and is reported one by one; UINT64_MAX: none is. */
const volatile uint64_t slow_ns = ~0ull;
/* The agent's pid namespace where it is not the first one: there gettid() is not what
 * bpf_get_current_pid_tgid() says. 0, 0 = the first one. */
const volatile uint64_t pidns_dev = 0;
const volatile uint64_t pidns_ino = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STORAGE_PROCS_MAX);
	__type(key, uint32_t); /* tgid */
	__type(value, struct storage_proc);
} procs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STORAGE_COUNTS);
	__type(key, uint32_t);
	__type(value, uint64_t);
} counts SEC(".maps");

static __always_inline void count(uint32_t which)
{
	uint64_t *n = bpf_map_lookup_elem(&counts, &which);

	if (n)
		(*n)++;
}

/* A cell the verifier believes to be inside of the grid: blix_bpf_cell() never says another, but the
 * compiler knows that too and would leave the check away. */
static __always_inline uint64_t checked_cell(uint64_t ns)
{
	uint64_t cell = blix_bpf_cell(ns);

	asm volatile("" : "+r"(cell));
	return cell < BLIX_BPF_CELLS ? cell : 0;
}

/* tgid << 32 | tid as the agent sees them; 0 for a task outside of its namespace. */
static __always_inline uint64_t current_pid_tgid(void)
{
	struct bpf_pidns_info info = {};

	if (!pidns_ino)
		return bpf_get_current_pid_tgid();
	if (bpf_get_ns_current_pid_tgid(pidns_dev, pidns_ino, &info, sizeof(info)))
		return 0;
	return (uint64_t)info.tgid << 32 | info.pid;
}

/* No wake-up for each event: one costs 15 us in a VM (an interrupt to another CPU). The agent looks
 * on its timer, and is woken early only when the ring is half full. */
static __always_inline uint64_t wakeup(void *ring, uint64_t ring_bytes)
{
	return bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) > ring_bytes / 2 ? BPF_RB_FORCE_WAKEUP
									   : BPF_RB_NO_WAKEUP;
}

#endif
