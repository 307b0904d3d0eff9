/* node-hooks/current.c - the span that a thread works for.
 *
 * It is kept in two places: in the thread's private memory, and, for the storage probe, in the
 * record of its lane (layout of OTEP 4947). The probe reads that record in the thread's own
 * context, so the order of the stores as compiled is all that matters: invalid first, valid last.
 *
 * Thread rule: everything is about the calling thread. */
#include "trace.h"

static bool is_set(const blix_span *span)
{
	uint64_t id;

	memcpy(&id, span->span_id, sizeof(id));
	return id != 0;
}

static void show(struct blix_thread_context *record, const blix_span *span)
{
	typedef uint64_t __attribute__((may_alias)) word;
	uint64_t ids[3];

	blix_store_relaxed(&record->valid, 0);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (!is_set(span))
		return;
	memcpy(ids, span->trace_id, sizeof(ids)); /* the span id follows it, here as there */
	for (int i = 0; i < 3; i++)
		blix_store_relaxed((word *)(void *)record->trace_id + i, ids[i]);
	blix_store_relaxed(&record->trace_flags, span->trace_flags);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	blix_store_relaxed(&record->valid, 1);
}
_Static_assert(offsetof(struct blix_thread_context, span_id) == 16 &&
		       offsetof(blix_span, span_id) == 16,
	       "copied in one piece");

void blix_current_publish(struct blix_thread *thread)
{
	struct blix_session *session = thread->session;

	blix_self_.traced = thread->current.place != 0 && blix_setting(exemplars);
	if (session && blix_thread_owns_lane(thread, session) && !thread->forking)
		show(&blix_view_lane(&session->view, thread->lane)->context, &thread->current);
}

blix_token blix_attach(blix_span span)
{
	struct blix_thread *thread = &blix_thread_;
	blix_token token = {.previous = thread->current};

	if (!blix_thread_session(thread) && thread->tid == 0)
		blix_thread_tid(thread);
	token.tid = thread->tid;
	thread->current = span;
	blix_current_publish(thread);
	return token;
}

void blix_detach(blix_token token)
{
	struct blix_thread *thread = &blix_thread_;
	const struct blix_session *session;

	if (token.tid == 0)
		return;
	if (token.tid != thread->tid) {
		session = blix_thread_session(thread);
		if (session)
			blix_count_stat(session, BLIX_STAT_DETACH_FOREIGN);
		return;
	}
	thread->current = token.previous;
	(void)blix_thread_session(thread);
	blix_current_publish(thread);
}

blix_span blix_current_span(void)
{
	return blix_thread_.current;
}

struct blix_context blix_context_of(blix_span span)
{
	struct blix_context context;
	uint64_t id;

	memcpy(context.trace_id, span.trace_id, sizeof(context.trace_id));
	memcpy(context.span_id, span.span_id, sizeof(context.span_id));
	context.trace_flags = span.trace_flags;
	context.remote = 0;
	context.reserved = 0;
	memcpy(&id, span.span_id, sizeof(id));
	(void)blix_carried_get(span.carried, id, &context);
	return context;
}

struct blix_context blix_current(void)
{
	return blix_context_of(blix_thread_.current);
}
