/* agent/export/spool.h - encoded requests on disk, for destinations that cannot take them now.
 *
 * One SQLite database (WAL, synchronous NORMAL) in the agent's state directory or --spool DIR, used on
 * the disk thread alone; this interface is asynchronous and never waits. A committed row is custody: it
 * survives the agent. Rows belong to a destination and a signal and leave in the order they came.
 *
 * Bounds: bytes and age; when full, the oldest ordinary rows go first and those with PRIORITY (errors,
 * slow and crashed spans) last; every loss is counted in items, by reason. Each row has a CRC-32 (zlib's):
 * one that fails is dropped and counted. A damaged database is moved aside (`spool.db.damaged`, the newest
 * one is kept), a new one started, and every row that can still be read whole brought over. A disk that cannot be written makes the spool *degraded*: puts fail with
 * the errno, what was asked to be stored stays with its owner, and it is tried again.
 *
 * Thread rule: the loop thread. Callbacks come from the loop, never from within the call. Includes: disk.h. */
#ifndef BLIX_AGENT_EXPORT_SPOOL_H
#define BLIX_AGENT_EXPORT_SPOOL_H

#include "agent/disk.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct spool;

enum {
	SPOOL_DESTINATIONS_MAX = 8,
	SPOOL_SIGNALS_MAX = 3,
	SPOOL_NAME_MAX = 32, /* of a destination or a signal; printable ASCII without '/' */
	SPOOL_BODY_MAX = 64 << 20,
	SPOOL_PENDING_BYTES_MAX =
		32 << 20,	  /* handed over and not yet committed; one larger body alone */
	SPOOL_PENDING_MAX = 4096, /* requests of any kind */
	SPOOL_ORIGINS_MAX = 4096, /* of one put */
	SPOOL_TAKEN_MAX = 64,	  /* rows taken and not finished */
	SPOOL_KEY_MAX = 255,
	SPOOL_VALUE_MAX = 1 << 20,
	SPOOL_KEYS_MAX = 1024,
};

struct spool_options {
	const char *dir;    /* exists; copied */
	uint64_t bytes_max; /* 0 = 1 GiB; of the pages that the rows fill, see spool_put() */
	uint32_t age_max_s; /* 0 = 24 h */
	uint32_t
		free_percent_min; /* of the file system, below which nothing more is stored; 0 = 10 */
	uint64_t (*unix_ns)(void); /* injected by tests; NULL = CLOCK_REALTIME */
};

enum spool_drop {
	SPOOL_DROP_FULL, /* gave way to newer or more important ones */
	SPOOL_DROP_AGE,
	SPOOL_DROP_CORRUPT, /* a row's CRC was wrong; or 1 for a row whose count is unknown */
	SPOOL_DROPS,
};

/* Where a request's items come from, so that reading a ring again does not store them twice. */
struct spool_origin {
	char incarnation[33];
	uint32_t lane;
	uint64_t first_seq, last_seq;
};

struct spool_row {
	int64_t id;
	uint8_t *body; /* of a taken row: the receiver frees it */
	size_t len;
	uint32_t items;
	bool priority;
	bool taken; /* put: mark it taken at once, because it is under way already */
	uint64_t created_unix_ns;
};

/* What is stored for one destination and signal, recomputed from the database at the start. */
struct spool_figures {
	uint64_t rows, items, bytes;
	uint64_t oldest_unix_ns;	     /* 0 = empty */
	uint64_t dropped_items[SPOOL_DROPS]; /* since the agent's start */
	uint64_t skipped_items; /* not stored again because they were there: duplicates */
};

/* What a row counts against bytes_max: its body in whole pages, and its share of the rest. */
#define SPOOL_PAGE_BYTES   4096
#define SPOOL_ROW_OVERHEAD 512

/* Starts opening; puts and takes may be called at once. 0; -EINVAL; -ENOMEM. */
int spool_new(struct disk *disk, const struct spool_options *options, struct spool **ret_spool);
/* Outstanding callbacks come with -ECANCELED, also from in here. Call it before disk_free(), which closes the
 * database behind the jobs that are queued. Accepts NULL, returns NULL. */
struct spool *spool_free(struct spool *s);

/* Store one request. `body` and origins are copied; row->id is ignored; created_unix_ns 0 or in the future = now.
 * done(arg, 0, id): committed (row->taken: and taken, finish it by its id), or already there (each origin lies within those of rows that this destination and
 * signal has stored now); custody is the spool's. Else a negative errno: -ENOSPC the bounds leave no room for
 * it (ordinary rows never push out those with priority, taken ones stay) or the file system is below the
 * floor; -EIO, -EROFS, ... the disk; -EBUSY another process has the database; -ECANCELED.
 * 0; -EINVAL a name, length, origin out of range, or no items; -ENOBUFS: SPOOL_PENDING_BYTES_MAX or
 * SPOOL_PENDING_MAX is reached, the disk thread is busy, or no memory. After an error done() will not come;
 * id is 0 where it was there already, or failed. */
int spool_put(struct spool *s, const char *destination, const char *signal,
	      const struct spool_row *row, const struct spool_origin *origins, uint32_t n_origins,
	      void (*done)(void *arg, int error, int64_t id), void *arg);

/* Read the oldest row of this destination and signal that is not taken yet. done(arg, 0, row): the row
 * is marked taken in memory until spool_finish(); the receiver frees row->body; `row` itself is borrowed for
 * the call. -ENOENT: none. Else an errno, row NULL.
 * 0; -EINVAL a name; -ENOBUFS: SPOOL_TAKEN_MAX rows are taken or asked for, or as in spool_put(). */
int spool_take(struct spool *s, const char *destination, const char *signal,
	       void (*done)(void *arg, int error, const struct spool_row *row), void *arg);

/* A taken row is answered for (remove it), or is to be tried again later (keep it). While the disk cannot
 * write, the removal waits in memory. A row that is not taken is left alone. 0; -ENOBUFS: say it again. */
int spool_finish(struct spool *s, int64_t id, bool remove);

/* Drop what is too old, try again to open or write, give space back to the file system. Every request does
 * so too; call it every few seconds so that it happens without any. Does nothing while one is waiting. */
void spool_tick(struct spool *s);

/* Small values by key (baselines of delta metrics); replaced as a whole. done as above; set: -ENOSPC with
 * SPOOL_KEYS_MAX keys; get: -ENOENT; -EBADMSG it was damaged, and is removed. `value` is borrowed for the call.
 * 0; -EINVAL an empty or too long key, a too long value; -ENOBUFS. */
int spool_set(struct spool *s, const char *key, const void *value, size_t len,
	      void (*done)(void *arg, int error), void *arg);
int spool_get(struct spool *s, const char *key,
	      void (*done)(void *arg, int error, const void *value, size_t len), void *arg);

/* As of the last finished turn of the disk thread. Zeros for what was never stored. */
void spool_figures(const struct spool *s, const char *destination, const char *signal,
		   struct spool_figures *ret_figures);

struct spool_status {
	bool open;	   /* the database is in use */
	bool degraded;	   /* the last write failed */
	char problem[256]; /* why, and what to do; "" while all is well */
	uint64_t file_bytes, bytes_max;
	uint64_t used_bytes; /* of bytes_max, by the rows */
	uint64_t room_bytes; /* that the bounds and the file system still leave */
	uint64_t damaged;    /* databases moved aside since the start */
};
void spool_status(const struct spool *s, struct spool_status *ret_status);

#endif
