/* agent/input/slow_waits.c - see slow_waits.h. */
#include "agent/input/slow_waits.h"
#include "agent/input/storage_items.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Of one signal. */
struct lot {
	struct batch *open; /* NULL: none is being filled */
	uint64_t since_ns;  /* of the first item in `open` */
	struct batch *full[SLOW_WAITS_BATCHES_MAX];
	uint32_t n_full;
	uint32_t alive; /* open, full, or not released yet */
};

struct slow_waits {
	struct slow_waits_options options;
	struct lot lots[BATCH_SIGNALS];
	uint64_t logged_ns;  /* 0: never */
	uint64_t unreported; /* waits since then that have no log record */
	uint64_t dropped;
	bool over; /* freed, but for batches that are still out */
};

struct slow_waits *slow_waits_new(const struct slow_waits_options *options)
{
	struct slow_waits *w = calloc(1, sizeof(*w));

	if (w)
		w->options = *options;
	return w;
}

static void free_if_over(struct slow_waits *w)
{
	for (int i = 0; i < BATCH_SIGNALS; i++)
		if (w->lots[i].alive)
			return;
	if (w->over)
		free(w);
}

/* The hook of each of them: nobody but us knows that what was abandoned is gone for good. */
static void on_freed(void *arg, struct batch *b)
{
	struct slow_waits *w = arg;

	w->lots[b->signal].alive--;
	if (b->abandoned)
		w->dropped += b->n;
	free_if_over(w);
}

struct slow_waits *slow_waits_free(struct slow_waits *w)
{
	if (!w)
		return NULL;
	for (int i = 0; i < BATCH_SIGNALS; i++) {
		struct lot *lot = &w->lots[i];

		if (lot->open)
			batch_abandon(lot->open);
		for (uint32_t k = 0; k < lot->n_full; k++)
			batch_abandon(lot->full[k]);
	}
	w->over = true;
	free_if_over(w);
	return NULL;
}

/* ---- filling --------------------------------------------------------------------------------- */

static void close_open(struct lot *lot)
{
	lot->full[lot->n_full++] = lot->open; /* at most `alive` of them */
	lot->open = NULL;
}

/* A batch of that life with room for one more; NULL: there is no room. */
static struct batch *room(struct slow_waits *w, enum batch_signal signal,
			  struct batch_resource *resource, uint64_t now_ns)
{
	struct lot *lot = &w->lots[signal];

	if (lot->open && (lot->open->n == BATCH_ITEMS_MAX || lot->open->resource != resource))
		close_open(lot);
	if (lot->open)
		return lot->open;
	if (lot->alive == SLOW_WAITS_BATCHES_MAX)
		return NULL;
	lot->open = batch_new(signal, resource);
	if (!lot->open)
		return NULL;
	lot->open->freed = on_freed;
	lot->open->freed_arg = w;
	lot->since_ns = now_ns;
	lot->alive++;
	return lot->open;
}

/* Zero is no id. */
static bool random_id(uint8_t ret_id[8])
{
	static const uint8_t none[8];

	return getrandom(ret_id, 8, GRND_NONBLOCK) == 8 && memcmp(ret_id, none, 8) != 0;
}

static void add_span(struct slow_waits *w, struct batch_resource *resource,
		     const struct storage_slow_event *e, uint64_t now_ns)
{
	struct batch *b = room(w, BATCH_TRACES, resource, now_ns);
	uint8_t id[8];

	if (b && random_id(id) && storage_span(e, id, &b->memory, &b->spans[b->n]) == 0)
		b->n++;
	else
		w->dropped++;
}

static void add_log(struct slow_waits *w, struct batch_resource *resource,
		    const struct storage_slow_event *e, uint64_t now_ns)
{
	struct batch *b;

	if (w->logged_ns && now_ns - w->logged_ns < SLOW_WAITS_LOG_NS) {
		w->unreported++;
		return;
	}
	b = room(w, BATCH_LOGS, resource, now_ns);
	if (!b || storage_log(e, w->unreported, &b->memory, &b->logs[b->n]) < 0) {
		w->dropped++;
		return;
	}
	b->n++;
	w->logged_ns = now_ns;
	w->unreported = 0;
}

void slow_waits_add(struct slow_waits *w, struct batch_resource *resource,
		    const struct storage_slow_event *e, uint64_t now_ns)
{
	if (w->options.wants[BATCH_TRACES] && e->valid && e->sampled)
		add_span(w, resource, e, now_ns);
	if (w->options.wants[BATCH_LOGS])
		add_log(w, resource, e, now_ns);
}

/* ---- handing over ---------------------------------------------------------------------------- */

static void hand_over(struct slow_waits *w, struct batch *b)
{
	if (b->n == 0) {
		batch_release(b);
		return;
	}
	if (w->options.process)
		w->options.process(w->options.arg, b);
	batch_seal(b);
	w->options.batch(w->options.arg, b);
}

static void hand_over_full(struct slow_waits *w, struct lot *lot)
{
	uint32_t n = lot->n_full;

	lot->n_full = 0;
	for (uint32_t i = 0; i < n; i++)
		hand_over(w, lot->full[i]);
}

static uint32_t left_ms(const struct slow_waits *w, int signal, uint64_t now_ns)
{
	const struct lot *lot = &w->lots[signal];
	uint64_t age_ms = now_ns > lot->since_ns ? (now_ns - lot->since_ns) / 1000000 : 0;
	uint32_t delay_ms = w->options.delay_ms[signal];

	if (lot->n_full)
		return 0;
	if (!lot->open)
		return UINT32_MAX;
	return lot->open->n == BATCH_ITEMS_MAX || age_ms >= delay_ms ? 0
								     : delay_ms - (uint32_t)age_ms;
}

void slow_waits_turn(struct slow_waits *w, uint64_t now_ns)
{
	for (int i = 0; i < BATCH_SIGNALS; i++) {
		struct lot *lot = &w->lots[i];

		hand_over_full(w, lot);
		if (!lot->open || left_ms(w, i, now_ns) > 0)
			continue;
		close_open(lot);
		hand_over_full(w, lot);
	}
}

void slow_waits_flush(struct slow_waits *w)
{
	for (int i = 0; i < BATCH_SIGNALS; i++) {
		if (w->lots[i].open)
			close_open(&w->lots[i]);
		hand_over_full(w, &w->lots[i]);
	}
}

uint32_t slow_waits_due_ms(const struct slow_waits *w, uint64_t now_ns)
{
	uint32_t soonest = UINT32_MAX;

	for (int i = 0; i < BATCH_SIGNALS; i++) {
		uint32_t left = left_ms(w, i, now_ns);

		soonest = left < soonest ? left : soonest;
	}
	return soonest;
}

uint64_t slow_waits_dropped(const struct slow_waits *w)
{
	return w->dropped;
}
