/* test/support/scratch.h - a directory of one's own on a tmpfs, gone afterwards.
 *
 * For tests that create telemetry files. A failure of the surroundings ends the test program with
 * a message. Includes: libc. */
#ifndef BLIX_TEST_SUPPORT_SCRATCH_H
#define BLIX_TEST_SUPPORT_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

struct scratch {
	char dir[64];
	char path[80]; /* dir/blix1: the usual name; nothing is there yet */
};

/* A new empty directory below `parent`, or /dev/shm where it is NULL. */
struct scratch scratch_new(const char *parent);

/* Remove the directory with all files in it (one level). */
void scratch_remove(const struct scratch *scratch);

/* How many names of the directory begin with `prefix`; the last one, in readdir order, is copied to
 * ret_path (may be NULL) with its directory. */
int scratch_count(const struct scratch *scratch, const char *prefix, char *ret_path, size_t size);

/* Wait until `condition(arg)` holds, looking often, at most `timeout_ms`. What it said last. */
bool scratch_wait(bool (*condition)(void *arg), void *arg, int timeout_ms);

#endif
