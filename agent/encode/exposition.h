/* agent/encode/exposition.h - what the two text formats have in common: their sample lines.
 *
 * Pure: (model) -> bytes. Private to encode/; includes agent/model/ and agent/buf.h. */
#ifndef BLIX_AGENT_ENCODE_EXPOSITION_H
#define BLIX_AGENT_ENCODE_EXPOSITION_H

#include "agent/encode/encode.h"

struct exposition {
	struct buf *out;
	struct snapshot_view view;
	enum encode_names names;
	bool openmetrics; /* exemplars, and _created beside the other samples of its series */
	bool created;
};

/* A family under one of its names. */
struct exposition_name {
	struct snapshot_text sample; /* as counters and gauges print it: with _total */
	struct snapshot_text family; /* without _total where it is a counter's suffix */
	bool total;		     /* it is */
	bool alias;
};

/* Call `emit` for each name that each visible family is to be served under, in order. */
typedef void exposition_emit(const struct exposition *e, const struct snapshot_family *family,
			     const struct exposition_name *name);
void exposition_each(const struct exposition *e, exposition_emit *emit);

/* `# KEYWORD name` and a blank. */
void exposition_keyword(const struct exposition *e, const char *keyword, struct snapshot_text name);

/* The HELP line; none for a family without help. An alias names its twin first. */
void exposition_help(const struct exposition *e, const struct snapshot_family *family,
		     struct snapshot_text name, bool alias);

/* The sample lines of the family. */
void exposition_samples(const struct exposition *e, const struct snapshot_family *family,
			const struct exposition_name *name);

/* Whether the family's counters have a _created sample under this name, and one such line. */
bool exposition_has_created(const struct exposition *e, const struct snapshot_family *family,
			    const struct exposition_name *name);
void exposition_created(const struct exposition *e, const struct snapshot_family *family,
			const struct snapshot_series *series, struct snapshot_text name);

#endif
