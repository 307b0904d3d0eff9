/* agent/encode/encode.c - the table of metric encoders. Constant data; includes encode/ only. */
#include "agent/encode/encode.h"

#include "agent/encode/formats.h"

const struct encoder encoders[ENCODE_FORMATS] = {
	[ENCODE_TEXT] =
		{
			.name = "text",
			.content_type = "text/plain; version=0.0.4; charset=utf-8",
			.encode = encode_text,
		},
	[ENCODE_OPENMETRICS] =
		{
			.name = "openmetrics",
			.content_type =
				"application/openmetrics-text; version=1.0.0; charset=utf-8",
			.encode = encode_openmetrics,
		},
	[ENCODE_PROTOBUF] =
		{
			.name = "protobuf",
			.content_type = "application/vnd.google.protobuf; "
					"proto=io.prometheus.client.MetricFamily; "
					"encoding=delimited",
			.encode = encode_protobuf,
		},
};
