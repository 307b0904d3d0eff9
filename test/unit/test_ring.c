/* Goal: the ring keeps each promise of ring.h on both sides of each limit, and its reader stays
 * within bounds whatever the file says. Method: one small file, one thread; the words of the file
 * are set by hand where a hostile or dying process would have left them. Concurrency and kills are
 * the business of test/race and test/torture. */
#include "shm/atomic.h"
#include "shm/ring.h"
#include "test/support/tiny_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	LANE = 1,
	CAP = TINY_RING_BYTES,
	SMALL_WORDS = 5, /* header and 5 words: 64 bytes, which divides the ring */
	SMALL = 64,
};

static struct tiny_file file;
static struct blix_ring_writer writer;
static struct blix_ring *ring;
static uint64_t buf[TINY_RECORD_WORDS_MAX];
static uint64_t zeros[TINY_RECORD_WORDS_MAX + 1];

static void setup(void)
{
	file = tiny_file_new(3, 4, 4);
	ring = blix_view_ring(&file.view, LANE);
	cr_assert_eq(blix_ring_writer_init(&writer, &file.view, LANE), 0);
}

static void teardown(void)
{
	tiny_file_done(&file);
}

TestSuite(ring, .init = setup, .fini = teardown);

static struct blix_ring_entry entry_of(uint16_t type, uint16_t flags, uint32_t n_words)
{
	return (struct blix_ring_entry){
		.type = type, .flags = flags, .n_words = n_words, .body = zeros};
}

static int write_small(uint16_t type, uint16_t flags, bool listening)
{
	struct blix_ring_entry entry = entry_of(type, flags, SMALL_WORDS);

	return blix_ring_write(&writer, &entry, listening);
}

static void write_n(uint32_t n)
{
	while (n-- > 0)
		cr_assert_eq(write_small(BLIX_REC_SPAN, 0, false), BLIX_DROP_NONE);
}

static uint64_t *word_at(uint64_t pos)
{
	return (uint64_t *)(void *)(blix_view_ring_data(&file.view, LANE) + pos % CAP);
}

static struct blix_ring_reader resumed(void)
{
	struct blix_ring_reader reader;

	cr_assert_eq(blix_ring_reader_resume(&reader, &file.view, LANE), 0);
	return reader;
}

static int next(struct blix_ring_reader *reader)
{
	return blix_ring_next(reader, buf, TINY_RECORD_WORDS_MAX);
}

/* Read to the end; every return must be a record. */
static uint64_t drain(struct blix_ring_reader *reader)
{
	uint64_t before = reader->delivered;
	int n;

	while ((n = next(reader)) != 0)
		cr_assert_gt(n, 0, "read failed: %d", n);
	return reader->delivered - before;
}

static void acknowledge(const struct blix_ring_reader *reader)
{
	blix_ring_ack(&file.view, LANE, reader->pos, reader->expect, reader->lost);
}

/* ---- writing and reading back --------------------------------------------------------------- */

Test(ring, records_come_out_as_they_went_in)
{
	uint64_t words[TINY_BODY_WORDS_MAX];
	struct blix_ring_reader reader = resumed();

	for (uint64_t id = 0; id < 5000; id++) {
		uint16_t type = id % 3 ? BLIX_REC_SPAN : BLIX_REC_LOG;
		struct blix_ring_entry entry = tiny_entry(id, type, (uint16_t)(id & 3), words);
		struct blix_record head;
		uint64_t found;

		cr_assert_eq(blix_ring_write(&writer, &entry, false), BLIX_DROP_NONE);
		cr_assert_eq(next(&reader), (int)entry.n_words + BLIX_RING_HEAD_WORDS);
		memcpy(&head, buf, sizeof(head));
		cr_assert_eq(head.size, 24 + 8 * entry.n_words);
		cr_assert_eq(head.type, type);
		cr_assert_eq(head.flags, id & 3);
		cr_assert_eq(head.seq, id);
		cr_assert_eq(head.t_ns, ~id);
		cr_assert(tiny_record_ok(buf, (int)entry.n_words + BLIX_RING_HEAD_WORDS, &found));
		cr_assert_eq(found, id);
		cr_assert_eq(next(&reader), 0);
	}
	cr_assert_eq(reader.lost, 0);
	cr_assert_eq(reader.duplicates + reader.lapped + reader.corrupt, 0);
}

/* One record of `bytes`, as an important one while somebody listens. */
static void write_bytes(uint64_t bytes)
{
	struct blix_ring_entry entry =
		entry_of(BLIX_REC_SPAN, BLIX_REC_PRIORITY, (uint32_t)(bytes - 24) / 8);

	cr_assert_eq(blix_ring_write(&writer, &entry, true), BLIX_DROP_NONE);
}

Test(ring, a_gap_of_any_size_before_the_wrap_is_padded)
{
	/* Each round starts at a wrap; its last record but one ends `gap` bytes before the next. */
	for (uint64_t gap = 8; gap <= SMALL; gap += 8) {
		struct blix_ring_reader reader = resumed();
		uint64_t wrap = ring->tail + CAP;

		while (ring->tail < wrap - 2 * SMALL)
			write_bytes(SMALL);
		write_bytes(2 * SMALL - gap);
		cr_assert_eq(ring->tail, wrap - gap);
		cr_assert_eq(drain(&reader), CAP / SMALL - 1);
		acknowledge(&reader);

		write_bytes(SMALL + gap); /* does not fit into the gap */
		cr_assert_eq(ring->tail, wrap + SMALL + gap);
		cr_assert_eq(*word_at(wrap - gap), gap | (uint64_t)BLIX_REC_PAD << 32);
		write_bytes(2 * SMALL - gap);
		cr_assert_eq(drain(&reader), 2);
		acknowledge(&reader);
		while (ring->tail < wrap + CAP)
			write_bytes(SMALL);
		drain(&reader);
		cr_assert_eq(reader.lost, 0);
		acknowledge(&reader);
	}
}

Test(ring, an_eighth_of_the_ring_fits_and_eight_bytes_more_do_not)
{
	struct blix_ring_entry largest = entry_of(BLIX_REC_SPAN, 0, CAP / 8 / 8 - 3);
	struct blix_ring_entry larger = entry_of(BLIX_REC_SPAN, 0, CAP / 8 / 8 - 2);
	struct blix_ring_entry huge = entry_of(BLIX_REC_SPAN, 0, UINT32_MAX);
	struct blix_ring_reader reader = resumed();

	cr_assert_eq(blix_ring_write(&writer, &largest, false), BLIX_DROP_NONE);
	cr_assert_eq(blix_ring_write(&writer, &larger, false), BLIX_DROP_TOO_BIG);
	cr_assert_eq(blix_ring_write(&writer, &huge, false), BLIX_DROP_TOO_BIG);
	cr_assert_eq(next(&reader), CAP / 8 / 8);
	cr_assert_eq(next(&reader), 0);
}

Test(ring, an_empty_body_is_a_record)
{
	struct blix_ring_entry empty = entry_of(BLIX_REC_MARK, BLIX_REC_PRIORITY, 0);
	struct blix_ring_reader reader = resumed();

	cr_assert_eq(blix_ring_write(&writer, &empty, true), BLIX_DROP_NONE);
	cr_assert_eq(next(&reader), BLIX_RING_HEAD_WORDS);
}

Test(ring, a_new_owner_continues_the_numbers)
{
	uint64_t words[TINY_BODY_WORDS_MAX];
	struct blix_ring_reader reader = resumed();

	/* Sizes of all kinds, so that the walk meets pads. */
	for (uint64_t id = 0; id < 2000; id++) {
		struct blix_ring_entry entry = tiny_entry(id, BLIX_REC_SPAN, 0, words);
		struct blix_ring_writer successor;

		cr_assert_eq(blix_ring_write(&writer, &entry, false), BLIX_DROP_NONE);
		cr_assert_eq(blix_ring_writer_init(&successor, &file.view, LANE), 0);
		cr_assert_eq(successor.seq, id + 1);
		cr_assert_eq(successor.tail, writer.tail);
		cr_assert_eq(successor.floor, writer.floor);
		if (id % 7 == 0)
			writer = successor;
		drain(&reader);
	}
	cr_assert_eq(reader.lost, 0);
	cr_assert_eq(reader.delivered, 2000);
}

/* ---- room ----------------------------------------------------------------------------------- */

Test(ring, while_nobody_listens_it_holds_the_newest_and_loss_is_exact)
{
	struct blix_ring_reader reader = resumed();
	const uint64_t total = 3 * CAP / SMALL + 17;

	write_n((uint32_t)total);
	cr_assert_geq(ring->tail - ring->floor, CAP - CAP / 8 - CAP / 16, "too much was given up");
	cr_assert_eq(drain(&reader), (ring->tail - ring->floor) / SMALL);
	cr_assert_eq(reader.delivered + reader.lost, total);
	cr_assert_eq(reader.expect, total, "the newest record came out");
}

Test(ring, while_somebody_listens_nothing_unacknowledged_is_overwritten)
{
	struct blix_ring_reader reader = resumed();
	uint64_t accepted = 0;

	while (write_small(BLIX_REC_SPAN, BLIX_REC_PRIORITY, true) == BLIX_DROP_NONE)
		accepted++;
	cr_assert_eq(accepted, CAP / SMALL);
	cr_assert_eq(write_small(BLIX_REC_SPAN, BLIX_REC_PRIORITY, true), BLIX_DROP_FULL);
	cr_assert_eq(ring->floor, 0);

	/* One record acknowledged makes room for one record, not for the floor's slack. */
	cr_assert_gt(next(&reader), 0);
	acknowledge(&reader);
	cr_assert_eq(write_small(BLIX_REC_SPAN, BLIX_REC_PRIORITY, true), BLIX_DROP_NONE);
	cr_assert_eq(ring->floor, SMALL);
	cr_assert_eq(write_small(BLIX_REC_SPAN, BLIX_REC_PRIORITY, true), BLIX_DROP_FULL);

	cr_assert_eq(drain(&reader), accepted);
	cr_assert_eq(reader.lost, 0);
	acknowledge(&reader);
	cr_assert_eq(write_small(BLIX_REC_SPAN, BLIX_REC_PRIORITY, true), BLIX_DROP_NONE);
	cr_assert_eq(ring->floor, SMALL + SMALL + CAP / 16, "with room to spare it moves rarely");
}

/* Fill to exactly `unread` bytes, by records that no level holds back. */
static void fill_to(uint64_t unread)
{
	while (ring->tail < unread)
		cr_assert_eq(write_small(BLIX_REC_MARK, BLIX_REC_PRIORITY, true), BLIX_DROP_NONE);
	cr_assert_eq(ring->tail, unread);
}

Test(ring, logs_yield_above_three_quarters_while_somebody_listens)
{
	fill_to(CAP / 4 * 3);
	cr_assert_eq(write_small(BLIX_REC_LOG, 0, true), BLIX_DROP_NONE, "at the level");
	cr_assert_eq(write_small(BLIX_REC_LOG, 0, true), BLIX_DROP_SHED, "above it");
	cr_assert_eq(write_small(BLIX_REC_LOG, BLIX_REC_PRIORITY, true), BLIX_DROP_NONE, "severe");
	cr_assert_eq(write_small(BLIX_REC_SPAN, 0, true), BLIX_DROP_NONE, "spans have more room");
	cr_assert_eq(write_small(BLIX_REC_LOG, 0, false), BLIX_DROP_NONE, "nobody listens");
}

Test(ring, ordinary_spans_yield_above_seven_eighths_while_somebody_listens)
{
	fill_to(CAP / 8 * 7);
	cr_assert_eq(write_small(BLIX_REC_SPAN, 0, true), BLIX_DROP_NONE, "at the level");
	cr_assert_eq(write_small(BLIX_REC_SPAN, 0, true), BLIX_DROP_SHED, "above it");
	cr_assert_eq(write_small(BLIX_REC_SPAN, BLIX_REC_PRIORITY, true), BLIX_DROP_NONE);
	cr_assert_eq(write_small(BLIX_REC_SPAN, 0, false), BLIX_DROP_NONE, "nobody listens");
	fill_to(CAP);
	cr_assert_eq(write_small(BLIX_REC_SPAN, 0, true), BLIX_DROP_SHED, "full, and ordinary");
	cr_assert_eq(write_small(BLIX_REC_SPAN, BLIX_REC_PRIORITY, true), BLIX_DROP_FULL);
}

Test(ring, shedding_ends_as_soon_as_the_agent_has_acknowledged)
{
	struct blix_ring_reader reader = resumed();

	fill_to(CAP);
	cr_assert_eq(write_small(BLIX_REC_LOG, 0, true), BLIX_DROP_SHED);
	drain(&reader);
	acknowledge(&reader);
	cr_assert_eq(write_small(BLIX_REC_LOG, 0, true), BLIX_DROP_NONE);
}

Test(ring, an_acknowledgement_beyond_the_tail_is_ignored_and_counted)
{
	const uint64_t *count = &blix_view_header(&file.view)->stats[BLIX_STAT_CONSUMER_CORRUPT];

	fill_to(CAP);
	blix_ring_ack(&file.view, LANE, ring->tail + 8, 0, 0);
	cr_assert_eq(write_small(BLIX_REC_SPAN, BLIX_REC_PRIORITY, true), BLIX_DROP_FULL);
	cr_assert_eq(*count, 1);
	blix_ring_ack(&file.view, LANE, ring->tail, 0, 0);
	cr_assert_eq(write_small(BLIX_REC_SPAN, BLIX_REC_PRIORITY, true), BLIX_DROP_NONE);
	cr_assert_eq(*count, 1);
}

Test(ring, an_acknowledgement_never_goes_back)
{
	fill_to(CAP);
	blix_ring_ack(&file.view, LANE, CAP, 0, 0);
	cr_assert_eq(write_small(BLIX_REC_SPAN, 0, true), BLIX_DROP_NONE);
	blix_ring_ack(&file.view, LANE, 0, 0, 0);
	for (uint32_t i = 0; i < CAP / 8 * 7 / SMALL; i++)
		cr_assert_eq(write_small(BLIX_REC_SPAN, 0, true), BLIX_DROP_NONE);
}

Test(ring, an_acknowledgement_below_the_floor_only_means_lapped)
{
	write_n(2 * CAP / SMALL);
	cr_assert_gt(ring->floor, 0);
	/* head is still 0: the whole ring counts as unread, no more and no less */
	cr_assert_eq(write_small(BLIX_REC_SPAN, BLIX_REC_PRIORITY, true),
		     ring->tail - ring->floor + SMALL > CAP ? BLIX_DROP_FULL : BLIX_DROP_NONE);
	cr_assert_eq(blix_view_header(&file.view)->stats[BLIX_STAT_CONSUMER_CORRUPT], 0);
}

Test(ring, an_acknowledgement_in_the_middle_of_a_record_gives_up_no_record_partly)
{
	fill_to(CAP);
	blix_ring_ack(&file.view, LANE, SMALL + 8, 0, 0);
	cr_assert_eq(write_small(BLIX_REC_SPAN, BLIX_REC_PRIORITY, true), BLIX_DROP_NONE);
	cr_assert_eq(ring->floor, SMALL);
	cr_assert_eq(write_small(BLIX_REC_SPAN, BLIX_REC_PRIORITY, true), BLIX_DROP_FULL);
}

Test(ring, a_writer_that_finds_its_ring_damaged_refuses_everything)
{
	write_n(CAP / SMALL);
	*word_at(0) = 4;
	cr_assert_eq(write_small(BLIX_REC_SPAN, 0, false), BLIX_DROP_CORRUPT);
	*word_at(0) = SMALL | (uint64_t)BLIX_REC_SPAN << 32;
	cr_assert_eq(write_small(BLIX_REC_SPAN, 0, false), BLIX_DROP_CORRUPT, "for good");
}

Test(ring, a_new_owner_of_a_damaged_ring_gets_a_writer_that_refuses)
{
	struct blix_ring_entry entry = entry_of(BLIX_REC_SPAN, 0, 1);
	static const struct {
		uint64_t floor, tail, head;
	} bad[] = {
		{0, SMALL, 0},
		{0, SMALL, 12 | (uint64_t)BLIX_REC_SPAN << 32},
		{0, SMALL, 16 | (uint64_t)BLIX_REC_SPAN << 32},
		{0, SMALL, (SMALL + 8) | (uint64_t)BLIX_REC_SPAN << 32},
		{0, CAP, (CAP / 8 + 8) | (uint64_t)BLIX_REC_SPAN << 32},
		{4, SMALL, SMALL | (uint64_t)BLIX_REC_SPAN << 32},
		{0, SMALL + 4, SMALL | (uint64_t)BLIX_REC_SPAN << 32},
		{SMALL, 0, SMALL | (uint64_t)BLIX_REC_SPAN << 32},
		{0, CAP + 8, SMALL | (uint64_t)BLIX_REC_SPAN << 32},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ring->floor = bad[i].floor;
		ring->tail = bad[i].tail;
		*word_at(0) = bad[i].head;
		cr_assert_eq(blix_ring_writer_init(&writer, &file.view, LANE), -EILSEQ, "case %zu",
			     i);
		cr_assert_eq(blix_ring_write(&writer, &entry, false), BLIX_DROP_CORRUPT);
		cr_assert_eq(ring->tail, bad[i].tail, "untouched");
	}
}

Test(ring, a_new_owner_checks_the_positions_even_if_every_record_is_sound)
{
	write_n(CAP / SMALL);
	ring->tail = CAP + SMALL; /* more than the ring holds */
	cr_assert_eq(blix_ring_writer_init(&writer, &file.view, LANE), -EILSEQ);

	*word_at(0) = (SMALL | (uint64_t)BLIX_REC_SPAN << 32) << 32;
	*word_at(8) = (SMALL | (uint64_t)BLIX_REC_SPAN << 32) >> 32;
	ring->floor = 4;
	ring->tail = 4 + SMALL;
	cr_assert_eq(blix_ring_writer_init(&writer, &file.view, LANE), -EILSEQ, "misaligned");
}

/* ---- waking --------------------------------------------------------------------------------- */

static int wakes;

static void count_wake(uint32_t *word)
{
	cr_assert_eq(word, &blix_view_consumer(&file.view)->wake_armed);
	wakes++;
}

Test(ring, an_armed_reader_is_woken_once_above_a_quarter)
{
	uint32_t *armed = &blix_view_consumer(&file.view)->wake_armed;

	writer.wake = count_wake;
	write_n(CAP / 4 / SMALL - 1);
	*armed = 1;
	write_n(1);
	cr_assert_eq(wakes, 0, "exactly a quarter");
	write_n(1);
	cr_assert_eq(wakes, 1, "above it");
	cr_assert_eq(*armed, 0);
	write_n(10);
	cr_assert_eq(wakes, 1, "once an arming");
	*armed = 1;
	write_n(1);
	cr_assert_eq(wakes, 2, "level, not edge");
}

Test(ring, a_refused_record_still_wakes)
{
	uint32_t *armed = &blix_view_consumer(&file.view)->wake_armed;

	writer.wake = count_wake;
	fill_to(CAP);
	*armed = 1;
	cr_assert_eq(write_small(BLIX_REC_SPAN, 0, true), BLIX_DROP_SHED);
	cr_assert_eq(wakes, 1);
}

Test(ring, a_reader_that_is_up_to_date_sleeps_on)
{
	struct blix_ring_reader reader = resumed();
	uint32_t *armed = &blix_view_consumer(&file.view)->wake_armed;

	writer.wake = count_wake;
	write_n(CAP / 2 / SMALL);
	drain(&reader);
	acknowledge(&reader);
	*armed = 1;
	write_n(CAP / 4 / SMALL);
	cr_assert_eq(wakes, 0);
	write_n(1);
	cr_assert_eq(wakes, 1);
}

static void *wait_for_wake(void *arg)
{
	uint32_t *armed = arg;
	struct timespec limit = {.tv_sec = 20};

	while (blix_load_acquire(armed) == 1)
		if (syscall(SYS_futex, armed, FUTEX_WAIT, 1, &limit, NULL, 0) < 0 &&
		    errno == ETIMEDOUT)
			return NULL;
	return arg;
}

Test(ring, the_wake_reaches_a_thread_that_waits_on_the_futex, .timeout = 30)
{
	uint32_t *armed = &blix_view_consumer(&file.view)->wake_armed;
	pthread_t waiter;
	void *woken;

	blix_store_release(armed, 1);
	cr_assert_eq(pthread_create(&waiter, NULL, wait_for_wake, armed), 0);
	errno = EXDEV;
	write_n(CAP / 4 / SMALL + 1);
	writer.wake(NULL); /* a wake that fails */
	cr_assert_eq(errno, EXDEV, "recording leaves errno alone");
	cr_assert_eq(pthread_join(waiter, &woken), 0);
	cr_assert_not_null(woken);
}

/* ---- reading what is not there, not true or not sane ---------------------------------------- */

Test(ring, a_reader_without_a_past_counts_no_loss_before_it_came)
{
	struct blix_ring_reader reader;

	write_n(2 * CAP / SMALL);
	blix_ring_reader_init(&reader, &file.view, LANE);
	cr_assert_eq(drain(&reader), (ring->tail - ring->floor) / SMALL);
	cr_assert_eq(reader.lost, 0);
	reader.delivered = 0;
	write_n(2 * CAP / SMALL);
	drain(&reader);
	cr_assert_gt(reader.lost, 0);
	cr_assert_eq(reader.lost + reader.delivered, 2 * CAP / SMALL, "but all of it since");
}

Test(ring, a_floor_beyond_the_tail_we_know_means_later)
{
	struct blix_ring_reader reader = resumed();

	write_n(3);
	ring->floor = ring->tail + SMALL; /* as a reader with an old tail sees it */
	cr_assert_eq(next(&reader), 0);
	cr_assert_eq(reader.corrupt, 0);
	cr_assert_eq(reader.lapped, 1);
	ring->tail += SMALL;
	cr_assert_eq(next(&reader), 0, "the bytes below the floor are nobody's");
}

Test(ring, a_tail_behind_the_reader_means_later)
{
	struct blix_ring_reader reader = resumed();

	write_n(3);
	drain(&reader);
	ring->tail -= SMALL;
	cr_assert_eq(next(&reader), 0);
	cr_assert_eq(reader.corrupt, 0);
}

Test(ring, each_damaged_header_is_found_and_skipped_to_the_tail)
{
	static const uint64_t sizes[] = {0,  4, 7, 12, CAP / 8 + 8, UINT32_MAX, UINT32_MAX - 7,
					 16, 8};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct blix_ring_reader reader = resumed();

		write_n(4);
		cr_assert_gt(next(&reader), 0);
		*word_at(ring->tail - 3 * SMALL) = sizes[i] | (uint64_t)BLIX_REC_SPAN << 32;
		cr_assert_eq(next(&reader), -EILSEQ, "size %lu", sizes[i]);
		cr_assert_eq(next(&reader), 0);
		write_n(1);
		cr_assert_eq(next(&reader), SMALL / 8, "the lane goes on");
		cr_assert_eq(reader.lost, 3 * (i + 1), "and what was skipped is known by seq");
		acknowledge(&reader);
	}
}

Test(ring, a_damaged_size_is_damage_even_where_there_is_room_for_it)
{
	static const struct {
		uint64_t size, type;
	} bad[] = {
		{0, BLIX_REC_PAD},
		{4, BLIX_REC_PAD},
		{12, BLIX_REC_PAD},
		{CAP / 8 + 8, BLIX_REC_PAD},
		{CAP / 8 + 8, BLIX_REC_SPAN},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct blix_ring_reader reader;
		uint64_t pos = ring->tail;

		write_n(CAP / 8 / SMALL + 1);
		blix_ring_reader_init(&reader, &file.view, LANE);
		reader.pos = pos;
		*word_at(pos) = bad[i].size | bad[i].type << 32;
		/* Behind a size of 12 lies what would be a record, were it aligned. */
		*word_at(pos + 8) = UINT64_C(24) << 32;
		*word_at(pos + 16) = BLIX_REC_SPAN;
		cr_assert_eq(next(&reader), -EILSEQ, "case %zu", i);
		cr_assert_eq(reader.pos, ring->tail);
		*word_at(pos) = SMALL | (uint64_t)BLIX_REC_SPAN << 32;
	}
}

Test(ring, a_record_that_would_cross_the_tail_or_the_wrap_is_damaged)
{
	struct blix_ring_reader reader = resumed();

	write_n(1);
	*word_at(0) = (SMALL + 8) | (uint64_t)BLIX_REC_SPAN << 32;
	cr_assert_eq(next(&reader), -EILSEQ);
	*word_at(0) = SMALL | (uint64_t)BLIX_REC_SPAN << 32;

	write_n(CAP / SMALL);
	reader.pos = CAP - SMALL;
	ring->floor = 0; /* the writer has passed it, but the reader must not notice */
	*word_at(CAP - SMALL) = (SMALL + 8) | (uint64_t)BLIX_REC_SPAN << 32;
	cr_assert_eq(next(&reader), -EILSEQ);
}

Test(ring, damage_that_was_lapped_is_not_damage)
{
	struct blix_ring_reader reader = resumed();

	write_n(2 * CAP / SMALL);
	reader.pos = ring->floor - SMALL;
	*word_at(reader.pos) = 3;
	cr_assert_gt(next(&reader), 0);
	cr_assert_eq(reader.corrupt, 0);
}

Test(ring, three_damaged_places_quarantine_the_lane)
{
	struct blix_ring_reader reader = resumed();

	for (int i = 0; i < BLIX_RING_CORRUPT_MAX; i++) {
		cr_assert_not(reader.quarantined);
		write_n(1);
		*word_at(ring->tail - SMALL) = 4;
		cr_assert_eq(next(&reader), -EILSEQ);
	}
	cr_assert(reader.quarantined);
	write_n(1);
	cr_assert_eq(next(&reader), -ENOTRECOVERABLE);
}

Test(ring, a_misaligned_tail_or_floor_is_damage_and_never_an_address)
{
	struct blix_ring_reader reader = resumed();

	write_n(2);
	ring->tail += 4;
	cr_assert_eq(next(&reader), -EILSEQ);
	ring->tail -= 4;
	ring->floor = SMALL + 1;
	cr_assert_eq(next(&reader), -EILSEQ);
	ring->floor = 0;
	cr_assert_gt(next(&reader), 0);
	cr_assert_eq(reader.pos % 8, 0);

	ring->floor = 12;
	blix_ring_reader_init(&reader, &file.view, LANE);
	cr_assert_eq(reader.pos % 8, 0);
}

Test(ring, a_record_longer_than_the_buffer_is_skipped_and_counted)
{
	struct blix_ring_reader reader = resumed();
	struct blix_record head;

	write_n(3);
	cr_assert_eq(blix_ring_next(&reader, buf, SMALL / 8), SMALL / 8, "fits exactly");
	cr_assert_eq(blix_ring_next(&reader, buf, SMALL / 8 - 1), -EMSGSIZE);
	memcpy(&head, buf, sizeof(head));
	cr_assert_eq(head.seq, 1);
	cr_assert_eq(head.size, SMALL);
	cr_assert_eq(blix_ring_next(&reader, buf, SMALL / 8), SMALL / 8);
	cr_assert_eq(reader.oversized, 1);
	cr_assert_eq(reader.delivered, 2);
	cr_assert_eq(reader.lost, 0, "it is not lost, it is skipped");
}

Test(ring, records_seen_before_are_skipped_and_counted)
{
	struct blix_ring_reader reader = resumed();

	write_n(5);
	for (int i = 0; i < 3; i++)
		cr_assert_gt(next(&reader), 0);
	reader.pos = SMALL;
	cr_assert_eq(drain(&reader), 2);
	cr_assert_eq(reader.duplicates, 2);
	cr_assert_eq(reader.lost, 0);
}

Test(ring, a_gap_its_bytes_cannot_have_held_is_not_counted_as_loss)
{
	struct blix_ring_reader reader = resumed();

	write_n(3);
	*(word_at(SMALL) + 1) = UINT64_C(1) << 40;
	*(word_at(2 * SMALL) + 1) = (UINT64_C(1) << 40) + 1;
	cr_assert_eq(drain(&reader), 3);
	cr_assert_eq(reader.lost, 0);
	cr_assert_eq(reader.implausible, 1);
}

Test(ring, a_gap_is_measured_from_the_last_record_read)
{
	struct blix_ring_reader reader = resumed();

	write_n(20);
	drain(&reader);
	write_n(1);
	*(word_at(ring->tail - SMALL) + 1) += 1; /* one lost, in no bytes at all */
	cr_assert_eq(drain(&reader), 1);
	cr_assert_eq(reader.implausible, 1);
	cr_assert_eq(reader.lost, 0);
}

Test(ring, a_ring_of_nothing_but_pads_is_left_after_bounded_work)
{
	struct blix_ring_reader reader = resumed();

	for (uint64_t pos = 0; pos < CAP; pos += 8)
		*word_at(pos) = 8 | (uint64_t)BLIX_REC_PAD << 32;
	ring->tail = CAP;
	cr_assert_eq(next(&reader), -EAGAIN);
	cr_assert_eq(reader.pos, 8 * BLIX_RING_TRIES_MAX);
	cr_assert_eq(next(&reader), -EAGAIN, "the other half");
	cr_assert_eq(next(&reader), 0);
}

/* ---- acknowledgement ------------------------------------------------------------------------ */

Test(ring, a_reader_resumes_where_the_last_one_acknowledged)
{
	struct blix_ring_reader first = resumed();
	struct blix_ring_reader second;

	write_n(2 * CAP / SMALL);
	for (int i = 0; i < 10; i++)
		cr_assert_gt(next(&first), 0);
	acknowledge(&first);
	drain(&first);

	second = resumed();
	cr_assert_eq(second.lost, first.lost);
	cr_assert_eq(drain(&second), first.delivered - 10);
	cr_assert_eq(second.lost, first.lost);
	cr_assert_eq(second.expect, first.expect);
}

Test(ring, loss_between_two_agents_is_counted_by_the_second)
{
	struct blix_ring_reader reader = resumed();

	write_n(10);
	drain(&reader);
	acknowledge(&reader);
	write_n(3 * CAP / SMALL);
	reader = resumed();
	drain(&reader);
	cr_assert_eq(10 + reader.delivered + reader.lost, 10 + 3 * CAP / SMALL);
}

Test(ring, a_half_written_acknowledgement_does_not_count)
{
	struct blix_consumer_lane *consumer = blix_view_consumer_lane(&file.view, LANE);
	struct blix_ring_reader reader;

	write_n(10);
	blix_ring_ack(&file.view, LANE, 2 * SMALL, 2, 0);
	consumer->ack[1 - consumer->sel].head = 8 * SMALL; /* killed here */
	reader = resumed();
	cr_assert_eq(reader.pos, 2 * SMALL);
	cr_assert_eq(reader.expect, 2);
}

Test(ring, an_acknowledgement_that_cannot_be_true_starts_a_new_cursor)
{
	static const struct blix_ack bad[] = {
		{10 * SMALL + 8, 10, 0},		       /* beyond the tail */
		{UINT64_MAX - 7, 10, 0},    {SMALL + 4, 1, 0}, /* misaligned */
		{2 * SMALL, UINT64_MAX, 0}, /* more records than its bytes hold */
		{2 * SMALL, 2, UINT64_MAX}, {2 * SMALL, 2, 3},
	};
	struct blix_ring_reader reader;

	write_n(10);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		blix_ring_ack(&file.view, LANE, bad[i].head, bad[i].head_seq, bad[i].lost);
		cr_assert_eq(blix_ring_reader_resume(&reader, &file.view, LANE), -EILSEQ,
			     "case %zu", i);
		cr_assert_leq(reader.lost, 3, "case %zu", i);
		cr_assert_eq(drain(&reader), 10);
	}
}

Test(ring, a_wrong_seq_in_an_acknowledgement_costs_no_record)
{
	struct blix_ring_reader reader;

	write_n(10);
	blix_ring_ack(&file.view, LANE, 2 * SMALL, 5, 0); /* plausible, but it was 2 */
	reader = resumed();
	cr_assert_eq(drain(&reader), 8);
	cr_assert_eq(reader.implausible, 1);
	blix_ring_ack(&file.view, LANE, 2 * SMALL, 0, 0);
	reader = resumed();
	cr_assert_eq(drain(&reader), 8);
	cr_assert_eq(reader.implausible, 1);
	cr_assert_eq(reader.lost, 0);
}

Test(ring, the_selector_is_taken_modulo_two)
{
	struct blix_consumer_lane *consumer = blix_view_consumer_lane(&file.view, LANE);
	struct blix_ring_reader reader;

	write_n(10);
	consumer->ack[1] = (struct blix_ack){4 * SMALL, 4, 0};
	consumer->sel = UINT32_MAX;
	reader = resumed();
	cr_assert_eq(reader.pos, 4 * SMALL);
	while (write_small(BLIX_REC_SPAN, BLIX_REC_PRIORITY, true) == BLIX_DROP_NONE)
		continue;
	cr_assert_eq(ring->floor, 4 * SMALL, "by the writer as well");
	blix_ring_ack(&file.view, LANE, 5 * SMALL, 5, 0);
	cr_assert_eq(consumer->sel, 0);
	cr_assert_eq(consumer->ack[0].head, 5 * SMALL);
}

Test(ring, a_view_without_writable_consumer_pages_reads_the_acknowledgement)
{
	struct blix_view reading = file.view;
	struct blix_ring_reader reader;

	reading.consumer = NULL;
	write_n(10);
	blix_ring_ack(&file.view, LANE, 4 * SMALL, 4, 0);
	cr_assert_eq(blix_ring_reader_resume(&reader, &reading, LANE), 0);
	cr_assert_eq(reader.pos, 4 * SMALL);
}

/* ---- counting and measuring ----------------------------------------------------------------- */

Test(ring, drops_are_counted_by_kind_and_reason)
{
	cr_assert_eq(blix_ring_drop_kind(BLIX_REC_SPAN), BLIX_DROP_SPAN);
	cr_assert_eq(blix_ring_drop_kind(BLIX_REC_LOG), BLIX_DROP_LOG);
	cr_assert_eq(blix_ring_drop_kind(BLIX_REC_MARK), BLIX_DROP_LOG);

	for (uint32_t lane = 0; lane < 2; lane++) {
		blix_ring_count_drop(&file.view, lane, BLIX_DROP_SPAN, BLIX_DROP_FULL);
		blix_ring_count_drop(&file.view, lane, BLIX_DROP_LOG, BLIX_DROP_SHED);
		blix_ring_count_drop(&file.view, lane, BLIX_DROP_LOG, BLIX_DROP_SHED);
		ring = blix_view_ring(&file.view, lane);
		cr_assert_eq(ring->drops[BLIX_DROP_SPAN][BLIX_DROP_FULL], 1);
		cr_assert_eq(ring->drops[BLIX_DROP_LOG][BLIX_DROP_SHED], 2);
		cr_assert_eq(ring->drops[BLIX_DROP_SPAN][BLIX_DROP_SHED], 0);
	}
}

Test(ring, fill_is_what_is_held_and_what_is_owed)
{
	struct blix_ring_fill fill;

	write_n(10);
	blix_ring_ack(&file.view, LANE, 4 * SMALL, 4, 0);
	fill = blix_ring_fill(&file.view, LANE);
	cr_assert_eq(fill.capacity_bytes, CAP);
	cr_assert_eq(fill.held_bytes, 10 * SMALL);
	cr_assert_eq(fill.unacknowledged_bytes, 6 * SMALL);
}

Test(ring, fill_stays_within_the_ring_whatever_the_file_says)
{
	static const uint64_t values[] = {0, 8, CAP, CAP + 8, UINT64_C(1) << 62, UINT64_MAX};
	const size_t n = sizeof(values) / sizeof(values[0]);

	for (size_t i = 0; i < n * n * n; i++) {
		struct blix_ring_fill fill;

		ring->tail = values[i % n];
		ring->floor = values[i / n % n];
		blix_ring_ack(&file.view, LANE, values[i / n / n], 0, 0);
		fill = blix_ring_fill(&file.view, LANE);
		cr_assert_leq(fill.held_bytes, CAP);
		cr_assert_leq(fill.unacknowledged_bytes, CAP);
	}
}

Test(ring, any_positions_and_any_bytes_end_in_bounded_work, .timeout = 30)
{
	struct blix_ring_reader reader;

	for (uint64_t round = 0; round < 3000; round++) {
		int calls = 0;

		for (uint64_t pos = 0; pos < CAP; pos += 8) {
			uint64_t r = tiny_hash(round * CAP + pos);

			*word_at(pos) = r % 4 == 0 ? r : (r >> 8) % 300 / 8 * 8 | r % 5 << 32;
		}
		ring->floor = tiny_hash(round * 3) >> (round % 64);
		ring->tail = ring->floor + (tiny_hash(round * 3 + 1) >> (round / 3 % 64));
		if (round % 3) {
			ring->floor &= ~UINT64_C(7);
			ring->tail &= ~UINT64_C(7);
		}
		blix_ring_ack(&file.view, LANE, tiny_hash(round * 3 + 2) >> (round / 5 % 64), round,
			      0);
		(void)blix_ring_reader_resume(&reader, &file.view, LANE);
		while (calls++ < 2000) {
			int ret = next(&reader);

			cr_assert_leq(ret, TINY_RECORD_WORDS_MAX);
			if (ret == 0 || ret == -ENOTRECOVERABLE)
				break;
		}
	}
}
