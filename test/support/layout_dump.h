/* test/support/layout_dump.h - every offset, size and number of the file format, as a table and as
 * text for test/golden/layout.txt. Constant data; any thread. Includes: libc. */
#ifndef BLIX_TEST_LAYOUT_DUMP_H
#define BLIX_TEST_LAYOUT_DUMP_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct layout_field {
	const char *type;
	const char *field; /* NULL: the end of the structure, `offset` is its size */
	size_t offset;
	size_t size;
};

struct layout_value {
	const char *name;
	uint64_t value;
};

/* In the order of layout.h; a NULL name ends each. */
extern const struct layout_field layout_fields[];
extern const struct layout_value layout_values[];

void layout_dump(FILE *to);

#endif
