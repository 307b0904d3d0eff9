/* agent/input/storage_private.h - what storage.c and storage_node.c share. */
#ifndef BLIX_AGENT_INPUT_STORAGE_PRIVATE_H
#define BLIX_AGENT_INPUT_STORAGE_PRIVATE_H

#include "agent/input/proc_file.h"
#include "agent/input/storage.h"

enum {
	STORAGE_CALLS_SHOWN = STORAGE_CALLS,
	STORAGE_RECENT_MAX = 64, /* slow block waits kept to be laid over slow syncs */
	STORAGE_ROWS_MAX = (STORAGE_DEVICES_MAX + 1) * STORAGE_OPS * STORAGE_ORIGINS,
	STORAGE_LABELS_MAX = (STORAGE_DEVICES_MAX + 1) * STORAGE_OPS, /* device x op */
	STORAGE_DRAIN_MS = 500,
	STORAGE_TEXT_BYTES = 32 << 10,
};
/* Old figures would make the coverage wrong; several targets of one scrape share them. */
#define STORAGE_DISKS_AGE_NS UINT64_C(10000000)

/* A disk shown by name. A slot is never given to another name: its series exist. */
struct storage_device {
	uint32_t dev;
	bool has_base; /* `base` was taken when the probe began to measure it */
	uint64_t base; /* requests the kernel had counted by then */
	uint64_t now;  /* and has counted by now */
	char name[STORAGE_DISK_NAME_MAX];
	struct proc_file inflight;
	char inflight_path[64];
};

struct storage {
	struct storage_options options;
	struct probe *probes[PROBE_KINDS];
	char reasons[PROBE_KINDS][PROBE_REASON_MAX];
	uint64_t opened_unix_ns;

	struct event *timer;
	struct event *rings[PROBE_KINDS];
	struct storage_node *nodes[STORAGE_NODES_MAX];

	struct proc_file diskstats;
	uint64_t disks_read_ns; /* 0 = never */
	struct storage_device devices[STORAGE_DEVICES_MAX];
	uint32_t n_devices;

	struct storage_event recent[STORAGE_RECENT_MAX]; /* ring */
	uint32_t n_recent;
	int64_t mono_to_unix_ns; /* one offset a drain */
	uint64_t slow[STORAGE_LAYERS];
	char text[STORAGE_TEXT_BYTES];
};

/* Sums of one (device, op, origin), and where they are shown. */
struct storage_row {
	uint8_t device; /* index; STORAGE_DEVICES_MAX = other */
	uint8_t op, origin;
	uint32_t series; /* UINT32_MAX = the snapshot had no room */
	struct storage_block_cells sums;
};

/* Sums of one (device, op). */
struct storage_labels {
	bool used;
	uint32_t queue, queued, bytes, errors;
	uint64_t queue_ns, n_queued, n_bytes, n_errors;
};

struct storage_node {
	struct storage *storage; /* NULL: no probes */
	uint32_t slot;
	uint32_t tgid;	 /* 0 = follows nobody */
	uint64_t cgroup; /* 0 = none */
	bool followed;	 /* at least once: its fsync series exist */
	void (*slow)(void *arg, const struct storage_slow_event *e);
	void *slow_arg;
	uint64_t slow_syncs, stamped, unstamped, undelivered;
	struct snapshot_exemplar exemplars[STORAGE_CALLS][BLIX_POW2_BOUNDS + 1];

	/* families, and their series */
	bool registered;
	uint32_t duration, queue, queued, bytes, errors, in_flight;
	uint32_t fsync_duration[STORAGE_CALLS], fsync_errors[STORAGE_CALLS];
	uint32_t probe_up[PROBE_KINDS];
	uint32_t runs[PROBE_KINDS], seconds[PROBE_KINDS];
	uint32_t map_full[PROBE_KINDS], unmatched[PROBE_KINDS];
	uint32_t events[STORAGE_LAYERS], dropped[STORAGE_LAYERS];
	uint32_t result_stamped, result_none;
	uint32_t coverage;
	uint32_t inflight[STORAGE_DEVICES_MAX][2];
	bool has_inflight[STORAGE_DEVICES_MAX];

	struct storage_row *rows;
	uint32_t n_rows, cap_rows;
	struct storage_labels labels[STORAGE_DEVICES_MAX + 1][STORAGE_OPS];
};

/* storage.c */
void storage_read_disks(struct storage *s, uint64_t now_ns);
uint32_t storage_device_index(const struct storage *s, uint32_t dev);
const char *storage_device_name(const struct storage *s, uint32_t index);
void storage_drain(struct storage *s);

/* storage_node.c */
void storage_node_slow(struct storage_node *n, const struct storage_slow_event *e,
		       enum storage_call call);

#endif
