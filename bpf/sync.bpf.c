// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* bpf/sync.bpf.c - how long registered nodes wait in fsync and fdatasync, and in which span.
 *
 * Three ways to see the same thing, of which the agent loads the first that works (`hook` label):
 *
 *   fentry      vfs_fsync_range: every file system, io_uring too. Needs a kernel that lets BPF
 *               programs onto functions. An O_DSYNC write and msync come through it as well, with
 *               a range; only calls for the whole file are counted.
 *   tracepoint  sys_enter_/sys_exit_{fsync,fdatasync}: every file system, but io_uring never makes
 *               the syscall. Needs a readable tracefs. Adds 11 ns to every syscall of the host.
 *   ext4        ext4_sync_file_{enter,exit}: ext4 alone, io_uring too. O_DSYNC writes come through
 *               it as well and count as fdatasync: the tracepoint does not tell the range.
 *
 * The filter comes first: a process that no node registered costs one hash lookup. The start time
 * lies in the task's own storage, freed with the task; on kernels without that in a hash by thread.
 *
 * A slow call is stamped: the thread's context (layout.h, struct blix_thread_context) is read from
 * the node's own mapping of its file, in the node's own address space, while its owner stands still
 * in the kernel, so it cannot be torn but by a signal handler, which `valid` shows. Addresses come
 * from the node and are nothing but its word: a fixed number of bytes is read, by a helper that
 * fails softly, and only when the record names this very thread.
 *
 * Includes common.bpf.h, shm/buckets.h. */
#include "bpf/common.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile bool has_task_storage = true;

struct start {
	uint64_t start_ns;  /* 0: in no call */
	uint64_t lane_addr; /* where this thread's lane was found last; 0 = not yet */
	uint32_t fd;	    /* tracepoint rung */
	uint32_t dev;	    /* the others */
	uint32_t call;
	uint32_t depth; /* fentry: calls of a stacked file system into the one below */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct start);
} task_starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STORAGE_STARTS_MAX);
	__type(key, uint32_t); /* tid */
	__type(value, struct start);
} tid_starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STORAGE_NODES_MAX *STORAGE_CALLS);
	__type(key, uint32_t);
	__type(value, struct storage_sync_cells);
} series SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, STORAGE_SYNC_RING_BYTES);
} slow SEC(".maps");

/* ---- where the beginning is kept ------------------------------------------------------------ */

static __always_inline struct start *start_of(uint32_t tid, bool create)
{
	struct start none = {}, *start;

	if (has_task_storage)
		return bpf_task_storage_get(&task_starts, bpf_get_current_task_btf(), 0,
					    create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	start = bpf_map_lookup_elem(&tid_starts, &tid);
	if (start || !create)
		return start;
	bpf_map_update_elem(&tid_starts, &tid, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&tid_starts, &tid);
}

/* ---- the span ------------------------------------------------------------------------------- */

struct context { /* the first half of struct blix_thread_context */
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t valid;
	uint8_t trace_flags;
	uint8_t attrs_len[2];
	uint32_t owner_tid;
};
enum { LANE_CONTEXT_OFF = 128 }; /* offsetof(struct blix_lane, context); probe.c asserts it */

/* The lane whose owner word names this thread; 0 = none. Looked for at a thread's first slow call
 * and remembered, so that a new thread is stamped at once and nothing has to be kept up to date. */
static __always_inline uint64_t find_lane(const struct storage_proc *proc, uint32_t tid)
{
	uint64_t addr = proc->lanes_addr + proc->lane_stride; /* lane 0 is shared: no context */

	if (!proc->lanes_addr)
		return 0;
	for (uint32_t i = 1; i < STORAGE_LANES_SCANNED; i++) {
		uint64_t owner = 0;

		if (i >= proc->n_lanes)
			break;
		if (bpf_probe_read_user(&owner, sizeof(owner), (const void *)addr))
			break;
		if (owner >> 32 == tid)
			return addr;
		addr += proc->lane_stride;
	}
	return 0;
}

static __always_inline bool read_context(struct start *start, uint32_t tid, struct context *c)
{
	if (!start->lane_addr ||
	    bpf_probe_read_user(c, sizeof(*c), (const void *)(start->lane_addr + LANE_CONTEXT_OFF)))
		return false;
	return c->owner_tid == tid;
}

static __always_inline void stamp(const struct storage_proc *proc, struct start *start,
				  uint32_t tid, struct storage_event *event)
{
	struct context c = {};

	if (!read_context(start, tid, &c)) {
		start->lane_addr = find_lane(proc, tid);
		if (!read_context(start, tid, &c))
			return;
	}
	if (c.valid != 1)
		return;
	event->valid = 1;
	event->trace_flags = c.trace_flags;
	__builtin_memcpy(event->trace_id, c.trace_id, sizeof(event->trace_id));
	__builtin_memcpy(event->span_id, c.span_id, sizeof(event->span_id));
}

/* Of a file descriptor of the current task, on the slow path only. */
static __always_inline uint32_t device_of_fd(uint32_t fd)
{
	const struct task_struct *task = (void *)bpf_get_current_task();
	const struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	struct file *file = NULL;

	if (fd >= BPF_CORE_READ(table, max_fds) ||
	    bpf_probe_read_kernel(&file, sizeof(file), files + fd) || !file)
		return 0;
	return BPF_CORE_READ(file, f_inode, i_sb, s_dev);
}

static __always_inline void report(const struct storage_proc *proc, struct start *start,
				   uint64_t pid_tgid, uint64_t now_ns, int result)
{
	struct storage_event *event;

	count(STORAGE_COUNT_SLOW);
	event = bpf_ringbuf_reserve(&slow, sizeof(*event), 0);
	if (!event) {
		count(STORAGE_COUNT_SLOW_LOST);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->start_ns = start->start_ns;
	event->end_ns = now_ns;
	event->tid = (uint32_t)pid_tgid;
	event->tgid = (uint32_t)(pid_tgid >> 32);
	event->dev = start->dev ? start->dev : device_of_fd(start->fd);
	event->result = result;
	event->layer = STORAGE_LAYER_SYNC;
	event->what = (uint8_t)start->call;
	event->owner = (uint8_t)proc->slot;
	stamp(proc, start, event->tid, event);
	bpf_ringbuf_submit(event, wakeup(&slow, STORAGE_SYNC_RING_BYTES));
}

/* ---- begin and end -------------------------------------------------------------------------- */

static __always_inline const struct storage_proc *registered(uint64_t pid_tgid)
{
	uint32_t tgid = (uint32_t)(pid_tgid >> 32);

	return bpf_map_lookup_elem(&procs, &tgid);
}

static __always_inline int begin(uint32_t call, uint32_t fd, uint32_t dev)
{
	uint64_t pid_tgid = current_pid_tgid();
	struct start *start;

	if (!registered(pid_tgid))
		return 0;
	start = start_of((uint32_t)pid_tgid, true);
	if (!start) {
		count(STORAGE_COUNT_MAP_FULL);
		return 0;
	}
	start->call = call;
	start->fd = fd;
	start->dev = dev;
	start->start_ns = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int end(int result)
{
	uint64_t now_ns = bpf_ktime_get_ns(), pid_tgid = current_pid_tgid(), ns;
	const struct storage_proc *proc = registered(pid_tgid);
	struct storage_sync_cells *cells;
	struct start *start;
	uint32_t index;

	if (!proc)
		return 0;
	start = start_of((uint32_t)pid_tgid, false);
	if (!start || !start->start_ns) {
		count(STORAGE_COUNT_UNMATCHED); /* it was waiting when the probe came */
		return 0;
	}
	ns = now_ns - start->start_ns;
	index = proc->slot * STORAGE_CALLS + (start->call & 1);
	cells = bpf_map_lookup_elem(&series, &index);
	if (cells) {
		cells->cells[checked_cell(ns)]++;
		cells->sum_ns += ns;
		cells->errors += result < 0;
	}
	if (ns >= slow_ns)
		report(proc, start, pid_tgid, now_ns, result);
	start->start_ns = 0;
	return 0;
}

/* ---- rung 1: fentry ------------------------------------------------------------------------- */

SEC("fentry/vfs_fsync_range")
int BPF_PROG(fsync_enter, struct file *file, long long first, long long last, int datasync)
{
	if (first != 0 || last != LLONG_MAX)
		return 0;
	return begin(datasync ? STORAGE_CALL_FDATASYNC : STORAGE_CALL_FSYNC, 0,
		     file->f_inode->i_sb->s_dev);
}

SEC("fexit/vfs_fsync_range")
int BPF_PROG(fsync_exit, struct file *file, long long first, long long last, int datasync, int ret)
{
	if (first != 0 || last != LLONG_MAX)
		return 0;
	return end(ret);
}

/* ---- rung 2: syscall tracepoints ------------------------------------------------------------ */

SEC("tp/syscalls/sys_enter_fsync")
int enter_fsync(struct trace_event_raw_sys_enter *ctx)
{
	return begin(STORAGE_CALL_FSYNC, (uint32_t)ctx->args[0], 0);
}

SEC("tp/syscalls/sys_enter_fdatasync")
int enter_fdatasync(struct trace_event_raw_sys_enter *ctx)
{
	return begin(STORAGE_CALL_FDATASYNC, (uint32_t)ctx->args[0], 0);
}

SEC("tp/syscalls/sys_exit_fsync")
int exit_fsync(struct trace_event_raw_sys_exit *ctx)
{
	return end((int)ctx->ret);
}

SEC("tp/syscalls/sys_exit_fdatasync")
int exit_fdatasync(struct trace_event_raw_sys_exit *ctx)
{
	return end((int)ctx->ret);
}

/* ---- rung 3: ext4 --------------------------------------------------------------------------- */

SEC("tp_btf/ext4_sync_file_enter")
int BPF_PROG(ext4_enter, struct file *file, int datasync)
{
	return begin(datasync ? STORAGE_CALL_FDATASYNC : STORAGE_CALL_FSYNC, 0,
		     file->f_inode->i_sb->s_dev);
}

SEC("tp_btf/ext4_sync_file_exit")
int BPF_PROG(ext4_exit, struct inode *inode, int ret)
{
	return end(ret);
}
