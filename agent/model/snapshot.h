/* agent/model/snapshot.h - MODEL: every metric of one target at one instant.
 *
 * Inputs fill it, encoders read it; neither knows the other. The schema (families, series, label
 * text) is built once and grows when an input registers something new; the values are overwritten
 * at each collection. Time is an argument; no file descriptor, no log, no libevent here.
 *
 * Thread rule: one thread at a time. Memory: everything belongs to the snapshot, strings are
 * copied. Bounded: SNAPSHOT_* below; what does not fit is refused with -ENOSPC and counted.
 * Includes: shm/{metric,buckets}.h and libc only. */
#ifndef BLIX_AGENT_MODEL_SNAPSHOT_H
#define BLIX_AGENT_MODEL_SNAPSHOT_H

#include "shm/metric.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SNAPSHOT_FAMILIES_MAX = 9216,
	SNAPSHOT_SERIES_MAX = 131072,
	SNAPSHOT_VALUES_MAX = 1 << 21,
	SNAPSHOT_TEXT_BYTES_MAX = 64 << 20,
};

enum snapshot_type { SNAPSHOT_COUNTER, SNAPSHOT_GAUGE, SNAPSHOT_HISTOGRAM };

/* How the 64 bits of a value are to be read. */
enum snapshot_number {
	SNAPSHOT_U64, /* a count */
	SNAPSHOT_I64,
	SNAPSHOT_F64, /* double, in the unit of the name */
	SNAPSHOT_NS,  /* u64 nanoseconds, shown in seconds, exactly */
};

/* Bucket bounds as encoders need them. */
struct snapshot_bounds {
	uint32_t n;
	double value[BLIX_BOUNDS_MAX]; /* upper-inclusive, in the unit of the name */
	char le[BLIX_BOUNDS_MAX][24];  /* float-like text: "0.005", "1.0" */
};

struct snapshot_family {
	const char *name;  /* canonical, as exposed in text 0.0.4: counters end in _total */
	const char *alias; /* the seed guide's name; NULL if none */
	const char *help;  /* raw, unescaped UTF-8 */
	const char *unit;  /* UCUM */
	enum snapshot_type type;
	enum snapshot_number number;	      /* of the values; of the sum for a histogram */
	const struct snapshot_bounds *bounds; /* histogram only */
	uint32_t first_series;
	uint32_t n_series; /* its series are contiguous in order[]; see snapshot_series() */
	uint64_t created_unix_ns; /* when its counters started from 0; 0 = unknown */
	bool hidden; /* not served now (a gauge of a dead node) */
};

struct snapshot_label {
	const char *key;
	const char *value; /* raw UTF-8 */
};

struct snapshot_series {
	uint32_t family;
	uint32_t value; /* index of its first value: 1 for a counter or gauge; for a histogram
			   n + 1 bucket counts (not cumulative), then the sum, then the exponential
			   cells where has_exponential */
	uint32_t exemplar; /* index of its first exemplar (1, or one a bucket); UINT32_MAX none */
	uint32_t n_labels;
	const struct snapshot_label *labels;
	const char *text; /* labels as both text formats print them, escaped: method="CreateVm" */
	uint32_t text_len;
	bool has_exponential;
	bool hidden;
};

struct snapshot_exemplar {
	bool set;
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint64_t value;	      /* read as the family's number */
	uint64_t unix_ns;
};

struct snapshot;

struct snapshot *snapshot_new(void);		  /* NULL: no memory */
struct snapshot *snapshot_free(struct snapshot *); /* accepts NULL, returns NULL */

/* Remove every family and series; for a new incarnation with another schema. */
void snapshot_reset(struct snapshot *s);

/* Add a family, or find the one with this name (then the rest of `spec` is not looked at).
 * spec: name, alias, help, unit, type, number, bounds, created_unix_ns; strings and bounds are
 * copied. 0; -EINVAL a name that no exposition can carry; -ENOSPC. */
int snapshot_family(struct snapshot *s, const struct snapshot_family *spec, uint32_t *ret_family);

/* Add a series, or find the one with the same label values. Label names must be unique within it.
 * 0; -EINVAL a label name is malformed, duplicate, or reserved (le, quantile, __*); -ENOSPC. */
int snapshot_series(struct snapshot *s, uint32_t family, const struct snapshot_label *labels,
		    uint32_t n_labels, bool exponential, bool exemplars, uint32_t *ret_series);

/* Values. `series` comes from snapshot_series(). */
void snapshot_set_u64(struct snapshot *s, uint32_t series, uint64_t value);
void snapshot_set_i64(struct snapshot *s, uint32_t series, int64_t value);
void snapshot_set_f64(struct snapshot *s, uint32_t series, double value);
/* The series' values, to be overwritten in place: see snapshot_series.value for their order. */
uint64_t *snapshot_values(struct snapshot *s, uint32_t series, uint32_t *ret_n);
/* The series' exemplars (1, or one a bucket incl. +Inf); NULL if it has none. */
struct snapshot_exemplar *snapshot_exemplars(struct snapshot *s, uint32_t series, uint32_t *ret_n);
void snapshot_hide_series(struct snapshot *s, uint32_t series, bool hidden);
void snapshot_hide_family(struct snapshot *s, uint32_t family, bool hidden);
void snapshot_set_created(struct snapshot *s, uint32_t family, uint64_t created_unix_ns);

/* Reading, for encoders: families in the order they were added; the series of family f are
 * snapshot_family_series(s, f, 0 .. n_series - 1), in the order they were added. */
uint32_t snapshot_family_count(const struct snapshot *s);
const struct snapshot_family *snapshot_family_at(const struct snapshot *s, uint32_t family);
const struct snapshot_series *snapshot_family_series(const struct snapshot *s, uint32_t family,
						     uint32_t i);
const uint64_t *snapshot_value_at(const struct snapshot *s, uint32_t value);
const struct snapshot_exemplar *snapshot_exemplar_at(const struct snapshot *s, uint32_t exemplar);

/* Refused because a limit was reached, since snapshot_new. */
uint64_t snapshot_refused(const struct snapshot *s);

/* A row of the catalogue as a family: type, number, bounds, unit and names follow from it. */
int snapshot_family_of(struct snapshot *s, const struct blix_metric *metric,
		       uint64_t created_unix_ns, uint32_t *ret_family);

/* Relation of the catalogue's `subset_of` column: no value of the subset family exceeds the value
 * of its superset (series matched by the labels of the superset). Call after all values are set. */
void snapshot_clamp_subsets(struct snapshot *s);

#endif
