/* agent/input/storage.h - storage latency from the kernel into the model.
 *
 * One `storage` an agent, which holds the probes; one `storage_node` a target, which says whose
 * process to follow and fills that target's snapshot. A probe that does not load leaves its
 * families absent (zeros would look like a fast disk), blixard_agent_bpf_probe_up at 0 and one line
 * in the log; nothing else of the agent notices.
 *
 * Thread rule: the loop thread. storage_new() takes up to a second and comes before the loop turns;
 * nothing after it sleeps (maps, /proc and /sys are memory of the kernel).
 * Includes: bpf/probe.h, model/, libc; the implementation also libevent and log.h. */
#ifndef BLIX_AGENT_INPUT_STORAGE_H
#define BLIX_AGENT_INPUT_STORAGE_H

#include "agent/input/storage_parse.h"
#include "agent/model/snapshot.h"

struct event_base;
struct storage;
struct storage_node;

/* A wait that was at least as long as the limit; sync layer only. Valid during the callback. */
struct storage_slow_event {
	bool valid; /* the thread was in the span below when the call returned */
	bool sampled;
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint32_t tid, tgid;
	uint64_t start_ns, end_ns; /* CLOCK_MONOTONIC */
	uint64_t start_unix_ns, end_unix_ns;
	const char *call;   /* "fsync", "fdatasync" */
	const char *hook;   /* where it was measured: "tracepoint" */
	const char *device; /* "vda"; "" if unknown (btrfs, network file systems) */
	int32_t result;	    /* what the call returned; < 0 = it failed */
	/* Slow flushes and other slow I/O of that disk that overlap the wait; "overlapping", not
	 * "caused by". */
	uint64_t flush_ns, device_ns;
};

struct storage_options {
	bool off;	     /* --no-bpf */
	bool quiet;	     /* no log lines: --check prints what it finds itself */
	uint32_t slow_io_ms; /* 0 = no wait is reported one by one */
};

/* Load the probes and say in the log what became of each. Never fails because of the kernel.
 * NULL: no memory. */
struct storage *storage_new(const struct storage_options *options);
/* Start looking for slow waits. 0; -ENOMEM. */
int storage_start(struct storage *s, struct event_base *base);
/* Accepts NULL; returns NULL. Its nodes must be gone. */
struct storage *storage_free(struct storage *s);

/* Give up the rights that only loading needed, for this thread and those it makes later; keeps
 * CAP_BPF where this kernel wants it for reading maps. Nothing happens without an attached probe. */
void storage_drop_rights(struct storage *s);

/* Whether this build has probes at all, for --version. */
const char *storage_built(void);

struct storage_probe_status {
	bool up;
	const char *hook;   /* "none" while it is not up */
	const char *reason; /* "" while it is up */
};
struct storage_probe_status storage_status(const struct storage *s, enum probe_kind kind);

/* ---- of a target ----------------------------------------------------------------------------- */

/* `s` NULL is an agent without probes. The callback may be NULL. NULL: no memory. */
struct storage_node *storage_node_new(struct storage *s,
				      void (*slow)(void *arg, const struct storage_slow_event *e),
				      void *arg);
struct storage_node *storage_node_free(struct storage_node *n); /* accepts NULL, returns NULL */

/* Follow this process (in the agent's pid namespace, seen to be the one meant). lanes: slot is
 * filled in here. 0; -ENOSPC too many nodes; -ENODEV no probe is up; errors of the map. */
int storage_node_follow(struct storage_node *n, uint32_t tgid, const struct storage_proc *lanes);
void storage_node_unfollow(struct storage_node *n); /* accepts NULL */

/* The disk below the node's data directory is always shown, also a loop device; 0 = unknown. */
void storage_node_disk(struct storage_node *n, uint32_t dev, const char *name);

/* Take what waits in the kernel now: the callback comes from here, or from the loop. */
void storage_node_catch_up(struct storage_node *n);
/* How much of what was made of slow waits has been lost since the start, for
 * blixard_storage_slow_io_dropped_total. */
void storage_node_undelivered(struct storage_node *n, uint64_t items);

/* Add the families to a snapshot that does not have them. 0; errors of snapshot_family(). */
int storage_node_register(struct storage_node *n, struct snapshot *snapshot);
void storage_node_collect(struct storage_node *n, struct snapshot *snapshot, uint64_t now_ns);

#endif
