/* agent/export/spool_rows.c - rows and values in the database, and the accounts kept of them.
 *
 * A row is one `request` (what is needed to choose, count and check it), one `body`, and its
 * origins. They are apart so that counting a large backlog reads no bodies. What is read back is
 * foreign: the CRC of a request covers its columns and the CRC of its body. */
#include "agent/export/spool_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

uint64_t spool_charge(uint64_t len)
{
	return (len + SPOOL_PAGE_BYTES - 1) / SPOOL_PAGE_BYTES * SPOOL_PAGE_BYTES +
	       SPOOL_ROW_OVERHEAD;
}

sqlite3_stmt *spool_statement(struct spool_sql *sql, enum spool_statement which)
{
	sqlite3_stmt *stmt = sql->statements[which];

	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return stmt;
}

int spool_execute(struct spool_db *db, sqlite3_stmt *stmt)
{
	int rc = sqlite3_step(stmt);

	/* The error is read before the reset: closing files may change the system's errno. */
	int r = rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : spool_sql_error(db, rc);

	sqlite3_reset(stmt);
	return r;
}

static uint32_t crc_of(const void *data, size_t len, uint32_t crc)
{
	return (uint32_t)crc32_z(crc, data, len);
}

static uint32_t meta_crc(const struct spool_meta *m)
{
	const uint64_t fields[] = {(uint64_t)m->id, m->created_unix_ns, m->items, m->priority,
				   m->len,	    m->body_crc};

	return crc_of(m->stream, strlen(m->stream), crc_of(fields, sizeof(fields), 0));
}

/* Columns as in SPOOL_SQL_ALL: id, stream, created, items, priority, len, body_crc, crc. */
bool spool_meta_read(sqlite3_stmt *stmt, struct spool_meta *ret_meta)
{
	const unsigned char *stream = sqlite3_column_text(stmt, 1);
	size_t stream_len = (size_t)sqlite3_column_bytes(stmt, 1);
	struct spool_meta m = {
		.id = sqlite3_column_int64(stmt, 0),
		.created_unix_ns = (uint64_t)sqlite3_column_int64(stmt, 2),
		.items = (uint32_t)sqlite3_column_int64(stmt, 3),
		.priority = sqlite3_column_int64(stmt, 4) == 1,
		.len = (uint64_t)sqlite3_column_int64(stmt, 5),
		.body_crc = (uint32_t)sqlite3_column_int64(stmt, 6),
	};

	if (!stream || stream_len == 0 || stream_len > SPOOL_STREAM_NAME_MAX)
		return false;
	memcpy(m.stream, stream, stream_len);
	if (m.id <= 0 || m.id == INT64_MAX || m.items == 0 || m.len == 0 || m.len > SPOOL_BODY_MAX)
		return false;
	if (meta_crc(&m) != (uint32_t)sqlite3_column_int64(stmt, 7))
		return false;
	*ret_meta = m;
	return true;
}

/* -ENOENT: there is none. */
int spool_meta_by_id(struct spool_db *db, int64_t id, struct spool_meta *ret_meta)
{
	sqlite3_stmt *stmt = spool_statement(&db->sql, SPOOL_SQL_ONE);
	int rc, r = 0;

	sqlite3_bind_int64(stmt, 1, id);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_DONE)
		r = -ENOENT;
	else if (rc != SQLITE_ROW)
		r = spool_sql_error(db, rc);
	else if (!spool_meta_read(stmt, ret_meta))
		r = spool_sql_error(db, SQLITE_CORRUPT);
	sqlite3_reset(stmt);
	return r;
}

struct spool_stream *spool_stream_find(struct spool_ledger *ledger, const char *name)
{
	for (uint32_t i = 0; i < ledger->n_streams; i++)
		if (strcmp(ledger->streams[i].name, name) == 0)
			return &ledger->streams[i];
	return NULL;
}

struct spool_stream *spool_stream_make(struct spool_ledger *ledger, const char *name)
{
	struct spool_stream *stream = spool_stream_find(ledger, name);

	if (stream)
		return stream;
	if (ledger->n_streams == SPOOL_STREAMS_MAX)
		return NULL;
	stream = &ledger->streams[ledger->n_streams++];
	*stream = (struct spool_stream){0};
	memcpy(stream->name, name, strlen(name) + 1);
	return stream;
}

void spool_ledger_add(struct spool_ledger *ledger, struct spool_stream *stream,
		      const struct spool_meta *meta)
{
	stream->figures.rows++;
	stream->figures.items += meta->items;
	stream->figures.bytes += meta->len;
	ledger->charged[meta->priority] += spool_charge(meta->len);
	if (meta->id >= ledger->next_id)
		ledger->next_id = meta->id + 1;
}

static int insert_origin(struct spool_db *db, const struct spool_meta *meta,
			 const struct spool_origin *o)
{
	sqlite3_stmt *stmt = spool_statement(&db->sql, SPOOL_SQL_PUT_ORIGIN);

	sqlite3_bind_text(stmt, 1, meta->stream, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 2, o->incarnation, -1, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 3, o->lane);
	sqlite3_bind_int64(stmt, 4, (int64_t)o->first_seq);
	sqlite3_bind_int64(stmt, 5, (int64_t)o->last_seq);
	sqlite3_bind_int64(stmt, 6, meta->id);
	return spool_execute(db, stmt);
}

int spool_row_insert(struct spool_db *db, struct spool_meta *meta, const uint8_t *body,
		     const struct spool_origin *origins, uint32_t n_origins)
{
	struct spool_stream *stream = spool_stream_make(&db->ledger, meta->stream);
	sqlite3_stmt *stmt;
	int r;

	if (!stream)
		return -ENOSPC;
	meta->body_crc = crc_of(body, meta->len, 0);
	stmt = spool_statement(&db->sql, SPOOL_SQL_PUT_REQUEST);
	sqlite3_bind_int64(stmt, 1, meta->id);
	sqlite3_bind_text(stmt, 2, meta->stream, -1, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 3, (int64_t)meta->created_unix_ns);
	sqlite3_bind_int64(stmt, 4, meta->items);
	sqlite3_bind_int64(stmt, 5, meta->priority);
	sqlite3_bind_int64(stmt, 6, (int64_t)meta->len);
	sqlite3_bind_int64(stmt, 7, meta->body_crc);
	sqlite3_bind_int64(stmt, 8, meta_crc(meta));
	r = spool_execute(db, stmt);
	if (r < 0)
		return r;
	stmt = spool_statement(&db->sql, SPOOL_SQL_PUT_BODY);
	sqlite3_bind_int64(stmt, 1, meta->id);
	sqlite3_bind_blob64(stmt, 2, body, meta->len, SQLITE_STATIC);
	r = spool_execute(db, stmt);
	for (uint32_t i = 0; i < n_origins && r == 0; i++)
		r = insert_origin(db, meta, &origins[i]);
	if (r == 0)
		spool_ledger_add(&db->ledger, stream, meta);
	return r;
}

static void subtract(struct spool_ledger *ledger, struct spool_stream *stream,
		     const struct spool_meta *meta, enum spool_drop reason)
{
	stream->figures.rows--;
	stream->figures.items -= meta->items;
	stream->figures.bytes -= meta->len;
	ledger->charged[meta->priority] -= spool_charge(meta->len);
	if (reason < SPOOL_DROPS)
		stream->figures.dropped_items[reason] += meta->items;
}

int spool_row_remove(struct spool_db *db, int64_t id, enum spool_drop reason)
{
	static const enum spool_statement deletes[] = {
		SPOOL_SQL_DELETE_REQUEST, SPOOL_SQL_DELETE_BODY, SPOOL_SQL_DELETE_ORIGINS};
	struct spool_meta meta = {0};
	struct spool_stream *stream;
	int r = spool_meta_by_id(db, id, &meta);

	if (r == -ENOENT)
		return 0; /* lost with a damaged database, and counted then */
	if (r < 0)
		return r;
	/* A whole row that the load did not see, or of which more left than came: not our book. */
	stream = spool_stream_find(&db->ledger, meta.stream);
	if (!stream || stream->figures.rows == 0 || stream->figures.items < meta.items ||
	    stream->figures.bytes < meta.len ||
	    db->ledger.charged[meta.priority] < spool_charge(meta.len))
		return spool_sql_error(db, SQLITE_CORRUPT);
	for (size_t i = 0; i < sizeof(deletes) / sizeof(deletes[0]); i++) {
		sqlite3_stmt *stmt = spool_statement(&db->sql, deletes[i]);

		sqlite3_bind_int64(stmt, 1, id);
		r = spool_execute(db, stmt);
		if (r < 0)
			return r;
	}
	subtract(&db->ledger, stream, &meta, reason);
	return 0;
}

static int copy_body(const void *data, size_t len, const struct spool_meta *meta,
		     uint8_t **ret_body)
{
	uint8_t *body;

	if (!data || len != meta->len || crc_of(data, len, 0) != meta->body_crc)
		return -EBADMSG;
	body = malloc(len);
	if (!body)
		return -ENOMEM;
	memcpy(body, data, len);
	*ret_body = body;
	return 0;
}

int spool_body_read(struct spool_db *db, struct spool_sql *from, const struct spool_meta *meta,
		    uint8_t **ret_body)
{
	sqlite3_stmt *stmt = spool_statement(from, SPOOL_SQL_BODY);
	int rc, r;

	sqlite3_bind_int64(stmt, 1, meta->id);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_DONE) {
		r = -EBADMSG;
	} else if (rc != SQLITE_ROW) {
		r = from == &db->sql ? spool_sql_error(db, rc) : -EBADMSG;
	} else {
		const void *data = sqlite3_column_blob(stmt, 0);

		r = copy_body(data, (size_t)sqlite3_column_bytes(stmt, 0), meta, ret_body);
	}
	sqlite3_reset(stmt);
	return r;
}

struct spool_taken *spool_taken_find(struct spool_db *db, int64_t id)
{
	for (uint32_t i = 0; i < db->n_taken; i++)
		if (db->taken[i].id == id)
			return &db->taken[i];
	return NULL;
}

uint32_t spool_value_crc(const char *key, const void *value, size_t len)
{
	return crc_of(value, len, crc_of(key, strlen(key) + 1, 0));
}

int spool_value_set(struct spool_db *db, const char *key, const void *value, size_t len)
{
	sqlite3_stmt *stmt = spool_statement(&db->sql, SPOOL_SQL_SET);

	sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC);
	sqlite3_bind_blob64(stmt, 2, len ? value : "", len, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 3, spool_value_crc(key, value, len));
	return spool_execute(db, stmt);
}

int spool_oldest_refresh(struct spool_db *db)
{
	int r = 0;

	for (uint32_t i = 0; i < db->ledger.n_streams && r == 0; i++) {
		struct spool_stream *stream = &db->ledger.streams[i];
		sqlite3_stmt *stmt = spool_statement(&db->sql, SPOOL_SQL_STREAM);
		int rc;

		sqlite3_bind_text(stmt, 1, stream->name, -1, SQLITE_STATIC);
		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW && rc != SQLITE_DONE)
			r = spool_sql_error(db, rc);
		else
			stream->figures.oldest_unix_ns =
				rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(stmt, 2) : 0;
		sqlite3_reset(stmt);
	}
	return r;
}
