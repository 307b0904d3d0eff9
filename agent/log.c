/* agent/log.c - see log.h. */
#include "agent/log.h"
#include "agent/options.h"
#include "shm/utf8.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *const log_level_names[LOG_LEVELS] = {"error", "warning", "info", "debug"};
const char *const log_format_names[LOG_FORMATS] = {"text", "json"};

static const char priorities[LOG_LEVELS] = {'3', '4', '6', '7'}; /* sd-daemon(3) */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t filled;	/* the writer waits for bytes */
	pthread_cond_t drained; /* log_stop waits for none */
	char bytes[LOG_BUFFER_BYTES];
	size_t head; /* bytes[head] is the oldest */
	size_t used;
	int fd;
	bool started; /* log_start was called */
	bool running;
	bool stopping;
	bool journal;
	uint64_t dropped_said; /* part of `dropped` that a line has told of */
	struct log_limit limit;
} out = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.filled = PTHREAD_COND_INITIALIZER,
	.drained = PTHREAD_COND_INITIALIZER,
	.fd = STDERR_FILENO,
};

static _Atomic(uint64_t) dropped;
static _Atomic(int) level_now = LOG_LEVEL_INFO;
static _Atomic(int) format_now = LOG_FORMAT_TEXT;

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- escaping ------------------------------------------------------------------------------- */

/* One byte that cannot stand as it is. Returns how many characters it became. */
static size_t escape_byte(char piece[8], unsigned char c, bool json)
{
	if (json && (c == '"' || c == '\\'))
		return (size_t)snprintf(piece, 8, "\\%c", c);
	if (json && c < 0x20)
		return (size_t)snprintf(piece, 8, "\\u%04x", (unsigned int)c);
	if (json)
		return (size_t)snprintf(piece, 8, "\\ufffd");
	return (size_t)snprintf(piece, 8, "\\x%02x", (unsigned int)c);
}

size_t log_escape(char *dst, size_t size, const char *text, size_t len, bool json)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t n = 0;

	assert(size > 0);
	while (len > 0) {
		char piece[8];
		size_t took = 1, made = 1;

		if (p[0] >= 0x20 && p[0] < 0x7f && !(json && (p[0] == '"' || p[0] == '\\'))) {
			piece[0] = (char)p[0];
		} else if (p[0] >= 0x80 && (took = blix_utf8_char(p, len)) > 0) {
			made = took;
			memcpy(piece, p, took);
		} else {
			took = 1;
			made = escape_byte(piece, p[0], json);
		}
		if (n + made >= size)
			break;
		memcpy(dst + n, piece, made);
		n += made;
		p += took;
		len -= took;
	}
	dst[n] = '\0';
	return n;
}

/* ---- lines ---------------------------------------------------------------------------------- */

static size_t time_text(char *text, size_t size, uint64_t unix_ns)
{
	time_t seconds = (time_t)(unix_ns / 1000000000u);
	struct tm tm;
	size_t n;

	if (!gmtime_r(&seconds, &tm))
		return 0;
	n = strftime(text, size, "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(text + n, size - n, ".%03uZ",
			      (unsigned int)(unix_ns / 1000000u % 1000u));
	return n;
}

size_t log_compose(char *line, size_t size, enum log_format format, bool priority,
		   enum log_level level, uint64_t unix_ns, const char *event, const char *message,
		   uint64_t muted)
{
	bool json = format == LOG_FORMAT_JSON;
	char when[40] = "", escaped[LOG_LINE_BYTES], times[80] = "", prefix[8] = "";
	char kind[LOG_EVENT_MAX + 16] = "";
	int n;

	log_escape(escaped, sizeof(escaped), message, strlen(message), json);
	if (priority)
		snprintf(prefix, sizeof(prefix), "<%c>", priorities[level]);
	if (unix_ns)
		time_text(when, sizeof(when), unix_ns);
	if (event)
		snprintf(kind, sizeof(kind), json ? ",\"event\":\"%.*s\"" : "event=%.*s ",
			 LOG_EVENT_MAX, event);
	if (json) {
		if (muted)
			snprintf(times, sizeof(times), ",\"repeated\":%" PRIu64, muted);
		n = snprintf(line, size, "%s{%s%s%s\"level\":\"%s\"%s,\"message\":\"%s\"%s}\n",
			     prefix, when[0] ? "\"time\":\"" : "", when, when[0] ? "\"," : "",
			     log_level_names[level], kind, escaped, times);
	} else {
		if (muted)
			snprintf(times, sizeof(times),
				 " (%" PRIu64 " more since the last such line)", muted);
		n = snprintf(line, size, "%s%s%s%s%s%s%s%s\n", prefix, when, when[0] ? " " : "",
			     priority ? "" : log_level_names[level], priority ? "" : ": ", kind,
			     escaped, times);
	}
	assert(n > 0 && (size_t)n < size);
	return (size_t)n;
}

/* Append to the ring. False if it does not fit. */
static bool ring_put(const char *bytes, size_t len)
{
	size_t at, first;

	if (LOG_BUFFER_BYTES - out.used < len)
		return false;
	at = (out.head + out.used) % LOG_BUFFER_BYTES;
	first = len < LOG_BUFFER_BYTES - at ? len : LOG_BUFFER_BYTES - at;
	memcpy(out.bytes + at, bytes, first);
	memcpy(out.bytes, bytes + first, len - first);
	out.used += len;
	return true;
}

static void write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			/* Somebody else made our stderr non-blocking. */
			nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
			continue;
		}
		if (n <= 0)
			return; /* stderr is gone: there is no one left to tell */
		bytes += n;
		len -= (size_t)n;
	}
}

static void submit(enum log_level level, const char *event, uint64_t muted, const char *message)
{
	char line[LOG_LINE_BYTES + 256];
	enum log_format format = (enum log_format)atomic_load(&format_now);
	/* A person at a terminal who mistyped a flag needs no time. */
	uint64_t now = out.journal || !out.started ? 0 : clock_ns(CLOCK_REALTIME), lost;
	size_t len;

	len = log_compose(line, sizeof(line), format, out.journal, level, now,
			  out.started ? event : NULL, message, muted);
	pthread_mutex_lock(&out.lock);
	if (!out.running) {
		pthread_mutex_unlock(&out.lock);
		write_all(out.fd, line, len);
		return;
	}
	lost = atomic_load(&dropped) - out.dropped_said;
	if (lost > 0) {
		char note[256], text[80];
		size_t n;

		snprintf(text, sizeof(text), "%" PRIu64 " lines were lost here: stderr is not read",
			 lost);
		n = log_compose(note, sizeof(note), format, out.journal, LOG_LEVEL_WARNING, now,
				"log_lines_lost", text, 0);
		/* Only together with the line that follows, else the note would be told twice. */
		if (LOG_BUFFER_BYTES - out.used >= n + len && ring_put(note, n))
			out.dropped_said += lost;
	}
	if (out.dropped_said == atomic_load(&dropped) && ring_put(line, len))
		pthread_cond_signal(&out.filled);
	else
		atomic_fetch_add(&dropped, 1);
	pthread_mutex_unlock(&out.lock);
}

void log_line(enum log_level level, const char *event, const char *format, ...)
{
	char message[LOG_LINE_BYTES];
	va_list args;

	if ((int)level > atomic_load(&level_now))
		return;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	submit(level, event, 0, message);
}

/* ---- repeated failures ---------------------------------------------------------------------- */

static struct log_limit_key *limit_find(struct log_limit *limit, const char *key)
{
	for (size_t i = 0; i < LOG_KEYS_MAX; i++)
		if (limit->keys[i].said_ns && !strncmp(limit->keys[i].key, key, LOG_KEY_MAX - 1))
			return &limit->keys[i];
	return NULL;
}

bool log_limit_pass(struct log_limit *limit, const char *key, uint64_t now_ns, uint64_t *ret_muted)
{
	struct log_limit_key *k = limit_find(limit, key);

	if (k && now_ns - k->said_ns < LOG_REPEAT_NS) {
		k->muted++;
		return false;
	}
	if (!k) {
		k = &limit->keys[0];
		for (size_t i = 1; i < LOG_KEYS_MAX; i++)
			if (limit->keys[i].said_ns < k->said_ns)
				k = &limit->keys[i];
		snprintf(k->key, sizeof(k->key), "%s", key);
		k->muted = 0;
	}
	*ret_muted = k->muted;
	k->muted = 0;
	k->said_ns = now_ns;
	return true;
}

void log_limit_forget(struct log_limit *limit, const char *key)
{
	struct log_limit_key *k = limit_find(limit, key);

	if (k)
		memset(k, 0, sizeof(*k));
}

void log_repeated(enum log_level level, const char *event, const char *key, const char *format, ...)
{
	char message[LOG_LINE_BYTES];
	uint64_t muted = 0;
	va_list args;
	bool pass;

	if ((int)level > atomic_load(&level_now))
		return;
	pthread_mutex_lock(&out.lock);
	pass = log_limit_pass(&out.limit, key, clock_ns(CLOCK_MONOTONIC), &muted);
	pthread_mutex_unlock(&out.lock);
	if (!pass)
		return;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	submit(level, event, muted, message);
}

void log_settled(const char *key)
{
	pthread_mutex_lock(&out.lock);
	log_limit_forget(&out.limit, key);
	pthread_mutex_unlock(&out.lock);
}

uint64_t log_dropped(void)
{
	return atomic_load(&dropped);
}

void log_set_level(enum log_level level)
{
	atomic_store(&level_now, (int)level);
}

void log_set_format(enum log_format format)
{
	atomic_store(&format_now, (int)format);
}

/* ---- the writing thread --------------------------------------------------------------------- */

static void *writer(void *arg)
{
	char chunk[LOG_LINE_BYTES];

	(void)arg;
	pthread_mutex_lock(&out.lock);
	while (!out.stopping || out.used > 0) {
		size_t n = LOG_BUFFER_BYTES - out.head;

		if (out.used == 0) {
			pthread_cond_wait(&out.filled, &out.lock);
			continue;
		}
		n = n < out.used ? n : out.used;
		n = n < sizeof(chunk) ? n : sizeof(chunk);
		memcpy(chunk, out.bytes + out.head, n);
		out.head = (out.head + n) % LOG_BUFFER_BYTES;
		out.used -= n;
		pthread_mutex_unlock(&out.lock);
		write_all(out.fd, chunk, n);
		pthread_mutex_lock(&out.lock);
	}
	out.running = false;
	pthread_cond_signal(&out.drained);
	pthread_mutex_unlock(&out.lock);
	return NULL;
}

/* systemd sets JOURNAL_STREAM to "device:inode" of the stream it made; a redirected stderr is
 * another one. */
static bool is_journal(int fd)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;
	char *colon;

	if (!stream || fstat(fd, &st) < 0)
		return false;
	device = strtoull(stream, &colon, 10);
	if (*colon != ':')
		return false;
	inode = strtoull(colon + 1, NULL, 10);
	return st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

int log_start(int fd, enum log_format format, enum log_level level)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, before;
	int err;

	assert(!out.running);
	log_set_format(format);
	log_set_level(level);
	out.fd = fd;
	out.journal = is_journal(fd);
	out.stopping = false;
	out.started = out.running = true;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, LOG_STACK_BYTES);
	sigfillset(&all); /* signals belong to the loop */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&thread, &attr, writer, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (err)
		out.running = false;
	return -err;
}

void log_stop(uint32_t wait_ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += wait_ms / 1000;
	until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&out.lock);
	out.stopping = true;
	pthread_cond_signal(&out.filled);
	while (out.running && pthread_cond_timedwait(&out.drained, &out.lock, &until) == 0)
		;
	pthread_mutex_unlock(&out.lock);
}
