/* agent/encode/openmetrics.c - OpenMetrics 1.0.
 *
 * A counter's family is named without _total. A counter whose name does not end in it (an alias of
 * the seed guide) is of type unknown, the only type that lets its sample keep that name, and shows
 * no exemplars: they would fail the whole scrape. Exemplars always carry their time.
 *
 * Pure; includes agent/model/ and agent/buf.h. */
#include "agent/encode/exposition.h"
#include "agent/encode/formats.h"

static const char *type_of(const struct snapshot_family *family, const struct exposition_name *name)
{
	switch (family->type) {
	case SNAPSHOT_COUNTER:
		return name->total ? "counter\n" : "unknown\n";
	case SNAPSHOT_GAUGE:
		return "gauge\n";
	case SNAPSHOT_HISTOGRAM:
		break;
	}
	return "histogram\n";
}

/* UNIT must be the end of the family's name, else the scrape fails: the seed guide's names have
 * none. */
static bool has_unit(const struct snapshot_family *family, const struct exposition_name *name)
{
	size_t len = strlen(family->unit_suffix);
	const char *end = name->family.at + name->family.len;

	return len > 0 && name->family.len > len + 1 && end[-(ptrdiff_t)len - 1] == '_' &&
	       !memcmp(end - len, family->unit_suffix, len);
}

static void emit(const struct exposition *e, const struct snapshot_family *family,
		 const struct exposition_name *name)
{
	exposition_keyword(e, "TYPE", name->family);
	buf_adds(e->out, type_of(family, name));
	if (has_unit(family, name)) {
		exposition_keyword(e, "UNIT", name->family);
		buf_adds(e->out, family->unit_suffix);
		buf_adds(e->out, "\n");
	}
	exposition_help(e, family, name->family, name->alias);
	exposition_samples(e, family, name);
}

void encode_openmetrics(const struct snapshot *s, const struct encode_options *o, struct buf *out)
{
	struct exposition e = {
		.out = out,
		.view = snapshot_view(s),
		.names = o->names,
		.openmetrics = true,
		.created = o->created_lines,
	};

	exposition_each(&e, emit);
	buf_adds(out, "# EOF\n");
}
