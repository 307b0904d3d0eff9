/* agent/model/snapshot_catalogue.c - families from rows of the catalogue, bounds from integers.
 * Includes shm/metric.h, model/ and libc; one thread at a time a snapshot. */
#include "agent/model/number.h"
#include "agent/model/snapshot.h"

#include <errno.h>
#include <string.h>

int snapshot_bounds_from(const uint64_t *bounds, uint32_t n, bool in_ns,
			 struct snapshot_bounds *ret_bounds)
{
	struct snapshot_bounds b = {.n = n};

	if (n == 0 || n > BLIX_BOUNDS_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < n; i++) {
		b.value[i] = in_ns ? number_ns_to_f64(bounds[i]) : (double)bounds[i];
		if (i > 0 && b.value[i] <= b.value[i - 1])
			return -EINVAL;
		*number_put_le(b.le[i], b.value[i]) = '\0';
	}
	*ret_bounds = b;
	return 0;
}

static enum snapshot_type type_of(enum blix_kind kind)
{
	if (kind == BLIX_COUNTER)
		return SNAPSHOT_COUNTER;
	return kind == BLIX_HISTOGRAM ? SNAPSHOT_HISTOGRAM : SNAPSHOT_GAUGE;
}

static enum snapshot_number number_of(enum blix_kind kind, const char *unit)
{
	if (kind == BLIX_GAUGE_F64)
		return SNAPSHOT_F64;
	if (blix_stored_in_ns(kind, unit))
		return SNAPSHOT_NS;
	return kind == BLIX_GAUGE || kind == BLIX_UPDOWN ? SNAPSHOT_I64 : SNAPSHOT_U64;
}

int snapshot_family_of(struct snapshot *s, const struct blix_metric *metric,
		       uint64_t created_unix_ns, uint32_t *ret_family)
{
	struct snapshot_bounds bounds = {0};
	struct snapshot_family spec = {
		.name = metric->name,
		.alias = metric->seed,
		.help = metric->help,
		.unit = metric->unit,
		.subset_of = metric->subset_of,
		.type = type_of(metric->kind),
		.number = number_of(metric->kind, metric->unit),
		.updown = metric->kind == BLIX_UPDOWN,
		.created_unix_ns = type_of(metric->kind) == SNAPSHOT_GAUGE ? 0 : created_unix_ns,
	};

	if (metric->kind == BLIX_HISTOGRAM) {
		const struct blix_bounds *layout = blix_layout_bounds(metric->layout);

		bounds.n = layout->n;
		memcpy(bounds.value, layout->seconds, sizeof(bounds.value));
		spec.bounds = &bounds;
	}
	return snapshot_family(s, &spec, ret_family);
}
