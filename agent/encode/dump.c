/* agent/encode/dump.c - the catalogue of metrics as JSON and as Markdown.
 *
 * Pure functions over constant data: no descriptor, no clock, no log. Includes: shm/metric.h and
 * buf.h. */
#include "agent/encode/dump.h"
#include "shm/metric.h"

static const char *const owner_names[] = {
	[BLIX_OWNER_NODE] = "node",
	[BLIX_OWNER_HOST] = "host",
	[BLIX_OWNER_STORAGE] = "storage",
	[BLIX_OWNER_AGENT] = "agent",
};

static const char *const owner_titles[] = {
	[BLIX_OWNER_NODE] = "From the node, through shared memory",
	[BLIX_OWNER_HOST] = "From the host, read by the agent",
	[BLIX_OWNER_STORAGE] = "From the kernel, measured by the agent's probes",
	[BLIX_OWNER_AGENT] = "From the agent, about its node and itself",
};

enum { N_OWNERS = sizeof(owner_names) / sizeof(owner_names[0]) };

/* What Prometheus calls it. An up-down counter may fall, so it is a gauge there. */
static const char *type_name(enum blix_kind kind)
{
	switch (kind) {
	case BLIX_COUNTER:
		return "counter";
	case BLIX_HISTOGRAM:
		return "histogram";
	case BLIX_UPDOWN:
	case BLIX_GAUGE:
	case BLIX_GAUGE_F64:
		break;
	}
	return "gauge";
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void json_string(struct buf *out, const char *text, size_t len)
{
	buf_adds(out, "\"");
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c == '"' || c == '\\')
			buf_addf(out, "\\%c", c);
		else if (c < 0x20)
			buf_addf(out, "\\u%04x", c);
		else
			buf_add(out, &c, 1);
	}
	buf_adds(out, "\"");
}

/* A member of an object; `text` NULL is null. */
static void json_member(struct buf *out, const char *key, const char *text)
{
	buf_addf(out, ", \"%s\": ", key);
	if (text)
		json_string(out, text, strlen(text));
	else
		buf_adds(out, "null");
}

static void json_labels(struct buf *out, const struct blix_metric *metric)
{
	struct blix_labels labels;

	blix_labels_begin(&labels, metric->labels);
	buf_adds(out, ", \"labels\": [");
	for (uint32_t i = 0; i < labels.n_keys; i++) {
		if (i > 0)
			buf_adds(out, ", ");
		json_string(out, labels.keys[i], labels.key_lens[i]);
	}
	buf_adds(out, "]");
}

void dump_metrics_json(struct buf *out)
{
	const char *before = "[\n";

	for (const struct blix_metric *m = blix_metric_next(NULL); m; m = blix_metric_next(m)) {
		buf_adds(out, before);
		before = ",\n";
		buf_adds(out, "  {\"name\": ");
		json_string(out, m->name, strlen(m->name));
		json_member(out, "seed_name", m->seed);
		json_member(out, "type", type_name(m->kind));
		json_member(out, "unit", m->unit);
		json_labels(out, m);
		json_member(out, "owner", owner_names[m->owner]);
		json_member(out, "tier", m->tier == BLIX_TIER_GOLDEN ? "golden" : "all");
		json_member(out, "subset_of", m->subset_of);
		json_member(out, "help", m->help);
		buf_adds(out, "}");
	}
	buf_adds(out, "\n]\n");
}

/* ---- Markdown -------------------------------------------------------------------------------- */

/* Text of a table cell: a bar would end the cell, the others would become markup. */
static void markdown_text(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (strchr("|\\`*_<>[]", *text))
			buf_adds(out, "\\");
		buf_add(out, text, 1);
	}
}

static void markdown_labels(struct buf *out, const struct blix_metric *metric)
{
	struct blix_labels labels;

	blix_labels_begin(&labels, metric->labels);
	for (uint32_t i = 0; i < labels.n_keys; i++) {
		buf_adds(out, i > 0 ? ", `" : "`");
		buf_add(out, labels.keys[i], labels.key_lens[i]);
		buf_adds(out, "`");
	}
}

static void markdown_row(struct buf *out, const struct blix_metric *m)
{
	buf_addf(out, "| `%s` | ", m->name);
	if (m->seed)
		buf_addf(out, "`%s`", m->seed);
	buf_addf(out, " | %s | `%s` | ", type_name(m->kind), m->unit);
	markdown_labels(out, m);
	buf_adds(out, " | ");
	markdown_text(out, m->help);
	buf_adds(out, " |\n");
}

void dump_metrics_markdown(struct buf *out)
{
	for (uint32_t owner = 0; owner < N_OWNERS; owner++) {
		buf_addf(out,
			 "%s### %s\n\n"
			 "| name | seed name | type | unit | labels | meaning |\n"
			 "|---|---|---|---|---|---|\n",
			 owner > 0 ? "\n" : "", owner_titles[owner]);
		for (const struct blix_metric *m = blix_metric_next(NULL); m;
		     m = blix_metric_next(m))
			if ((uint32_t)m->owner == owner)
				markdown_row(out, m);
	}
}
