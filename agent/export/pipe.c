/* agent/export/pipe.c - see pipe.h. */
#include "agent/export/pipe.h"

#include "agent/export/backoff.h"
#include "agent/log.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)

/* What one request carries. It is in the queue, or in flight, or being stored, or the latter two at once. */
struct parcel {
	struct parcel *next; /* in the queue */
	struct pipe *pipe;
	struct batch *batch; /* held; NULL: a finished body */
	uint32_t first, n;   /* items of the batch */
	uint32_t items;
	bool priority;
	struct pipe_body body; /* bytes: the request, once it is encoded */
	uint64_t queued_ns;
	uint32_t attempts;
	int64_t row; /* of the spool, which has custody; 0: none */
	bool in_flight;
	bool storing;
	bool over;    /* answered for while it was being stored: the row is not needed */
	bool backlog; /* came out of the spool */
};

struct pipe {
	struct pipe_options o;
	struct event *tick;
	struct parcel *head, **tail; /* the queue, oldest first */
	uint64_t queued_items;
	uint32_t bodies;   /* finished ones in the queue */
	uint32_t fresh;	   /* parcels in flight that did not come out of the spool */
	uint32_t storing;  /* parcels */
	bool backlog_busy; /* a row is being read or in flight */
	bool stopping;
	bool closing;		/* transport and spool are going */
	uint64_t stop_ns;	/* when what has no answer is stored */
	uint64_t waiting_items; /* in memory and in nobody else's custody */

	uint32_t failures;	 /* in a row */
	uint64_t retry_ns;	 /* nothing is sent before */
	uint64_t spool_retry_ns; /* nothing is stored before */
	struct outage outage;
	struct parcel *flying[PIPE_FRESH_MAX];
	struct figures_pipe figures;
};

static void pump(struct pipe *p);

/* ---- parcels --------------------------------------------------------------------------------- */

static struct parcel *parcel_new(struct pipe *p, uint32_t items)
{
	struct parcel *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->pipe = p;
	c->items = items;
	c->queued_ns = p->o.mono_ns();
	return c;
}

static void drop_body(struct parcel *c)
{
	free(c->body.bytes);
	c->body.bytes = NULL;
	if (c->body.forgotten)
		c->body.forgotten(c->body.arg);
	c->body.forgotten = NULL;
	c->body.settled = NULL;
}

/* Nobody needs it any more: neither the transport nor the spool has it in hand. */
static void parcel_free(struct parcel *c)
{
	assert(!c->in_flight && !c->storing);
	drop_body(c);
	free(c);
}

/* Custody of this parcel's items ends here, or was handed on. */
static void let_go(struct parcel *c)
{
	if (c->row == 0 && !c->backlog && (c->batch || c->body.bytes))
		c->pipe->waiting_items -= c->items;
	if (c->batch)
		batch_release(c->batch);
	c->batch = NULL;
	if (c->body.settled)
		c->body.settled(c->body.arg);
	c->body.settled = NULL;
}

static void queue_push(struct pipe *p, struct parcel *c, bool front)
{
	if (front) {
		c->next = p->head;
		p->head = c;
		if (!c->next)
			p->tail = &c->next;
	} else {
		c->next = NULL;
		*p->tail = c;
		p->tail = &c->next;
	}
	p->queued_items += c->items;
	p->bodies += !c->batch;
}

/* Unlink *at. */
static struct parcel *queue_take(struct pipe *p, struct parcel **at)
{
	struct parcel *c = *at;

	*at = c->next;
	if (p->tail == &c->next)
		p->tail = at;
	c->next = NULL;
	p->queued_items -= c->items;
	p->bodies -= !c->batch;
	return c;
}

/* Items that nobody will get. */
static void give_up(struct parcel *c, enum figures_drop reason)
{
	c->pipe->figures.dropped[reason] += c->items;
	let_go(c);
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* The request as bytes, made when it is needed first. 0; -ENOMEM; -EFBIG: the items are too many for one
 * request. */
static int make_body(struct parcel *c)
{
	const struct pipe *p = c->pipe;
	struct buf out;

	if (c->body.bytes)
		return 0;
	/* Four times the limit: whether one item alone is larger is the destination's word. */
	buf_init(&out, c->n > 1 ? PIPE_REQUEST_BYTES_MAX : 4 * PIPE_REQUEST_BYTES_MAX);
	p->o.encode(c->batch, c->first, c->n, p->o.json, &out);
	if (out.failed) {
		buf_done(&out);
		return c->n > 1 ? -EFBIG : -ENOMEM;
	}
	c->body.bytes = out.data; /* buf's memory is malloc's; the parcel frees it */
	c->body.len = out.len;
	return 0;
}

/* Two halves in its place, at the front of the queue. 0; -EINVAL: it cannot be split; -ENOMEM. */
static int split(struct pipe *p, struct parcel *c)
{
	struct parcel *second;

	if (!c->batch || c->n < 2)
		return -EINVAL;
	second = parcel_new(p, c->n - c->n / 2);
	if (!second)
		return -ENOMEM;
	second->batch = batch_hold(c->batch);
	second->first = c->first + c->n / 2;
	second->n = second->items;
	second->priority = c->priority;
	second->queued_ns = c->queued_ns;
	c->n = c->items = c->n / 2;
	drop_body(c);
	queue_push(p, second, true);
	queue_push(p, c, true);
	return 0;
}

/* ---- the spool ------------------------------------------------------------------------------- */

static bool may_store(const struct parcel *c)
{
	return c->pipe->o.spool && !c->body.cumulative && !c->storing && c->row == 0;
}

static void stored(void *arg, int error, int64_t id)
{
	struct parcel *c = arg;
	struct pipe *p = c->pipe;

	c->storing = false;
	p->storing--;
	if (error) {
		p->spool_retry_ns = p->o.mono_ns() + BACKOFF_FIRST_MS * NS_PER_MS;
		if (c->over)
			parcel_free(c);
		else if (!c->in_flight)
			queue_push(p, c, true);
		pump(p);
		return;
	}
	if (c->over) { /* answered for meanwhile: the row would be sent a second time */
		if (id)
			(void)spool_finish(p->o.spool, id, true);
		parcel_free(c);
		pump(p);
		return;
	}
	let_go(c); /* before `row` is set: until now its items counted as waiting */
	c->row = id;
	if (!c->in_flight) {
		if (id)
			(void)spool_finish(p->o.spool, id, false);
		parcel_free(c);
	} else if (!id) {
		c->backlog =
			true; /* another row has it; this one's answer changes nothing but counts */
	}
	pump(p);
}

static uint32_t origins_of(const struct batch *b, struct spool_origin **ret_origins)
{
	struct spool_origin *list = b && b->n_origins ? calloc(b->n_origins, sizeof(*list)) : NULL;

	*ret_origins = list;
	if (!list)
		return 0;
	for (uint32_t i = 0; i < b->n_origins; i++) {
		memcpy(list[i].incarnation, b->resource->incarnation, sizeof(list[i].incarnation));
		list[i].lane = b->origins[i].lane;
		list[i].first_seq = b->origins[i].first_seq;
		list[i].last_seq = b->origins[i].last_seq;
	}
	return b->n_origins;
}

/* Hand a copy to the spool. A part of a batch has no origins of its own: they name the whole. 0; -EFBIG: split
 * it first; -ENOBUFS, -ENOMEM: later. */
static int store(struct parcel *c)
{
	struct pipe *p = c->pipe;
	struct spool_row row = {.items = c->items, .priority = c->priority, .taken = c->in_flight};
	struct spool_origin *origins = NULL;
	uint32_t n = 0;
	int r = make_body(c);

	if (r < 0)
		return r;
	row.body = c->body.bytes;
	row.len = c->body.len;
	row.created_unix_ns = p->o.unix_ns();
	if (c->batch && c->n == c->batch->n)
		n = origins_of(c->batch, &origins);
	r = spool_put(p->o.spool, p->o.destination, p->o.signal, &row, origins, n, stored, c);
	free(origins);
	if (r < 0)
		return r;
	c->storing = true;
	p->storing++;
	return 0;
}

/* Should this one be on disk by now? */
static bool is_late(const struct pipe *p, const struct parcel *c, uint64_t now_ns)
{
	if (p->stopping && now_ns >= p->stop_ns)
		return true;
	return now_ns - c->queued_ns >= PIPE_SPOOL_AFTER_MS * NS_PER_MS;
}

static void store_queue(struct pipe *p, uint64_t now_ns)
{
	struct parcel **at = &p->head;

	while (*at) {
		struct parcel *c = *at;
		bool crowded = p->queued_items > p->o.queue_items_max;
		int r;

		if (!may_store(c) || (!crowded && !is_late(p, c, now_ns))) {
			at = &c->next;
			continue;
		}
		c = queue_take(p, at);
		r = store(c);
		if (r == 0)
			continue;
		if (r == -EFBIG && split(p, c) == 0) {
			at = &p->head; /* the halves are at the front */
			continue;
		}
		queue_push(p, c, true);
		p->spool_retry_ns = now_ns + PIPE_TICK_MS * NS_PER_MS;
		return;
	}
}

/* What was sent to somebody who does not answer: its custody must not wait for him. */
static void store_flying(struct pipe *p, uint64_t now_ns)
{
	for (uint32_t i = 0; i < PIPE_FRESH_MAX; i++) {
		struct parcel *c = p->flying[i];

		if (c && may_store(c) && is_late(p, c, now_ns) && store(c) < 0) {
			p->spool_retry_ns = now_ns + PIPE_TICK_MS * NS_PER_MS;
			return;
		}
	}
}

/* ---- answers --------------------------------------------------------------------------------- */

static void say_failing(struct pipe *p, const struct verdict *v)
{
	uint64_t now_ns = p->o.mono_ns();

	p->figures.failing = true;
	snprintf(p->figures.problem, sizeof(p->figures.problem), "%.40s%s%.200s",
		 verdict_name(v->kind), v->message[0] ? ": " : "", v->message);
	if (outage_fails(&p->outage, now_ns))
		log_line(LOG_LEVEL_WARNING, "export_failing",
			 "%s %s: %s; %llu items wait in memory, the rest in the spool",
			 p->o.destination, p->o.signal, p->figures.problem,
			 (unsigned long long)p->waiting_items);
}

static void say_works(struct pipe *p)
{
	uint64_t lasted_s;

	p->figures.failing = false;
	p->figures.problem[0] = '\0';
	if (outage_ends(&p->outage, p->o.mono_ns(), &lasted_s))
		log_line(LOG_LEVEL_INFO, "export_recovered", "%s %s: works again after %llu s",
			 p->o.destination, p->o.signal, (unsigned long long)lasted_s);
}

static void note_refusal(struct pipe *p, const struct parcel *c, const struct verdict *v)
{
	char key[64];

	snprintf(key, sizeof(key), "%s %s", p->o.destination, p->o.signal);
	log_repeated(LOG_LEVEL_WARNING, "export_refused", key,
		     "%s: %u items were refused for good (%d): %s", key, c->items, v->code,
		     v->message);
}

static void accepted(struct pipe *p, struct parcel *c, const struct verdict *v)
{
	uint64_t rejected = v->rejected < c->items ? v->rejected : c->items;
	char key[64];

	p->figures.sent += c->items - rejected;
	p->figures.rejected += rejected;
	p->figures.last_success_unix_ns = p->o.unix_ns();
	p->failures = 0;
	p->retry_ns = 0;
	say_works(p);
	if (!rejected && !v->message[0])
		return;
	snprintf(key, sizeof(key), "%s %s", p->o.destination, p->o.signal);
	if (rejected)
		log_repeated(LOG_LEVEL_WARNING, "export_rejected", key,
			     "%s: %llu of %u items rejected: %s", key, (unsigned long long)rejected,
			     c->items, v->message);
	else
		log_repeated(LOG_LEVEL_WARNING, "export_warned", key,
			     "%s: the destination took all of %u items, and says: %s", key,
			     c->items, v->message);
}

static enum figures_failure failure_of(enum verdict_kind kind)
{
	switch (kind) {
	case VERDICT_THROTTLE:
		return FIGURES_FAILURE_THROTTLED;
	case VERDICT_LOST:
		return FIGURES_FAILURE_LOST_VERDICT;
	case VERDICT_CONFIG:
		return FIGURES_FAILURE_CONFIG;
	case VERDICT_REFUSED:
		return FIGURES_FAILURE_REFUSED;
	case VERDICT_TOO_LARGE:
		return FIGURES_FAILURE_TOO_LARGE;
	default:
		return FIGURES_FAILURE_UNAVAILABLE;
	}
}

/* Not now. The whole pipe waits: what one request met, the next would meet as well. */
static void hold_back(struct pipe *p, const struct verdict *v)
{
	uint32_t asked_ms = v->kind == VERDICT_CONFIG ? BACKOFF_MAX_MS / 2 : v->delay_ms;
	uint64_t wait_ns;

	p->failures++;
	wait_ns = backoff_ms(p->failures, asked_ms, p->o.chance()) * NS_PER_MS;
	p->retry_ns = p->o.mono_ns() + wait_ns;
	p->figures.lost_verdicts += v->kind == VERDICT_LOST;
	if (v->kind == VERDICT_THROTTLE)
		p->figures.throttled_ns += wait_ns;
	say_failing(p, v);
}

/* It was not delivered and shall be tried again: back into the queue, or left to its row. */
static void keep(struct pipe *p, struct parcel *c)
{
	if (c->storing)
		return; /* stored() goes on */
	if (c->row || c->backlog) {
		if (c->row)
			(void)spool_finish(p->o.spool, c->row, false);
		parcel_free(c);
		return;
	}
	queue_push(p, c, true);
}

/* It is answered for, whatever the answer was. */
static void finish(struct pipe *p, struct parcel *c)
{
	let_go(c);
	if (c->storing) {
		c->over = true;
		return;
	}
	if (c->row)
		(void)spool_finish(p->o.spool, c->row, true);
	parcel_free(c);
}

static void refused(struct pipe *p, struct parcel *c, enum figures_drop reason)
{
	p->figures.dropped[reason] += c->items;
	finish(p, c);
}

static void land(struct pipe *p, struct parcel *c)
{
	c->in_flight = false;
	if (c->backlog && c->row) {
		p->backlog_busy = false;
		return;
	}
	for (uint32_t i = 0; i < PIPE_FRESH_MAX; i++)
		if (p->flying[i] == c)
			p->flying[i] = NULL;
	p->fresh--;
}

static void answered(void *arg, const struct verdict *v)
{
	struct parcel *c = arg;
	struct pipe *p = c->pipe;

	land(p, c);
	if (v->kind == VERDICT_CANCELLED) { /* the transport is being freed: so is the pipe */
		keep(p, c);
		return;
	}
	p->figures.requests++;
	if (v->kind != VERDICT_ACCEPTED)
		p->figures.failures[failure_of(v->kind)]++;
	switch (v->kind) {
	case VERDICT_ACCEPTED:
		accepted(p, c, v);
		finish(p, c);
		break;
	case VERDICT_REFUSED:
		note_refusal(p, c, v);
		refused(p, c, FIGURES_DROP_REFUSED);
		break;
	case VERDICT_TOO_LARGE:
		if (c->storing || c->row || split(p, c) < 0) {
			note_refusal(p, c, v);
			refused(p, c, FIGURES_DROP_TOO_LARGE);
		}
		break;
	default:
		hold_back(p, v);
		keep(p, c);
		break;
	}
	pump(p);
}

/* ---- sending --------------------------------------------------------------------------------- */

/* 0: it flies. -EBUSY and the like: it does not. */
static int launch(struct pipe *p, struct parcel *c)
{
	const struct transport_request request = {
		.body = c->body.bytes, .len = c->body.len, .timeout_ms = p->o.timeout_ms};
	int r = p->o.send(p->o.transport, &request, answered, c);

	if (r < 0)
		return r;
	c->in_flight = true;
	p->figures.retries += c->attempts > 0;
	c->attempts++;
	return 0;
}

/* A place for one more in flight; PIPE_FRESH_MAX: none. */
static uint32_t free_place(const struct pipe *p)
{
	uint32_t place = 0;

	while (place < PIPE_FRESH_MAX && p->flying[place])
		place++;
	return place;
}

/* Send the oldest of the queue. False: there is none, or it must wait. */
static bool send_fresh(struct pipe *p)
{
	uint32_t limit = p->failures ? 1 : PIPE_FRESH_MAX; /* one asks whether it works again */
	uint32_t place = free_place(p);
	struct parcel *c;
	int r;

	if (!p->head || p->fresh >= limit || place == PIPE_FRESH_MAX ||
	    (p->failures && p->backlog_busy))
		return false;
	c = queue_take(p, &p->head);
	r = make_body(c);
	if (r == -EFBIG && split(p, c) == 0)
		return true;
	if (r < 0) {
		give_up(c, FIGURES_DROP_ENCODE);
		parcel_free(c);
		return true;
	}
	if (launch(p, c) < 0) {
		queue_push(p, c, true);
		return false;
	}
	p->flying[place] = c;
	p->fresh++;
	return true;
}

static void row_read(void *arg, int error, const struct spool_row *row)
{
	struct pipe *p = arg;
	struct parcel *c = error ? NULL : parcel_new(p, row->items);

	if (!c) {
		p->backlog_busy = false;
		if (!error) {
			free(row->body);
			(void)spool_finish(p->o.spool, row->id, false);
		}
		return;
	}
	c->backlog = true;
	c->row = row->id;
	c->body.bytes = row->body;
	c->body.len = row->len;
	c->priority = row->priority;
	c->attempts = 1; /* that it is here means that it was tried, or would have been */
	if (launch(p, c) < 0) {
		p->backlog_busy = false;
		(void)spool_finish(p->o.spool, row->id, false);
		parcel_free(c);
	}
}

static void send_backlog(struct pipe *p)
{
	struct spool_figures stored_now;

	if (!p->o.spool || p->backlog_busy || p->stopping)
		return;
	if (p->failures && (p->fresh || p->head))
		return;
	spool_figures(p->o.spool, p->o.destination, p->o.signal, &stored_now);
	if (stored_now.rows == 0)
		return;
	p->backlog_busy = true;
	if (spool_take(p->o.spool, p->o.destination, p->o.signal, row_read, p) < 0)
		p->backlog_busy = false;
}

/* Until the database is open nobody knows what an earlier life has left in it. */
static bool may_have_rows(const struct pipe *p)
{
	struct spool_figures stored_now;
	struct spool_status status;

	if (!p->o.spool)
		return false;
	spool_figures(p->o.spool, p->o.destination, p->o.signal, &stored_now);
	spool_status(p->o.spool, &status);
	return stored_now.rows > 0 || !status.open;
}

/* Look again soon while something moves, in a second where only rows wait for a better time, and never where
 * there is nothing. */
static void arm(struct pipe *p)
{
	const struct timeval soon = {.tv_usec = PIPE_TICK_MS * 1000}, later = {.tv_sec = 1};
	bool moves = p->head || p->fresh || p->storing || p->backlog_busy;

	if (evtimer_pending(p->tick, NULL))
		return;
	if (moves || may_have_rows(p))
		evtimer_add(p->tick, moves ? &soon : &later);
}

static void pump(struct pipe *p)
{
	uint64_t now_ns = p->o.mono_ns();

	if (p->closing)
		return;
	if (now_ns >= p->retry_ns && !(p->stopping && now_ns >= p->stop_ns)) {
		while (send_fresh(p))
			;
		send_backlog(p);
	}
	if (p->o.spool && now_ns >= p->spool_retry_ns) {
		store_queue(p, now_ns);
		store_flying(p, now_ns);
	}
	arm(p);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	pump(arg);
}

/* ---- offers ---------------------------------------------------------------------------------- */

static bool part_has_priority(const struct batch *b, uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n; i++)
		if (b->signal == BATCH_TRACES ? b->spans[i].priority : b->logs[i].priority)
			return true;
	return false;
}

void pipe_offer(struct pipe *p, struct batch *b)
{
	uint32_t most = p->o.batch_items_max ? p->o.batch_items_max : BATCH_ITEMS_MAX;

	p->figures.offered += b->n;
	for (uint32_t first = 0; first < b->n; first += most) {
		uint32_t n = b->n - first < most ? b->n - first : most;
		struct parcel *c = parcel_new(p, n);

		if (!c) { /* the items stay in the ring, and are read again by the next agent */
			batch_abandon(batch_hold(b));
			p->figures.offered -= n;
			continue;
		}
		c->batch = batch_hold(b);
		c->first = first;
		c->n = n;
		c->priority = part_has_priority(b, first, n);
		p->waiting_items += n;
		queue_push(p, c, false);
	}
	batch_release(b);
	pump(p);
}

/* A newer body of the same source says all that an older one did. */
static void supersede(struct pipe *p, uint64_t source)
{
	struct parcel **at = &p->head;

	while (*at) {
		struct parcel *c = *at;

		if (!c->batch && c->body.cumulative && c->body.source == source) {
			c = queue_take(p, at);
			give_up(c, FIGURES_DROP_SUPERSEDED);
			parcel_free(c);
		} else {
			at = &c->next;
		}
	}
}

static void make_place_for_body(struct pipe *p)
{
	struct parcel **at = &p->head;

	while (p->bodies >= PIPE_BODIES_MAX && *at) {
		struct parcel *c = *at;

		if (c->batch) {
			at = &c->next;
			continue;
		}
		c = queue_take(p, at);
		give_up(c, FIGURES_DROP_QUEUE_FULL);
		parcel_free(c);
	}
}

void pipe_offer_body(struct pipe *p, const struct pipe_body *body)
{
	struct parcel *c = parcel_new(p, body->items);

	p->figures.offered += body->items;
	if (!c) {
		p->figures.dropped[FIGURES_DROP_QUEUE_FULL] += body->items;
		free(body->bytes);
		if (body->forgotten)
			body->forgotten(body->arg);
		return;
	}
	if (body->cumulative)
		supersede(p, body->source);
	make_place_for_body(p);
	c->body = *body;
	p->waiting_items += c->items;
	queue_push(p, c, false);
	pump(p);
}

/* ---- life ------------------------------------------------------------------------------------ */

int pipe_new(struct event_base *base, const struct pipe_options *options, struct pipe **ret_pipe)
{
	struct pipe *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->o = *options;
	p->tail = &p->head;
	p->figures.exporter = options->destination;
	p->figures.signal = options->signal;
	p->figures.capacity = options->queue_items_max;
	p->tick = evtimer_new(base, on_tick, p);
	if (!p->tick) {
		free(p);
		return -ENOMEM;
	}
	pump(p); /* there may be rows of an earlier life */
	*ret_pipe = p;
	return 0;
}

void pipe_stop(struct pipe *p)
{
	uint64_t now_ns = p->o.mono_ns();

	if (p->stopping)
		return;
	p->stopping = true;
	p->stop_ns = p->failures ? now_ns : now_ns + PIPE_STOP_MS * NS_PER_MS;
	pump(p);
}

bool pipe_is_idle(const struct pipe *p)
{
	if (p->head || p->storing)
		return false;
	for (uint32_t i = 0; i < PIPE_FRESH_MAX; i++)
		if (p->flying[i] && !p->flying[i]->row && !p->flying[i]->body.cumulative)
			return false;
	return true;
}

void pipe_close(struct pipe *p)
{
	p->closing = true;
}

struct pipe *pipe_free(struct pipe *p)
{
	if (!p)
		return NULL;
	assert(p->fresh == 0 && p->storing == 0);
	while (p->head) {
		struct parcel *c = queue_take(p, &p->head);

		if (c->batch)
			batch_abandon(c->batch);
		c->batch = NULL;
		c->body.settled = NULL;
		parcel_free(c);
	}
	event_free(p->tick);
	free(p);
	return NULL;
}

void pipe_figures(const struct pipe *p, struct figures_pipe *ret_figures)
{
	struct spool_figures s = {0};

	*ret_figures = p->figures;
	ret_figures->waiting = p->waiting_items;
	if (!p->o.spool)
		return;
	spool_figures(p->o.spool, p->o.destination, p->o.signal, &s);
	ret_figures->spool_items = s.items;
	ret_figures->spool_bytes = s.bytes;
	ret_figures->spool_oldest_unix_ns = s.oldest_unix_ns;
	ret_figures->dropped[FIGURES_DROP_SPOOL_FULL] += s.dropped_items[SPOOL_DROP_FULL];
	ret_figures->dropped[FIGURES_DROP_SPOOL_AGE] += s.dropped_items[SPOOL_DROP_AGE];
	ret_figures->dropped[FIGURES_DROP_SPOOL_CORRUPT] += s.dropped_items[SPOOL_DROP_CORRUPT];
}
