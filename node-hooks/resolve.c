/* node-hooks/resolve.c - from slots and label values to handles; a program's own metrics.
 *
 * Thread rule: any thread; cold. */
#include "session.h"

#include <pthread.h>

struct blix_registry blix_registry_;

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* What is resolved before blix_open() takes its form from the environment. */
static void read_environment(void)
{
	blix_registry_set_exponential(&blix_registry_, blix_environment_histograms_both());
}

static bool resolve(uint32_t slot, uint32_t kind_mask, const char *const *values, size_t n_values,
		    struct blix_series_desc *ret_series)
{
	pthread_once(&once, read_environment);
	return blix_registry_resolve(&blix_registry_, slot, kind_mask, values, n_values,
				     ret_series) == 0;
}

blix_counter blix_counter_resolve(uint32_t slot, const char *const *values, size_t n_values)
{
	struct blix_series_desc s;

	if (!resolve(slot, 1u << BLIX_COUNTER, values, n_values, &s))
		return (blix_counter){.cell = 0, .exemplar = BLIX_NO_ID};
	return (blix_counter){.cell = s.first_cell, .exemplar = s.exemplar_idx};
}

blix_updown_counter blix_updown_resolve(uint32_t slot, const char *const *values, size_t n_values)
{
	struct blix_series_desc s;

	if (!resolve(slot, 1u << BLIX_UPDOWN, values, n_values, &s))
		return (blix_updown_counter){.cell = 0};
	return (blix_updown_counter){.cell = s.first_cell};
}

blix_gauge blix_gauge_resolve(uint32_t slot, const char *const *values, size_t n_values)
{
	struct blix_series_desc s;

	if (!resolve(slot, 1u << BLIX_GAUGE | 1u << BLIX_GAUGE_F64, values, n_values, &s))
		return (blix_gauge){.index = 0};
	return (blix_gauge){
		.index = s.gauge_idx,
		.kind = blix_registry_metric_of(&blix_registry_, &s).kind == BLIX_GAUGE ? 1 : 2,
	};
}

blix_histogram blix_histogram_resolve(uint32_t slot, const char *const *values, size_t n_values)
{
	struct blix_metric_desc metric;
	struct blix_series_desc s;

	if (!resolve(slot, 1u << BLIX_HISTOGRAM, values, n_values, &s))
		return (blix_histogram){.cell = 0, .exemplar = BLIX_NO_ID};
	metric = blix_registry_metric_of(&blix_registry_, &s);
	return (blix_histogram){
		.cell = s.first_cell,
		.exemplar = s.exemplar_idx,
		.layout = (uint16_t)metric.layout_id,
		.flags = metric.flags & BLIX_METRIC_EXPONENTIAL ? 1 : 0,
	};
}

int blix_metric_register(const struct blix_metric_spec *spec, uint32_t *ret_slot)
{
	struct blix_registry_spec wanted = {0};

	pthread_once(&once, read_environment);
	if (spec)
		wanted = (struct blix_registry_spec){
			.name = spec->name,
			.help = spec->help,
			.unit = spec->unit,
			.kind = (enum blix_kind)spec->kind,
			.label_keys = spec->label_keys,
			.n_label_keys = spec->n_label_keys,
			.max_series = spec->max_series,
			.bounds = spec->bounds,
			.n_bounds = spec->n_bounds,
		};
	return blix_registry_register(&blix_registry_, &wanted, ret_slot);
}
