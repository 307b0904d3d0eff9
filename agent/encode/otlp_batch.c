/* agent/encode/otlp_batch.c - spans and logs of a batch as an OTLP request.
 *
 * Backwards: see otlp_wire.h. Pure; includes agent/model/, agent/buf.h. */
#include "agent/encode/otlp_private.h"

enum {
	SPAN_TRACE_ID = 1,
	SPAN_SPAN_ID = 2,
	SPAN_TRACE_STATE = 3,
	SPAN_PARENT_ID = 4,
	SPAN_NAME = 5,
	SPAN_KIND = 6,
	SPAN_START = 7,
	SPAN_END = 8,
	SPAN_ATTRIBUTE = 9,
	SPAN_DROPPED_ATTRIBUTES = 10,
	SPAN_EVENT = 11,
	SPAN_DROPPED_EVENTS = 12,
	SPAN_LINK = 13,
	SPAN_DROPPED_LINKS = 14,
	SPAN_STATUS = 15,
	SPAN_FLAGS = 16,
	EVENT_TIME = 1,
	EVENT_NAME = 2,
	EVENT_ATTRIBUTE = 3,
	EVENT_DROPPED = 4,
	LINK_TRACE_ID = 1,
	LINK_SPAN_ID = 2,
	LINK_TRACE_STATE = 3,
	LINK_ATTRIBUTE = 4,
	LINK_DROPPED = 5,
	LINK_FLAGS = 6,
	STATUS_MESSAGE = 2,
	STATUS_CODE = 3,
	STATUS_ERROR = 2, /* the code's value */
	LOG_TIME = 1,
	LOG_SEVERITY = 2,
	LOG_SEVERITY_TEXT = 3,
	LOG_BODY = 5,
	LOG_ATTRIBUTE = 6,
	LOG_DROPPED = 7,
	LOG_FLAGS = 8,
	LOG_TRACE_ID = 9,
	LOG_SPAN_ID = 10,
	LOG_OBSERVED = 11,
	LOG_EVENT_NAME = 12,
	ANY_STRING = 1,
};

/* An id of zeros is no id, and an empty field says so. */
static void put_id(struct wire *w, uint32_t field, const uint8_t *id, uint32_t len)
{
	static const uint8_t none[16];

	if (memcmp(id, none, len) != 0)
		wire_put_bytes(w, field, id, len);
}

static void put_text(struct wire *w, uint32_t field, struct batch_text text)
{
	wire_opt_bytes(w, field, text.at, text.len);
}

static void put_status(struct wire *w, const struct batch_span *s)
{
	size_t message = wire_open(w);

	if (!s->status)
		return;
	wire_put_varint(w, STATUS_CODE, s->status);
	if (s->status == STATUS_ERROR)
		put_text(w, STATUS_MESSAGE, s->status_message);
	wire_close(w, SPAN_STATUS, message);
}

static void put_link(struct wire *w, const struct batch_link *l)
{
	size_t message = wire_open(w);

	wire_opt_32(w, LINK_FLAGS, l->flags);
	wire_opt_varint(w, LINK_DROPPED, l->attrs.dropped);
	otlp_put_attrs(w, LINK_ATTRIBUTE, &l->attrs);
	put_text(w, LINK_TRACE_STATE, l->trace_state);
	put_id(w, LINK_SPAN_ID, l->span_id, sizeof(l->span_id));
	put_id(w, LINK_TRACE_ID, l->trace_id, sizeof(l->trace_id));
	wire_close(w, SPAN_LINK, message);
}

static void put_event(struct wire *w, const struct batch_event *e)
{
	size_t message = wire_open(w);

	wire_opt_varint(w, EVENT_DROPPED, e->attrs.dropped);
	otlp_put_attrs(w, EVENT_ATTRIBUTE, &e->attrs);
	put_text(w, EVENT_NAME, e->name);
	wire_opt_64(w, EVENT_TIME, e->unix_ns);
	wire_close(w, SPAN_EVENT, message);
}

static void put_span(struct wire *w, const struct batch_span *s)
{
	size_t message = wire_open(w);

	wire_opt_32(w, SPAN_FLAGS, s->flags);
	put_status(w, s);
	wire_opt_varint(w, SPAN_DROPPED_LINKS, s->dropped_links);
	for (uint32_t i = s->n_links; i-- > 0;)
		put_link(w, &s->links[i]);
	wire_opt_varint(w, SPAN_DROPPED_EVENTS, s->dropped_events);
	for (uint32_t i = s->n_events; i-- > 0;)
		put_event(w, &s->events[i]);
	wire_opt_varint(w, SPAN_DROPPED_ATTRIBUTES, s->attrs.dropped);
	otlp_put_attrs(w, SPAN_ATTRIBUTE, &s->attrs);
	wire_opt_64(w, SPAN_END, s->end_unix_ns);
	wire_opt_64(w, SPAN_START, s->start_unix_ns);
	wire_opt_varint(w, SPAN_KIND, s->kind);
	put_text(w, SPAN_NAME, s->name);
	put_id(w, SPAN_PARENT_ID, s->parent_id, sizeof(s->parent_id));
	put_text(w, SPAN_TRACE_STATE, s->trace_state);
	put_id(w, SPAN_SPAN_ID, s->span_id, sizeof(s->span_id));
	put_id(w, SPAN_TRACE_ID, s->trace_id, sizeof(s->trace_id));
	wire_close(w, SCOPE_ITEM, message);
}

static void put_log(struct wire *w, const struct batch_log *l)
{
	size_t message = wire_open(w), body;
	const char *severity = batch_severity_text(l->severity);

	put_text(w, LOG_EVENT_NAME, l->event_name);
	wire_opt_64(w, LOG_OBSERVED, l->observed_unix_ns);
	put_id(w, LOG_SPAN_ID, l->span_id, sizeof(l->span_id));
	put_id(w, LOG_TRACE_ID, l->trace_id, sizeof(l->trace_id));
	wire_opt_32(w, LOG_FLAGS, l->flags & BATCH_FLAGS_W3C);
	wire_opt_varint(w, LOG_DROPPED, l->attrs.dropped);
	otlp_put_attrs(w, LOG_ATTRIBUTE, &l->attrs);
	body = wire_open(w);
	wire_put_bytes(w, ANY_STRING, l->body.at, l->body.len);
	wire_close(w, LOG_BODY, body);
	wire_opt_bytes(w, LOG_SEVERITY_TEXT, severity, strlen(severity));
	wire_opt_varint(w, LOG_SEVERITY, severity[0] ? l->severity : 0);
	wire_opt_64(w, LOG_TIME, l->unix_ns);
	wire_close(w, SCOPE_ITEM, message);
}

static void encode(const struct batch *b, uint32_t first, uint32_t n, struct buf *out)
{
	struct wire w = {.out = out};
	struct otlp_frame frame = otlp_frame_open(&w);

	for (uint32_t i = first + n; i-- > first;) {
		if (b->signal == BATCH_TRACES)
			put_span(&w, &b->spans[i]);
		else
			put_log(&w, &b->logs[i]);
	}
	otlp_frame_close(&w, &frame, b->resource);
	wire_end(&w);
}

void otlp_encode_batch(const struct batch *b, uint32_t first, uint32_t n, bool json,
		       struct buf *out)
{
	struct buf body;

	if (first >= b->n)
		return;
	if (n > b->n - first)
		n = b->n - first;
	if (!n)
		return;
	if (!json) {
		encode(b, first, n, out);
		return;
	}
	buf_init(&body, out->max);
	encode(b, first, n, &body);
	otlp_json(b->signal == BATCH_TRACES ? OTLP_TRACES : OTLP_LOGS, &body, out);
	buf_done(&body);
}
