/* rpc_queue.c - see rpc_queue.h. Its thread touches only `ended` and the eventfd. */
#include "rpc_queue.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct rpc_queue {
	grpc_completion_queue *grpc;
	pthread_t thread;
	bool started;
	int fd; /* readable: something has ended */
	struct event *wakeup;
	pthread_mutex_t lock; /* guards `ended` and `tail` */
	struct rpc_op *ended;
	struct rpc_op **tail;
};

static void hand_over(struct rpc_queue *q, struct rpc_op *op)
{
	static const uint64_t one = 1;

	op->next = NULL;
	pthread_mutex_lock(&q->lock);
	bool first = !q->ended;
	*q->tail = op;
	q->tail = &op->next;
	pthread_mutex_unlock(&q->lock);
	/* The loop takes all at once: only the first needs to wake it. An eventfd's counter cannot
	 * be full here. */
	if (first && write(q->fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
		abort();
}

static void *run(void *arg)
{
	struct rpc_queue *q = arg;

	for (;;) {
		grpc_event event = grpc_completion_queue_next(
			q->grpc, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
		if (event.type == GRPC_QUEUE_SHUTDOWN)
			return NULL;
		struct rpc_op *op = event.tag;
		op->ok = event.success;
		hand_over(q, op);
	}
}

static void run_ended(struct rpc_queue *q)
{
	pthread_mutex_lock(&q->lock);
	struct rpc_op *op = q->ended;
	q->ended = NULL;
	q->tail = &q->ended;
	pthread_mutex_unlock(&q->lock);
	while (op) {
		struct rpc_op *next = op->next; /* done() may free or reuse it */
		op->done(op);
		op = next;
	}
}

static void on_wakeup(evutil_socket_t fd, short what, void *arg)
{
	uint64_t n;

	(void)what;
	/* Before the list is taken: what ends after that wakes us again. */
	if (read(fd, &n, sizeof(n)) != (ssize_t)sizeof(n))
		return;
	run_ended(arg);
}

static int start_thread(struct rpc_queue *q)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int err = -pthread_create(&q->thread, NULL, run, q);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	q->started = !err;
	return err;
}

int rpc_queue_open(struct event_base *base, struct rpc_queue **ret_queue)
{
	struct rpc_queue *q = calloc(1, sizeof(*q));

	if (!q)
		return -ENOMEM;
	grpc_init();
	q->tail = &q->ended;
	pthread_mutex_init(&q->lock, NULL);
	q->grpc = grpc_completion_queue_create_for_next(NULL);
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int err = q->fd < 0 ? -errno : 0;
	if (!err) {
		q->wakeup = event_new(base, q->fd, EV_READ | EV_PERSIST, on_wakeup, q);
		if (!q->wakeup || event_add(q->wakeup, NULL))
			err = -ENOMEM;
	}
	if (!err)
		err = start_thread(q);
	if (err) {
		rpc_queue_close(q);
		return err;
	}
	*ret_queue = q;
	return 0;
}

struct rpc_queue *rpc_queue_close(struct rpc_queue *q)
{
	if (!q)
		return NULL;
	grpc_completion_queue_shutdown(q->grpc);
	if (q->started)
		pthread_join(q->thread, NULL);
	run_ended(q);
	grpc_completion_queue_destroy(q->grpc);
	if (q->wakeup)
		event_free(q->wakeup);
	if (q->fd >= 0)
		close(q->fd);
	pthread_mutex_destroy(&q->lock);
	free(q);
	grpc_shutdown();
	return NULL;
}

grpc_completion_queue *rpc_queue_grpc(struct rpc_queue *q)
{
	return q->grpc;
}
