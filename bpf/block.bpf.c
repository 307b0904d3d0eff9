// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* bpf/block.bpf.c - how long block devices take, by device, operation and who caused it.
 *
 *   block_io_start     a request exists; runs in the thread that caused it       -> who, when
 *   block_rq_issue     handed to the driver; may run in anybody's context        -> when
 *   block_rq_complete  the device is done; interrupt context                     -> count
 *
 * Device time is from the last issue to the completion (a requeued request is issued again and only
 * its last turn counts); queue time is from start to that issue. What waits before a request exists,
 * such as a throttled bio, is in neither: only the sync probe feels it.
 *
 * ---- The flush machinery (block/blk-flush.c), and why the rules below are as they are ----
 *
 *  write, then fdatasync, on a device with a volatile cache:
 *   - an empty WRITE|PREFLUSH request: started in the caller, never issued, completed with 0 bytes.
 *     A program that takes "now - issue" reports the machine's uptime for it. It is the caller's
 *     wait for the flush: op flush_wait, counted from its start.
 *   - a separate REQ_OP_FLUSH request, which serves several callers at once: issued and completed,
 *     never started, in a kernel thread or an interrupt. What the device needed: op flush.
 *   - an O_DSYNC write to a device without FUA completes twice: with its bytes, then, after the
 *     flush, with 0. The first completion removes the entry, so the second one finds none and is
 *     known by its 0 bytes: it is neither counted twice nor called unmatched.
 *
 * ---- What else is trapped ----
 *  - A merged request never completes under its own pointer. Requests are preallocated and reused,
 *    so its stale entry is overwritten by the next start (BPF_ANY): bounded, nothing to sweep.
 *  - Completions of requests that were under way when the probe attached have no entry: counted as
 *    unmatched, never guessed.
 *  - The completion's status is a blk_status_t or an errno, by age of the kernel: only "not 0" is
 *    the same in both.
 *  - Counters are plain adds to this CPU's copy. The kernel does not run a program of this kind
 *    again on a CPU that is inside it, so an interrupt cannot interleave with it; what it then
 *    skips shows in the coverage.
 *
 * Includes common.bpf.h, shm/buckets.h. */
#include "bpf/common.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Does block_rq_issue have the queue in front of the request? Its signature changed in 5.11 and was
 * changed in stable kernels too, so the agent reads it from BTF. */
const volatile bool issue_has_queue = false;
/* Is there a block_io_start (6.5 and backports)? Without, the issuing thread has to do for "who". */
const volatile bool has_io_start = true;
/* Does the kernel hand out the current task as a typed pointer (5.11)? */
const volatile bool has_task_btf = true;
/* Level in the cgroup tree of the units in `cgroups`; 0 = none is registered. */
uint32_t cgroup_level = 0;
/* Set once the agent has named the devices there are: until then the unnamed ones are not measured,
 * so that none is counted under two names. */
uint32_t others_shown = 0;

struct start {
	uint64_t start_ns; /* 0: not seen */
	uint64_t issue_ns;
	uint32_t dev; /* as key: 0 if the device has no name of its own */
	uint32_t owner;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STORAGE_STARTS_MAX);
	__type(key, uint64_t); /* address of the request */
	__type(value, struct start);
} starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * STORAGE_DEVICES_MAX);
	__type(key, uint32_t);
	__type(value, uint32_t); /* 1: show by name; 0: do not measure */
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STORAGE_NODES_MAX);
	__type(key, uint64_t);	 /* id of the cgroup of a node's unit */
	__type(value, uint32_t); /* slot of the node */
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, STORAGE_SERIES_MAX);
	__type(key, struct storage_block_key);
	__type(value, struct storage_block_cells);
} series SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, STORAGE_BLOCK_RING_BYTES);
} slow SEC(".maps");

static const struct storage_block_cells no_cells;

/* ---- which device --------------------------------------------------------------------------- */

enum { MAJOR_RAM = 1, MAJOR_LOOP = 7 };

/* False: not to be measured. Loop and RAM disks are not, unless they are registered: what a loop
 * device does is seen again on the disk below it. Programs on BTF tracepoints may follow typed
 * pointers directly; a NULL on the way reads as 0. */
static __always_inline bool find_device(struct request *rq, uint32_t *ret_dev)
{
	struct request___old *old = (void *)rq;
	const struct gendisk *disk;
	const uint32_t *named;
	uint32_t major, dev;

	if (bpf_core_field_exists(old->rq_disk))
		disk = old->rq_disk;
	else
		disk = rq->q->disk;
	if (!disk)
		return false;
	major = (uint32_t)disk->major;
	dev = storage_dev(major, (uint32_t)disk->first_minor);
	named = bpf_map_lookup_elem(&devices, &dev);
	if (named) {
		*ret_dev = dev;
		return *named;
	}
	*ret_dev = 0;
	return others_shown && major != MAJOR_LOOP && major != MAJOR_RAM;
}

/* ---- who ------------------------------------------------------------------------------------ */

/* A VM of a node is a child of it, or of a helper between them, or lives in the node's unit. */
static __always_inline uint32_t owner_by_descent(const struct task_struct *task)
{
	const struct task_struct *parent = task;

	/* Unrolled, so that a typed pointer may be followed: one load where a helper would be a call. */
#pragma unroll
	for (int i = 0; i < 3; i++) {
		const struct storage_proc *proc;
		uint32_t tgid;

		if (has_task_btf) {
			parent = parent->real_parent;
			tgid = (uint32_t)parent->tgid;
		} else {
			parent = BPF_CORE_READ(parent, real_parent);
			tgid = (uint32_t)BPF_CORE_READ(parent, tgid);
		}
		if (tgid <= 1)
			break;
		proc = bpf_map_lookup_elem(&procs, &tgid);
		if (proc)
			return STORAGE_OWNER_VM + proc->slot;
	}
	return STORAGE_OWNER_OTHER;
}

static __always_inline uint32_t owner_by_cgroup(void)
{
	uint32_t level = cgroup_level;
	const uint32_t *slot;
	uint64_t id;

	if (!level)
		return STORAGE_OWNER_OTHER;
	id = bpf_get_current_ancestor_cgroup_id((int)level);
	slot = bpf_map_lookup_elem(&cgroups, &id);
	return slot ? STORAGE_OWNER_VM + *slot : STORAGE_OWNER_OTHER;
}

static __always_inline uint32_t current_owner(void)
{
	const struct task_struct *task =
		has_task_btf ? bpf_get_current_task_btf() : (void *)bpf_get_current_task();
	uint32_t tgid = (uint32_t)(current_pid_tgid() >> 32), flags, owner;
	const struct storage_proc *proc = bpf_map_lookup_elem(&procs, &tgid);

	if (proc)
		return STORAGE_OWNER_NODE + proc->slot;
	flags = has_task_btf ? task->flags : BPF_CORE_READ(task, flags);
	if (flags & PF_KTHREAD)
		return STORAGE_OWNER_KERNEL;
	/* Parents have the numbers of the first namespace: of no use to an agent in another. */
	owner = pidns_ino ? STORAGE_OWNER_OTHER : owner_by_descent(task);
	return owner != STORAGE_OWNER_OTHER ? owner : owner_by_cgroup();
}

/* ---- the three hooks ------------------------------------------------------------------------ */

static __always_inline void remember(uint64_t key, const struct start *start)
{
	if (bpf_map_update_elem(&starts, &key, start, BPF_ANY))
		count(STORAGE_COUNT_MAP_FULL);
}

SEC("tp_btf/block_io_start")
int BPF_PROG(io_start, struct request *rq)
{
	struct start start = {};

	if (!find_device(rq, &start.dev))
		return 0;
	start.start_ns = bpf_ktime_get_ns();
	start.owner = current_owner();
	remember((uint64_t)rq, &start);
	return 0;
}

static __always_inline int issued(struct request *rq)
{
	uint64_t key = (uint64_t)rq;
	struct start *seen = bpf_map_lookup_elem(&starts, &key);
	struct start start = {};

	if (seen && has_io_start) {
		seen->issue_ns = bpf_ktime_get_ns();
		return 0;
	}
	if (!find_device(rq, &start.dev))
		return 0;
	start.issue_ns = bpf_ktime_get_ns();
	if ((rq->cmd_flags & REQ_OP_MASK) == REQ_OP_FLUSH) {
		start.owner = STORAGE_OWNER_KERNEL;
	} else {
		start.owner = has_io_start ? STORAGE_OWNER_UNKNOWN : current_owner();
		if (start.owner == STORAGE_OWNER_KERNEL)
			start.owner = STORAGE_OWNER_UNKNOWN; /* a worker issues for anybody */
	}
	remember(key, &start);
	return 0;
}

SEC("tp_btf/block_rq_issue")
int rq_issue(uint64_t *ctx)
{
	if (issue_has_queue)
		return issued((struct request *)ctx[1]);
	return issued((struct request *)ctx[0]);
}

static __always_inline uint32_t op_of(uint32_t cmd_flags)
{
	switch (cmd_flags & REQ_OP_MASK) {
	case REQ_OP_READ:
		return STORAGE_OP_READ;
	case REQ_OP_WRITE:
		return STORAGE_OP_WRITE;
	case REQ_OP_FLUSH:
		return STORAGE_OP_FLUSH;
	case REQ_OP_DISCARD:
		return STORAGE_OP_DISCARD;
	default:
		return STORAGE_OP_OTHER;
	}
}

static __always_inline struct storage_block_cells *cells_of(const struct storage_block_key *key)
{
	struct storage_block_cells *cells = bpf_map_lookup_elem(&series, key);

	if (cells)
		return cells;
	/* NOEXIST: of two CPUs that are first, the second must not wipe what the first counted. */
	bpf_map_update_elem(&series, key, &no_cells, BPF_NOEXIST);
	return bpf_map_lookup_elem(&series, key);
}

static __always_inline void report(const struct storage_block_key *key, uint64_t begin_ns,
				   uint64_t now_ns, bool failed)
{
	struct storage_event *event;

	count(STORAGE_COUNT_SLOW);
	event = bpf_ringbuf_reserve(&slow, sizeof(*event), 0);
	if (!event) {
		count(STORAGE_COUNT_SLOW_LOST);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->start_ns = begin_ns;
	event->end_ns = now_ns;
	event->dev = key->dev;
	event->result = failed;
	event->layer = STORAGE_LAYER_BLOCK;
	event->what = (uint8_t)key->op;
	event->owner = (uint8_t)key->owner;
	bpf_ringbuf_submit(event, wakeup(&slow, STORAGE_BLOCK_RING_BYTES));
}

static __always_inline void add(const struct start *start, uint32_t op, uint64_t now_ns,
				uint32_t bytes, bool failed)
{
	const struct storage_block_key key = {
		.dev = start->dev, .op = (uint8_t)op, .owner = (uint8_t)start->owner};
	uint64_t begin_ns = op == STORAGE_OP_FLUSH_WAIT ? start->start_ns : start->issue_ns;
	uint64_t ns = now_ns > begin_ns ? now_ns - begin_ns : 0;
	struct storage_block_cells *cells = cells_of(&key);

	if (!cells) {
		count(STORAGE_COUNT_MAP_FULL);
		return;
	}
	cells->cells[checked_cell(ns)]++;
	cells->sum_ns += ns;
	cells->bytes += bytes;
	cells->errors += failed;
	if (start->start_ns && start->issue_ns > start->start_ns) {
		cells->queue_ns += start->issue_ns - start->start_ns;
		cells->queued++;
	}
	if (ns >= slow_ns)
		report(&key, begin_ns, now_ns, failed);
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(rq_complete, struct request *rq, int error, unsigned int bytes)
{
	uint64_t key = (uint64_t)rq, now_ns = bpf_ktime_get_ns();
	struct start *seen = bpf_map_lookup_elem(&starts, &key), start;
	uint32_t op = op_of(rq->cmd_flags), dev;

	if (!seen) {
		/* The second completion of an O_DSYNC write is no loss; the others are. */
		if (!(op == STORAGE_OP_WRITE && bytes == 0) && find_device(rq, &dev))
			count(STORAGE_COUNT_UNMATCHED);
		return 0;
	}
	start = *seen;
	bpf_map_delete_elem(&starts, &key);
	if (op == STORAGE_OP_WRITE && bytes == 0 && !start.issue_ns)
		op = STORAGE_OP_FLUSH_WAIT;
	else if (!start.issue_ns) {
		count(STORAGE_COUNT_UNMATCHED);
		return 0;
	}
	add(&start, op, now_ns, bytes, error != 0);
	return 0;
}
