/* Goal: an exemplar is read whole or not at all, and writing one never waits. Method: states of
 * the seqlock set by hand, then writers and a reader at full speed over one slot whose fields all
 * follow from one number. */
#include "shm/exemplar.h"
#include "test/support/tiny_file.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

static struct blix_exemplar exemplar_of(uint64_t id)
{
	struct blix_exemplar exemplar = {
		.bucket = (uint32_t)tiny_hash(id),
		.value = id,
		.t_ns = tiny_hash(id + 1),
	};
	uint64_t words[3] = {tiny_hash(id + 2), tiny_hash(id + 3), tiny_hash(id + 4)};

	memcpy(exemplar.trace_id, words, sizeof(exemplar.trace_id));
	memcpy(exemplar.span_id, &words[2], sizeof(exemplar.span_id));
	return exemplar;
}

static bool is_whole(const struct blix_exemplar *exemplar)
{
	struct blix_exemplar expected = exemplar_of(exemplar->value);

	expected.seq = exemplar->seq;
	return memcmp(exemplar, &expected, sizeof(expected)) == 0;
}

Test(exemplar, what_was_written_is_read)
{
	struct blix_exemplar slot = {0};
	struct blix_exemplar out;

	for (uint64_t id = 1; id < 100; id++) {
		struct blix_exemplar in = exemplar_of(id);

		cr_assert(blix_exemplar_write(&slot, &in));
		cr_assert(blix_exemplar_try_read(&slot, &out));
		cr_assert_eq(out.value, id);
		cr_assert_eq(out.seq, 2 * id);
		cr_assert(is_whole(&out));
	}
}

Test(exemplar, a_slot_never_written_holds_nothing)
{
	struct blix_exemplar slot = {0};
	struct blix_exemplar out = exemplar_of(7);

	cr_assert_not(blix_exemplar_try_read(&slot, &out));
	cr_assert_eq(out.value, 7, "written on success only");
}

Test(exemplar, a_slot_being_written_is_neither_read_nor_written)
{
	struct blix_exemplar slot = exemplar_of(1);
	struct blix_exemplar in = exemplar_of(2);
	struct blix_exemplar out = exemplar_of(7);

	slot.seq = 5; /* a writer is at work, or died here */
	cr_assert_not(blix_exemplar_try_read(&slot, &out));
	cr_assert_eq(out.value, 7);
	cr_assert_not(blix_exemplar_write(&slot, &in));
	cr_assert_eq(slot.value, 1);
	cr_assert_eq(slot.seq, 5);
}

Test(exemplar, it_is_due_when_empty_or_older_than_a_second)
{
	const uint64_t now = 100 * BLIX_EXEMPLAR_MIN_AGE_NS;
	struct blix_exemplar slot = {0};

	cr_assert(blix_exemplar_due(&slot, 1));
	slot.t_ns = now - BLIX_EXEMPLAR_MIN_AGE_NS;
	cr_assert_not(blix_exemplar_due(&slot, now));
	cr_assert(blix_exemplar_due(&slot, now + 1));
	slot.t_ns = now + 1;
	cr_assert(blix_exemplar_due(&slot, now), "a time from the future blocks nothing");
}

enum { WRITERS = 2, WRITES = 200000 };
static struct blix_exemplar shared_slot;
static uint32_t writers_left = WRITERS;

static void *write_many(void *arg)
{
	uint64_t base = *(uint64_t *)arg;
	uint64_t written = 0;

	for (uint64_t i = 0; i < WRITES; i++) {
		struct blix_exemplar in = exemplar_of(base + i);

		written += blix_exemplar_write(&shared_slot, &in);
	}
	*(uint64_t *)arg = written;
	(void)__atomic_sub_fetch(&writers_left, 1, __ATOMIC_RELEASE);
	return NULL;
}

Test(exemplar, writers_at_full_speed_never_show_a_mixture, .timeout = 30)
{
	pthread_t threads[WRITERS];
	uint64_t bases[WRITERS] = {1, UINT64_C(1) << 32};
	uint64_t reads = 0;
	struct blix_exemplar out;

	for (int i = 0; i < WRITERS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, write_many, &bases[i]), 0);
	do {
		if (!blix_exemplar_try_read(&shared_slot, &out))
			continue;
		cr_assert(is_whole(&out));
		reads++;
	} while (__atomic_load_n(&writers_left, __ATOMIC_ACQUIRE) > 0 || reads == 0);
	for (int i = 0; i < WRITERS; i++)
		cr_assert_eq(pthread_join(threads[i], NULL), 0);
	cr_assert(blix_exemplar_try_read(&shared_slot, &out));
	cr_assert_eq(out.seq, 2 * (bases[0] + bases[1]), "each success counted once");
}
