/* agent/model/snapshot.h - MODEL: every metric of one target at one instant.
 *
 * Inputs fill it, encoders read it; neither knows the other. The schema (families, series, label
 * text) is built once and grows when an input registers something new; the values are overwritten
 * at each collection. Time is an argument; no file descriptor, no log, no libevent here.
 *
 * Names are checked here, once, so that no encoder can be made to write a body that Prometheus
 * refuses as a whole: grammar, reserved labels, and clashes between families (a counter "x_total"
 * also owns "x" and "x_created" in OpenMetrics, a histogram "x" owns "x_bucket", "x_sum", ...).
 *
 * Thread rule: one thread at a time. Memory: everything belongs to the snapshot, strings are
 * copied. Bounded: SNAPSHOT_* below; what does not fit is refused with -ENOSPC and counted.
 * Pointers and the view are good until the next family, series or reset.
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
	SNAPSHOT_EXEMPLARS_MAX = 1 << 18,
	SNAPSHOT_TEXT_BYTES_MAX = 64 << 20,
	SNAPSHOT_NAME_BYTES_MAX = 200,	 /* of a family or a label */
	SNAPSHOT_VALUE_BYTES_MAX = 1024, /* of a label's value, raw */
	SNAPSHOT_HELP_BYTES_MAX = 1024,	 /* longer help is cut */
	SNAPSHOT_LABELS_MAX = 16,
	SNAPSHOT_TEXT_SLACK = 32, /* readable bytes after each text below, so copies may be wide */
};

enum snapshot_type { SNAPSHOT_COUNTER, SNAPSHOT_GAUGE, SNAPSHOT_HISTOGRAM };

/* How the 64 bits of a value are to be read. */
enum snapshot_number {
	SNAPSHOT_U64, /* a count */
	SNAPSHOT_I64,
	SNAPSHOT_F64, /* double, in the unit of the name */
	SNAPSHOT_NS,  /* u64 nanoseconds (i64 in a gauge), shown in seconds, exactly */
};

/* Bucket bounds as encoders need them: ascending, finite. The snapshot spells `le` itself. */
struct snapshot_bounds {
	uint32_t n;
	double value[BLIX_BOUNDS_MAX]; /* upper-inclusive, in the unit of the name */
	char le[BLIX_BOUNDS_MAX][32];  /* float-like text: "0.005", "1.0" */
};

/* Bytes that both text formats print as they are; never NULL, SNAPSHOT_TEXT_SLACK readable after.
 */
struct snapshot_text {
	const char *at;
	uint32_t len;
};

struct snapshot_family {
	/* What snapshot_family() takes; the strings of a stored family are terminated as well. */
	const char *name;      /* canonical, as exposed in text 0.0.4: counters end in _total */
	const char *alias;     /* the seed guide's name; NULL if none */
	const char *help;      /* raw, unescaped UTF-8; NULL or "" if none */
	const char *unit;      /* UCUM; NULL or "" if none */
	const char *subset_of; /* name of the family this one never exceeds; NULL if none */
	enum snapshot_type type;
	enum snapshot_number number;	      /* of the values; of the sum for a histogram */
	const struct snapshot_bounds *bounds; /* histogram only */
	uint64_t created_unix_ns;	      /* when its counters started from 0; 0 = unknown */
	bool hidden;			      /* not served now (a gauge of a dead node) */
	bool updown; /* a gauge that is a sum which may fall: OTLP says so, Prometheus cannot */

	/* What the snapshot adds. */
	uint32_t n_series;
	const uint32_t *series;			    /* its series, in the order they were added */
	struct snapshot_text name_text, alias_text; /* alias_text is empty if there is none */
	struct snapshot_text help_text;		    /* escaped for text 0.0.4 */
	struct snapshot_text help_openmetrics;	    /* escaped for OpenMetrics */
	const struct snapshot_text *le; /* histogram: `le="0.005"` of each bucket, with +Inf */
	const char *unit_suffix;	/* "seconds" where the unit has one, else "" */
};

struct snapshot_label {
	const char *key;
	const char *value; /* raw UTF-8 */
};

struct snapshot_series {
	uint32_t family;
	uint32_t value;	   /* index of its first value: 1 for a counter or gauge; for a histogram
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
	uint64_t value; /* read as the family's number */
	uint64_t unix_ns;
};

struct snapshot;

struct snapshot *snapshot_new(void);		    /* NULL: no memory */
struct snapshot *snapshot_free(struct snapshot *s); /* accepts NULL, returns NULL */

/* Remove every family and series; for a new incarnation with another schema. */
void snapshot_reset(struct snapshot *s);

/* Add a family, or find the one with this name (then the rest of `spec` is not looked at).
 * spec: what struct snapshot_family says; strings and bounds are copied, bytes that are not UTF-8
 * become U+FFFD. An alias that another family already uses is dropped and counted as refused.
 * 0; -EINVAL a name or bounds that no exposition can carry; -EEXIST one of the sample names that
 * it would have belongs to another family; -ENOSPC a limit; -ENOMEM. */
int snapshot_family(struct snapshot *s, const struct snapshot_family *spec, uint32_t *ret_family);

/* Add a series, or find the one with the same label values, in whatever order. Label names must be
 * unique within it. A label with an empty value is no label (so Prometheus reads it). `exponential`
 * counts for histograms in nanoseconds alone, because the grid is one of seconds.
 * 0; -EINVAL a label name is malformed, duplicate, or reserved (le, quantile, __*), or the family
 * does not exist; -ENOSPC a limit, also of the length of a value; -ENOMEM. */
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

/* Reading: families in the order they were added; the series of family f are
 * snapshot_family_series(s, f, 0 .. n_series - 1), in the order they were added. */
uint32_t snapshot_family_count(const struct snapshot *s);
const struct snapshot_family *snapshot_family_at(const struct snapshot *s, uint32_t family);
const struct snapshot_series *snapshot_family_series(const struct snapshot *s, uint32_t family,
						     uint32_t i);
const uint64_t *snapshot_value_at(const struct snapshot *s, uint32_t value);
const struct snapshot_exemplar *snapshot_exemplar_at(const struct snapshot *s, uint32_t exemplar);

/* The same at once, for encoders: one call a body instead of several a line. */
struct snapshot_view {
	const struct snapshot_family *families;
	uint32_t n_families;
	const struct snapshot_series *series; /* indexed by snapshot_family.series[i] */
	const uint64_t *values;
	const struct snapshot_exemplar *exemplars;
};
struct snapshot_view snapshot_view(const struct snapshot *s);

/* Refused because a limit was reached or a name clashed, since snapshot_new. */
uint64_t snapshot_refused(const struct snapshot *s);

/* Bounds from the integers of a shared file: nanoseconds where `in_ns`, else as they are.
 * 0; -EINVAL more than BLIX_BOUNDS_MAX, none, or not ascending as doubles. */
int snapshot_bounds_from(const uint64_t *bounds, uint32_t n, bool in_ns,
			 struct snapshot_bounds *ret_bounds);

/* A row of the catalogue as a family: type, number, bounds, unit and names follow from it. */
int snapshot_family_of(struct snapshot *s, const struct blix_metric *metric,
		       uint64_t created_unix_ns, uint32_t *ret_family);

/* Relation of the catalogue's `subset_of` column: for each series T of the superset, the sum over
 * the subset's series that carry all labels of T never exceeds T. Counters are read one after the
 * other while a node counts, so a failure may be seen before its attempt. The excess is taken from
 * the series that grew most since the last call, which keeps every counter monotone; where no
 * growth is left (a new incarnation), from the largest. Series that only overflowed label sets
 * share are left alone unless T has no labels. Families of one another's kind of number only.
 * Call after all values are set. */
void snapshot_clamp_subsets(struct snapshot *s);

#endif
