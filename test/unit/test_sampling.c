/* Goal: the sampler of the environment and run-time control decide about roots, children follow,
 * and what was received goes on to the next process: ids, tracestate, baggage.
 * Method: many roots, counted against the binomial distribution; control written as the agent
 * writes it; headers in and out through the public callbacks. */
#include "node-hooks/blixard_hooks.h"
#include "shm/control.h"
#include "test/support/file_records.h"
#include "test/support/scratch.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static struct scratch scratch;

static void setup(void)
{
	unsetenv("OTEL_TRACES_SAMPLER");
	unsetenv("OTEL_TRACES_SAMPLER_ARG");
	unsetenv("OTEL_PROPAGATORS");
	unsetenv("BLIXARD_BAGGAGE_ATTRIBUTES");
	scratch = scratch_new(NULL);
}

static void teardown(void)
{
	blix_close();
	scratch_remove(&scratch);
}

TestSuite(sampling, .init = setup, .fini = teardown);

static void open_with(const char *sampler, const char *arg)
{
	if (sampler)
		setenv("OTEL_TRACES_SAMPLER", sampler, 1);
	if (arg)
		setenv("OTEL_TRACES_SAMPLER_ARG", arg, 1);
	cr_assert_eq(blix_open(scratch.path, &(struct blix_identity){.lanes = 4, .slots = 64}), 0,
		     "%s", blix_status().reason);
}

static const struct blix_context root;

/* How many of n roots are sampled; each record agrees with its flag. */
static int sampled_of(const char *name, int n)
{
	int sampled = 0;

	for (int i = 0; i < n; i++) {
		blix_span span = blix_span_begin(blix_name_of(name), BLIX_INTERNAL, &root);
		bool flag = span.trace_flags & BLIX_TRACE_SAMPLED;

		cr_assert_eq(blix_span_is_recorded(span), flag);
		sampled += flag;
		blix_span_end(span);
	}
	return sampled;
}

Test(sampling, samplers_of_the_environment)
{
	static const struct {
		const char *sampler;
		const char *arg;
		int low;
		int high;
		bool follows; /* a sampled parent */
	} rows[] = {
		{NULL, NULL, 4000, 4000, true},
		{"parentbased_always_on", NULL, 4000, 4000, true},
		{"always_on", NULL, 4000, 4000, true},
		{"always_off", NULL, 0, 0, false},
		{"parentbased_always_off", NULL, 0, 0, true},
		/* 4000 roots at 1/4: 1000, standard deviation 27 */
		{"traceidratio", "0.25", 800, 1200, false},
		{"parentbased_traceidratio", "0.25", 800, 1200, true},
		{"traceidratio", "0", 0, 0, false},
		{"traceidratio", "1", 4000, 4000, true},
		{"traceidratio", NULL, 4000, 4000, true},
		{"traceidratio", "2", 4000, 4000, true}, /* malformed: the default, and told */
		{"what", NULL, 4000, 4000, true},
	};
	/* Its random part is the lowest there is: no ratio below one takes it. */
	struct blix_context parent = {.trace_id = {1}, .span_id = {1}, .trace_flags = 1};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		blix_span child;
		int n;

		setup();
		open_with(rows[i].sampler, rows[i].arg);
		n = sampled_of("x", 4000);
		cr_expect(n >= rows[i].low && n <= rows[i].high, "%s %s: %d",
			  rows[i].sampler ? rows[i].sampler : "", rows[i].arg ? rows[i].arg : "",
			  n);
		child = blix_span_begin(BLIX_NAME("child"), BLIX_INTERNAL, &parent);
		cr_expect_eq(child.trace_flags & 1, rows[i].follows, "row %zu", i);
		blix_span_end(child);
		if (rows[i].sampler && strcmp(rows[i].sampler, "what") == 0)
			cr_expect_not_null(strstr(blix_status().warning, "OTEL_TRACES_SAMPLER"));
		teardown();
	}
	setup();
}

Test(sampling, children_of_an_unsampled_parent_are_not_recorded)
{
	struct blix_context parent = {.trace_id = {1}, .span_id = {1}, .trace_flags = 0};
	blix_span child;

	open_with(NULL, NULL);
	child = blix_span_begin(BLIX_NAME("child"), BLIX_INTERNAL, &parent);
	cr_expect_not(blix_span_is_recorded(child));
	cr_expect_arr_eq(child.trace_id, parent.trace_id, 16);
	blix_span_end(child);
}

/* ---- headers ---------------------------------------------------------------------------------- */

struct headers {
	char parent[64];
	char state[600];
	char baggage[9000];
};

static const char *get(void *arg, const char *name)
{
	struct headers *h = arg;
	const char *text = strcmp(name, "traceparent") == 0  ? h->parent
			   : strcmp(name, "tracestate") == 0 ? h->state
			   : strcmp(name, "baggage") == 0    ? h->baggage
							     : NULL;

	return text && *text ? text : NULL;
}

static void set(void *arg, const char *name, const char *value)
{
	struct headers *h = arg;

	if (strcmp(name, "traceparent") == 0)
		snprintf(h->parent, sizeof(h->parent), "%s", value);
	else if (strcmp(name, "tracestate") == 0)
		snprintf(h->state, sizeof(h->state), "%s", value);
	else if (strcmp(name, "baggage") == 0)
		snprintf(h->baggage, sizeof(h->baggage), "%s", value);
	else
		cr_assert_fail("header %s", name);
}

/* One hop: a server's span of what comes in, a client's below it, and what goes out. */
static struct headers hop(struct headers in, bool sampled)
{
	struct headers out = {.parent = ""};
	struct blix_context context = blix_extract(get, &in);
	blix_span server = blix_span_begin(BLIX_NAME("server"), BLIX_SERVER, &context);
	BLIX_SCOPE(server);
	blix_span client = blix_span_begin(BLIX_NAME("client"), BLIX_CLIENT, NULL);
	BLIX_SCOPE(client);

	cr_expect_eq(blix_span_is_recorded(client), sampled);
	blix_inject(set, &out);
	blix_span_end(client);
	blix_span_end(server);
	return out;
}

Test(sampling, tracestate_and_baggage_survive_the_hop)
{
	struct headers in = {
		.parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		.state = "congo=t61rcWkgMzE, rojo=00f067aa0ba902b7",
		.baggage = "tenant=acme, user = Am%C3%A9lie;p=1",
	};
	struct headers out;

	open_with(NULL, NULL);
	out = hop(in, true);
	cr_expect_eq(strncmp(out.parent, "00-0af7651916cd43dd8448eb211c80319c-", 36), 0);
	cr_expect_neq(strncmp(out.parent + 36, "b7ad6b7169203331", 16), 0);
	cr_expect_str_eq(out.parent + 52, "-01");
	cr_expect_str_eq(out.state, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7");
	cr_expect_str_eq(out.baggage, "tenant=acme,user = Am%C3%A9lie;p=1");
	in.parent[54] = '0'; /* the same for a trace that is not sampled */
	out = hop(in, false);
	cr_expect_str_eq(out.parent + 52, "-00");
	cr_expect_str_eq(out.state, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7");
	cr_expect_str_eq(out.baggage, "tenant=acme,user = Am%C3%A9lie;p=1");
}

Test(sampling, the_largest_tracestate_and_baggage_survive_too)
{
	struct headers in = {.parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"};
	struct headers out;

	memset(in.state, 's', 511);
	memcpy(in.state, "a=", 2);
	in.state[255] = ',';
	memcpy(in.state + 256, "b=", 2);
	memset(in.baggage, 'b', 8192);
	in.baggage[1] = '=';
	open_with(NULL, NULL);
	out = hop(in, true);
	cr_expect_str_eq(out.state, in.state);
	cr_expect_str_eq(out.baggage, in.baggage);
	for (int i = 0; i < 5000; i++) /* nothing is used up */
		out = hop(in, true);
	cr_expect_str_eq(out.baggage, in.baggage);
}

Test(sampling, a_remote_parent_is_marked_and_its_tracestate_recorded)
{
	struct headers in = {
		.parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		.state = "congo=1",
		.baggage = "tenant=acme%20inc,other=x",
	};
	const struct record_read *r;
	struct blix_item_seen item;
	struct file_records file;
	char text[32];

	setenv("BLIXARD_BAGGAGE_ATTRIBUTES", "tenant, missing", 1);
	open_with(NULL, NULL);
	(void)hop(in, true);
	file = file_records_read(scratch.path);
	r = file_records_span(&file, "server", 0);
	cr_expect_eq(r->span.span_flags, BLIX_SPAN_PARENT_REMOTE);
	cr_expect_eq(r->span.parent_id[0], 0xb7);
	cr_assert(file_records_item(&file, file_records_items(r), BLIX_ITEM_TRACESTATE, NULL, 0,
				    &item));
	cr_expect_arr_eq(item.value, "congo=1", 7);
	cr_expect(file_records_text(&file, r, "tenant", text, sizeof(text)));
	cr_expect_str_eq(text, "acme inc");
	cr_expect_not(file_records_text(&file, r, "other", text, sizeof(text)));
	r = file_records_span(&file, "client", 0);
	cr_expect_eq(r->span.span_flags, 0);
	file_records_free(&file);
}

Test(sampling, propagators_can_be_chosen)
{
	static const struct {
		const char *list;
		bool trace;
		bool baggage;
	} rows[] = {
		{"tracecontext", true, false},
		{"baggage", false, true},
		{"baggage, tracecontext,baggage", true, true},
		{"none", false, false},
		{"b3", true, true}, /* unknown: the default */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct headers in = {
			.parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			.baggage = "a=1"};
		struct headers out;

		setup();
		setenv("OTEL_PROPAGATORS", rows[i].list, 1);
		open_with(NULL, NULL);
		out = hop(in, true);
		cr_expect_eq(strstr(out.parent, "0af7651916cd43dd8448eb211c80319c") != NULL,
			     rows[i].trace, "%s", rows[i].list);
		cr_expect_eq(out.baggage[0] != 0, rows[i].baggage, "%s", rows[i].list);
		teardown();
	}
	setup();
}

Test(sampling, a_ratio_is_told_in_the_tracestate_of_what_it_sampled)
{
	int told = 0;

	open_with("parentbased_traceidratio", "0.5");
	for (int i = 0; i < 200; i++) {
		struct headers out = {.parent = ""};
		blix_span span = blix_span_begin(BLIX_NAME("r"), BLIX_INTERNAL, &root);

		blix_inject_span(span, set, &out);
		cr_expect_str_eq(out.state, blix_span_is_recorded(span) ? "ot=th:8" : "");
		/* The promise behind it: the low 56 bits are at or above the threshold. */
		cr_expect_eq((span.trace_id[9] & 0x80) != 0, blix_span_is_recorded(span));
		told += blix_span_is_recorded(span);
		blix_span_end(span);
	}
	cr_expect(told > 50 && told < 150, "%d", told);
}

/* ---- run-time control ------------------------------------------------------------------------- */

/* As the agent writes it: through the consumer's pages. */
static void control(const struct blix_control_setting *setting, uint32_t beat)
{
	struct file_records file = file_records_read(scratch.path);
	struct blix_view view = *blix_map_view(file.map);
	int fd = open(scratch.path, O_RDWR | O_CLOEXEC);
	uint8_t *base = mmap(NULL, view.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	cr_assert_neq(base, MAP_FAILED);
	view.base = base;
	view.consumer = base + view.consumer_off;
	if (setting)
		cr_assert_eq(blix_control_write(&view, setting), 0);
	blix_view_consumer(&view)->beat = beat;
	munmap(base, view.size);
	close(fd);
	file_records_free(&file);
}

static bool nothing_sampled(void *name)
{
	return sampled_of(name, 50) == 0;
}

static bool all_sampled(void *name)
{
	return sampled_of(name, 50) == 50;
}

Test(sampling, control_overrides_by_name_and_ends_by_itself, .timeout = 100)
{
	struct blix_control_setting setting = {
		.has_threshold = true,
		.threshold56 = BLIX_THRESHOLD_NEVER,
		.threshold_ticks = 4,
		.n_rules = 1,
		.rules = {{.ticks = 4, .threshold56 = 0, .glob = "raft.*"}},
	};

	open_with(NULL, NULL);
	(void)blix_name_of("raft.propose"); /* one name known before, one after */
	cr_assert(all_sampled("vm.start"));
	control(&setting, 1);
	cr_assert(scratch_wait(nothing_sampled, "vm.start", 20000));
	cr_expect(all_sampled("raft.propose"));
	cr_expect(all_sampled("raft.apply"));
	cr_expect(nothing_sampled("vm.stop"));
	cr_assert(scratch_wait(all_sampled, "vm.start", 20000));
	cr_expect(all_sampled("vm.stop"));
}

static bool log_is_off(void *unused)
{
	(void)unused;
	return !blix_log_is_on(BLIX_FATAL);
}

static bool log_is_on(void *unused)
{
	return !log_is_off(unused);
}

Test(sampling, control_sets_the_log_level_and_close_forgets_it, .timeout = 100)
{
	struct blix_control_setting setting = {
		.has_log_min = true, .log_min = 25, .log_min_ticks = 1000};

	open_with(NULL, NULL);
	cr_expect(log_is_on(NULL));
	control(&setting, 1);
	cr_assert(scratch_wait(log_is_off, NULL, 20000));
	blix_close();
	cr_expect(log_is_on(NULL));
}

Test(sampling, when_nobody_listens_control_is_forgotten, .timeout = 100)
{
	struct blix_control_setting setting = {.has_threshold = true,
					       .threshold56 = BLIX_THRESHOLD_NEVER,
					       .threshold_ticks = 1000};

	open_with(NULL, NULL);
	control(&setting, 1);
	cr_assert(scratch_wait(nothing_sampled, "x", 20000));
	cr_assert(scratch_wait(all_sampled, "x", 60000)); /* ten silent ticks later */
}
