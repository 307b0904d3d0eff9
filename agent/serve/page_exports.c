/* agent/serve/page_exports.c - the part of the page about what leaves the host.
 *
 * One row a destination and signal; why it fails stands in a row of its own below. Includes: page.h,
 * serve.h, model/. Thread rule: the loop thread. */
#include "agent/model/figures.h"
#include "agent/serve/page.h"
#include "agent/serve/serve.h"

#include <inttypes.h>
#include <stdio.h>

/* What nobody will get. A cumulative point that a newer one replaced is no loss. */
static uint64_t lost(const struct figures_pipe *p)
{
	uint64_t n = p->rejected;

	for (int i = 0; i < FIGURES_DROPS; i++)
		n += i == FIGURES_DROP_SUPERSEDED ? 0 : p->dropped[i];
	return n;
}

static void put_lost(struct buf *b, const struct figures_pipe *p)
{
	uint64_t n = lost(p);

	if (n == 0) {
		buf_adds(b, "<td class=\"n\">0</td>");
		return;
	}
	buf_addf(b, "<td class=\"n note\" title=\"rejected %" PRIu64, p->rejected);
	for (int i = 0; i < FIGURES_DROPS; i++)
		if (p->dropped[i] && i != FIGURES_DROP_SUPERSEDED)
			buf_addf(b, ", %s %" PRIu64, figures_drop_names[i], p->dropped[i]);
	buf_adds(b, "\">");
	page_whole(b, (double)n);
	buf_adds(b, "</td>");
}

static void put_number(struct buf *b, uint64_t n)
{
	buf_adds(b, "<td class=\"n\">");
	page_whole(b, (double)n);
	buf_adds(b, "</td>");
}

static void put_spooled(struct buf *b, const struct figures_pipe *p, const struct serve_status *s)
{
	buf_adds(b, "<td class=\"n\"");
	if (p->spool_oldest_unix_ns) {
		buf_adds(b, " title=\"the oldest for ");
		page_duration(b, page_seconds_between(p->spool_oldest_unix_ns, s->now_unix_ns));
		buf_adds(b, "\"");
	}
	buf_adds(b, ">");
	if (!s->exports->spool_used)
		buf_adds(b, "&ndash;");
	else
		page_whole(b, (double)p->spool_items);
	buf_adds(b, "</td>");
}

static void put_last(struct buf *b, const struct figures_pipe *p, const struct serve_status *s)
{
	buf_adds(b, "<td>");
	if (p->last_success_unix_ns) {
		page_duration(b, page_seconds_between(p->last_success_unix_ns, s->now_unix_ns));
		buf_adds(b, " ago");
	} else {
		buf_adds(b, "<span class=\"dim\">never</span>");
	}
	buf_adds(b, "</td>");
}

static void put_pipe(struct buf *b, const struct figures_pipe *p, const struct serve_status *s)
{
	const char *mood = p->failing ? "bad" : p->last_success_unix_ns ? "ok" : "dim";
	const char *state = p->failing		      ? "failing"
			    : p->last_success_unix_ns ? "works"
						      : "nothing sent yet";

	buf_addf(b, "<tr><td><b class=\"dot %s\" title=\"%s\"></b>%s</td><td>", mood, state,
		 p->signal);
	page_html(b, p->exporter);
	buf_adds(b, " <code class=\"dim\">");
	page_html(b, p->address ? p->address : "");
	buf_adds(b, "</code></td>");
	put_number(b, p->sent);
	put_number(b, p->waiting);
	put_spooled(b, p, s);
	put_lost(b, p);
	put_last(b, p, s);
	buf_adds(b, "</tr>");
	if (!p->failing)
		return;
	buf_adds(b, "<tr class=\"why\"><td colspan=\"7\">");
	page_html(b, p->problem);
	buf_adds(b, "</td></tr>");
}

static void put_spool(struct buf *b, const struct figures *f)
{
	uint64_t bytes = 0, items = 0;

	for (uint32_t i = 0; i < f->n; i++) {
		bytes += f->pipes[i].spool_bytes;
		items += f->pipes[i].spool_items;
	}
	if (!f->spool_used) {
		buf_adds(b, "<p class=\"sub\">No spool: what cannot be sent stays in the node's "
			    "memory until it is full.</p>");
		return;
	}
	buf_adds(b, "<p class=\"sub\">Spool <code>");
	page_html(b, f->spool_path);
	buf_adds(b, "</code>: ");
	if (items == 0)
		buf_adds(b, "empty");
	else
		page_bytes(b, (double)bytes);
	if (f->spool_cover_s >= 0) {
		buf_adds(b, ", filling; at this rate it has room for ");
		page_duration(b, (uint64_t)f->spool_cover_s);
	}
	buf_adds(b, "</p>");
}

void page_exports_todo(struct buf *b, const struct serve_status *s)
{
	const struct figures *f = s->exports;
	char line[FIGURES_PROBLEM_MAX + 128];

	if (!f)
		return;
	page_todo(b, "warn", f->problem);
	for (uint32_t i = 0; i < f->n; i++) {
		const struct figures_pipe *p = &f->pipes[i];

		if (!p->failing)
			continue;
		snprintf(line, sizeof(line), "%s cannot be sent to %s: %s", p->signal, p->exporter,
			 p->problem);
		page_todo(b, "warn", line);
	}
	if (!f->spool_degraded)
		return;
	snprintf(line, sizeof(line), "The spool cannot be written: %s", f->spool_problem);
	page_todo(b, "warn", line);
}

void page_exports(struct buf *b, const struct serve_status *s)
{
	if (!s->exports || s->exports->n == 0)
		return;
	buf_adds(b, "<h2>Sent from here</h2><div class=\"scroll\"><table><thead><tr>"
		    "<th>Signal</th><th>Destination</th><th class=\"n\">Sent</th>"
		    "<th class=\"n\">Waiting</th><th class=\"n\">Spooled</th>"
		    "<th class=\"n\">Dropped</th><th>Last success</th></tr></thead><tbody>");
	for (uint32_t i = 0; i < s->exports->n; i++)
		put_pipe(b, &s->exports->pipes[i], s);
	buf_adds(b, "</tbody></table></div>");
	put_spool(b, s->exports);
}
