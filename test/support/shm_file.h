/* test/support/shm_file.h - a small, complete, live telemetry file made by hand.
 *
 * For tests that need "a node" without the hooks: the file is laid out by format.c, its registry
 * is written here, independently of shm/registry.c, and the byte-0 lock is held as a node holds
 * it, by the mapping alone. A failure of the surroundings (no space, no permission) ends the test
 * program with a message. Thread rule: one thread a file. Includes: shm/, libc.
 *
 *	struct shm_file *f = shm_file_new("/dev/shm/x", &(struct shm_file_options){.node_id = 1});
 *	uint32_t m = shm_file_metric(f, &(struct shm_file_metric){
 *		.name = "blixard_x_total", .kind = BLIX_COUNTER, .keys = {"method"}});
 *	uint32_t s = shm_file_series(f, m, "CreateVm");
 *	shm_file_add(f, s, 0, 5);
 *	shm_file_free(f);
 */
#ifndef BLIX_TEST_SHM_FILE_H
#define BLIX_TEST_SHM_FILE_H

#include "shm/format.h"
#include "shm/metric.h"

#include <sys/types.h>

enum { SHM_FILE_KEYS_MAX = 8, SHM_FILE_BOUNDS_MAX = 24 };

struct shm_file_options {
	/* Zero means small here: 2 lanes, 16 KiB rings, 512 cells, 2 slots, 64 metrics, 256 series.
	 */
	struct blix_format_options format;
	uint64_t node_id;
	uint32_t flags;		  /* of the header */
	const char *version;	  /* NULL = "0.0.0-test" */
	const char *grpc_address; /* NULL = "127.0.0.1:7001" */
	const char *cluster;	  /* NULL = "test" */
	const char *service_name; /* NULL = "blixard" */
	const char *data_dir;	  /* NULL = "" */
	const void *resource;	  /* format.resource_len bytes */
	uint8_t incarnation[16];  /* all zero = random */
	uint64_t open_mono_ns;	  /* 0 = now */
	uint64_t open_real_ns;	  /* 0 = now */
};

struct shm_file_metric {
	const char *name;
	enum blix_kind kind;
	const char *help; /* NULL = "Help of <name>." */
	const char *unit; /* NULL = "1" */
	uint32_t slot;	  /* 0 = BLIX_CATALOGUE_SLOTS + its index */
	uint8_t flags;
	uint32_t max_series;		     /* 0 = 64 */
	const char *keys[SHM_FILE_KEYS_MAX]; /* up to the first NULL */
	uint64_t bounds[SHM_FILE_BOUNDS_MAX];
	uint32_t n_bounds;
	uint32_t exponential_cells; /* cells behind the sum; with BLIX_METRIC_EXPONENTIAL */
};

struct shm_file {
	struct blix_view view; /* base is writable: damage what you like */
	char path[256];
	dev_t dev;
	ino_t ino;
	uint32_t next_string; /* bytes */
	uint32_t next_cell;
	uint32_t next_gauge;
	uint32_t next_exemplar;
	uint32_t *exponential_cells;	  /* by metric */
	struct blix_metric_desc *metrics; /* in the file */
	struct blix_series_desc *series;
	struct blix_layout_desc *layouts;
};

/* Create and publish the file: state LIVE, lock held until close, abandon or free. A file already
 * at `path` is unlinked. `options` may be NULL. */
struct shm_file *shm_file_new(const char *path, const struct shm_file_options *options);

/* Accepts NULL; returns NULL. Drops the lock and unlinks the path if it is still this file. */
struct shm_file *shm_file_free(struct shm_file *file);

/* What a node leaves behind; the file stays at its path, the struct must still be freed with
 * shm_file_forget(). */
void shm_file_close(struct shm_file *file);   /* clean: state CLOSED, lock free */
void shm_file_abandon(struct shm_file *file); /* as by SIGKILL: state LIVE, lock free */
struct shm_file *shm_file_forget(struct shm_file *file);

/* Register; the index in the file comes back. Strings are copied and interned. */
uint32_t shm_file_string(struct shm_file *file, const char *text);
uint32_t shm_file_metric(struct shm_file *file, const struct shm_file_metric *metric);
uint32_t shm_file_series_v(struct shm_file *file, uint32_t metric, const char *const *values,
			   bool overflow);
uint32_t shm_file_overflow(struct shm_file *file, uint32_t metric); /* and tells its metric */
#define shm_file_series(file, metric, ...)                                                         \
	shm_file_series_v((file), (metric), (const char *const[]){__VA_ARGS__, NULL}, false)
#define shm_file_plain(file, metric)                                                               \
	shm_file_series_v((file), (metric), (const char *const[]){NULL}, false)

/* Values. `lane` becomes an owned lane (tid = this process) when it never was used. */
void shm_file_add(struct shm_file *file, uint32_t series, uint32_t lane, uint64_t n);
void shm_file_observe(struct shm_file *file, uint32_t series, uint32_t lane, uint64_t value);
void shm_file_cell(struct shm_file *file, uint32_t series, uint32_t lane, uint32_t cell,
		   uint64_t value);
void shm_file_set(struct shm_file *file, uint32_t series, int64_t value);
void shm_file_set_f64(struct shm_file *file, uint32_t series, double value);
void shm_file_exemplar(struct shm_file *file, uint32_t series, uint32_t bucket, uint64_t value,
		       uint64_t t_ns);
void shm_file_own_lane(struct shm_file *file, uint32_t lane, uint32_t tid, uint32_t generation);

/* One tick of a housekeeping thread: alive_beat and the clock pair. */
void shm_file_beat(struct shm_file *file);

/* After changing the fixed part of page 0: make its checksum right again. */
void shm_file_reseal(struct shm_file *file);

/* TOC entry of a section, in the file. */
struct blix_toc *shm_file_toc(struct shm_file *file, uint32_t type);

#endif
