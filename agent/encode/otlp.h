/* agent/encode/otlp.h - OTLP requests from finished models, and what a response says.
 *
 * Pure functions from a sealed batch or a finished snapshot to the bytes of one Export request: one
 * Resource (the node, not the agent), one scope. Protobuf is written directly and canonically; JSON
 * is the same message, printed field by field, so the two cannot differ in content.
 *
 * A body that does not fit its buffer's maximum marks the buffer failed. Nothing is written where
 * there is nothing to send (no empty envelopes). Texts of a batch are valid UTF-8 by its contract;
 * those of a snapshot are repaired when they are stored.
 *
 * Thread rule: none of its own; what is read must not change meanwhile. Includes: model/, buf.h. */
#ifndef BLIX_AGENT_ENCODE_OTLP_H
#define BLIX_AGENT_ENCODE_OTLP_H

#include "agent/buf.h"
#include "agent/model/batch.h"
#include "agent/model/delta.h"
#include "agent/model/snapshot.h"

/* Of every Resource and scope we write: the conventions whose names the attributes have. */
#define OTLP_SCHEMA_URL "https://opentelemetry.io/schemas/1.26.0"

enum {
	OTLP_NAME_BYTES_MAX = SNAPSHOT_NAME_BYTES_MAX + 16,
	OTLP_EXPONENTIAL_BUCKETS_MAX = 160,
	OTLP_MESSAGE_MAX = 256, /* of a partial success, with its terminator */
};

/* Append an ExportTraceServiceRequest or ExportLogsServiceRequest of items [first, first + n) of
 * `b`, which are cut to those that exist. json: in OTLP's JSON mapping. */
void otlp_encode_batch(const struct batch *b, uint32_t first, uint32_t n, bool json,
		       struct buf *out);

/* Values as OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE has them. Up-down counters are
 * cumulative in all of them; counters that the agent reads elsewhere (host, kernel probes) are
 * asynchronous, and LOWMEMORY leaves those cumulative. */
enum otlp_temporality { OTLP_CUMULATIVE, OTLP_DELTA, OTLP_LOWMEMORY };

struct otlp_metrics_options {
	uint64_t time_unix_ns; /* of every point */
	/* Start of those whose family does not know it (created_unix_ns 0): the time of the first
	 * point that was sent. 0: this is the first one, start = time. */
	uint64_t unknown_start_unix_ns;
	enum otlp_temporality temporality;
	const struct delta_view *delta; /* of this snapshot; required unless CUMULATIVE */
	bool exponential;		/* base2 histograms where a series has the cells */
	bool json;
	uint32_t first_family; /* families [first_family, first_family + n_families) */
	uint32_t n_families;   /* 0: all that follow */
};

/* Append an ExportMetricsServiceRequest. Hidden families and series are not in it.
 * 0: *ret_points data points; if there are none nothing was appended.
 * -EINVAL: DELTA or LOWMEMORY without a delta view.
 * -ENOSPC: the body does not fit out (which is marked failed); send fewer families. */
int otlp_encode_metrics(const struct snapshot *s, const struct batch_resource *r,
			const struct otlp_metrics_options *o, struct buf *out,
			uint32_t *ret_points);

/* The OTLP name of a family, terminated; returns its length. "blixard_raft_proposals_total" is
 * "blixard.raft_proposals": without unit suffix and _total, which a Prometheus exporter adds. */
size_t otlp_name(const struct snapshot_family *family, char name[OTLP_NAME_BYTES_MAX]);

/* Whether a response's body reports a partial success, or cannot be read at all, which is a success
 * with a warning: true then, *ret_rejected items were refused (may be 0) and `message` is one
 * printable line. False: nothing to say; neither result is written. Any of the three signals' field
 * names; body may be hostile. Matches struct transport_options.partial. */
bool otlp_partial(const uint8_t *body, size_t len, bool json, uint64_t *ret_rejected,
		  char message[OTLP_MESSAGE_MAX]);

#endif
