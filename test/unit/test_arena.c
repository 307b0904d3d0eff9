/* Goal: an arena gives zeroed memory whether its chunk is new or was another's, stays within its
 * bound, and a pool keeps no more than it may.
 * Method: dirty everything that was given, give it back, take it again. */
#include "agent/model/arena.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum { LARGE = 4 << 20 };

static bool is_zero(const unsigned char *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (at[i])
			return false;
	return true;
}

/* Fill `chunks` chunks of the pool's size with ones. */
static void dirty(struct arena *a, int chunks)
{
	void *room;

	for (int i = 0; i < chunks; i++) {
		cr_assert_eq(arena_take(a, ARENA_POOL_CHUNK_BYTES, &room), 0);
		memset(room, 0xff, ARENA_POOL_CHUNK_BYTES);
	}
}

Test(arena, memory_is_zeroed_though_its_chunk_was_used_before)
{
	struct arena_pool pool = {.max = 4};
	struct arena a;
	void *room;

	arena_init_pooled(&a, LARGE, &pool);
	dirty(&a, 2);
	arena_done(&a);
	for (int i = 0; i < 6; i++) {
		cr_assert_eq(arena_alloc(&a, 33000, &room), 0);
		cr_expect(is_zero(room, 33000));
	}
	arena_done(&a);
	arena_pool_drain(&pool);
	cr_expect_eq(pool.n, 0u);
}

Test(arena, a_pool_keeps_as_many_chunks_as_it_may_and_no_large_ones)
{
	struct arena_pool pool = {.max = 2};
	struct arena a;
	void *room;

	arena_init_pooled(&a, LARGE, &pool);
	dirty(&a, 1);
	cr_assert_eq(arena_take(&a, ARENA_POOL_CHUNK_BYTES + 1, &room), 0);
	arena_done(&a);
#ifndef __SANITIZE_ADDRESS__
	cr_expect_eq(pool.n, 1u);
#endif
	dirty(&a, 3);
	cr_expect_eq(pool.n, 0u, "they were taken first");
	arena_done(&a);
#ifndef __SANITIZE_ADDRESS__
	cr_expect_eq(pool.n, 2u);
#endif
	arena_pool_drain(&pool);
	cr_expect_null(pool.chunks);
}

Test(arena, the_bound_holds_with_and_without_a_pool)
{
	struct arena_pool pool = {.max = 2};
	struct arena a;
	void *room;

	arena_init_pooled(&a, 2 * ARENA_POOL_CHUNK_BYTES, &pool);
	cr_expect_eq(arena_take(&a, 2 * ARENA_POOL_CHUNK_BYTES + 1, &room), -ENOSPC);
	dirty(&a, 2);
	cr_expect_eq(arena_take(&a, 1, &room), -ENOSPC);
	cr_expect_eq(a.total, 2u * ARENA_POOL_CHUNK_BYTES);
	arena_done(&a);
	cr_expect_eq(a.total, 0u);
	dirty(&a, 2);
	arena_done(&a);
	arena_pool_drain(&pool);

	arena_init(&a, 1 << 16);
	cr_expect_eq(arena_alloc(&a, (1 << 16) + 1, &room), -ENOSPC);
	cr_assert_eq(arena_alloc(&a, 1 << 16, &room), 0);
	cr_expect(is_zero(room, 1 << 16));
	cr_expect_eq(arena_alloc(&a, 1, &room), -ENOSPC);
	arena_done(&a);
}
