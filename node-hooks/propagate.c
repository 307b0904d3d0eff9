/* node-hooks/propagate.c - context from and into the headers of requests.
 *
 * Thread rule: any thread; the caller's callbacks run in it. */
#include "trace.h"
#include "w3c.h"

enum { HEADER_MAX = 16 << 10 }; /* longer ones are taken for an attack and left alone */

static const char *header(blix_getter get, void *arg, const char *name, size_t *ret_len)
{
	const char *text = get(arg, name);

	*ret_len = text ? strnlen(text, HEADER_MAX + 1) : 0;
	return *ret_len > 0 && *ret_len <= HEADER_MAX ? text : NULL;
}

static void extract_trace(struct blix_context *context, blix_getter get, void *arg)
{
	size_t len;
	const char *text = header(get, arg, "traceparent", &len);

	if (!text || !blix_w3c_traceparent(text, len, context))
		return;
	text = header(get, arg, "tracestate", &len);
	if (text)
		context->tracestate_len =
			(uint16_t)blix_w3c_tracestate(text, len, context->tracestate);
}

struct blix_context blix_extract(blix_getter get, void *arg)
{
	struct blix_context context;
	uint32_t propagators = blix_setting(propagators);
	const char *text;
	size_t len;

	memset(&context, 0, offsetof(struct blix_context, tracestate));
	if (propagators & BLIX_PROPAGATE_TRACE)
		extract_trace(&context, get, arg);
	text = propagators & BLIX_PROPAGATE_BAGGAGE ? header(get, arg, "baggage", &len) : NULL;
	if (text)
		context.baggage_len = (uint16_t)blix_w3c_baggage(text, len, context.baggage);
	return context;
}

static bool has_ids(const struct blix_context *context)
{
	static const struct blix_context none;

	return memcmp(context->trace_id, none.trace_id, sizeof(none.trace_id)) != 0 &&
	       memcmp(context->span_id, none.span_id, sizeof(none.span_id)) != 0;
}

static void set_text(blix_setter set, void *arg, const char *name, const char *from, uint32_t len,
		     char *buf)
{
	if (len == 0)
		return;
	memcpy(buf, from, len);
	buf[len] = '\0';
	set(arg, name, buf);
}

void blix_inject_context(const struct blix_context *context, blix_setter set, void *arg)
{
	uint32_t propagators = blix_setting(propagators);
	char parent[BLIX_TRACEPARENT_LEN + 1];
	char state[BLIX_TRACESTATE_BYTES + 1];
	char baggage[BLIX_BAGGAGE_BYTES + 1];

	if ((propagators & BLIX_PROPAGATE_TRACE) && has_ids(context)) {
		blix_w3c_format_traceparent(context->trace_id, context->span_id,
					    context->trace_flags, parent);
		set(arg, "traceparent", parent);
		if (context->tracestate_len <= BLIX_TRACESTATE_BYTES)
			set_text(set, arg, "tracestate", context->tracestate,
				 context->tracestate_len, state);
	}
	if ((propagators & BLIX_PROPAGATE_BAGGAGE) && context->baggage_len <= BLIX_BAGGAGE_BYTES)
		set_text(set, arg, "baggage", context->baggage, context->baggage_len, baggage);
}

void blix_inject_span(blix_span span, blix_setter set, void *arg)
{
	struct blix_context context = blix_context_of(span);

	blix_inject_context(&context, set, arg);
}

void blix_inject(blix_setter set, void *arg)
{
	blix_inject_span(blix_thread_.current, set, arg);
}
