/* shm/format.c - where each part of a new file goes, and the bytes that never change.
 *
 * Writer side; pure arithmetic over the caller's memory. Thread rule: none, it keeps no state.
 * Includes: shm/ only. */
#include "shm/format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	TABLE_ALIGN = 64,
	CONTROL_ALIGN = 4096, /* its own page where pages are small: see shm-abi, CONTROL */
	STRING_ALIGN = 8,
	SLOTS_DEFAULT = 128,
	SLOTS0_FACTOR = 3, /* lane 0 has as many slots again, three times over */
	LANES_MIN = 16,
	LANES_MAX = 64,
	RING_TOTAL = 32 << 20,
	RING_MIN = 256 << 10,
	RING_MAX = 1 << 20,
	CELLS_MIN = 2, /* the void cell and one that counts */
};

static uint64_t align_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) & ~(to - 1);
}

static uint32_t clamp_u32(uint32_t value, uint32_t low, uint32_t high)
{
	return value < low ? low : value > high ? high : value;
}

static uint32_t pow2_floor(uint32_t value)
{
	return value ? UINT32_C(1) << (31 - __builtin_clz(value)) : 0;
}

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
	return value ? value : otherwise;
}

static bool in_range(uint32_t value, uint32_t low, uint32_t high)
{
	return value >= low && value <= high;
}

/* Replace each zero by its default. */
static struct blix_format_options with_defaults(const struct blix_format_options *wanted)
{
	struct blix_format_options o = *wanted;
	uint32_t n_cpus = clamp_u32(o.n_cpus, 1, LANES_MAX);

	o.lanes = or_default(o.lanes, clamp_u32(2 * n_cpus + 8, LANES_MIN, LANES_MAX));
	o.ring_bytes = or_default(o.ring_bytes,
				  clamp_u32(pow2_floor(RING_TOTAL / o.lanes), RING_MIN, RING_MAX));
	o.cells = or_default(o.cells, o.histograms_both ? 65536 : 8192);
	o.slots = or_default(o.slots, SLOTS_DEFAULT);
	o.strings_bytes = or_default(o.strings_bytes, 256 << 10);
	o.metrics = or_default(o.metrics, 512);
	o.series = or_default(o.series, 4096);
	o.layouts = or_default(o.layouts, 32);
	o.gauges = or_default(o.gauges, 1024);
	o.exemplars = or_default(o.exemplars, 8192);
	return o;
}

static bool options_valid(const struct blix_format_options *o)
{
	return in_range(o->lanes, 1, BLIX_CAP_LANES) &&
	       in_range(o->ring_bytes, BLIX_RING_BYTES_MIN, BLIX_RING_BYTES_MAX) &&
	       (o->ring_bytes & (o->ring_bytes - 1)) == 0 &&
	       in_range(o->cells, CELLS_MIN, BLIX_CAP_CELLS) &&
	       (uint64_t)o->lanes * o->cells <= BLIX_CAP_ALL_CELLS &&
	       in_range(o->slots, 1, BLIX_CAP_SLOTS) &&
	       in_range(o->strings_bytes, STRING_ALIGN, BLIX_CAP_STRINGS_BYTES) &&
	       in_range(o->metrics, 1, BLIX_CAP_METRICS) &&
	       in_range(o->series, 1, BLIX_CAP_SERIES) &&
	       in_range(o->layouts, 1, BLIX_CAP_LAYOUTS) &&
	       in_range(o->gauges, 1, BLIX_CAP_GAUGES) &&
	       in_range(o->exemplars, 1, BLIX_CAP_EXEMPLARS) &&
	       o->resource_len <= BLIX_CAP_RESOURCE_BYTES;
}

/* Give `bytes` at the next boundary; *at moves behind them. */
static uint64_t take(uint64_t *at, uint64_t bytes, uint64_t boundary)
{
	uint64_t off = align_up(*at, boundary);

	*at = off + bytes;
	return off;
}

/* Offsets inside one lane, and the distance to the next. The writer's hot parts each start on a
 * block of their own. */
static void plan_lane(const struct blix_format_options *o, struct blix_view *v)
{
	uint64_t at = sizeof(struct blix_lane);

	v->lane.n_cells = o->cells;
	v->lane.n_slots = o->slots;
	v->lane.ring_bytes = o->ring_bytes;
	v->lane.cells_off = (uint32_t)take(&at, (uint64_t)o->cells * 8, BLIX_LINE);
	v->lane.ring_ctl_off = (uint32_t)take(&at, sizeof(struct blix_ring), BLIX_LINE);
	v->lane.slots_off =
		(uint32_t)take(&at, (uint64_t)o->slots * sizeof(struct blix_span_slot), BLIX_LINE);
	v->lane.ring_off = (uint32_t)take(&at, o->ring_bytes, BLIX_LINE);
	v->lane_stride = align_up(at, BLIX_SECTION_ALIGN);
}

static void plan_tables(const struct blix_format_options *o, struct blix_view *v, uint64_t *at)
{
	v->n_layouts = o->layouts;
	v->layouts_stride = sizeof(struct blix_layout_desc);
	v->layouts_off = take(at, (uint64_t)o->layouts * v->layouts_stride, TABLE_ALIGN);
	v->n_metrics = o->metrics;
	v->metrics_stride = sizeof(struct blix_metric_desc);
	v->metrics_off = take(at, (uint64_t)o->metrics * v->metrics_stride, TABLE_ALIGN);
	v->n_series = o->series;
	v->series_stride = sizeof(struct blix_series_desc);
	v->series_off = take(at, (uint64_t)o->series * v->series_stride, TABLE_ALIGN);
	v->strings_len = o->strings_bytes & ~(uint32_t)(STRING_ALIGN - 1);
	v->strings_off = take(at, v->strings_len, TABLE_ALIGN);
	v->resource_len = o->resource_len;
	v->resource_off = take(at, v->resource_len, TABLE_ALIGN);
	v->n_gauges = o->gauges;
	v->gauges_off = take(at, (uint64_t)o->gauges * 8, BLIX_LINE);
	v->n_exemplars = o->exemplars;
	v->exemplars_stride = sizeof(struct blix_exemplar);
	v->exemplars_off = take(at, (uint64_t)o->exemplars * v->exemplars_stride, BLIX_LINE);
	v->n_slots0 = clamp_u32(o->slots * SLOTS0_FACTOR, 0, BLIX_CAP_SLOTS - o->slots);
	v->slots0_off = take(at, (uint64_t)v->n_slots0 * sizeof(struct blix_span_slot), BLIX_LINE);
}

/* CONSUMER reaches to the end of the file, so that no page of it holds anything else. */
static void plan_consumer(struct blix_view *v, uint64_t *at)
{
	uint64_t used = sizeof(struct blix_consumer) +
			(uint64_t)v->n_lanes * sizeof(struct blix_consumer_lane);

	v->consumer_off = take(at, used, BLIX_SECTION_ALIGN);
	v->control_off = take(at, sizeof(struct blix_control), CONTROL_ALIGN);
	v->size = align_up(*at, BLIX_SECTION_ALIGN);
	v->consumer_len = v->size - v->consumer_off;
}

int blix_format_plan(const struct blix_format_options *options, struct blix_view *ret_view)
{
	struct blix_format_options o = with_defaults(options);
	struct blix_view v = {0};
	uint64_t at = BLIX_PAGE_HEADER;

	if (!options_valid(&o))
		return -EINVAL;

	plan_tables(&o, &v, &at);
	plan_lane(&o, &v);
	v.n_lanes = o.lanes;
	v.lanes_off = take(&at, v.lane_stride * v.n_lanes, BLIX_SECTION_ALIGN);
	plan_consumer(&v, &at);
	if (v.size > BLIX_CAP_FILE_BYTES)
		return -EINVAL;

	*ret_view = v;
	return 0;
}

struct blix_view blix_view_at(const struct blix_view *plan, void *base)
{
	struct blix_view v = *plan;

	v.base = base;
	v.consumer = v.base + v.consumer_off;
	return v;
}

/* A text must leave room for its terminator, so that a careless reader finds one. */
static int put_text(char *field, size_t size, const char *text)
{
	size_t len = text ? strlen(text) : 0;

	if (len >= size)
		return -EINVAL;
	memcpy(field, text ? text : "", len);
	return 0;
}

static int fill_texts(struct blix_header *h, const struct blix_format_identity *id)
{
	if (put_text(h->version, sizeof(h->version), id->version) ||
	    put_text(h->grpc_address, sizeof(h->grpc_address), id->grpc_address) ||
	    put_text(h->cluster, sizeof(h->cluster), id->cluster) ||
	    put_text(h->service_name, sizeof(h->service_name), id->service_name) ||
	    put_text(h->data_dir, sizeof(h->data_dir), id->data_dir))
		return -EINVAL;
	return 0;
}

static void fill_identity(struct blix_header *h, const struct blix_format_identity *id)
{
	memcpy(h->boot_id, id->boot_id, sizeof(h->boot_id));
	memcpy(h->incarnation, id->incarnation, sizeof(h->incarnation));
	memcpy(h->build_id, id->build_id, sizeof(h->build_id));
	h->node_id = id->node_id;
	h->pid = id->pid;
	h->uid = id->uid;
	h->pid_start_ticks = id->pid_start_ticks;
	h->pidns_ino = id->pidns_ino;
	h->timens_ino = id->timens_ino;
	h->flags = id->flags;
	h->open_mono_ns = id->open_mono_ns;
	h->open_real_ns = id->open_real_ns;
	h->pair_mono_ns = id->open_mono_ns;
	h->pair_real_ns = id->open_real_ns;
}

/* One TOC entry after the other; *n counts them. */
static struct blix_toc *put_toc(struct blix_toc *toc, uint32_t *n, uint32_t type, uint64_t off,
				uint64_t len, uint32_t stride, uint32_t count)
{
	toc[*n] = (struct blix_toc){
		.type = type, .off = off, .len = len, .stride = stride, .count = count};
	return &toc[(*n)++];
}

static uint32_t fill_toc(const struct blix_view *v, struct blix_toc *toc)
{
	struct blix_toc *lanes;
	uint32_t n = 0;

	put_toc(toc, &n, BLIX_SEC_STRINGS, v->strings_off, v->strings_len, 0, 0);
	put_toc(toc, &n, BLIX_SEC_METRICS, v->metrics_off,
		(uint64_t)v->n_metrics * v->metrics_stride, v->metrics_stride, v->n_metrics);
	put_toc(toc, &n, BLIX_SEC_SERIES, v->series_off, (uint64_t)v->n_series * v->series_stride,
		v->series_stride, v->n_series);
	put_toc(toc, &n, BLIX_SEC_BUCKET_LAYOUTS, v->layouts_off,
		(uint64_t)v->n_layouts * v->layouts_stride, v->layouts_stride, v->n_layouts);
	put_toc(toc, &n, BLIX_SEC_GAUGES, v->gauges_off, (uint64_t)v->n_gauges * 8, 8, v->n_gauges);
	put_toc(toc, &n, BLIX_SEC_EXEMPLARS, v->exemplars_off,
		(uint64_t)v->n_exemplars * v->exemplars_stride, v->exemplars_stride,
		v->n_exemplars);
	lanes = put_toc(toc, &n, BLIX_SEC_LANES, v->lanes_off, v->n_lanes * v->lane_stride,
			(uint32_t)v->lane_stride, v->n_lanes);
	memcpy(lanes->aux, &v->lane, sizeof(v->lane));
	put_toc(toc, &n, BLIX_SEC_SLOTS0, v->slots0_off,
		(uint64_t)v->n_slots0 * sizeof(struct blix_span_slot),
		sizeof(struct blix_span_slot), v->n_slots0);
	put_toc(toc, &n, BLIX_SEC_RESOURCE, v->resource_off, v->resource_len, 0, 0);
	put_toc(toc, &n, BLIX_SEC_CONSUMER, v->consumer_off, v->consumer_len,
		sizeof(struct blix_consumer_lane), v->n_lanes);
	put_toc(toc, &n, BLIX_SEC_CONTROL, v->control_off, sizeof(struct blix_control), 0, 1);
	return n;
}

int blix_format_fill(const struct blix_view *view, const struct blix_format_identity *identity)
{
	struct blix_header *h = blix_view_header(view);

	if (fill_texts(h, identity))
		return -EINVAL;

	memcpy(h->magic, BLIX_MAGIC, sizeof(h->magic));
	h->byte_order = BLIX_BYTE_ORDER;
	h->abi_major = BLIX_ABI_MAJOR;
	h->abi_minor = BLIX_ABI_MINOR;
	h->header_len = BLIX_PAGE_HEADER;
	h->toc_off = BLIX_TOC_OFFSET;
	h->toc_stride = sizeof(struct blix_toc);
	h->file_size = view->size;
	h->page_size = (uint32_t)sysconf(_SC_PAGESIZE);
	h->line_size = BLIX_LINE;
	h->lane_count = view->n_lanes;
	h->map_base = (uintptr_t)view->base;
	fill_identity(h, identity);
	h->toc_count = fill_toc(view, (struct blix_toc *)(void *)(view->base + BLIX_TOC_OFFSET));
	if (view->resource_len)
		memcpy(view->base + view->resource_off, identity->resource, view->resource_len);
	blix_view_consumer(view)->layout_ver = 1;
	h->static_crc32c = blix_crc32c(h, offsetof(struct blix_header, static_crc32c));
	return 0;
}
