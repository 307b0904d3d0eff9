/* Goal: how long the spool's room lasts is right at a steady rate, over the last minute alone, and is not
 * said where the spool does not fill. Method: made-up notes. */
#include "agent/export/cover.h"

#include <criterion/criterion.h>

#define S UINT64_C(1000000000)

Test(cover, a_steady_rate_gives_room_divided_by_rate)
{
	struct cover c = {0};

	cr_expect_lt(cover_seconds(&c, 1000), 0, "no note");
	cover_note(&c, 1 * S, 500);
	cr_expect_lt(cover_seconds(&c, 1000), 0, "one note is no rate");
	cover_note(&c, 6 * S, 1000);
	cr_expect_float_eq(cover_seconds(&c, 1000), 10, 1e-9);
	cr_expect_float_eq(cover_seconds(&c, 0), 0, 1e-9, "full");
}

Test(cover, what_is_older_than_the_window_does_not_count)
{
	struct cover c = {0};
	uint64_t used = 0;

	for (uint64_t i = 0; i < 100; i++, used += i < 50 ? 1000000 : 10) /* fast, then slow */
		cover_note(&c, (i + 1) * COVER_EVERY_S * S, used);
	cr_expect_float_eq(cover_seconds(&c, 100), 100 / (10. / COVER_EVERY_S), 1e-6);
	cr_expect_eq(c.n, COVER_NOTES);
}

Test(cover, a_spool_that_stands_or_empties_has_no_end)
{
	struct cover c = {0};

	cover_note(&c, 1 * S, 500);
	cover_note(&c, 6 * S, 500);
	cr_expect_lt(cover_seconds(&c, 1000), 0);
	cover_note(&c, 11 * S, 10);
	cr_expect_lt(cover_seconds(&c, 1000), 0);
	c = (struct cover){0};
	cover_note(&c, 6 * S, 500);
	cover_note(&c, 6 * S, 600); /* no time has passed */
	cr_expect_lt(cover_seconds(&c, 1000), 0);
}
