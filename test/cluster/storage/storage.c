/* storage.c - the storage thread and its two queues: jobs that wait, jobs that are done.
 *
 * Thread rule: `lock` guards both queues and the flags; a job belongs to whoever took it off a
 * queue; the log store belongs to the storage thread. */
#include "storage.h"

#include "test/cluster/limits.h"
#include "test/cluster/log.h"
#include "test/cluster/record/record.h"
#include "test/cluster/record/trace.h"
#include "snapshot_file.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum job_kind { JOB_APPEND, JOB_TRUNCATE, JOB_PUT, JOB_GET };

enum { FULL_DISK_RETRY_MS = 100 };

struct job {
	struct job *next;
	enum job_kind kind;
	int status; /* of Raft: 0 or RAFT_... */
	uint64_t index;
	unsigned trailing;
	unsigned n;
	const struct raft_entry *entries;
	const struct raft_snapshot *snapshot;
	struct raft_snapshot *loaded;
	struct raft_io_append *append;
	struct raft_io_snapshot_put *put;
	struct raft_io_snapshot_get *get;
	blix_span caller; /* what was current when it was ordered */
	blix_span span;	  /* of this thread's work; of a snapshot to be written: all of it */
};

struct queue {
	struct job *head;
	struct job **tail;
};

struct storage {
	int dir;
	struct log_store *log;
	struct storage_events events;

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct queue waiting;
	struct queue done;
	size_t n_waiting; /* and being worked on */
	bool stopping;
	bool stopped;
	int fatal;

	int event_fd;
	struct event *event;
	bool fatal_told;
	void (*on_stopped)(void *arg);
	void *on_stopped_arg;
};

static void queue_init(struct queue *queue)
{
	queue->head = NULL;
	queue->tail = &queue->head;
}

static void queue_push(struct queue *queue, struct job *job)
{
	job->next = NULL;
	*queue->tail = job;
	queue->tail = &job->next;
}

static struct job *queue_take_all(struct queue *queue)
{
	struct job *head = queue->head;

	queue_init(queue);
	return head;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void notify(struct storage *storage)
{
	uint64_t one = 1;

	/* The counter cannot overflow, and a wake-up that is already pending serves as well. */
	if (write(storage->event_fd, &one, sizeof(one)) < 0)
		return;
}

static bool is_full(int err)
{
	return err == -ENOSPC || err == -EDQUOT;
}

/* The disk is full: wait a little. False: the node stops, do not try again. */
static bool wait_for_room(struct storage *storage, bool *told)
{
	struct timespec until;

	if (!*told)
		log_line(LOG_ERROR, "the disk of the data directory is full, waiting for room");
	*told = true;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += FULL_DISK_RETRY_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&storage->lock);
	if (!storage->stopping)
		(void)pthread_cond_timedwait(&storage->wake, &storage->lock, &until);
	bool again = !storage->stopping;
	pthread_mutex_unlock(&storage->lock);
	return again;
}

static int append_job(struct storage *storage, const struct job *job)
{
	bool told = false;
	int err;

	do {
		err = log_store_append(storage->log, job->entries, job->n);
	} while (is_full(err) && wait_for_room(storage, &told));
	if (told && !err)
		log_line(LOG_INFO, "the disk of the data directory has room again");
	return err;
}

static int put_job(struct storage *storage, const struct job *job)
{
	const struct raft_snapshot *snapshot = job->snapshot;
	uint64_t start = record_now_ns();
	int err = snapshot_file_write(storage->dir, snapshot);

	if (err)
		return err;
	record_storage_write(TABLE_RAFT_SNAPSHOT, record_now_ns() - start);
	if (!job->trailing) /* sent by the leader: it replaces the log */
		return log_store_reset(storage->log, snapshot->index + 1) ? -EIO : 0;
	record_snapshot_taken();
	if (snapshot->index > job->trailing)
		err = log_store_drop_head(storage->log, snapshot->index - job->trailing);
	return err ? -EIO : 0;
}

static int get_job(struct storage *storage, struct job *job)
{
	uint64_t start = record_now_ns();
	int err = snapshot_file_read(storage->dir, &job->loaded);

	if (!err && !job->loaded)
		err = -ENOENT;
	if (!err)
		record_storage_read(TABLE_RAFT_SNAPSHOT, record_now_ns() - start);
	return err;
}

static int truncate_job(struct storage *storage, const struct job *job)
{
	uint64_t start = record_now_ns();
	int err = log_store_truncate(storage->log, job->index);

	if (!err)
		record_storage_write(TABLE_RAFT_LOG, record_now_ns() - start);
	return err;
}

static size_t entry_bytes(const struct job *job)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < job->n; i++)
		bytes += job->entries[i].buf.len;
	return bytes;
}

static void begin_append(struct job *job)
{
	job->span = trace_begin_under(TRACE_STORAGE_APPEND, job->caller);
	if (!blix_span_is_recorded(job->span))
		return;
	trace_storage(job->span, "append", "raft_log");
	trace_u64(job->span, TRACE_BATCH_SIZE, job->n);
	trace_u64(job->span, TRACE_BYTES, entry_bytes(job));
}

/* They all end with the sync that they share. */
static void end_appends(struct job *first, const struct job *after, uint64_t fsync_ns, int err)
{
	for (struct job *job = first; job != after; job = job->next) {
		trace_u64(job->span, TRACE_FSYNC_NS, fsync_ns);
		if (err)
			trace_fail(job->span, strerrorname_np(-err), "the log cannot be written");
		trace_end(job->span);
	}
}

/* While it waits for the disk, the thread belongs to the first of them that is traced. */
static int sync_for(struct storage *storage, struct job *first, const struct job *after)
{
	struct job *job = first;

	while (job->next != after && !trace_is_set(job->span))
		job = job->next;
	blix_token token = trace_enter(job->span);
	int err = log_store_sync(storage->log);
	trace_leave(token);
	return err;
}

/* Run the appends at the head of the list as one write to the medium. Returns the job after them;
 * *ret_err is set when they did not become durable. */
static struct job *run_appends(struct storage *storage, struct job *first, int *ret_err)
{
	uint64_t start = record_now_ns(), synced = 0;
	struct job *job;
	int err = 0;

	for (job = first; job && job->kind == JOB_APPEND && !err; job = job->next) {
		begin_append(job);
		err = append_job(storage, job);
	}
	struct job *after = job;
	if (!err) {
		synced = record_now_ns();
		err = sync_for(storage, first, after);
	}
	end_appends(first, after, synced ? record_now_ns() - synced : 0, err);
	if (!err) {
		uint64_t took = record_now_ns() - start;
		for (job = first; job != after; job = job->next)
			record_storage_write(TABLE_RAFT_LOG, took);
	}
	*ret_err = err;
	return after;
}

/* A snapshot that cannot be written or read is no loss: Raft goes on with the log it has. */
static struct job *run_other(struct storage *storage, struct job *job, int *ret_err)
{
	int err;

	if (job->kind == JOB_TRUNCATE) {
		*ret_err = truncate_job(storage, job);
		return job->next;
	}
	blix_span span = trace_begin_under(TRACE_STORAGE_SNAPSHOT,
					   trace_is_set(job->span) ? job->span : job->caller);
	trace_storage(span, job->kind == JOB_PUT ? "write" : "read", "raft_snapshot");
	blix_token token = trace_enter(span);
	err = job->kind == JOB_PUT ? put_job(storage, job) : get_job(storage, job);
	trace_leave(token);
	if (err)
		trace_fail(span, strerrorname_np(-err), "the snapshot");
	trace_end(span);
	if (err == -EIO)
		*ret_err = err;
	if (err) {
		log_line(LOG_WARN, "snapshot %s: %s",
			 job->kind == JOB_PUT ? "not written" : "not read", strerror(-err));
		job->status = is_full(err) ? RAFT_NOSPACE : RAFT_IOERR;
	}
	return job->next;
}

static void hand_back(struct storage *storage, struct job *from, const struct job *end)
{
	pthread_mutex_lock(&storage->lock);
	while (from != end) {
		struct job *next = from->next;
		queue_push(&storage->done, from);
		storage->n_waiting--;
		from = next;
	}
	pthread_mutex_unlock(&storage->lock);
	notify(storage);
}

/* False: the disk failed, and the jobs that are left never end. */
static bool run(struct storage *storage, struct job *jobs)
{
	while (jobs) {
		struct job *next;
		int err = 0;

		if (jobs->kind == JOB_APPEND)
			next = run_appends(storage, jobs, &err);
		else
			next = run_other(storage, jobs, &err);
		if (err) {
			pthread_mutex_lock(&storage->lock);
			storage->fatal = err;
			pthread_mutex_unlock(&storage->lock);
			notify(storage);
			return false;
		}
		hand_back(storage, jobs, next);
		jobs = next;
	}
	return true;
}

static void *storage_main(void *arg)
{
	struct storage *storage = arg;
	bool healthy = true;

	pthread_mutex_lock(&storage->lock);
	while (healthy && (storage->waiting.head || !storage->stopping)) {
		struct job *jobs = queue_take_all(&storage->waiting);
		if (!jobs) {
			pthread_cond_wait(&storage->wake, &storage->lock);
			continue;
		}
		pthread_mutex_unlock(&storage->lock);
		healthy = run(storage, jobs);
		pthread_mutex_lock(&storage->lock);
	}
	storage->stopped = healthy;
	pthread_mutex_unlock(&storage->lock);
	notify(storage);
	return NULL;
}

/* ---- the loop's side ------------------------------------------------------------------------- */

static void deliver(struct job *job)
{
	blix_token token = trace_enter(job->caller);

	if (job->kind == JOB_PUT) {
		if (job->status)
			trace_fail(job->span, NULL, raft_strerror(job->status));
		trace_end(job->span);
	}
	switch (job->kind) {
	case JOB_APPEND:
		job->append->cb(job->append, job->status);
		break;
	case JOB_PUT:
		job->put->cb(job->put, job->status);
		break;
	case JOB_GET:
		job->get->cb(job->get, job->loaded, job->status);
		break;
	case JOB_TRUNCATE:
		break;
	}
	trace_leave(token);
	free(job);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct storage *storage = arg;
	uint64_t count;

	(void)what;
	if (read(fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&storage->lock);
	struct job *job = queue_take_all(&storage->done);
	int fatal = storage->fatal;
	bool stopped = storage->stopped;
	pthread_mutex_unlock(&storage->lock);

	bool any = job != NULL;
	while (job) {
		struct job *next = job->next;
		deliver(job);
		job = next;
	}
	if (any)
		storage->events.done(storage->events.arg);
	if (fatal && !storage->fatal_told) {
		storage->fatal_told = true;
		storage->events.fatal(storage->events.arg, fatal);
	}
	if (stopped && storage->on_stopped) {
		void (*on_stopped)(void *) = storage->on_stopped;
		storage->on_stopped = NULL;
		on_stopped(storage->on_stopped_arg);
	}
}

static int push(struct storage *storage, const struct job *template, size_t limit)
{
	struct job *job = malloc(sizeof(*job));

	if (!job)
		return -ENOMEM;
	*job = *template;
	job->caller = trace_here();
	if (job->kind == JOB_PUT) {
		job->span = trace_begin(TRACE_RAFT_SNAPSHOT);
		trace_u64(job->span, TRACE_INDEX, job->snapshot->index);
		trace_u64(job->span, TRACE_TERM, job->snapshot->term);
	}
	pthread_mutex_lock(&storage->lock);
	bool ok = storage->n_waiting < limit && !storage->stopping;
	if (ok) {
		queue_push(&storage->waiting, job);
		storage->n_waiting++;
		pthread_cond_signal(&storage->wake);
	}
	pthread_mutex_unlock(&storage->lock);
	if (!ok) {
		if (job->kind == JOB_PUT)
			trace_end(job->span);
		free(job);
	}
	return ok ? 0 : -EAGAIN;
}

int storage_append(struct storage *storage, struct raft_io_append *request,
		   const struct raft_entry *entries, unsigned n, raft_io_append_cb cb)
{
	request->cb = cb;
	return push(
		storage,
		&(struct job){.kind = JOB_APPEND, .append = request, .entries = entries, .n = n},
		STORAGE_QUEUE_MAX);
}

int storage_truncate(struct storage *storage, raft_index index)
{
	return push(storage, &(struct job){.kind = JOB_TRUNCATE, .index = index},
		    STORAGE_QUEUE_MAX + STORAGE_QUEUE_RESERVE);
}

int storage_put(struct storage *storage, unsigned trailing, struct raft_io_snapshot_put *request,
		const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
	request->cb = cb;
	return push(storage,
		    &(struct job){.kind = JOB_PUT,
				  .put = request,
				  .snapshot = snapshot,
				  .trailing = trailing},
		    STORAGE_QUEUE_MAX + STORAGE_QUEUE_RESERVE);
}

int storage_get(struct storage *storage, struct raft_io_snapshot_get *request,
		raft_io_snapshot_get_cb cb)
{
	request->cb = cb;
	return push(storage, &(struct job){.kind = JOB_GET, .get = request},
		    STORAGE_QUEUE_MAX + STORAGE_QUEUE_RESERVE);
}

bool storage_has_room(struct storage *storage)
{
	pthread_mutex_lock(&storage->lock);
	bool room = storage->n_waiting < STORAGE_QUEUE_MAX;
	pthread_mutex_unlock(&storage->lock);
	return room;
}

void storage_stop(struct storage *storage, void (*stopped)(void *arg), void *arg)
{
	storage->on_stopped = stopped;
	storage->on_stopped_arg = arg;
	pthread_mutex_lock(&storage->lock);
	storage->stopping = true;
	pthread_cond_signal(&storage->wake);
	pthread_mutex_unlock(&storage->lock);
	/* The thread may have ended before: then nobody else would look. */
	notify(storage);
}

/* Signals are the loop's. */
static int start_thread(struct storage *storage)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = -pthread_create(&storage->thread, NULL, storage_main, storage);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

int storage_start(struct event_base *base, int dir, struct log_store *log,
		  const struct storage_events *events, struct storage **ret_storage)
{
	struct storage *storage = calloc(1, sizeof(*storage));

	if (!storage)
		return -ENOMEM;
	storage->dir = dir;
	storage->log = log;
	storage->events = *events;
	queue_init(&storage->waiting);
	queue_init(&storage->done);
	pthread_mutex_init(&storage->lock, NULL);
	pthread_cond_init(&storage->wake, NULL);
	storage->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	storage->event =
		event_new(base, storage->event_fd, EV_READ | EV_PERSIST, on_event, storage);
	bool ready = storage->event_fd >= 0 && storage->event && !event_add(storage->event, NULL);
	int err = ready ? start_thread(storage) : -ENOMEM;
	if (err) {
		if (storage->event)
			event_free(storage->event);
		if (storage->event_fd >= 0)
			close(storage->event_fd);
		free(storage);
		return err;
	}
	*ret_storage = storage;
	return 0;
}

struct storage *storage_free(struct storage *storage)
{
	if (!storage)
		return NULL;
	pthread_join(storage->thread, NULL);
	event_free(storage->event);
	close(storage->event_fd);
	log_store_close(storage->log);
	pthread_mutex_destroy(&storage->lock);
	pthread_cond_destroy(&storage->wake);
	free(storage);
	return NULL;
}
