/* agent/pipeline.h - from batches and snapshots to destinations: the outputs of this agent as one.
 *
 * Reads the environment's OTEL_* variables, opens the spool, makes the exporters and the journal. The agent hands
 * it what the inputs give and asks it for figures; it knows no input. See export/export.h and export/spool.h.
 *
 * Thread rule: the loop thread; pipeline_new() belongs before the loop, because it reads certificates. */
#ifndef BLIX_AGENT_PIPELINE_H
#define BLIX_AGENT_PIPELINE_H

#include "agent/disk.h"
#include "agent/export/export.h"
#include "agent/options.h"
#include "agent/state.h"

struct event_base;
struct pipeline;

/* Never fails for a destination's sake: a signal that cannot be exported is off, said in the log and in the
 * figures' problem. 0; -ENOMEM. */
int pipeline_new(struct event_base *base, struct disk *disk, const struct options *options,
		 const struct state *state, struct pipeline **ret_pipeline);

bool pipeline_wants(const struct pipeline *p, enum otlp_signal signal);
/* Is there any OTLP destination? */
bool pipeline_exports(const struct pipeline *p);
uint32_t pipeline_delay_ms(const struct pipeline *p, enum otlp_signal signal);

/* Take one holder of a sealed batch. */
void pipeline_batch(struct pipeline *p, struct batch *b);
int pipeline_add_source(struct pipeline *p, const struct export_source *source);

/* Begin to end, and whether that is done; pipeline_free() abandons the rest, whose records stay in the rings.
 * Free it before the targets' maps would be missed: batches may outlive targets. */
void pipeline_stop(struct pipeline *p);
bool pipeline_is_idle(const struct pipeline *p);
struct pipeline *pipeline_free(struct pipeline *p); /* accepts NULL, returns NULL */

/* Say in the log what became of the spool; every few seconds. */
void pipeline_tick(struct pipeline *p);

/* Figures of this moment; valid until the next call. */
const struct figures *pipeline_figures(struct pipeline *p);

#endif
