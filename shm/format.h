/* shm/format.h - lay out a new file: how big each part is, and the bytes that never change.
 *
 * Writer side. Pure: computes offsets and fills memory; creates no file. Includes: shm/ only. */
#ifndef BLIX_SHM_FORMAT_H
#define BLIX_SHM_FORMAT_H

#include "view.h"

#include <stdbool.h>

/* What the writer wants; 0 = the default of shm-abi 1.4. Out-of-range values are refused. */
struct blix_format_options {
	uint32_t n_cpus; /* for the defaults; 0 = 1 */
	uint32_t lanes;
	uint32_t ring_bytes;
	uint32_t cells;
	uint32_t slots;
	uint32_t strings_bytes; /* default 256 KiB */
	uint32_t metrics;	/* default 512 */
	uint32_t series;	/* default 4096 */
	uint32_t layouts;	/* default 32 */
	uint32_t gauges;	/* default 1024 */
	uint32_t exemplars;	/* default 8192 */
	uint32_t resource_len;
	bool histograms_both;
};

/* Compute the offsets of every part. ret_view->base and ->consumer are NULL; blix_view_at() sets
 * them. 0; -EINVAL a value is out of range (see the caps in layout.h). */
int blix_format_plan(const struct blix_format_options *options, struct blix_view *ret_view);

/* The same view over a file mapped at `base`. */
struct blix_view blix_view_at(const struct blix_view *plan, void *base);

/* Identity that goes into page 0. Text longer than its field is refused. */
struct blix_format_identity {
	uint8_t boot_id[16];
	uint8_t incarnation[16];
	uint64_t node_id;
	uint32_t pid;
	uint32_t uid;
	uint64_t pid_start_ticks;
	uint64_t pidns_ino;
	uint64_t timens_ino;
	uint32_t flags;
	uint8_t build_id[20];
	uint64_t open_mono_ns;
	uint64_t open_real_ns;
	const char *version; /* NULL = "" for each text */
	const char *grpc_address;
	const char *cluster;
	const char *service_name;
	const char *data_dir;
	const void *resource; /* plan's resource_len bytes */
};

/* Fill zeroed memory of view->size bytes: header (state INIT), TOC, resource, static_crc32c, clock
 * pair, consumer layout version. -EINVAL: a text is too long. */
int blix_format_fill(const struct blix_view *view, const struct blix_format_identity *identity);

/* CRC-32C (Castagnoli), as static_crc32c uses it. */
uint32_t blix_crc32c(const void *data, size_t len);

#endif
