/* agent/encode/exposition.c - what the two text formats have in common: their sample lines.
 *
 * The hot path of a scrape. For each series there is one check for room, of an upper bound; then
 * bytes are written without looking back. Names and labels come escaped from the model, which keeps
 * SNAPSHOT_TEXT_SLACK readable bytes behind each, so they are copied in whole blocks.
 *
 * Pure; includes agent/model/ and agent/buf.h. */
#include "agent/encode/exposition.h"

#include "agent/encode/select.h"
#include "agent/model/number.h"

enum {
	BLOCK = SNAPSHOT_TEXT_SLACK,
	/* ` # {trace_id="<32>",span_id="<16>"} value timestamp` */
	EXEMPLAR_BYTES_MAX = 80 + 2 * NUMBER_BYTES_MAX,
	/* `_bucket{` `,` `le="..."` `} ` value, newline and what a block copy writes too much */
	LINE_BYTES_MAX = 64 + 2 * NUMBER_BYTES_MAX + EXEMPLAR_BYTES_MAX + BLOCK,
	PREFIX_BYTES_MAX = SNAPSHOT_NAME_BYTES_MAX + 16 + BLOCK,
};

/* ---- putting --------------------------------------------------------------------------------- */

/* In whole blocks: reads and writes up to BLOCK - 1 bytes more than `len`. */
static inline char *put_wide(char *at, const char *from, uint32_t len)
{
	uint32_t i = 0;

	do {
		memcpy(at + i, from + i, BLOCK);
		i += BLOCK;
	} while (i < len);
	return at + len;
}

static inline char *put_text(char *at, struct snapshot_text text)
{
	return put_wide(at, text.at, text.len);
}

static inline char *put_char(char *at, char c)
{
	*at = c;
	return at + 1;
}

static char *put_any(char *at, const char *text)
{
	size_t len = strlen(text);

	memcpy(at, text, len);
	return at + len;
}

static inline char *put_value(char *at, const struct snapshot_family *family, uint64_t bits)
{
	double value;

	switch (family->number) {
	case SNAPSHOT_U64:
		return number_put_u64(at, bits);
	case SNAPSHOT_I64:
		return number_put_i64(at, (int64_t)bits);
	case SNAPSHOT_NS:
		if (family->type == SNAPSHOT_GAUGE && (int64_t)bits < 0)
			return number_put_ns(put_char(at, '-'), 0 - bits);
		return number_put_ns(at, bits);
	case SNAPSHOT_F64:
		break;
	}
	memcpy(&value, &bits, sizeof(value));
	return number_put_f64(at, value);
}

static char *put_hex(char *at, const uint8_t *bytes, uint32_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (uint32_t i = 0; i < n; i++) {
		*at++ = digits[bytes[i] >> 4];
		*at++ = digits[bytes[i] & 15];
	}
	return at;
}

static char *put_exemplar(char *at, const struct snapshot_family *family,
			  const struct snapshot_exemplar *exemplar)
{
	at = put_any(at, " # {trace_id=\"");
	at = put_hex(at, exemplar->trace_id, sizeof(exemplar->trace_id));
	at = put_any(at, "\",span_id=\"");
	at = put_hex(at, exemplar->span_id, sizeof(exemplar->span_id));
	at = put_any(at, "\"} ");
	at = put_value(at, family, exemplar->value);
	at = put_char(at, ' ');
	return number_put_ns(at, exemplar->unix_ns);
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* The start of every line of one sample name: `name{`, with what a block copy reads too much. */
struct prefix {
	char text[PREFIX_BYTES_MAX];
	uint32_t len; /* with the brace */
};

static void make_prefix(struct prefix *prefix, struct snapshot_text name, const char *suffix)
{
	char *at = put_any(put_text(prefix->text, name), suffix);

	*at = '{';
	prefix->len = (uint32_t)(at - prefix->text) + 1;
	memset(at + 1, 0, BLOCK); /* read, though never shown */
}

/* `name{labels} `, or `name ` where there are none. */
static inline char *put_start(char *at, const struct prefix *prefix,
			      const struct snapshot_series *series)
{
	at = put_wide(at, prefix->text, prefix->len);
	if (!series->text_len) {
		at[-1] = ' ';
		return at;
	}
	at = put_wide(at, series->text, series->text_len);
	memcpy(at, "} ", 2);
	return at + 2;
}

static size_t room_for(const struct exposition_name *name, const struct snapshot_series *series,
		       uint32_t lines)
{
	return ((size_t)name->sample.len + series->text_len + LINE_BYTES_MAX) * lines;
}

void exposition_created(const struct exposition *e, const struct snapshot_family *family,
			const struct snapshot_series *series, struct snapshot_text name)
{
	struct prefix prefix;
	uint8_t *start = buf_room(e->out, (size_t)name.len + series->text_len + LINE_BYTES_MAX);
	char *at = (char *)start;

	if (!start)
		return;
	make_prefix(&prefix, name, "_created");
	at = put_start(at, &prefix, series);
	at = number_put_ns(at, family->created_unix_ns);
	at = put_char(at, '\n');
	buf_commit(e->out, (size_t)(at - (char *)start));
}

bool exposition_has_created(const struct exposition *e, const struct snapshot_family *family,
			    const struct exposition_name *name)
{
	return e->created && family->created_unix_ns &&
	       (name->total || family->type == SNAPSHOT_HISTOGRAM);
}

/* Counters and gauges. */
static void value_lines(const struct exposition *e, const struct snapshot_family *family,
			const struct exposition_name *name)
{
	bool created = e->openmetrics && exposition_has_created(e, family, name);
	bool exemplars = e->openmetrics && name->total;
	struct prefix prefix;

	make_prefix(&prefix, name->sample, "");
	for (uint32_t i = 0; i < family->n_series; i++) {
		const struct snapshot_series *series = &e->view.series[family->series[i]];
		uint8_t *start;
		char *at;

		if (series->hidden)
			continue;
		start = buf_room(e->out, room_for(name, series, 1));
		if (!start)
			return;
		at = put_start((char *)start, &prefix, series);
		at = put_value(at, family, e->view.values[series->value]);
		if (exemplars && select_exemplar(&e->view, family, series, 0))
			at = put_exemplar(at, family, &e->view.exemplars[series->exemplar]);
		at = put_char(at, '\n');
		buf_commit(e->out, (size_t)(at - (char *)start));
		if (created)
			exposition_created(e, family, series, name->family);
	}
}

/* One histogram; room has been made. */
static char *put_histogram(char *at, const struct exposition *e,
			   const struct snapshot_family *family,
			   const struct snapshot_series *series, const struct prefix prefix[3])
{
	const uint64_t *cells = e->view.values + series->value;
	uint32_t n = family->bounds->n;
	uint64_t count = 0;

	for (uint32_t i = 0; i <= n; i++) {
		count += cells[i];
		at = put_wide(at, prefix[0].text, prefix[0].len);
		if (series->text_len) {
			at = put_wide(at, series->text, series->text_len);
			at = put_char(at, ',');
		}
		at = put_text(at, family->le[i]);
		memcpy(at, "} ", 2);
		at = number_put_u64(at + 2, count);
		if (e->openmetrics && select_exemplar(&e->view, family, series, i))
			at = put_exemplar(at, family, &e->view.exemplars[series->exemplar + i]);
		at = put_char(at, '\n');
	}
	at = put_start(at, &prefix[1], series);
	at = put_value(at, family, cells[n + 1]);
	at = put_char(at, '\n');
	at = put_start(at, &prefix[2], series);
	at = number_put_u64(at, count);
	return put_char(at, '\n');
}

static void histogram_lines(const struct exposition *e, const struct snapshot_family *family,
			    const struct exposition_name *name)
{
	bool created = e->openmetrics && exposition_has_created(e, family, name);
	struct prefix prefix[3];

	make_prefix(&prefix[0], name->sample, "_bucket");
	make_prefix(&prefix[1], name->sample, "_sum");
	make_prefix(&prefix[2], name->sample, "_count");
	for (uint32_t i = 0; i < family->n_series; i++) {
		const struct snapshot_series *series = &e->view.series[family->series[i]];
		uint8_t *start;
		char *at;

		if (series->hidden)
			continue;
		start = buf_room(e->out, room_for(name, series, family->bounds->n + 3));
		if (!start)
			return;
		at = put_histogram((char *)start, e, family, series, prefix);
		buf_commit(e->out, (size_t)(at - (char *)start));
		if (created)
			exposition_created(e, family, series, name->family);
	}
}

void exposition_samples(const struct exposition *e, const struct snapshot_family *family,
			const struct exposition_name *name)
{
	if (family->type == SNAPSHOT_HISTOGRAM)
		histogram_lines(e, family, name);
	else
		value_lines(e, family, name);
}

/* ---- metadata -------------------------------------------------------------------------------- */

void exposition_keyword(const struct exposition *e, const char *keyword, struct snapshot_text name)
{
	uint8_t *start = buf_room(e->out, (size_t)name.len + 32 + BLOCK);
	char *at = (char *)start;

	if (!start)
		return;
	at = put_any(put_any(at, "# "), keyword);
	at = put_text(put_char(at, ' '), name);
	at = put_char(at, ' ');
	buf_commit(e->out, (size_t)(at - (char *)start));
}

void exposition_help(const struct exposition *e, const struct snapshot_family *family,
		     struct snapshot_text name, bool alias)
{
	struct snapshot_text help = e->openmetrics ? family->help_openmetrics : family->help_text;
	uint8_t *start;
	char *at;

	if (!help.len && !alias)
		return;
	exposition_keyword(e, "HELP", name);
	start = buf_room(e->out, (size_t)help.len + family->name_text.len + 32 + 2 * BLOCK);
	at = (char *)start;
	if (!start)
		return;
	if (alias) {
		at = put_text(put_any(at, "Alias of "), family->name_text);
		at = put_any(at, help.len ? ". " : ".");
	}
	at = put_text(at, help);
	at = put_char(at, '\n');
	buf_commit(e->out, (size_t)(at - (char *)start));
}

static struct exposition_name name_of(const struct snapshot_family *family, bool alias)
{
	struct exposition_name name = {.alias = alias};

	name.sample = alias ? family->alias_text : family->name_text;
	name.family = name.sample;
	name.total = select_total(family, name.sample);
	if (name.total)
		name.family.len -= SELECT_TOTAL_BYTES;
	return name;
}

void exposition_each(const struct exposition *e, exposition_emit *emit)
{
	for (uint32_t i = 0; i < e->view.n_families; i++) {
		const struct snapshot_family *family = &e->view.families[i];
		struct exposition_name name;

		if (!select_family(&e->view, family))
			continue;
		if (select_canonical(family, e->names)) {
			name = name_of(family, false);
			emit(e, family, &name);
		}
		if (select_alias(family, e->names)) {
			name = name_of(family, true);
			emit(e, family, &name);
		}
	}
}
