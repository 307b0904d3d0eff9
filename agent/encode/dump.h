/* agent/encode/dump.h - the catalogue of metrics as a document (--dump-metrics).
 *
 * Pure: from the constant rows of metrics.def to bytes. Any thread. Includes: buf.h. */
#ifndef BLIX_AGENT_ENCODE_DUMP_H
#define BLIX_AGENT_ENCODE_DUMP_H

#include "agent/buf.h"

/* A JSON array with one object a metric, in slot order: name, seed_name (null if none), type
 * (counter, gauge, histogram), unit (UCUM), labels (array of keys), owner (node, host, storage,
 * agent), tier (all, golden), subset_of (null if none), help. Appended; look at out->failed. */
void dump_metrics_json(struct buf *out);

/* The same for people: one table an owner, as the README shows them. */
void dump_metrics_markdown(struct buf *out);

#endif
