/* shm/metric.c - the catalogue as data, and the few questions asked of it.
 *
 * Everything is constant, so every function is thread-safe and async-signal-safe. Includes libc
 * and metric.h only. */
#include "shm/metric.h"

#include <errno.h>
#include <string.h>

#define ROW(slot_, exposed, seed_, kind_, unit_, labels_, layout_, max_, owner_, tier_, subset_,   \
	    help_)                                                                                 \
	{                                                                                          \
		.slot = (slot_),                                                                   \
		.name = (exposed),                                                                 \
		.seed = sizeof(seed_) > 1 ? (seed_) : NULL,                                        \
		.kind = BLIX_##kind_,                                                              \
		.unit = (unit_),                                                                   \
		.labels = (labels_),                                                               \
		.layout = BLIX_LAYOUT_##layout_,                                                   \
		.max_series = (max_),                                                              \
		.owner = BLIX_OWNER_##owner_,                                                      \
		.tier = BLIX_TIER_##tier_,                                                         \
		.subset_of = sizeof(subset_) > 1 ? (subset_) : NULL,                               \
		.help = (help_),                                                                   \
	},

/* In ascending slot order, because the file is: the search below relies on it. */
static const struct blix_metric rows[] = {
#define METRIC(slot, name, ...)	    ROW(slot, "blixard_" #name, __VA_ARGS__)
#define METRIC_RAW(slot, name, ...) ROW(slot, #name, __VA_ARGS__)
#include "shm/metrics.def"
#undef METRIC
#undef METRIC_RAW
};

enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };

/* Two rows with one slot would be two equal cases of a switch: the compiler refuses them. */
static inline __attribute__((unused)) void every_slot_is_used_once(uint32_t slot)
{
	switch (slot) {
#define METRIC(number, ...)	case (number):
#define METRIC_RAW(number, ...) case (number):
#include "shm/metrics.def"
#undef METRIC
#undef METRIC_RAW
		break;
	}
}

int blix_metric_describe(uint32_t slot, const struct blix_metric **ret_metric)
{
	size_t low = 0;
	size_t high = N_ROWS;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (rows[middle].slot < slot)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == N_ROWS || rows[low].slot != slot)
		return -ENOENT;
	*ret_metric = &rows[low];
	return 0;
}

const struct blix_metric *blix_metric_find(const char *name, size_t len)
{
	for (size_t i = 0; i < N_ROWS; i++)
		if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0)
			return &rows[i];
	return NULL;
}

const struct blix_metric *blix_metric_next(const struct blix_metric *prev)
{
	if (!prev)
		return rows;
	return prev < &rows[N_ROWS - 1] ? prev + 1 : NULL;
}

const char *blix_unit_prometheus(const char *ucum)
{
	if (strcmp(ucum, "s") == 0)
		return "seconds";
	if (strcmp(ucum, "By") == 0)
		return "bytes";
	if (strcmp(ucum, "1") == 0)
		return "ratio";
	return "";
}

/* ---- bucket layouts ---------------------------------------------------------------------------
 *
 * X(ns, seconds, le): `le` is the shortest decimal that reads back as the same double, with a
 * point, so that every format and every release names a series alike. */

#define TIME_BOUNDS(X)                                                                             \
	X(100000, 0.0001, "0.0001")                                                                \
	X(250000, 0.00025, "0.00025")                                                              \
	X(500000, 0.0005, "0.0005")                                                                \
	X(1000000, 0.001, "0.001")                                                                 \
	X(2500000, 0.0025, "0.0025")                                                               \
	X(5000000, 0.005, "0.005")                                                                 \
	X(10000000, 0.01, "0.01")                                                                  \
	X(25000000, 0.025, "0.025")                                                                \
	X(50000000, 0.05, "0.05")                                                                  \
	X(100000000, 0.1, "0.1")                                                                   \
	X(250000000, 0.25, "0.25")                                                                 \
	X(500000000, 0.5, "0.5")                                                                   \
	X(1000000000, 1, "1.0")                                                                    \
	X(2500000000, 2.5, "2.5")                                                                  \
	X(5000000000, 5, "5.0")                                                                    \
	X(10000000000, 10, "10.0")

#define LONG_BOUNDS(X)                                                                             \
	X(100000000, 0.1, "0.1")                                                                   \
	X(250000000, 0.25, "0.25")                                                                 \
	X(500000000, 0.5, "0.5")                                                                   \
	X(1000000000, 1, "1.0")                                                                    \
	X(2500000000, 2.5, "2.5")                                                                  \
	X(5000000000, 5, "5.0")                                                                    \
	X(10000000000, 10, "10.0")                                                                 \
	X(30000000000, 30, "30.0")                                                                 \
	X(60000000000, 60, "60.0")                                                                 \
	X(120000000000, 120, "120.0")                                                              \
	X(300000000000, 300, "300.0")

/* 2^-17 to 2^3 s; 10^9 holds nine factors 2, so from 2^-9 s up they are whole nanoseconds. */
#define POW2_BOUNDS(X)                                                                             \
	X(0, 0x1p-17, "7.62939453125e-06")                                                         \
	X(0, 0x1p-16, "1.52587890625e-05")                                                         \
	X(0, 0x1p-15, "3.0517578125e-05")                                                          \
	X(0, 0x1p-14, "6.103515625e-05")                                                           \
	X(0, 0x1p-13, "0.0001220703125")                                                           \
	X(0, 0x1p-12, "0.000244140625")                                                            \
	X(0, 0x1p-11, "0.00048828125")                                                             \
	X(0, 0x1p-10, "0.0009765625")                                                              \
	X(1953125, 0x1p-9, "0.001953125")                                                          \
	X(3906250, 0x1p-8, "0.00390625")                                                           \
	X(7812500, 0x1p-7, "0.0078125")                                                            \
	X(15625000, 0x1p-6, "0.015625")                                                            \
	X(31250000, 0x1p-5, "0.03125")                                                             \
	X(62500000, 0x1p-4, "0.0625")                                                              \
	X(125000000, 0x1p-3, "0.125")                                                              \
	X(250000000, 0x1p-2, "0.25")                                                               \
	X(500000000, 0x1p-1, "0.5")                                                                \
	X(1000000000, 0x1p0, "1.0")                                                                \
	X(2000000000, 0x1p1, "2.0")                                                                \
	X(4000000000, 0x1p2, "4.0")                                                                \
	X(8000000000, 0x1p3, "8.0")

#define BOUND_ONE(ns, seconds, le)     +1
#define BOUND_NS(ns, seconds, le)      UINT64_C(ns),
#define BOUND_SECONDS(ns, seconds, le) seconds,
#define BOUND_LE(ns, seconds, le)      le,
#define LAYOUT(BOUNDS)                                                                             \
	{                                                                                          \
		.n = BOUNDS(BOUND_ONE), .ns = {BOUNDS(BOUND_NS)},                                  \
		.seconds = {BOUNDS(BOUND_SECONDS)}, .le = {BOUNDS(BOUND_LE)},                      \
	}

static const struct blix_bounds layouts[] = {
	[BLIX_LAYOUT_NONE] = {.n = 0},
	[BLIX_LAYOUT_TIME] = LAYOUT(TIME_BOUNDS),
	[BLIX_LAYOUT_LONG] = LAYOUT(LONG_BOUNDS),
	[BLIX_LAYOUT_POW2] = LAYOUT(POW2_BOUNDS),
};

const struct blix_bounds *blix_layout_bounds(enum blix_layout layout)
{
	size_t index = (size_t)layout;
	return &layouts[index < sizeof(layouts) / sizeof(layouts[0]) ? index : BLIX_LAYOUT_NONE];
}

/* ---- the labels column ----------------------------------------------------------------------- */

void blix_labels_begin(struct blix_labels *labels, const char *column)
{
	*labels = (struct blix_labels){0};
	while (*column && labels->n_keys < BLIX_LABELS_MAX) {
		size_t len = strcspn(column, ": ");
		labels->keys[labels->n_keys] = column;
		labels->key_lens[labels->n_keys] = (uint32_t)len;
		labels->n_keys++;
		column += strcspn(column, " ");
		column += strspn(column, " ");
	}
}

/* Put the value at position at[i] of key i in place. False when there are not that many. */
static bool load_value(struct blix_labels *labels, uint32_t i)
{
	const char *value = labels->keys[i] + labels->key_lens[i];

	if (*value != ':')
		return false;
	value++;
	for (uint32_t skip = labels->at[i]; skip > 0; skip--) {
		value += strcspn(value, ", ");
		if (*value != ',')
			return false;
		value++;
	}
	labels->values[i] = value;
	labels->value_lens[i] = (uint32_t)strcspn(value, ", ");
	return true;
}

bool blix_labels_next(struct blix_labels *labels)
{
	if (!labels->started) {
		labels->started = true;
		for (uint32_t i = 0; i < labels->n_keys; i++)
			if (!load_value(labels, i))
				return false;
		return true;
	}
	/* An odometer: the last key turns fastest, and a key that runs out carries to the left. */
	for (uint32_t i = labels->n_keys; i-- > 0;) {
		labels->at[i]++;
		if (load_value(labels, i))
			return true;
		labels->at[i] = 0;
		if (!load_value(labels, i))
			return false;
	}
	return false;
}
