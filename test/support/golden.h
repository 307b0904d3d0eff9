/* test/support/golden.h - compare output with a file under test/golden/.
 *
 * Tests run from the top of the repository. GOLDEN_UPDATE=1 writes the files instead; the change is
 * then to be read in the diff. */
#ifndef BLIX_TEST_SUPPORT_GOLDEN_H
#define BLIX_TEST_SUPPORT_GOLDEN_H

#include <stddef.h>

enum { GOLDEN_REASON_MAX = 512 };

/* 0 when equal; else -1 and the first line that differs, with its number, in `reason`. */
int golden_compare(const char *name, const void *data, size_t len, char reason[GOLDEN_REASON_MAX]);

#endif
