/* bpf/probe.h - load, attach, read and detach one of the storage probes; the only code with libbpf.
 *
 * Two probes, each its own object, that load, attach and fail alone. Which kernel functions exist
 * and how their arguments lie is read from the kernel's BTF, never from its version. Built without
 * clang or bpftool every probe_open() answers -ENOSYS and says so.
 *
 * Thread rule: one thread at a time a probe; probe_open() takes up to a second (it reads several
 * megabytes of BTF), everything else is a few system calls that wait for nothing. Maps and programs
 * live exactly as long as the probe, and end with the process however that ends: nothing is pinned.
 * Includes: events.h, libc; the implementation also libbpf and the generated skeletons. */
#ifndef BLIX_BPF_PROBE_H
#define BLIX_BPF_PROBE_H

#include "bpf/events.h"

#include <stdbool.h>
#include <stddef.h>

enum { PROBE_REASON_MAX = 400 };

enum probe_kind { PROBE_BLOCK, PROBE_SYNC, PROBE_KINDS };

/* Where it hangs; for sync in the order they are tried. */
enum probe_hook { PROBE_HOOK_FENTRY, PROBE_HOOK_TRACEPOINT, PROBE_HOOK_EXT4, PROBE_HOOKS };

const char *probe_kind_name(enum probe_kind kind); /* "block" */
const char *probe_hook_name(enum probe_hook hook); /* "tracepoint"; PROBE_HOOKS: "none" */
bool probe_built(void);				   /* false: this build has no probes */

struct probe_options {
	uint64_t slow_ns;	/* waits at least this long are events; UINT64_MAX: none is */
	uint32_t hooks_skipped; /* bit 1 << enum probe_hook: do not try it (tests) */
	bool no_task_storage;	/* as on a kernel before 5.11 (tests) */
	bool no_io_start;	/* as on a kernel before 6.5 (tests) */
	const char *btf_path;	/* NULL = the kernel's own (tests) */
};

struct probe;

/* Load and attach. `note` receives, for each hook passed over and at the end, one sentence (may be
 * NULL). 0; negative errno and the reason of the last hook in `reason`, with the remedy:
 * -ENOSYS not built in; -EPERM, -EACCES rights are missing; -ENOENT the kernel lacks BTF or every
 * hook; others as the kernel says. */
int probe_open(enum probe_kind kind, const struct probe_options *options,
	       void (*note)(void *arg, const char *line), void *arg, struct probe **ret_probe,
	       char reason[PROBE_REASON_MAX]);
/* Detach and unload. Accepts NULL; returns NULL. */
struct probe *probe_close(struct probe *p);
enum probe_hook probe_hook_used(const struct probe *p);

/* ---- what to watch: 0, or a negative errno of the map (-E2BIG: full) ------------------------- */

int probe_add_process(struct probe *p, uint32_t tgid, const struct storage_proc *proc);
int probe_remove_process(struct probe *p, uint32_t tgid);
/* Block only; -EINVAL on another probe. */
int probe_add_device(struct probe *p, uint32_t dev, bool shown); /* by name, or not at all */
/* From now on what no probe_add_device() named is measured together, as device 0. */
int probe_show_others(struct probe *p);
int probe_remove_device(struct probe *p, uint32_t dev);
/* Processes in the cgroup (or below it) with this id, at this level of the tree (root = 0), belong
 * to a node's unit. One level at a time: units lie side by side. */
int probe_add_cgroup(struct probe *p, uint64_t id, uint32_t level, uint32_t slot);
int probe_remove_cgroup(struct probe *p, uint64_t id);

/* ---- what was seen --------------------------------------------------------------------------- */

/* Call for every series that exists, sums over the CPUs. 0; negative errno of the map. */
int probe_read_block(struct probe *p,
		     void (*each)(void *arg, const struct storage_block_key *key,
				  const struct storage_block_cells *cells),
		     void *arg);
/* 0; -EINVAL slot or call is out of range; negative errno of the map. */
int probe_read_sync(struct probe *p, uint32_t slot, enum storage_call call,
		    struct storage_sync_cells *ret_cells);
int probe_read_counts(struct probe *p, uint64_t ret_counts[STORAGE_COUNTS]);

/* Hand every waiting event over; they are validated in size only. How many; negative errno. The
 * descriptor becomes readable only when the ring is half full. */
int probe_drain(struct probe *p, void (*each)(void *arg, const struct storage_event *event),
		void *arg);
int probe_ring_fd(const struct probe *p);

/* What its programs cost so far; counted by the kernel only while kernel.bpf_stats_enabled is 1,
 * and then runs > 0. */
struct probe_cost {
	uint64_t runs;
	uint64_t run_ns;
};
int probe_cost(const struct probe *p, struct probe_cost *ret_cost);

/* Let the kernel count what programs cost, until the descriptor is closed (CAP_SYS_ADMIN). The
 * descriptor; negative errno. */
int probe_stats_fd(void);

#endif
