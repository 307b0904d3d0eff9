/* node-hooks/exemplar.c - the span that a value was recorded in, beside the value.
 *
 * At most about once a second a slot; whether a second has passed is asked of the last tick's time,
 * so that a hot series costs one load.
 *
 * Thread rule: any thread. */
#include "trace.h"

#include "shm/exemplar.h"

/* The coarse time lags up to a tick behind the slot's exact one: then it is young, too. Further in
 * the future it is none of ours, and must not block the slot for ever. */
static bool is_due(const struct blix_exemplar *slot)
{
	uint64_t t_ns = blix_load_relaxed(&slot->t_ns);
	int64_t age_ns = (int64_t)(blix_load_relaxed(&blix_coarse_ns_) - t_ns);

	return t_ns == 0 || age_ns > (int64_t)BLIX_EXEMPLAR_MIN_AGE_NS ||
	       age_ns < -4 * (int64_t)BLIX_EXEMPLAR_MIN_AGE_NS;
}

void blix_exemplar_leave(uint32_t index, uint32_t bucket, uint64_t value)
{
	struct blix_thread *thread = &blix_thread_;
	struct blix_session *session = blix_thread_session(thread);
	struct blix_exemplar exemplar = {.bucket = bucket, .value = value};
	struct blix_exemplar *slot;

	if (!session || index >= session->view.n_exemplars)
		return;
	slot = blix_view_exemplar(&session->view, index);
	if (!is_due(slot))
		return;
	exemplar.t_ns = blix_clock_now();
	memcpy(exemplar.trace_id, thread->current.trace_id, sizeof(exemplar.trace_id));
	memcpy(exemplar.span_id, thread->current.span_id, sizeof(exemplar.span_id));
	(void)blix_exemplar_write(slot,
				  &exemplar); /* if another thread is at it: its one will do */
}
