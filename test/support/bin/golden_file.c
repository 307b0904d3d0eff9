/* test/support/bin/golden_file.c - write a file of today's minor with known contents to argv[1].
 *
 * Run once for each minor, when it is released; the result is committed as test/golden/abi-X.Y.blix
 * and never written again. test/unit/test_golden.c knows what is in it. */
#include "test/support/shm_file.h"

#include "shm/buckets.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void add_metrics(struct shm_file *f)
{
	uint32_t requests =
		shm_file_metric(f, &(struct shm_file_metric){.name = "blixard_grpc_requests_total",
							     .kind = BLIX_COUNTER,
							     .help = "gRPC requests received.",
							     .unit = "{request}",
							     .slot = 4,
							     .max_series = 40,
							     .keys = {"method"}});
	uint32_t peers = shm_file_metric(
		f, &(struct shm_file_metric){.name = "golden_peers", .kind = BLIX_UPDOWN});
	uint32_t term = shm_file_metric(
		f, &(struct shm_file_metric){.name = "golden_term", .kind = BLIX_GAUGE});
	uint32_t ratio = shm_file_metric(
		f, &(struct shm_file_metric){.name = "golden_ratio", .kind = BLIX_GAUGE_F64});
	uint32_t seconds =
		shm_file_metric(f, &(struct shm_file_metric){.name = "golden_seconds",
							     .kind = BLIX_HISTOGRAM,
							     .unit = "s",
							     .flags = BLIX_METRIC_STORED_NS |
								      BLIX_METRIC_EXPONENTIAL,
							     .bounds = {1000, 1000000, 1000000000},
							     .n_bounds = 3,
							     .exponential_cells = BLIX_EXP_CELLS});
	uint32_t create = shm_file_series(f, requests, "CreateVm");
	uint32_t series;

	shm_file_overflow(f, requests);
	shm_file_add(f, create, 0, 40);
	shm_file_add(f, create, 1, 2);
	shm_file_exemplar(f, create, 0, 42, 1234567890);
	shm_file_add(f, shm_file_series(f, requests, "caf\xc3\xa9 \"\\\n"), 1, 7);
	series = shm_file_plain(f, peers);
	shm_file_add(f, series, 0, (uint64_t)-3);
	shm_file_add(f, series, 1, 1);
	shm_file_set(f, shm_file_plain(f, term), -17);
	shm_file_set_f64(f, shm_file_plain(f, ratio), 0.375);
	series = shm_file_plain(f, seconds);
	shm_file_observe(f, series, 0, 1000);
	shm_file_observe(f, series, 1, 1001);
	shm_file_observe(f, series, 1, 5000000000);
	shm_file_cell(f, series, 1, 5 + 100, 3); /* exponential cell 100 */
}

/* One LOG record in lane 1's ring, and one span under construction in its first slot. */
static void add_records(struct shm_file *f)
{
	uint8_t *data = blix_view_ring_data(&f->view, 1);
	struct blix_span_slot *slot = blix_view_slot(&f->view, 1, 0);
	const struct blix_record record = {
		.size = 24 + 40 + 8 + 8, .type = BLIX_REC_LOG, .seq = 0, .t_ns = 2000000000};
	const struct blix_log_body body = {.event_id = BLIX_NO_ID, .severity = 9};
	const struct blix_item item = {.key_id = BLIX_NO_ID, .type = BLIX_ITEM_BODY, .len = 5};

	memcpy(data, &record, sizeof(record));
	memcpy(data + sizeof(record), &body, sizeof(body));
	memcpy(data + sizeof(record) + sizeof(body), &item, sizeof(item));
	memcpy(data + sizeof(record) + sizeof(body) + sizeof(item), "hello", 5);
	blix_view_ring(&f->view, 1)->tail = record.size;
	blix_view_ring(&f->view, 1)->drops[BLIX_DROP_SPAN][BLIX_DROP_OPEN_LIMIT] = 6;
	slot->ctl = 1 << 8 | BLIX_SLOT_OPEN;
	slot->start_ns = 1500000000;
	slot->name_id = shm_file_string(f, "raft.propose");
	memset(slot->trace_id, 0x11, sizeof(slot->trace_id));
	memset(slot->span_id, 0x22, sizeof(slot->span_id));
}

/* What would differ from run to run is set to something that does not. */
static void fix_header(struct shm_file *f)
{
	struct blix_header *h = blix_view_header(&f->view);

	h->pid = 4242;
	h->uid = 1000;
	h->pid_start_ticks = 99;
	h->page_size = 4096;
	h->map_base = 0x7f0000000000;
	h->alive_beat = 5;
	h->app_beat = 6;
	h->pair_seq = 2;
	h->pair_mono_ns = 6000000000;
	h->pair_real_ns = 1795000006000000000;
	h->stats[BLIX_STAT_LANES_SETTLED] = 8;
	h->state = BLIX_STATE_CLOSED;
	shm_file_own_lane(f, 1, 0, 1);
	shm_file_reseal(f);
}

int main(int argc, char **argv)
{
	static const char resource[] = "\x0a\x0a\x0a\x01k\x12\x05\x0a\x03val";
	const struct shm_file_options options = {
		.format = {.lanes = 2,
			   .cells = 512,
			   .slots = 1,
			   .strings_bytes = 4096,
			   .metrics = 8,
			   .series = 16,
			   .layouts = 2,
			   .gauges = 4,
			   .exemplars = 8,
			   .resource_len = sizeof(resource) - 1},
		.node_id = 77,
		.flags = BLIX_FLAG_HISTOGRAMS_BOTH,
		.version = "1.0.0-golden",
		.data_dir = "/var/lib/blixard",
		.resource = resource,
		.incarnation = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		.open_mono_ns = 1000000000,
		.open_real_ns = 1795000001000000000,
	};
	struct shm_file *f;

	if (argc != 2)
		return 1;
	f = shm_file_new(argv[1], &options);
	add_metrics(f);
	add_records(f);
	fix_header(f);
	shm_file_forget(f);
	return 0;
}
