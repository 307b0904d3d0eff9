/* agent/export/spool_db.h - the half of the spool that waits for the disk: requests in, answers out.
 *
 * The loop side (spool.c) hands over everything that waits as one list; what is written in a row
 * becomes one transaction, so a burst of puts costs one commit.
 *
 * Thread rule: one thread at a time; the disk thread, but for new, view and the answers, which the
 * loop thread uses while no turn runs. Includes: spool.h; the implementation also sqlite3 and zlib. */
#ifndef BLIX_AGENT_EXPORT_SPOOL_DB_H
#define BLIX_AGENT_EXPORT_SPOOL_DB_H

#include "agent/export/spool.h"

enum {
	/* Destinations are configured anew while rows of the old ones wait for their age to end. */
	SPOOL_STREAMS_MAX = 2 * SPOOL_DESTINATIONS_MAX * SPOOL_SIGNALS_MAX,
	SPOOL_STREAM_NAME_MAX = 2 * SPOOL_NAME_MAX + 1, /* destination, '/', signal */
};

enum spool_op { SPOOL_PUT, SPOOL_TAKE, SPOOL_FINISH, SPOOL_SET, SPOOL_GET, SPOOL_TICK };

struct spool_request {
	struct spool_request *next;
	enum spool_op op;
	char stream[SPOOL_STREAM_NAME_MAX + 1];
	char key[SPOOL_KEY_MAX + 1];
	struct spool_row
		row; /* put: in; take: out; set, get: body and len are the value; finish: id */
	struct spool_origin *origins;
	uint32_t n_origins;
	bool remove; /* finish */
	int error;   /* out */

	/* the loop side's */
	union {
		void (*plain)(void *arg, int error);
		void (*put)(void *arg, int error, int64_t id);
		void (*row)(void *arg, int error, const struct spool_row *row);
		void (*value)(void *arg, int error, const void *value, size_t len);
	} done;
	void *arg;
	size_t bytes;
	bool answered;
};

struct spool_stream {
	char name[SPOOL_STREAM_NAME_MAX + 1];
	struct spool_figures figures;
};

/* What a transaction changes; copied at its begin and put back when it fails. */
struct spool_ledger {
	struct spool_stream streams[SPOOL_STREAMS_MAX];
	uint32_t n_streams;
	uint64_t charged[2]; /* bytes by priority, see spool_charge() */
	int64_t next_id;
};

struct spool_db;

/* The options are checked and complete. Opens nothing yet. 0; -ENOMEM. */
int spool_db_new(const struct spool_options *options, struct spool_db **ret_db);
/* Closes the database. Accepts NULL, returns NULL. */
struct spool_db *spool_db_free(struct spool_db *db);
/* Answer each request of the list (which may be empty) in its `error`. Opens the database if it is not. */
void spool_db_run(struct spool_db *db, struct spool_request *list);

/* Borrowed until the next turn. */
const struct spool_ledger *spool_db_ledger(const struct spool_db *db);
const struct spool_status *spool_db_status(struct spool_db *db);

#endif
