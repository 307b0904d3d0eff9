/* chunk_worker.c - see chunk_worker.h.
 *
 * Thread rule: `lock` guards both queues and the flag; a job belongs to whoever took it off a
 * queue. */
#include "chunk_worker.h"

#include "test/cluster/limits.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct queue {
	struct chunk_job *head;
	struct chunk_job **tail;
};

struct chunk_worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct queue waiting;
	struct queue ended;
	size_t n_waiting;
	bool stopping;
	int fd; /* readable: something has ended */
	struct event *event;
};

static void push(struct queue *queue, struct chunk_job *job)
{
	job->next = NULL;
	*queue->tail = job;
	queue->tail = &job->next;
}

static struct chunk_job *take_all(struct queue *queue)
{
	struct chunk_job *head = queue->head;

	queue->head = NULL;
	queue->tail = &queue->head;
	return head;
}

static struct chunk_job *take_one(struct queue *queue)
{
	struct chunk_job *job = queue->head;

	queue->head = job->next;
	if (!queue->head)
		queue->tail = &queue->head;
	return job;
}

static void *run(void *arg)
{
	static const uint64_t one = 1;
	struct chunk_worker *w = arg;

	pthread_mutex_lock(&w->lock);
	while (!w->stopping) {
		if (!w->waiting.head) {
			pthread_cond_wait(&w->wake, &w->lock);
			continue;
		}
		struct chunk_job *job = take_one(&w->waiting);
		pthread_mutex_unlock(&w->lock);
		blix_token token = trace_enter(job->caller);
		job->work(job);
		trace_leave(token);
		pthread_mutex_lock(&w->lock);
		push(&w->ended, job);
		w->n_waiting--;
		/* An eventfd's counter cannot be full here. */
		if (write(w->fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
			abort();
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void hand_back(struct chunk_job *job)
{
	while (job) {
		struct chunk_job *next = job->next;
		blix_token token = trace_enter(job->caller);
		job->done(job);
		trace_leave(token);
		job = next;
	}
}

static void on_ended(evutil_socket_t fd, short what, void *arg)
{
	struct chunk_worker *w = arg;
	uint64_t count;

	(void)what;
	if (read(fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&w->lock);
	struct chunk_job *ended = take_all(&w->ended);
	pthread_mutex_unlock(&w->lock);
	hand_back(ended);
}

int chunk_worker_run(struct chunk_worker *w, struct chunk_job *job)
{
	job->caller = trace_here();
	pthread_mutex_lock(&w->lock);
	bool room = w->n_waiting < CHUNK_JOBS_MAX && !w->stopping;
	if (room) {
		job->cancelled = false;
		push(&w->waiting, job);
		w->n_waiting++;
		pthread_cond_signal(&w->wake);
	}
	pthread_mutex_unlock(&w->lock);
	return room ? 0 : -EBUSY;
}

static void free_worker(struct chunk_worker *w)
{
	if (w->event)
		event_free(w->event);
	if (w->fd >= 0)
		close(w->fd);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->wake);
	free(w);
}

/* Signals are the loop's. */
static int start_thread(struct chunk_worker *w)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = -pthread_create(&w->thread, NULL, run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

int chunk_worker_start(struct event_base *base, struct chunk_worker **ret_worker)
{
	struct chunk_worker *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	take_all(&w->waiting);
	take_all(&w->ended);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake, NULL);
	w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int err = w->fd < 0 ? -errno : 0;
	if (!err) {
		w->event = event_new(base, w->fd, EV_READ | EV_PERSIST, on_ended, w);
		err = w->event && !event_add(w->event, NULL) ? start_thread(w) : -ENOMEM;
	}
	if (err) {
		free_worker(w);
		return err;
	}
	*ret_worker = w;
	return 0;
}

struct chunk_worker *chunk_worker_stop(struct chunk_worker *w)
{
	if (!w)
		return NULL;
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	hand_back(take_all(&w->ended));
	struct chunk_job *left = take_all(&w->waiting);
	for (struct chunk_job *job = left; job; job = job->next)
		job->cancelled = true;
	hand_back(left);
	free_worker(w);
	return NULL;
}
