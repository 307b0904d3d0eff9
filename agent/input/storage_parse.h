/* agent/input/storage_parse.h - the pure half of storage.c: cells into the model, and the check.
 *
 * Includes bpf/probe.h for the types, libc; thread-safe. */
#ifndef BLIX_AGENT_INPUT_STORAGE_PARSE_H
#define BLIX_AGENT_INPUT_STORAGE_PARSE_H

#include "bpf/probe.h"

enum { STORAGE_DISKS_MAX = 64, STORAGE_DISK_NAME_MAX = 32 };

/* One line of /proc/diskstats: whole disks and partitions alike. */
struct storage_disk {
	uint32_t dev; /* storage_dev() */
	char name[STORAGE_DISK_NAME_MAX];
	uint64_t requests; /* completed reads, writes and discards; flushes are not among them */
};

/* Lines that are malformed are left out. Returns how many were found, at most `max`. */
uint32_t storage_parse_disks(const char *bytes, size_t len, struct storage_disk *ret_disks,
			     uint32_t max);

/* /sys/block/X/inflight: reads, writes. 0; -EBADMSG. */
int storage_parse_inflight(const char *bytes, size_t len, uint64_t *ret_reads,
			   uint64_t *ret_writes);

/* /proc/PID/cgroup: the path in the unified tree, "/" excluded, and only of a systemd service that
 * is no user's session manager. 0; -ENOENT no such line; -ENAMETOOLONG. *ret_level: the depth of
 * it, 1 right below the root. */
int storage_parse_cgroup(const char *bytes, size_t len, char *ret_path, size_t size,
			 uint32_t *ret_level);

/* Classic buckets of the layout POW2 (BLIX_POW2_BOUNDS + 1 of them, not cumulative). Exact: its
 * bounds are bounds of the cells. */
void storage_pow2(const uint64_t cells[BLIX_BPF_CELLS], uint64_t ret[BLIX_POW2_BOUNDS + 1]);

/* The cells of a snapshot, which have scale 3. A quarter octave is filed under the eighth that has
 * the same upper bound, so what lies at or below each bound of scale 2 stays exact, and merging
 * pairs (blix_exp_merge_pairs) gives the probe's own buckets back. */
void storage_exponential(const uint64_t cells[BLIX_BPF_CELLS], uint64_t ret[BLIX_EXP_CELLS]);

/* How much of what the kernel counted the probe measured. False: too little happened to say. */
bool storage_coverage(uint64_t measured, uint64_t counted, double *ret_ratio);

/* How long [from, to] and [a, b] overlap. */
uint64_t storage_overlap(uint64_t from, uint64_t to, uint64_t a, uint64_t b);

/* As a label: node, vm, kernel, other, unknown; what belongs to the node in another slot is other.
 */
enum storage_origin {
	STORAGE_ORIGIN_NODE,
	STORAGE_ORIGIN_VM,
	STORAGE_ORIGIN_KERNEL,
	STORAGE_ORIGIN_OTHER,
	STORAGE_ORIGIN_UNKNOWN,
	STORAGE_ORIGINS,
};
enum storage_origin storage_origin_of(uint8_t owner, uint32_t slot);

#endif
