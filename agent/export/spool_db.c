/* agent/export/spool_db.c - see spool_db.h: requests, transactions, bounds, and what goes wrong.
 *
 * A run of writing requests is one transaction: all of it is answered after the commit, so an
 * answer of 0 is custody. When the database turns out to be damaged it is replaced and the run is
 * made again, since its requests are still in memory. */
#include "agent/export/spool_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

enum { SWEEP_ROWS = 512 }; /* dropped for their age in one transaction */

static uint64_t unix_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int spool_db_new(const struct spool_options *options, struct spool_db **ret_db)
{
	struct spool_db *db = calloc(1, sizeof(*db));

	if (!db)
		return -ENOMEM;
	db->options = *options;
	if (!db->options.unix_ns)
		db->options.unix_ns = unix_now_ns;
	(void)snprintf(db->dir, sizeof(db->dir), "%s", options->dir);
	(void)snprintf(db->path, sizeof(db->path), "%s/spool.db", options->dir);
	(void)snprintf(db->damaged_path, sizeof(db->damaged_path), "%s/spool.db.damaged",
		       options->dir);
	db->options.dir = db->dir;
	db->status.bytes_max = options->bytes_max;
	db->ledger.next_id = 1;
	db->probes = db->options.unix_ns();
	*ret_db = db;
	return 0;
}

struct spool_db *spool_db_free(struct spool_db *db)
{
	if (!db)
		return NULL;
	spool_file_close(db);
	free(db);
	return NULL;
}

const struct spool_ledger *spool_db_ledger(const struct spool_db *db)
{
	return &db->ledger;
}

const struct spool_status *spool_db_status(struct spool_db *db)
{
	uint64_t used = db->ledger.charged[0] + db->ledger.charged[1];
	uint64_t left = used < db->options.bytes_max ? db->options.bytes_max - used : 0;

	db->status.used_bytes = used;
	db->status.room_bytes = left < db->space_bytes ? left : db->space_bytes;
	return &db->status;
}

/* ---- transactions ------------------------------------------------------------------------------ */

/* What may be stored before the file system is at its floor. */
static int look_at_space(struct spool_db *db)
{
	struct statvfs st;
	uint64_t floor_blocks;

	if (statvfs(db->dir, &st) < 0)
		return -errno;
	floor_blocks = (uint64_t)st.f_blocks / 100 * db->options.free_percent_min;
	db->space_bytes = st.f_bavail > floor_blocks
				  ? ((uint64_t)st.f_bavail - floor_blocks) * st.f_frsize
				  : 0;
	db->low_space = db->space_bytes == 0;
	return 0;
}

static int begin(struct spool_db *db)
{
	int r;

	db->sql_error = 0;
	/* A file that was deleted or replaced under us would take rows that no restart finds. */
	if (!spool_file_in_place(db))
		return spool_sql_error(db, SQLITE_CORRUPT);
	r = look_at_space(db);
	if (r == 0)
		r = spool_execute(db, spool_statement(&db->sql, SPOOL_SQL_BEGIN));
	if (r == 0)
		db->before = db->ledger;
	return r;
}

static void settle_taken(struct spool_db *db, bool committed)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < db->n_taken; i++) {
		struct spool_taken t = db->taken[i];

		if (t.state == SPOOL_REMOVED && committed)
			continue;
		if (!committed && t.id >= db->before.next_id)
			continue; /* put within this transaction: it never was */
		if (t.state == SPOOL_REMOVED)
			t.state = SPOOL_ANSWERED;
		db->taken[kept++] = t;
	}
	db->n_taken = kept;
}

static void roll_back(struct spool_db *db)
{
	for (int i = 0; i < SPOOL_STATEMENTS; i++)
		sqlite3_reset(db->sql.statements[i]);
	if (!sqlite3_get_autocommit(db->sql.handle))
		(void)sqlite3_exec(db->sql.handle, "ROLLBACK", NULL, NULL, NULL);
	db->ledger = db->before;
	settle_taken(db, false);
}

static int commit(struct spool_db *db)
{
	int r = spool_oldest_refresh(db);

	if (r == 0)
		r = spool_execute(db, spool_statement(&db->sql, SPOOL_SQL_COMMIT));
	if (r == 0)
		settle_taken(db, true);
	return r;
}

/* ---- making room ------------------------------------------------------------------------------- */

static uint64_t oldest_allowed(const struct spool_db *db)
{
	uint64_t now = db->options.unix_ns();
	uint64_t age_max_ns = (uint64_t)db->options.age_max_s * 1000000000u;

	return now > age_max_ns ? now - age_max_ns : 0;
}

/* The first rows a selection gives that nobody has taken, up to `max`. */
static int select_free(struct spool_db *db, sqlite3_stmt *stmt, int64_t *ids, uint32_t max,
		       uint32_t *ret_n)
{
	uint32_t n = 0;
	int rc = SQLITE_DONE;

	while (n < max && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		int64_t id = sqlite3_column_int64(stmt, 0);

		if (!spool_taken_find(db, id))
			ids[n++] = id;
	}
	sqlite3_reset(stmt);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return spool_sql_error(db, rc);
	*ret_n = n;
	return 0;
}

/* Drop rows that are too old, and those that were answered for while the disk could not write. */
static int sweep(struct spool_db *db)
{
	sqlite3_stmt *stmt = spool_statement(&db->sql, SPOOL_SQL_BY_AGE);
	int64_t ids[SWEEP_ROWS];
	uint32_t n = 0;
	int r;

	sqlite3_bind_int64(stmt, 1, (int64_t)oldest_allowed(db));
	r = select_free(db, stmt, ids, SWEEP_ROWS, &n);
	for (uint32_t i = 0; i < n && r == 0; i++)
		r = spool_row_remove(db, ids[i], SPOOL_DROP_AGE);
	for (uint32_t i = 0; i < db->n_taken && r == 0; i++) {
		if (db->taken[i].state != SPOOL_ANSWERED)
			continue;
		r = spool_row_remove(db, db->taken[i].id, SPOOL_DROPS);
		if (r == 0)
			db->taken[i].state = SPOOL_REMOVED;
	}
	return r;
}

/* What rows of this priority could be evicted: taken ones stay. */
static uint64_t evictable(const struct spool_db *db, bool priority)
{
	uint64_t charged = db->ledger.charged[priority], held = 0;

	for (uint32_t i = 0; i < db->n_taken; i++)
		if (db->taken[i].state != SPOOL_REMOVED && db->taken[i].priority == priority)
			held += db->taken[i].charge;
	return charged > held ? charged - held : 0;
}

static uint64_t charged(const struct spool_db *db)
{
	return db->ledger.charged[0] + db->ledger.charged[1];
}

static int make_room(struct spool_db *db, uint64_t need, bool priority)
{
	uint64_t limit, yielding;

	if (need > db->options.bytes_max)
		return -ENOSPC;
	limit = db->options.bytes_max - need;
	yielding = evictable(db, false) + (priority ? evictable(db, true) : 0);
	if (charged(db) > limit && charged(db) - limit > yielding)
		return -ENOSPC; /* before anything was dropped for nothing */
	for (int p = 0; p <= (int)priority; p++) {
		while (charged(db) > limit) {
			sqlite3_stmt *stmt = spool_statement(&db->sql, SPOOL_SQL_BY_PRIORITY);
			int64_t id = 0;
			uint32_t n = 0;
			int r;

			sqlite3_bind_int64(stmt, 1, p);
			r = select_free(db, stmt, &id, 1, &n);
			if (r == 0 && n == 0)
				break;
			if (r == 0)
				r = spool_row_remove(db, id, SPOOL_DROP_FULL);
			if (r < 0)
				return r;
		}
	}
	/* What the book says could yield is not to be found: the index is damaged. */
	return charged(db) > limit ? spool_sql_error(db, SQLITE_CORRUPT) : 0;
}

/* ---- requests that write ----------------------------------------------------------------------- */

/* Is the range within those that are stored? Follows ranges that adjoin or overlap. */
static int is_covered(struct spool_db *db, const char *stream, const struct spool_origin *o,
		      bool *ret_covered)
{
	uint64_t at = o->first_seq;

	for (;;) {
		sqlite3_stmt *stmt = spool_statement(&db->sql, SPOOL_SQL_COVER);
		uint64_t last = 0;
		int rc;

		sqlite3_bind_text(stmt, 1, stream, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 2, o->incarnation, -1, SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 3, o->lane);
		sqlite3_bind_int64(stmt, 4, (int64_t)at);
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW)
			last = (uint64_t)sqlite3_column_int64(stmt, 0);
		sqlite3_reset(stmt);
		if (rc != SQLITE_ROW && rc != SQLITE_DONE)
			return spool_sql_error(db, rc);
		if (rc == SQLITE_DONE || last < at || last >= o->last_seq) {
			*ret_covered = rc == SQLITE_ROW && last >= o->last_seq;
			return 0;
		}
		at = last + 1;
	}
}

static int is_duplicate(struct spool_db *db, const struct spool_request *req, bool *ret_duplicate)
{
	bool covered = req->n_origins > 0;

	for (uint32_t i = 0; i < req->n_origins && covered; i++) {
		int r = is_covered(db, req->stream, &req->origins[i], &covered);

		if (r < 0)
			return r;
	}
	*ret_duplicate = covered;
	return 0;
}

static void hold(struct spool_db *db, const struct spool_stream *stream, const struct spool_meta *m)
{
	db->taken[db->n_taken++] = (struct spool_taken){.id = m->id,
							.stream = stream,
							.charge = spool_charge(m->len),
							.priority = m->priority};
}

static int put(struct spool_db *db, struct spool_request *req)
{
	uint64_t need = spool_charge(req->row.len), now = db->options.unix_ns();
	struct spool_meta meta = {
		.id = db->ledger.next_id,
		.items = req->row.items,
		.priority = req->row.priority,
		.created_unix_ns = req->row.created_unix_ns,
		.len = req->row.len,
	};
	struct spool_stream *stream = spool_stream_make(&db->ledger, req->stream);
	bool duplicate;
	int r;

	if (!stream)
		return -ENOSPC;
	r = is_duplicate(db, req, &duplicate);
	if (r < 0)
		return r;
	if (duplicate) {
		stream->figures.skipped_items += req->row.items;
		return 0;
	}
	if (db->space_bytes < need) {
		db->low_space = true;
		return -ENOSPC;
	}
	r = make_room(db, need, meta.priority);
	if (r < 0)
		return r;
	db->space_bytes -= need;
	if (meta.created_unix_ns == 0 || meta.created_unix_ns > now)
		meta.created_unix_ns = now;
	memcpy(meta.stream, req->stream, sizeof(meta.stream));
	if (req->row.taken && db->n_taken == SPOOL_TAKEN_MAX)
		return -ENOBUFS;
	r = spool_row_insert(db, &meta, req->row.body, req->origins, req->n_origins);
	if (r == 0 && req->row.taken)
		hold(db, stream, &meta);
	req->row.id = r == 0 ? meta.id : 0;
	return r;
}

static int finish(struct spool_db *db, const struct spool_request *req)
{
	struct spool_taken *t = spool_taken_find(db, req->row.id);
	int r;

	if (!t || t->state != SPOOL_HELD)
		return 0;
	if (!req->remove) {
		*t = db->taken[--db->n_taken];
		return 0;
	}
	t->state = SPOOL_ANSWERED; /* also when the removal fails */
	r = spool_row_remove(db, t->id, SPOOL_DROPS);
	if (r == 0)
		t->state = SPOOL_REMOVED;
	return r;
}

static int set(struct spool_db *db, const struct spool_request *req)
{
	sqlite3_stmt *stmt = spool_statement(&db->sql, SPOOL_SQL_COUNT_KEYS);
	int rc;
	int64_t others = 0;

	sqlite3_bind_text(stmt, 1, req->key, -1, SQLITE_STATIC);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		others = sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	if (rc != SQLITE_ROW)
		return spool_sql_error(db, rc);
	if (others >= SPOOL_KEYS_MAX)
		return -ENOSPC;
	if (db->space_bytes < spool_charge(req->row.len)) {
		db->low_space = true;
		return -ENOSPC;
	}
	return spool_value_set(db, req->key, req->row.body, req->row.len);
}

/* A degraded spool finds out whether it still is, by writing; the empty key is not given to others.
 * The value differs each time: SQLite does not write what is there already. */
static int tick(struct spool_db *db)
{
	if (!db->status.degraded)
		return 0;
	db->probes++;
	return spool_value_set(db, "", &db->probes, sizeof(db->probes));
}

static int write_one(struct spool_db *db, struct spool_request *req)
{
	switch (req->op) {
	case SPOOL_PUT:
		return put(db, req);
	case SPOOL_FINISH:
		return finish(db, req);
	case SPOOL_SET:
		return set(db, req);
	case SPOOL_TICK:
	case SPOOL_TAKE:
	case SPOOL_GET:
		break;
	}
	return tick(db);
}

static bool writes(const struct spool_request *req)
{
	return req->op != SPOOL_TAKE && req->op != SPOOL_GET;
}

/* One attempt: -errno when nothing of it was stored. */
static int write_run(struct spool_db *db, struct spool_request *first)
{
	int r = begin(db);

	if (r < 0)
		return r;
	r = sweep(db);
	for (struct spool_request *q = first; q && writes(q) && r == 0; q = q->next) {
		q->error = write_one(db, q);
		r = db->sql_error; /* any other error is this request's alone */
	}
	if (r == 0)
		r = commit(db);
	if (r < 0)
		roll_back(db);
	return r;
}

static void tell(struct spool_db *db, int error)
{
	struct spool_status *st = &db->status;

	st->degraded = error < 0;
	if (error == 0)
		st->problem[0] = '\0';
	else if (db->low_space)
		(void)snprintf(
			st->problem, sizeof(st->problem),
			"less than %u %% of the file system of %.120s is free: nothing more is "
			"stored; free some space or set another directory",
			db->options.free_percent_min, db->dir);
	else if (error == -EBUSY)
		(void)snprintf(st->problem, sizeof(st->problem),
			       "another process has %.160s open; end it", db->path);
	else
		(void)snprintf(st->problem, sizeof(st->problem),
			       "cannot write %.140s: %s; it is tried again", db->path,
			       strerrordesc_np(-error));
}

/* Write with one retry on a new database. A run that changed nothing says nothing about the disk. */
static void run_writes(struct spool_db *db, struct spool_request *first)
{
	int before = sqlite3_total_changes(db->sql.handle);
	int r = write_run(db, first);

	if (r == -EBADMSG) {
		r = spool_file_rescue(db);
		before = -1;
		if (r == 0)
			r = write_run(db, first);
		if (r == -EBADMSG)
			r = -EIO;
	}
	for (struct spool_request *q = first; q && writes(q) && r < 0; q = q->next)
		q->error = r;
	if (r < 0)
		tell(db, r);
	else if (db->low_space)
		tell(db, -ENOSPC);
	else if (sqlite3_total_changes(db->sql.handle) != before)
		tell(db, 0);
}

/* ---- requests that read ------------------------------------------------------------------------ */

/* Between reads, in a transaction of its own: one row, and whatever else is too old. */
static int drop(struct spool_db *db, int64_t id, enum spool_drop reason)
{
	int r = begin(db);

	if (r < 0)
		return r;
	r = spool_row_remove(db, id, reason);
	if (r == 0)
		r = sweep(db);
	if (r == 0)
		r = commit(db);
	if (r < 0)
		roll_back(db);
	return r;
}

static uint64_t taken_of(const struct spool_db *db, const struct spool_stream *stream)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < db->n_taken; i++)
		n += db->taken[i].stream == stream;
	return n;
}

/* A damaged index would hide rows, or show some that are not there: held against the book. */
static int next_row(struct spool_db *db, const struct spool_stream *stream,
		    struct spool_meta *ret_meta)
{
	sqlite3_stmt *stmt = spool_statement(&db->sql, SPOOL_SQL_STREAM);
	int64_t id = 0;
	uint32_t n = 0;
	int r;

	sqlite3_bind_text(stmt, 1, stream->name, -1, SQLITE_STATIC);
	r = select_free(db, stmt, &id, 1, &n);
	if (r < 0)
		return r;
	r = n == 0 ? -ENOENT : spool_meta_by_id(db, id, ret_meta);
	if (r == 0 && strcmp(ret_meta->stream, stream->name) != 0)
		r = spool_sql_error(db, SQLITE_CORRUPT);
	if (r == -ENOENT && stream->figures.rows > taken_of(db, stream))
		r = spool_sql_error(db, SQLITE_CORRUPT);
	return r;
}

/* Ends: each turn of the loop removes a row, returns one, or fails. */
static int take(struct spool_db *db, struct spool_request *req)
{
	const struct spool_stream *stream = spool_stream_find(&db->ledger, req->stream);

	if (db->n_taken == SPOOL_TAKEN_MAX)
		return -ENOBUFS; /* full of rows whose removal waits for the disk */
	if (!stream)
		return -ENOENT;
	for (;;) {
		struct spool_meta m = {0};
		uint8_t *body = NULL;
		int r = next_row(db, stream, &m);

		if (r == 0 && m.created_unix_ns < oldest_allowed(db)) {
			r = drop(db, m.id, SPOOL_DROP_AGE);
			if (r == 0)
				continue;
		}
		if (r == 0)
			r = spool_body_read(db, &db->sql, &m, &body);
		if (r == -EBADMSG && db->sql_error == 0) {
			r = drop(db, m.id, SPOOL_DROP_CORRUPT);
			if (r == 0)
				continue;
		}
		if (r < 0)
			return r;
		hold(db, stream, &m);
		req->row = (struct spool_row){.id = m.id,
					      .body = body,
					      .len = m.len,
					      .items = m.items,
					      .priority = m.priority,
					      .created_unix_ns = m.created_unix_ns};
		return 0;
	}
}

static int delete_key(struct spool_db *db, const char *key)
{
	sqlite3_stmt *stmt = spool_statement(&db->sql, SPOOL_SQL_DELETE_KEY);

	sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC);
	return spool_execute(db, stmt);
}

static int copy_value(sqlite3_stmt *stmt, struct spool_request *req)
{
	const void *value = sqlite3_column_blob(stmt, 0);
	size_t len = (size_t)sqlite3_column_bytes(stmt, 0);

	if (len > SPOOL_VALUE_MAX ||
	    spool_value_crc(req->key, value, len) != (uint32_t)sqlite3_column_int64(stmt, 1))
		return -EBADMSG;
	req->row.body = malloc(len ? len : 1);
	if (!req->row.body)
		return -ENOMEM;
	if (len)
		memcpy(req->row.body, value, len);
	req->row.len = len;
	return 0;
}

static int get(struct spool_db *db, struct spool_request *req)
{
	sqlite3_stmt *stmt = spool_statement(&db->sql, SPOOL_SQL_GET);
	int rc, r;

	sqlite3_bind_text(stmt, 1, req->key, -1, SQLITE_STATIC);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_DONE)
		r = -ENOENT;
	else if (rc != SQLITE_ROW)
		r = spool_sql_error(db, rc);
	else
		r = copy_value(stmt, req);
	sqlite3_reset(stmt);
	if (r == -EBADMSG && db->sql_error == 0)
		(void)delete_key(db, req->key); /* if it fails, the next get says the same again */
	return r;
}

static int read_once(struct spool_db *db, struct spool_request *req)
{
	db->sql_error = 0;
	return req->op == SPOOL_TAKE ? take(db, req) : get(db, req);
}

static void run_read(struct spool_db *db, struct spool_request *req)
{
	req->error = read_once(db, req);
	if (db->sql_error == -EBADMSG) {
		req->error = spool_file_rescue(db);
		if (req->error == 0)
			req->error = read_once(db, req);
		if (db->sql_error == -EBADMSG)
			req->error = -EIO;
	}
	if (db->sql_error < 0)
		tell(db, db->sql_error);
}

/* ---- a turn ------------------------------------------------------------------------------------ */

static struct spool_request *next_run(struct spool_request *q)
{
	if (!writes(q))
		return q->next;
	while (q && writes(q))
		q = q->next;
	return q;
}

void spool_db_run(struct spool_db *db, struct spool_request *list)
{
	struct spool_request *run = list;

	db->low_space = false;
	while (run) {
		/* A rescue that failed half way has closed it. */
		int r = spool_file_open(db);

		if (r < 0) {
			tell(db, r);
			for (; run; run = run->next)
				run->error = r;
			return;
		}
		if (writes(run))
			run_writes(db, run);
		else
			run_read(db, run);
		run = next_run(run);
	}
	if (!list) {
		int r = spool_file_open(db);

		if (r < 0)
			tell(db, r);
	}
	if (db->sql.handle)
		spool_file_trim(db);
}
