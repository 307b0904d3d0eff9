/* agent/export/pipe.h - one signal on its way to one destination: memory, flight, spool.
 *
 *   offered -> queue -> in flight -> answered (accepted, refused: counted, custody ends)
 *                ^          |
 *                +- retry --+          and beside it, what waits for long:   queue, in flight -> spool -> in flight
 *
 * A parcel is what one request carries: a run of items of a held batch, a finished body, or a row of the
 * spool. A batch is held as long as the pipe has a parcel of it that is in nobody's custody; so the ring
 * keeps its records exactly as long. What has not been answered within PIPE_SPOOL_AFTER_MS, or exceeds the queue,
 * is stored in the spool (also what is in flight to a destination that froze), so that a slow destination
 * holds up nobody; without a spool it stays, and the ring is the queue. Rows of the spool leave oldest first,
 * one at a time, beside what is new.
 *
 * Cumulative metrics are never stored: a newer body of the same source supersedes an older one that waits.
 *
 * Thread rule: the loop thread; nothing sleeps. Includes: transport.h, spool.h, model/, libevent. */
#ifndef BLIX_AGENT_EXPORT_PIPE_H
#define BLIX_AGENT_EXPORT_PIPE_H

#include "agent/buf.h"
#include "agent/export/spool.h"
#include "agent/export/transport.h"
#include "agent/model/batch.h"
#include "agent/model/figures.h"

struct event_base;
struct pipe;

enum {
	PIPE_SPOOL_AFTER_MS = 1000,
	PIPE_FRESH_MAX = 4, /* requests of new items under way at once, while all goes well */
	PIPE_REQUEST_BYTES_MAX = 3584
				 << 10, /* servers refuse more than 4 MiB unless told otherwise */
	PIPE_BODIES_MAX = 64,		/* finished bodies that wait, without a spool */
	PIPE_TICK_MS = 200,		/* while anything waits */
	PIPE_STOP_MS = 2000, /* a stop waits this long for answers, then stores the rest */
};

struct pipe_options {
	const char *destination; /* "otlp"; static */
	const char *signal;	 /* "traces"; static */
	/* Append the request of items [first, first + n) of a batch. */
	void (*encode)(const struct batch *b, uint32_t first, uint32_t n, bool json,
		       struct buf *out);
	bool json;
	uint32_t timeout_ms; /* of an attempt */
	uint32_t queue_items_max;
	uint32_t batch_items_max; /* of one request */
	struct spool *spool;	  /* borrowed; NULL: none */
	/* Injected: the transport's send, clocks, chance. */
	int (*send)(void *transport, const struct transport_request *request, transport_done done,
		    void *arg);
	void *transport;
	uint64_t (*mono_ns)(void);
	uint64_t (*unix_ns)(void);
	uint32_t (*chance)(void);
};

/* 0; -ENOMEM. */
int pipe_new(struct event_base *base, const struct pipe_options *options, struct pipe **ret_pipe);
/* Nothing is sent or stored any more; answers and confirmations that still come are taken. Call it before the
 * transport and the spool are freed. */
void pipe_close(struct pipe *p);
/* What is in nobody's custody is abandoned. The transport and the spool were freed before, after pipe_close(). Accepts
 * NULL, returns NULL. */
struct pipe *pipe_free(struct pipe *p);

/* Take one holder of a sealed batch. */
void pipe_offer(struct pipe *p, struct batch *b);

/* A finished body. */
struct pipe_body {
	uint8_t *bytes; /* malloc()ed; the pipe's from here on, also on failure */
	size_t len;
	uint32_t items;
	uint64_t source; /* with `cumulative`: an older body of the same source gives way */
	bool cumulative; /* never stored */
	/* Called once when the body is answered for or stored: the delta's new baseline may be kept. Not called
	 * when it was given up. NULL: nobody asks. */
	void (*settled)(void *arg);
	void (*forgotten)(void *arg); /* called once at the end, whatever became of it */
	void *arg;
};
void pipe_offer_body(struct pipe *p, const struct pipe_body *body);

/* From now on: what fails, or is not answered within PIPE_STOP_MS, goes to the spool at once. */
void pipe_stop(struct pipe *p);
/* Nothing is left that a stop would have to wait for. */
bool pipe_is_idle(const struct pipe *p);

void pipe_figures(const struct pipe *p, struct figures_pipe *ret_figures);

#endif
