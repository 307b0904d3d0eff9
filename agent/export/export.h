/* agent/export/export.h - everything that leaves the host as OTLP: the pipes of a configuration.
 *
 * One pipe a signal that has an endpoint, each with its own transport, queue and share of the spool; so
 * signals with different endpoints do not know of each other. Batches come from whoever reads rings; metrics
 * are fetched from sources at the configured interval.
 *
 * Thread rule: the loop thread. Includes: export/, encode/, model/, libevent. */
#ifndef BLIX_AGENT_EXPORT_EXPORT_H
#define BLIX_AGENT_EXPORT_EXPORT_H

#include "agent/export/otlp_config.h"
#include "agent/export/spool.h"
#include "agent/model/batch.h"
#include "agent/model/figures.h"
#include "agent/model/snapshot.h"

struct event_base;
struct export;

enum { EXPORT_SOURCES_MAX = 16 };

struct export_options {
	const struct otlp_config *config;	/* borrowed for the life of the export */
	struct transport_tls tls[OTLP_SIGNALS]; /* texts copied */
	struct spool *spool;	/* borrowed; NULL: what cannot be sent stays in the rings */
	const char *user_agent; /* copied */
};

/* 0; -EINVAL, -EPROTO an endpoint or its certificates (reason says which); -ENOMEM. */
int export_new(struct event_base *base, const struct export_options *options,
	       struct export **ret_export, char reason[VERDICT_MESSAGE_MAX]);

/* Does anybody take this signal? */
bool export_wants(const struct export *e, enum otlp_signal signal);

/* Take one holder of a sealed batch; released at once if nobody takes its signal. */
void export_batch(struct export *e, struct batch *b);

/* Where metrics come from: one node. Asked at the interval, from the loop. */
struct export_source {
	const struct snapshot *(*collect)(void *arg);
	struct batch_resource *(*resource)(void *arg); /* NULL: no node yet, nothing is sent */
	void *arg;
};
/* 0; -ENOSPC. */
int export_add_source(struct export *e, const struct export_source *source);

/* Begin to end: send the last metrics, give answers a moment, store the rest. */
void export_stop(struct export *e);
bool export_is_idle(const struct export *e);

/* Two steps, with spool_free() between them: first nothing is sent any more, then what is in nobody's custody
 * is abandoned. Both accept NULL. */
void export_close(struct export *e);
struct export *export_free(struct export *e); /* returns NULL */

void export_figures(const struct export *e, struct figures *ret_figures);

#endif
