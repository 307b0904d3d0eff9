/* agent/input/watch.c - see watch.h. */
#include "agent/input/watch.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

enum {
	WATCH_WAKES_MAX = 20, /* between two refreshes */
	WATCH_READ_BYTES = 16 << 10,
	WATCH_MASK = IN_CREATE | IN_MOVED_TO | IN_ONLYDIR, /* what goes away can wait a second */
};

struct watch {
	void (*changed)(void *arg);
	void *arg;
	struct event *event;
	int fd; /* -1: no inotify to be had */
	int wd; /* -1: the directory is not there */
	uint32_t wakes;
	bool paused;
	char dir[PATH_MAX];
	char name[NAME_MAX + 1];
};

/* True: one of the events is about our name or about the directory itself. */
static bool concerns_us(struct watch *w, const char *bytes, size_t len)
{
	struct inotify_event event;
	bool ours = false;

	for (size_t at = 0; len - at >= sizeof(event); at += sizeof(event) + event.len) {
		const char *name = bytes + at + sizeof(event);

		memcpy(&event, bytes + at, sizeof(event));
		if (event.len > len - at - sizeof(event))
			break;
		if (event.mask & IN_IGNORED && event.wd == w->wd)
			w->wd = -1; /* the directory is gone */
		if (event.mask & (IN_IGNORED | IN_Q_OVERFLOW) ||
		    (event.len > 0 && strncmp(name, w->name, event.len) == 0))
			ours = true;
	}
	return ours;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct watch *w = arg;
	char bytes[WATCH_READ_BYTES] __attribute__((aligned(8)));
	ssize_t n = read(fd, bytes, sizeof(bytes));
	bool ours = n > 0 && concerns_us(w, bytes, (size_t)n);

	(void)what;
	if (++w->wakes >= WATCH_WAKES_MAX) {
		w->paused = true;
		event_del(w->event);
	}
	if (ours)
		w->changed(w->arg);
}

static int split(struct watch *w, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	size_t dir_len = slash ? (size_t)(slash - path) : 0;

	if (!*name || strlen(name) >= sizeof(w->name) || dir_len >= sizeof(w->dir) - 1)
		return -EINVAL;
	strcpy(w->name, name);
	if (!slash)
		strcpy(w->dir, ".");
	else if (dir_len == 0)
		strcpy(w->dir, "/");
	else
		memcpy(w->dir, path, dir_len); /* terminated by calloc */
	return 0;
}

int watch_new(struct event_base *base, const char *path, void (*changed)(void *arg), void *arg,
	      struct watch **ret_watch)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	if (split(w, path) < 0) {
		free(w);
		return -EINVAL;
	}
	w->changed = changed;
	w->arg = arg;
	w->wd = -1;
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->fd >= 0) {
		w->event = event_new(base, w->fd, EV_READ | EV_PERSIST, on_readable, w);
		if (!w->event || event_add(w->event, NULL) < 0) {
			watch_free(w);
			return -ENOMEM;
		}
	}
	watch_refresh(w);
	*ret_watch = w;
	return 0;
}

struct watch *watch_free(struct watch *w)
{
	if (!w)
		return NULL;
	if (w->event)
		event_free(w->event);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
	return NULL;
}

void watch_refresh(struct watch *w)
{
	if (w->fd < 0)
		return;
	if (w->wd < 0)
		w->wd = inotify_add_watch(w->fd, w->dir, WATCH_MASK);
	w->wakes = 0;
	if (w->paused && event_add(w->event, NULL) == 0)
		w->paused = false;
}
