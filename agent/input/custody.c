/* agent/input/custody.c - see custody.h. */
#include "agent/input/custody.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct cut {
	struct cut *next;
	struct custody *owner;
	uint32_t pending; /* batches not freed yet */
	bool abandoned;
	uint64_t items[BATCH_SIGNALS];
	uint32_t n_marks;
	struct custody_mark marks[];
};

struct custody {
	custody_ack ack; /* NULL: freed; only waiting for batches */
	void *arg;
	struct cut *first, **last;
	struct custody_figures figures;
};

struct custody *custody_new(custody_ack ack, void *arg)
{
	struct custody *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->ack = ack;
	c->arg = arg;
	c->last = &c->first;
	return c;
}

static void pop(struct custody *c)
{
	struct cut *cut = c->first;

	c->first = cut->next;
	if (!c->first)
		c->last = &c->first;
	c->figures.cuts--;
	for (int i = 0; i < BATCH_SIGNALS; i++)
		c->figures.items[i] -= cut->items[i];
	free(cut);
}

static void destroy_if_over(struct custody *c)
{
	if (c->ack || c->figures.batches > 0)
		return;
	while (c->first)
		pop(c);
	free(c);
}

struct custody *custody_free(struct custody *c)
{
	if (!c)
		return NULL;
	c->ack = NULL;
	destroy_if_over(c);
	return NULL;
}

/* Acknowledge the longest finished run from the front. */
static void advance(struct custody *c)
{
	while (c->ack && !c->figures.stuck && c->first && c->first->pending == 0 &&
	       !c->first->abandoned) {
		for (uint32_t i = 0; i < c->first->n_marks; i++)
			c->ack(c->arg, &c->first->marks[i]);
		pop(c);
	}
	if (c->first && c->first->abandoned)
		c->figures.stuck = true;
}

static void on_freed(void *arg, struct batch *b)
{
	struct cut *cut = arg;
	struct custody *c = cut->owner;

	cut->pending--;
	cut->abandoned |= b->abandoned;
	c->figures.batches--;
	c->figures.bytes -= b->memory.total;
	advance(c);
	destroy_if_over(c);
}

int custody_cut(struct custody *c, const struct custody_mark *marks, uint32_t n_marks,
		struct batch *const *batches, uint32_t n_batches)
{
	struct cut *cut = calloc(1, sizeof(*cut) + n_marks * sizeof(cut->marks[0]));

	if (!cut) {
		c->figures.stuck = true;
		return -ENOMEM;
	}
	cut->owner = c;
	cut->pending = n_batches;
	cut->n_marks = n_marks;
	if (n_marks)
		memcpy(cut->marks, marks, n_marks * sizeof(marks[0]));
	for (uint32_t i = 0; i < n_batches; i++) {
		batches[i]->freed = on_freed;
		batches[i]->freed_arg = cut;
		cut->items[batches[i]->signal] += batches[i]->n;
		c->figures.items[batches[i]->signal] += batches[i]->n;
		c->figures.bytes += batches[i]->memory.total;
	}
	c->figures.batches += n_batches;
	c->figures.cuts++;
	*c->last = cut;
	c->last = &cut->next;
	advance(c);
	return 0;
}

bool custody_has_room(const struct custody *c)
{
	return c->figures.cuts < CUSTODY_CUTS_MAX && c->figures.bytes < CUSTODY_BYTES_MAX;
}

void custody_figures(const struct custody *c, struct custody_figures *ret_figures)
{
	*ret_figures = c->figures;
}
