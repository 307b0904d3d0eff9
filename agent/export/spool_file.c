/* agent/export/spool_file.c - the spool's database file: opened, counted, trimmed, moved aside.
 *
 * The database is locked exclusively for as long as it is open: a second agent is refused, and the
 * index of the WAL lives in our memory instead of a mapped file that someone could truncate. It is
 * never repaired in place: a damaged one is moved aside and its readable rows are copied. */
#include "agent/export/spool_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	APPLICATION_ID = 0x626c7831, /* "blx1" */
	SCHEMA_VERSION = 1,
	TRIM_PAGES = 1024,     /* a turn */
	TRIM_FREE_PAGES = 256, /* not worth moving pages for */
};

/* auto_vacuum has to be set before the first table is made. */
static const char setup_sql[] = "PRAGMA locking_mode=EXCLUSIVE;"
				"PRAGMA auto_vacuum=INCREMENTAL;"
				"PRAGMA journal_mode=WAL;"
				"PRAGMA synchronous=NORMAL;"
				"PRAGMA cache_size=-2048;"
				"PRAGMA mmap_size=0;"
				"PRAGMA temp_store=MEMORY;"
				"PRAGMA cell_size_check=ON;"
				"PRAGMA trusted_schema=OFF;"
				"PRAGMA journal_size_limit=8388608;";

static const char schema_sql[] =
	"BEGIN IMMEDIATE;"
	"CREATE TABLE request(id INTEGER PRIMARY KEY, stream TEXT NOT NULL, created INTEGER NOT "
	"NULL,"
	" items INTEGER NOT NULL, priority INTEGER NOT NULL, len INTEGER NOT NULL,"
	" body_crc INTEGER NOT NULL, crc INTEGER NOT NULL);"
	"CREATE INDEX request_stream ON request(stream);"
	"CREATE INDEX request_priority ON request(priority);"
	"CREATE INDEX request_created ON request(created);"
	"CREATE TABLE body(id INTEGER PRIMARY KEY, data BLOB NOT NULL);"
	"CREATE TABLE origin(stream TEXT NOT NULL, incarnation TEXT NOT NULL, lane INTEGER NOT "
	"NULL,"
	" first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, id INTEGER NOT NULL,"
	" PRIMARY KEY(stream, incarnation, lane, first_seq, last_seq, id)) WITHOUT ROWID;"
	"CREATE INDEX origin_id ON origin(id);"
	"CREATE TABLE value(key TEXT PRIMARY KEY, data BLOB NOT NULL, crc INTEGER NOT NULL);"
	"PRAGMA application_id=0x626c7831;"
	"PRAGMA user_version=1;"
	"COMMIT;";

#define META "SELECT id, stream, created, items, priority, len, body_crc, crc FROM request "
static const char *const statement_sql[SPOOL_STATEMENTS] = {
	[SPOOL_SQL_BEGIN] = "BEGIN IMMEDIATE",
	[SPOOL_SQL_COMMIT] = "COMMIT",
	[SPOOL_SQL_PUT_REQUEST] = "INSERT INTO request VALUES(?,?,?,?,?,?,?,?)",
	[SPOOL_SQL_PUT_BODY] = "INSERT INTO body VALUES(?,?)",
	[SPOOL_SQL_PUT_ORIGIN] = "INSERT OR IGNORE INTO origin VALUES(?,?,?,?,?,?)",
	[SPOOL_SQL_COVER] =
		"SELECT last_seq FROM origin WHERE stream=? AND incarnation=? AND lane=? "
		"AND first_seq<=? ORDER BY first_seq DESC, last_seq DESC LIMIT 1",
	[SPOOL_SQL_ALL] = META "ORDER BY id",
	[SPOOL_SQL_ALL_BACKWARDS] = META "ORDER BY id DESC",
	[SPOOL_SQL_STREAM] = META "WHERE stream=? ORDER BY id",
	[SPOOL_SQL_ONE] = META "WHERE id=?",
	[SPOOL_SQL_BODY] = "SELECT data FROM body WHERE id=?",
	[SPOOL_SQL_ORIGINS] =
		"SELECT incarnation, lane, first_seq, last_seq FROM origin WHERE id=?",
	[SPOOL_SQL_BY_PRIORITY] = "SELECT id FROM request WHERE priority=? ORDER BY id",
	[SPOOL_SQL_BY_AGE] = "SELECT id FROM request WHERE created<? ORDER BY created",
	[SPOOL_SQL_DELETE_REQUEST] = "DELETE FROM request WHERE id=?",
	[SPOOL_SQL_DELETE_BODY] = "DELETE FROM body WHERE id=?",
	[SPOOL_SQL_DELETE_ORIGINS] = "DELETE FROM origin WHERE id=?",
	[SPOOL_SQL_SET] = "INSERT INTO value VALUES(?,?,?) ON CONFLICT(key) DO UPDATE SET "
			  "data=excluded.data, crc=excluded.crc",
	[SPOOL_SQL_GET] = "SELECT data, crc FROM value WHERE key=?",
	[SPOOL_SQL_DELETE_KEY] = "DELETE FROM value WHERE key=?",
	[SPOOL_SQL_COUNT_KEYS] = "SELECT count(*) FROM value WHERE key<>'' AND key<>?",
	[SPOOL_SQL_ALL_KEYS] = "SELECT key, data, crc FROM value",
	[SPOOL_SQL_VACUUM] = "PRAGMA incremental_vacuum(1024)",
	[SPOOL_SQL_FREE_PAGES] = "PRAGMA freelist_count",
	[SPOOL_SQL_PAGES] = "PRAGMA page_count",
};
_Static_assert(TRIM_PAGES == 1024, "the number in the statement");

static int last_errno(sqlite3_file *file)
{
	int e = 0;

	if (!file || !file->pMethods ||
	    file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &e) != SQLITE_OK)
		return 0;
	return e;
}

/* Why SQLite could not open or use a file. sqlite3_system_errno() alone is no answer: it is of the
 * last call that opened something, and a failed write of the WAL leaves it as it was. */
static int from_system(sqlite3 *handle)
{
	const char *path = handle ? sqlite3_db_filename(handle, "main") : NULL;
	sqlite3_file *file = NULL;
	int e = 0;

	if (path && access(path, W_OK) < 0)
		return -errno;
	if (handle &&
	    sqlite3_file_control(handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file) == SQLITE_OK)
		e = last_errno(file);
	if (e <= 0 && handle &&
	    sqlite3_file_control(handle, "main", SQLITE_FCNTL_FILE_POINTER, &file) == SQLITE_OK)
		e = last_errno(file);
	if (e <= 0 && handle)
		e = sqlite3_system_errno(handle);
	return e > 0 ? -e : -EIO;
}

/* A version in the file's header that SQLite does not write to; or really read-only. */
static int read_only(sqlite3 *handle)
{
	const char *path = handle ? sqlite3_db_filename(handle, "main") : NULL;

	if (path && access(path, W_OK) == 0)
		return -EBADMSG;
	return errno == EACCES ? -EACCES : -EROFS;
}

/* -EBADMSG is the one that means damage. */
static int to_errno(sqlite3 *handle, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
		return read_only(handle);
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_PERM:
		return -EACCES;
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
		return from_system(handle);
	default: /* CORRUPT, NOTADB; ERROR, CONSTRAINT, ...: the schema is not what we made */
		return -EBADMSG;
	}
}

int spool_sql_error(struct spool_db *db, int rc)
{
	db->sql_error = to_errno(db->sql.handle, rc);
	return db->sql_error;
}

static void sql_close(struct spool_sql *sql)
{
	for (int i = 0; i < SPOOL_STATEMENTS; i++)
		sqlite3_finalize(sql->statements[i]);
	(void)sqlite3_close(sql->handle); /* NULL is fine */
	*sql = (struct spool_sql){0};
}

static int sql_prepare(struct spool_sql *sql)
{
	for (int i = 0; i < SPOOL_STATEMENTS; i++) {
		int rc = sqlite3_prepare_v3(sql->handle, statement_sql[i], -1,
					    SQLITE_PREPARE_PERSISTENT, &sql->statements[i], NULL);
		if (rc != SQLITE_OK)
			return rc;
	}
	return SQLITE_OK;
}

static int read_number(sqlite3 *handle, const char *query, int64_t *ret_number)
{
	sqlite3_stmt *stmt;
	int rc = sqlite3_prepare_v2(handle, query, -1, &stmt, NULL);

	if (rc != SQLITE_OK)
		return rc;
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		*ret_number = sqlite3_column_int64(stmt, 0);
		rc = SQLITE_OK;
	}
	sqlite3_finalize(stmt);
	return rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
}

/* Ours and of this version, or new. */
static int check_schema(sqlite3 *handle)
{
	int64_t id = 0, version = 0, tables = 0;
	int rc = read_number(handle, "PRAGMA application_id", &id);

	if (rc == SQLITE_OK)
		rc = read_number(handle, "PRAGMA user_version", &version);
	if (rc == SQLITE_OK)
		rc = read_number(handle, "SELECT count(*) FROM sqlite_master", &tables);
	if (rc != SQLITE_OK)
		return rc;
	if (id == 0 && version == 0 && tables == 0)
		return sqlite3_exec(handle, schema_sql, NULL, NULL, NULL);
	return id == APPLICATION_ID && version == SCHEMA_VERSION ? SQLITE_OK : SQLITE_NOTADB;
}

static int sql_open(struct spool_sql *sql, const char *path)
{
	int rc = sqlite3_open_v2(path, &sql->handle,
				 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
					 SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE,
				 NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_db_config(sql->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(sql->handle, setup_sql, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = check_schema(sql->handle);
	if (rc == SQLITE_OK)
		rc = sql_prepare(sql);
	return rc;
}

/* Count what is there. Only the counts come from the file: what was dropped since the start stays. */
static int load(struct spool_db *db)
{
	struct spool_ledger *ledger = &db->ledger;
	sqlite3_stmt *stmt = spool_statement(&db->sql, SPOOL_SQL_ALL);
	int rc;

	memset(ledger->charged, 0, sizeof(ledger->charged));
	for (uint32_t i = 0; i < ledger->n_streams; i++) {
		struct spool_figures *f = &ledger->streams[i].figures;

		f->rows = f->items = f->bytes = f->oldest_unix_ns = 0;
	}
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct spool_meta meta;
		struct spool_stream *stream = NULL;

		if (spool_meta_read(stmt, &meta))
			stream = spool_stream_make(ledger, meta.stream);
		if (!stream) {
			rc = SQLITE_CORRUPT;
			break;
		}
		spool_ledger_add(ledger, stream, &meta);
	}
	sqlite3_reset(stmt);
	if (rc != SQLITE_DONE)
		return spool_sql_error(db, rc);
	return spool_oldest_refresh(db);
}

/* SQLite would make it readable for others; its WAL inherits the mode of the database. One that is
 * there is not opened here: closing it would release the locks this process may have on it. */
static int make_private(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st;
	int r;

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	r = -errno;
	if (lstat(path, &st) < 0)
		return r;
	return S_ISREG(st.st_mode) ? 0 : -EBADMSG;
}

static int open_once(struct spool_db *db)
{
	int r = make_private(db->path);
	int rc;

	if (r < 0)
		return r;
	rc = sql_open(&db->sql, db->path);
	r = rc == SQLITE_OK ? load(db) : to_errno(db->sql.handle, rc);
	if (r < 0) {
		sql_close(&db->sql);
		return r;
	}
	db->status.open = true;
	spool_file_trim(db);
	return 0;
}

int spool_file_open(struct spool_db *db)
{
	int r;

	if (db->sql.handle)
		return 0;
	r = db->rescue_due ? -EBADMSG : open_once(db);
	return r == -EBADMSG ? spool_file_rescue(db) : r;
}

void spool_file_close(struct spool_db *db)
{
	sql_close(&db->sql);
	db->status.open = false;
}

bool spool_file_in_place(struct spool_db *db)
{
	int moved = 0;
	int rc = sqlite3_file_control(db->sql.handle, "main", SQLITE_FCNTL_HAS_MOVED, &moved);

	return rc != SQLITE_OK || !moved;
}

static uint64_t file_bytes(const char *path, const char *suffix)
{
	char name[PATH_MAX + 8];
	struct stat st;

	(void)snprintf(name, sizeof(name), "%s%s", path, suffix);
	return stat(name, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

static int64_t statement_number(struct spool_db *db, enum spool_statement which)
{
	sqlite3_stmt *stmt = spool_statement(&db->sql, which);
	int64_t n = sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;

	sqlite3_reset(stmt);
	return n;
}

/* Failures here are found again, and told, by the next request that writes. */
void spool_file_trim(struct spool_db *db)
{
	bool empty = db->ledger.charged[0] + db->ledger.charged[1] == 0;
	int64_t free_pages = statement_number(db, SPOOL_SQL_FREE_PAGES);

	if (free_pages > TRIM_FREE_PAGES &&
	    (empty || free_pages > statement_number(db, SPOOL_SQL_PAGES) / 4)) {
		sqlite3_stmt *stmt = spool_statement(&db->sql, SPOOL_SQL_VACUUM);
		int rc;

		do
			rc = sqlite3_step(stmt);
		while (rc == SQLITE_ROW);
		sqlite3_reset(stmt);
		(void)sqlite3_wal_checkpoint_v2(db->sql.handle, NULL, SQLITE_CHECKPOINT_TRUNCATE,
						NULL, NULL);
	}
	db->status.file_bytes = file_bytes(db->path, "") + file_bytes(db->path, "-wal");
}

/* ---- damage ------------------------------------------------------------------------------------ */

static int move_one(const struct spool_db *db, const char *suffix)
{
	char from[PATH_MAX + 8], to[PATH_MAX + 8];
	struct stat st;

	(void)snprintf(from, sizeof(from), "%s%s", db->path, suffix);
	(void)snprintf(to, sizeof(to), "%s%s", db->damaged_path, suffix);
	/* A directory of that name cannot be replaced unless it is empty; then it is left, and told. */
	if (lstat(to, &st) == 0 && S_ISDIR(st.st_mode))
		(void)rmdir(to);
	else
		(void)unlink(to); /* an older WAL must never be met by a newer database */
	return rename(from, to) == 0 || errno == ENOENT ? 0 : -errno;
}

static int move_aside(struct spool_db *db)
{
	int r = move_one(db, "");

	if (r == 0)
		r = move_one(db, "-wal");
	(void)move_one(db, "-journal");
	return r;
}

static bool read_origin(sqlite3_stmt *stmt, struct spool_origin *ret_origin)
{
	const unsigned char *incarnation = sqlite3_column_text(stmt, 0);
	size_t len = (size_t)sqlite3_column_bytes(stmt, 0);

	if (!incarnation || len >= sizeof(ret_origin->incarnation))
		return false;
	*ret_origin = (struct spool_origin){
		.lane = (uint32_t)sqlite3_column_int64(stmt, 1),
		.first_seq = (uint64_t)sqlite3_column_int64(stmt, 2),
		.last_seq = (uint64_t)sqlite3_column_int64(stmt, 3),
	};
	memcpy(ret_origin->incarnation, incarnation, len);
	return true;
}

/* Origins have no CRC: those of a damaged database are brought over only as long as they are read
 * without a fault. A row without them may be stored twice, which is the safe side; one with wrong
 * ones could keep another from being stored, so the ranges must at least be possible. */
static uint32_t read_origins(struct spool_sql *from, int64_t id, struct spool_origin *origins)
{
	sqlite3_stmt *stmt = spool_statement(from, SPOOL_SQL_ORIGINS);
	uint32_t n = 0;
	int rc;

	sqlite3_bind_int64(stmt, 1, id);
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW && n < SPOOL_ORIGINS_MAX)
		if (read_origin(stmt, &origins[n]) && origins[n].first_seq <= origins[n].last_seq &&
		    origins[n].last_seq <= INT64_MAX)
			n++;
	sqlite3_reset(stmt);
	return rc == SQLITE_DONE ? n : 0;
}

/* One row; `meta` is sound. 0 also for one that is not: it is counted. */
static int rescue_row(struct spool_db *db, struct spool_sql *from, struct spool_meta *meta,
		      struct spool_origin *origins)
{
	struct spool_stream *stream = spool_stream_make(&db->ledger, meta->stream);
	uint8_t *body;
	int r = spool_body_read(db, from, meta, &body);

	if (r == -EBADMSG) {
		if (stream)
			stream->figures.dropped_items[SPOOL_DROP_CORRUPT] += meta->items;
		return 0;
	}
	if (r < 0)
		return r;
	r = spool_row_insert(db, meta, body, origins, read_origins(from, meta->id, origins));
	free(body);
	return r == -ENOSPC && db->sql_error == 0 ? 0 : r;
}

/* From one end until a fault, or past `until`. */
static int rescue_rows(struct spool_db *db, struct spool_sql *from, enum spool_statement order,
		       struct spool_origin *origins, int64_t *until)
{
	sqlite3_stmt *stmt = spool_statement(from, order);
	int64_t last = *until;
	int r = 0;

	while (r == 0 && sqlite3_step(stmt) == SQLITE_ROW) {
		struct spool_meta meta;

		if (order == SPOOL_SQL_ALL_BACKWARDS && sqlite3_column_int64(stmt, 0) <= *until)
			break;
		if (!spool_meta_read(stmt, &meta))
			continue; /* counted by the difference, where it was known */
		last = meta.id;
		r = rescue_row(db, from, &meta, origins);
	}
	sqlite3_reset(stmt);
	*until = last;
	return r;
}

static int rescue_values(struct spool_db *db, struct spool_sql *from)
{
	sqlite3_stmt *stmt = spool_statement(from, SPOOL_SQL_ALL_KEYS);
	int r = 0;

	for (int n = 0; n <= SPOOL_KEYS_MAX && r == 0 && sqlite3_step(stmt) == SQLITE_ROW; n++) {
		const char *key = (const char *)sqlite3_column_text(stmt, 0);
		const void *value = sqlite3_column_blob(stmt, 1);
		size_t len = (size_t)sqlite3_column_bytes(stmt, 1);

		if (!key || strlen(key) > SPOOL_KEY_MAX || len > SPOOL_VALUE_MAX ||
		    spool_value_crc(key, value, len) != (uint32_t)sqlite3_column_int64(stmt, 2))
			continue;
		r = spool_value_set(db, key, value, len);
	}
	sqlite3_reset(stmt);
	return r;
}

/* In one transaction, so that a rescue that is cut short starts over. The old file is only read. */
static int rescue_all(struct spool_db *db, struct spool_sql *from)
{
	struct spool_origin *origins = malloc(SPOOL_ORIGINS_MAX * sizeof(*origins));
	int64_t until = 0;
	int r;

	if (!origins)
		return -ENOMEM;
	db->sql_error = 0;
	r = spool_execute(db, spool_statement(&db->sql, SPOOL_SQL_BEGIN));
	if (r == 0)
		r = rescue_rows(db, from, SPOOL_SQL_ALL, origins, &until);
	if (r == 0)
		r = rescue_rows(db, from, SPOOL_SQL_ALL_BACKWARDS, origins, &until);
	if (r == 0)
		r = rescue_values(db, from);
	if (r == 0)
		r = spool_oldest_refresh(db);
	if (r == 0)
		r = spool_execute(db, spool_statement(&db->sql, SPOOL_SQL_COMMIT));
	if (r < 0)
		(void)sqlite3_exec(db->sql.handle, "ROLLBACK", NULL, NULL, NULL);
	free(origins);
	return r;
}

/* What was known to be there and neither came over nor was counted on the way is lost too. */
static void count_lost(struct spool_ledger *now, const struct spool_ledger *then)
{
	for (uint32_t i = 0; i < then->n_streams; i++) {
		const struct spool_figures *b = &then->streams[i].figures;
		struct spool_figures *a = &now->streams[i].figures;
		uint64_t counted =
			a->dropped_items[SPOOL_DROP_CORRUPT] - b->dropped_items[SPOOL_DROP_CORRUPT];

		if (b->items > a->items + counted)
			a->dropped_items[SPOOL_DROP_CORRUPT] += b->items - a->items - counted;
	}
}

/* What cannot be read as a database at all gives nothing, and is no failure. */
static int rescue_from_aside(struct spool_db *db)
{
	struct spool_sql from = {0};
	int r = 0;

	if (sqlite3_open_v2(db->damaged_path, &from.handle,
			    SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW |
				    SQLITE_OPEN_EXRESCODE,
			    NULL) == SQLITE_OK &&
	    sqlite3_exec(from.handle, "PRAGMA locking_mode=EXCLUSIVE", NULL, NULL, NULL) ==
		    SQLITE_OK &&
	    sql_prepare(&from) == SQLITE_OK)
		r = rescue_all(db, &from);
	sql_close(&from);
	return r;
}

int spool_file_rescue(struct spool_db *db)
{
	int r;

	spool_file_close(db);
	if (!db->rescue_due) {
		r = move_aside(db);
		if (r < 0)
			return r;
		db->damaged = db->ledger;
		db->status.damaged++;
		db->rescue_due = true;
	}
	r = open_once(db);
	if (r == 0)
		r = rescue_from_aside(db);
	if (r == 0) {
		count_lost(&db->ledger, &db->damaged);
		db->rescue_due = false;
		db->sql_error = 0;
		return 0;
	}
	/* The book goes back to what it was, so that nothing is counted twice when this is tried again. */
	spool_file_close(db);
	db->ledger = db->damaged;
	return r == -EBADMSG ? -EIO : r;
}
