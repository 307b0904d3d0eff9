/* shm/registry.h - the writer's registry: metrics, series, strings and bucket layouts.
 *
 * The original lives in private memory, so that names and series can be resolved before a file is
 * open, after opening failed, and across close and re-open. Attaching copies all of it into a new
 * file; later registrations go to both. Nothing is ever edited or freed, and indexes never change:
 * a handle made from them stays good for the life of the process.
 *
 * Thread rule: every function takes the registry's mutex; cold. Zeroed memory is an empty
 * registry. Includes: shm/ only. */
#ifndef BLIX_SHM_REGISTRY_H
#define BLIX_SHM_REGISTRY_H

#include "cell.h"
#include "metric.h"
#include "view.h"

#include <pthread.h>
#include <stdbool.h>

/* Capacities; a file attached to a registry has to have at least these. */
enum {
	BLIX_REGISTRY_STRINGS_BYTES = 256 << 10,
	BLIX_REGISTRY_METRICS = 512,
	BLIX_REGISTRY_SERIES = 4096,
	BLIX_REGISTRY_LAYOUTS = 32,
	BLIX_REGISTRY_GAUGES = 1024,
	BLIX_REGISTRY_EXEMPLARS = 8192,
	BLIX_REGISTRY_CELLS = 8192, /* until a file with another number is attached */
	BLIX_REGISTRY_CELLS_BOTH = 65536,
};

/* Limits of what a program may register. */
enum {
	BLIX_NAME_MAX = 200,	      /* bytes of a metric name */
	BLIX_LABEL_KEY_MAX = 100,     /* bytes of a label key */
	BLIX_LABEL_VALUE_MAX = 255,   /* bytes of a label value; the rest is cut */
	BLIX_UNIT_MAX = 63,	      /* bytes of a unit */
	BLIX_HELP_MAX = 1000,	      /* bytes of a help text; the rest is cut */
	BLIX_SERIES_DEFAULT = 64,     /* max_series of a runtime metric that names none */
	BLIX_SERIES_LIMIT = 4096,     /* highest max_series of a runtime metric */
	BLIX_METRIC_FROM_SLOT = 1024, /* BLIX_CATALOGUE_SLOTS, as an array size */
};

struct blix_registry {
	pthread_mutex_t lock;
	bool exponential;    /* histograms registered from now on get exponential cells as well */
	uint32_t cell_limit; /* 0 = the default */

	uint32_t strings_used; /* bytes */
	uint32_t n_metrics;
	uint32_t n_series;
	uint32_t n_layouts;
	uint32_t cells_used;  /* without the void cell */
	uint32_t gauges_used; /* without the void gauge */
	uint32_t exemplars_used;
	uint32_t n_runtime; /* metrics that the catalogue lacks */
	uint64_t stats[BLIX_STAT_N];

	bool attached;
	struct blix_view view;
	uint32_t published_strings; /* what the file has of each */
	uint32_t published_metrics;
	uint32_t published_series;
	uint32_t published_layouts;

	struct blix_metric_desc metrics[BLIX_REGISTRY_METRICS];
	uint32_t series_of_metric[BLIX_REGISTRY_METRICS]; /* the overflow series not counted */
	struct blix_series_desc series[BLIX_REGISTRY_SERIES];
	struct blix_layout_desc layouts[BLIX_REGISTRY_LAYOUTS];
	struct blix_grid
		grids[BLIX_REGISTRY_LAYOUTS]; /* read without the lock by who has a handle */
	uint8_t strings[BLIX_REGISTRY_STRINGS_BYTES];
	uint16_t metric_at_slot[BLIX_METRIC_FROM_SLOT + BLIX_REGISTRY_METRICS]; /* index + 1 */
	uint32_t string_table[BLIX_REGISTRY_STRINGS_BYTES / 4]; /* open addressing; id + 1 */
	uint32_t series_table[2 * BLIX_REGISTRY_SERIES];	/* open addressing; index + 1 */
};

/* Copy the registry into the zeroed tables of a new file and keep that file up to date from now
 * on. Its cells become the limit for new series.
 * 0; -ENOSPC: a table of the file is smaller than what is registered. */
int blix_registry_attach(struct blix_registry *registry, const struct blix_view *view);

/* Forget the file; the registry itself stays as it is. */
void blix_registry_detach(struct blix_registry *registry);

/* From now on `cells` is the limit for new series, or, if more are in use, as many as those (the
 * void cell included). Returns the limit: what the next file must have. */
uint32_t blix_registry_limit_cells(struct blix_registry *registry, uint32_t cells);

/* From now on new histograms do, or do not, get exponential cells.
 * True: some histogram metric is already registered the other way, and stays so. */
bool blix_registry_set_exponential(struct blix_registry *registry, bool on);

/* Register every node-owned catalogue metric with the series it has from the start. */
void blix_registry_catalogue(struct blix_registry *registry);

/* A metric that the catalogue lacks; strings are terminated and copied. */
struct blix_registry_spec {
	const char *name;
	const char *help; /* NULL = "" */
	const char *unit; /* NULL = "" */
	enum blix_kind kind;
	const char *const *label_keys;
	size_t n_label_keys;
	uint32_t max_series;	/* 0 = BLIX_SERIES_DEFAULT */
	const uint64_t *bounds; /* NULL = those of BLIX_LAYOUT_TIME, if the unit is "s" */
	size_t n_bounds;
};

/* Register a metric; the same spec again yields the same slot.
 * 0; -EINVAL: something is out of range; -EEXIST: the name belongs to another metric, or its
 * samples would have the same names; -ENOSPC: no descriptor, string or layout is left. */
int blix_registry_register(struct blix_registry *registry, const struct blix_registry_spec *spec,
			   uint32_t *ret_slot);

/* The series of `slot` with these label values. `kind_mask`: bits 1 << enum blix_kind of the kinds
 * the caller can use. Over a limit the overflow series comes back.
 *
 * 0: *ret_series is a copy. -ENOENT: no such slot, not the node's, or of another kind; -EINVAL:
 * wrong number of values; -ENOSPC: nothing left, not even an overflow series. Each is counted. */
int blix_registry_resolve(struct blix_registry *registry, uint32_t slot, uint32_t kind_mask,
			  const char *const *values, size_t n_values,
			  struct blix_series_desc *ret_series);

/* The id of a text of the program (a span's name, an attribute's key): of at most BLIX_NAME_MAX bytes
 * (the rest is cut), made UTF-8. The same text again yields the same id. When the table is full that
 * of "overflow" comes back, counted; BLIX_NO_ID if there was no room even for that, or for "". */
uint32_t blix_registry_string(struct blix_registry *registry, const char *text);

/* The text behind an id that blix_registry_string() returned, not terminated; it stays for good. */
const char *blix_registry_text(const struct blix_registry *registry, uint32_t id,
			       uint32_t *ret_len);

/* The metric behind a resolved series; a copy. */
struct blix_metric_desc blix_registry_metric_of(struct blix_registry *registry,
						const struct blix_series_desc *series);

/* Around fork(2): the first call keeps other threads out, so that the child finds a whole registry;
 * then one of the others. The child's is detached. */
void blix_registry_before_fork(struct blix_registry *registry);
void blix_registry_after_fork(struct blix_registry *registry);
void blix_registry_in_child(struct blix_registry *registry);

/* Add to a statistic of the writer: here, and in the attached file. */
void blix_registry_count(struct blix_registry *registry, enum blix_stat stat, uint64_t n);

#endif
