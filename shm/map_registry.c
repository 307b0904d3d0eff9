/* shm/map_registry.c - the node's metrics and series as private, validated copies.
 *
 * The registry only grows. The counts are loaded in the order series, metrics, layouts, strings:
 * the writer publishes in the opposite order, so what a counted descriptor refers to is there. Each
 * descriptor is copied once, judged, and taken or skipped; a bad one never harms the good ones.
 * Names, series, cells, gauges, exemplars and slots have one owner each: who comes second is bad.
 *
 * Thread rule: as the map. Includes: shm/ only. */
#include "shm/map_private.h"

#include "shm/atomic.h"
#include "shm/buckets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	NAMES_PER_METRIC = 4, /* a histogram's own, _bucket, _sum, _count */
};

enum key_domain { KEY_SAMPLE_NAME = 1, KEY_SERIES = 2 };

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Element `index` of a table; bytes this writer does not have read as zero. */
static void copy_element(void *ret_copy, size_t size, const struct blix_view *view, uint64_t off,
			 uint32_t stride, uint32_t index)
{
	memset(ret_copy, 0, size);
	blix_map_copy_words(ret_copy, view->base + off + (uint64_t)index * stride,
			    stride < size ? stride : size);
}

/* ---- ownership ------------------------------------------------------------------------------- */

static uint64_t *bitmap_new(uint64_t bits)
{
	return calloc(bits / 64 + 1, sizeof(uint64_t));
}

/* Are first .. first + n - 1 below `limit` and nobody's? */
static bool range_free(const uint64_t *taken, uint32_t limit, uint32_t first, uint32_t n)
{
	if (first > limit || n > limit - first)
		return false;
	for (uint32_t i = first; i < first + n; i++)
		if (taken[i / 64] >> (i % 64) & 1)
			return false;
	return true;
}

static void range_take(uint64_t *taken, uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n; i++)
		taken[i / 64] |= UINT64_C(1) << (i % 64);
}

/* ---- bucket layouts -------------------------------------------------------------------------- */

static bool take_layout(struct blix_map_registry *r, const struct blix_view *view, uint32_t index)
{
	struct blix_map_layout *l = &r->layouts[index];
	struct blix_layout_desc d;

	copy_element(&d, sizeof(d), view, view->layouts_off, view->layouts_stride, index);
	l->n_bounds = BLIX_NO_ID;
	if (d.n_bounds > BLIX_MAP_BOUNDS_MAX)
		return false;
	for (uint32_t i = 1; i < d.n_bounds; i++)
		if (d.bounds[i] <= d.bounds[i - 1])
			return false;
	memcpy(l->bounds, d.bounds, sizeof(l->bounds));
	l->n_bounds = d.n_bounds;
	return true;
}

static const struct blix_map_layout *get_layout(const struct blix_map_registry *r, uint32_t index)
{
	if (index >= r->n_layouts || r->layouts[index].n_bounds == BLIX_NO_ID)
		return NULL;
	return &r->layouts[index];
}

/* ---- metrics --------------------------------------------------------------------------------- */

static uint64_t name_key(const struct blix_map_registry *r, const char *name, const char *suffix)
{
	uint64_t hash = KEY_SAMPLE_NAME;
	char sample[MAP_NAME_BYTES_MAX + 8];
	size_t len = strlen(name);
	size_t suffix_len = strlen(suffix);

	memcpy(sample, name, len);
	memcpy(sample + len, suffix, suffix_len);
	return blix_map_keys_hash(&r->keys, hash, sample, len + suffix_len);
}

static uint64_t family_key(const struct blix_map_registry *r, const char *name)
{
	size_t len = strlen(name);

	return blix_map_keys_hash(&r->keys, KEY_SAMPLE_NAME, name, len - strlen("_total"));
}

static bool ends_in_total(const char *name)
{
	size_t len = strlen(name);

	return len > strlen("_total") && strcmp(name + len - strlen("_total"), "_total") == 0;
}

/* Every sample and family name that this metric puts into an exposition. */
static size_t sample_keys(const struct blix_map_registry *r, const struct blix_map_metric *m,
			  uint64_t keys[NAMES_PER_METRIC])
{
	size_t n = 0;

	keys[n++] = name_key(r, m->name, "");
	if (m->kind == BLIX_HISTOGRAM) {
		keys[n++] = name_key(r, m->name, "_bucket");
		keys[n++] = name_key(r, m->name, "_sum");
		keys[n++] = name_key(r, m->name, "_count");
	} else if (m->kind == BLIX_COUNTER && ends_in_total(m->name)) {
		keys[n++] = family_key(r, m->name);
	}
	return n;
}

static bool claim_names(struct blix_map_registry *r, const struct blix_map_metric *m)
{
	uint64_t keys[NAMES_PER_METRIC];
	size_t n = sample_keys(r, m, keys);

	for (size_t i = 0; i < n; i++)
		if (blix_map_keys_has(&r->keys, keys[i]))
			return false;
	for (size_t i = 0; i < n; i++)
		if (blix_map_keys_add(&r->keys, keys[i]))
			return false;
	return true;
}

/* Keys that the exposition formats use themselves. */
static bool is_reserved_key(const char *key)
{
	return strncmp(key, "__", 2) == 0 || strcmp(key, "le") == 0 ||
	       strcmp(key, "quantile") == 0 || strcmp(key, "otel_metric_overflow") == 0;
}

static bool take_label_keys(struct blix_map_registry *r, const struct blix_view *view,
			    const struct blix_metric_desc *d, struct blix_map_metric *m)
{
	if (d->n_label_keys > BLIX_LABELS_MAX)
		return false;
	for (uint32_t i = 0; i < d->n_label_keys; i++) {
		const char *key = blix_map_get_string(r, view, d->label_key_ids[i]);

		if (!key || !blix_map_is_name(key) || is_reserved_key(key))
			return false;
		for (uint32_t before = 0; before < i; before++)
			if (strcmp(key, m->label_keys[before]) == 0)
				return false;
		m->label_keys[i] = key;
	}
	m->n_label_keys = d->n_label_keys;
	return true;
}

static bool take_numbers(struct blix_map_registry *r, const struct blix_view *view,
			 const struct blix_metric_desc *d, struct blix_map_metric *m)
{
	bool histogram = d->kind == BLIX_HISTOGRAM;

	if (d->kind < BLIX_COUNTER || d->kind > BLIX_HISTOGRAM)
		return false;
	if (!histogram && d->flags & BLIX_METRIC_EXPONENTIAL)
		return false;
	if (d->overflow_series != BLIX_NO_ID && d->overflow_series >= view->n_series)
		return false;
	if (!range_free(r->slots_taken, MAP_SLOTS_MAX, d->slot, 1))
		return false;
	m->layout = histogram ? get_layout(r, d->layout_id) : NULL;
	if (histogram && !m->layout)
		return false;
	m->slot = d->slot;
	m->kind = d->kind;
	m->flags = d->flags;
	m->max_series = d->max_series;
	m->overflow_series = d->overflow_series;
	return true;
}

static bool take_metric(struct blix_map_registry *r, const struct blix_view *view, uint32_t index)
{
	struct blix_metric_desc d;
	struct blix_map_metric m = {0};

	copy_element(&d, sizeof(d), view, view->metrics_off, view->metrics_stride, index);
	m.name = blix_map_get_string(r, view, d.name_id);
	m.help = blix_map_get_line(r, view, d.help_id);
	m.unit = blix_map_get_line(r, view, d.unit_id);
	if (!m.name || !m.help || !m.unit || !blix_map_is_name(m.name))
		return false;
	if (!take_numbers(r, view, &d, &m) || !take_label_keys(r, view, &d, &m) ||
	    !claim_names(r, &m))
		return false;
	range_take(r->slots_taken, m.slot, 1);
	r->metrics[index] = m;
	return true;
}

static const struct blix_map_metric *get_metric(const struct blix_map_registry *r, uint32_t index)
{
	if (index >= r->n_metrics || !r->metrics[index].name)
		return NULL;
	return &r->metrics[index];
}

/* ---- series ---------------------------------------------------------------------------------- */

static bool take_label_values(struct blix_map_registry *r, const struct blix_view *view,
			      const struct blix_series_desc *d, const struct blix_map_metric *m,
			      struct blix_map_series *s)
{
	for (uint32_t i = 0; i < m->n_label_keys; i++) {
		s->label_values[i] =
			s->overflow ? "" : blix_map_get_string(r, view, d->label_val_ids[i]);
		if (!s->label_values[i])
			return false;
	}
	return true;
}

/* Two series of one metric with the same values would be one and the same in any output. */
static uint64_t series_key(const struct blix_map_registry *r, const struct blix_map_metric *m,
			   const struct blix_map_series *s)
{
	const uint64_t head[2] = {s->metric, s->overflow};
	uint64_t hash = blix_map_keys_hash(&r->keys, KEY_SERIES, head, sizeof(head));

	for (uint32_t i = 0; i < m->n_label_keys; i++)
		hash = blix_map_keys_hash(&r->keys, hash, s->label_values[i],
					  strlen(s->label_values[i]));
	return hash;
}

static bool is_gauge(const struct blix_map_metric *m)
{
	return m->kind == BLIX_GAUGE || m->kind == BLIX_GAUGE_F64;
}

/* Cells a series of this metric has; a newer minor may append more, which are not ours to read. */
static uint32_t cells_needed(const struct blix_map_metric *m)
{
	if (is_gauge(m))
		return 0;
	if (m->kind != BLIX_HISTOGRAM)
		return 1;
	return m->layout->n_bounds + 2 + (m->flags & BLIX_METRIC_EXPONENTIAL ? BLIX_EXP_CELLS : 0);
}

static uint32_t exemplars_wanted(const struct blix_map_metric *m, const struct blix_series_desc *d)
{
	uint32_t known =
		m->kind == BLIX_HISTOGRAM ? m->layout->n_bounds + 1 : m->kind == BLIX_COUNTER;

	return d->exemplar_idx == BLIX_NO_ID ? 0 : min_u32(d->n_exemplars, known);
}

/* Cell 0 and gauge 0 are where a writer that ran out of room lets its updates go. */
static bool records_nowhere(const struct blix_series_desc *d, const struct blix_map_metric *m)
{
	if (is_gauge(m))
		return d->gauge_idx == BLIX_NO_ID || d->gauge_idx == 0;
	return d->first_cell == 0;
}

/* Claim what the series needs of cells, gauges and exemplars: all of it or nothing. A damaged
 * descriptor cannot claim more than its kind needs, so it takes little from others. */
static bool take_places(struct blix_map_registry *r, const struct blix_view *view,
			const struct blix_series_desc *d, const struct blix_map_metric *m,
			struct blix_map_series *s)
{
	s->n_cells = cells_needed(m);
	s->first_cell = s->n_cells ? d->first_cell : 0;
	s->gauge_idx = is_gauge(m) ? d->gauge_idx : BLIX_NO_ID;
	s->n_exemplars = exemplars_wanted(m, d);
	s->exemplar_idx = s->n_exemplars ? d->exemplar_idx : BLIX_NO_ID;

	if (d->n_cells < s->n_cells ||
	    !range_free(r->cells_taken, view->lane.n_cells, s->first_cell, s->n_cells))
		return false;
	if (is_gauge(m) && !range_free(r->gauges_taken, view->n_gauges, s->gauge_idx, 1))
		return false;
	if (s->n_exemplars &&
	    !range_free(r->exemplars_taken, view->n_exemplars, s->exemplar_idx, s->n_exemplars))
		return false;
	if (blix_map_keys_add(&r->keys, series_key(r, m, s)))
		return false;
	range_take(r->cells_taken, s->first_cell, s->n_cells);
	range_take(r->gauges_taken, is_gauge(m) ? s->gauge_idx : 0, is_gauge(m));
	range_take(r->exemplars_taken, s->exemplar_idx, s->n_exemplars);
	return true;
}

static bool take_series(struct blix_map_registry *r, const struct blix_view *view, uint32_t index)
{
	struct blix_map_series *taken = &r->series[index];
	const struct blix_map_metric *m;
	struct blix_map_series s = {0};
	struct blix_series_desc d;

	copy_element(&d, sizeof(d), view, view->series_off, view->series_stride, index);
	taken->metric = BLIX_NO_ID;
	m = get_metric(r, d.metric);
	if (!m)
		return false;
	if (records_nowhere(&d, m))
		return true; /* nothing to read, and nothing wrong */
	s.metric = d.metric;
	s.overflow = d.flags & BLIX_SERIES_OVERFLOW;
	if (!take_label_values(r, view, &d, m, &s) || !take_places(r, view, &d, m, &s))
		return false;
	*taken = s;
	return true;
}

/* ---- growing --------------------------------------------------------------------------------- */

typedef bool (*taker)(struct blix_map_registry *r, const struct blix_view *view, uint32_t index);

/* Take what is new of one table, one after the other. A count that shrank is not believed, and
 * beyond the table's end there is nothing. */
static void take_new(struct blix_map_registry *r, const struct blix_view *view, uint32_t *count,
		     uint32_t until, taker take)
{
	while (*count < until) {
		r->rejected += !take(r, view, *count);
		(*count)++;
		r->generation++;
	}
}

int blix_map_registry_load(struct blix_map_registry *registry, const struct blix_view *view)
{
	struct blix_map_registry *r = registry;
	const struct blix_header *h = blix_view_header(view);
	uint64_t rejected = r->rejected;
	/* Each pairs with the release of its own publication, and the order with the writer's. */
	uint32_t series = blix_load_acquire(&h->reg_series);
	uint32_t metrics = blix_load_acquire(&h->reg_metrics);
	uint32_t layouts = blix_load_acquire(&h->reg_layouts);

	blix_map_strings_refresh(r, view);
	take_new(r, view, &r->n_layouts, min_u32(layouts, view->n_layouts), take_layout);
	take_new(r, view, &r->n_metrics, min_u32(metrics, view->n_metrics), take_metric);
	take_new(r, view, &r->n_series, min_u32(series, view->n_series), take_series);
	return r->rejected == rejected ? 0 : -EPROTO;
}

int blix_map_registry_init(struct blix_map_registry *registry, const struct blix_view *view)
{
	struct blix_map_registry *r = registry;

	*r = (struct blix_map_registry){.arena_left = 2 * view->strings_len};
	r->layouts = calloc(view->n_layouts + 1u, sizeof(*r->layouts));
	r->metrics = calloc(view->n_metrics + 1u, sizeof(*r->metrics));
	r->series = calloc(view->n_series + 1u, sizeof(*r->series));
	r->strings = calloc(view->strings_len / 8 + 1, sizeof(*r->strings));
	r->cells_taken = bitmap_new(view->lane.n_cells);
	r->gauges_taken = bitmap_new(view->n_gauges);
	r->exemplars_taken = bitmap_new(view->n_exemplars);
	r->slots_taken = bitmap_new(MAP_SLOTS_MAX);
	if (!r->layouts || !r->metrics || !r->series || !r->strings || !r->cells_taken ||
	    !r->gauges_taken || !r->exemplars_taken || !r->slots_taken)
		return -ENOMEM;
	return blix_map_keys_init(&r->keys,
				  (uint64_t)NAMES_PER_METRIC * view->n_metrics + view->n_series);
}

void blix_map_registry_done(struct blix_map_registry *registry)
{
	struct blix_map_registry *r = registry;

	blix_map_strings_done(r);
	free(r->layouts);
	free(r->metrics);
	free(r->series);
	free(r->cells_taken);
	free(r->gauges_taken);
	free(r->exemplars_taken);
	free(r->slots_taken);
	blix_map_keys_done(&r->keys);
}
