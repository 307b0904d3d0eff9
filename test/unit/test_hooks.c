/* Goal: the library does what its header says, at every stage of its life, and what it records is
 * what a reader finds.
 * Method: real files in a scratch directory, read back by the validating reader (shm/map.h). Each
 * test is a process of its own; other processes are forked before anything is open. */
#include "node-hooks/blixard_hooks.h"
#include "shm/map.h"
#include "shm/metric.h"
#include "test/support/scratch.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct scratch scratch;

static void setup(void)
{
	unsetenv("OTEL_SERVICE_NAME");
	unsetenv("OTEL_RESOURCE_ATTRIBUTES");
	unsetenv("OTEL_EXPORTER_OTLP_ENDPOINT");
	unsetenv("BLIXARD_HISTOGRAMS");
	scratch = scratch_new(NULL);
}

static void teardown(void)
{
	scratch_remove(&scratch);
}

TestSuite(hooks, .init = setup, .fini = teardown);

/* ---- looking at the file -------------------------------------------------------------------- */

static const struct blix_identity small = {
	.node_id = 7, .lanes = 4, .ring_bytes = 16 << 10, .slots = 2};

static void must_open(void)
{
	int err = blix_open(scratch.path, &small);

	cr_assert_eq(err, 0, "%s: %s", strerror(-err), blix_status().reason);
}

static struct blix_map *look(void)
{
	char reason[BLIX_REASON_MAX] = "";
	struct blix_map *map = NULL;
	int err = blix_map_open(scratch.path, &(struct blix_map_options){0}, &map, reason);

	cr_assert_eq(err, 0, "%s: %s", strerror(-err), reason);
	cr_assert_eq(blix_map_refresh(map), 0);
	cr_assert_eq(blix_map_rejected(map), 0u);
	return map;
}

/* The series of a metric whose first label value is `value` (NULL: no labels; "*": overflow). */
static const struct blix_map_series *find(const struct blix_map *map, const char *name,
					  const char *value)
{
	for (uint32_t i = 0; i < blix_map_series_count(map); i++) {
		const struct blix_map_series *s = blix_map_series(map, i);
		const struct blix_map_metric *m = blix_map_metric(map, s->metric);

		if (strcmp(m->name, name) == 0 && s->overflow == (value && *value == '*') &&
		    (!value || s->overflow || strcmp(s->label_values[0], value) == 0))
			return s;
	}
	cr_assert_fail("no series %s{%s}", name, value ? value : "");
	return NULL;
}

static uint64_t cell(const struct blix_map *map, uint32_t index)
{
	static uint64_t sums[BLIX_CAP_CELLS];

	blix_map_sum_cells(map, sums, BLIX_CAP_CELLS);
	return sums[index];
}

static uint64_t value_of(const char *name, const char *label)
{
	struct blix_map *map = look();
	const struct blix_map_series *s = find(map, name, label);
	uint64_t value = s->gauge_idx == BLIX_NO_ID ? cell(map, s->first_cell)
						    : blix_map_gauge(map, s->gauge_idx);

	blix_map_close(map);
	return value;
}

static uint64_t stat_of(enum blix_stat stat)
{
	struct blix_map *map = look();
	uint64_t value = blix_map_stat(map, stat);

	blix_map_close(map);
	return value;
}

static uint32_t metric(const char *name, enum blix_metric_kind kind, const char *key,
		       uint32_t max_series)
{
	struct blix_metric_spec spec = {.name = name,
					.help = "Made by a test.",
					.unit = "",
					.kind = kind,
					.max_series = max_series};
	uint32_t slot = 0;

	spec.label_keys = &key;
	spec.n_label_keys = key ? 1 : 0;
	if (kind == BLIX_KIND_HISTOGRAM)
		spec.unit = "s";
	cr_assert_eq(blix_metric_register(&spec, &slot), 0, "%s", name);
	return slot;
}

/* ---- life ------------------------------------------------------------------------------------ */

Test(hooks, handles_work_while_a_file_is_open_and_do_nothing_otherwise)
{
	blix_counter counter = blix_counter_of(BLIX_raft_proposals_total);
	blix_counter labelled = blix_counter_of(BLIX_grpc_requests_total, "CreateVm");
	blix_gauge gauge = blix_gauge_of(BLIX_raft_term);
	blix_histogram histogram = blix_histogram_of(BLIX_raft_proposal_duration_seconds);

	for (int life = 0; life < 3; life++) {
		blix_add(counter, 1000); /* nothing is open */
		blix_set(gauge, 1000);
		blix_observe_ns(histogram, 1000);
		blix_heartbeat();
		must_open();
		blix_add(counter, 3);
		blix_add(counter, 4);
		blix_add(labelled, 5);
		blix_set(gauge, 6);
		blix_observe_ns(histogram, 1);
		cr_expect_eq(value_of("blixard_raft_proposals_total", NULL), 7u);
		cr_expect_eq(value_of("blixard_grpc_requests_total", "CreateVm"), 5u);
		cr_expect_eq(value_of("blixard_raft_term", NULL), 6u);
		cr_expect_eq(value_of("blixard_raft_proposal_duration_seconds", NULL), 1u,
			     "first bucket");
		blix_close();
		blix_add(counter, 1000);
		blix_set(gauge, 1000);
		cr_expect_eq(value_of("blixard_raft_proposals_total", NULL), 7u,
			     "late calls go nowhere");
		cr_expect_eq(value_of("blixard_raft_term", NULL), 6u);
	}
}

Test(hooks, after_a_failed_open_everything_does_nothing_and_a_later_open_works)
{
	blix_counter counter = blix_counter_of(BLIX_raft_proposals_total);
	char absent[128];

	snprintf(absent, sizeof(absent), "%s/absent/blix1", scratch.dir);
	cr_assert_eq(blix_open(absent, &small), -ENOENT);
	blix_add(counter, 1);
	must_open();
	blix_add(counter, 2);
	cr_expect_eq(value_of("blixard_raft_proposals_total", NULL), 2u);
}

Test(hooks, status_and_reason_follow_the_life_of_the_library)
{
	struct blix_report s = blix_status();

	cr_expect_eq(s.state, BLIX_STATUS_OFF);
	cr_expect_eq(s.error, 0);
	cr_expect_eq(blix_open("/dev/shm/", &small), -EINVAL);
	s = blix_status();
	cr_expect_eq(s.state, BLIX_STATUS_FAILED);
	cr_expect_eq(s.error, -EINVAL);
	cr_expect(strstr(s.reason, "path"), "%s", s.reason);
	must_open();
	s = blix_status();
	cr_expect_eq(s.state, BLIX_STATUS_ON);
	cr_expect_eq(s.error, 0);
	cr_expect_str_empty(s.reason);
	cr_expect_str_empty(s.warning);
	cr_expect_eq(s.ring_bytes, 16u << 10);
	cr_expect_eq(s.lanes, 4u);
	cr_expect_eq(blix_open(scratch.path, &small), -EALREADY);
	cr_expect_eq(blix_status().state, BLIX_STATUS_ON, "what is open stays open");
	blix_close();
	cr_expect_eq(blix_status().state, BLIX_STATUS_CLOSED);
	blix_close();
	cr_expect_eq(blix_status().state, BLIX_STATUS_CLOSED);
}

Test(hooks, every_documented_errno_has_advice_of_its_own)
{
	static const int documented[] = {EALREADY, EINVAL, EBUSY,      EEXIST, ENOSPC, EACCES,
					 EROFS,	   ENOENT, EOPNOTSUPP, ENOMEM, ECHILD};
	const char *other = blix_strerror(-12345);

	cr_expect_neq(other[0], '\0');
	for (size_t i = 0; i < sizeof(documented) / sizeof(documented[0]); i++) {
		cr_expect_str_neq(blix_strerror(-documented[i]), other, "%d", documented[i]);
		for (size_t j = 0; j < i; j++)
			cr_expect_str_neq(blix_strerror(-documented[i]),
					  blix_strerror(-documented[j]));
	}
	cr_expect_str_eq(blix_strerror(-ENOTDIR), blix_strerror(-ENOENT));
}

static void expect_refused(const struct blix_identity *identity, const char *field)
{
	cr_expect_eq(blix_open(scratch.path, identity), -EINVAL, "%s", field);
	cr_expect(strstr(blix_status().reason, field), "%s: %s", field, blix_status().reason);
	cr_expect_eq(scratch_count(&scratch, "blix", NULL, 0), 0);
}

Test(hooks, each_field_out_of_range_is_einval_and_named)
{
	char text[400];

	memset(text, 't', sizeof(text));
	text[64] = '\0';
	expect_refused(&(struct blix_identity){.cluster = text}, "cluster");
	expect_refused(&(struct blix_identity){.service_name = text}, "service_name");
	expect_refused(&(struct blix_identity){.service_version = text}, "service_version");
	text[64] = 't';
	text[128] = '\0';
	expect_refused(&(struct blix_identity){.grpc_address = text}, "grpc_address");
	text[128] = 't';
	text[256] = '\0';
	expect_refused(&(struct blix_identity){.data_dir = text}, "data_dir");
	expect_refused(&(struct blix_identity){.cluster = "a\nb"}, "cluster");
	expect_refused(&(struct blix_identity){.cluster = "\xff"}, "cluster");
	expect_refused(&(struct blix_identity){.ring_bytes = 8 << 10}, "ring_bytes");
	expect_refused(&(struct blix_identity){.ring_bytes = 48 << 10}, "ring_bytes");
	expect_refused(&(struct blix_identity){.ring_bytes = 128 << 20}, "ring_bytes");
	expect_refused(&(struct blix_identity){.lanes = 1025}, "lanes");
	expect_refused(&(struct blix_identity){.cells = 65537}, "cells");
	expect_refused(&(struct blix_identity){.slots = 4097}, "slots");
	expect_refused(&(struct blix_identity){.histograms = 3}, "histograms");
	expect_refused(&(struct blix_identity){.reserved = {0, 1}}, "reserved");
	expect_refused(&(struct blix_identity){.resource_attributes = "novalue"},
		       "resource_attributes");
	expect_refused(&(struct blix_identity){.resource_attributes = "=v"}, "resource_attributes");
	expect_refused(&(struct blix_identity){.resource_attributes = "k=%4"},
		       "resource_attributes");
	expect_refused(&(struct blix_identity){.resource_attributes = "k=%zz"},
		       "resource_attributes");
	expect_refused(&(struct blix_identity){.resource_attributes = "k=%00"},
		       "resource_attributes");
	expect_refused(&(struct blix_identity){.resource_attributes = "k=%ff"},
		       "resource_attributes");
	expect_refused(&(struct blix_identity){.lanes = 1024, .ring_bytes = 64 << 20}, "too large");
	cr_expect_eq(blix_open(NULL, &small), -EINVAL);
}

Test(hooks, texts_at_their_limit_are_taken_whole)
{
	char cluster[64] = "";
	char address[128] = "";
	struct blix_identity identity = small;
	struct blix_map *map;

	memset(cluster, 'c', sizeof(cluster) - 1);
	memset(address, 'a', sizeof(address) - 1);
	identity.cluster = cluster;
	identity.grpc_address = address;
	identity.data_dir = "/var/lib/blixard";
	identity.service_name = "svc";
	identity.service_version = "1.2.3";
	cr_assert_eq(blix_open(scratch.path, &identity), 0, "%s", blix_status().reason);
	map = look();
	cr_expect_str_eq(blix_map_identity(map)->cluster, cluster);
	cr_expect_str_eq(blix_map_identity(map)->grpc_address, address);
	cr_expect_str_eq(blix_map_identity(map)->data_dir, "/var/lib/blixard");
	cr_expect_str_eq(blix_map_identity(map)->service_name, "svc");
	cr_expect_str_eq(blix_map_identity(map)->version, "1.2.3");
	cr_expect_eq(blix_map_identity(map)->node_id, 7u);
	blix_map_close(map);
}

/* ---- the errnos of blix_open ---------------------------------------------------------------- */

/* Run `body` in a child; its return value, or 255 if it died. */
static int in_child(int (*body)(void))
{
	int wait_status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(body());
	cr_assert_eq(waitpid(pid, &wait_status, 0), pid);
	return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 255;
}

static int open_for_errno(void)
{
	return -blix_open(scratch.path, &small);
}

Test(hooks, a_path_held_by_a_live_node_is_ebusy)
{
	int ready[2];
	int done[2];
	char byte = 0;
	pid_t pid;

	cr_assert(pipe(ready) == 0 && pipe(done) == 0);
	pid = fork();
	if (pid == 0) {
		int err = blix_open(scratch.path, &small);

		close(done[1]);
		(void)!write(ready[1], &byte, err == 0);
		close(ready[1]);
		(void)!read(done[0], &byte, 1);
		_exit(0);
	}
	close(ready[1]);
	close(done[0]);
	cr_assert_eq(read(ready[0], &byte, 1), 1);
	cr_expect_eq(blix_open(scratch.path, &small), -EBUSY);
	cr_expect(strstr(blix_status().reason, "running node"), "%s", blix_status().reason);
	close(done[1]);
	waitpid(pid, NULL, 0);
	must_open(); /* and its name is free once it is gone */
	cr_expect_eq(scratch_count(&scratch, "blix1.o.", NULL, 0), 1);
}

Test(hooks, a_name_taken_by_something_else_is_eexist)
{
	cr_assert_eq(mkdir(scratch.path, 0700), 0);
	cr_expect_eq(blix_open(scratch.path, &small), -EEXIST);
	cr_expect(strstr(blix_status().reason, "directory"), "%s", blix_status().reason);
	rmdir(scratch.path);
	cr_assert_eq(symlink("/dev/null", scratch.path), 0);
	cr_expect_eq(blix_open(scratch.path, &small), -EEXIST);
}

static int open_within_file_limit(void)
{
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){.rlim_cur = 4096, .rlim_max = 4096});
	return open_for_errno();
}

static __attribute__((unused)) int open_within_address_space(void)
{
	struct blix_identity large = {.lanes = 64, .ring_bytes = 16 << 20};

	setrlimit(RLIMIT_AS, &(struct rlimit){.rlim_cur = 512 << 20, .rlim_max = 512 << 20});
	return -blix_open(scratch.path, &large);
}

static int open_without_rights(void)
{
	if (setuid(65534) != 0)
		return EACCES;
	return open_for_errno();
}

Test(hooks, what_the_surroundings_lack_is_told_by_errno)
{
	char path[128];

	cr_expect_eq(in_child(open_within_file_limit), ENOSPC);
#ifndef __SANITIZE_ADDRESS__ /* it needs more address space than any limit leaves */
	cr_expect_eq(in_child(open_within_address_space), ENOMEM);
#endif
	cr_assert_eq(chmod(scratch.dir, 0755), 0);
	cr_expect_eq(in_child(open_without_rights), EACCES);
	cr_expect_eq(blix_open("/proc/blix1", &small), -EOPNOTSUPP);
	cr_expect_eq(blix_open("/dev/null/blix1", &small), -ENOTDIR);
	snprintf(path, sizeof(path), "%s/absent/blix1", scratch.dir);
	cr_expect_eq(blix_open(path, &small), -ENOENT);
	cr_expect_eq(scratch_count(&scratch, "blix", NULL, 0), 0);
}

static int open_in_forked_child(void)
{
	return blix_status().state == BLIX_STATUS_FORKED ? open_for_errno() : 0;
}

Test(hooks, a_forked_child_of_a_recording_process_gets_echild)
{
	must_open();
	cr_expect_eq(in_child(open_in_forked_child), ECHILD);
	cr_expect_eq(blix_status().state, BLIX_STATUS_ON);
}

Test(hooks, a_child_forked_while_nothing_is_open_may_record)
{
	blix_counter_of(BLIX_raft_proposals_total);
	cr_expect_eq(in_child(open_for_errno), 0);
	must_open();
	blix_close();
	cr_expect_eq(in_child(open_for_errno), 0);
}

/* ---- how a process ends --------------------------------------------------------------------- */

static int record_and_exit(void)
{
	if (blix_open(scratch.path, &small) < 0)
		return 1;
	blix_add(blix_counter_of(BLIX_raft_proposals_total), 11);
	exit(0);
}

static int record_and_vanish(void)
{
	if (blix_open(scratch.path, &small) < 0)
		return 1;
	blix_add(blix_counter_of(BLIX_raft_proposals_total), 12);
	_exit(0);
}

static int record_and_close(void)
{
	if (blix_open(scratch.path, &small) < 0)
		return 1;
	blix_close();
	_exit(0);
}

static void expect_end(int (*body)(void), uint32_t state, uint64_t proposals)
{
	struct blix_map_life life;
	struct blix_map *map;

	cr_assert_eq(in_child(body), 0);
	map = look();
	blix_map_life(map, &life);
	cr_expect_eq(life.state, state);
	cr_expect_eq(blix_map_owner_state(map), BLIX_OWNER_GONE);
	cr_expect_eq(cell(map, find(map, "blixard_raft_proposals_total", NULL)->first_cell),
		     proposals);
	blix_map_close(map);
}

Test(hooks, the_file_tells_exit_from_close_and_from_death)
{
	expect_end(record_and_exit, BLIX_STATE_EXITED, 11);
	expect_end(record_and_vanish, BLIX_STATE_LIVE, 12);
	expect_end(record_and_close, BLIX_STATE_CLOSED, 0);
}

Test(hooks, an_open_file_is_live_owned_and_beats)
{
	struct blix_map_life first;
	struct blix_map_life later;
	struct blix_map *map;

	must_open();
	map = look();
	cr_expect_eq(blix_map_owner_state(map), BLIX_OWNER_ALIVE);
	blix_map_life(map, &first);
	cr_expect_eq(first.state, (uint32_t)BLIX_STATE_LIVE);
	cr_expect_gt(first.alive_beat, 0u);
	cr_expect_eq(first.app_beat, 0u);
	for (int waited_ms = 0; waited_ms < 5000; waited_ms += 10) {
		usleep(10000);
		blix_map_life(map, &later);
		if (later.alive_beat != first.alive_beat)
			break;
	}
	cr_expect_gt(later.alive_beat, first.alive_beat);
	cr_expect_gt(later.pair_mono_ns, first.pair_mono_ns);
	blix_heartbeat();
	blix_map_life(map, &later);
	cr_expect_eq(later.app_beat, 1u);
	blix_map_close(map);
}

/* ---- series ---------------------------------------------------------------------------------- */

Test(hooks, wrong_slots_kinds_and_values_yield_handles_that_record_nowhere)
{
	blix_counter nothing[4];

	must_open();
	nothing[0] = blix_counter_of(BLIX_grpc_requests_total);
	nothing[1] = blix_counter_of(BLIX_grpc_requests_total, "CreateVm", "extra");
	nothing[2] = blix_counter_of(BLIX_raft_term);
	nothing[3] = blix_counter_of(999999);
	for (int i = 0; i < 4; i++) {
		cr_expect_eq(nothing[i].cell, 0u, "%d", i);
		blix_add(nothing[i], 1);
	}
	cr_expect_eq(blix_gauge_of(BLIX_raft_proposals_total).index, 0u);
	cr_expect_eq(blix_histogram_of(BLIX_raft_term).cell, 0u);
	cr_expect_eq(blix_updown_of(BLIX_raft_proposals_total).cell, 0u);
	blix_set(blix_gauge_of(BLIX_raft_proposals_total), 5);
	blix_observe_ns(blix_histogram_of(BLIX_raft_term), 5);
	cr_expect_eq(stat_of(BLIX_STAT_LABEL_MISMATCH), 2u);
	cr_expect_eq(stat_of(BLIX_STAT_UNKNOWN_SLOT), 7u);
}

Test(hooks, the_zero_handle_of_every_kind_records_nowhere)
{
	static uint64_t before[BLIX_CAP_CELLS];
	static uint64_t after[BLIX_CAP_CELLS];
	struct blix_map *map;

	must_open();
	map = look();
	blix_map_sum_cells(map, before, BLIX_CAP_CELLS);
	blix_add((blix_counter){0}, 1);
	blix_updown((blix_updown_counter){0}, 1);
	blix_sig_add((blix_counter){0}, 1);
	blix_observe((blix_histogram){0}, 1);
	blix_observe_ns((blix_histogram){0}, 1);
	blix_set((blix_gauge){0}, 1);
	blix_set_f64((blix_gauge){0}, 1);
	blix_map_sum_cells(map, after, BLIX_CAP_CELLS);
	cr_expect_eq(memcmp(before + 1, after + 1, sizeof(before) - sizeof(before[0])), 0,
		     "cell 0 is void");
	for (uint32_t i = 1; i < blix_map_view(map)->n_gauges; i++)
		cr_assert_eq(blix_map_gauge(map, i), 0u);
	blix_map_close(map);
}

Test(hooks, the_same_values_yield_the_same_handle_across_open_and_close)
{
	blix_counter before = blix_counter_of(BLIX_grpc_requests_total, "CreateVm");
	blix_counter during;

	must_open();
	during = blix_counter_of(BLIX_grpc_requests_total, "CreateVm");
	cr_expect_eq(during.cell, before.cell);
	cr_expect_neq(blix_counter_of(BLIX_grpc_requests_total, "StopVm").cell, before.cell);
	blix_close();
	cr_expect_eq(blix_counter_of(BLIX_grpc_requests_total, "CreateVm").cell, before.cell);
}

Test(hooks, beyond_max_series_the_overflow_series_counts)
{
	uint32_t slot = metric("test_things_total", BLIX_KIND_COUNTER, "thing", 2);
	char value[16];

	must_open();
	for (int i = 0; i < 10; i++) {
		snprintf(value, sizeof(value), "%d", i);
		blix_add(blix_counter_of(slot, value), 1);
	}
	cr_expect_eq(value_of("test_things_total", "0"), 1u);
	cr_expect_eq(value_of("test_things_total", "1"), 1u);
	cr_expect_eq(value_of("test_things_total", "*"), 8u);
	cr_expect_eq(stat_of(BLIX_STAT_SERIES_OVERFLOW), 8u);
}

Test(hooks, metrics_of_the_program_work_like_those_of_the_catalogue)
{
	uint32_t before = metric("test_before_total", BLIX_KIND_COUNTER, NULL, 0);
	uint32_t after;
	struct blix_map *map;

	must_open();
	map = look(); /* a reader that was there first sees the newcomer as well */
	after = metric("test_after", BLIX_KIND_UPDOWN, "key", 0);
	cr_expect_eq(metric("test_before_total", BLIX_KIND_COUNTER, NULL, 0), before);
	blix_add(blix_counter_of(before), 5);
	blix_updown(blix_updown_of(after, "v"), 5);
	blix_updown(blix_updown_of(after, "v"), -7);
	cr_assert_eq(blix_map_refresh(map), 0);
	cr_expect_eq(cell(map, find(map, "test_before_total", NULL)->first_cell), 5u);
	cr_expect_eq((int64_t)cell(map, find(map, "test_after", "v")->first_cell), -2);
	cr_expect_str_eq(blix_map_metric(map, find(map, "test_after", "v")->metric)->help,
			 "Made by a test.");
	blix_map_close(map);
}

Test(hooks, registering_reports_its_errnos)
{
	struct blix_metric_spec spec = {.name = "with space", .kind = BLIX_KIND_GAUGE};
	char name[32];
	uint32_t slot = 1;
	int err = 0;

	cr_expect_eq(blix_metric_register(&spec, &slot), -EINVAL);
	cr_expect_eq(blix_metric_register(NULL, &slot), -EINVAL);
	spec.name = "blixard_raft_term";
	cr_expect_eq(blix_metric_register(&spec, &slot), -EEXIST);
	cr_expect_eq(slot, 1u, "written on success only");
	spec.name = name;
	for (int i = 0; i < 1000 && err == 0; i++) {
		snprintf(name, sizeof(name), "g%d", i);
		err = blix_metric_register(&spec, &slot);
	}
	cr_expect_eq(err, -ENOSPC);
}

/* ---- values ---------------------------------------------------------------------------------- */

Test(hooks, gauges_convert_between_integer_and_floating_point)
{
	static const struct {
		double from;
		int64_t to;
	} cases[] = {
		{1.9, 1},
		{-1.9, -1},
		{NAN, 0},
		{INFINITY, INT64_MAX},
		{-INFINITY, INT64_MIN},
		{1e300, INT64_MAX},
		{0x1p63, INT64_MAX},
		{-0x1p63, INT64_MIN},
		{0x1p62, INT64_C(1) << 62},
	};
	uint32_t f64_slot = metric("test_ratio", BLIX_KIND_GAUGE_F64, NULL, 0);
	blix_gauge integer = blix_gauge_of(BLIX_raft_term);
	blix_gauge real = blix_gauge_of(f64_slot);
	uint64_t bits;
	double value;

	must_open();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		blix_set_f64(integer, cases[i].from);
		cr_expect_eq((int64_t)value_of("blixard_raft_term", NULL), cases[i].to, "case %zu",
			     i);
	}
	blix_set(integer, -5);
	cr_expect_eq((int64_t)value_of("blixard_raft_term", NULL), -5);
	blix_set_f64(real, 0.25);
	bits = value_of("test_ratio", NULL);
	memcpy(&value, &bits, sizeof(value));
	cr_expect_eq(value, 0.25);
	blix_set(real, -3);
	bits = value_of("test_ratio", NULL);
	memcpy(&value, &bits, sizeof(value));
	cr_expect_eq(value, -3.0);
}

Test(hooks, each_bound_belongs_to_the_bucket_below_it)
{
	blix_histogram h = blix_histogram_of(BLIX_raft_proposal_duration_seconds);
	const struct blix_map_series *s;
	const struct blix_map_metric *m;
	struct blix_map *map;
	uint64_t sum = 0;
	uint32_t n;

	must_open();
	map = look();
	s = find(map, "blixard_raft_proposal_duration_seconds", NULL);
	m = blix_map_metric(map, s->metric);
	n = m->layout->n_bounds;
	cr_assert_eq(s->n_cells, n + 2);
	cr_expect_eq(s->n_exemplars, n + 1);
	for (uint32_t i = 0; i < n; i++) {
		blix_observe_ns(h, m->layout->bounds[i]);
		blix_observe_ns(h, m->layout->bounds[i] + 1);
		sum += 2 * m->layout->bounds[i] + 1;
	}
	cr_expect_eq(cell(map, s->first_cell), 1u, "the first bound itself");
	for (uint32_t i = 1; i < n; i++)
		cr_expect_eq(cell(map, s->first_cell + i), 2u, "bucket %u", i);
	cr_expect_eq(cell(map, s->first_cell + n), 1u, "+Inf");
	cr_expect_eq(cell(map, s->first_cell + n + 1), sum);
	blix_map_close(map);
}

Test(hooks, values_in_other_units_use_their_own_bounds)
{
	const uint64_t bounds[] = {100, 1000};
	struct blix_metric_spec spec = {.name = "test_size_bytes",
					.unit = "By",
					.kind = BLIX_KIND_HISTOGRAM,
					.bounds = bounds,
					.n_bounds = 2};
	const struct blix_map_series *s;
	struct blix_map *map;
	blix_histogram h;
	uint32_t slot;

	cr_assert_eq(blix_metric_register(&spec, &slot), 0);
	h = blix_histogram_of(slot);
	must_open();
	blix_observe(h, 100);
	blix_observe(h, 101);
	blix_observe(h, 5000);
	map = look();
	s = find(map, "test_size_bytes", NULL);
	for (uint32_t i = 0; i < 3; i++)
		cr_expect_eq(cell(map, s->first_cell + i), 1u);
	cr_expect_eq(cell(map, s->first_cell + 3), 5201u);
	blix_map_close(map);
}

static void expect_exponential(bool expected, const char *how)
{
	const struct blix_map_series *s;
	struct blix_map *map = look();
	uint32_t n;

	blix_observe_ns(blix_histogram_of(BLIX_raft_proposal_duration_seconds), 0);
	blix_observe_ns(blix_histogram_of(BLIX_raft_proposal_duration_seconds),
			UINT64_C(4096000000001));
	s = find(map, "blixard_raft_proposal_duration_seconds", NULL);
	n = blix_map_metric(map, s->metric)->layout->n_bounds;
	cr_expect_eq((blix_map_identity(map)->flags & BLIX_FLAG_HISTOGRAMS_BOTH) != 0, expected,
		     "%s", how);
	cr_expect_eq(s->n_cells, n + 2 + (expected ? 259u : 0u), "%s", how);
	if (expected) {
		cr_expect_eq(cell(map, s->first_cell + n + 2), 1u, "zero cell");
		cr_expect_eq(cell(map, s->first_cell + n + 2 + 258), 1u, "over cell");
	}
	blix_map_close(map);
}

Test(hooks, exponential_cells_on_request_of_the_program)
{
	struct blix_identity identity = small;

	identity.histograms = 2;
	cr_assert_eq(blix_open(scratch.path, &identity), 0);
	expect_exponential(true, "histograms = 2");
}

Test(hooks, exponential_cells_on_request_of_the_environment)
{
	setenv("BLIXARD_HISTOGRAMS", "both", 1);
	blix_histogram_of(BLIX_raft_proposal_duration_seconds);
	must_open();
	cr_expect_str_empty(blix_status().warning);
	expect_exponential(true, "environment");
}

Test(hooks, the_program_overrules_the_environment)
{
	struct blix_identity identity = small;

	setenv("BLIXARD_HISTOGRAMS", "both", 1);
	identity.histograms = 1;
	cr_assert_eq(blix_open(scratch.path, &identity), 0);
	expect_exponential(false, "histograms = 1");
}

Test(hooks, histograms_resolved_in_another_form_keep_it_with_a_warning)
{
	struct blix_identity identity = small;
	blix_histogram early = blix_histogram_of(BLIX_raft_proposal_duration_seconds);

	identity.histograms = 2;
	cr_assert_eq(blix_open(scratch.path, &identity), 0);
	cr_expect(strstr(blix_status().warning, "BLIXARD_HISTOGRAMS"), "%s", blix_status().warning);
	cr_expect_eq(early.flags, 0);
	cr_expect_eq(blix_histogram_of(BLIX_raft_proposal_duration_seconds).flags, 0);
	cr_expect_eq(blix_histogram_of(BLIX_vm_create_duration_seconds).flags, 1);
}

Test(hooks, updates_from_signal_handlers_join_the_sum)
{
	blix_counter c = blix_counter_of(BLIX_raft_proposals_total);

	must_open();
	blix_sig_add(c, 3);
	blix_add(c, 4);
	cr_expect_eq(value_of("blixard_raft_proposals_total", NULL), 7u);
}

extern void blix_add_by_symbol(blix_counter counter, uint64_t n) __asm__("blix_add");

Test(hooks, the_inline_call_is_also_a_symbol)
{
	blix_counter c = blix_counter_of(BLIX_raft_proposals_total);

	blix_add_by_symbol(c, 1);
	must_open();
	blix_add_by_symbol(c, 2);
	blix_add_by_symbol(c, 3);
	cr_expect_eq(value_of("blixard_raft_proposals_total", NULL), 5u);
}

static void record_everything(void)
{
	blix_add(blix_counter_of(BLIX_raft_proposals_total), 1);
	blix_updown((blix_updown_counter){.cell = 1}, 1);
	blix_sig_add((blix_counter){.cell = 1}, 1);
	blix_set(blix_gauge_of(BLIX_raft_term), 1);
	blix_set_f64(blix_gauge_of(BLIX_raft_term), NAN);
	blix_observe_ns(blix_histogram_of(BLIX_raft_proposal_duration_seconds), 1);
	blix_heartbeat();
}

static void *record_on_a_thread(void *unused)
{
	errno = 4242;
	record_everything();
	cr_expect_eq(errno, 4242);
	return unused;
}

Test(hooks, recording_keeps_errno_at_every_stage)
{
	struct blix_identity one_lane = small;
	pthread_t thread;

	one_lane.lanes = 1; /* so that taking a lane fails */
	errno = 4242;
	record_everything();
	cr_expect_eq(errno, 4242);
	cr_assert_eq(blix_open(scratch.path, &one_lane), 0);
	errno = 4242;
	record_everything();
	record_everything();
	cr_expect_eq(errno, 4242);
	cr_assert_eq(pthread_create(&thread, NULL, record_on_a_thread, NULL), 0);
	pthread_join(thread, NULL);
	blix_close();
	errno = 4242;
	record_everything();
	cr_expect_eq(errno, 4242);
}

/* ---- threads --------------------------------------------------------------------------------- */

static void *add_thousand(void *arg)
{
	for (int i = 0; i < 1000; i++)
		blix_add(*(blix_counter *)arg, 1);
	return NULL;
}

static void run_thread(void *(*body)(void *), void *arg)
{
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, body, arg), 0);
	pthread_join(thread, NULL);
}

Test(hooks, a_thread_that_exits_leaves_its_lane_and_its_counts)
{
	blix_counter c = blix_counter_of(BLIX_raft_proposals_total);
	struct blix_map_lanes lanes;
	struct blix_map *map;

	must_open();
	for (uint64_t i = 1; i <= 20; i++) {
		run_thread(add_thousand, &c);
		cr_assert_eq(value_of("blixard_raft_proposals_total", NULL), i * 1000);
	}
	map = look();
	blix_map_lanes(map, &lanes);
	cr_expect_eq(lanes.owned, 0u);
	cr_expect_eq(lanes.never, 2u, "lane 0 and one other of four");
	cr_expect_eq(blix_map_stat(map, BLIX_STAT_LANE0_CLAIMS), 0u);
	blix_map_close(map);
}

struct crowd {
	blix_counter counter;
	pthread_barrier_t all_in;
	pthread_barrier_t all_done;
};

static void *add_in_a_crowd(void *arg)
{
	struct crowd *crowd = arg;

	pthread_barrier_wait(&crowd->all_in);
	add_thousand(&crowd->counter);
	pthread_barrier_wait(&crowd->all_done);
	return NULL;
}

Test(hooks, threads_without_a_lane_share_lane_0_and_lose_nothing)
{
	struct crowd crowd = {.counter = blix_counter_of(BLIX_raft_proposals_total)};
	pthread_t threads[16];

	must_open(); /* three lanes beside lane 0 */
	pthread_barrier_init(&crowd.all_in, NULL, 16);
	pthread_barrier_init(&crowd.all_done, NULL, 16);
	for (int i = 0; i < 16; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, add_in_a_crowd, &crowd), 0);
	for (int i = 0; i < 16; i++)
		pthread_join(threads[i], NULL);
	cr_expect_eq(value_of("blixard_raft_proposals_total", NULL), 16000u);
	cr_expect_eq(stat_of(BLIX_STAT_LANE0_CLAIMS), 13u);
}

static uint32_t owned_lanes(void)
{
	struct blix_map_lanes lanes;
	struct blix_map *map = look();

	blix_map_lanes(map, &lanes);
	blix_map_close(map);
	return lanes.owned;
}

struct holder {
	blix_counter counter;
	int go[2];
	int holds[2];
};

static void *hold_a_lane(void *arg)
{
	struct holder *holder = arg;
	char byte = 0;

	blix_add(holder->counter, 1);
	(void)!write(holder->holds[1], &byte, 1);
	(void)!read(holder->go[0], &byte, 1);
	return NULL;
}

Test(hooks, a_thread_on_lane_0_moves_to_a_lane_that_becomes_free)
{
	struct blix_identity two_lanes = small;
	struct holder holder = {.counter = blix_counter_of(BLIX_raft_proposals_total)};
	pthread_t thread;
	char byte = 0;

	two_lanes.lanes = 2;
	cr_assert(pipe(holder.go) == 0 && pipe(holder.holds) == 0);
	cr_assert_eq(blix_open(scratch.path, &two_lanes), 0);
	cr_assert_eq(pthread_create(&thread, NULL, hold_a_lane, &holder), 0);
	cr_assert_eq(read(holder.holds[0], &byte, 1), 1);
	blix_add(holder.counter, 1);
	cr_expect_eq(stat_of(BLIX_STAT_LANE0_CLAIMS), 1u);
	cr_assert_eq(write(holder.go[1], &byte, 1), 1);
	pthread_join(thread, NULL);
	cr_expect_eq(owned_lanes(), 0u);
	blix_add(holder.counter, 1);
	cr_expect_eq(owned_lanes(), 1u);
	cr_expect_eq(value_of("blixard_raft_proposals_total", NULL), 3u);
}

/* ---- identity -------------------------------------------------------------------------------- */

/* Does the RESOURCE hold this text? Its structure is checked elsewhere, with a real decoder. */
static bool resource_has(const char *text)
{
	struct blix_map *map = look();
	size_t len;
	const uint8_t *resource = blix_map_resource(map, &len);
	bool found = memmem(resource, len, text, strlen(text)) != NULL;

	blix_map_close(map);
	return found;
}

static const char *service_name(void)
{
	static char name[65];
	struct blix_map *map = look();

	strcpy(name, blix_map_identity(map)->service_name);
	blix_map_close(map);
	return name;
}

Test(hooks, the_service_name_comes_from_the_strongest_source)
{
	struct blix_identity identity = small;

	must_open();
	cr_expect_str_eq(service_name(), "blixard");
	blix_close();
	setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=list", 1);
	must_open();
	cr_expect_str_eq(service_name(), "list");
	blix_close();
	setenv("OTEL_SERVICE_NAME", "variable", 1);
	must_open();
	cr_expect_str_eq(service_name(), "variable");
	blix_close();
	identity.service_name = "program";
	cr_assert_eq(blix_open(scratch.path, &identity), 0);
	cr_expect_str_eq(service_name(), "program");
	cr_expect(resource_has("program"));
	cr_expect_not(resource_has("variable"));
}

Test(hooks, resource_attributes_merge_and_the_programs_win)
{
	struct blix_identity identity = small;

	setenv("OTEL_RESOURCE_ATTRIBUTES", " zone = a%2Cb ,rack=7,, only.env=yes,", 1);
	identity.resource_attributes = "rack=8,only.program=caf%C3%A9";
	cr_assert_eq(blix_open(scratch.path, &identity), 0, "%s", blix_status().reason);
	cr_expect_str_empty(blix_status().warning);
	cr_expect(resource_has("a,b"));
	cr_expect(resource_has("only.env"));
	cr_expect(resource_has("caf\xc3\xa9"));
	cr_expect(resource_has("default/7"), "service.instance.id");
	cr_expect_not(resource_has("\x01"
				   "7"),
		      "rack=7 was replaced");
}

Test(hooks, a_malformed_environment_is_ignored_as_a_whole_with_a_warning)
{
	setenv("OTEL_RESOURCE_ATTRIBUTES", "good=1,bad%zz=2", 1);
	must_open();
	cr_expect(strstr(blix_status().warning, "OTEL_RESOURCE_ATTRIBUTES"), "%s",
		  blix_status().warning);
	cr_expect_not(resource_has("good"));
}

Test(hooks, an_endless_environment_is_refused_without_harm)
{
	char *endless = malloc(1 << 20);

	memset(endless, 'x', 1 << 20);
	memcpy(endless, "k=", 2);
	endless[(1 << 20) - 1] = '\0';
	setenv("OTEL_RESOURCE_ATTRIBUTES", endless, 1);
	setenv("OTEL_SERVICE_NAME", endless + 2, 1);
	must_open();
	cr_expect_neq(blix_status().warning[0], '\0');
	cr_expect_lt(strlen(service_name()), 64u);
	free(endless);
}

Test(hooks, identity_of_process_boot_and_namespaces_is_in_the_file)
{
	const struct blix_map_identity *id;
	uint8_t zero[16] = {0};
	struct blix_map *map;
	struct stat st;
	char first[33];

	setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317", 1);
	must_open();
	map = look();
	id = blix_map_identity(map);
	cr_expect_eq(id->pid, (uint32_t)getpid());
	cr_expect_eq(id->uid, (uint32_t)geteuid());
	cr_expect_neq(id->pid_start_ticks, 0u);
	cr_expect_neq(memcmp(id->boot_id, zero, sizeof(zero)), 0);
	cr_expect_eq(stat("/proc/self/ns/pid", &st), 0);
	cr_expect_eq(id->pidns_ino, st.st_ino);
	cr_expect_neq(id->open_mono_ns, 0u);
	cr_expect_leq(id->open_mono_ns, blix_now_ns());
	cr_expect(id->flags & BLIX_FLAG_ENDPOINT_SET);
	cr_expect_str_eq(id->cluster, "default");
	strcpy(first, id->incarnation_hex);
	blix_map_close(map);
	blix_close();
	must_open();
	map = look();
	cr_expect_str_neq(blix_map_identity(map)->incarnation_hex, first);
	blix_map_close(map);
}

Test(hooks, without_an_identity_everything_is_a_default)
{
	cr_assert_eq(blix_open(scratch.path, NULL), 0, "%s", blix_status().reason);
	cr_expect_geq(blix_status().lanes, 16u);
	cr_expect_geq(blix_status().ring_bytes, 256u << 10);
}

Test(hooks, series_resolved_early_fit_a_file_that_asks_for_fewer_cells)
{
	struct blix_identity few = small;
	uint32_t slot = metric("test_many_total", BLIX_KIND_COUNTER, "n", 1000);
	blix_counter last = {0};
	char value[16];

	for (int i = 0; i < 500; i++) {
		snprintf(value, sizeof(value), "%d", i);
		last = blix_counter_of(slot, value);
	}
	few.cells = 16;
	cr_assert_eq(blix_open(scratch.path, &few), 0, "%s", blix_status().reason);
	blix_add(last, 9);
	cr_expect_eq(value_of("test_many_total", "499"), 9u);
	cr_expect_eq(value_of("test_many_total", "498"), 0u);
}
