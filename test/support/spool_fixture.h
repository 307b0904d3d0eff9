/* test/support/spool_fixture.h - a real spool on a real disk thread, asked and waited for.
 *
 * Every call turns the loop until its answer is there. Includes: agent/export/spool.h, libevent. */
#ifndef BLIX_TEST_SUPPORT_SPOOL_FIXTURE_H
#define BLIX_TEST_SUPPORT_SPOOL_FIXTURE_H

#include "agent/export/spool.h"

struct event_base;

struct spool_bench {
	struct event_base *base;
	struct disk *disk;
	struct spool *spool;
	struct spool_options options;
};

/* Aborts when it cannot start. options.dir must outlive the bench. */
void spool_bench_open(struct spool_bench *b, const struct spool_options *options);
void spool_bench_close(struct spool_bench *b);

/* What done() said, or what the call itself returned; -ETIME after a minute. */
int spool_bench_put(struct spool_bench *b, const char *destination, const struct spool_row *row,
		    const struct spool_origin *origin);
int spool_bench_take(struct spool_bench *b, const char *destination, struct spool_row *ret_row);
int spool_bench_set(struct spool_bench *b, const char *key, const void *value, size_t len);
/* ret_value is freed by the caller. */
int spool_bench_get(struct spool_bench *b, const char *key, void **ret_value, size_t *ret_len);
/* Until everything that was asked has been done. */
void spool_bench_settle(struct spool_bench *b);
struct spool_figures spool_bench_figures(struct spool_bench *b, const char *destination);

/* A directory of its own below $TMPDIR; and its end, with what is in it. */
void spool_dir_make(char *path, size_t size);
void spool_dir_remove(const char *path);

#endif
