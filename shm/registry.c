/* shm/registry.c - the private original of the registry, and its publication; see registry.h. */
#include "registry_private.h"
#include "buckets.h"

#include <errno.h>
#include <string.h>

enum {
	STRING_TABLE = BLIX_REGISTRY_STRINGS_BYTES / 4,
	SERIES_TABLE = 2 * BLIX_REGISTRY_SERIES,
	STRING_HEAD = 2, /* u16 length before the bytes */
};

static uint32_t hash_bytes(uint32_t seed, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	uint32_t hash = seed ^ 2166136261u; /* FNV-1a */

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ at[i]) * 16777619u;
	return hash;
}

/* ---- publication
 * ---------------------------------------------------------------------------------
 *
 * The file's tables are prefixes of ours. Bytes first, then the counts with release, those that
 * others refer to first: whoever reads the counts in the opposite order finds no dangling id. */

static void publish(struct blix_registry *r)
{
	struct blix_header *h;

	if (!r->attached ||
	    (r->published_strings == r->strings_used && r->published_layouts == r->n_layouts &&
	     r->published_metrics == r->n_metrics && r->published_series == r->n_series))
		return;
	h = blix_view_header(&r->view);
	memcpy(r->view.base + r->view.strings_off + r->published_strings,
	       r->strings + r->published_strings, r->strings_used - r->published_strings);
	for (uint32_t i = r->published_layouts; i < r->n_layouts; i++)
		memcpy(r->view.base + r->view.layouts_off + (uint64_t)i * r->view.layouts_stride,
		       &r->layouts[i], sizeof(r->layouts[i]));
	for (uint32_t i = r->published_metrics; i < r->n_metrics; i++)
		memcpy(r->view.base + r->view.metrics_off + (uint64_t)i * r->view.metrics_stride,
		       &r->metrics[i], sizeof(r->metrics[i]));
	for (uint32_t i = r->published_series; i < r->n_series; i++)
		memcpy(r->view.base + r->view.series_off + (uint64_t)i * r->view.series_stride,
		       &r->series[i], sizeof(r->series[i]));

	/* Pairs with the reader's acquire loads of series, metrics, layouts, strings. */
	blix_store_release(&h->reg_strings_len, r->strings_used);
	blix_store_release(&h->reg_layouts, r->n_layouts);
	blix_store_release(&h->reg_metrics, r->n_metrics);
	blix_store_release(&h->reg_series, r->n_series);
	blix_store_release(&h->reg_gen, blix_load_relaxed(&h->reg_gen) + 1);
	r->published_strings = r->strings_used;
	r->published_layouts = r->n_layouts;
	r->published_metrics = r->n_metrics;
	r->published_series = r->n_series;
}

static void count(struct blix_registry *r, enum blix_stat stat, uint64_t n)
{
	r->stats[stat] += n;
	if (r->attached)
		blix_add_shared(&blix_view_header(&r->view)->stats[stat], n);
}

void blix_registry_count(struct blix_registry *r, enum blix_stat stat, uint64_t n)
{
	pthread_mutex_lock(&r->lock);
	count(r, stat, n);
	pthread_mutex_unlock(&r->lock);
}

/* ---- strings -------------------------------------------------------------------------------- */

static bool string_is(const struct blix_registry *r, uint32_t id, struct text text)
{
	const uint8_t *entry = r->strings + (size_t)id * 8;
	uint16_t len;

	memcpy(&len, entry, sizeof(len));
	return len == text.len && memcmp(entry + STRING_HEAD, text.at, len) == 0;
}

/* The place in the table where `text` is, or would go. */
static uint32_t *string_place(struct blix_registry *r, struct text text)
{
	uint32_t at = hash_bytes(0, text.at, text.len) % STRING_TABLE;

	/* At most one string in eight bytes, so half of the table is always free. */
	while (r->string_table[at] && !string_is(r, r->string_table[at] - 1, text))
		at = (at + 1) % STRING_TABLE;
	return &r->string_table[at];
}

/* Id of a string that is already there, or BLIX_NO_ID. */
static uint32_t string_find(struct blix_registry *r, struct text text)
{
	return *string_place(r, text) - 1;
}

static uint32_t string_bytes(struct text text)
{
	return (STRING_HEAD + text.len + 7) & ~7u;
}

/* Id of `text`, added if new; BLIX_NO_ID when the table is full (counted). */
static uint32_t intern(struct blix_registry *r, struct text text)
{
	uint32_t *place = string_place(r, text);
	uint16_t len = (uint16_t)text.len;

	if (*place)
		return *place - 1;
	if (string_bytes(text) > BLIX_REGISTRY_STRINGS_BYTES - r->strings_used) {
		count(r, BLIX_STAT_STRINGS_FULL, 1);
		return BLIX_NO_ID;
	}
	memcpy(r->strings + r->strings_used, &len, sizeof(len));
	memcpy(r->strings + r->strings_used + STRING_HEAD, text.at, text.len);
	*place = r->strings_used / 8 + 1;
	r->strings_used += string_bytes(text);
	return *place - 1;
}

/* ---- bucket layouts ------------------------------------------------------------------------- */

/* Index of the layout with these bounds, added if new; BLIX_NO_ID when there is no room. */
static uint32_t layout_of(struct blix_registry *r, const uint64_t *bounds, uint32_t n)
{
	struct blix_layout_desc *layout;

	for (uint32_t i = 0; i < r->n_layouts; i++)
		if (r->layouts[i].n_bounds == n &&
		    memcmp(r->layouts[i].bounds, bounds, n * sizeof(*bounds)) == 0)
			return i;
	if (r->n_layouts == BLIX_REGISTRY_LAYOUTS)
		return BLIX_NO_ID;
	layout = &r->layouts[r->n_layouts];
	layout->n_bounds = n;
	memcpy(layout->bounds, bounds, n * sizeof(*bounds));
	blix_grid_init(&r->grids[r->n_layouts], bounds, n);
	return r->n_layouts++;
}

/* ---- series --------------------------------------------------------------------------------- */

static uint32_t series_hash(uint32_t metric, const uint32_t ids[BLIX_LABELS_MAX])
{
	return hash_bytes(metric, ids, BLIX_LABELS_MAX * sizeof(*ids));
}

/* The place in the table where this label set is, or would go. */
static uint32_t *series_place(struct blix_registry *r, uint32_t metric,
			      const uint32_t ids[BLIX_LABELS_MAX])
{
	uint32_t at = series_hash(metric, ids) % SERIES_TABLE;

	for (; r->series_table[at]; at = (at + 1) % SERIES_TABLE) {
		const struct blix_series_desc *s = &r->series[r->series_table[at] - 1];

		if (s->metric == metric &&
		    memcmp(s->label_val_ids, ids, sizeof(s->label_val_ids)) == 0)
			break;
	}
	return &r->series_table[at];
}

static uint32_t cells_of(const struct blix_registry *r, const struct blix_metric_desc *m)
{
	switch (m->kind) {
	case BLIX_COUNTER:
	case BLIX_UPDOWN:
		return 1;
	case BLIX_HISTOGRAM:
		return r->layouts[m->layout_id].n_bounds + 2 + /* the +Inf bucket and the sum */
		       (m->flags & BLIX_METRIC_EXPONENTIAL ? BLIX_EXP_CELLS : 0);
	default:
		return 0;
	}
}

static uint32_t exemplars_of(const struct blix_registry *r, const struct blix_metric_desc *m)
{
	if (m->kind == BLIX_HISTOGRAM)
		return r->layouts[m->layout_id].n_bounds + 1;
	return m->kind == BLIX_COUNTER ? 1 : 0;
}

static uint32_t cell_limit(const struct blix_registry *r)
{
	if (r->cell_limit)
		return r->cell_limit;
	return r->exponential ? BLIX_REGISTRY_CELLS_BOTH : BLIX_REGISTRY_CELLS;
}

static bool is_gauge(uint32_t kind)
{
	return kind == BLIX_GAUGE || kind == BLIX_GAUGE_F64;
}

/* Is there room for one more series of this metric? */
static bool series_fits(const struct blix_registry *r, const struct blix_metric_desc *m)
{
	if (r->n_series == BLIX_REGISTRY_SERIES)
		return false;
	if (is_gauge(m->kind))
		return r->gauges_used + 1 < BLIX_REGISTRY_GAUGES;
	return (uint64_t)r->cells_used + 1 + cells_of(r, m) <= cell_limit(r);
}

static void give_exemplars(struct blix_registry *r, const struct blix_metric_desc *m,
			   struct blix_series_desc *s)
{
	uint32_t n = exemplars_of(r, m);

	if (n == 0 || s->flags & BLIX_SERIES_OVERFLOW)
		return;
	if (n > BLIX_REGISTRY_EXEMPLARS - r->exemplars_used) {
		count(r, BLIX_STAT_EXEMPLARS_FULL, 1);
		return;
	}
	s->exemplar_idx = r->exemplars_used;
	s->n_exemplars = n;
	r->exemplars_used += n;
}

/* Append a series; the caller has asked series_fits(). Index 0 of cells and gauges is void. */
static uint32_t series_add(struct blix_registry *r, uint32_t metric,
			   const uint32_t ids[BLIX_LABELS_MAX], uint32_t flags)
{
	const struct blix_metric_desc *m = &r->metrics[metric];
	struct blix_series_desc *s = &r->series[r->n_series];

	*s = (struct blix_series_desc){.metric = metric,
				       .n_cells = cells_of(r, m),
				       .gauge_idx = BLIX_NO_ID,
				       .exemplar_idx = BLIX_NO_ID,
				       .flags = flags};
	memcpy(s->label_val_ids, ids, sizeof(s->label_val_ids));
	if (is_gauge(m->kind)) {
		s->gauge_idx = ++r->gauges_used;
	} else {
		s->first_cell = r->cells_used + 1;
		r->cells_used += s->n_cells;
	}
	give_exemplars(r, m, s);
	if (!(flags & BLIX_SERIES_OVERFLOW))
		*series_place(r, metric, ids) = r->n_series + 1;
	return r->n_series++;
}

/* Where a label set goes that gets no series of its own. */
static uint32_t overflow_of(struct blix_registry *r, uint32_t metric)
{
	uint32_t series = r->metrics[metric].overflow_series;

	count(r, series == BLIX_NO_ID ? BLIX_STAT_NO_CELLS : BLIX_STAT_SERIES_OVERFLOW, 1);
	return series;
}

static bool find_ids(struct blix_registry *r, const struct text *values, uint32_t n,
		     uint32_t ids[BLIX_LABELS_MAX])
{
	for (uint32_t i = 0; i < n; i++) {
		ids[i] = string_find(r, values[i]);
		if (ids[i] == BLIX_NO_ID)
			return false;
	}
	return true;
}

/* The series with these values, added if new and if it fits. Strings are interned only for a series
 * that will exist: a flood of label values must not eat the string table. */
static uint32_t series_of(struct blix_registry *r, uint32_t metric, const struct text *values)
{
	const struct blix_metric_desc *m = &r->metrics[metric];
	uint32_t n = m->n_label_keys;
	uint32_t ids[BLIX_LABELS_MAX];

	memset(ids, 0xff, sizeof(ids)); /* BLIX_NO_ID beyond the keys */
	if (find_ids(r, values, n, ids)) {
		uint32_t found = *series_place(r, metric, ids);

		if (found)
			return found - 1;
	}
	if (r->series_of_metric[metric] >= m->max_series || !series_fits(r, m))
		return overflow_of(r, metric);
	for (uint32_t i = 0; i < n; i++) {
		ids[i] = intern(r, values[i]);
		if (ids[i] == BLIX_NO_ID)
			return overflow_of(r, metric);
	}
	r->series_of_metric[metric]++;
	return series_add(r, metric, ids, 0);
}

/* ---- metrics -------------------------------------------------------------------------------- */

/* Bytes of strings the candidate may need, so that it is added whole or not at all. */
static bool strings_fit(const struct blix_registry *r, const struct candidate *c)
{
	uint64_t bytes = string_bytes(c->name) + string_bytes(c->help) + string_bytes(c->unit);

	for (uint32_t i = 0; i < c->n_keys; i++)
		bytes += string_bytes(c->keys[i]);
	return bytes <= BLIX_REGISTRY_STRINGS_BYTES - r->strings_used;
}

static uint8_t flags_of(const struct blix_registry *r, const struct candidate *c)
{
	uint32_t flags = c->stored_ns ? BLIX_METRIC_STORED_NS : 0;

	/* The exponential grid is one of seconds; see buckets.h. */
	if (c->kind == BLIX_HISTOGRAM && c->stored_ns && r->exponential)
		flags |= BLIX_METRIC_EXPONENTIAL;
	return (uint8_t)flags;
}

/* Append a metric with its overflow series. Index, or BLIX_NO_ID when something is full. */
static uint32_t metric_add(struct blix_registry *r, const struct candidate *c)
{
	static const uint32_t no_values[BLIX_LABELS_MAX] = {BLIX_NO_ID, BLIX_NO_ID, BLIX_NO_ID,
							    BLIX_NO_ID, BLIX_NO_ID, BLIX_NO_ID,
							    BLIX_NO_ID, BLIX_NO_ID};
	struct blix_metric_desc *m = &r->metrics[r->n_metrics];
	uint32_t layout = BLIX_NO_ID;

	if (r->n_metrics == BLIX_REGISTRY_METRICS || !strings_fit(r, c))
		return BLIX_NO_ID;
	if (c->kind == BLIX_HISTOGRAM) {
		layout = layout_of(r, c->bounds, c->n_bounds);
		if (layout == BLIX_NO_ID)
			return BLIX_NO_ID;
	}
	*m = (struct blix_metric_desc){
		.slot = c->slot,
		.kind = (uint8_t)c->kind,
		.flags = flags_of(r, c),
		.n_label_keys = (uint8_t)c->n_keys,
		.name_id = intern(r, c->name),
		.help_id = intern(r, c->help),
		.unit_id = intern(r, c->unit),
		.layout_id = layout,
		.max_series = c->max_series,
		.overflow_series = BLIX_NO_ID,
	};
	for (uint32_t i = 0; i < BLIX_LABELS_MAX; i++)
		m->label_key_ids[i] = i < c->n_keys ? intern(r, c->keys[i]) : BLIX_NO_ID;
	if (c->n_keys > 0 && series_fits(r, m))
		m->overflow_series = series_add(r, r->n_metrics, no_values, BLIX_SERIES_OVERFLOW);
	r->metric_at_slot[c->slot] = (uint16_t)(r->n_metrics + 1);
	return r->n_metrics++;
}

/* A catalogue row as a candidate; false: its histogram has bounds that cannot be stored. */
static bool from_catalogue(const struct blix_metric *row, struct candidate *ret)
{
	struct blix_labels labels;

	*ret = (struct candidate){
		.slot = row->slot,
		.kind = row->kind,
		.name = text_of(row->name),
		.help = text_of(row->help),
		.unit = text_of(row->unit),
		.stored_ns = blix_stored_in_ns(row->kind, row->unit),
		.max_series = row->max_series,
	};
	blix_labels_begin(&labels, row->labels);
	ret->n_keys = labels.n_keys;
	for (uint32_t i = 0; i < labels.n_keys; i++)
		ret->keys[i] = (struct text){.at = labels.keys[i], .len = labels.key_lens[i]};
	if (row->kind == BLIX_HISTOGRAM) {
		const struct blix_bounds *bounds = blix_layout_bounds(row->layout);

		ret->bounds = bounds->ns;
		ret->n_bounds = bounds->n;
		return bounds->n > 0 && bounds->ns[0] > 0;
	}
	return true;
}

/* Index of the metric with this slot; catalogue metrics are added when first asked for. */
static uint32_t metric_at(struct blix_registry *r, uint32_t slot)
{
	const struct blix_metric *row;
	struct candidate c;

	if (slot >= sizeof(r->metric_at_slot) / sizeof(r->metric_at_slot[0]))
		return BLIX_NO_ID;
	if (r->metric_at_slot[slot])
		return r->metric_at_slot[slot] - 1u;
	if (blix_metric_describe(slot, &row) < 0 || row->owner != BLIX_OWNER_NODE ||
	    !from_catalogue(row, &c))
		return BLIX_NO_ID;
	return metric_add(r, &c);
}

static void add_zero_series(struct blix_registry *r, uint32_t metric, const char *column)
{
	struct blix_labels labels;
	struct text values[BLIX_LABELS_MAX];

	for (uint32_t i = 0; i < BLIX_LABELS_MAX; i++)
		values[i] = text_of("");

	blix_labels_begin(&labels, column);
	while (blix_labels_next(&labels)) {
		for (uint32_t i = 0; i < labels.n_keys; i++)
			values[i] =
				(struct text){.at = labels.values[i], .len = labels.value_lens[i]};
		series_of(r, metric, values);
	}
}

void blix_registry_catalogue(struct blix_registry *r)
{
	const struct blix_metric *row = NULL;

	pthread_mutex_lock(&r->lock);
	while ((row = blix_metric_next(row))) {
		uint32_t metric =
			row->owner == BLIX_OWNER_NODE ? metric_at(r, row->slot) : BLIX_NO_ID;

		if (metric != BLIX_NO_ID)
			add_zero_series(r, metric, row->labels);
	}
	publish(r);
	pthread_mutex_unlock(&r->lock);
}

/* ---- a program's own metrics ---------------------------------------------------------------- */

static struct text string_at(const struct blix_registry *r, uint32_t id)
{
	uint16_t len;

	memcpy(&len, r->strings + (size_t)id * 8, sizeof(len));
	return (struct text){.at = (const char *)r->strings + (size_t)id * 8 + STRING_HEAD,
			     .len = len};
}

static bool in_catalogue(const struct candidate *c)
{
	const struct blix_metric *row = NULL;

	while ((row = blix_metric_next(row)))
		if (blix_names_collide(c->name, c->kind, text_of(row->name), row->kind) ||
		    (row->seed &&
		     blix_names_collide(c->name, c->kind, text_of(row->seed), row->kind)))
			return true;
	return false;
}

/* Is the registered metric what the candidate asks for, in every respect? */
static bool same_metric(const struct blix_registry *r, const struct blix_metric_desc *m,
			const struct candidate *c)
{
	if (m->kind != c->kind || m->n_label_keys != c->n_keys || m->max_series != c->max_series ||
	    !same_text(string_at(r, m->name_id), c->name) ||
	    !same_text(string_at(r, m->help_id), c->help) ||
	    !same_text(string_at(r, m->unit_id), c->unit))
		return false;
	for (uint32_t i = 0; i < c->n_keys; i++)
		if (!same_text(string_at(r, m->label_key_ids[i]), c->keys[i]))
			return false;
	return c->kind != BLIX_HISTOGRAM || (r->layouts[m->layout_id].n_bounds == c->n_bounds &&
					     memcmp(r->layouts[m->layout_id].bounds, c->bounds,
						    c->n_bounds * sizeof(*c->bounds)) == 0);
}

static int register_locked(struct blix_registry *r, struct candidate *c, uint32_t *ret_slot)
{
	uint32_t metric;

	for (uint32_t i = 0; i < r->n_metrics; i++) {
		const struct blix_metric_desc *m = &r->metrics[i];

		if (m->slot >= BLIX_CATALOGUE_SLOTS && same_metric(r, m, c)) {
			*ret_slot = m->slot;
			return 0;
		}
		if (blix_names_collide(c->name, c->kind, string_at(r, m->name_id), m->kind))
			return -EEXIST;
	}
	if (in_catalogue(c))
		return -EEXIST;
	c->slot = BLIX_CATALOGUE_SLOTS + r->n_runtime;
	metric = metric_add(r, c);
	if (metric == BLIX_NO_ID)
		return -ENOSPC;
	r->n_runtime++;
	*ret_slot = c->slot;
	return 0;
}

int blix_registry_register(struct blix_registry *r, const struct blix_registry_spec *spec,
			   uint32_t *ret_slot)
{
	char help[BLIX_HELP_MAX];
	struct candidate c;
	int err = blix_spec_check(spec, help, &c);

	if (err < 0)
		return err;
	pthread_mutex_lock(&r->lock);
	err = register_locked(r, &c, ret_slot);
	if (err == 0)
		publish(r);
	pthread_mutex_unlock(&r->lock);
	return err;
}

/* ---- the rest of the interface -------------------------------------------------------------- */

static int resolve_locked(struct blix_registry *r, uint32_t slot, uint32_t kind_mask,
			  const struct text *values, size_t n_values, uint32_t *ret_index)
{
	uint32_t metric = metric_at(r, slot);

	if (metric == BLIX_NO_ID || !(kind_mask & (1u << r->metrics[metric].kind))) {
		count(r, BLIX_STAT_UNKNOWN_SLOT, 1);
		return -ENOENT;
	}
	if (n_values != r->metrics[metric].n_label_keys) {
		count(r, BLIX_STAT_LABEL_MISMATCH, 1);
		return -EINVAL;
	}
	*ret_index = series_of(r, metric, values);
	return *ret_index == BLIX_NO_ID ? -ENOSPC : 0;
}

int blix_registry_resolve(struct blix_registry *r, uint32_t slot, uint32_t kind_mask,
			  const char *const *values, size_t n_values,
			  struct blix_series_desc *ret_series)
{
	char bytes[BLIX_LABELS_MAX][BLIX_LABEL_VALUE_MAX];
	struct text texts[BLIX_LABELS_MAX];
	uint32_t index = BLIX_NO_ID;
	int err;

	for (size_t i = 0; i < BLIX_LABELS_MAX; i++)
		texts[i] = blix_text_clean(values && i < n_values ? values[i] : "", bytes[i],
					   BLIX_LABEL_VALUE_MAX);
	pthread_mutex_lock(&r->lock);
	err = resolve_locked(r, slot, kind_mask, texts, values ? n_values : 0, &index);
	if (err == 0)
		*ret_series = r->series[index];
	publish(r);
	pthread_mutex_unlock(&r->lock);
	return err;
}

uint32_t blix_registry_string(struct blix_registry *r, const char *from)
{
	char clean[BLIX_NAME_MAX];
	struct text text = blix_text_clean(from, clean, BLIX_NAME_MAX);
	uint32_t overflow;
	uint32_t id;

	if (text.len == 0)
		return BLIX_NO_ID;
	pthread_mutex_lock(&r->lock);
	overflow = intern(r, text_of("overflow")); /* first, while there is room */
	id = intern(r, text);
	publish(r);
	pthread_mutex_unlock(&r->lock);
	return id == BLIX_NO_ID ? overflow : id;
}

/* Without the lock: whoever has an id was told it after the bytes were there. */
const char *blix_registry_text(const struct blix_registry *r, uint32_t id, uint32_t *ret_len)
{
	struct text text = string_at(r, id);

	*ret_len = text.len;
	return text.at;
}

struct blix_metric_desc blix_registry_metric_of(struct blix_registry *r,
						const struct blix_series_desc *series)
{
	struct blix_metric_desc metric;

	pthread_mutex_lock(&r->lock);
	metric = r->metrics[series->metric];
	pthread_mutex_unlock(&r->lock);
	return metric;
}

uint32_t blix_registry_limit_cells(struct blix_registry *r, uint32_t cells)
{
	pthread_mutex_lock(&r->lock);
	if (cells < r->cells_used + 1)
		cells = r->cells_used + 1;
	r->cell_limit = cells;
	pthread_mutex_unlock(&r->lock);
	return cells;
}

bool blix_registry_set_exponential(struct blix_registry *r, bool on)
{
	bool differs = false;

	pthread_mutex_lock(&r->lock);
	r->exponential = on;
	for (uint32_t i = 0; i < r->n_metrics; i++) {
		const struct blix_metric_desc *m = &r->metrics[i];

		if (m->kind == BLIX_HISTOGRAM && m->flags & BLIX_METRIC_STORED_NS)
			differs |= !(m->flags & BLIX_METRIC_EXPONENTIAL) == on;
	}
	pthread_mutex_unlock(&r->lock);
	return differs;
}

int blix_registry_attach(struct blix_registry *r, const struct blix_view *view)
{
	int err = -ENOSPC;

	pthread_mutex_lock(&r->lock);
	if (view->strings_len < BLIX_REGISTRY_STRINGS_BYTES ||
	    view->n_metrics < BLIX_REGISTRY_METRICS || view->n_series < BLIX_REGISTRY_SERIES ||
	    view->n_layouts < BLIX_REGISTRY_LAYOUTS || view->n_gauges < BLIX_REGISTRY_GAUGES ||
	    view->n_exemplars < BLIX_REGISTRY_EXEMPLARS || view->lane.n_cells < r->cells_used + 1)
		goto out;
	r->view = *view;
	r->attached = true;
	r->cell_limit = view->lane.n_cells;
	r->published_strings = 0;
	r->published_layouts = 0;
	r->published_metrics = 0;
	r->published_series = 0;
	publish(r);
	for (uint32_t i = 0; i < BLIX_STAT_N; i++)
		blix_store_relaxed(&blix_view_header(view)->stats[i], r->stats[i]);
	err = 0;
out:
	pthread_mutex_unlock(&r->lock);
	return err;
}

void blix_registry_detach(struct blix_registry *r)
{
	pthread_mutex_lock(&r->lock);
	r->attached = false;
	pthread_mutex_unlock(&r->lock);
}

void blix_registry_before_fork(struct blix_registry *r)
{
	pthread_mutex_lock(&r->lock);
}

void blix_registry_after_fork(struct blix_registry *r)
{
	pthread_mutex_unlock(&r->lock);
}

void blix_registry_in_child(struct blix_registry *r)
{
	r->attached = false;
	pthread_mutex_init(&r->lock, NULL);
}
