/* agent/export/spool.c - see spool.h: the half on the loop thread.
 *
 * Requests wait in a list. One job at a time is with the disk thread; it takes the whole list with
 * it, and what comes meanwhile makes the next one: that is all the batching there is. While the job
 * runs the database side belongs to the disk thread, so figures are copied when it returns. */
#include "agent/export/spool_db.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
	BYTES_MAX_DEFAULT = 1 << 30,
	AGE_MAX_S_DEFAULT = 24 * 3600,
	FREE_PERCENT_DEFAULT = 10,
};

struct list {
	struct spool_request *first, **end;
};

struct spool {
	struct disk *disk;
	struct spool_db *db;
	struct list waiting;
	struct spool_request *running; /* the disk thread's; only done, arg and answered are ours */
	struct spool_request *finished; /* being answered */
	size_t pending_bytes;
	uint32_t pending;

	int64_t taken[SPOOL_TAKEN_MAX];
	uint32_t n_taken;
	uint32_t n_taking; /* takes that are not answered yet */

	bool busy;	/* a job is with the disk */
	bool ran;	/* set by the job */
	bool answering; /* in turn_done(): `s` must outlive it */
	bool freed;

	struct spool_ledger ledger; /* copies */
	struct spool_status status;
};

/* ---- requests ---------------------------------------------------------------------------------- */

static void request_free(struct spool_request *q)
{
	free(q->row.body);
	free(q->origins);
	free(q);
}

static void list_init(struct list *l)
{
	l->first = NULL;
	l->end = &l->first;
}

static void note_taken(struct spool *s, const struct spool_request *q, int error)
{
	s->n_taking--;
	if (error == 0)
		s->taken[s->n_taken++] = q->row.id;
}

/* Once. The callback may call any of the spool's functions, spool_free() too. */
static void answer(struct spool *s, struct spool_request *q, int error)
{
	if (q->answered)
		return;
	q->answered = true;
	switch (q->op) {
	case SPOOL_PUT:
		if (q->row.taken)
			note_taken(s, q, error || q->row.id == 0 ? -ENOENT : 0);
		q->done.put(q->arg, error, error == 0 ? q->row.id : 0);
		break;
	case SPOOL_SET:
		q->done.plain(q->arg, error);
		break;
	case SPOOL_TAKE: {
		struct spool_row row = q->row;

		note_taken(s, q, error);
		if (error == 0)
			q->row.body = NULL; /* the receiver's */
		q->done.row(q->arg, error, error == 0 ? &row : NULL);
		break;
	}
	case SPOOL_GET:
		q->done.value(q->arg, error, error == 0 ? q->row.body : NULL,
			      error == 0 ? q->row.len : 0);
		break;
	case SPOOL_FINISH:
	case SPOOL_TICK:
		break;
	}
}

static void answer_all(struct spool *s, struct spool_request *first, int error)
{
	for (struct spool_request *q = first; q; q = q->next)
		answer(s, q, error);
}

static void release_all(struct spool *s, struct spool_request *first)
{
	while (first) {
		struct spool_request *next = first->next;

		s->pending_bytes -= first->bytes;
		s->pending--;
		request_free(first);
		first = next;
	}
}

/* ---- turns ------------------------------------------------------------------------------------- */

static void turn_done(void *arg);

static void turn_work(void *arg)
{
	struct spool *s = arg;

	spool_db_run(s->db, s->running);
	s->ran = true;
}

static int start_turn(struct spool *s)
{
	int r;

	s->running = s->waiting.first;
	s->ran = false;
	r = disk_submit(s->disk, turn_work, turn_done, s);
	if (r < 0) {
		s->running = NULL;
		return r;
	}
	list_init(&s->waiting);
	s->busy = true;
	return 0;
}

static void close_work(void *arg)
{
	struct spool *s = arg;

	s->db = spool_db_free(s->db);
}

static void close_done(void *arg)
{
	struct spool *s = arg;

	spool_db_free(s->db); /* if the job never ran: the disk thread has ended */
	free(s);
}

static void close_later(struct spool *s)
{
	/* Refused only while the disk thread stops or is far behind. */
	if (disk_submit(s->disk, close_work, close_done, s) < 0)
		close_done(s);
}

static void turn_done(void *arg)
{
	struct spool *s = arg;
	bool ran = s->ran;

	s->busy = false;
	s->answering = true;
	s->finished = s->running;
	s->running = NULL;
	s->ledger = *spool_db_ledger(s->db);
	s->status = *spool_db_status(s->db);
	/* First the next turn: a callback may fill the disk's queue. */
	if (!s->freed && s->waiting.first && start_turn(s) < 0) {
		struct spool_request *refused = s->waiting.first;

		list_init(&s->waiting);
		answer_all(s, refused, -ECANCELED); /* disk_free() came before spool_free() */
		release_all(s, refused);
	}
	for (struct spool_request *q = s->finished; q; q = q->next)
		answer(s, q, ran ? q->error : -ECANCELED);
	release_all(s, s->finished);
	s->finished = NULL;
	s->answering = false;
	if (s->freed && !s->busy)
		close_later(s);
}

/* ---- the interface ----------------------------------------------------------------------------- */

static void view_init(struct spool *s, const struct spool_options *o)
{
	s->status.bytes_max = o->bytes_max;
	list_init(&s->waiting);
}

int spool_new(struct disk *disk, const struct spool_options *options, struct spool **ret_spool)
{
	struct spool_options o = *options;
	struct spool *s;

	if (!o.dir || o.dir[0] == '\0' ||
	    strlen(o.dir) > PATH_MAX - sizeof("/spool.db.damaged-journal") ||
	    o.free_percent_min > 99 || o.bytes_max > INT64_MAX)
		return -EINVAL;
	o.bytes_max = o.bytes_max ? o.bytes_max : BYTES_MAX_DEFAULT;
	o.age_max_s = o.age_max_s ? o.age_max_s : AGE_MAX_S_DEFAULT;
	o.free_percent_min = o.free_percent_min ? o.free_percent_min : FREE_PERCENT_DEFAULT;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	if (spool_db_new(&o, &s->db) < 0) {
		free(s);
		return -ENOMEM;
	}
	s->disk = disk;
	view_init(s, &o);
	(void)start_turn(s); /* else the first request opens it */
	*ret_spool = s;
	return 0;
}

struct spool *spool_free(struct spool *s)
{
	struct spool_request *waiting;

	if (!s || s->freed)
		return NULL;
	s->freed = true;
	waiting = s->waiting.first;
	list_init(&s->waiting);
	answer_all(s, s->finished, -ECANCELED);
	answer_all(s, s->running, -ECANCELED);
	answer_all(s, waiting, -ECANCELED);
	release_all(s, waiting);
	if (!s->busy && !s->answering)
		close_later(s);
	return NULL;
}

static bool is_name(const char *name)
{
	size_t len = strnlen(name, SPOOL_NAME_MAX + 1);

	for (size_t i = 0; i < len; i++)
		if (name[i] <= ' ' || name[i] > '~' || name[i] == '/')
			return false;
	return len > 0 && len <= SPOOL_NAME_MAX;
}

static bool stream_name(char *out, const char *destination, const char *signal)
{
	char *p = out;

	if (!is_name(destination) || !is_name(signal))
		return false;
	p = stpcpy(p, destination);
	*p++ = '/';
	(void)stpcpy(p, signal);
	return true;
}

/* `bytes` beside the request itself. NULL: the bounds, or no memory. */
static struct spool_request *request_new(struct spool *s, enum spool_op op, size_t bytes)
{
	struct spool_request *q;

	bytes += sizeof(*q);
	if (s->freed || s->pending >= SPOOL_PENDING_MAX)
		return NULL;
	/* What is larger than the bound may go alone. */
	if (s->pending > 0 && s->pending_bytes + bytes > SPOOL_PENDING_BYTES_MAX)
		return NULL;
	q = calloc(1, sizeof(*q));
	if (!q)
		return NULL;
	q->op = op;
	q->bytes = bytes;
	return q;
}

static bool copy(const void *from, size_t len, void *ret_copy)
{
	void *to = NULL;

	if (len > 0) {
		to = malloc(len);
		if (!to)
			return false;
		memcpy(to, from, len);
	}
	memcpy(ret_copy, &to, sizeof(to));
	return true;
}

/* Takes the request. */
static int submit(struct spool *s, struct spool_request *q)
{
	struct spool_request **end = s->waiting.end;

	*end = q;
	s->waiting.end = &q->next;
	if (!s->busy && start_turn(s) < 0) {
		*end = NULL;
		s->waiting.end = end;
		request_free(q);
		return -ENOBUFS;
	}
	s->pending++;
	s->pending_bytes += q->bytes;
	return 0;
}

static bool are_origins(const struct spool_origin *origins, uint32_t n)
{
	if (n > SPOOL_ORIGINS_MAX)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		size_t max = sizeof(origins[i].incarnation);

		if (strnlen(origins[i].incarnation, max) == max ||
		    origins[i].first_seq > origins[i].last_seq || origins[i].last_seq > INT64_MAX)
			return false;
	}
	return true;
}

int spool_put(struct spool *s, const char *destination, const char *signal,
	      const struct spool_row *row, const struct spool_origin *origins, uint32_t n_origins,
	      void (*done)(void *arg, int error, int64_t id), void *arg)
{
	char stream[SPOOL_STREAM_NAME_MAX + 1];
	struct spool_request *q;
	bool taken = row->taken;
	int r;

	if (!stream_name(stream, destination, signal) || row->len == 0 ||
	    row->len > SPOOL_BODY_MAX || row->items == 0 || !are_origins(origins, n_origins))
		return -EINVAL;
	if (taken && s->n_taken + s->n_taking >= SPOOL_TAKEN_MAX)
		return -ENOBUFS;
	q = request_new(s, SPOOL_PUT, row->len + n_origins * sizeof(*origins));
	if (!q)
		return -ENOBUFS;
	q->row = *row;
	q->row.body = NULL;
	q->row.id = 0;
	q->n_origins = n_origins;
	q->done.put = done;
	q->arg = arg;
	memcpy(q->stream, stream, sizeof(stream));
	if (!copy(row->body, row->len, &q->row.body) ||
	    !copy(origins, n_origins * sizeof(*origins), &q->origins)) {
		request_free(q);
		return -ENOBUFS;
	}
	r = submit(s, q);
	if (r == 0 && taken)
		s->n_taking++;
	return r;
}

int spool_take(struct spool *s, const char *destination, const char *signal,
	       void (*done)(void *arg, int error, const struct spool_row *row), void *arg)
{
	char stream[SPOOL_STREAM_NAME_MAX + 1];
	struct spool_request *q;
	int r;

	if (!stream_name(stream, destination, signal))
		return -EINVAL;
	if (s->n_taken + s->n_taking >= SPOOL_TAKEN_MAX)
		return -ENOBUFS;
	q = request_new(s, SPOOL_TAKE, 0);
	if (!q)
		return -ENOBUFS;
	memcpy(q->stream, stream, sizeof(stream));
	q->done.row = done;
	q->arg = arg;
	r = submit(s, q);
	if (r == 0)
		s->n_taking++;
	return r;
}

int spool_finish(struct spool *s, int64_t id, bool remove)
{
	for (uint32_t i = 0; i < s->n_taken; i++) {
		struct spool_request *q;
		int r;

		if (s->taken[i] != id)
			continue;
		q = request_new(s, SPOOL_FINISH, 0);
		if (!q)
			return -ENOBUFS;
		q->row.id = id;
		q->remove = remove;
		r = submit(s, q);
		if (r == 0)
			s->taken[i] = s->taken[--s->n_taken];
		return r;
	}
	return 0;
}

void spool_tick(struct spool *s)
{
	struct spool_request *q;

	if (s->busy)
		return;
	q = request_new(s, SPOOL_TICK, 0);
	if (q)
		(void)submit(s, q); /* else the next one */
}

static bool is_key(const char *key)
{
	size_t len = strnlen(key, SPOOL_KEY_MAX + 1);

	return len > 0 && len <= SPOOL_KEY_MAX;
}

int spool_set(struct spool *s, const char *key, const void *value, size_t len,
	      void (*done)(void *arg, int error), void *arg)
{
	struct spool_request *q;

	if (!is_key(key) || len > SPOOL_VALUE_MAX)
		return -EINVAL;
	q = request_new(s, SPOOL_SET, len);
	if (!q)
		return -ENOBUFS;
	if (!copy(value, len, &q->row.body)) {
		request_free(q);
		return -ENOBUFS;
	}
	q->row.len = len;
	(void)stpcpy(q->key, key);
	q->done.plain = done;
	q->arg = arg;
	return submit(s, q);
}

int spool_get(struct spool *s, const char *key,
	      void (*done)(void *arg, int error, const void *value, size_t len), void *arg)
{
	struct spool_request *q;

	if (!is_key(key))
		return -EINVAL;
	q = request_new(s, SPOOL_GET, 0);
	if (!q)
		return -ENOBUFS;
	(void)stpcpy(q->key, key);
	q->done.value = done;
	q->arg = arg;
	return submit(s, q);
}

void spool_figures(const struct spool *s, const char *destination, const char *signal,
		   struct spool_figures *ret_figures)
{
	char name[SPOOL_STREAM_NAME_MAX + 1];

	*ret_figures = (struct spool_figures){0};
	if (!stream_name(name, destination, signal))
		return;
	for (uint32_t i = 0; i < s->ledger.n_streams; i++)
		if (strcmp(s->ledger.streams[i].name, name) == 0)
			*ret_figures = s->ledger.streams[i].figures;
}

void spool_status(const struct spool *s, struct spool_status *ret_status)
{
	*ret_status = s->status;
}
