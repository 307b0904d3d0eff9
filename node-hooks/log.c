/* node-hooks/log.c - structured logs, straight into the ring.
 *
 * A call site that goes wild must not push out everybody else's records: each has a token bucket,
 * kept as the one time at which its records so far would have been due at the allowed rate.
 *
 * Thread rule: any thread. */
#include "items.h"

enum {
	/* With its head and body a record fits an eighth of the smallest ring. */
	ITEMS_BYTES =
		BLIX_RING_BYTES_MIN / 8 - sizeof(struct blix_record) - sizeof(struct blix_log_body),
	BODY_MAX = 1024,
	SITE_TRIES = 4,
};

uint32_t blix_log_min_ = BLIX_TRACE;

struct record {
	struct blix_log_body body;
	uint64_t items[ITEMS_BYTES / 8];
};

/* May this site write at `now_ns`? If another thread is quicker time and again, it may. */
static bool is_due(struct blix_log_site *site, uint64_t now_ns)
{
	uint64_t interval_ns = blix_setting(log_interval_ns);
	uint64_t burst_ns = blix_setting(log_burst_ns);
	uint64_t due_ns = blix_load_relaxed(&site->due_ns);

	if (interval_ns == 0)
		return true;
	for (int i = 0; i < SITE_TRIES; i++) {
		uint64_t next_ns = (due_ns > now_ns ? due_ns : now_ns) + interval_ns;

		if (next_ns - now_ns > burst_ns)
			return false;
		if (blix_cas_acq_rel(&site->due_ns, &due_ns, next_ns))
			return true;
	}
	return true;
}

static void add_suppressed(struct blix_run *run, struct blix_log_site *site)
{
	struct blix_attr attr;
	uint32_t n;

	if (!site || blix_load_relaxed(&site->suppressed) == 0)
		return;
	n = blix_exchange_acq_rel(&site->suppressed, 0);
	attr = blix_attr_i64(blix_own_keys_.suppressed, n);
	if (n > 0)
		(void)blix_run_attr(run, &attr, UINT32_MAX);
}

static void add_body(struct blix_run *run, const char *text)
{
	struct blix_run room = *run;
	size_t len = strnlen(text, BODY_MAX + 1);

	if (room.size > run->used + sizeof(struct blix_item) + BODY_MAX)
		room.size = run->used + sizeof(struct blix_item) + BODY_MAX;
	if (blix_run_text(&room, BLIX_NO_KEY, BLIX_ITEM_BODY, text, len, UINT32_MAX))
		run->used = room.used;
}

static void set_ids(struct blix_log_body *body, const blix_span *span)
{
	memcpy(body->trace_id, span->trace_id, sizeof(body->trace_id));
	memcpy(body->span_id, span->span_id, sizeof(body->span_id));
	body->trace_flags = span->trace_flags;
}

static void write(struct blix_thread *thread, struct blix_session *session,
		  struct blix_log_site *site, uint64_t now_ns, const struct blix_log_body *head,
		  const char *text, const struct blix_attr *attrs, size_t n)
{
	struct record record;
	struct blix_run run = {.words = record.items, .size = ITEMS_BYTES};

	record.body = *head;
	add_suppressed(&run, site);
	add_body(&run, text ? text : "");
	record.body.dropped_attrs = (uint16_t)blix_run_attrs(
		&run, attrs, n, blix_setting(log_attrs_max), blix_setting(log_value_chars));
	struct blix_ring_entry entry = {
		.type = BLIX_REC_LOG,
		.flags = (uint16_t)((head->severity >= BLIX_ERROR ? BLIX_REC_PRIORITY : 0) |
				    (record.body.dropped_attrs ? BLIX_REC_TRUNCATED : 0)),
		.n_words = (uint32_t)(sizeof(record.body) + run.used) / 8,
		.t_ns = now_ns,
		.body = (const uint64_t *)(const void *)&record,
	};

	if (!blix_thread_enter(thread)) {
		blix_count_drop_anywhere(session, BLIX_DROP_LOG, BLIX_DROP_REENTRANT);
		return;
	}
	(void)blix_thread_write(thread, session, &entry);
	blix_thread_leave(thread);
}

void blix_log_write(struct blix_log_site *site, int severity, blix_key event, const char *body,
		    const struct blix_attr *attrs, size_t n)
{
	struct blix_thread *thread = &blix_thread_;
	struct blix_session *session;
	struct blix_log_body head = {.event_id = event.id - 1}; /* none is BLIX_NO_ID */
	uint64_t now_ns;

	if (!blix_log_is_on(severity))
		return;
	session = blix_thread_session(thread);
	if (!session)
		return;
	now_ns = blix_clock_now();
	if (site && !is_due(site, now_ns)) {
		blix_add_shared(&site->suppressed, 1);
		blix_count_drop_anywhere(session, BLIX_DROP_LOG, BLIX_DROP_RATE_LIMITED);
		return;
	}
	head.severity = (uint8_t)(severity < 1 ? 1 : severity > 24 ? 24 : severity);
	set_ids(&head, &thread->current);
	write(thread, session, site, now_ns, &head, body, attrs, n);
}
