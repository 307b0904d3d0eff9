/* agent/encode/text.c - Prometheus text format 0.0.4.
 *
 * No exemplars: one would fail the whole scrape. A _created sample is a gauge of its own here, for
 * the format knows no other place for it. Pure; includes agent/model/ and agent/buf.h. */
#include "agent/encode/exposition.h"
#include "agent/encode/formats.h"

static const char *type_of(const struct snapshot_family *family)
{
	switch (family->type) {
	case SNAPSHOT_COUNTER:
		return "counter\n";
	case SNAPSHOT_GAUGE:
		return "gauge\n";
	case SNAPSHOT_HISTOGRAM:
		break;
	}
	return "histogram\n";
}

static void created_family(const struct exposition *e, const struct snapshot_family *family,
			   const struct exposition_name *name)
{
	char spelled[SNAPSHOT_NAME_BYTES_MAX + 16 + SNAPSHOT_TEXT_SLACK] = "";
	struct snapshot_text created = {spelled, name->family.len + 8};

	memcpy(spelled, name->family.at, name->family.len);
	memcpy(spelled + name->family.len, "_created", 8);
	exposition_keyword(e, "HELP", created);
	buf_adds(e->out, "Unix time at which ");
	buf_add(e->out, name->sample.at, name->sample.len);
	buf_adds(e->out, " started from 0.\n");
	exposition_keyword(e, "TYPE", created);
	buf_adds(e->out, "gauge\n");
	for (uint32_t i = 0; i < family->n_series; i++) {
		const struct snapshot_series *series = &e->view.series[family->series[i]];

		if (!series->hidden)
			exposition_created(e, family, series, name->family);
	}
}

static void emit(const struct exposition *e, const struct snapshot_family *family,
		 const struct exposition_name *name)
{
	exposition_help(e, family, name->sample, name->alias);
	exposition_keyword(e, "TYPE", name->sample);
	buf_adds(e->out, type_of(family));
	exposition_samples(e, family, name);
	if (exposition_has_created(e, family, name))
		created_family(e, family, name);
}

void encode_text(const struct snapshot *s, const struct encode_options *o, struct buf *out)
{
	struct exposition e = {
		.out = out,
		.view = snapshot_view(s),
		.names = o->names,
		.created = o->created_lines,
	};

	exposition_each(&e, emit);
}
