/* agent/export/metrics_body.h - a snapshot as one or more requests, and which baseline goes with them.
 *
 * Cumulative: each body stands for itself. Delta: what was counted since the last one; a new baseline is
 * taken at once in memory and kept in the spool only when every body of it is answered for or stored, so an agent
 * that dies in between counts that time again and never leaves it out.
 *
 * Thread rule: the loop thread. Includes: pipe.h, spool.h, encode/otlp.h, model/. */
#ifndef BLIX_AGENT_EXPORT_METRICS_BODY_H
#define BLIX_AGENT_EXPORT_METRICS_BODY_H

#include "agent/encode/otlp.h"
#include "agent/export/pipe.h"
#include "agent/export/spool.h"

struct metrics_body;

struct metrics_body_options {
	enum otlp_temporality temporality;
	bool exponential;
	bool json;
	struct spool *spool; /* borrowed; NULL: baselines do not survive the agent */
	const char *key;     /* of the baselines in the spool; static */
};

/* 0; -ENOMEM. */
int metrics_body_new(const struct metrics_body_options *options, struct metrics_body **ret_m);
struct metrics_body *metrics_body_free(struct metrics_body *m); /* accepts NULL, returns NULL */

/* Encode `s` and offer it to `p`. `source` numbers the node. Nothing happens while the baselines of an
 * earlier life are still being read. */
void metrics_body_send(struct metrics_body *m, const struct snapshot *s,
		       struct batch_resource *resource, uint64_t source, uint64_t now_unix_ns,
		       struct pipe *p);

#endif
