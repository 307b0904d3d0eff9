/* Goal: today's reader reads the files of every released minor to the values they have always had.
 * Method: the committed files of test/golden, written once by test/support/bin/golden_file.c. A
 * failure here is a broken promise; the file is never made anew. */
#include "shm/map.h"
#include "shm/metric.h"

#include "shm/atomic.h"

#include <criterion/criterion.h>
#include <string.h>

static struct blix_map *open_golden(const char *path)
{
	struct blix_map *map = NULL;
	char reason[BLIX_REASON_MAX] = "";

	cr_assert_eq(blix_map_open(path, &(struct blix_map_options){0}, &map, reason), 0, "%s",
		     reason);
	cr_assert_eq(blix_map_rejected(map), 0);
	cr_assert_eq(blix_map_metric_count(map), 5);
	cr_assert_eq(blix_map_series_count(map), 7);
	for (uint32_t i = 0; i < 7; i++)
		cr_assert_not_null(blix_map_series(map, i));
	return map;
}

static struct blix_map *map;

static void open_1_0(void)
{
	map = open_golden("test/golden/abi-1.0.blix");
}

static void close_map(void)
{
	map = blix_map_close(map);
}

TestSuite(golden_1_0, .init = open_1_0, .fini = close_map);

Test(golden_1_0, identity)
{
	const struct blix_map_identity *id = blix_map_identity(map);
	size_t len;
	const uint8_t *resource = blix_map_resource(map, &len);

	cr_expect_eq(id->abi_minor, 0);
	cr_expect_str_eq(id->incarnation_hex, "000102030405060708090a0b0c0d0e0f");
	cr_expect_eq(id->node_id, 77);
	cr_expect_eq(id->pid, 4242);
	cr_expect_eq(id->uid, 1000);
	cr_expect_eq(id->pid_start_ticks, 99);
	cr_expect_eq(id->flags, 1u << 1);
	cr_expect_eq(id->map_base, 0x7f0000000000);
	cr_expect_eq(id->open_mono_ns, 1000000000);
	cr_expect_eq(id->open_real_ns, 1795000001000000000);
	cr_expect_str_eq(id->version, "1.0.0-golden");
	cr_expect_str_eq(id->grpc_address, "127.0.0.1:7001");
	cr_expect_str_eq(id->cluster, "test");
	cr_expect_str_eq(id->service_name, "blixard");
	cr_expect_str_eq(id->data_dir, "/var/lib/blixard");
	cr_assert_eq(len, 12);
	cr_expect_arr_eq(resource, "\x0a\x0a\x0a\x01k\x12\x05\x0a\x03val", 12);
}

Test(golden_1_0, life)
{
	struct blix_map_life life;
	struct blix_map_lanes lanes;

	blix_map_life(map, &life);
	cr_expect_eq(life.state, 2);
	cr_expect_eq(life.alive_beat, 5);
	cr_expect_eq(life.app_beat, 6);
	cr_expect_eq(life.pair_mono_ns, 6000000000);
	cr_expect_eq(life.pair_real_ns, 1795000006000000000);
	cr_expect_eq(blix_map_stat(map, BLIX_STAT_LANES_SETTLED), 8);
	cr_expect_eq(blix_map_drops(map, BLIX_DROP_SPAN, BLIX_DROP_OPEN_LIMIT), 6);
	blix_map_lanes(map, &lanes);
	cr_expect(lanes.owned == 0 && lanes.free == 1 && lanes.never == 1);
	cr_expect_eq(blix_map_owner_state(map), BLIX_OWNER_GONE);
}

Test(golden_1_0, metrics)
{
	const struct blix_map_metric *m = blix_map_metric(map, 0);

	cr_expect_str_eq(m->name, "blixard_grpc_requests_total");
	cr_expect_str_eq(m->help, "gRPC requests received.");
	cr_expect_str_eq(m->unit, "{request}");
	cr_expect_eq(m->slot, 4);
	cr_expect_eq(m->kind, 1);
	cr_expect_eq(m->max_series, 40);
	cr_expect_eq(m->overflow_series, 1);
	cr_expect_eq(m->n_label_keys, 1);
	cr_expect_str_eq(m->label_keys[0], "method");
	cr_expect_eq(blix_map_metric(map, 1)->kind, 2);
	cr_expect_eq(blix_map_metric(map, 2)->kind, 3);
	cr_expect_eq(blix_map_metric(map, 3)->kind, 4);
	m = blix_map_metric(map, 4);
	cr_expect_eq(m->kind, 5);
	cr_expect_eq(m->slot, 1028);
	cr_expect_eq(m->flags, 3);
	cr_expect_eq(m->layout->n_bounds, 3);
	cr_expect_eq(m->layout->bounds[2], 1000000000);
}

Test(golden_1_0, series_and_values)
{
	const struct blix_map_series *h = blix_map_series(map, 6);
	uint64_t sums[512];
	uint64_t bits;
	double value;

	blix_map_sum_cells(map, sums, 512);
	cr_expect_str_eq(blix_map_series(map, 0)->label_values[0], "CreateVm");
	cr_expect_eq(sums[blix_map_series(map, 0)->first_cell], 42);
	cr_expect(blix_map_series(map, 1)->overflow);
	cr_expect_eq(sums[blix_map_series(map, 1)->first_cell], 0);
	cr_expect_str_eq(blix_map_series(map, 2)->label_values[0], "caf\xc3\xa9 \"\\\n");
	cr_expect_eq(sums[blix_map_series(map, 2)->first_cell], 7);
	cr_expect_eq((int64_t)sums[blix_map_series(map, 3)->first_cell], -2);
	cr_expect_eq((int64_t)blix_map_gauge(map, blix_map_series(map, 4)->gauge_idx), -17);
	bits = blix_map_gauge(map, blix_map_series(map, 5)->gauge_idx);
	memcpy(&value, &bits, sizeof(value));
	cr_expect_eq(value, 0.375);
	cr_assert_eq(h->n_cells, 3 + 2 + 259);
	cr_expect_eq(sums[h->first_cell], 1);
	cr_expect_eq(sums[h->first_cell + 1], 1);
	cr_expect_eq(sums[h->first_cell + 2], 0);
	cr_expect_eq(sums[h->first_cell + 3], 1);
	cr_expect_eq(sums[h->first_cell + 4], 5000002001);
	cr_expect_eq(sums[h->first_cell + 5 + 100], 3);
}

Test(golden_1_0, exemplar)
{
	const struct blix_map_series *s = blix_map_series(map, 0);
	const struct blix_exemplar *e;

	cr_assert_eq(s->n_exemplars, 1);
	e = blix_view_exemplar(blix_map_view(map), s->exemplar_idx);
	cr_expect_eq(blix_load_acquire(&e->seq), 2);
	cr_expect_eq(e->bucket, 0);
	cr_expect_eq(e->value, 42);
	cr_expect_eq(e->t_ns, 1234567890);
	cr_expect_eq(e->trace_id[15], 0xab);
	cr_expect_eq(e->span_id[7], 0xcd);
}

Test(golden_1_0, ring_and_slots)
{
	const struct blix_view *v = blix_map_view(map);
	const struct blix_record *record =
		(const struct blix_record *)(const void *)blix_view_ring_data(v, 1);
	const struct blix_log_body *body = (const struct blix_log_body *)(const void *)(record + 1);
	const struct blix_span_slot *slot = blix_view_slot(v, 1, 0);

	const struct blix_item *item = (const struct blix_item *)(const void *)(body + 1);

	cr_expect_eq(blix_view_ring(v, 1)->tail, 80);
	cr_expect_eq(blix_view_ring(v, 1)->floor, 0);
	cr_expect_eq(record->size, 80);
	cr_expect_eq(record->type, 3);
	cr_expect_eq(record->seq, 0);
	cr_expect_eq(record->t_ns, 2000000000);
	cr_expect_eq(body->severity, 9);
	cr_expect_eq(body->event_id, UINT32_MAX);
	cr_expect_eq(item->type, 20);
	cr_expect_eq(item->len, 5);
	cr_expect_arr_eq(item + 1, "hello", 5);
	cr_expect_eq(slot->ctl, 1 << 8 | 2);
	cr_expect_eq(slot->start_ns, 1500000000);
	cr_expect_eq(slot->span_id[0], 0x22);
	cr_expect_eq(blix_view_slot_count(v, 0), 4);
}
