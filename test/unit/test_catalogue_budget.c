/* Goal: a node that uses every metric of the catalogue at all its labels fills at most 70 % of a
 * default file, so that its own metrics and growth have room.
 * Method: add up what the rows of the node take by the rules of the registry: cells, series,
 * gauges, exemplars, strings. The sums are also held against a floor, so that a change that makes
 * this addition forget something is seen. */
#include "shm/buckets.h"
#include "shm/layout.h"
#include "shm/metric.h"

#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <string.h>

TestSuite(catalogue_budget, .timeout = 30);

enum {
	/* Sizes of a default file. */
	CELLS = 8192,
	SERIES = 4096,
	GAUGES = 1024,
	EXEMPLARS = 8192,
	STRING_BYTES = 256 << 10,

	SHARE_PERCENT = 70,
	LABEL_VALUE_BYTES = 16,
};

struct need {
	uint64_t cells;
	uint64_t series;
	uint64_t gauges;
	uint64_t exemplars;
	uint64_t string_bytes;
	uint64_t histogram_series;
};

/* STRINGS holds {u16 length, bytes} padded to 8. */
static uint64_t string_bytes(size_t len)
{
	return (sizeof(uint16_t) + len + 7) / 8 * 8;
}

static void add_series(struct need *need, const struct blix_metric *m, uint64_t n)
{
	uint32_t buckets = blix_layout_bounds(m->layout)->n + 1;

	need->series += n;
	switch (m->kind) {
	case BLIX_COUNTER:
		need->exemplars += n;
		need->cells += n;
		break;
	case BLIX_UPDOWN:
		need->cells += n;
		break;
	case BLIX_GAUGE:
	case BLIX_GAUGE_F64:
		need->gauges += n;
		break;
	case BLIX_HISTOGRAM:
		need->cells += n * (buckets + 1); /* and the sum */
		need->exemplars += n * buckets;
		need->histogram_series += n;
		break;
	}
}

/* Nothing is shared between metrics here; the registry does share equal strings. */
static void add_strings(struct need *need, const struct blix_metric *m, uint32_t n_keys,
			const uint32_t *key_lens)
{
	need->string_bytes += string_bytes(strlen(m->name)) + string_bytes(strlen(m->help)) +
			      string_bytes(strlen(m->unit));
	for (uint32_t i = 0; i < n_keys; i++)
		need->string_bytes += string_bytes(key_lens[i]);
	need->string_bytes += (uint64_t)m->max_series * n_keys * string_bytes(LABEL_VALUE_BYTES);
}

static struct need whole_catalogue(void)
{
	struct need need = {.cells = 1, .gauges = 1}; /* the void ones */

	for (const struct blix_metric *m = blix_metric_next(NULL); m; m = blix_metric_next(m)) {
		struct blix_labels labels;
		if (m->owner != BLIX_OWNER_NODE)
			continue;
		blix_labels_begin(&labels, m->labels);
		add_series(&need, m, m->max_series);
		if (labels.n_keys > 0)
			add_series(&need, m, 1); /* the overflow series */
		add_strings(&need, m, labels.n_keys, labels.key_lens);
	}
	return need;
}

static void assert_share(const char *what, uint64_t used, uint64_t size, uint64_t floor)
{
	cr_log_info("%s: %lu of %lu, %lu %%", what, used, size, used * 100 / size);
	cr_assert_leq(used * 100, size * SHARE_PERCENT, "%s: %lu of %lu", what, used, size);
	cr_assert_geq(used, floor, "%s: only %lu", what, used);
}

Test(catalogue_budget, the_whole_catalogue_at_full_labels_takes_at_most_70_percent)
{
	struct need need = whole_catalogue();

	assert_share("cells", need.cells, CELLS, 2000);
	assert_share("series", need.series, SERIES, 500);
	assert_share("gauges", need.gauges, GAUGES, 15);
	assert_share("exemplars", need.exemplars, EXEMPLARS, 2000);
	assert_share("string bytes", need.string_bytes, STRING_BYTES, 10000);
}

Test(catalogue_budget,
     with_exponential_cells_as_well_it_takes_at_most_70_percent_of_the_largest_file)
{
	struct need need = whole_catalogue();
	uint64_t cells = need.cells + need.histogram_series * BLIX_EXP_CELLS;

	assert_share("cells with both histograms", cells, BLIX_CAP_CELLS, 20000);
}

Test(catalogue_budget, a_histogram_takes_its_buckets_and_the_sum)
{
	const struct blix_metric *m = NULL;
	struct need need = {0};

	cr_assert_eq(blix_metric_describe(BLIX_raft_proposal_duration_seconds, &m), 0);
	add_series(&need, m, 1);
	cr_assert_eq(need.cells, 16 + 1 + 1);
	cr_assert_eq(need.exemplars, 16 + 1);
	cr_assert_eq(need.series, 1);
	cr_assert_eq(need.gauges, 0);
}

Test(catalogue_budget, a_string_takes_its_length_word_and_padding)
{
	cr_assert_eq(string_bytes(0), 8);
	cr_assert_eq(string_bytes(6), 8);
	cr_assert_eq(string_bytes(7), 16);
	cr_assert_eq(string_bytes(14), 16);
}
