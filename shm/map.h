/* shm/map.h - the one validating reader of a foreign file.
 *
 * Every byte of the file is hostile: it may be wrong from the start, change while it is read, or
 * vanish by truncation. map.c loads each value once, checks it, and hands out private copies or
 * numbers; no pointer into the file leaves it, but for the view, whose offsets are validated and
 * whose words must be read with the functions here, in ring.h, slot.h and exemplar.h.
 *
 * Thread rule: one thread at a time a map. The SIGBUS guard is process-wide; a thread that reads a
 * map must not block SIGBUS. Includes: shm/ only. */
#ifndef BLIX_SHM_MAP_H
#define BLIX_SHM_MAP_H

#include "view.h"

#include <stdbool.h>
#include <sys/types.h>

enum { BLIX_REASON_MAX = 256, BLIX_MAP_BOUNDS_MAX = 24 };

struct blix_map_options {
	bool check_owner; /* refuse a file that neither `owner` nor root owns */
	uid_t owner;
	bool consumer;	    /* map the consumer pages writable (needs write permission) */
	uint64_t max_bytes; /* 0 = BLIX_CAP_FILE_BYTES */
};

struct blix_map;

/* Open and validate the file at `path`. Never creates, never follows a link, never blocks.
 *
 * 0: *ret_map is set. Otherwise a negative errno and one sentence in `reason` (what is wrong and
 * what to do), and *ret_map is left alone:
 *   -ENOENT          no such file: the node has not started
 *   -EAGAIN          not ready: still being filled
 *   -EPROTO          not ours: magic, checksum or structure is wrong
 *   -EPROTONOSUPPORT written by another major or byte order, or with an unknown incompat bit
 *   -ENODATA         truncated: shorter than it says
 *   -EPERM           owned by somebody else, or has further links
 *   -ELOOP, -EISDIR, -EINVAL  a link, a directory, no regular file
 *   -EFBIG           larger than max_bytes
 *   -EMFILE          too many files or maps are open in this process
 *   -EACCES, -ENOMEM ...  as the system says */
int blix_map_open(const char *path, const struct blix_map_options *options,
		  struct blix_map **ret_map, char reason[BLIX_REASON_MAX]);

/* Accepts NULL; returns NULL. Drops every lock this map took. */
struct blix_map *blix_map_close(struct blix_map *map);

/* Private, validated copy of page 0's fixed part; texts are valid UTF-8 and terminated. Lives as
 * long as the map. */
struct blix_map_identity {
	uint16_t abi_minor;
	uint8_t boot_id[16];
	uint8_t incarnation[16];
	char incarnation_hex[33];
	uint64_t node_id;
	uint32_t pid;
	uint32_t uid;
	uint64_t pid_start_ticks;
	uint64_t pidns_ino;
	uint64_t timens_ino;
	uint32_t flags;
	uint64_t map_base;
	uint64_t open_mono_ns;
	uint64_t open_real_ns;
	char version[49];
	char grpc_address[129];
	char cluster[65];
	char service_name[65];
	char data_dir[257];
	dev_t dev;
	ino_t ino;
};
const struct blix_map_identity *blix_map_identity(const struct blix_map *map);
const struct blix_view *blix_map_view(const struct blix_map *map);

/* Call before each round of reading. Checks that the file still has its size and was not poisoned
 * by a SIGBUS, and takes up what was registered since.
 * 0; -ENODATA: truncated, forget what this round read and close the map;
 * -EPROTO: a new descriptor is malformed (*that* descriptor is skipped and counted, the rest is
 * fine; reported once for each batch). */
int blix_map_refresh(struct blix_map *map);

/* True once a read hit a hole: everything read since the last refresh is void. */
bool blix_map_poisoned(const struct blix_map *map);

/* Who is behind the file. */
enum blix_owner_state {
	BLIX_OWNER_ALIVE, /* holds its lock */
	BLIX_OWNER_GONE,  /* lock free */
};
enum blix_owner_state blix_map_owner_state(const struct blix_map *map);

/* Take the exclusive right to drain and acknowledge (OFD lock on byte 1). 0; -EBUSY: another agent
 * has it; -EBADF: opened read-only. Kept until close. */
int blix_map_lock_consumer(struct blix_map *map);

/* Does `path` still lead to this file? 1 yes, 0 another file or none, negative errno. */
int blix_map_is_at(const struct blix_map *map, const char *path);

/* What changes during the file's life, loaded once and range-checked. */
struct blix_map_life {
	uint32_t state; /* enum blix_state; unknown values read as BLIX_STATE_LIVE */
	uint32_t exit_code;
	uint64_t alive_beat;
	uint64_t app_beat;
	uint64_t pair_mono_ns; /* last consistent pair; the opening pair until the first tick */
	uint64_t pair_real_ns;
	uint32_t orphans_discarded;
};
void blix_map_life(struct blix_map *map, struct blix_map_life *ret_life);
uint64_t blix_map_stat(const struct blix_map *map, enum blix_stat stat);

/* ---- registry: validated private copies, in registration order ------------------------------- */

struct blix_map_layout {
	uint32_t n_bounds;
	uint64_t bounds[BLIX_MAP_BOUNDS_MAX];
};

struct blix_map_metric {
	uint32_t slot;
	uint8_t kind; /* enum blix_kind, in range */
	uint8_t flags;
	uint8_t n_label_keys;
	uint32_t max_series;
	uint32_t overflow_series; /* BLIX_NO_ID if none */
	const char *name;	  /* terminated, valid metric name; lives as long as the map */
	const char *help;	  /* terminated, valid UTF-8, control characters replaced */
	const char *unit;
	const char *label_keys[8];
	const struct blix_map_layout *layout; /* NULL unless a histogram */
};

struct blix_map_series {
	uint32_t metric; /* index of its metric */
	uint32_t first_cell;
	uint32_t n_cells;
	uint32_t gauge_idx; /* BLIX_NO_ID if none */
	uint32_t exemplar_idx;
	uint32_t n_exemplars;
	bool overflow;
	const char *label_values[8]; /* terminated, valid UTF-8; n_label_keys of the metric */
};

/* Indexes are stable for the life of the map. An entry is NULL if it did not pass validation, or
 * records nowhere because the node had run out of cells. */
uint32_t blix_map_metric_count(const struct blix_map *map);
const struct blix_map_metric *blix_map_metric(const struct blix_map *map, uint32_t index);
uint32_t blix_map_series_count(const struct blix_map *map);
const struct blix_map_series *blix_map_series(const struct blix_map *map, uint32_t index);
uint64_t blix_map_generation(const struct blix_map *map); /* changes when the counts grew */
uint64_t blix_map_rejected(const struct blix_map *map);	  /* descriptors skipped as malformed */

/* The text of a string id, as records carry them: terminated, valid UTF-8 of at most 1 KiB; lives as
 * long as the map. NULL: there is none, or it is malformed. */
const char *blix_map_string(struct blix_map *map, uint32_t id);

/* ---- values --------------------------------------------------------------------------------- */

/* Sum the first `n_cells` cells over all lanes that were ever used (and lane 0, which is shared and
 * never claimed) into sums[]. Word loads only; sums beyond the lane's cells are 0. */
void blix_map_sum_cells(const struct blix_map *map, uint64_t *sums, uint32_t n_cells);

/* One gauge's bits; 0 beyond the table. */
uint64_t blix_map_gauge(const struct blix_map *map, uint32_t index);

/* Lanes by use, for the self-metric. */
struct blix_map_lanes {
	uint32_t owned;
	uint32_t free; /* used before */
	uint32_t never;
};
void blix_map_lanes(const struct blix_map *map, struct blix_map_lanes *ret_lanes);

/* Sum of drops[kind][reason] over all lanes. */
uint64_t blix_map_drops(const struct blix_map *map, enum blix_drop_kind kind,
			enum blix_drop_reason reason);

/* Resource attributes: the bytes of an OTLP Resource message, copied at open. */
const uint8_t *blix_map_resource(const struct blix_map *map, size_t *ret_len);

#endif
