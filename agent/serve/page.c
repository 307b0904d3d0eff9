/* agent/serve/page.c - / : the state of one node, for a person.
 *
 * Everything is in the first answer, so it works without its script; the script keeps it fresh.
 * Every text that comes from elsewhere passes page_html(). Includes: serve.h, figures.h, status.h,
 * jansson. Thread rule: the loop thread. */
#include "agent/serve/page.h"
#include "agent/serve/figures.h"
#include "agent/serve/serve.h"
#include "agent/serve/status.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* ---- text ------------------------------------------------------------------------------------ */

/* Escaped for element content and for attributes in double quotes. */
void page_html(struct buf *b, const char *text)
{
	for (const char *p = text; *p;) {
		size_t plain = strcspn(p, "&<>\"'");

		buf_add(b, p, plain);
		p += plain;
		switch (*p) {
		case '\0':
			return;
		case '&':
			buf_adds(b, "&amp;");
			break;
		case '<':
			buf_adds(b, "&lt;");
			break;
		case '>':
			buf_adds(b, "&gt;");
			break;
		case '"':
			buf_adds(b, "&quot;");
			break;
		default:
			buf_adds(b, "&#39;");
		}
		p++;
	}
}

/* 7342 -> "7,342" */
void page_whole(struct buf *b, double value)
{
	char digits[32];
	size_t len;

	if (!(fabs(value) < 1e15)) {
		buf_addf(b, "%g", value);
		return;
	}
	len = (size_t)snprintf(digits, sizeof(digits), "%.0f", fabs(value));
	if (value <= -0.5)
		buf_adds(b, "-");
	for (size_t i = 0; i < len; i++)
		buf_addf(b, "%s%c", i && (len - i) % 3 == 0 ? "," : "", digits[i]);
}

void page_bytes(struct buf *b, double value)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	size_t i = 0;

	for (; value >= 1024 && i + 1 < sizeof(units) / sizeof(units[0]); i++)
		value /= 1024;
	buf_addf(b, "%.*f<small>%s</small>", i && value < 100 ? 1 : 0, value, units[i]);
}

/* A latency in the unit that fits it. */
static void latency(struct buf *b, double seconds)
{
	if (isnan(seconds))
		buf_adds(b, "&ndash;");
	else if (seconds < 1e-3)
		buf_addf(b, "%.0f<small>&micro;s</small>", seconds * 1e6);
	else if (seconds < 1)
		buf_addf(b, "%.*f<small>ms</small>", seconds < 0.1 ? 1 : 0, seconds * 1e3);
	else
		buf_addf(b, "%.*f<small>s</small>", seconds < 10 ? 2 : 0, seconds);
}

void page_duration(struct buf *b, uint64_t s)
{
	if (s >= 86400)
		buf_addf(b, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s / 3600 % 24);
	else if (s >= 3600)
		buf_addf(b, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
	else if (s >= 60)
		buf_addf(b, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	else
		buf_addf(b, "%" PRIu64 " s", s);
}

/* Between two clock readings that may disagree. */
uint64_t page_seconds_between(uint64_t from_ns, uint64_t to_ns)
{
	return to_ns > from_ns ? (to_ns - from_ns) / 1000000000u : 0;
}

static void moment(struct buf *b, uint64_t unix_ns)
{
	time_t t = (time_t)(unix_ns / 1000000000u);
	char text[40];
	struct tm tm;

	if (!unix_ns || !gmtime_r(&t, &tm))
		return;
	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm);
	buf_adds(b, text);
}

/* ---- the state ------------------------------------------------------------------------------- */

static const struct look {
	const char *state;
	const char *colour;
	const char *headline;
	const char *meaning;
} looks[] = {
	{"live", "ok", "Node is running", "Its process lives and its heartbeat moves."},
	{"waiting", "warn", "Waiting for the node",
	 "No node has written this file yet. Start the node with this path: the agent takes it up "
	 "at "
	 "once."},
	{"hung", "bad", "Node is hung",
	 "Its process lives, but its heartbeat stands still. Look at its threads, its disk and its "
	 "CPU."},
	{"dead", "bad", "Node is dead",
	 "Its process ended without closing its file. Its log and its exit status tell why."},
	{"closed", "warn", "Node has stopped", "It ended in order and can be started again."},
	{"", "warn", "State unknown", ""},
};

static const struct look *look_of(const struct serve_status *s)
{
	size_t i = 0;

	while (looks[i].state[0] && strcmp(looks[i].state, s->node_state) != 0)
		i++;
	return &looks[i];
}

/* The figures by the id of one of them; NULL if it is not served. */
static const struct figure *figure_of(const struct figure figures[FIGURES], const char *id)
{
	for (uint32_t i = 0; i < FIGURES; i++)
		if (figures[i].present && !strcmp(figure_specs[i].id, id))
			return &figures[i];
	return NULL;
}

/* Two flags of Raft read better as one word. */
static const char *raft_role(const struct figure figures[FIGURES])
{
	const struct figure *is = figure_of(figures, "raft_is_leader");
	const struct figure *has = figure_of(figures, "raft_has_leader");

	if (!is || !has)
		return "";
	return is->value > 0 ? "leader" : has->value > 0 ? "follower" : "no leader";
}

static void name_of_node(struct buf *b, const struct serve_status *s)
{
	if (!s->known) {
		page_html(b, s->shm_path);
		return;
	}
	buf_addf(b, "Node %" PRIu64, s->node_id);
	if (s->cluster[0]) {
		buf_adds(b, " of ");
		page_html(b, s->cluster);
	}
}

void page_todo(struct buf *b, const char *colour, const char *text)
{
	if (!text[0])
		return;
	buf_addf(b, "<li class=\"%s\">", colour);
	page_html(b, text);
	buf_adds(b, "</li>");
}

static void put_state(struct buf *b, const struct serve_status *s,
		      const struct figure figures[FIGURES])
{
	const struct look *look = look_of(s);
	const char *role = raft_role(figures);

	buf_addf(b, "<section class=\"state %s\"><h1>%s</h1><p><b>", look->colour, look->headline);
	name_of_node(b, s);
	buf_addf(b, "</b>%s%s", s->node_up && role[0] ? " &middot; " : "", s->node_up ? role : "");
	if (s->known && s->grpc_address[0]) {
		buf_adds(b, " &middot; gRPC ");
		page_html(b, s->grpc_address);
	}
	buf_addf(b, "</p><p>%s", look->meaning);
	if (s->since_unix_ns) {
		buf_adds(b, " <span class=\"dim\">For ");
		page_duration(b, page_seconds_between(s->since_unix_ns, s->now_unix_ns));
		buf_adds(b, ".</span>");
	}
	buf_adds(b, "</p>");
	if (s->known && s->exit_code)
		buf_addf(b, "<p>Noted exit code: %" PRIu32 ".</p>", s->exit_code);
	buf_adds(b, "<ul class=\"todo\">");
	page_todo(b, strcmp(look->colour, "bad") == 0 ? "bad" : "warn", s->reason);
	page_todo(b, "warn", s->listen_problem);
	page_todo(b, "warn", s->config_problem);
	page_todo(b, "warn", s->state_problem);
	page_exports_todo(b, s);
	if (s->lanes_quarantined)
		page_todo(b, "bad",
			  "Some lanes hold corrupt records and are not read any more: the node's "
			  "memory is being overwritten by something.");
	if (s->series_overflow)
		page_todo(b, "warn",
			  "Label sets went to an overflow series: a label has too many values, or "
			  "the file is too small.");
	buf_adds(b, "</ul></section>");
}

/* ---- figures --------------------------------------------------------------------------------- */

static bool is_trouble(const struct figure_spec *spec)
{
	return strstr(spec->id, "failed") || strstr(spec->id, "errors");
}

/* Shown as a card with a curve or bars; all others are cells of a strip. */
static bool is_card(const struct figure_spec *spec)
{
	return spec->kind == FIGURE_LATENCY ||
	       (spec->kind == FIGURE_TOTAL && !is_trouble(spec) && !strstr(spec->id, "changes"));
}

static void put_cell(struct buf *b, const struct figure_spec *spec,
		     const struct figure figures[FIGURES], const struct figure *f)
{
	const char *role = raft_role(figures), *title = spec->title, *mood = "";

	if (role[0] && !strcmp(spec->id, "raft_has_leader"))
		return;
	if (role[0] && !strcmp(spec->id, "raft_is_leader"))
		title = "Role";
	else
		role = "";
	if (strstr(spec->id, "unhealthy") && f->value > 0)
		mood = " alarm";
	else if ((is_trouble(spec) && f->value > 0) || !strcmp(role, "no leader"))
		mood = " note";
	buf_addf(b, "<div class=\"cell%s\"><h3>%s</h3><div class=\"num\">", mood, title);
	if (role[0])
		buf_adds(b, role);
	else if (strstr(spec->id, "_is_") || strstr(spec->id, "_has_") ||
		 strstr(spec->id, "synchronised"))
		buf_adds(b, f->value > 0 ? "yes" : "no");
	else if (spec->bytes)
		page_bytes(b, f->value);
	else
		page_whole(b, f->value);
	buf_adds(b, "</div></div>");
}

static void put_rate(struct buf *b, const struct figure_spec *spec, const struct figure *f,
		     uint64_t up_s)
{
	double average = f->value / (double)(up_s ? up_s : 1);

	buf_addf(b,
		 "<div class=\"card\"><h3>%s</h3><div data-live data-rate=\"%s\">"
		 "<div class=\"num\"><b>%.*f</b><small>/s <span>on average</span></small></div>"
		 "<svg viewBox=\"0 0 100 32\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
		 "<polyline points=\"\"/></svg></div><div class=\"sub\">",
		 spec->title, spec->id, average < 100 ? 1 : 0, average);
	page_whole(b, f->value);
	buf_adds(b, " since the node started</div></div>");
}

/* The buckets that hold anything, as bars; their heights are relative to the highest. */
static void put_bars(struct buf *b, const struct figure *f)
{
	uint32_t first = 0, last = f->bounds->n;
	uint64_t top = 1;

	while (first < last && !f->buckets[first])
		first++;
	while (last > first && !f->buckets[last])
		last--;
	for (uint32_t i = first; i <= last; i++)
		top = f->buckets[i] > top ? f->buckets[i] : top;
	buf_adds(b, "<div class=\"bars\">");
	for (uint32_t i = first; i <= last; i++)
		buf_addf(b, "<i style=\"height:%.0f%%\" title=\"%s%s s: %" PRIu64 "\"></i>",
			 100.0 * (double)f->buckets[i] / (double)top,
			 i < f->bounds->n ? "up to " : "above ",
			 f->bounds->le[i < f->bounds->n ? i : f->bounds->n - 1], f->buckets[i]);
	buf_adds(b, "</div>");
}

static void put_latency(struct buf *b, const struct figure_spec *spec, const struct figure *f)
{
	static const struct {
		const char *title;
		double q;
	} columns[] = {{"half below", 0.5}, {"90 % below", 0.9}, {"99 % below", 0.99}};

	buf_addf(b, "<div class=\"card\"><h3>%s</h3><div class=\"q\">", spec->title);
	for (size_t i = 0; i < 3; i++) {
		double q = figure_quantile(f, columns[i].q);
		bool beyond = f->buckets[f->bounds->n] && q >= f->bounds->value[f->bounds->n - 1];

		buf_addf(b, "<div><div class=\"num\">%s", beyond ? "&gt; " : "");
		latency(b, q);
		buf_addf(b, "</div><span>%s</span></div>", columns[i].title);
	}
	buf_adds(b, "</div>");
	if (f->value > 0)
		put_bars(b, f);
	buf_adds(b, "<div class=\"sub\">");
	page_whole(b, f->value);
	buf_adds(b, " measured since the node started</div></div>");
}

/* One heading with its cards, then its strip. */
static void put_group(struct buf *b, const char *group, const struct figure figures[FIGURES],
		      uint64_t up_s)
{
	bool cards = false, cells = false;

	buf_addf(b, "<h2>%s</h2><div>", group);
	for (uint32_t i = 0; i < FIGURES; i++) {
		const struct figure_spec *spec = &figure_specs[i];

		if (!figures[i].present || strcmp(spec->group, group) != 0 || !is_card(spec))
			continue;
		buf_adds(b, cards ? "" : "<div class=\"cards\">");
		cards = true;
		if (spec->kind == FIGURE_LATENCY)
			put_latency(b, spec, &figures[i]);
		else
			put_rate(b, spec, &figures[i], up_s);
	}
	buf_adds(b, cards ? "</div>" : "");
	for (uint32_t i = 0; i < FIGURES; i++) {
		const struct figure_spec *spec = &figure_specs[i];

		if (!figures[i].present || strcmp(spec->group, group) != 0 || is_card(spec))
			continue;
		buf_adds(b, cells ? "" : "<div class=\"strip\">");
		cells = true;
		put_cell(b, spec, figures, &figures[i]);
	}
	buf_adds(b, cells ? "</div></div>" : "</div>");
}

static void put_figures(struct buf *b, const struct serve_status *s,
			const struct figure figures[FIGURES])
{
	uint64_t up_s = page_seconds_between(s->start_unix_ns, s->now_unix_ns);
	const char *last = "";

	for (uint32_t i = 0; i < FIGURES; i++) {
		if (!figures[i].present || !strcmp(last, figure_specs[i].group))
			continue;
		last = figure_specs[i].group;
		put_group(b, last, figures, up_s);
	}
}

/* ---- details --------------------------------------------------------------------------------- */

static void item(struct buf *b, const char *title, const char *text)
{
	if (!text[0])
		return;
	buf_addf(b, "<dt>%s</dt><dd><code>", title);
	page_html(b, text);
	buf_adds(b, "</code></dd>");
}

static void put_node(struct buf *b, const struct serve_status *s)
{
	if (!s->known)
		return;
	buf_adds(b, "<div><h2>Node</h2><dl>");
	item(b, "Version", s->node_version);
	item(b, "Service", s->service_name);
	item(b, "Data directory", s->data_dir);
	buf_addf(b, "<dt>Process</dt><dd>%" PRIu32 "</dd><dt>Started</dt><dd>", s->node_pid);
	moment(b, s->start_unix_ns);
	buf_adds(b, "</dd>");
	if (s->node_up) {
		buf_adds(b, "<dt>Up for</dt><dd>");
		page_duration(b, page_seconds_between(s->start_unix_ns, s->now_unix_ns));
		buf_adds(b, "</dd>");
	}
	buf_addf(b, "<dt>Heartbeat</dt><dd>changed %.1f s ago</dd>", s->heartbeat_still_s);
	item(b, "Incarnation", s->incarnation);
	buf_adds(b, "</dl></div>");
}

static void put_file(struct buf *b, const struct serve_status *s)
{
	buf_adds(b, "<div><h2>Shared memory</h2><dl>");
	item(b, "File", s->shm_path);
	item(b, "State", s->file_state);
	if (s->known) {
		buf_addf(b,
			 "<dt>Size</dt><dd>%.1f MiB</dd><dt>Series</dt><dd>%" PRIu32 " of %" PRIu32
			 " metrics</dd><dt>Lanes</dt><dd>%" PRIu32 " in use, %" PRIu32
			 " free, %" PRIu32
			 " never used</dd><dt>Fullest ring</dt><dd>%.1f %% in the last minute</dd>",
			 (double)s->file_bytes / (1 << 20), s->series, s->metrics, s->lanes_owned,
			 s->lanes_free, s->lanes_never, s->ring_used_ratio * 100);
		buf_addf(b,
			 "<dt>Records</dt><dd>%" PRIu64 " spans, %" PRIu64 " logs; %" PRIu64
			 " lost, %" PRIu64 " corrupt, %" PRIu64
			 " refused</dd><dt>Role</dt><dd>%s</dd>",
			 s->records_spans, s->records_logs, s->records_lost, s->records_corrupt,
			 s->records_refused,
			 s->draining ? "this agent takes the records"
				     : "stand-by: takes no records now");
	}
	buf_adds(b, "</dl></div>");
}

static void put_open_spans(struct buf *b, const struct serve_status *s)
{
	if (s->n_open == 0)
		return;
	buf_addf(b, "<div id=\"open\"><h2>Open spans, the oldest of %" PRIu32 "</h2><dl>",
		 s->open_total);
	for (uint32_t i = 0; i < s->n_open; i++) {
		char trace_id[33];

		serve_hex(s->open[i].trace_id, sizeof(s->open[i].trace_id), trace_id);
		buf_adds(b, "<dt>");
		page_html(b, s->open[i].name);
		buf_addf(b, "</dt><dd>%.1f s, trace %s</dd>", s->open[i].age_s, trace_id);
	}
	buf_adds(b, "</dl></div>");
}

/* Where each hangs, or why it does not. */
static void put_probes(struct buf *b, const struct serve_status *s)
{
	for (uint32_t i = 0; i < s->n_probes; i++) {
		const struct serve_probe *p = &s->probes[i];

		buf_adds(b, "<dt>Probe ");
		page_html(b, p->name);
		buf_adds(b, p->up ? "</dt><dd>up, on <code>" : "</dt><dd>off: ");
		page_html(b, p->up ? p->hook : p->reason);
		buf_adds(b, p->up ? "</code></dd>" : "</dd>");
	}
}

static void put_agent(struct buf *b, const struct serve_status *s)
{
	buf_adds(b, "<div><h2>Agent</h2><dl>");
	item(b, "Version", s->agent_version);
	item(b, "Listens on", s->listen_address);
	buf_addf(b, "<dt>Process</dt><dd>%" PRIu32 ", up for ", s->agent_pid);
	page_duration(b, s->agent_uptime_s);
	buf_addf(b, "</dd><dt>Requests</dt><dd>%" PRIu64 ", %" PRIu64 " refused</dd>",
		 s->http.requests, s->http.refused);
	item(b, "Configuration", s->config_path);
	item(b, "State directory", s->state_directory);
	if (s->log_lines_dropped)
		buf_addf(b, "<dt>Log</dt><dd>%" PRIu64 " lines dropped</dd>", s->log_lines_dropped);
	put_probes(b, s);
	buf_adds(b, "</dl></div>");
}

/* One setting of status.json in words. */
static void put_setting(struct buf *b, const json_t *setting)
{
	const char *name = json_string_value(json_object_get(setting, "name"));
	const char *level = json_string_value(json_object_get(setting, "level"));
	const json_t *left = json_object_get(setting, "seconds_left");

	buf_adds(b, "<dt>");
	if (level)
		buf_adds(b, "Log level");
	else if (name)
		page_html(b, name);
	else
		buf_adds(b, "Every other name");
	buf_adds(b, "</dt><dd>");
	if (level)
		page_html(b, level);
	else
		buf_addf(b, "%g %% sampled",
			 100 * json_number_value(json_object_get(setting, "ratio")));
	if (left) {
		buf_adds(b, ", ends in ");
		page_duration(b, (uint64_t)json_integer_value(left));
	}
	buf_adds(b, "</dd>");
}

static void put_control(struct buf *b, const struct serve_status *s)
{
	if (!json_array_size(s->control))
		return;
	buf_adds(b, "<div><h2>Run-time control</h2><dl>");
	for (size_t i = 0; i < json_array_size(s->control); i++)
		put_setting(b, json_array_get(s->control, i));
	buf_adds(b, "</dl></div>");
}

/* ---- the page -------------------------------------------------------------------------------- */

static int add_script_safe(const char *text, size_t len, void *arg)
{
	struct buf *b = arg;

	for (size_t i = 0; i < len; i++) {
		if (text[i] == '<') /* "</script>" and "<!--" would end or change the element */
			buf_adds(b, "\\u003c");
		else
			buf_add(b, text + i, 1);
	}
	return b->failed ? -1 : 0;
}

static void put_data(struct buf *b, const struct serve_status *s,
		     const struct figure figures[FIGURES])
{
	json_t *json = status_json(s, figures);

	buf_adds(b, "<script type=\"application/json\" id=\"data\">");
	if (json)
		json_dump_callback(json, add_script_safe, b, JSON_COMPACT);
	json_decref(json);
	buf_adds(b, "</script>");
}

/* The icon is a dot in the colour of the state. */
static void put_head(struct buf *b, const struct serve_status *s)
{
	const char *colour = look_of(s)->colour;

	buf_adds(b, "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
		    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
		    "<meta name=\"referrer\" content=\"no-referrer\"><title>");
	name_of_node(b, s);
	buf_addf(b,
		 ": %s</title><link rel=\"icon\" href=\"data:image/svg+xml,%%3Csvg "
		 "xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%%3E%%3Ccircle cx='8' "
		 "cy='8' "
		 "r='7' fill='%s'/%%3E%%3C/svg%%3E\"><style>%s</style></head><body>",
		 s->node_state,
		 !strcmp(colour, "ok")	  ? "%231a7f4b"
		 : !strcmp(colour, "bad") ? "%23b3261e"
					  : "%23d99a00",
		 page_style);
}

static void put_page(struct buf *b, const struct serve_status *s,
		     const struct figure figures[FIGURES], const char *nonce)
{
	put_head(b, s);
	buf_adds(b, "<main><header><span class=\"mark\">Blixard</span><span class=\"dim\">");
	name_of_node(b, s);
	buf_adds(b, "</span><nav><a href=\"/metrics\">metrics</a><a href=\"/health\">health</a>"
		    "<a href=\"/ready\">ready</a><a href=\"/live\">live</a>"
		    "<a href=\"/status.json\">status.json</a></nav></header>");
	put_state(b, s, figures);
	put_figures(b, s, figures);
	page_exports(b, s);
	buf_adds(b, "<div class=\"two\">");
	put_node(b, s);
	put_file(b, s);
	put_open_spans(b, s);
	put_agent(b, s);
	put_control(b, s);
	buf_adds(
		b,
		"</div></main><p id=\"lost\" hidden style=\"position:fixed;left:0;right:0;bottom:0;"
		"margin:0;padding:.6rem;text-align:center;background:var(--bad-bg);"
		"color:var(--bad)\">The agent does not answer: what is shown is old.</p>");
	put_data(b, s, figures);
	buf_addf(b, "<script nonce=\"%s\">", nonce);
	buf_adds(b, page_script);
	buf_adds(b, "</script></body></html>\n");
}

/* Lets our own script run and nothing that might have slipped in. */
static void make_nonce(char nonce[33])
{
	uint8_t random[16] = {0};

	if (getrandom(random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		memset(random, 0, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(nonce + 2 * i, 3, "%02x", (unsigned int)random[i]);
}

void serve_page(const struct serve_source *source, const struct serve_request *request,
		struct serve_response *response)
{
	struct figure figures[FIGURES];
	struct serve_status s;
	char nonce[33];

	(void)request;
	/* In this order: the snapshot may change with the next question. */
	figures_read(source->collect(source->arg), figures);
	source->status(source->arg, &s);
	make_nonce(nonce);
	put_page(response->body, &s, figures, nonce);
	if (response->body->failed) {
		serve_text(response, 500, "the page does not fit into memory");
		return;
	}
	response->code = 200;
	response->content_type = "text/html; charset=utf-8";
	snprintf(response->policy, sizeof(response->policy),
		 "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-%s'; "
		 "connect-src 'self'; img-src data:; frame-ancestors 'none'",
		 nonce);
}
