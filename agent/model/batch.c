/* agent/model/batch.c - see batch.h. */
#include "agent/model/batch.h"

#include <assert.h>
#include <stdlib.h>

enum {
	RESOURCE_BYTES_MAX = 256 << 10,
	POOL_CHUNKS = 16, /* 2 MiB: some batches of each signal */
};

/* Of all batches: they are made and freed on the loop thread only. */
static struct arena_pool pool = {.max = POOL_CHUNKS};

/* ---- resource -------------------------------------------------------------------------------- */

struct batch_resource *batch_resource_new(void)
{
	struct batch_resource *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	arena_init(&r->memory, RESOURCE_BYTES_MAX);
	r->holders = 1;
	return r;
}

struct batch_resource *batch_resource_hold(struct batch_resource *r)
{
	r->holders++;
	return r;
}

void batch_resource_release(struct batch_resource *r)
{
	if (!r || --r->holders > 0)
		return;
	arena_done(&r->memory);
	free(r);
}

/* ---- severity -------------------------------------------------------------------------------- */

const char *batch_severity_text(uint8_t severity)
{
	static const char *const names[] = {
		"",	  "TRACE",  "TRACE2", "TRACE3", "TRACE4", "DEBUG",  "DEBUG2",
		"DEBUG3", "DEBUG4", "INFO",   "INFO2",	"INFO3",  "INFO4",  "WARN",
		"WARN2",  "WARN3",  "WARN4",  "ERROR",	"ERROR2", "ERROR3", "ERROR4",
		"FATAL",  "FATAL2", "FATAL3", "FATAL4",
	};

	return severity < sizeof(names) / sizeof(names[0]) ? names[severity] : "";
}

/* ---- batch ----------------------------------------------------------------------------------- */

static int take_room(struct batch *b)
{
	void *room;
	size_t one = b->signal == BATCH_TRACES ? sizeof(*b->spans) : sizeof(*b->logs);
	int r = arena_alloc(&b->memory, BATCH_ITEMS_MAX * one, &room);

	if (r < 0)
		return r;
	if (b->signal == BATCH_TRACES)
		b->spans = room;
	else
		b->logs = room;
	return 0;
}

struct batch *batch_new(enum batch_signal signal, struct batch_resource *resource)
{
	static uint64_t ids;
	struct batch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->signal = signal;
	arena_init_pooled(&b->memory, BATCH_BYTES_MAX, &pool);
	if (take_room(b) < 0) {
		arena_done(&b->memory);
		free(b);
		return NULL;
	}
	b->resource = batch_resource_hold(resource);
	b->id = ++ids;
	b->holders = 1;
	return b;
}

void batch_seal(struct batch *b)
{
	b->sealed = true;
}

struct batch *batch_hold(struct batch *b)
{
	assert(b->holders > 0);
	b->holders++;
	return b;
}

void batch_release(struct batch *b)
{
	assert(b->holders > 0);
	if (--b->holders > 0)
		return;
	if (b->freed)
		b->freed(b->freed_arg, b);
	batch_resource_release(b->resource);
	arena_done(&b->memory);
	free(b);
}

void batch_abandon(struct batch *b)
{
	b->abandoned = true;
	batch_release(b);
}
