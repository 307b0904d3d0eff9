/* agent/encode/formats.h - the metric encoders behind the table of encode.h. Private to encode/. */
#ifndef BLIX_AGENT_ENCODE_FORMATS_H
#define BLIX_AGENT_ENCODE_FORMATS_H

#include "agent/encode/encode.h"

void encode_text(const struct snapshot *s, const struct encode_options *o, struct buf *out);
void encode_openmetrics(const struct snapshot *s, const struct encode_options *o, struct buf *out);
void encode_protobuf(const struct snapshot *s, const struct encode_options *o, struct buf *out);

#endif
