/* Goal: a buffer never exceeds its maximum, keeps what it has, and a failed one stays failed.
 * Method: appends around the maximum and around the sizes at which memory is moved. */
#include "agent/buf.h"
#include "test/support/scarce_memory.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(buf, holds_what_was_appended_across_every_growth)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	for (uint32_t i = 0; i < 100000; i++) {
		const uint8_t byte = (uint8_t)(i * 31);

		buf_add(&b, &byte, 1);
	}
	cr_assert(!b.failed);
	cr_assert_eq(b.len, 100000);
	for (uint32_t i = 0; i < 100000; i++)
		cr_assert_eq(b.data[i], (uint8_t)(i * 31), "byte %u", i);
	buf_done(&b);
}

Test(buf, takes_exactly_its_maximum_and_not_a_byte_more)
{
	static const size_t maxima[] = {1, 100, 4096, 4097, 12288, 100001};

	for (size_t i = 0; i < sizeof(maxima) / sizeof(maxima[0]); i++) {
		struct buf b;

		buf_init(&b, maxima[i]);
		for (size_t k = 0; k < maxima[i]; k++)
			buf_add(&b, "x", 1);
		cr_expect(!b.failed, "max %zu", maxima[i]);
		cr_expect_eq(b.len, maxima[i]);
		cr_expect_leq(b.capacity, maxima[i]);
		buf_add(&b, "x", 1);
		cr_expect(b.failed, "max %zu", maxima[i]);
		cr_expect_eq(b.len, maxima[i]);
		buf_done(&b);
	}
}

Test(buf, stays_failed_until_it_is_cleared)
{
	struct buf b;

	buf_init(&b, 4);
	buf_adds(&b, "abc");
	buf_adds(&b, "de");
	cr_expect(b.failed);
	buf_adds(&b, "f"); /* would fit, but a hole is worse than an end */
	cr_expect_eq(b.len, 3);
	cr_expect_null(buf_room(&b, 1));
	buf_addf(&b, "%d", 1);
	cr_expect_eq(b.len, 3);
	buf_clear(&b);
	buf_adds(&b, "wxyz");
	cr_expect(!b.failed);
	cr_expect_arr_eq(b.data, "wxyz", 4);
	buf_done(&b);
}

Test(buf, refuses_lengths_that_would_overflow)
{
	struct buf b;

	buf_init(&b, SIZE_MAX);
	buf_adds(&b, "abc");
	cr_expect_null(buf_room(&b, SIZE_MAX - 1));
	cr_expect(b.failed);
	buf_done(&b);
	buf_init(&b, 0);
	buf_add(&b, "", 0);
	cr_expect(!b.failed, "nothing fits into nothing");
	buf_add(&b, "x", 1);
	cr_expect(b.failed);
	buf_done(&b);
}

Test(buf, formats_short_and_long_text_and_fills_to_the_brim)
{
	char *expected = malloc(5001);
	struct buf b;

	cr_assert_not_null(expected);
	(void)memset(expected, ' ', 5000);
	(void)memcpy(expected + 4999, "7", 2);
	buf_init(&b, 6000);
	buf_addf(&b, "%s-%d", "a", 12);
	cr_expect_arr_eq(b.data, "a-12", 4);
	cr_expect_eq(b.len, 4);
	buf_clear(&b);
	buf_addf(&b, "%5000d", 7);
	cr_expect_eq(b.len, 5000);
	cr_expect_arr_eq(b.data, expected, 5000);
	buf_done(&b);
	buf_init(&b, 4);
	buf_addf(&b, "%d", 1234);
	cr_expect(!b.failed, "the terminator needs no room of its own");
	cr_expect_eq(b.len, 4);
	buf_done(&b);
	free(expected);
}

Test(buf, room_that_is_not_committed_is_not_content)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	cr_assert_not_null(buf_room(&b, 10000));
	cr_expect_eq(b.len, 0);
	(void)memcpy(b.data, "hello", 5);
	buf_commit(&b, 5);
	buf_adds(&b, "!");
	cr_expect_arr_eq(b.data, "hello!", 6);
	buf_done(&b);
	cr_expect_null(b.data);
	cr_expect_eq(b.capacity, 0);
}

Test(buf, fails_and_keeps_its_content_when_there_is_no_memory)
{
	struct buf b;

	if (!SCARCE_MEMORY_WORKS)
		cr_skip_test("a sanitizer needs address space without end");
	buf_init(&b, SIZE_MAX);
	buf_adds(&b, "abc");
	scarce_memory_begin(1 << 20);
	cr_expect_null(buf_room(&b, 1 << 30));
	scarce_memory_end();
	cr_expect(b.failed);
	cr_expect_eq(b.len, 3);
	cr_expect_arr_eq(b.data, "abc", 3);
	buf_done(&b);
}
