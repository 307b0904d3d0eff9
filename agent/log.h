/* agent/log.h - what the agent says on stderr, and the only file that writes there.
 *
 * A line is formatted by the caller, put into a bounded buffer and written by a small thread of
 * its own: stderr may be a full pipe, a stopped terminal or a file on a stuck disk, and none of
 * them may hold up a scrape. (O_NONBLOCK would not do: it changes the file description that other
 * processes share, and regular files ignore it.) What does not fit is dropped and counted.
 *
 * Thread rule: every function may be called from any thread once log_start() has returned.
 * Includes: libc, pthread, options.h for the limits. */
#ifndef BLIX_AGENT_LOG_H
#define BLIX_AGENT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVELS };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON, LOG_FORMATS };

extern const char *const log_level_names[LOG_LEVELS];	/* "error" ... */
extern const char *const log_format_names[LOG_FORMATS]; /* "text", "json" */

/* Start writing to `fd` (borrowed until log_stop). Lines carry sd-daemon priorities instead of a
 * time where $JOURNAL_STREAM names fd. 0; -EAGAIN, -ENOMEM: no thread, lines are then written
 * by the caller, blocking. */
int log_start(int fd, enum log_format format, enum log_level level);
/* Write what is buffered for at most `wait_ms`, then stop; a writer stuck in the kernel is left
 * behind. */
void log_stop(uint32_t wait_ms);

void log_set_level(enum log_level level);
void log_set_format(enum log_format format);

/* One line, without its newline. `event` names its kind for programs and does not change with the
 * words: one of log_events.def, which says what each means. Control characters and malformed UTF-8 are made visible, so
 * foreign text can be passed as it is. Before log_start() it is written at once. */
void log_line(enum log_level level, const char *event, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* A failure that may repeat: the first one of a `key` is a line, further ones within
 * LOG_REPEAT_NS are counted and the next line tells how many they were. */
void log_repeated(enum log_level level, const char *event, const char *key, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* The failure is over: the next one of this key is a line again. */
void log_settled(const char *key);

/* Lines dropped since the start because the buffer was full. */
uint64_t log_dropped(void);

/* ---- pure parts, for tests ------------------------------------------------------------------- */

enum { LOG_KEY_MAX = 160, LOG_KEYS_MAX = 64, LOG_EVENT_MAX = 40 };

/* Which keys spoke lately. Zeroed memory is an empty table; when full, the key that has been
 * silent for longest gives up its place. */
struct log_limit {
	struct log_limit_key {
		char key[LOG_KEY_MAX];
		uint64_t said_ns; /* last line; 0 = free */
		uint64_t muted;	  /* since then */
	} keys[LOG_KEYS_MAX];
};

/* May `key` speak at `now_ns` (> 0)? If so *ret_muted is how many were muted since its last line.
 */
bool log_limit_pass(struct log_limit *limit, const char *key, uint64_t now_ns, uint64_t *ret_muted);
void log_limit_forget(struct log_limit *limit, const char *key);

/* `text` (len bytes) as one printable line in `out`, terminated, never longer than size - 1. With
 * `json` it is the inside of a JSON string. Returns the length. */
size_t log_escape(char *out, size_t size, const char *text, size_t len, bool json);

/* A whole line with its newline. `unix_ns` 0: no time (the journal has its own). `event` NULL: none,
 * as for a person at a terminal. */
size_t log_compose(char *out, size_t size, enum log_format format, bool priority,
		   enum log_level level, uint64_t unix_ns, const char *event, const char *message,
		   uint64_t muted);

#endif
