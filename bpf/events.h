/* bpf/events.h - what the probes and the agent hand each other: keys, cells, events.
 *
 * Both sides include it, so it holds fixed-width types and numbers alone. Includes shm/buckets.h,
 * which brings the integer types of either side. Thread rule: none, types only. */
#ifndef BLIX_BPF_EVENTS_H
#define BLIX_BPF_EVENTS_H

#include "shm/buckets.h"

enum {
	STORAGE_NODES_MAX = 16,	     /* nodes that one agent attributes to: its --shm files */
	STORAGE_PROCS_MAX = 64,	     /* processes registered for them */
	STORAGE_DEVICES_MAX = 16,    /* by name; others are counted together as device 0 */
	STORAGE_SERIES_MAX = 256,    /* (device, op, owner) seen; more are counted as map full */
	STORAGE_STARTS_MAX = 16384,  /* requests or calls in flight */
	STORAGE_LANES_SCANNED = 128, /* lanes looked through for a thread's own */
	STORAGE_BLOCK_RING_BYTES = 128 << 10,
	STORAGE_SYNC_RING_BYTES = 256 << 10,
};

enum storage_op {
	STORAGE_OP_READ,
	STORAGE_OP_WRITE,
	STORAGE_OP_FLUSH,      /* what the device needed */
	STORAGE_OP_FLUSH_WAIT, /* what the caller waited for it */
	STORAGE_OP_DISCARD,
	STORAGE_OP_OTHER,
	STORAGE_OPS,
};

enum storage_call { STORAGE_CALL_FSYNC, STORAGE_CALL_FDATASYNC, STORAGE_CALLS };

/* Who caused a request: node slot n, a VM of node slot n, and the rest. */
enum storage_owner {
	STORAGE_OWNER_NODE = 0,
	STORAGE_OWNER_VM = STORAGE_NODES_MAX,
	STORAGE_OWNER_KERNEL = 2 * STORAGE_NODES_MAX, /* kernel threads: writeback, flush */
	STORAGE_OWNER_OTHER,			      /* somebody else's process */
	STORAGE_OWNER_UNKNOWN,			      /* nobody saw who began it */
	STORAGE_OWNERS,
};

/* Counters of each CPU, in the map `counts`. */
enum storage_count {
	STORAGE_COUNT_MAP_FULL,	 /* could not be followed: a map was full */
	STORAGE_COUNT_UNMATCHED, /* an end whose beginning was not seen */
	STORAGE_COUNT_SLOW,	 /* at least slow_ns long */
	STORAGE_COUNT_SLOW_LOST, /* of these, not delivered: the ring was full */
	STORAGE_COUNTS,
};

/* Of a registered process (map `procs`: tgid -> this). The addresses are those of the node's own
 * mapping and thus its word: they are only ever read in that process, with a checked length. */
struct storage_proc {
	uint64_t lanes_addr; /* of lane 0 in that process; 0 = no lanes, nothing is stamped */
	uint64_t lane_stride;
	uint32_t n_lanes;
	uint32_t slot; /* of the node, < STORAGE_NODES_MAX */
};

/* Map `series` of the block probe: one a CPU. */
struct storage_block_key {
	uint32_t dev; /* storage_dev(); 0 = a device without a name of its own */
	uint8_t op;
	uint8_t owner;
	uint8_t pad[2]; /* 0 */
};
struct storage_block_cells {
	uint64_t cells[BLIX_BPF_CELLS];
	uint64_t sum_ns;
	uint64_t bytes;
	uint64_t errors;
	uint64_t queue_ns; /* from block_io_start to the last issue */
	uint64_t queued;
};

/* Map `series` of the sync probe: index slot * STORAGE_CALLS + call, one a CPU. */
struct storage_sync_cells {
	uint64_t cells[BLIX_BPF_CELLS];
	uint64_t sum_ns;
	uint64_t errors;
};

enum storage_layer { STORAGE_LAYER_BLOCK, STORAGE_LAYER_SYNC, STORAGE_LAYERS };

/* One slow wait, as it comes through the ring. Times: CLOCK_MONOTONIC. */
struct storage_event {
	uint64_t start_ns;
	uint64_t end_ns;
	uint32_t tid; /* sync only, as the node's pid namespace numbers it */
	uint32_t tgid;
	uint32_t dev; /* block: of the disk; sync: of the file system, may be a partition; 0 = ? */
	int32_t result; /* sync: what the call returned; block: 1 = error */
	uint8_t layer;	/* enum storage_layer */
	uint8_t what;	/* enum storage_op or enum storage_call */
	uint8_t owner;	/* enum storage_owner */
	uint8_t valid;	/* the ids below are those of the span the thread was in */
	uint8_t trace_flags;
	uint8_t pad[3];
	uint8_t trace_id[16];
	uint8_t span_id[8];
};

/* The kernel's own numbering of a disk. */
static inline uint32_t storage_dev(uint32_t major, uint32_t minor)
{
	return major << 20 | minor;
}

#endif
