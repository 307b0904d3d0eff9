/* agent/export/journal.c - see journal.h. */
#include "agent/export/journal.h"
#include "agent/log.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct waiting {
	struct batch *batch;
	uint32_t next; /* its first log that was not sent */
	uint64_t since_ns;
};

struct journal {
	struct event *again;
	struct sockaddr_un address;
	int fd;
	struct waiting queue[JOURNAL_QUEUE_MAX];
	uint32_t n_waiting;
	struct journal_counts counts;
};

/* ---- entries ---------------------------------------------------------------------------------- */

/* Fields that mean something to journald, to tools that read it, or to us. */
static const char *const reserved[] = {
	"MESSAGE",	 "MESSAGE_ID",	       "PRIORITY",	"ERRNO",
	"INVOCATION_ID", "USER_INVOCATION_ID", "DOCUMENTATION", "TID",
	"UNIT",		 "USER_UNIT",	       "TRACE_ID",	"SPAN_ID",
};
static const char *const reserved_prefixes[] = {
	"CODE_", "SYSLOG_", "OBJECT_", "COREDUMP_", "BLIXARD_", "ATTR_", "JOURNAL_",
};

static bool is_reserved(const char *field)
{
	/* '_' in front is journald's own; a field may not begin with a digit. */
	if (field[0] == '_' || (field[0] >= '0' && field[0] <= '9'))
		return true;
	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (!strcmp(field, reserved[i]))
			return true;
	for (size_t i = 0; i < sizeof(reserved_prefixes) / sizeof(reserved_prefixes[0]); i++)
		if (!strncmp(field, reserved_prefixes[i], strlen(reserved_prefixes[i])))
			return true;
	return false;
}

void journal_field(const char *key, size_t len, char ret_field[JOURNAL_FIELD_MAX + 1])
{
	static const char prefix[] = "ATTR_";
	const size_t prefix_len = sizeof(prefix) - 1;
	size_t n = len < JOURNAL_FIELD_MAX ? len : JOURNAL_FIELD_MAX;

	for (size_t i = 0; i < n; i++) {
		char c = key[i];

		if (c >= 'a' && c <= 'z')
			c = (char)(c - 'a' + 'A');
		if (!(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9'))
			c = '_';
		ret_field[i] = c;
	}
	ret_field[n] = '\0';
	if (!is_reserved(ret_field))
		return;
	n = n < JOURNAL_FIELD_MAX - prefix_len ? n : JOURNAL_FIELD_MAX - prefix_len;
	memmove(ret_field + prefix_len, ret_field, n);
	memcpy(ret_field, prefix, prefix_len);
	ret_field[prefix_len + n] = '\0';
}

/* The form with a length: any byte may stand in the value. */
static void put(struct buf *out, const char *field, const char *value, size_t len)
{
	uint8_t le[8];

	for (int i = 0; i < 8; i++)
		le[i] = (uint8_t)((uint64_t)len >> (8 * i));
	buf_adds(out, field);
	buf_add(out, "\n", 1);
	buf_add(out, (const char *)le, sizeof(le));
	buf_add(out, value, len);
	buf_add(out, "\n", 1);
}

static void put_text(struct buf *out, const char *field, const char *text)
{
	put(out, field, text, strlen(text));
}

static void put_hex(struct buf *out, const char *field, const uint8_t *bytes, size_t n)
{
	char hex[33];
	uint8_t any = 0;

	assert(n <= 16);
	for (size_t i = 0; i < n; i++) {
		snprintf(hex + 2 * i, 3, "%02x", (unsigned int)bytes[i]);
		any |= bytes[i];
	}
	if (any)
		put(out, field, hex, 2 * n);
}

static void add_value(struct buf *text, const struct batch_value *v)
{
	switch (v->type) {
	case BATCH_BOOL:
		buf_adds(text, v->boolean ? "true" : "false");
		break;
	case BATCH_I64:
		buf_addf(text, "%" PRId64, v->i64);
		break;
	case BATCH_F64:
		buf_addf(text, "%.17g", v->f64);
		break;
	case BATCH_STRING:
	case BATCH_BYTES:
		buf_add(text, v->text, v->n);
		break;
	case BATCH_ARRAY:
		for (uint32_t i = 0; i < v->n; i++) {
			buf_adds(text, i ? ", " : "");
			if (v->array[i].type != BATCH_ARRAY)
				add_value(text, &v->array[i]);
		}
		break;
	default:
		break;
	}
}

static void put_attr(struct buf *out, const struct batch_attr *attr)
{
	char field[JOURNAL_FIELD_MAX + 1];
	struct buf value;

	buf_init(&value, JOURNAL_ENTRY_BYTES_MAX);
	add_value(&value, &attr->value);
	journal_field(attr->key.at, attr->key.len, field);
	if (!value.failed)
		put(out, field, value.len ? (const char *)value.data : "", value.len);
	buf_done(&value);
}

/* syslog(3): 2 critical, 3 error, 4 warning, 6 informational, 7 debug. */
static const char *priority_of(uint8_t severity)
{
	if (severity >= 21)
		return "2";
	if (severity >= 17)
		return "3";
	if (severity >= 13)
		return "4";
	return severity >= 9 ? "6" : "7";
}

void journal_encode(const struct batch_log *log, const struct batch_resource *resource,
		    struct buf *out)
{
	char number[24];

	put(out, "MESSAGE", log->body.len ? log->body.at : "", log->body.len);
	put_text(out, "PRIORITY", priority_of(log->severity));
	put_text(out, "SYSLOG_IDENTIFIER", "blixard-node");
	put_hex(out, "TRACE_ID", log->trace_id, sizeof(log->trace_id));
	put_hex(out, "SPAN_ID", log->span_id, sizeof(log->span_id));
	snprintf(number, sizeof(number), "%" PRIu64, resource->node_id);
	put_text(out, "BLIXARD_NODE", number);
	put_text(out, "BLIXARD_INCARNATION", resource->incarnation);
	put_text(out, "BLIXARD_SEVERITY", batch_severity_text(log->severity));
	snprintf(number, sizeof(number), "%" PRIu64, log->unix_ns);
	put_text(out, "BLIXARD_TIME_UNIX_NS", number); /* journald notes only when it was told */
	if (log->event_name.len)
		put(out, "BLIXARD_EVENT", log->event_name.at, log->event_name.len);
	for (uint32_t i = 0; i < log->attrs.n; i++)
		put_attr(out, &log->attrs.at[i]);
}

/* ---- sending ---------------------------------------------------------------------------------- */

static uint64_t mono_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* An entry too large for a datagram travels as a sealed file in memory. */
static int send_large(struct journal *j, const struct buf *entry)
{
	int fd = memfd_create("blixard-log", MFD_CLOEXEC | MFD_ALLOW_SEALING), err = 0;
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr message = {
		.msg_name = &j->address,
		.msg_namelen = sizeof(j->address),
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	if (fd < 0)
		return -errno;
	if (write(fd, entry->data, entry->len) != (ssize_t)entry->len ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		err = -EIO;
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	if (!err && sendmsg(j->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* 0 sent; -EAGAIN later; others: never. */
static int send_entry(struct journal *j, const struct buf *entry)
{
	int err = 0;

	if (sendto(j->fd, entry->data, entry->len, MSG_DONTWAIT | MSG_NOSIGNAL,
		   (const struct sockaddr *)&j->address, sizeof(j->address)) < 0)
		err = -errno;
	if (err == -EMSGSIZE || err == -ENOBUFS)
		err = send_large(j, entry);
	switch (err) {
	case -ENOENT: /* journald is being started */
	case -ECONNREFUSED:
	case -ECONNRESET:
	case -ENOBUFS:
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
	case -EINTR:
		return -EAGAIN;
	default:
		return err;
	}
}

static void say_dropped(uint64_t n, const char *why)
{
	log_repeated(LOG_LEVEL_WARNING, "journal_dropped", "journal",
		     "%" PRIu64 " logs did not get into the journal: %s", n, why);
}

static void drop_rest(struct journal *j, struct waiting *w, const char *why)
{
	j->counts.dropped += w->batch->n - w->next;
	say_dropped(w->batch->n - w->next, why);
}

static void finish_first(struct journal *j)
{
	batch_release(j->queue[0].batch);
	j->n_waiting--;
	memmove(&j->queue[0], &j->queue[1], j->n_waiting * sizeof(j->queue[0]));
}

/* Send one log of the batch. 0 or -EAGAIN. */
static int send_next(struct journal *j, struct waiting *w)
{
	const struct batch_log *log = &w->batch->logs[w->next];
	struct buf entry;
	int err = -EFBIG;

	buf_init(&entry, JOURNAL_ENTRY_BYTES_MAX);
	journal_encode(log, w->batch->resource, &entry);
	if (!entry.failed)
		err = send_entry(j, &entry);
	buf_done(&entry);
	if (err == -EAGAIN)
		return err;
	w->next++;
	j->counts.sent += !err;
	j->counts.dropped += err != 0;
	if (err)
		say_dropped(1, strerror(-err));
	return 0;
}

static void arm(struct journal *j, uint32_t ms)
{
	const struct timeval after = {.tv_usec = (suseconds_t)ms * 1000};

	evtimer_add(j->again, &after);
}

static void pump(struct journal *j)
{
	for (int burst = 0; j->n_waiting > 0; burst++) {
		struct waiting *w = &j->queue[0];

		if (w->next == w->batch->n) {
			finish_first(j);
			continue;
		}
		if (burst >= JOURNAL_BURST) {
			arm(j, 0);
			return;
		}
		if (send_next(j, w) == 0)
			continue;
		if (mono_ns() - w->since_ns < JOURNAL_WAIT_MS * UINT64_C(1000000)) {
			arm(j, JOURNAL_RETRY_MS);
			return;
		}
		drop_rest(j, w, "it has taken none for ten seconds");
		finish_first(j);
	}
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	pump(arg);
}

void journal_take(struct journal *j, struct batch *b)
{
	struct waiting w = {.batch = b, .since_ns = mono_ns()};

	assert(b->sealed);
	if (b->signal != BATCH_LOGS)
		return;
	if (j->n_waiting == JOURNAL_QUEUE_MAX) {
		drop_rest(j, &w, "too many wait for it");
		return;
	}
	batch_hold(b);
	j->queue[j->n_waiting++] = w;
	if (j->n_waiting == 1)
		arm(j, 0);
}

void journal_counts(const struct journal *j, struct journal_counts *ret_counts)
{
	*ret_counts = j->counts;
	ret_counts->waiting = j->n_waiting;
}

int journal_new(struct event_base *base, const char *path, struct journal **ret_journal)
{
	struct journal *j;
	size_t len;
	int err;

	if (!path)
		path = JOURNAL_SOCKET;
	len = strlen(path);
	if (len >= sizeof(j->address.sun_path))
		return -ENAMETOOLONG;
	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	j->address.sun_family = AF_UNIX;
	memcpy(j->address.sun_path, path, len + 1);
	j->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	err = j->fd < 0 ? -errno : 0;
	j->again = evtimer_new(base, on_again, j);
	if (!err && !j->again)
		err = -ENOMEM;
	if (err) {
		journal_free(j);
		return err;
	}
	*ret_journal = j;
	return 0;
}

struct journal *journal_free(struct journal *j)
{
	if (!j)
		return NULL;
	for (uint32_t i = 0; i < j->n_waiting; i++)
		batch_abandon(j->queue[i].batch);
	if (j->again)
		event_free(j->again);
	if (j->fd >= 0)
		close(j->fd);
	free(j);
	return NULL;
}
