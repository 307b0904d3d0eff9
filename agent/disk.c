/* agent/disk.c - see disk.h.
 *
 * One mutex guards two rings of jobs. It is held for a few instructions only, never while a job
 * runs, so the loop thread does not wait for the disk by way of it. */
#include "agent/disk.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct job {
	void (*work)(void *job);
	void (*done)(void *job);
	void *arg;
};

/* A job is in one of the rings or running, and their sum is bounded by `capacity`; so neither ring
 * can overflow. */
struct ring {
	struct job *jobs;
	uint32_t first;
	uint32_t count;
};

struct disk {
	pthread_mutex_t mutex;
	pthread_cond_t wake; /* of the disk thread: a job, or stopping */
	pthread_cond_t idle; /* of disk_free: the running job has ended */
	pthread_t thread;
	struct event *finished_event;
	int finished_fd;
	uint32_t capacity;

	/* under mutex */
	struct ring pending;
	struct ring finished;
	uint32_t outstanding;
	uint64_t n_finished;
	uint64_t running_since_ns; /* 0 = idle */
	bool stopping;
	bool abandoned; /* disk_free gave up waiting: the thread frees everything */

	uint64_t refused; /* loop thread only */
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void ring_put(struct ring *r, uint32_t capacity, struct job job)
{
	assert(r->count < capacity);
	r->jobs[(r->first + r->count++) % capacity] = job;
}

static bool ring_take(struct ring *r, uint32_t capacity, struct job *ret_job)
{
	if (r->count == 0)
		return false;
	*ret_job = r->jobs[r->first];
	r->first = (r->first + 1) % capacity;
	r->count--;
	return true;
}

static void release(struct disk *d)
{
	pthread_cond_destroy(&d->wake);
	pthread_cond_destroy(&d->idle);
	pthread_mutex_destroy(&d->mutex);
	free(d->pending.jobs);
	free(d->finished.jobs);
	free(d);
}

/* Run one job; called and left with the mutex held. */
static void run(struct disk *d, struct job job)
{
	d->running_since_ns = now_ns();
	pthread_mutex_unlock(&d->mutex);
	job.work(job.arg);
	pthread_mutex_lock(&d->mutex);
	d->running_since_ns = 0;
	d->n_finished++;
	if (d->abandoned)
		return;
	ring_put(&d->finished, d->capacity, job);
	if (!d->stopping) {
		/* The eventfd is a counter: this write cannot block, and fails for no valid fd. */
		const uint64_t one = 1;
		ssize_t n = write(d->finished_fd, &one, sizeof(one));
		(void)n;
	}
	pthread_cond_signal(&d->idle);
}

static void *disk_thread(void *arg)
{
	struct disk *d = arg;
	struct job job;
	bool abandoned;

	pthread_setname_np(pthread_self(), "blix-disk");
	pthread_mutex_lock(&d->mutex);
	while (!d->stopping) {
		if (ring_take(&d->pending, d->capacity, &job))
			run(d, job);
		else
			pthread_cond_wait(&d->wake, &d->mutex);
	}
	abandoned = d->abandoned;
	pthread_mutex_unlock(&d->mutex);
	if (abandoned)
		release(d);
	return NULL;
}

/* Hand back what is finished. done() may submit again, so the mutex is free while it runs. */
static void hand_back(struct disk *d)
{
	struct job job;

	for (uint32_t left = d->capacity; left > 0; left--) {
		bool found;

		pthread_mutex_lock(&d->mutex);
		found = ring_take(&d->finished, d->capacity, &job);
		d->outstanding -= found;
		pthread_mutex_unlock(&d->mutex);
		if (!found)
			return;
		job.done(job.arg);
	}
}

static void on_finished(evutil_socket_t fd, short what, void *arg)
{
	struct disk *d = arg;
	uint64_t n;
	ssize_t got = read(fd, &n, sizeof(n));

	(void)got; /* EAGAIN: nothing new, and looking costs little */
	(void)what;
	hand_back(d);
}

/* The thread must never take a signal meant for the program. */
static int start_thread(struct disk *d)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&d->thread, NULL, disk_thread, d);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

static void init_sync(struct disk *d)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&d->mutex, NULL);
	pthread_cond_init(&d->wake, &attr);
	pthread_cond_init(&d->idle, &attr);
	pthread_condattr_destroy(&attr);
}

int disk_new(struct event_base *base, uint32_t max_jobs, struct disk **ret_disk)
{
	struct disk *d;
	int r = -ENOMEM;

	if (max_jobs == 0 || max_jobs > DISK_JOBS_MAX)
		return -EINVAL;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	init_sync(d);
	d->capacity = max_jobs;
	d->finished_fd = -1;
	d->pending.jobs = calloc(max_jobs, sizeof(struct job));
	d->finished.jobs = calloc(max_jobs, sizeof(struct job));
	if (!d->pending.jobs || !d->finished.jobs)
		goto fail;
	d->finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->finished_fd < 0) {
		r = -errno;
		goto fail;
	}
	d->finished_event = event_new(base, d->finished_fd, EV_READ | EV_PERSIST, on_finished, d);
	if (!d->finished_event || event_add(d->finished_event, NULL) < 0)
		goto fail;
	r = start_thread(d);
	if (r < 0)
		goto fail;
	*ret_disk = d;
	return 0;
fail:
	if (d->finished_event)
		event_free(d->finished_event);
	if (d->finished_fd >= 0)
		close(d->finished_fd);
	release(d);
	return r;
}

/* Wait for the running job, but not for ever. Called and left with the mutex held. */
static void wait_idle(struct disk *d, uint32_t wait_ms)
{
	uint64_t deadline_ns = now_ns() + (uint64_t)wait_ms * 1000000u;
	struct timespec ts = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
			      .tv_nsec = (long)(deadline_ns % 1000000000u)};

	while (d->running_since_ns != 0)
		if (pthread_cond_timedwait(&d->idle, &d->mutex, &ts) == ETIMEDOUT)
			break;
}

/* Hand back what never ran. The thread takes nothing any more. */
static void hand_back_pending(struct disk *d)
{
	struct job job;
	bool found;

	do {
		pthread_mutex_lock(&d->mutex);
		found = ring_take(&d->pending, d->capacity, &job);
		d->outstanding -= found;
		pthread_mutex_unlock(&d->mutex);
		if (found)
			job.done(job.arg);
	} while (found);
}

struct disk *disk_free(struct disk *d, uint32_t wait_ms)
{
	pthread_t thread;
	bool stuck;

	if (!d)
		return NULL;
	thread = d->thread;
	pthread_mutex_lock(&d->mutex);
	d->stopping = true;
	pthread_cond_signal(&d->wake);
	wait_idle(d, wait_ms);
	pthread_mutex_unlock(&d->mutex);
	hand_back(d);
	hand_back_pending(d);
	event_free(d->finished_event);

	pthread_mutex_lock(&d->mutex);
	stuck = d->running_since_ns != 0;
	d->abandoned = stuck;
	close(d->finished_fd);
	pthread_mutex_unlock(&d->mutex);
	if (stuck) {
		pthread_detach(thread); /* and `d` is the thread's now */
		return NULL;
	}
	pthread_join(thread, NULL);
	hand_back(d); /* a job that ended in the meantime */
	release(d);
	return NULL;
}

int disk_submit(struct disk *d, void (*work)(void *job), void (*done)(void *job), void *job)
{
	int r = 0;

	pthread_mutex_lock(&d->mutex);
	if (d->stopping || d->outstanding == d->capacity) {
		r = -ENOBUFS;
	} else {
		d->outstanding++;
		ring_put(&d->pending, d->capacity,
			 (struct job){.work = work, .done = done, .arg = job});
		pthread_cond_signal(&d->wake);
	}
	pthread_mutex_unlock(&d->mutex);
	if (r < 0)
		d->refused++;
	return r;
}

void disk_status(struct disk *d, struct disk_status *ret_status)
{
	uint64_t since_ns;

	pthread_mutex_lock(&d->mutex);
	since_ns = d->running_since_ns;
	*ret_status = (struct disk_status){
		.jobs = d->outstanding,
		.refused = d->refused,
		.finished = d->n_finished,
		.running_ns = since_ns ? now_ns() - since_ns : 0,
	};
	pthread_mutex_unlock(&d->mutex);
}
