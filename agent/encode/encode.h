/* agent/encode/encode.h - the table of metric encoders, and which one a scrape asked for.
 *
 * An encoder is a pure function from a finished model to bytes. Includes: model/, buf.h. */
#ifndef BLIX_AGENT_ENCODE_ENCODE_H
#define BLIX_AGENT_ENCODE_ENCODE_H

#include "agent/buf.h"
#include "agent/model/snapshot.h"

/* SEED: the seed guide's name where it has one, the canonical one elsewhere; so no family is ever
 * left out, and whoever asks for seed names still sees whether the node lives. */
enum encode_names { ENCODE_NAMES_BOTH, ENCODE_NAMES_CANONICAL, ENCODE_NAMES_SEED };

struct encode_options {
	enum encode_names names;
	bool native_histograms; /* protobuf only: exponential buckets beside the classic ones */
	bool created_lines;	/* text formats: _created samples */
};

enum encode_format { ENCODE_TEXT, ENCODE_OPENMETRICS, ENCODE_PROTOBUF, ENCODE_FORMATS };

/* A body that does not fit its buffer's maximum marks the buffer failed. So may one that comes
 * within a series' longest possible text of it: room is asked for before a series is written. */
struct encoder {
	const char *name;	  /* "text", as logs and tests call it */
	const char *content_type; /* exact header value */
	void (*encode)(const struct snapshot *s, const struct encode_options *o, struct buf *out);
};
extern const struct encoder encoders[ENCODE_FORMATS];

/* What an Accept header (NULL or "" if absent) asks for, and whether an Accept-Encoding header
 * allows gzip. Hostile input: never fails, unknown means text. */
enum encode_format encode_negotiate(const char *accept);
bool encode_accepts_gzip(const char *accept_encoding);

/* gzip `in` into `out` (appended), at zlib's fastest level. Below about 1 KiB it is not worth it.
 * 0; -ENOMEM; -ENOSPC when out's maximum is too small or `in` has failed. */
int encode_gzip(const struct buf *in, struct buf *out);

#endif
