/* agent/export/resolve.c - a host name becomes addresses, in a thread of its own.
 *
 * The thread and the loop share one job; whoever lets go of it last frees it. The thread says that
 * it is ready by closing its end of a pipe, so nothing of libevent is touched from it. Includes
 * libevent, pthread. */
#include "agent/export/resolve.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct job {
	atomic_int holders;
	int ready; /* the thread's end of the pipe */
	bool is_number;
	char host[256], port[8];
	int error;
	unsigned n;
	struct resolve_address addresses[RESOLVE_ADDRESSES_MAX];
};

struct resolve {
	struct job *job;
	struct event *event;
	int wait;
	resolve_done done;
	void *arg;
};

static void job_release(struct job *job)
{
	if (atomic_fetch_sub(&job->holders, 1) == 1)
		free(job);
}

static void *work(void *arg)
{
	struct job *job = arg;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	int ready = job->ready;

	hints.ai_flags = job->is_number ? AI_NUMERICHOST | AI_NUMERICSERV : AI_NUMERICSERV;
	job->error = getaddrinfo(job->host, job->port, &hints, &list);
	for (struct addrinfo *a = job->error ? NULL : list; a && job->n < RESOLVE_ADDRESSES_MAX;
	     a = a->ai_next) {
		struct resolve_address *to = &job->addresses[job->n];

		if (a->ai_addrlen > sizeof(to->sa))
			continue;
		memcpy(&to->sa, a->ai_addr, a->ai_addrlen);
		to->len = a->ai_addrlen;
		job->n++;
	}
	if (list)
		freeaddrinfo(list);
	/* The pipe orders what was written before what the loop reads after its end. */
	job_release(job);
	close(ready);
	return NULL;
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct resolve *r = arg;
	struct job *job = r->job;
	resolve_done done = r->done;
	void *done_arg = r->arg;

	(void)fd;
	(void)what;
	event_free(r->event);
	close(r->wait);
	free(r);
	/* Seen released by the thread: its writes are visible. */
	(void)atomic_load(&job->holders);
	done(done_arg, job->error ? job->error : job->n ? 0 : EAI_NONAME, job->addresses, job->n);
	job_release(job);
}

static int start_thread(struct job *job)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	/* Signals belong to the loop thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&thread, &attr, work, job);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

int resolve_begin(struct event_base *base, const char *host, uint16_t port, bool is_number,
		  resolve_done done, void *arg, struct resolve **ret_resolve)
{
	struct resolve *r = calloc(1, sizeof(*r));
	struct job *job = calloc(1, sizeof(*job));
	int fds[2] = {-1, -1}, err = -ENOMEM;

	if (!r || !job)
		goto out;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) {
		err = -errno;
		goto out;
	}
	*job = (struct job){.holders = 2, .ready = fds[1], .is_number = is_number};
	snprintf(job->host, sizeof(job->host), "%s", host);
	snprintf(job->port, sizeof(job->port), "%u", port);
	*r = (struct resolve){.job = job, .wait = fds[0], .done = done, .arg = arg};
	r->event = event_new(base, fds[0], EV_READ, on_ready, r);
	if (!r->event || event_add(r->event, NULL) != 0)
		goto out;
	err = start_thread(job);
	if (err)
		goto out;
	*ret_resolve = r;
	return 0;
out:
	if (r && r->event)
		event_free(r->event);
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(job);
	free(r);
	return err;
}

struct resolve *resolve_cancel(struct resolve *r)
{
	if (!r)
		return NULL;
	event_free(r->event);
	close(r->wait);
	job_release(r->job);
	free(r);
	return NULL;
}
