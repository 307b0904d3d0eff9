/* agent/input/wake.c - see wake.h.
 *
 * The lock covers the table of files. The thread holds it while it looks at their words, so a word
 * that was removed is never touched again; it sleeps without it. Changes reach it through a futex of
 * our own, the first one it waits for. */
#include "agent/input/wake.h"

#include "shm/atomic.h"

#include <errno.h>
#include <event2/event.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FAULT_PAUSE_NS 500000000 /* after a word that cannot be waited for */

struct wake_file {
	struct wake *owner;
	uint32_t *word;
	void (*woken)(void *arg);
	void *arg;
	bool armed; /* the thread is to wait for it */
	bool fired; /* the loop is to be told */
};

struct wake {
	pthread_mutex_t lock;
	pthread_t thread;
	bool thread_runs;
	uint32_t changes; /* our own futex */
	bool stop;
	int fd;
	struct event *event;
	struct wake_file *files[WAKE_FILES_MAX];
};

/* ---- the thread ------------------------------------------------------------------------------ */

static struct futex_waitv wait_for(uint32_t *word, uint32_t value, uint32_t flags)
{
	return (struct futex_waitv){
		.uaddr = (uintptr_t)word, .val = value, .flags = FUTEX_32 | flags};
}

/* What to wait for. Returns how many; 0: the end. */
static unsigned int gather(struct wake *w, struct futex_waitv words[WAKE_FILES_MAX + 1])
{
	unsigned int n = 0;

	pthread_mutex_lock(&w->lock);
	if (!w->stop) {
		words[n++] =
			wait_for(&w->changes, blix_load_relaxed(&w->changes), FUTEX_PRIVATE_FLAG);
		for (int i = 0; i < WAKE_FILES_MAX; i++)
			if (w->files[i] && w->files[i]->armed)
				words[n++] = wait_for(w->files[i]->word, 1, 0);
	}
	pthread_mutex_unlock(&w->lock);
	return n;
}

/* Tell the loop of the words that are no longer armed. */
static void report(struct wake *w)
{
	bool any = false;

	pthread_mutex_lock(&w->lock);
	for (int i = 0; i < WAKE_FILES_MAX; i++) {
		struct wake_file *file = w->files[i];

		if (!file || !file->armed || blix_load_acquire(file->word) == 1)
			continue;
		file->armed = false;
		file->fired = any = true;
	}
	pthread_mutex_unlock(&w->lock);
	if (any)
		(void)eventfd_write(w->fd, 1); /* cannot overflow: the loop clears it */
}

/* A mapping whose file was cut short: until somebody removes it, wait for our own word alone. */
static void pause_for_fault(struct futex_waitv *own)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += FAULT_PAUSE_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	(void)syscall(SYS_futex_waitv, own, 1, 0, &until, CLOCK_MONOTONIC);
}

static void *run(void *arg)
{
	struct futex_waitv words[WAKE_FILES_MAX + 1];
	struct wake *w = arg;
	unsigned int n;

	while ((n = gather(w, words)) > 0) {
		long r = syscall(SYS_futex_waitv, words, n, 0, NULL, 0);

		if (r < 0 && errno != EAGAIN && errno != EINTR)
			pause_for_fault(&words[0]);
		report(w);
	}
	return NULL;
}

static void nudge(struct wake *w)
{
	blix_add_shared_release(&w->changes, 1);
	(void)syscall(SYS_futex, &w->changes, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* ---- the loop -------------------------------------------------------------------------------- */

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct wake *w = arg;
	eventfd_t value;

	(void)what;
	(void)eventfd_read((int)fd, &value);
	for (int i = 0; i < WAKE_FILES_MAX; i++) {
		struct wake_file *file;
		bool fired;

		pthread_mutex_lock(&w->lock);
		file = w->files[i];
		fired = file && file->fired;
		if (fired)
			file->fired = false;
		pthread_mutex_unlock(&w->lock);
		if (fired) /* may remove any file, itself too */
			file->woken(file->arg);
	}
}

static int start_thread(struct wake *w)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	sigdelset(&all, SIGBUS); /* a file cut short: the guard of map.h answers it */
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = pthread_create(&w->thread, NULL, run, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	w->thread_runs = r == 0;
	return -r;
}

/* Waiting for nothing is refused by every kernel, but only an old one does not know the call. */
static bool is_supported(void)
{
	return syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) == 0 || errno != ENOSYS;
}

int wake_new(struct event_base *base, struct wake **ret_wake)
{
	struct wake *w;
	int r;

	if (!is_supported())
		return -ENOSYS;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	pthread_mutex_init(&w->lock, NULL);
	w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = w->fd < 0 ? -errno : 0;
	if (r == 0) {
		w->event = event_new(base, w->fd, EV_READ | EV_PERSIST, on_event, w);
		r = w->event && event_add(w->event, NULL) == 0 ? start_thread(w) : -ENOMEM;
	}
	if (r < 0) {
		wake_free(w);
		return r;
	}
	*ret_wake = w;
	return 0;
}

struct wake *wake_free(struct wake *w)
{
	if (!w)
		return NULL;
	if (w->thread_runs) {
		pthread_mutex_lock(&w->lock);
		w->stop = true;
		pthread_mutex_unlock(&w->lock);
		nudge(w);
		pthread_join(w->thread, NULL);
	}
	if (w->event)
		event_free(w->event);
	if (w->fd >= 0)
		close(w->fd);
	pthread_mutex_destroy(&w->lock);
	free(w);
	return NULL;
}

int wake_add(struct wake *w, uint32_t *word, void (*woken)(void *arg), void *arg,
	     struct wake_file **ret_file)
{
	struct wake_file *file = calloc(1, sizeof(*file));
	int r = -ENOSPC;

	if (!file)
		return -ENOMEM;
	*file = (struct wake_file){.owner = w, .word = word, .woken = woken, .arg = arg};
	pthread_mutex_lock(&w->lock);
	for (int i = 0; i < WAKE_FILES_MAX && r < 0; i++)
		if (!w->files[i]) {
			w->files[i] = file;
			r = 0;
		}
	pthread_mutex_unlock(&w->lock);
	if (r < 0)
		free(file);
	else
		*ret_file = file;
	return r;
}

struct wake_file *wake_remove(struct wake_file *file)
{
	struct wake *w = file ? file->owner : NULL;

	if (!file)
		return NULL;
	pthread_mutex_lock(&w->lock);
	for (int i = 0; i < WAKE_FILES_MAX; i++)
		if (w->files[i] == file)
			w->files[i] = NULL;
	pthread_mutex_unlock(&w->lock);
	nudge(w); /* it may sleep on the word; waking from it would be harmless, the map may go */
	free(file);
	return NULL;
}

void wake_arm(struct wake_file *file)
{
	struct wake *w = file->owner;
	bool was_armed;

	/* The thread clears `armed` only after the word left 1; seen late, it is armed next time. */
	pthread_mutex_lock(&w->lock);
	was_armed = file->armed && blix_load_relaxed(file->word) == 1;
	if (!was_armed) {
		blix_store_release(file->word, 1);
		file->armed = true;
	}
	pthread_mutex_unlock(&w->lock);
	if (!was_armed)
		nudge(w);
}
