/* agent/encode/otlp_private.h - what the files of the OTLP encoder share. Private to encode/.
 *
 * Field numbers are those of opentelemetry-proto (proto/opentelemetry_*.proto has them in full). */
#ifndef BLIX_AGENT_ENCODE_OTLP_PRIVATE_H
#define BLIX_AGENT_ENCODE_OTLP_PRIVATE_H

#include "agent/encode/otlp.h"
#include "agent/encode/otlp_wire.h"

enum {
	REQUEST_RESOURCE = 1, /* resource_spans, resource_logs, resource_metrics */
	GROUP_RESOURCE = 1,   /* of those */
	GROUP_SCOPE = 2,
	GROUP_SCHEMA_URL = 3,
	SCOPE_SCOPE = 1,
	SCOPE_ITEM = 2, /* spans, log_records, metrics */
	SCOPE_SCHEMA_URL = 3,
};

enum otlp_request { OTLP_TRACES, OTLP_LOGS, OTLP_METRICS };

/* Print the protobuf request `body` as JSON behind out's content. The body is one of ours. */
void otlp_json(enum otlp_request request, const struct buf *body, struct buf *out);

/* The two levels around the items: call before the first and after the last. */
struct otlp_frame {
	size_t request, group, scope;
};
struct otlp_frame otlp_frame_open(struct wire *w);
void otlp_frame_close(struct wire *w, const struct otlp_frame *f, const struct batch_resource *r);

void otlp_put_attrs(struct wire *w, uint32_t field, const struct batch_attrs *attrs);
void otlp_put_string_attr(struct wire *w, uint32_t field, const char *key, size_t key_len,
			  const char *value, size_t value_len);

#endif
