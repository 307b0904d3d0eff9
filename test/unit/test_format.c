/* Goal: a planned file is what the specification says, and no wish of a caller makes the parts
 * overlap, lose their alignment or pass a cap.
 * Method: check the defaults, then plan at both edges of each option and walk all parts in file
 * order; fill real memory and read it back byte by byte. */
#include "shm/format.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MIB = 1 << 20 };

struct part {
	const char *name;
	uint64_t off;
	uint64_t len;
	uint64_t align;
};

enum { N_PARTS = 12 };

static void list_parts(const struct blix_view *v, struct part parts[N_PARTS])
{
	const struct part all[N_PARTS] = {
		{"layouts", v->layouts_off, (uint64_t)v->n_layouts * v->layouts_stride, 64},
		{"metrics", v->metrics_off, (uint64_t)v->n_metrics * v->metrics_stride, 64},
		{"series", v->series_off, (uint64_t)v->n_series * v->series_stride, 64},
		{"strings", v->strings_off, v->strings_len, 64},
		{"resource", v->resource_off, v->resource_len, 64},
		{"gauges", v->gauges_off, (uint64_t)v->n_gauges * 8, 64},
		{"exemplars", v->exemplars_off, (uint64_t)v->n_exemplars * v->exemplars_stride, 64},
		{"slots0", v->slots0_off, (uint64_t)v->n_slots0 * sizeof(struct blix_span_slot),
		 64},
		{"lanes", v->lanes_off, v->n_lanes * v->lane_stride, BLIX_SECTION_ALIGN},
		{"consumer", v->consumer_off,
		 sizeof(struct blix_consumer) + v->n_lanes * sizeof(struct blix_consumer_lane),
		 BLIX_SECTION_ALIGN},
		{"control", v->control_off, sizeof(struct blix_control), 4096},
		{"end", v->size, 0, BLIX_SECTION_ALIGN},
	};

	memcpy(parts, all, sizeof(all));
}

static void expect_sound(const struct blix_view *v)
{
	struct part parts[N_PARTS];
	uint64_t at = BLIX_PAGE_HEADER;

	list_parts(v, parts);
	for (size_t i = 0; i < N_PARTS; i++) {
		cr_expect_geq(parts[i].off, at, "%s overlaps its predecessor", parts[i].name);
		cr_expect_eq(parts[i].off % parts[i].align, 0, "%s misaligned", parts[i].name);
		at = parts[i].off + parts[i].len;
	}
	cr_expect_eq(v->lane_stride % BLIX_SECTION_ALIGN, 0);
	cr_expect_geq(v->lane.cells_off, sizeof(struct blix_lane));
	cr_expect_geq(v->lane.ring_ctl_off, v->lane.cells_off + v->lane.n_cells * 8);
	cr_expect_eq(v->lane.ring_ctl_off % BLIX_LINE, 0);
	cr_expect_geq(v->lane.slots_off, v->lane.ring_ctl_off + sizeof(struct blix_ring));
	cr_expect_geq(v->lane.ring_off, v->lane.slots_off + v->lane.n_slots * 1024);
	cr_expect_geq(v->lane_stride, (uint64_t)v->lane.ring_off + v->lane.ring_bytes);
	cr_expect_eq(v->consumer_off + v->consumer_len, v->size);
	cr_expect_leq(v->size, BLIX_CAP_FILE_BYTES);
}

static struct blix_view planned(struct blix_format_options options)
{
	struct blix_view v;

	memset(&v, 0xa5, sizeof(v));
	cr_assert_eq(blix_format_plan(&options, &v), 0);
	expect_sound(&v);
	return v;
}

Test(crc32c, matches_the_published_check_values)
{
	const uint8_t zeros[32] = {0};
	uint8_t ones[32];

	memset(ones, 0xff, sizeof(ones));
	cr_expect_eq(blix_crc32c("", 0), 0);
	cr_expect_eq(blix_crc32c("123456789", 9), 0xe3069283u);
	cr_expect_eq(blix_crc32c(zeros, sizeof(zeros)), 0x8a9136aau); /* RFC 3720, B.4 */
	cr_expect_eq(blix_crc32c(ones, sizeof(ones)), 0x62a8ab43u);
}

Test(format, default_lanes_follow_the_number_of_cpus_within_limits)
{
	const struct {
		uint32_t cpus, lanes, ring_bytes;
	} rows[] = {{0, 16, MIB},	 {1, 16, MIB},
		    {4, 16, MIB},	 {5, 18, MIB},
		    {12, 32, MIB},	 {13, 34, MIB / 2},
		    {28, 64, MIB / 2},	 {29, 64, MIB / 2},
		    {1000, 64, MIB / 2}, {UINT32_MAX, 64, MIB / 2}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct blix_view v = planned((struct blix_format_options){.n_cpus = rows[i].cpus});

		cr_expect_eq(v.n_lanes, rows[i].lanes, "%u cpus", rows[i].cpus);
		cr_expect_eq(v.lane.ring_bytes, rows[i].ring_bytes, "%u cpus", rows[i].cpus);
	}
}

Test(format, default_ring_never_falls_below_its_least_size)
{
	struct blix_view v = planned((struct blix_format_options){.lanes = 1024});

	cr_expect_eq(v.lane.ring_bytes, 256 << 10);
}

Test(format, default_file_of_a_small_machine_takes_about_20_mib)
{
	struct blix_view v = planned((struct blix_format_options){.n_cpus = 2});

	cr_expect_eq(v.n_lanes, 16);
	cr_expect_geq(v.size, 20ull * MIB);
	cr_expect_leq(v.size, 22ull * MIB, "%lu bytes", (unsigned long)v.size);
	cr_expect_eq(v.lane.n_cells, 8192);
	cr_expect_eq(v.lane.n_slots, 128);
	cr_expect_eq(v.n_slots0, 384);
	cr_expect_eq(v.strings_len, 256 << 10);
	cr_expect_eq(v.n_metrics, 512);
	cr_expect_eq(v.n_series, 4096);
	cr_expect_eq(v.n_layouts, 32);
	cr_expect_eq(v.n_gauges, 1024);
	cr_expect_eq(v.n_exemplars, 8192);
	cr_expect_eq(v.resource_len, 0);
	cr_expect_null(v.base);
	cr_expect_null(v.consumer);
}

Test(format, both_histogram_forms_get_eight_times_the_cells)
{
	struct blix_view v = planned((struct blix_format_options){.histograms_both = true});

	cr_expect_eq(v.lane.n_cells, 65536);
	v = planned((struct blix_format_options){.histograms_both = true, .cells = 100});
	cr_expect_eq(v.lane.n_cells, 100);
}

Test(format, lanes_times_cells_are_bounded)
{
	struct blix_format_options o = {.lanes = 1024, .cells = BLIX_CAP_ALL_CELLS / 1024};
	struct blix_view v = planned(o);

	o.cells++;
	cr_expect_eq(blix_format_plan(&o, &v), -EINVAL);
}

Test(format, each_option_is_accepted_at_its_edges_and_refused_beyond)
{
	const struct {
		size_t offset;
		uint32_t low, high;
	} rows[] = {
#define ROW(field, low, high) {offsetof(struct blix_format_options, field), low, high}
		ROW(lanes, 1, BLIX_CAP_LANES),
		ROW(ring_bytes, BLIX_RING_BYTES_MIN, BLIX_RING_BYTES_MAX),
		ROW(cells, 2, BLIX_CAP_CELLS),
		ROW(slots, 1, BLIX_CAP_SLOTS),
		ROW(strings_bytes, 8, BLIX_CAP_STRINGS_BYTES),
		ROW(metrics, 1, BLIX_CAP_METRICS),
		ROW(series, 1, BLIX_CAP_SERIES),
		ROW(layouts, 1, BLIX_CAP_LAYOUTS),
		ROW(gauges, 1, BLIX_CAP_GAUGES),
		ROW(exemplars, 1, BLIX_CAP_EXEMPLARS),
		ROW(resource_len, 0, BLIX_CAP_RESOURCE_BYTES),
#undef ROW
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct blix_format_options o = {0};
		uint32_t *field = (uint32_t *)(void *)((char *)&o + rows[i].offset);
		struct blix_view v = {.size = 7};

		*field = rows[i].low;
		(void)planned(o);
		*field = rows[i].high;
		(void)planned(o);
		*field = rows[i].high + 1;
		cr_expect_eq(blix_format_plan(&o, &v), -EINVAL, "row %zu", i);
		*field = UINT32_MAX;
		cr_expect_eq(blix_format_plan(&o, &v), -EINVAL, "row %zu", i);
		if (rows[i].low > 1) {
			*field = rows[i].low - 1;
			cr_expect_eq(blix_format_plan(&o, &v), -EINVAL, "row %zu", i);
		}
		cr_expect_eq(v.size, 7, "the result is written on success only");
	}
}

Test(format, ring_must_be_a_power_of_two)
{
	struct blix_format_options o = {.ring_bytes = BLIX_RING_BYTES_MIN + 8};
	struct blix_view v;

	cr_expect_eq(blix_format_plan(&o, &v), -EINVAL);
}

Test(format, file_beyond_the_largest_size_a_reader_accepts_is_refused)
{
	struct blix_format_options o = {.lanes = 1024, .ring_bytes = BLIX_RING_BYTES_MAX};
	struct blix_view v;

	cr_expect_eq(blix_format_plan(&o, &v), -EINVAL);
	o.lanes = 64;
	(void)planned(o);
}

Test(format, lane_0_never_has_more_slots_than_a_reader_accepts)
{
	struct blix_view v = planned((struct blix_format_options){.slots = 4095});

	cr_expect_eq(blix_view_slot_count(&v, 0), BLIX_CAP_SLOTS);
	v = planned((struct blix_format_options){.slots = 4096});
	cr_expect_eq(v.n_slots0, 0);
	v = planned((struct blix_format_options){.slots = 1});
	cr_expect_eq(v.n_slots0, 3);
}

/* ---- filling -------------------------------------------------------------------------------- */

static struct blix_view make_filled(const struct blix_format_identity *id, uint32_t resource_len)
{
	struct blix_view plan = planned((struct blix_format_options){
		.lanes = 2, .ring_bytes = 16 << 10, .cells = 16, .resource_len = resource_len});
	void *base = aligned_alloc(BLIX_SECTION_ALIGN, plan.size);
	struct blix_view v;

	cr_assert_not_null(base);
	memset(base, 0, plan.size);
	v = blix_view_at(&plan, base);
	cr_assert_eq(blix_format_fill(&v, id), 0);
	return v;
}

static const struct blix_toc *find_toc(const struct blix_view *v, uint32_t type)
{
	const struct blix_header *h = blix_view_header(v);
	const struct blix_toc *found = NULL;
	const struct blix_toc *toc = (const struct blix_toc *)(const void *)(v->base + h->toc_off);

	for (uint32_t i = 0; i < h->toc_count; i++) {
		if (toc[i].type != type)
			continue;
		cr_expect_null(found, "section %u twice", type);
		found = &toc[i];
	}
	cr_assert_not_null(found, "section %u missing", type);
	return found;
}

Test(format, fill_writes_identity_checksum_and_resource)
{
	const struct blix_format_identity id = {
		.boot_id = {1, 2},
		.incarnation = {3, 4},
		.node_id = 42,
		.pid = 7,
		.uid = 8,
		.pid_start_ticks = 9,
		.pidns_ino = 10,
		.timens_ino = 11,
		.flags = BLIX_FLAG_HISTOGRAMS_BOTH,
		.open_mono_ns = 12,
		.open_real_ns = 13,
		.version = "1.2.3",
		.grpc_address = "127.0.0.1:7001",
		.cluster = "c",
		.resource = "resource",
	};
	struct blix_view v = make_filled(&id, 8);
	const struct blix_header *h = blix_view_header(&v);

	cr_expect_arr_eq(h->magic, "BLIXSHM\001", 8);
	cr_expect_eq(h->byte_order, 0x01020304u);
	cr_expect_eq(h->abi_major, 1);
	cr_expect_eq(h->abi_minor, 0);
	cr_expect_eq(h->file_size, v.size);
	cr_expect_eq(h->lane_count, 2);
	cr_expect_eq(h->map_base, (uintptr_t)v.base);
	cr_expect_eq(h->state, BLIX_STATE_INIT);
	cr_expect_eq(h->node_id, 42);
	cr_expect_eq(h->pid_start_ticks, 9);
	cr_expect_eq(h->timens_ino, 11);
	cr_expect_eq(h->pair_mono_ns, 12);
	cr_expect_eq(h->pair_real_ns, 13);
	cr_expect_str_eq(h->version, "1.2.3");
	cr_expect_str_eq(h->grpc_address, "127.0.0.1:7001");
	cr_expect_str_eq(h->data_dir, "");
	cr_expect_arr_eq(v.base + v.resource_off, "resource", 8);
	cr_expect_eq(blix_view_consumer(&v)->layout_ver, 1);
	cr_expect_eq(h->static_crc32c, blix_crc32c(v.base, 0xf8));
	free(v.base);
}

Test(format, toc_says_where_the_view_says)
{
	const struct blix_format_identity id = {.resource = "r"};
	struct blix_view v = make_filled(&id, 1);
	const struct blix_toc *lanes = find_toc(&v, BLIX_SEC_LANES);
	const struct blix_toc *control = find_toc(&v, BLIX_SEC_CONTROL);
	const struct blix_toc *consumer = find_toc(&v, BLIX_SEC_CONSUMER);

	cr_expect_eq(lanes->off, v.lanes_off);
	cr_expect_eq(lanes->stride, v.lane_stride);
	cr_expect_eq(lanes->count, 2);
	cr_expect_arr_eq(lanes->aux, &v.lane, sizeof(v.lane));
	cr_expect_eq(find_toc(&v, BLIX_SEC_STRINGS)->len, v.strings_len);
	cr_expect_eq(find_toc(&v, BLIX_SEC_METRICS)->count, v.n_metrics);
	cr_expect_eq(find_toc(&v, BLIX_SEC_SERIES)->off, v.series_off);
	cr_expect_eq(find_toc(&v, BLIX_SEC_BUCKET_LAYOUTS)->off, v.layouts_off);
	cr_expect_eq(find_toc(&v, BLIX_SEC_GAUGES)->off, v.gauges_off);
	cr_expect_eq(find_toc(&v, BLIX_SEC_EXEMPLARS)->off, v.exemplars_off);
	cr_expect_eq(find_toc(&v, BLIX_SEC_SLOTS0)->count, v.n_slots0);
	cr_expect_eq(find_toc(&v, BLIX_SEC_RESOURCE)->len, 1);
	cr_expect_eq(control->off, v.control_off);
	cr_expect_geq(control->off, consumer->off);
	cr_expect_leq(control->off + control->len, consumer->off + consumer->len);
	free(v.base);
}

Test(format, text_that_leaves_no_room_for_its_terminator_is_refused)
{
	struct blix_view plan =
		planned((struct blix_format_options){.lanes = 1, .ring_bytes = 16384});
	void *base = calloc(1, plan.size);
	struct blix_view v = blix_view_at(&plan, base);
	char text[300];

#define TRY(field, size)                                                                           \
	do {                                                                                       \
		struct blix_format_identity id = {.field = text};                                  \
		memset(text, 'x', sizeof(text));                                                   \
		text[(size)-1] = '\0';                                                             \
		cr_expect_eq(blix_format_fill(&v, &id), 0, #field);                                \
		text[(size)-1] = 'x';                                                              \
		text[size] = '\0';                                                                 \
		cr_expect_eq(blix_format_fill(&v, &id), -EINVAL, #field);                          \
	} while (0)

	TRY(version, 48);
	TRY(grpc_address, 128);
	TRY(cluster, 64);
	TRY(service_name, 64);
	TRY(data_dir, 256);
	free(base);
}
