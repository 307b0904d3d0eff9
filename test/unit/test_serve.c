/* Goal: what the handlers are made of holds against hostile input: addresses, query strings, header
 * values, the state file, quantiles, and texts that want to be markup. Method: call them; no
 * socket but to provoke what binding can answer. */
#include "agent/options.h"
#include "agent/serve/address.h"
#include "agent/model/figures.h"
#include "agent/serve/figures.h"
#include "agent/serve/listen.h"
#include "agent/serve/port_holder.h"
#include "agent/serve/serve.h"
#include "agent/state.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char reason[ADDRESS_REASON_MAX];

static void beside(const char *grpc, const char *expected)
{
	char text[ADDRESS_TEXT_MAX];
	struct address a;

	cr_assert_eq(address_beside(grpc, &a, reason), 0, "%s: %s", grpc, reason);
	address_print(&a, text);
	cr_expect_str_eq(text, expected);
}

Test(address, the_agent_listens_a_thousand_ports_above_the_node)
{
	struct address a = {.host = "untouched"};

	beside("127.0.0.1:7001", "127.0.0.1:8001");
	beside("[fe80::1%eth0]:7001", "[fe80::1%eth0]:8001");
	beside("node-1.example:64535", "node-1.example:65535");
	cr_expect_eq(address_beside("h:64536", &a, reason), -ERANGE);
	cr_expect(strstr(reason, "65536") && strstr(reason, "--listen"), "%s", reason);
	cr_expect_eq(address_beside("h:65535", &a, reason), -ERANGE);
	cr_expect_eq(address_beside("no port", &a, reason), -EINVAL);
	cr_expect_str_eq(a.host, "untouched");
}

Test(address, what_a_node_writes_cannot_leave_its_form)
{
	static const char *const bad[] = {"",	   ":",	     "a b:1",	   "a\n:1",
					  "<i>:1", "[]:1",   "[::1]1",	   "h:+1",
					  "h:1 ",  "h: 1",   "\xc3\xa9:1", "h:-1",
					  "a/b:1", "[::1]:", "[:1",	   "h:99999999999"};
	char longest[ADDRESS_HOST_MAX + 16];
	struct address a;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(address_parse(bad[i], &a, reason), -EINVAL, "%s", bad[i]);
	snprintf(longest, sizeof(longest), "%0*d:1", ADDRESS_HOST_MAX - 1, 0);
	cr_expect_eq(address_parse(longest, &a, reason), 0);
	snprintf(longest, sizeof(longest), "%0*d:1", ADDRESS_HOST_MAX, 0);
	cr_expect_eq(address_parse(longest, &a, reason), -EINVAL);
}

Test(state, a_kept_address_is_found_by_its_file_and_nothing_else)
{
	struct address a;

	cr_expect(state_listen_line("127.0.0.1:8001 /dev/shm/a b", "/dev/shm/a b", &a));
	cr_expect_eq(a.port, 8001);
	cr_expect_not(state_listen_line("127.0.0.1:8001 /dev/shm/a", "/dev/shm/a b", &a));
	cr_expect_not(state_listen_line("127.0.0.1:8001", "", &a));
	cr_expect_not(state_listen_line("127.0.0.1:0 /a", "/a", &a));
	cr_expect_not(state_listen_line("", "/a", &a));
	cr_expect_not(state_listen_line(" /a", "/a", &a));
}

static void query_is(const char *query, int err, const char *expected)
{
	char value[8] = "before";

	cr_expect_eq(serve_query(query, "names", value, sizeof(value)), err, "%s", query);
	if (!err)
		cr_expect_str_eq(value, expected);
}

Test(query, a_value_is_decoded_or_refused)
{
	query_is(NULL, -ENOENT, NULL);
	query_is("", -ENOENT, NULL);
	query_is("name=x&xnames=y&names", -ENOENT, NULL);
	query_is("names=", 0, "");
	query_is("a=b&names=seed&c", 0, "seed");
	query_is("names=se%65d", 0, "seed");
	query_is("names=1234567", 0, "1234567");
	query_is("names=12345678", -EINVAL, NULL);
	query_is("names=%", -EINVAL, NULL);
	query_is("names=%4", -EINVAL, NULL);
	query_is("names=%4&1", -EINVAL, NULL);
	query_is("names=%zz", -EINVAL, NULL);
	query_is("names=a%00b", -EINVAL, NULL);
	query_is("names=one&names=two", 0, "one");
}

Test(query, a_scrape_timeout_is_a_plain_positive_number_or_nothing)
{
	cr_expect_eq(serve_scrape_timeout_ns("1.5"), 1500000000u);
	cr_expect_eq(serve_scrape_timeout_ns("3600"), UINT64_C(3600000000000));
	for (const char *const *bad =
		     (const char *const[]){"", "0", "-1", "inf", "nan", "0x10", " 1", "1 ", "1e3",
					   "3601", "1.2.3", ".",
					   "000000000000000000000000000000001", NULL};
	     *bad; bad++)
		cr_expect_eq(serve_scrape_timeout_ns(*bad), 0, "%s", *bad);
	cr_expect_eq(serve_scrape_timeout_ns(NULL), 0);
}

Test(json, foreign_text_and_numbers_are_made_fit)
{
	json_t *text = serve_json_text("a\xff\xc3\xa9"), *number = serve_json_number(NAN);
	json_t *count = serve_json_count(UINT64_MAX);

	cr_expect_str_eq(json_string_value(text), "a?\xc3\xa9");
	cr_expect(json_is_null(number));
	cr_expect_eq(json_integer_value(count), INT64_MAX);
	json_decref(text);
	json_decref(number);
	json_decref(count);
}

/* ---- figures and pages ----------------------------------------------------------------------- */

static const char evil[] = "</script><script>alert(1)</script>\"'&<!--";
static struct snapshot *snapshot;
static bool node_is_up, has_exports, probe_is_down = true;
static struct figures exports;

static const struct snapshot *collect(void *arg)
{
	(void)arg;
	return snapshot;
}

static void status(void *arg, struct serve_status *s)
{
	(void)arg;
	*s = (struct serve_status){
		.now_unix_ns = UINT64_C(1795337464000000000),
		.agent_version = evil,
		.listen_address = evil,
		.listen_problem = evil,
		.config_path = evil,
		.config_problem = evil,
		.state_directory = evil,
		.state_problem = evil,
		.loop_limit_ns = 10,
		.probes = {{"block", "tracepoint", "", true}, {"sync", "none", evil, false}},
		.n_probes = 2,
		.node_state = node_is_up ? "live" : "dead",
		.node_up = node_is_up,
		.reason = evil,
		.since_unix_ns = UINT64_C(1795337400000000000),
		.known = true,
		.node_id = UINT64_MAX,
		.cluster = evil,
		.service_name = evil,
		.node_version = evil,
		.grpc_address = evil,
		.data_dir = evil,
		.incarnation = evil,
		.heartbeat_still_s = NAN,
		.exit_code = 139,
		.shm_path = evil,
		.file_state = evil,
		.records_refused = 3,
		.records_damaged = 4,
		.held_up = 5,
		.open_total = 77,
		.n_open = 1,
		.open = {{.name = "</script><script>",
			  .trace_id = {0xab, [15] = 0xcd},
			  .span_id = {[7] = 0xef},
			  .age_s = 12.5}},
		.exports = has_exports ? &exports : NULL,
	};
	s->probes[1].up = !probe_is_down;
	s->probes[1].hook = probe_is_down ? "none" : "tracepoint";
}

static const struct encode_options encode;
static const struct serve_source source = {.collect = collect, .status = status, .encode = &encode};

static uint32_t add(const char *name, enum snapshot_type type, const struct snapshot_bounds *bounds)
{
	const struct snapshot_family family = {.name = name,
					       .help = "x",
					       .unit = "",
					       .type = type,
					       .number = SNAPSHOT_U64,
					       .bounds = bounds};
	uint32_t f, series;

	cr_assert_eq(snapshot_family(snapshot, &family, &f), 0);
	cr_assert_eq(snapshot_series(snapshot, f, NULL, 0, false, false, &series), 0);
	return series;
}

static void fill(void)
{
	static struct snapshot_bounds bounds = {
		.n = 3, .value = {0.1, 0.2, 0.4}, .le = {"0.1", "0.2", "0.4"}};
	uint64_t *cells;
	uint32_t n;

	snapshot = snapshot_new();
	cr_assert(snapshot);
	snapshot_set_u64(snapshot, add("blixard_raft_term", SNAPSHOT_GAUGE, NULL), 1234567);
	snapshot_set_u64(snapshot, add("blixard_raft_proposals_total", SNAPSHOT_COUNTER, NULL),
			 640);
	/* A name of ours with another type: must be left out, not misread. */
	snapshot_set_u64(snapshot,
			 add("blixard_grpc_request_duration_seconds", SNAPSHOT_GAUGE, NULL), 1);
	cells = snapshot_values(
		snapshot,
		add("blixard_raft_proposal_duration_seconds", SNAPSHOT_HISTOGRAM, &bounds), &n);
	cr_assert_eq(n, 5);
	cells[0] = 50;
	cells[1] = 40;
	cells[2] = 9;
	cells[3] = 1;
	cells[4] = 100;
}

Test(figures, quantiles_are_interpolated_as_promql_does_it, .init = fill)
{
	struct figure figures[FIGURES], *f = NULL;

	figures_read(snapshot, figures);
	for (uint32_t i = 0; i < FIGURES; i++) {
		if (!strcmp(figure_specs[i].id, "raft_proposal_duration"))
			f = &figures[i];
		if (!strcmp(figure_specs[i].id, "grpc_request_duration"))
			cr_expect_not(figures[i].present);
		if (!strcmp(figure_specs[i].id, "raft_proposals"))
			cr_expect_float_eq(figures[i].value, 640, 1e-9);
	}
	cr_assert(f && f->present);
	cr_expect_float_eq(f->value, 100, 1e-9);
	cr_expect_float_eq(figure_quantile(f, 0.25), 0.05, 1e-9);
	cr_expect_float_eq(figure_quantile(f, 0.5), 0.1, 1e-9);
	cr_expect_float_eq(figure_quantile(f, 0.9), 0.2, 1e-9);
	cr_expect_float_eq(figure_quantile(f, 1), 0.4, 1e-9);
	memset(f->buckets, 0, sizeof(f->buckets));
	f->value = 0;
	cr_expect(isnan(figure_quantile(f, 0.5)));
}

Test(figures, every_one_is_in_the_catalogue_once)
{
	for (uint32_t i = 0; i < FIGURES; i++) {
		const struct figure_spec *spec = &figure_specs[i];
		const struct blix_metric *m = blix_metric_find(spec->family, strlen(spec->family));

		cr_assert(m, "%s", spec->family);
		cr_expect_eq(m->kind == BLIX_HISTOGRAM, spec->kind == FIGURE_LATENCY, "%s",
			     spec->family);
		cr_expect_eq(m->kind == BLIX_COUNTER, spec->kind == FIGURE_TOTAL, "%s",
			     spec->family);
		for (uint32_t k = 0; k < i; k++)
			cr_expect_str_neq(figure_specs[k].id, spec->id);
	}
}

static struct serve_response response;
static struct buf body;

static const char *answer(serve_handler *handle, const struct serve_request *request)
{
	static const struct serve_request none;

	buf_clear(&body);
	response = (struct serve_response){.body = &body};
	handle(&source, request ? request : &none, &response);
	buf_add(&body, "", 1);
	cr_assert(!body.failed);
	return (const char *)body.data;
}

static void setup(void)
{
	fill();
	buf_init(&body, 1 << 22);
}

Test(page, nothing_foreign_becomes_markup, .init = setup)
{
	const char *page = answer(serve_page, NULL), *data, *end;
	json_error_t where;
	json_t *json;
	char *copy;

	cr_expect_eq(response.code, 200);
	cr_expect(strstr(response.policy, "script-src 'nonce-"));
	cr_expect(strstr(
		page,
		"&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;&lt;!--"));
	cr_expect_null(strstr(page, "<script>alert"));
	cr_expect_null(strstr(page, "<!--"));
	cr_expect(strstr(page, "Node is dead"));
	cr_expect(strstr(page, "1,234,567"));
	cr_expect(strstr(page, "<dt>Probe block</dt><dd>up, on <code>tracepoint</code></dd>"));
	cr_expect(strstr(page, "<dt>Probe sync</dt><dd>off: &lt;/script&gt;"));
	/* The embedded JSON is whole, and says what was put in. */
	data = strstr(page, "id=\"data\">");
	cr_assert(data);
	data += strlen("id=\"data\">");
	end = strstr(data, "</script>");
	copy = strndup(data, (size_t)(end - data));
	json = json_loads(copy, 0, &where);
	cr_assert(json, "%s", where.text);
	cr_expect_str_eq(
		json_string_value(json_object_get(json_object_get(json, "node"), "cluster")), evil);
	json_decref(json);
	free(copy);
	buf_done(&body);
}

Test(status, open_spans_and_what_could_not_be_decoded_are_told, .init = setup)
{
	json_t *json, *open, *first, *ring;

	json = json_loads(answer(serve_status_json, NULL), 0, NULL);
	cr_assert(json);
	open = json_object_get(json, "open_spans");
	cr_expect_eq(json_integer_value(json_object_get(open, "total")), 77);
	cr_assert_eq(json_array_size(json_object_get(open, "oldest")), 1u);
	first = json_array_get(json_object_get(open, "oldest"), 0);
	cr_expect_str_eq(json_string_value(json_object_get(first, "name")), "</script><script>");
	cr_expect_str_eq(json_string_value(json_object_get(first, "trace_id")),
			 "ab0000000000000000000000000000cd");
	cr_expect_str_eq(json_string_value(json_object_get(first, "span_id")), "00000000000000ef");
	cr_expect_float_eq(json_number_value(json_object_get(first, "age_seconds")), 12.5, 1e-9);
	ring = json_object_get(json_object_get(json, "file"), "ring");
	cr_expect_eq(json_integer_value(json_object_get(ring, "refused")), 3);
	cr_expect_eq(json_integer_value(json_object_get(ring, "damaged")), 4);
	cr_expect_eq(json_integer_value(json_object_get(ring, "held_up")), 5);
	json_decref(json);
	cr_expect(strstr(answer(serve_page, NULL),
			 "&lt;/script&gt;&lt;script&gt;</dt><dd>12.5 s, trace ab0000"));
	buf_done(&body);
}

Test(page, the_nonce_is_another_one_each_time, .init = setup)
{
	char first[sizeof(response.policy)];

	answer(serve_page, NULL);
	memcpy(first, response.policy, sizeof(first));
	answer(serve_page, NULL);
	cr_expect_str_neq(first, response.policy);
	buf_done(&body);
}

Test(health, the_three_questions_have_three_answers, .init = setup)
{
	json_t *json;

	answer(serve_live, NULL);
	cr_expect_eq(response.code, 200);
	answer(serve_ready, NULL);
	cr_expect_eq(response.code, 200, "a dead node does not make the agent unready");
	json = json_loads(answer(serve_health, NULL), 0, NULL);
	cr_expect_eq(response.code, 503);
	cr_expect_str_eq(json_string_value(json_object_get(json, "reason")), evil);
	json_decref(json);
	node_is_up = true;
	answer(serve_health, NULL);
	cr_expect_eq(response.code, 200);
	buf_done(&body);
}

static void fill_exports(void)
{
	setup();
	has_exports = node_is_up = true;
	exports = (struct figures){
		.n = 2,
		.pipes = {{.exporter = "otlp",
			   .signal = "traces",
			   .address = evil,
			   .sent = 7342,
			   .rejected = 2,
			   .dropped = {[FIGURES_DROP_REFUSED] = 1, [FIGURES_DROP_SUPERSEDED] = 50},
			   .waiting = 12,
			   .spool_items = 9876,
			   .spool_bytes = 3 << 20,
			   .last_success_unix_ns = UINT64_C(1795337454000000000)},
			  {.exporter = "otlp", .signal = "logs"}},
		.spool_used = true,
		.spool_cover_s = 7200,
		.spool_path = evil,
	};
}

static void fail_logs(void)
{
	exports.pipes[1].failing = true;
	snprintf(exports.pipes[1].problem, sizeof(exports.pipes[1].problem), "%s", evil);
}

Test(page, exports_are_a_row_a_pipe_and_foreign_words_no_markup, .init = fill_exports)
{
	const char *page = answer(serve_page, NULL);

	cr_expect(strstr(page, "Sent from here"));
	cr_expect(strstr(page, "7,342</td><td class=\"n\">12</td>"));
	cr_expect(strstr(page, "9,876"));
	cr_expect(strstr(page, "title=\"rejected 2, refused 1\">3<"), "superseded is no loss");
	cr_expect(strstr(page, "10 s ago"));
	cr_expect(strstr(page, "never"));
	cr_expect(strstr(page, "3.0<small>MiB</small>, filling; at this rate it has room for 2 h"));
	cr_expect_null(strstr(page, "class=\"why\""));
	fail_logs();
	exports.spool_degraded = true;
	snprintf(exports.spool_problem, sizeof(exports.spool_problem), "disk full");
	page = answer(serve_page, NULL);
	cr_expect(strstr(page, "<tr class=\"why\"><td colspan=\"7\">&lt;/script&gt;"));
	cr_expect(strstr(page, "logs cannot be sent to otlp: &lt;/script&gt;"));
	cr_expect(strstr(page, "The spool cannot be written: disk full"));
	cr_expect_null(strstr(page, "<script>alert"));
	has_exports = false;
	cr_expect_null(strstr(answer(serve_page, NULL), "Sent from here"));
	buf_done(&body);
}

Test(status, exports_are_told_with_every_reason, .init = fill_exports)
{
	json_t *json = json_loads(answer(serve_status_json, NULL), 0, NULL), *pipe;
	const char *signal, *address;
	json_int_t refused, config, sent;
	double last, cover;

	cr_assert_eq(json_unpack(json, "{s:{s:[{s:s,s:s,s:I,s:{s:I},s:{s:I},s:F},o],s:{s:F}}}",
				 "exports", "pipes", "signal", &signal, "address", &address, "sent",
				 &sent, "dropped", "refused", &refused, "failures", "config",
				 &config, "last_success", &last, &pipe, "spool", "cover_seconds",
				 &cover),
		     0);
	cr_expect_str_eq(signal, "traces");
	cr_expect_str_eq(address, evil);
	cr_expect(sent == 7342 && refused == 1 && config == 0);
	cr_expect_float_eq(last, 1795337454, 1e-6);
	cr_expect_float_eq(cover, 7200, 1e-9);
	cr_expect(json_is_null(json_object_get(pipe, "last_success")), "never");
	cr_expect(json_is_null(json_object_get(pipe, "spooled_since")));
	json_decref(json);
	exports.spool_cover_s = -1;
	json = json_loads(answer(serve_status_json, NULL), 0, NULL);
	cr_assert_eq(json_unpack(json, "{s:{s:{s:n}}}", "exports", "spool", "cover_seconds"), 0);
	json_decref(json);
	has_exports = false;
	json = json_loads(answer(serve_status_json, NULL), 0, NULL);
	cr_assert_eq(json_unpack(json, "{s:{s:[!],s:n}}", "exports", "pipes", "spool"), 0);
	json_decref(json);
	buf_done(&body);
}

static size_t degraded(const char *query)
{
	json_t *json =
		json_loads(answer(serve_health, &(struct serve_request){.query = query}), 0, NULL);
	size_t n = json_array_size(json_object_get(json, "degraded"));

	cr_assert(json_is_array(json_object_get(json, "degraded")));
	json_decref(json);
	return n;
}

Test(health, what_cannot_be_sent_is_degraded_and_ill_only_on_request, .init = fill_exports)
{
	static const struct {
		const char *query;
		int with_probe, with_exporter;
	} cases[] = {
		{NULL, 200, 200},
		{"include=probes", 503, 200},
		{"include=exporters", 200, 503},
		{"include=exporters,probes", 503, 503},
		{"include=probes,exporters", 503, 503},
		{"include=probes%2Cexporters", 503, 503},
		{"include=noprobes,exporterss", 200, 200},
		{"include=", 200, 200},
	};

	probe_is_down = false;
	cr_expect_eq(degraded("include=exporters,probes"), 0u);
	cr_expect_eq(response.code, 200);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		probe_is_down = true;
		exports.pipes[1].failing = false;
		cr_expect_eq(degraded(cases[i].query), 1u);
		cr_expect_eq(response.code, cases[i].with_probe, "%s", cases[i].query);
		probe_is_down = false;
		fail_logs();
		cr_expect_eq(degraded(cases[i].query), 1u);
		cr_expect_eq(response.code, cases[i].with_exporter, "%s", cases[i].query);
	}
	exports.spool_degraded = true;
	snprintf(exports.problem, sizeof(exports.problem), "traces are not exported: no key");
	cr_expect_eq(degraded("include=exporters"), 3u);
	cr_expect_eq(response.code, 503);
	buf_done(&body);
}

Test(status, the_schema_is_one_and_large_ids_are_text, .init = setup)
{
	json_t *json, *probes;

	json = json_loads(answer(serve_status_json, NULL), 0, NULL);
	cr_assert(json);
	cr_expect_eq(json_integer_value(json_object_get(json, "schema")), 1);
	cr_expect_str_eq(json_string_value(json_object_get(json_object_get(json, "node"), "id")),
			 "18446744073709551615");
	cr_expect(json_is_object(
		json_object_get(json_object_get(json, "figures"), "raft_proposal_duration")));
	probes = json_object_get(json_object_get(json, "agent"), "probes");
	cr_expect(json_is_true(json_object_get(json_object_get(probes, "block"), "up")));
	cr_expect(json_is_false(json_object_get(json_object_get(probes, "sync"), "up")));
	cr_expect_str_eq(
		json_string_value(json_object_get(json_object_get(probes, "sync"), "reason")),
		evil);
	json_decref(json);
	buf_done(&body);
}

Test(metrics, a_wrong_choice_of_names_is_400_and_an_empty_200_cannot_be, .init = setup)
{
	answer(serve_metrics, &(struct serve_request){.query = "names=all"});
	cr_expect_eq(response.code, 400);
	answer(serve_metrics,
	       &(struct serve_request){.query = "names=canonical", .scrape_timeout = "2"});
	cr_expect_eq(response.code, 200);
	cr_expect_eq(response.deadline_ns, 2000000000u);
	buf_done(&body);
	buf_init(&body, 64); /* too small for any body */
	buf_clear(&body);
	response = (struct serve_response){.body = &body};
	serve_metrics(&source, &(struct serve_request){0}, &response);
	cr_expect_eq(response.code, 500);
	snapshot_free(snapshot);
	snapshot = snapshot_new(); /* nothing to say at all */
	buf_done(&body);
	buf_init(&body, 1 << 20);
	response = (struct serve_response){.body = &body};
	serve_metrics(&source, &(struct serve_request){0}, &response);
	cr_expect_eq(response.code, 500);
	buf_done(&body);
}

/* ---- listening ------------------------------------------------------------------------------- */

Test(listen, a_taken_port_is_not_shared_and_its_holder_is_found)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char name[PORT_HOLDER_NAME_MAX], problem[LISTEN_PROBLEM_MAX];
	struct address a = {.host = "127.0.0.1"};
	socklen_t len = sizeof(at);
	int fd = listen_bind((const struct sockaddr *)&at, len), on = 0;
	pid_t pid = 0;

	cr_assert_geq(fd, 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	cr_expect_eq(listen_bind((const struct sockaddr *)&at, len), -EADDRINUSE);
	len = sizeof(on);
	cr_expect_eq(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
	cr_expect_eq(on, 1, "a large body would wait for delayed acknowledgements");
	a.port = ntohs(at.sin_port);
	cr_assert_eq(port_holder_find(a.port, &pid, name), 0);
	cr_expect_eq(pid, getpid());
	cr_expect_neq(name[0], '\0');
	listen_explain(&a, -EADDRINUSE, "pid 7 (x)", problem);
	cr_expect(strstr(problem, "pid 7 (x)") && strstr(problem, "stop that program") &&
		  strstr(problem, "--listen"));
	close(fd);
	cr_expect_eq(port_holder_find(a.port, &pid, name), -ENOENT);
}

Test(listen, every_failure_has_its_remedy)
{
	static const int errors[] = {-EADDRINUSE, -EADDRNOTAVAIL, -EACCES};
	struct sockaddr_in elsewhere = {.sin_family = AF_INET,
					.sin_addr.s_addr = inet_addr("192.0.2.1")};
	char problem[LISTEN_PROBLEM_MAX];
	struct address a = {.host = "::1", .port = 80};

	cr_expect_eq(listen_bind((const struct sockaddr *)&elsewhere, sizeof(elsewhere)),
		     -EADDRNOTAVAIL);
	for (size_t i = 0; i < 3; i++) {
		listen_explain(&a, errors[i], "", problem);
		cr_expect(strstr(problem, "[::1]:80") && strstr(problem, "--listen"), "%s",
			  problem);
	}
}

Test(listen, only_a_listening_line_of_that_port_counts)
{
	const char *line =
		"   0: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000 "
		"    0        0 4242 1 0000000000000000 100 0 0 10 0";

	cr_expect_eq(port_holder_line(line, 8001), 4242);
	cr_expect_eq(port_holder_line(line, 8002), 0);
	cr_expect_eq(port_holder_line("  sl  local_address rem_address   st", 8001), 0);
	cr_expect_eq(port_holder_line("   0: 0100007F:1F41 0100007F:9999 01 00000000:00000000 "
				      "00:00000000 00000000 0 0 4242 1",
				      8001),
		     0, "a connection is no listener");
	cr_expect_eq(port_holder_line("", 8001), 0);
}
