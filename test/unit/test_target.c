/* Goal: a target shows exactly what the file holds, follows the file through its life, never mixes
 * two incarnations, and lets nothing that a file does stop the rest.
 * Method: files made by hand (test/support/shm_file.h) play the node; the loop is turned until a
 * condition holds or ten seconds have passed. */
#include "agent/disk.h"
#include "agent/input/drain.h"
#include "agent/input/node_shm.h"
#include "agent/input/target.h"
#include "agent/model/figures.h"
#include "shm/control.h"
#include "shm/atomic.h"
#include "shm/buckets.h"
#include "shm/control.h"
#include "shm/ring.h"
#include "test/support/record_bytes.h"
#include "test/support/shm_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char dir[64], path[96];
static struct event_base *base;
static struct shm_file *file;
static struct target *target;
static int state_changes, addresses, drains, lines;
static char address[160], last_line[1024];

static void state_changed(void *arg, struct target *t)
{
	(void)arg;
	(void)t;
	state_changes++;
}

static void address_known(void *arg, struct target *t, const char *grpc_address)
{
	(void)arg;
	(void)t;
	addresses++;
	snprintf(address, sizeof(address), "%s", grpc_address);
}

static void log_line(void *arg, struct target *t, enum target_log kind, const char *key,
		     const char *line)
{
	(void)arg;
	(void)t;
	(void)key;
	lines += kind == TARGET_LOG_STATE;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static void drain_began(void *arg, struct target *t)
{
	(void)arg;
	(void)t;
	drains++;
}

static const struct target_events events = {.state_changed = state_changed,
					    .address_known = address_known,
					    .drain_began = drain_began,
					    .log = log_line};

static void setup(void)
{
	strcpy(dir, "/dev/shm/blix-target-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/n1", dir);
	base = event_base_new();
}

static void teardown(void)
{
	target = target_free(target);
	file = shm_file_free(file);
	unlink(path);
	rmdir(dir);
}

TestSuite(target, .init = setup, .fini = teardown, .timeout = 30);

static struct target *start(uint32_t stale_after_s, uint32_t linger_s)
{
	struct target_options o = {
		.shm_path = path, .stale_after_s = stale_after_s, .linger_s = linger_s};
	struct target *t = NULL;

	cr_assert_eq(target_new(base, &o, &events, &t), 0);
	return t;
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void turn_once(void)
{
	struct timeval tick = {.tv_usec = 5000};

	event_base_loopexit(base, &tick);
	event_base_loop(base, 0);
}

/* Turn the loop until the condition, which may use `st`, the target's status, holds. */
#define EVENTUALLY(t, condition)                                                                   \
	do {                                                                                       \
		struct target_status st;                                                           \
		double deadline = now_s() + 10;                                                    \
		while (target_status((t), &st), !(condition) && now_s() < deadline)                \
			turn_once();                                                               \
		cr_assert(condition, "%s: node %s, file %s: %s", #condition,                       \
			  target_node_name(st.node), target_file_name(st.file), st.reason);        \
	} while (0)

/* ---- looking into a snapshot ----------------------------------------------------------------- */

static const struct snapshot_family *family_of(const struct snapshot *s, const char *name)
{
	for (uint32_t f = 0; f < snapshot_family_count(s); f++)
		if (strcmp(snapshot_family_at(s, f)->name, name) == 0)
			return snapshot_family_at(s, f);
	return NULL;
}

/* The series whose first label has this value (NULL: any), hidden or not. */
static const struct snapshot_series *any_series(const struct snapshot *s, const char *name,
						const char *value)
{
	for (uint32_t f = 0; f < snapshot_family_count(s); f++) {
		const struct snapshot_family *family = snapshot_family_at(s, f);

		for (uint32_t i = 0; strcmp(family->name, name) == 0 && i < family->n_series; i++) {
			const struct snapshot_series *x = snapshot_family_series(s, f, i);

			if (!value || (x->n_labels && strcmp(x->labels[0].value, value) == 0))
				return x;
		}
	}
	return NULL;
}

static bool is_shown(const struct snapshot *s, const char *name, const char *value)
{
	const struct snapshot_series *x = any_series(s, name, value);

	return x && !x->hidden && !family_of(s, name)->hidden;
}

static const uint64_t *values_of(const struct snapshot *s, const char *name, const char *value)
{
	const struct snapshot_series *x = any_series(s, name, value);

	cr_assert_not_null(x, "%s %s", name, value ? value : "");
	return snapshot_value_at(s, x->value);
}

static uint64_t value(struct target *t, const char *name, const char *label)
{
	return *values_of(target_collect(t), name, label);
}

static double number(struct target *t, const char *name)
{
	uint64_t bits = value(t, name, NULL);
	double d;

	memcpy(&d, &bits, sizeof(d));
	return d;
}

/* ---- the registry as families (node_shm) ----------------------------------------------------- */

static struct blix_map *map;
static struct snapshot *snap;
static struct node_shm *shm;

static void open_mapping(bool native)
{
	char reason[BLIX_REASON_MAX];

	cr_assert_eq(blix_map_open(path, &(struct blix_map_options){0}, &map, reason), 0, "%s",
		     reason);
	snap = snapshot_new();
	shm = node_shm_new(map, snap, native);
	cr_assert_not_null(shm);
}

static void close_mapping(void)
{
	cr_expect_null(node_shm_free(shm));
	snapshot_free(snap);
	blix_map_close(map);
}

Test(target, every_kind_of_metric_is_shown_with_its_values)
{
	uint32_t counter, updown, gauge, f64, ns;
	double half = 0.5, got;

	file = shm_file_new(path, NULL);
	counter = shm_file_series(
		file,
		shm_file_metric(file, &(struct shm_file_metric){.name = "blixard_x_requests_total",
								.kind = BLIX_COUNTER,
								.keys = {"method", "code"}}),
		"CreateVm", "OK");
	updown = shm_file_plain(
		file, shm_file_metric(file, &(struct shm_file_metric){.name = "blixard_x_open",
								      .kind = BLIX_UPDOWN}));
	gauge = shm_file_plain(
		file, shm_file_metric(file, &(struct shm_file_metric){.name = "blixard_raft_term",
								      .kind = BLIX_GAUGE,
								      .unit = "{term}"}));
	f64 = shm_file_plain(
		file, shm_file_metric(file, &(struct shm_file_metric){.name = "blixard_x_ratio",
								      .kind = BLIX_GAUGE_F64}));
	ns = shm_file_plain(file, shm_file_metric(file, &(struct shm_file_metric){
								.name = "blixard_x_seconds_total",
								.kind = BLIX_COUNTER,
								.unit = "s",
								.flags = BLIX_METRIC_STORED_NS}));
	shm_file_add(file, counter, 0, 5);
	shm_file_add(file, counter, 1, 7);
	shm_file_add(file, updown, 0, (uint64_t)-3);
	shm_file_add(file, updown, 1, 1);
	shm_file_set(file, gauge, -9);
	shm_file_set_f64(file, f64, half);
	shm_file_add(file, ns, 1, 1500000000);
	open_mapping(false);
	cr_assert_eq(node_shm_collect(shm), 0);

	cr_expect_eq(*values_of(snap, "blixard_x_requests_total", "CreateVm"), 12u);
	cr_expect_str_eq(any_series(snap, "blixard_x_requests_total", NULL)->text,
			 "method=\"CreateVm\",code=\"OK\"");
	cr_expect_eq((int64_t)*values_of(snap, "blixard_x_open", NULL), -2);
	cr_expect_eq((int64_t)*values_of(snap, "blixard_raft_term", NULL), -9);
	memcpy(&got, values_of(snap, "blixard_x_ratio", NULL), sizeof(got));
	cr_expect_eq(got, half);
	cr_expect_eq(*values_of(snap, "blixard_x_seconds_total", NULL), 1500000000u);

	cr_expect_eq(family_of(snap, "blixard_x_requests_total")->type, SNAPSHOT_COUNTER);
	cr_expect_eq(family_of(snap, "blixard_x_requests_total")->created_unix_ns,
		     blix_map_identity(map)->open_real_ns);
	cr_expect_eq(family_of(snap, "blixard_x_open")->type, SNAPSHOT_GAUGE);
	cr_expect_eq(family_of(snap, "blixard_x_open")->number, SNAPSHOT_I64);
	cr_expect_eq(family_of(snap, "blixard_x_seconds_total")->number, SNAPSHOT_NS);
	cr_expect_str_eq(family_of(snap, "blixard_raft_term")->alias, "raft_term");
	cr_expect_str_eq(family_of(snap, "blixard_raft_term")->help, "Help of blixard_raft_term.",
			 "help comes from the file");
	cr_expect_null(family_of(snap, "blixard_x_open")->alias);
	close_mapping();
}

Test(target, histograms_come_with_their_exponential_cells_on_request_only)
{
	const struct shm_file_metric m = {.name = "blixard_x_duration_seconds",
					  .kind = BLIX_HISTOGRAM,
					  .unit = "s",
					  .flags = BLIX_METRIC_STORED_NS | BLIX_METRIC_EXPONENTIAL,
					  .bounds = {1000000, 5000000},
					  .n_bounds = 2,
					  .exponential_cells = BLIX_EXP_CELLS};
	const uint64_t expected[] = {2, 1, 1, 1000000 + 1 + 2000000 + 9000000};
	struct shm_file_options o = {.format = {.cells = 1024}};
	uint32_t series;

	file = shm_file_new(path, &o);
	series = shm_file_plain(file, shm_file_metric(file, &m));
	shm_file_observe(file, series, 0, 1);
	shm_file_observe(file, series, 1, 1000000);
	shm_file_observe(file, series, 1, 2000000);
	shm_file_observe(file, series, 1, 9000000);
	shm_file_cell(file, series, 1, 4 + 17, 3); /* an exponential cell */
	for (int native = 0; native < 2; native++) {
		const struct snapshot_series *x;
		const uint64_t *v;

		open_mapping(native);
		cr_assert_eq(node_shm_collect(shm), 0);
		x = any_series(snap, m.name, NULL);
		v = snapshot_value_at(snap, x->value);
		for (int i = 0; i < 4; i++)
			cr_expect_eq(v[i], expected[i], "%d", i);
		cr_expect_eq(x->has_exponential, native);
		if (native)
			cr_expect_eq(v[4 + 17], 3u);
		cr_expect_str_eq(family_of(snap, m.name)->bounds->le[1], "0.005");
		close_mapping();
	}
}

Test(target, the_overflow_series_appears_with_its_first_value)
{
	uint32_t m, s;

	file = shm_file_new(path, NULL);
	m = shm_file_metric(file, &(struct shm_file_metric){.name = "blixard_x_total",
							    .kind = BLIX_COUNTER,
							    .keys = {"peer"}});
	s = shm_file_overflow(file, m);
	open_mapping(false);
	cr_assert_eq(node_shm_collect(shm), 0);
	cr_expect(!is_shown(snap, "blixard_x_total", NULL));
	shm_file_add(file, s, 0, 2);
	cr_assert_eq(node_shm_collect(shm), 0);
	cr_expect(is_shown(snap, "blixard_x_total", NULL));
	cr_expect_str_eq(any_series(snap, "blixard_x_total", NULL)->text,
			 "otel_metric_overflow=\"true\"");
	close_mapping();
}

Test(target, names_of_others_are_refused_and_counted)
{
	static const char *const foreign[] = {
		"blixard_host_cpu_seconds_total", /* the host's row */
		"blixard_node_up",		  /* the agent's row */
		"blixard_agent_export_items_total",
		"blixard_agent_anything_total", /* no row, but the agent's name space */
		"process_anything_total",
		"blixard_storage_fsync_errors_total", /* the probes' */
		"raft_proposals_total",		      /* an alias of the seed guide */
	};
	const uint32_t n = sizeof(foreign) / sizeof(foreign[0]);

	file = shm_file_new(path, NULL);
	for (uint32_t i = 0; i < n; i++)
		shm_file_plain(file, shm_file_metric(file, &(struct shm_file_metric){
								   .name = foreign[i],
								   .kind = BLIX_COUNTER}));
	shm_file_plain(file, shm_file_metric(file, &(struct shm_file_metric){
							   .name = "blixard_raft_proposals_total",
							   .kind = BLIX_COUNTER}));
	/* A gauge with the sample name that a counter owns in OpenMetrics. */
	shm_file_plain(file, shm_file_metric(file, &(struct shm_file_metric){
							   .name = "blixard_raft_proposals_created",
							   .kind = BLIX_GAUGE}));
	open_mapping(false);
	cr_assert_eq(node_shm_collect(shm), 0);
	cr_expect_eq(node_shm_counts(shm).metrics, 1u);
	cr_expect_eq(node_shm_counts(shm).series, 1u);
	cr_expect_eq(snapshot_family_count(snap), 1u);
	/* blixard_node_up is counted too: a counter of that name is nobody's. */
	cr_expect_eq(node_shm_counts(shm).refused + blix_map_rejected(map), n + 1);
	close_mapping();
}

Test(target, a_counter_that_falls_keeps_its_last_value_and_is_counted_once)
{
	uint32_t s;

	file = shm_file_new(path, NULL);
	s = shm_file_plain(
		file, shm_file_metric(file, &(struct shm_file_metric){.name = "blixard_x_total",
								      .kind = BLIX_COUNTER}));
	shm_file_add(file, s, 0, 10);
	open_mapping(false);
	cr_assert_eq(node_shm_collect(shm), 0);
	shm_file_cell(file, s, 0, 0, 4);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(node_shm_collect(shm), 0);
		cr_expect_eq(*values_of(snap, "blixard_x_total", NULL), 10u);
		cr_expect_eq(node_shm_counts(shm).regressions, 1u);
	}
	shm_file_cell(file, s, 0, 0, 11);
	cr_assert_eq(node_shm_collect(shm), 0);
	cr_expect_eq(*values_of(snap, "blixard_x_total", NULL), 11u);
	shm_file_cell(file, s, 0, 0, 1);
	cr_assert_eq(node_shm_collect(shm), 0);
	cr_expect_eq(node_shm_counts(shm).regressions, 2u, "another fall");
	close_mapping();
}

static uint64_t mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

Test(target, only_newer_exemplars_of_the_right_bucket_replace)
{
	const uint64_t now = mono_ns();
	const struct snapshot_exemplar *e;
	const struct snapshot_series *x;
	uint32_t s;

	file = shm_file_new(path, NULL);
	s = shm_file_plain(
		file, shm_file_metric(file, &(struct shm_file_metric){.name = "blixard_x_bytes",
								      .kind = BLIX_HISTOGRAM,
								      .unit = "By",
								      .bounds = {10, 20},
								      .n_bounds = 2}));
	shm_file_beat(file);
	shm_file_exemplar(file, s, 1, 15, now);
	shm_file_exemplar(file, s, 0, 15, now);			 /* 15 is not in the first bucket */
	shm_file_exemplar(file, s, 2, 99, now + 3600000000000u); /* from the future */
	open_mapping(false);
	cr_assert_eq(node_shm_collect(shm), 0);
	x = any_series(snap, "blixard_x_bytes", NULL);
	cr_assert_neq(x->exemplar, UINT32_MAX);
	e = snapshot_exemplar_at(snap, x->exemplar);
	cr_expect(!e[0].set);
	cr_expect(e[1].set);
	cr_expect(!e[2].set);
	cr_expect_eq(e[1].value, 15u);
	struct timespec real;
	clock_gettime(CLOCK_REALTIME, &real);
	cr_expect_float_eq((double)e[1].unix_ns * 1e-9, (double)real.tv_sec, 5.0);

	shm_file_exemplar(file, s, 1, 16, now - 1);
	cr_assert_eq(node_shm_collect(shm), 0);
	cr_expect_eq(snapshot_exemplar_at(snap, x->exemplar)[1].value, 15u, "never back in time");
	shm_file_exemplar(file, s, 1, 17, now + 1);
	cr_assert_eq(node_shm_collect(shm), 0);
	cr_expect_eq(snapshot_exemplar_at(snap, x->exemplar)[1].value, 17u);
	close_mapping();
}

Test(target, what_is_registered_later_appears_and_truncation_changes_nothing)
{
	uint32_t s;

	file = shm_file_new(path, NULL);
	open_mapping(false);
	cr_assert_eq(node_shm_collect(shm), 0);
	s = shm_file_plain(
		file, shm_file_metric(file, &(struct shm_file_metric){.name = "blixard_x_total",
								      .kind = BLIX_COUNTER}));
	shm_file_add(file, s, 0, 3);
	cr_assert_eq(node_shm_collect(shm), 0);
	cr_expect_eq(*values_of(snap, "blixard_x_total", NULL), 3u);
	cr_assert_eq(truncate(path, 4096), 0);
	cr_expect_eq(node_shm_collect(shm), -ENODATA);
	cr_expect_eq(*values_of(snap, "blixard_x_total", NULL), 3u);
	close_mapping();
	file = shm_file_forget(file);
}

/* ---- the life of a file ---------------------------------------------------------------------- */

/* A node with one counter and one gauge. */
static struct shm_file *make_node(uint64_t counted)
{
	struct shm_file *f = shm_file_new(path, &(struct shm_file_options){.node_id = 7});
	uint32_t c = shm_file_series(
		f,
		shm_file_metric(f, &(struct shm_file_metric){.name = "blixard_grpc_requests_total",
							     .kind = BLIX_COUNTER,
							     .keys = {"method"}}),
		"CreateVm");
	uint32_t g = shm_file_plain(
		f, shm_file_metric(f, &(struct shm_file_metric){.name = "blixard_raft_term",
								.kind = BLIX_GAUGE}));

	shm_file_add(f, c, 1, counted);
	shm_file_set(f, g, 3);
	return f;
}

#define COUNTER "blixard_grpc_requests_total"
#define GAUGE	"blixard_raft_term"

static bool state_is(const struct snapshot *s, const char *state)
{
	uint64_t ones = 0;

	for (int i = 0; i < TARGET_NODES; i++)
		ones += *values_of(s, "blixard_node_state", target_node_name((enum target_node)i));
	return ones == 1 && *values_of(s, "blixard_node_state", state) == 1;
}

Test(target, arguments_are_checked)
{
	struct target *t = NULL;
	struct target_options o = {.shm_path = ""};
	char *longest = malloc(6000);

	cr_expect_eq(target_new(base, &o, NULL, &t), -EINVAL);
	o.shm_path = NULL;
	cr_expect_eq(target_new(base, &o, NULL, &t), -EINVAL);
	o.shm_path = "/dev/shm/";
	cr_expect_eq(target_new(base, &o, NULL, &t), -EINVAL, "no file name");
	memset(longest, 'a', 5999);
	longest[5999] = '\0';
	o.shm_path = longest;
	cr_expect_eq(target_new(base, &o, NULL, &t), -EINVAL);
	cr_expect_null(t);
	cr_expect_null(target_free(NULL));
	free(longest);
}

Test(target, without_a_file_it_waits_and_serves_the_rest)
{
	const struct snapshot *s;

	target = start(10, 300);
	cr_expect_eq(state_changes + lines, 0, "nothing from within target_new");
	EVENTUALLY(target, st.reason[0] != '\0');
	s = target_collect(target);
	cr_expect(state_is(s, "waiting"));
	cr_expect_eq(*values_of(s, "blixard_node_up", NULL), 0u);
	cr_expect_eq(*values_of(s, "blixard_agent_shm_state", "waiting"), 1u);
	cr_expect(is_shown(s, "blixard_host_memory_total_bytes", NULL));
	cr_expect(is_shown(s, "process_cpu_seconds_total", NULL));
	cr_expect(!is_shown(s, "blixard_node_start_time_seconds", NULL));
	cr_expect_eq(lines, 1, "%s", last_line);
	for (int i = 0; i < 100; i++)
		turn_once();
	cr_expect_eq(lines, 1, "waiting is told once");
}

Test(target, a_file_that_appears_is_attached_and_names_its_address)
{
	double begin;

	rmdir(dir); /* the directory comes later, too */
	target = start(10, 300);
	turn_once();
	mkdir(dir, 0700);
	begin = now_s();
	file = make_node(5);
	EVENTUALLY(target, st.file == TARGET_FILE_ATTACHED);
	cr_expect_lt(now_s() - begin, 5.0);
	cr_expect_eq(addresses, 1);
	cr_expect_str_eq(address, "127.0.0.1:7001");
	EVENTUALLY(target, st.node_up && st.draining && st.node_id == 7 && st.incarnations == 1);
	cr_expect_eq(value(target, COUNTER, "CreateVm"), 5u);
	cr_expect_eq(value(target, GAUGE, NULL), 3u);
	cr_expect_eq(value(target, "blixard_node_up", NULL), 1u);
	cr_expect(state_is(target_collect(target), "live"));
	cr_expect_eq(value(target, "blixard_agent_shm_state", "attached"), 1u);
	cr_expect_eq(value(target, "blixard_node_info", "7"), 1u);
	cr_expect_gt(number(target, "blixard_node_start_time_seconds"), 1.6e9);
}

Test(target, a_refused_metric_is_counted_and_said)
{
	file = make_node(1);
	shm_file_plain(file,
		       shm_file_metric(file, &(struct shm_file_metric){.name = "process_x_total",
								       .kind = BLIX_COUNTER}));
	target = start(10, 300);
	EVENTUALLY(target, st.node_up);
	cr_expect_eq(value(target, COUNTER, "CreateVm"), 1u);
	cr_expect_not_null(strstr(last_line, "not shown"), "%s", last_line);
	EVENTUALLY(target, st.metrics_refused == 1 && st.metrics == 2 && st.series == 2);
	strcpy(last_line, "");
	target_collect(target);
	cr_expect_str_eq(last_line, "", "once");
}

Test(target, run_control_is_written_into_a_file_once_this_agent_drains_it)
{
	struct blix_control_setting nothing = {0}, read = {0};
	struct blix_control_setting something = {
		.has_log_min = true, .log_min = 9, .log_min_ticks = 1};
	const struct blix_map_options options = {0};
	char reason[BLIX_REASON_MAX];
	struct blix_map *other;
	uint32_t gen;

	target = start(10, 300);
	cr_expect_eq(target_control(target, &something), -ENOENT);
	cr_expect_eq(drains, 0);
	file = shm_file_new(path, NULL);
	EVENTUALLY(target, st.draining);
	cr_expect_eq(drains, 1);
	cr_assert_eq(blix_map_open(path, &options, &other, reason), 0, "%s", reason);
	cr_expect_eq(target_control(target, &nothing), 0);
	cr_expect_eq(blix_control_generation(blix_map_view(other)), 0, "nothing to take back");
	cr_expect_eq(target_control(target, &something), 0);
	cr_assert_eq(blix_control_read(blix_map_view(other), &read, &gen), 0);
	cr_expect_eq(memcmp(&read, &something, sizeof(read)), 0);
	cr_expect_eq(target_control(target, &nothing), 0);
	cr_expect_eq(blix_control_generation(blix_map_view(other)), gen + 2);
	something.log_min = 26;
	cr_expect_eq(target_control(target, &something), -EINVAL);
	blix_map_close(other);
}

Test(target, agent_facts_are_shown)
{
	static const struct figures outputs = {
		.n = 1, .pipes = {{.exporter = "otlp", .signal = "traces", .requests = 7}}};

	target = start(10, 300);
	target_set_agent_facts(target, &(struct agent_facts){.version = "1.2.3",
							     .listen_up = true,
							     .log_lines_dropped = 4,
							     .sampling_set = true,
							     .sampling_ratio = 0.25});
	cr_expect_eq(value(target, "blixard_agent_listen_up", NULL), 1u);
	cr_expect_eq(value(target, "blixard_agent_log_lines_dropped_total", NULL), 4u);
	cr_expect_eq(value(target, "blixard_agent_build_info", "1.2.3"), 1u);
	cr_expect(is_shown(target_collect(target), "blixard_agent_sampling_ratio", NULL));
	target_set_agent_facts(target, &(struct agent_facts){.log_lines_dropped = 5});
	cr_expect(!is_shown(target_collect(target), "blixard_agent_sampling_ratio", NULL));
	cr_expect_null(
		any_series(target_collect(target), "blixard_agent_export_items_total", NULL));
	target_set_agent_facts(target, &(struct agent_facts){.figures = &outputs});
	cr_expect_eq(value(target, "blixard_agent_export_requests_total", "otlp"), 7u);
	cr_expect_eq(value(target, "blixard_agent_build_info", "unknown"), 1u);
	cr_expect(!is_shown(target_collect(target), "blixard_agent_build_info", "1.2.3"));
}

/* Every agent row whose subject exists is there with every initial label value, and no other. */
Test(target, the_catalogue_and_the_agents_families_agree)
{
	const struct snapshot *s;

	target = start(10, 300);
	s = target_collect(target);
	for (const struct blix_metric *m = blix_metric_next(NULL); m; m = blix_metric_next(m)) {
		bool expected = m->owner != BLIX_OWNER_NODE;
		struct blix_labels labels;

		cr_expect_eq(family_of(s, m->name) != NULL, expected, "%s", m->name);
		blix_labels_begin(&labels, m->labels);
		while (expected && blix_labels_next(&labels)) {
			char first[64] = "";

			if (labels.n_keys)
				snprintf(first, sizeof(first), "%.*s", (int)labels.value_lens[0],
					 labels.values[0]);
			cr_expect_not_null(any_series(s, m->name, labels.n_keys ? first : NULL),
					   "%s %s", m->name, first);
		}
	}
	for (uint32_t f = 0; f < snapshot_family_count(s); f++) {
		const struct snapshot_family *family = snapshot_family_at(s, f);
		const struct blix_metric *m = blix_metric_find(family->name, strlen(family->name));

		cr_assert_not_null(m, "%s", family->name);
		cr_expect_leq(family->n_series, m->max_series, "%s", family->name);
	}
}

Test(target, a_dead_node_keeps_its_counters_for_the_linger_time_and_then_nothing)
{
	const struct snapshot *s;

	file = make_node(5);
	target = start(10, 2);
	EVENTUALLY(target, st.node_up);
	target_collect(target);
	shm_file_add(file, 0, 1, 37); /* after the last scrape */
	shm_file_abandon(file);
	EVENTUALLY(target, st.node == TARGET_NODE_DEAD);
	s = target_collect(target);
	cr_expect(state_is(s, "dead"));
	cr_expect_eq(*values_of(s, "blixard_node_up", NULL), 0u);
	cr_expect_eq(*values_of(s, COUNTER, "CreateVm"), 42u, "the final value");
	cr_expect(is_shown(s, COUNTER, "CreateVm"));
	cr_expect(!is_shown(s, GAUGE, NULL), "a gauge of a dead node says nothing");
	cr_expect_eq(*values_of(s, "blixard_agent_shm_state", "lingering"), 1u);
	EVENTUALLY(target, st.file == TARGET_FILE_DETACHED);
	s = target_collect(target);
	cr_expect(state_is(s, "dead"), "it does not become one that never was");
	cr_expect_null(any_series(s, COUNTER, NULL));
	cr_expect(is_shown(s, "blixard_host_memory_total_bytes", NULL));
	lines = 0;
	for (int i = 0; i < 300; i++) /* 1.5 s: the same file is not attached once more */
		turn_once();
	cr_expect_eq(lines, 0, "%s", last_line);
	EVENTUALLY(target, st.file == TARGET_FILE_DETACHED && st.incarnations == 1);
}

Test(target, a_closed_node_is_not_called_dead)
{
	file = make_node(5);
	target = start(10, 300);
	EVENTUALLY(target, st.node_up);
	shm_file_close(file);
	EVENTUALLY(target, st.node == TARGET_NODE_CLOSED && st.file == TARGET_FILE_LINGERING);
	cr_expect(state_is(target_collect(target), "closed"));
	cr_expect_eq(value(target, COUNTER, "CreateVm"), 5u);
}

Test(target, without_linger_the_counters_go_with_the_node)
{
	file = make_node(5);
	target = start(10, 0);
	EVENTUALLY(target, st.node_up);
	shm_file_abandon(file);
	EVENTUALLY(target, st.file == TARGET_FILE_DETACHED && st.node == TARGET_NODE_DEAD);
}

Test(target, a_new_incarnation_starts_from_zero)
{
	const struct snapshot *s;
	char aside[192];

	file = make_node(1000);
	target = start(10, 300);
	EVENTUALLY(target, st.node_up);
	cr_expect_eq(value(target, COUNTER, "CreateVm"), 1000u);
	shm_file_abandon(file);
	EVENTUALLY(target, st.node == TARGET_NODE_DEAD);
	snprintf(aside, sizeof(aside), "%s.o.0123456789abcdef0123456789abcdef", path);
	cr_assert_eq(rename(path, aside), 0);
	shm_file_forget(file);
	file = make_node(2);
	EVENTUALLY(target, st.node_up && st.incarnations == 2);
	s = target_collect(target);
	cr_expect_eq(*values_of(s, COUNTER, "CreateVm"), 2u);
	cr_expect(is_shown(s, GAUGE, NULL));
	cr_expect_eq(addresses, 2);
	cr_expect_eq(family_of(s, COUNTER)->created_unix_ns / 1000000000u,
		     (uint64_t)number(target, "blixard_node_start_time_seconds"));
	unlink(aside);
}

Test(target, a_restarted_agent_serves_the_same_final_values_for_the_rest_of_the_time)
{
	file = make_node(5);
	target = start(10, 4);
	EVENTUALLY(target, st.node_up);
	shm_file_abandon(file);
	EVENTUALLY(target, st.file == TARGET_FILE_LINGERING);
	target = target_free(target);
	target = start(10, 4);
	EVENTUALLY(target, st.file == TARGET_FILE_LINGERING);
	cr_expect_eq(value(target, COUNTER, "CreateVm"), 5u);
	cr_expect(!is_shown(target_collect(target), GAUGE, NULL));
	EVENTUALLY(target, st.file == TARGET_FILE_DETACHED);
}

/* The end is noted in the file, in a clock that the next agent shares. */
static void note_end(uint64_t mono_ns_of_end)
{
	char reason[BLIX_REASON_MAX];

	cr_assert_eq(
		blix_map_open(path, &(struct blix_map_options){.consumer = true}, &map, reason), 0,
		"%s", reason);
	blix_view_consumer(blix_map_view(map))->exit_ns = mono_ns_of_end;
	blix_map_close(map);
}

Test(target, the_linger_time_counts_from_the_end_and_not_from_the_agents_start)
{
	file = make_node(5);
	shm_file_abandon(file);
	note_end(mono_ns() - 100 * UINT64_C(1000000000));
	target = start(10, 60);
	EVENTUALLY(target, st.file == TARGET_FILE_DETACHED && st.node == TARGET_NODE_DEAD);
	target = target_free(target);
	target = start(10, 600);
	EVENTUALLY(target, st.file == TARGET_FILE_LINGERING);
	target = target_free(target);
	note_end(UINT64_MAX); /* a hostile time counts as now */
	target = start(10, 600);
	EVENTUALLY(target, st.file == TARGET_FILE_LINGERING);
}

Test(target, a_still_heart_is_hung_and_a_moving_one_live)
{
	file = make_node(5);
	target = start(1, 300);
	EVENTUALLY(target, st.node_up);
	EVENTUALLY(target, st.node == TARGET_NODE_HUNG && !st.node_up && st.reason[0]);
	cr_expect_eq(value(target, "blixard_node_up", NULL), 0u);
	cr_expect_eq(value(target, GAUGE, NULL), 3u, "it is still there");
	shm_file_beat(file);
	EVENTUALLY(target, st.node == TARGET_NODE_LIVE && st.node_up);
}

/* ---- files that are no good ------------------------------------------------------------------ */

static void write_file(const char *text, size_t len)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, len), (ssize_t)len);
	close(fd);
}

Test(target, a_stranger_is_refused_and_replaced_by_a_node)
{
	char junk[8192];

	memset(junk, 'x', sizeof(junk));
	write_file(junk, sizeof(junk));
	target = start(10, 300);
	EVENTUALLY(target, st.file == TARGET_FILE_REFUSED && st.reason[0] && !st.node_up);
	cr_expect(state_is(target_collect(target), "waiting"));
	cr_expect_eq(value(target, "blixard_agent_shm_state", "refused"), 1u);
	cr_expect(is_shown(target_collect(target), "blixard_host_memory_total_bytes", NULL));
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	char event[4096];
	lines = 0;
	cr_assert_geq(inotify_add_watch(fd, path, IN_OPEN), 0);
	for (int i = 0; i < 300; i++)
		turn_once();
	cr_expect_eq(lines, 0);
	cr_expect_eq(read(fd, event, sizeof(event)), -1, "opened again although it is the same");
	close(fd);
	unlink(path);
	EVENTUALLY(target, st.file == TARGET_FILE_WAITING);
	file = make_node(1);
	EVENTUALLY(target, st.node_up);
}

Test(target, a_newer_major_is_incompatible)
{
	file = make_node(1);
	blix_view_header(&file->view)->abi_major = BLIX_ABI_MAJOR + 1;
	shm_file_reseal(file);
	target = start(10, 300);
	EVENTUALLY(target, st.file == TARGET_FILE_INCOMPATIBLE && st.reason[0]);
	cr_expect_eq(value(target, "blixard_agent_shm_state", "incompatible"), 1u);
}

Test(target, a_file_truncated_under_it_is_quarantined_until_a_new_one_comes)
{
	file = make_node(5);
	target = start(10, 300);
	EVENTUALLY(target, st.node_up);
	cr_expect_eq(value(target, COUNTER, "CreateVm"), 5u);
	cr_assert_eq(truncate(path, 4096), 0);
	cr_expect_null(any_series(target_collect(target), COUNTER, NULL), "within this scrape");
	EVENTUALLY(target, st.file == TARGET_FILE_QUARANTINED && !st.node_up && st.reason[0]);
	cr_expect(is_shown(target_collect(target), "blixard_host_memory_total_bytes", NULL));
	unlink(path);
	shm_file_forget(file);
	file = make_node(6);
	EVENTUALLY(target, st.node_up);
	cr_expect_eq(value(target, COUNTER, "CreateVm"), 6u);
}

Test(target, a_stranger_beside_a_living_node_does_not_end_its_service)
{
	char aside[192];

	file = make_node(5);
	target = start(10, 300);
	EVENTUALLY(target, st.node_up);
	snprintf(aside, sizeof(aside), "%s.away", path);
	cr_assert_eq(rename(path, aside), 0);
	write_file("squatter", 8);
	lines = 0;
	for (int i = 0; i < 300; i++) {
		shm_file_beat(file);
		turn_once();
	}
	cr_expect_eq(lines, 0, "no state changed: %s", last_line);
	cr_expect_not_null(strstr(last_line, "something else"), "but it is said: %s", last_line);
	EVENTUALLY(target, st.node_up);
	cr_expect_eq(value(target, COUNTER, "CreateVm"), 5u);
	unlink(aside);
}

/* ---- the consumer's side --------------------------------------------------------------------- */

static void write_records(uint32_t lane, uint16_t type, uint32_t n)
{
	struct blix_ring_writer writer;
	uint64_t body[16] = {0};

	shm_file_own_lane(file, lane, (uint32_t)getpid(), 1);
	cr_assert_eq(blix_ring_writer_init(&writer, &file->view, lane), 0);
	for (uint32_t i = 0; i < n; i++)
		cr_assert_eq(blix_ring_write(
				     &writer,
				     &(struct blix_ring_entry){
					     .type = type, .n_words = 16, .t_ns = 1, .body = body},
				     true),
			     BLIX_DROP_NONE);
}

Test(target, records_are_counted_by_kind_and_acknowledged)
{
	file = make_node(1);
	write_records(1, BLIX_REC_SPAN, 30);
	target = start(10, 300);
	EVENTUALLY(target, st.records_spans == 30);
	write_records(1, BLIX_REC_LOG, 20);
	write_records(1, BLIX_REC_MARK, 1);
	write_records(1, 77, 2);
	EVENTUALLY(target, st.records_logs == 20 && st.records_marks == 1 &&
				   st.records_unknown == 2 && st.records_lost == 0);
	cr_expect_eq(blix_ring_fill(&file->view, 1).unacknowledged_bytes, 0u);
	cr_expect_eq(value(target, "blixard_agent_ring_records_total", "span"), 30u);
	cr_expect_eq(value(target, "blixard_agent_ring_records_total", "unknown"), 2u);
	cr_expect_gt(number(target, "blixard_agent_ring_used_ratio"), 0.0,
		     "the peak of the minute, not the present");
}

Test(target, a_restarted_agent_goes_on_behind_what_was_acknowledged)
{
	file = make_node(1);
	write_records(1, BLIX_REC_SPAN, 5);
	target = start(10, 300);
	EVENTUALLY(target, st.records_spans == 5);
	target = target_free(target);
	write_records(1, BLIX_REC_SPAN, 3);
	target = start(10, 300);
	EVENTUALLY(target, st.records_spans == 3 && st.records_lost == 0);
}

Test(target, drops_that_the_node_counted_are_shown_by_reason)
{
	file = make_node(1);
	shm_file_own_lane(file, 1, (uint32_t)getpid(), 1);
	blix_ring_count_drop(&file->view, 1, BLIX_DROP_LOG, BLIX_DROP_FULL);
	blix_ring_count_drop(&file->view, 0, BLIX_DROP_LOG, BLIX_DROP_FULL);
	shm_file_own_lane(file, 0, (uint32_t)getpid(), 1);
	target = start(10, 300);
	EVENTUALLY(target, st.node_up);
	cr_expect_eq(value(target, "blixard_agent_ring_dropped_total", "log"), 2u);
	cr_expect_eq(value(target, "blixard_agent_ring_dropped_total", "span"), 0u);
}

Test(target, it_beats_while_it_drains_and_says_when_it_will_be_back)
{
	struct blix_consumer *consumer;
	uint32_t beat;

	file = make_node(1);
	consumer = blix_view_consumer(&file->view);
	consumer->flags = BLIX_CONSUMER_BACK_SOON;
	target = start(10, 300);
	EVENTUALLY(target, st.draining);
	cr_expect_eq(blix_load_relaxed(&consumer->flags), 0u, "it is back");
	cr_expect_eq(blix_load_relaxed(&consumer->agent_pid), (uint32_t)getpid());
	beat = blix_load_relaxed(&consumer->beat);
	EVENTUALLY(target, blix_load_relaxed(&consumer->beat) - beat >= 3);
	beat = blix_load_relaxed(&consumer->beat);
	target = target_free(target);
	cr_expect_eq(blix_load_relaxed(&consumer->flags), (uint32_t)BLIX_CONSUMER_BACK_SOON);
	cr_expect_neq(blix_load_relaxed(&consumer->beat), beat, "so that the node looks");
}

Test(target, a_second_agent_stands_by_serves_and_takes_over)
{
	struct target *second;

	file = make_node(9);
	target = start(10, 300);
	EVENTUALLY(target, st.draining);
	second = start(10, 300);
	EVENTUALLY(second, st.file == TARGET_FILE_STANDBY && st.node_up && !st.draining);
	cr_expect_eq(value(second, COUNTER, "CreateVm"), 9u);
	cr_expect_eq(value(second, "blixard_agent_shm_state", "standby"), 1u);
	write_records(1, BLIX_REC_SPAN, 4);
	EVENTUALLY(target, st.records_spans == 4);
	target = target_free(target);
	EVENTUALLY(second, st.draining && st.file == TARGET_FILE_ATTACHED);
	write_records(1, BLIX_REC_SPAN, 2);
	EVENTUALLY(second, st.records_spans == 2);
	target = second;
}

Test(target, a_damaged_lane_is_given_up_and_the_others_go_on)
{
	struct blix_ring *ring;

	file = make_node(1);
	shm_file_own_lane(file, 1, (uint32_t)getpid(), 1);
	ring = blix_view_ring(&file->view, 1);
	memset(blix_view_ring_data(&file->view, 1), 7, 1024);
	target = start(10, 300);
	EVENTUALLY(target, st.draining);
	for (uint64_t i = 1; i <= BLIX_RING_CORRUPT_MAX; i++) {
		blix_store_release(&ring->tail, i * 64);
		EVENTUALLY(target, st.records_corrupt == i);
	}
	EVENTUALLY(target, st.lanes_quarantined == 1 && st.node_up);
	cr_expect_eq(value(target, "blixard_agent_shm_quarantined_lanes", NULL), 1u);
	cr_expect_eq(value(target, "blixard_agent_shm_corrupt_records_total", NULL),
		     (uint64_t)BLIX_RING_CORRUPT_MAX);
	write_records(0, BLIX_REC_SPAN, 4);
	EVENTUALLY(target, st.records_spans == 4);
	cr_expect_eq(value(target, COUNTER, "CreateVm"), 1u);
}

Test(target, what_was_overwritten_unread_is_counted_lost)
{
	struct blix_ring_writer writer;
	uint64_t body[16] = {0}, written = 1000;
	struct target_status seen;

	file = make_node(1);
	shm_file_own_lane(file, 1, (uint32_t)getpid(), 1);
	cr_assert_eq(blix_ring_writer_init(&writer, &file->view, 1), 0);
	for (uint64_t i = 0; i < written; i++) /* nobody listens: the oldest give way */
		blix_ring_write(
			&writer,
			&(struct blix_ring_entry){
				.type = BLIX_REC_LOG, .n_words = 16, .t_ns = 1, .body = body},
			false);
	target = start(10, 300);
	EVENTUALLY(target, st.records_logs > 0 && st.records_logs + st.records_lost == written);
	target_status(target, &seen);
	cr_expect_gt(seen.records_lost, 0u);
	cr_expect_lt(seen.records_logs, 16384u / 152 + 1, "no more than the ring holds");
}

Test(target, one_agent_drains_and_only_with_write_permission)
{
	struct drain_totals totals = {0};
	struct blix_map *first, *second, *reader;
	struct drain *d = NULL, *refused = NULL;
	char reason[BLIX_REASON_MAX];
	struct blix_map_options writes = {.consumer = true}, reads = {0};
	struct batch_resource *who = batch_resource_new();

	file = make_node(1);
	cr_assert_eq(blix_map_open(path, &writes, &first, reason), 0);
	cr_assert_eq(blix_map_open(path, &writes, &second, reason), 0);
	cr_assert_eq(blix_map_open(path, &reads, &reader, reason), 0);
	cr_expect_eq(drain_new(reader, who, NULL, &totals, &refused), -EBADF);
	cr_assert_eq(drain_new(first, who, NULL, &totals, &d), 0);
	cr_expect_eq(drain_new(second, who, NULL, &totals, &refused), -EBUSY);
	cr_expect_null(refused);
	cr_expect_null(drain_free(d, false));
	blix_map_close(first);
	cr_assert_eq(drain_new(second, who, NULL, &totals, &d), 0);
	drain_free(d, false);
	cr_expect_null(drain_free(NULL, true));
	batch_resource_release(who);
	blix_map_close(second);
	blix_map_close(reader);
}

Test(target, a_dead_nodes_rings_are_emptied_and_the_file_marked_done)
{
	char reason[BLIX_REASON_MAX];

	file = make_node(1);
	write_records(1, BLIX_REC_SPAN, 50);
	shm_file_abandon(file);
	target = start(10, 300);
	EVENTUALLY(target, st.records_spans == 50 && st.node == TARGET_NODE_DEAD);
	for (int i = 0; i < 150; i++)
		turn_once();
	target = target_free(target);
	cr_assert_eq(
		blix_map_open(path, &(struct blix_map_options){.consumer = true}, &map, reason), 0,
		"%s", reason);
	cr_expect(blix_view_consumer(blix_map_view(map))->flags & BLIX_CONSUMER_DONE);
	cr_expect_neq(blix_view_consumer(blix_map_view(map))->exit_ns, 0u);
	blix_map_close(map);
}

Test(target, what_the_disk_thread_finds_is_shown)
{
	struct shm_file_options o = {.data_dir = "/proc"};
	struct target_options to = {.shm_path = path, .linger_s = 300};
	char orphan[192];

	file = shm_file_new(path, &o);
	snprintf(orphan, sizeof(orphan), "%s.o.0123456789abcdef0123456789abcdef", path);
	close(open(orphan, O_CREAT | O_WRONLY, 0600));
	cr_assert_eq(disk_new(base, 8, &to.disk), 0);
	cr_assert_eq(target_new(base, &to, &events, &target), 0);
	EVENTUALLY(target, st.orphans == 1);
	EVENTUALLY(target,
		   is_shown(target_collect(target), "blixard_host_filesystem_size_bytes", "/proc"));
	cr_expect_eq(value(target, "blixard_agent_orphans_pending", NULL), 1u);
	target = target_free(target);
	disk_free(to.disk, 1000);
	unlink(orphan);
}

/* ---- batches --------------------------------------------------------------------------------- */

static struct batch *got[64];
static uint32_t n_got;

static void keep_batch(void *arg, struct target *t, struct batch *b)
{
	(void)arg;
	(void)t;
	cr_assert_lt(n_got, 64u);
	got[n_got++] = b;
}

static struct target *start_wanting(bool traces, bool logs)
{
	struct target_options o = {.shm_path = path,
				   .linger_s = 300,
				   .wants_traces = traces,
				   .wants_logs = logs,
				   .spans_delay_ms = 20,
				   .logs_delay_ms = 20};
	struct target_events e = events;
	struct target *t = NULL;

	e.batch = keep_batch;
	cr_assert_eq(target_new(base, &o, &e, &t), 0);
	return t;
}

static void release_all(void)
{
	while (n_got > 0)
		batch_release(got[--n_got]);
}

static struct blix_ring_writer lane1;

/* One span of lane 1 with one attribute. */
static void write_span(uint64_t n)
{
	static struct record_bytes r;
	uint64_t now = (uint64_t)(now_s() * 1e9);

	r.len = 0;
	record_span(&r, n, shm_file_string(file, "GetVm"), now);
	record_text(&r, BLIX_ITEM_STRING, shm_file_string(file, "vm.name"), "web-1");
	cr_assert_eq(record_write(&lane1, BLIX_REC_SPAN, 0, now, &r, true), BLIX_DROP_NONE);
}

static void own_lane1(void)
{
	shm_file_own_lane(file, 1, (uint32_t)getpid(), 1);
	blix_ring_writer_init(&lane1, &file->view, 1);
}

static uint64_t head_of_lane1(void)
{
	const struct blix_consumer_lane *lane = blix_view_consumer_lane(&file->view, 1);

	return lane->ack[lane->sel & 1].head;
}

Test(target, spans_arrive_as_a_sealed_batch_and_stay_in_the_ring_until_it_is_freed)
{
	file = make_node(1);
	own_lane1();
	for (uint64_t i = 1; i <= 3; i++)
		write_span(i);
	target = start_wanting(true, false);
	EVENTUALLY(target, n_got == 1);
	cr_assert_eq(got[0]->n, 3);
	cr_expect(got[0]->sealed);
	cr_expect_eq(got[0]->signal, BATCH_TRACES);
	cr_expect_eq(got[0]->n_origins, 1);
	cr_expect_eq(got[0]->origins[0].lane, 1);
	cr_expect_eq(got[0]->origins[0].first_seq, 0);
	cr_expect_eq(got[0]->origins[0].last_seq, 2);
	cr_expect_eq(got[0]->spans[2].attrs.n, 1);
	cr_expect(memcmp(got[0]->spans[2].attrs.at[0].value.text, "web-1", 5) == 0);
	for (int i = 0; i < 20; i++)
		turn_once();
	cr_expect_eq(head_of_lane1(), 0, "nobody answers for them yet");
	release_all();
	cr_expect_eq(head_of_lane1(), lane1.tail);
}

Test(target, what_was_not_released_is_read_again_by_the_next_agent)
{
	file = make_node(1);
	own_lane1();
	for (uint64_t i = 1; i <= 5; i++)
		write_span(i);
	target = start_wanting(true, false);
	EVENTUALLY(target, n_got == 1);
	target = target_free(target);
	cr_expect_eq(got[0]->spans[0].name.len, 5, "a batch outlives the target");
	release_all();
	cr_expect_eq(head_of_lane1(), 0);
	target = start_wanting(true, false);
	EVENTUALLY(target, n_got == 1 && got[0]->n == 5);
	release_all();
	cr_expect_eq(head_of_lane1(), lane1.tail);
}

Test(target, an_abandoned_batch_stays_in_the_ring)
{
	file = make_node(1);
	own_lane1();
	write_span(1);
	target = start_wanting(true, false);
	EVENTUALLY(target, n_got == 1);
	batch_abandon(got[--n_got]);
	write_span(2);
	EVENTUALLY(target, n_got == 1);
	release_all();
	cr_expect_eq(head_of_lane1(), 0);
}

Test(target, a_flush_hands_over_what_is_open)
{
	struct target_options o = {.shm_path = path, .wants_traces = true, .linger_s = 300};
	struct target_events e = events;

	file = make_node(1);
	own_lane1();
	write_span(1);
	e.batch = keep_batch;
	cr_assert_eq(target_new(base, &o, &e, &target), 0);
	EVENTUALLY(target, st.records_spans == 1);
	cr_expect_eq(n_got, 0, "its five seconds are not over");
	target_flush(target);
	cr_expect_eq(n_got, 1);
	release_all();
}

Test(target, a_full_batch_is_cut_and_nothing_is_lost_between_batches)
{
	uint32_t spans = 0;

	file = make_node(1);
	own_lane1();
	target = start_wanting(true, false);
	for (uint64_t n = 1; n <= 1300;) {
		for (int i = 0; i < 20; i++)
			write_span(n++);
		EVENTUALLY(target, st.records_spans == n - 1);
		for (uint32_t i = 0; i < n_got; i++)
			spans += got[i]->n;
		release_all();
	}
	target_flush(target);
	for (uint32_t i = 0; i < n_got; i++)
		spans += got[i]->n;
	release_all();
	cr_expect_eq(spans, 1300);
	cr_expect_eq(head_of_lane1(), lane1.tail);
}

/* Among the batches that are held: the only crashed span and the only log. */
static const struct batch_span *crashed_span(const struct batch_log **ret_log)
{
	const struct batch_span *found = NULL;
	uint32_t n = 0, spans = 0;

	*ret_log = NULL;
	for (uint32_t b = 0; b < n_got; b++)
		for (uint32_t i = 0; i < got[b]->n; i++) {
			if (got[b]->signal == BATCH_LOGS) {
				*ret_log = &got[b]->logs[i];
				continue;
			}
			spans++;
			n += got[b]->spans[i].crashed;
			if (got[b]->spans[i].crashed)
				found = &got[b]->spans[i];
		}
	return n == 1 && spans == 2 ? found : NULL;
}

Test(target, spans_left_open_by_a_dead_node_are_delivered_once_as_crashed)
{
	const struct batch_span *crashed;
	const struct batch_log *log;
	char reason[BLIX_REASON_MAX];

	file = make_node(7);
	own_lane1();
	write_span(1);
	record_open_span(file, 1, 99, shm_file_string(file, "StartVm"), 1000, NULL);
	shm_file_abandon(file);
	target = start_wanting(true, true);
	EVENTUALLY(target, (crashed = crashed_span(&log)) && log);
	cr_expect_eq(crashed->status, 2);
	cr_expect(crashed->priority);
	cr_expect(memcmp(log->body.at, "node 7 died, 1 span open", 24) == 0, "%.*s",
		  (int)log->body.len, log->body.at);
	cr_assert_eq(blix_map_open(path, &(struct blix_map_options){0}, &map, reason), 0);
	cr_expect_not(drain_is_done(map), "not before it was released");
	release_all();
	EVENTUALLY(target, drain_is_done(map));
	target = target_free(target);
	target = start_wanting(true, true);
	EVENTUALLY(target, st.node == TARGET_NODE_DEAD);
	for (int i = 0; i < 100; i++)
		turn_once();
	cr_expect_eq(n_got, 0, "done is done");
	blix_map_close(map);
}

static bool is_done(const char *of)
{
	char reason[BLIX_REASON_MAX];
	struct blix_map *m;
	bool done;

	cr_assert_eq(blix_map_open(of, &(struct blix_map_options){0}, &m, reason), 0, "%s", reason);
	done = drain_is_done(m);
	blix_map_close(m);
	return done;
}

Test(target, a_node_that_keeps_dying_gives_each_span_once_however_late_it_is_acknowledged)
{
	enum { DEATHS = 4 };
	char aside[DEATHS][192];

	target = start_wanting(true, false);
	for (uint32_t i = 0; i <= DEATHS; i++) {
		file = make_node(i);
		own_lane1();
		write_span(i + 1);
		EVENTUALLY(target, n_got == i + 1);
		if (i == DEATHS)
			break;
		shm_file_abandon(file);
		snprintf(aside[i], sizeof(aside[i]), "%s.o.%031d%u", path, 0, i);
		cr_assert_eq(rename(path, aside[i]), 0);
		shm_file_forget(file);
	}
	for (uint32_t i = 0; i < DEATHS; i++)
		cr_expect_not(is_done(aside[i]), "nobody answered for it yet");
	release_all();
	for (uint32_t i = 0; i < DEATHS; i++)
		EVENTUALLY(target, is_done(aside[i]));
	cr_expect_eq(n_got, 0, "none of them came again");
	for (uint32_t i = 0; i < DEATHS; i++)
		unlink(aside[i]);
}

Test(target, open_spans_are_shown_by_name_and_age_and_crashed_ones_counted)
{
	struct target_open_span spans[TARGET_OPEN_SPANS_MAX];
	uint64_t now = (uint64_t)(now_s() * 1e9);
	uint32_t total = 0;

	file = make_node(7);
	own_lane1();
	record_open_span(file, 1, 5, shm_file_string(file, "StartVm"), now - 3000000000, NULL);
	record_open_span(file, 0, 6, shm_file_string(file, "StartVm"), now - 7000000000, NULL);
	write_span(1);
	target = start_wanting(true, false);
	EVENTUALLY(target, n_got == 1);
	cr_expect_eq(value(target, "blixard_span_open", "StartVm"), 2u);
	cr_expect_eq(value(target, "blixard_agent_ring_unacknowledged_items", "span"), 1u);
	cr_assert_eq(target_open_spans(target, spans, TARGET_OPEN_SPANS_MAX, &total), 2u);
	cr_expect_eq(total, 2u);
	cr_expect_str_eq(spans[0].name, "StartVm");
	cr_expect_eq(spans[0].span_id[0], 6, "the oldest first");
	cr_expect(spans[0].age_s >= 7 && spans[0].age_s < 60);
	cr_expect_eq(target_open_spans(target, spans, 1, &total), 1u);
	release_all();
	cr_expect_eq(value(target, "blixard_agent_ring_unacknowledged_items", "span"), 0u);
	shm_file_abandon(file);
	EVENTUALLY(target, value(target, "blixard_agent_spans_crashed_total", NULL) == 2);
	cr_expect_not(is_shown(target_collect(target), "blixard_span_open", "StartVm"));
	cr_expect_eq(target_open_spans(target, spans, 20, &total), 0u);
	release_all();
}

Test(target, the_resource_is_there_while_a_file_is_attached)
{
	struct batch_resource *r;

	target = start(10, 300);
	cr_expect_null(target_resource(target));
	file = make_node(7);
	EVENTUALLY(target, st.node_up);
	r = target_resource(target);
	cr_assert_not_null(r);
	cr_expect_eq(r->node_id, 7u);
	cr_expect_eq(r->service_instance_id.len, strlen("test/7"));
}

Test(target, an_orphan_is_emptied_and_recovered_once)
{
	struct target_options o = {.shm_path = path, .wants_traces = true, .spans_delay_ms = 20};
	struct target_events e = events;
	char orphan[256], reason[BLIX_REASON_MAX];
	struct disk *disk = NULL;

	cr_assert_eq(disk_new(base, 16, &disk), 0);
	file = make_node(7);
	own_lane1();
	write_span(1);
	record_open_span(file, 1, 99, shm_file_string(file, "StartVm"), 1000, NULL);
	snprintf(orphan, sizeof(orphan), "%s.o.00112233445566778899aabbccddeeff", path);
	shm_file_abandon(file);
	cr_assert_eq(rename(path, orphan), 0);
	e.batch = keep_batch;
	o.disk = disk;
	cr_assert_eq(target_new(base, &o, &e, &target), 0);
	EVENTUALLY(target, n_got > 0 && st.records_spans == 1 &&
				   value(target, "blixard_agent_spans_crashed_total", NULL) == 1);
	cr_expect_eq(value(target, "blixard_agent_orphans_pending", NULL), 1u);
	cr_assert_eq(blix_map_open(orphan, &(struct blix_map_options){0}, &map, reason), 0);
	cr_expect_not(drain_is_done(map));
	release_all();
	EVENTUALLY(target, drain_is_done(map) && st.orphans == 0);
	map = blix_map_close(map);
	unlink(orphan);
	target = target_free(target);
	disk_free(disk, 1000);
	cr_expect_eq(n_got, 0, "told once");
}

Test(target, an_orphan_whose_batch_was_given_up_is_tried_again)
{
	struct target_options o = {.shm_path = path, .wants_traces = true, .spans_delay_ms = 20};
	struct target_events e = events;
	char orphan[256], reason[BLIX_REASON_MAX];
	struct disk *disk = NULL;

	cr_assert_eq(disk_new(base, 16, &disk), 0);
	file = make_node(7);
	own_lane1();
	write_span(1);
	snprintf(orphan, sizeof(orphan), "%s.o.00112233445566778899aabbccddeeff", path);
	shm_file_abandon(file);
	cr_assert_eq(rename(path, orphan), 0);
	e.batch = keep_batch;
	o.disk = disk;
	cr_assert_eq(target_new(base, &o, &e, &target), 0);
	EVENTUALLY(target, n_got == 1);
	batch_abandon(got[--n_got]);
	turn_once();
	EVENTUALLY(target, st.orphans == 1);
	cr_assert_eq(blix_map_open(orphan, &(struct blix_map_options){0}, &map, reason), 0);
	cr_expect_not(drain_is_done(map));
	EVENTUALLY(target, n_got == 1);
	cr_expect_eq(got[0]->n, 1, "the same span again");
	release_all();
	EVENTUALLY(target, drain_is_done(map) && st.orphans == 0);
	map = blix_map_close(map);
	unlink(orphan);
	target = target_free(target);
	disk_free(disk, 1000);
}

Test(target, what_could_not_be_decoded_is_counted_by_reason)
{
	static struct record_bytes r;
	uint32_t key;

	file = make_node(1);
	own_lane1();
	key = shm_file_string(file, "vm.name");
	record_span(&r, 1, shm_file_string(file, "GetVm"), 1000);
	record_text(&r, BLIX_ITEM_STRING, key, "first");
	record_text(&r, BLIX_ITEM_STRING, key, "\xff");
	record_put(&r, "\x01\x02\x03\x04\xff\xff\xff\xff",
		   8); /* a head that leads beyond the end */
	cr_assert_eq(record_write(&lane1, BLIX_REC_SPAN, 0, 1000, &r, true), BLIX_DROP_NONE);
	r.len = 0;
	record_put(&r, &(struct blix_span_body){.kind = 1}, sizeof(struct blix_span_body));
	cr_assert_eq(record_write(&lane1, BLIX_REC_SPAN, 0, 1000, &r, true), BLIX_DROP_NONE);
	target = start_wanting(true, false);
	EVENTUALLY(target,
		   st.records_spans == 2 && st.records_refused == 1 && st.records_damaged == 1);
	cr_expect_eq(value(target, "blixard_agent_decode_problems_total", "refused"), 1u);
	cr_expect_eq(value(target, "blixard_agent_decode_problems_total", "damaged"), 1u);
	cr_expect_eq(value(target, "blixard_agent_decode_problems_total", "repaired"), 1u);
	cr_expect_eq(value(target, "blixard_agent_decode_problems_total", "overwritten"), 1u);
	cr_expect_eq(value(target, "blixard_agent_decode_problems_total", "no_memory"), 0u);
	EVENTUALLY(target, n_got == 1);
	cr_expect_eq(got[0]->n, 1u);
	release_all();
}
