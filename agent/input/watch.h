/* agent/input/watch.h - notice quickly that something happened to a name in a directory.
 *
 * inotify on the directory, which may come and go. Only for promptness: whoever needs the truth
 * looks each second as well. Events of other names are dropped, and a directory in which very much
 * happens is left alone until the next refresh, so that strangers cannot keep the agent busy.
 *
 * Thread rule: the loop thread; nothing blocks. Includes: libc; the implementation also libevent.
 */
#ifndef BLIX_AGENT_INPUT_WATCH_H
#define BLIX_AGENT_INPUT_WATCH_H

struct event_base;
struct watch;

/* Call changed(arg), from the loop, when the file `path` may have come, gone or changed. Without
 * inotify (limits) the watch exists and never calls. 0; -EINVAL: no file name in `path`; -ENOMEM.
 */
int watch_new(struct event_base *base, const char *path, void (*changed)(void *arg), void *arg,
	      struct watch **ret_watch);
struct watch *watch_free(struct watch *w); /* accepts NULL, returns NULL */

/* Once a second: watch the directory if it has appeared, listen again after a flood. */
void watch_refresh(struct watch *w);

#endif
