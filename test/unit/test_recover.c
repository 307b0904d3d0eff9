/* Goal: what a dead node left open is told completely, the same by every agent, and only what its
 * file says.
 * Method: files left behind as by SIGKILL; two agents one after the other on the same file. */
#include "agent/input/drain.h"
#include "agent/input/recover.h"
#include "agent/input/resource.h"
#include "shm/atomic.h"
#include "test/support/record_bytes.h"
#include "test/support/scarce_memory.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>

static char path[64];
static struct shm_file *file;
static struct batch *got[64];
static uint32_t n_got;
static struct drain_totals totals;

enum { SECOND = 1000000000 };
#define OPEN_MONO (UINT64_C(1000) * SECOND)
#define OPEN_REAL (UINT64_C(1764100000) * SECOND)

static void setup(void)
{
	const struct shm_file_options options = {
		.node_id = 3,
		.open_mono_ns = OPEN_MONO,
		.open_real_ns = OPEN_REAL,
		.format = {.lanes = 3, .slots = 1400},
	};

	/* Tests run side by side. */
	snprintf(path, sizeof(path), "/dev/shm/blix-recover-%d", (int)getpid());
	file = shm_file_new(path, &options);
	shm_file_own_lane(file, 1, 77, 1);
	shm_file_own_lane(file, 2, 78, 1);
}

static void teardown(void)
{
	while (n_got > 0)
		batch_release(got[--n_got]);
	shm_file_free(file);
}

TestSuite(recover, .init = setup, .fini = teardown, .timeout = 60);

static void keep(void *arg, struct batch *b)
{
	(void)arg;
	cr_assert_lt(n_got, 64u);
	got[n_got++] = b;
}

struct agent {
	struct blix_map *map;
	struct drain *drain;
};

static struct agent attach(bool wants)
{
	const struct drain_options options = {.wants = {wants, wants}, .batch = keep};
	struct batch_resource *resource;
	char reason[BLIX_REASON_MAX];
	struct agent a = {0};

	cr_assert_eq(
		blix_map_open(path, &(struct blix_map_options){.consumer = true}, &a.map, reason),
		0, "%s", reason);
	cr_assert_eq(resource_new(blix_map_identity(a.map), NULL, 0, &resource), 0);
	cr_assert_eq(drain_new(a.map, resource, &options, &totals, &a.drain), 0);
	batch_resource_release(resource);
	return a;
}

/* Read all there is, then recover until it waits for nobody but us. */
static bool finish(const struct agent *a)
{
	bool done = false;

	while (drain_poll(a->drain, 1))
		;
	for (int i = 0; i < 100 && !done; i++)
		done = drain_finish(a->drain);
	return done;
}

static void detach(struct agent *a)
{
	drain_free(a->drain, false);
	blix_map_close(a->map);
}

static void write_span(uint32_t lane, uint64_t n, uint64_t t_ns)
{
	static struct record_bytes r;
	struct blix_ring_writer writer;

	r.len = 0;
	record_span(&r, n, shm_file_string(file, "Done"), t_ns);
	blix_ring_writer_init(&writer, &file->view, lane);
	cr_assert_eq(record_write(&writer, BLIX_REC_SPAN, 0, t_ns, &r, false), BLIX_DROP_NONE);
}

static const struct batch_span *crashed_at(uint32_t index)
{
	for (uint32_t b = 0; b < n_got; b++)
		for (uint32_t i = 0; got[b]->signal == BATCH_TRACES && i < got[b]->n; i++)
			if (got[b]->spans[i].crashed && index-- == 0)
				return &got[b]->spans[i];
	return NULL;
}

static const struct batch_log *only_log(void)
{
	const struct batch_log *log = NULL;

	for (uint32_t b = 0; b < n_got; b++)
		if (got[b]->signal == BATCH_LOGS) {
			cr_assert(!log && got[b]->n == 1);
			log = &got[b]->logs[0];
		}
	return log;
}

static const struct batch_value *attr(const struct batch_attrs *a, const char *key)
{
	for (uint32_t i = 0; i < a->n; i++)
		if (a->at[i].key.len == strlen(key) &&
		    memcmp(a->at[i].key.at, key, a->at[i].key.len) == 0)
			return &a->at[i].value;
	return NULL;
}

static bool text_is(struct batch_text t, const char *s)
{
	return t.len == strlen(s) && memcmp(t.at, s, t.len) == 0;
}

static bool string_is(const struct batch_value *v, const char *s)
{
	return v && v->type == BATCH_STRING && text_is((struct batch_text){v->text, v->n}, s);
}

Test(recover, an_open_span_is_told_with_all_it_carried_and_ends_with_the_last_record)
{
	static struct record_bytes items;
	const struct batch_span *s;
	struct agent a;

	record_text(&items, BLIX_ITEM_STRING, shm_file_string(file, "vm.name"), "web-1");
	record_open_span(file, 1, 9, shm_file_string(file, "StartVm"), OPEN_MONO + SECOND, &items);
	write_span(2, 1, OPEN_MONO + 4 * (uint64_t)SECOND);
	write_span(1, 2, OPEN_MONO + 3 * (uint64_t)SECOND);
	shm_file_abandon(file);
	a = attach(true);
	cr_expect_not(finish(&a), "its batches are still out");
	s = crashed_at(0);
	cr_assert_not_null(s);
	cr_expect(text_is(s->name, "StartVm"));
	cr_expect(text_is(s->status_message, "process terminated before span ended"));
	cr_expect_eq(s->status, 2);
	cr_expect_eq(s->start_unix_ns, OPEN_REAL + SECOND);
	cr_expect_eq(s->end_unix_ns, OPEN_REAL + 4 * (uint64_t)SECOND);
	cr_expect(string_is(attr(&s->attrs, "vm.name"), "web-1"));
	cr_expect(string_is(attr(&s->attrs, "blixard.span.state"), "crashed"));
	cr_expect(text_is(only_log()->body, "node 3 died, 1 span open"));
	cr_expect_eq(only_log()->severity, 17);
	cr_expect_eq(totals.spans_crashed, 1);
	detach(&a);
}

Test(recover, a_second_agent_tells_the_same_although_the_records_are_acknowledged)
{
	uint64_t end, log_at;
	struct agent a;

	record_open_span(file, 1, 9, 0, OPEN_MONO + SECOND, NULL);
	write_span(2, 1, OPEN_MONO + 4 * (uint64_t)SECOND);
	a = attach(true);
	while (drain_poll(a.drain, 1))
		;
	drain_flush(a.drain);
	batch_release(got[--n_got]); /* the record is acknowledged while the node lives */
	shm_file_abandon(file);
	finish(&a);
	end = crashed_at(0)->end_unix_ns;
	log_at = only_log()->unix_ns;
	detach(&a); /* killed before it was released */
	while (n_got > 0)
		batch_release(got[--n_got]);
	a = attach(true);
	finish(&a);
	cr_expect_eq(crashed_at(0)->end_unix_ns, end);
	cr_expect_eq(only_log()->unix_ns, log_at);
	cr_expect_eq(end, OPEN_REAL + 4 * (uint64_t)SECOND);
	detach(&a);
}

Test(recover, the_file_is_done_only_when_everything_was_released_and_then_for_ever)
{
	struct agent a;

	record_open_span(file, 1, 9, 0, OPEN_MONO, NULL);
	shm_file_abandon(file);
	a = attach(true);
	cr_expect_not(finish(&a));
	cr_expect_not(drain_is_done(a.map));
	cr_assert_geq(n_got, 2u);
	while (n_got > 1)
		batch_release(got[--n_got]);
	cr_expect_not(finish(&a));
	batch_release(got[--n_got]);
	cr_expect(finish(&a));
	cr_expect(drain_is_done(a.map));
	detach(&a);
	a = attach(true);
	cr_expect(finish(&a));
	cr_expect_eq(n_got, 0, "told once");
	detach(&a);
}

Test(recover, an_abandoned_batch_leaves_the_file_to_the_next_agent)
{
	struct agent a;

	record_open_span(file, 1, 9, 0, OPEN_MONO, NULL);
	shm_file_abandon(file);
	a = attach(true);
	finish(&a);
	while (n_got > 0)
		batch_abandon(got[--n_got]);
	cr_expect_not(finish(&a));
	cr_expect_not(drain_is_done(a.map));
	detach(&a);
}

Test(recover, more_open_spans_than_a_batch_holds_all_arrive)
{
	uint32_t n = 0;
	struct agent a;

	for (uint64_t i = 1; i <= 1300; i++)
		record_open_span(file, 1, i, 0, OPEN_MONO, NULL);
	shm_file_abandon(file);
	a = attach(true);
	finish(&a);
	while (crashed_at(n))
		n++;
	cr_expect_eq(n, 1300);
	cr_expect(text_is(only_log()->body, "node 3 died, 1300 spans open"));
	detach(&a);
}

Test(recover, a_node_that_closed_its_file_left_its_spans_and_did_not_crash)
{
	struct agent a;

	record_open_span(file, 1, 9, 0, OPEN_MONO, NULL);
	shm_file_close(file);
	a = attach(true);
	finish(&a);
	cr_expect(string_is(attr(&crashed_at(0)->attrs, "blixard.span.state"), "abandoned"));
	cr_expect(text_is(only_log()->body, "node 3 closed its telemetry, 1 span open"));
	cr_expect_eq(only_log()->severity, 13);
	detach(&a);
}

Test(recover, an_orderly_end_is_not_worth_a_word)
{
	struct agent a;

	shm_file_close(file);
	a = attach(true);
	cr_expect(finish(&a));
	cr_expect_eq(n_got, 0);
	detach(&a);
}

Test(recover, signal_and_exit_code_are_told_where_they_are_known)
{
	struct blix_header *header = blix_view_header(&file->view);
	struct blix_consumer *consumer = blix_view_consumer(&file->view);
	struct agent a;

	record_open_span(file, 1, 9, 0, OPEN_MONO, NULL);
	header->state = BLIX_STATE_CRASH_NOTED;
	header->exit_code = SIGSEGV;
	a = attach(true);
	finish(&a);
	cr_expect_eq(attr(&crashed_at(0)->attrs, "blixard.exit.signal")->i64, SIGSEGV);
	cr_expect_eq(attr(&only_log()->attrs, "blixard.exit.signal")->i64, SIGSEGV);
	cr_expect_null(attr(&crashed_at(0)->attrs, "process.exit.code"));
	detach(&a);
	while (n_got > 0)
		batch_release(got[--n_got]);
	consumer->exit_ns = 1;
	consumer->exit_code = W_EXITCODE(3, 0);
	a = attach(true);
	finish(&a);
	cr_expect_eq(attr(&crashed_at(0)->attrs, "process.exit.code")->i64, 3);
	cr_expect_null(attr(&crashed_at(0)->attrs, "blixard.exit.signal"));
	detach(&a);
}

Test(recover, a_record_that_claims_to_be_of_the_far_future_is_not_believed)
{
	struct agent a;

	record_open_span(file, 1, 9, 0, OPEN_MONO, NULL);
	write_span(1, 1, OPEN_MONO + RECOVER_AHEAD_MAX_NS);
	write_span(2, 2, OPEN_MONO + RECOVER_AHEAD_MAX_NS + 1);
	shm_file_abandon(file);
	a = attach(true);
	finish(&a);
	cr_expect_eq(crashed_at(0)->end_unix_ns, OPEN_REAL + RECOVER_AHEAD_MAX_NS);
	detach(&a);
}

Test(recover, where_nobody_wants_spans_they_are_counted_and_the_file_is_done)
{
	struct agent a;

	record_open_span(file, 1, 9, 0, OPEN_MONO, NULL);
	blix_view_slot(&file->view, 2, 0)->ctl = 1 << 8 | BLIX_SLOT_FILLING;
	shm_file_abandon(file);
	a = attach(false);
	cr_expect(finish(&a));
	cr_expect_eq(totals.spans_crashed, 1);
	cr_expect_eq(totals.spans_torn, 1);
	detach(&a);
}

/* Take all memory there is, down to what a batch's own struct needs. */
static void use_up_memory(void)
{
	scarce_memory_begin(0);
	for (size_t len = 1 << 20; len >= 64; len /= 2)
		while (malloc(len))
			;
}

Test(drain, a_record_that_no_memory_is_found_for_stays_in_the_ring, .init = setup, .fini = teardown,
     .timeout = 60)
{
	struct agent a;

	if (!SCARCE_MEMORY_WORKS)
		cr_skip_test("a sanitizer needs all address space");
	write_span(1, 1, OPEN_MONO + 5);
	write_span(1, 2, OPEN_MONO + 6);
	a = attach(true);
	use_up_memory();
	for (uint64_t i = 1; i <= 3; i++) {
		drain_poll(a.drain, 10000);
		cr_expect_eq(totals.decoding.no_memory, i);
	}
	scarce_memory_end();
	cr_expect_eq(totals.records[DRAIN_SPAN], 0u);
	cr_expect_eq(totals.held_up, 3u);
	cr_expect_eq(totals.lost + totals.corrupt + totals.duplicates, 0u);
	cr_expect_gt(blix_ring_fill(&file->view, 1).unacknowledged_bytes, 0u);
	drain_poll(a.drain, 1);
	drain_flush(a.drain);
	cr_assert_eq(n_got, 1u);
	cr_expect_eq(got[0]->n, 2u);
	cr_expect_eq(totals.records[DRAIN_SPAN], 2u);
	batch_release(got[--n_got]);
	cr_expect_eq(blix_ring_fill(&file->view, 1).unacknowledged_bytes, 0u);
	detach(&a);
}
