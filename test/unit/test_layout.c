/* Goal: no field, size or number of the file format moves, ever; and no structure has bytes that
 * nobody named, because those would be written by the compiler.
 * Method: compare the dump of today's headers with the committed one line by line; walk the fields
 * of each structure and see that each starts where the one before ends. */
#include "test/support/layout_dump.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char golden_path[] = "test/golden/layout.txt";

Test(layout, is_the_one_that_was_promised)
{
	FILE *golden = fopen(golden_path, "r");
	char *text = NULL;
	size_t size = 0;
	FILE *dump = open_memstream(&text, &size);
	char want[256];
	char *save = NULL;
	char *have;

	cr_assert_not_null(golden, "%s is missing; run from the repository's root", golden_path);
	layout_dump(dump);
	fclose(dump);
	have = strtok_r(text, "\n", &save);
	for (int line = 1; fgets(want, sizeof(want), golden); line++) {
		want[strcspn(want, "\n")] = '\0';
		cr_assert_not_null(have, "line %d is gone: %s", line, want);
		cr_expect_str_eq(have, want, "line %d: was \"%s\", is \"%s\"", line, want, have);
		have = strtok_r(NULL, "\n", &save);
	}
	cr_expect_null(have, "not in %s: %s", golden_path, have);
	fclose(golden);
	free(text);
}

Test(layout, structures_have_no_unnamed_bytes)
{
	size_t at = 0;
	size_t structures = 0;

	for (const struct layout_field *f = layout_fields; f->type; f++) {
		cr_expect_eq(f->offset, at, "%s.%s", f->type, f->field ? f->field : "end");
		at = f->field ? f->offset + f->size : 0;
		structures += !f->field;
	}
	cr_expect_geq(structures, 20);
}

Test(layout, fields_are_aligned_to_their_size)
{
	for (const struct layout_field *f = layout_fields; f->type; f++)
		if (f->field && (f->size == 2 || f->size == 4 || f->size == 8))
			cr_expect_eq(f->offset % f->size, 0, "%s.%s", f->type, f->field);
}
