/* agent/export/spool_private.h - shared by spool_db.c (requests), spool_file.c (the file's life) and
 * spool_rows.c (rows and their accounts); nothing else includes it.
 *
 * Inside, functions return 0 or a negative errno. One that comes from SQLite is also noted by
 * spool_sql_error(), which is how a failed disk is told from a refused request.
 *
 * Thread rule: the disk thread. Includes: spool_db.h, sqlite3. */
#ifndef BLIX_AGENT_EXPORT_SPOOL_PRIVATE_H
#define BLIX_AGENT_EXPORT_SPOOL_PRIVATE_H

#include "agent/export/spool_db.h"

#include <limits.h>
#include <sqlite3.h>

enum spool_statement {
	SPOOL_SQL_BEGIN,
	SPOOL_SQL_COMMIT,
	SPOOL_SQL_PUT_REQUEST,
	SPOOL_SQL_PUT_BODY,
	SPOOL_SQL_PUT_ORIGIN,
	SPOOL_SQL_COVER,
	SPOOL_SQL_ALL,
	SPOOL_SQL_ALL_BACKWARDS,
	SPOOL_SQL_STREAM,
	SPOOL_SQL_ONE,
	SPOOL_SQL_BODY,
	SPOOL_SQL_ORIGINS,
	SPOOL_SQL_BY_PRIORITY,
	SPOOL_SQL_BY_AGE,
	SPOOL_SQL_DELETE_REQUEST,
	SPOOL_SQL_DELETE_BODY,
	SPOOL_SQL_DELETE_ORIGINS,
	SPOOL_SQL_SET,
	SPOOL_SQL_GET,
	SPOOL_SQL_DELETE_KEY,
	SPOOL_SQL_COUNT_KEYS,
	SPOOL_SQL_ALL_KEYS,
	SPOOL_SQL_VACUUM,
	SPOOL_SQL_FREE_PAGES,
	SPOOL_SQL_PAGES,
	SPOOL_STATEMENTS,
};

/* A row without its body, as the database has it. */
struct spool_meta {
	int64_t id;
	char stream[SPOOL_STREAM_NAME_MAX + 1];
	uint64_t created_unix_ns;
	uint32_t items;
	bool priority;
	uint64_t len;
	uint32_t body_crc;
};

/* Rows that a receiver has. Those it has answered for stay here until their removal is committed. */
struct spool_taken {
	int64_t id;
	const struct spool_stream *stream; /* in the ledger, whose streams stay where they are */
	uint64_t charge;
	bool priority;
	enum { SPOOL_HELD, SPOOL_ANSWERED, SPOOL_REMOVED } state;
};

struct spool_sql {
	sqlite3 *handle;
	sqlite3_stmt *statements[SPOOL_STATEMENTS];
};

struct spool_db {
	struct spool_options options;
	char dir[PATH_MAX], path[PATH_MAX], damaged_path[PATH_MAX];
	struct spool_sql sql;
	struct spool_ledger ledger, before;
	struct spool_ledger damaged; /* as it was when the database was moved aside */
	bool rescue_due;	     /* from the damaged database, which is aside */
	struct spool_taken taken[SPOOL_TAKEN_MAX];
	uint32_t n_taken;
	struct spool_status status;
	int sql_error;	      /* the last failure of SQLite since it was cleared; 0 */
	uint64_t probes;      /* writes to see whether the disk works again */
	bool low_space;	      /* of this turn: below the floor */
	uint64_t space_bytes; /* of this transaction: what may still be stored above the floor */
};

/* spool_file.c */
int spool_file_open(struct spool_db *db);
void spool_file_close(struct spool_db *db);
/* Move the database aside, start a new one, bring over what can still be read. */
int spool_file_rescue(struct spool_db *db);
/* The file we write is still the one at its path. */
bool spool_file_in_place(struct spool_db *db);
/* Give pages back to the file system, and say how large the file is. */
void spool_file_trim(struct spool_db *db);
int spool_sql_error(struct spool_db *db, int rc);

/* spool_rows.c */
uint64_t spool_charge(uint64_t len);
sqlite3_stmt *spool_statement(struct spool_sql *sql, enum spool_statement which);
/* Step a statement that gives no rows. */
int spool_execute(struct spool_db *db, sqlite3_stmt *stmt);
/* False: it is not as it was written. */
bool spool_meta_read(sqlite3_stmt *stmt, struct spool_meta *ret_meta);
int spool_meta_by_id(struct spool_db *db, int64_t id, struct spool_meta *ret_meta);
struct spool_stream *spool_stream_find(struct spool_ledger *ledger, const char *name);
/* NULL: no more streams fit. */
struct spool_stream *spool_stream_make(struct spool_ledger *ledger, const char *name);
void spool_ledger_add(struct spool_ledger *ledger, struct spool_stream *stream,
		      const struct spool_meta *meta);
/* Within a transaction. */
int spool_row_insert(struct spool_db *db, struct spool_meta *meta, const uint8_t *body,
		     const struct spool_origin *origins, uint32_t n_origins);
/* `reason` SPOOL_DROPS: answered for, nothing is lost. Within a transaction. */
int spool_row_remove(struct spool_db *db, int64_t id, enum spool_drop reason);
/* -EBADMSG: not as it was written (and not SQLite's error). The body is the caller's. */
int spool_body_read(struct spool_db *db, struct spool_sql *from, const struct spool_meta *meta,
		    uint8_t **ret_body);
struct spool_taken *spool_taken_find(struct spool_db *db, int64_t id);
uint32_t spool_value_crc(const char *key, const void *value, size_t len);
int spool_value_set(struct spool_db *db, const char *key, const void *value, size_t len);
/* The time of each stream's first row, after rows came or went. */
int spool_oldest_refresh(struct spool_db *db);

#endif
