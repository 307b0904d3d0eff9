/* Goal: what we compress any gzip reader gives back, within the buffer's maximum, and the same body
 * always gives the same bytes.
 * Method: bodies of all kinds through zlib's own inflate; maxima around the size that is needed. */
#include "agent/encode/encode.h"
#include "test/support/scarce_memory.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

static void fill(struct buf *b, size_t len, bool random)
{
	uint64_t state = 1;

	buf_init(b, len);
	for (size_t i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)("blixard_raft_term 12\n"[i % 21]);

		state = state * 6364136223846793005ull + 1442695040888963407ull;
		if (random)
			byte = (uint8_t)(state >> 56);
		buf_add(b, &byte, 1);
	}
}

static void expect_inflates_to(const struct buf *packed, size_t from, const struct buf *expected)
{
	uint8_t *out = malloc(expected->len + 1);
	z_stream stream = {
		.next_in = packed->data + from,
		.avail_in = (uInt)(packed->len - from),
		.next_out = out,
		.avail_out = (uInt)expected->len + 1,
	};

	cr_assert_not_null(out);
	cr_assert_eq(inflateInit2(&stream, 15 + 16), Z_OK);
	cr_expect_eq(inflate(&stream, Z_FINISH), Z_STREAM_END);
	cr_expect_eq(stream.total_out, expected->len);
	cr_expect_eq(stream.avail_in, 0, "nothing follows the member");
	cr_expect_eq(expected->len ? memcmp(out, expected->data, expected->len) : 0, 0);
	(void)inflateEnd(&stream);
	free(out);
}

Test(gzip, gives_back_every_body)
{
	static const size_t lens[] = {0, 1, 100, 65536, 1000003};

	for (size_t i = 0; i < 2 * sizeof(lens) / sizeof(lens[0]); i++) {
		struct buf in, out;

		fill(&in, lens[i / 2], i & 1);
		buf_init(&out, 2 << 20);
		cr_assert_eq(encode_gzip(&in, &out), 0);
		expect_inflates_to(&out, 0, &in);
		buf_done(&in);
		buf_done(&out);
	}
}

Test(gzip, makes_an_exposition_much_smaller)
{
	struct buf in, out;

	fill(&in, 100000, false);
	buf_init(&out, 100000);
	cr_assert_eq(encode_gzip(&in, &out), 0);
	cr_expect_lt(out.len, in.len / 5);
	buf_done(&in);
	buf_done(&out);
}

Test(gzip, appends_to_what_is_there)
{
	struct buf in, out;

	fill(&in, 5000, false);
	buf_init(&out, 1 << 20);
	buf_adds(&out, "head");
	cr_assert_eq(encode_gzip(&in, &out), 0);
	cr_expect_arr_eq(out.data, "head", 4);
	expect_inflates_to(&out, 4, &in);
	buf_done(&in);
	buf_done(&out);
}

Test(gzip, says_so_when_the_maximum_is_too_small_and_fits_when_it_is_just_enough)
{
	struct buf in, out;
	size_t needed;

	fill(&in, 20000, true);
	buf_init(&out, 1 << 20);
	cr_assert_eq(encode_gzip(&in, &out), 0);
	needed = out.len;
	buf_done(&out);

	buf_init(&out, needed);
	cr_expect_eq(encode_gzip(&in, &out), 0);
	cr_expect_eq(out.len, needed);
	buf_done(&out);
	static const size_t short_by[] = {1, 8, 10000};
	for (size_t i = 0; i < 3; i++) {
		buf_init(&out, needed - short_by[i]);
		cr_expect_eq(encode_gzip(&in, &out), -ENOSPC, "%zu too few", short_by[i]);
		cr_expect_eq(out.len, 0);
		buf_done(&out);
	}
	buf_init(&out, 0);
	cr_expect_eq(encode_gzip(&in, &out), -ENOSPC);
	buf_done(&out);
	buf_done(&in);
}

Test(gzip, refuses_an_incomplete_body)
{
	struct buf in, out;

	buf_init(&in, 4);
	buf_adds(&in, "abcdef");
	buf_init(&out, 1000);
	cr_expect_eq(encode_gzip(&in, &out), -ENOSPC);
	cr_expect_eq(out.len, 0);
	buf_done(&in);
	buf_done(&out);
}

Test(gzip, depends_on_nothing_but_the_body)
{
	struct buf in, one, two;

	fill(&in, 30000, false);
	buf_init(&one, 1 << 20);
	buf_init(&two, 1 << 20);
	cr_assert_eq(encode_gzip(&in, &one), 0);
	cr_assert_eq(encode_gzip(&in, &two), 0);
	cr_expect_eq(one.len, two.len);
	cr_expect_arr_eq(one.data, two.data, one.len);
	buf_done(&in);
	buf_done(&one);
	buf_done(&two);
}

Test(gzip, says_so_when_there_is_no_memory)
{
	struct buf in, out;

	if (!SCARCE_MEMORY_WORKS)
		cr_skip_test("a sanitizer needs address space without end");
	fill(&in, 8 << 20, false);
	buf_init(&out, 1 << 30);
	scarce_memory_begin(1 << 20);
	cr_expect_eq(encode_gzip(&in, &out), -ENOMEM);
	scarce_memory_end();
	cr_expect_eq(out.len, 0);
	buf_clear(&out);
	cr_expect_eq(encode_gzip(&in, &out), 0);
	buf_done(&in);
	buf_done(&out);
}
