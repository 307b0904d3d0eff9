/* Goal: settings of two sources become one element, each ends when it should and no later, and one
 * without end does not outlive its agent for long. Method: the pure logic with given times; what it
 * merges is written to a real element and read back by the node's side. */
#include "agent/run_control.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define S UINT64_C(1000000000)

static struct run_control c;
static struct blix_control_setting out;

static int sample(const char *glob, double ratio, uint32_t for_s, uint64_t now)
{
	return run_control_sample(&c, RUN_CONTROL_SOCKET, glob, ratio, for_s, now);
}

/* Merge, and pass it through a real element as the node would read it. */
static void merge(uint64_t now)
{
	static uint64_t file[1024];
	struct blix_view view = {.base = (uint8_t *)file,
				 .consumer = (uint8_t *)file + 64,
				 .consumer_off = 64,
				 .control_off = 4096};
	struct blix_control_setting merged;
	uint32_t gen;

	run_control_merge(&c, now, &merged);
	cr_assert_eq(blix_control_write(&view, &merged), 0);
	cr_assert_eq(blix_control_read(&view, &out, &gen), 0);
	cr_assert_eq(memcmp(&merged, &out, sizeof(out)), 0);
}

Test(run_control, nothing_set_is_an_empty_element_and_nothing_to_wait_for)
{
	merge(5 * S);
	cr_expect(!out.has_threshold && !out.has_log_min && out.n_rules == 0);
	cr_expect_eq(run_control_due_ns(&c, 5 * S), UINT64_MAX);
	cr_expect_not(run_control_expire(&c, UINT64_MAX));
	cr_expect_not(run_control_clear(&c, RUN_CONTROL_SOCKET));
}

Test(run_control, a_setting_ends_by_itself_to_the_nanosecond)
{
	cr_assert_eq(sample("*/CreateVm", 1, 3, 10 * S), 0);
	cr_expect_eq(run_control_due_ns(&c, 10 * S), 13 * S);
	merge(10 * S);
	cr_assert_eq(out.n_rules, 1);
	cr_expect_eq(out.rules[0].ticks, 3);
	cr_expect_eq(out.rules[0].threshold56, 0);
	cr_expect_str_eq(out.rules[0].glob, "*/CreateVm");
	merge(12 * S + 1);
	cr_expect_eq(out.rules[0].ticks, 1);
	cr_expect_not(run_control_expire(&c, 13 * S - 1));
	cr_expect(run_control_expire(&c, 13 * S));
	merge(13 * S);
	cr_expect_eq(out.n_rules, 0);
}

Test(run_control, the_socket_comes_before_the_file_and_the_file_holds_again_afterwards)
{
	double ratio = -1;

	cr_expect_not(run_control_ratio(&c, &ratio));
	cr_assert_eq(run_control_sample(&c, RUN_CONTROL_CONFIG, NULL, 0.25, 0, S), 0);
	cr_assert_eq(run_control_log(&c, RUN_CONTROL_CONFIG, 13, 0, S), 0);
	cr_assert_eq(run_control_sample(&c, RUN_CONTROL_CONFIG, "a", 0.5, 0, S), 0);
	cr_assert_eq(sample("", 0.75, 10, S), 0);
	cr_assert_eq(run_control_log(&c, RUN_CONTROL_SOCKET, 5, 20, S), 0);
	cr_assert_eq(sample("b", 1, 30, S), 0);
	cr_assert_eq(sample("c", 1, 30, S), 0);
	merge(S);
	cr_expect_eq(out.threshold56, blix_control_threshold(0.75));
	cr_expect_eq(out.threshold_ticks, 10);
	cr_expect_eq(out.log_min, 5);
	cr_assert_eq(out.n_rules, 3);
	cr_expect_str_eq(out.rules[0].glob, "c", "the latest first");
	cr_expect_str_eq(out.rules[1].glob, "b");
	cr_expect_str_eq(out.rules[2].glob, "a");
	cr_expect_eq(out.rules[2].ticks, RUN_CONTROL_NO_END_TICKS);
	cr_expect(run_control_ratio(&c, &ratio));
	cr_expect_eq(ratio, 0.75);
	cr_expect(run_control_expire(&c, 21 * S));
	merge(21 * S);
	cr_expect_eq(out.threshold56, blix_control_threshold(0.25));
	cr_expect_eq(out.threshold_ticks, RUN_CONTROL_NO_END_TICKS);
	cr_expect_eq(out.log_min, 13);
	cr_expect(run_control_clear(&c, RUN_CONTROL_SOCKET));
	merge(21 * S);
	cr_assert_eq(out.n_rules, 1);
	cr_expect_str_eq(out.rules[0].glob, "a");
}

Test(run_control, a_setting_without_end_is_refreshed_well_before_its_ticks_run_out)
{
	cr_assert_eq(run_control_sample(&c, RUN_CONTROL_CONFIG, NULL, 0.25, 0, S), 0);
	cr_expect_eq(run_control_due_ns(&c, 100 * S), (100 + RUN_CONTROL_REFRESH_S) * S);
	cr_expect_lt(2 * RUN_CONTROL_REFRESH_S, RUN_CONTROL_NO_END_TICKS);
	cr_expect_not(run_control_expire(&c, UINT64_MAX));
}

Test(run_control, both_sources_full_still_fit_and_one_rule_more_is_refused)
{
	char glob[16];

	for (int i = 0; i < RUN_CONTROL_RULES; i++) {
		snprintf(glob, sizeof(glob), "s%d", i);
		cr_assert_eq(sample(glob, 1, 10, S), 0);
		cr_assert_eq(run_control_sample(&c, RUN_CONTROL_CONFIG, glob, 0, 0, S), 0);
	}
	cr_expect_eq(sample("one more", 1, 10, S), -ENOSPC);
	cr_expect_eq(run_control_sample(&c, RUN_CONTROL_CONFIG, "one more", 1, 10, S), -ENOSPC);
	cr_expect_eq(sample("s3", 0.5, 10, S), 0, "a known one is replaced");
	merge(S);
	cr_assert_eq(out.n_rules, BLIX_CONTROL_RULES);
	cr_expect_str_eq(out.rules[0].glob, "s3");
	cr_expect_eq(out.rules[0].threshold56, blix_control_threshold(0.5));
	cr_expect_str_eq(out.rules[RUN_CONTROL_RULES].glob, "s0", "the file's keep their order");
}

Test(run_control, what_is_out_of_range_is_refused_and_changes_nothing)
{
	char glob[BLIX_CONTROL_GLOB_BYTES + 1];

	cr_expect_eq(sample("a", 1.0000001, 1, S), -EINVAL);
	cr_expect_eq(sample("a", -0.0000001, 1, S), -EINVAL);
	cr_expect_eq(sample("a", (double)NAN, 1, S), -EINVAL);
	cr_expect_eq(sample("a\n", 1, 1, S), -EINVAL);
	cr_expect_eq(sample("a\xff", 1, 1, S), -EINVAL);
	cr_expect_eq(sample("a", 1, RUN_CONTROL_FOR_MAX_S + 1, S), -EINVAL);
	cr_expect_eq(run_control_log(&c, RUN_CONTROL_SOCKET, 0, 1, S), -EINVAL);
	cr_expect_eq(run_control_log(&c, RUN_CONTROL_SOCKET, 26, 1, S), -EINVAL);
	cr_expect_eq(run_control_log(&c, RUN_CONTROL_SOCKET, 25, RUN_CONTROL_FOR_MAX_S + 1, S),
		     -EINVAL);
	memset(glob, 'x', sizeof(glob));
	glob[BLIX_CONTROL_GLOB_BYTES] = '\0';
	cr_expect_eq(sample(glob, 1, 1, S), -EINVAL);
	merge(S);
	cr_expect(!out.has_threshold && !out.has_log_min && out.n_rules == 0);
	glob[BLIX_CONTROL_GLOB_BYTES - 1] = '\0';
	cr_expect_eq(sample(glob, 1, RUN_CONTROL_FOR_MAX_S, S), 0);
	cr_expect_eq(run_control_log(&c, RUN_CONTROL_SOCKET, 25, 1, S), 0);
	merge(S);
	cr_expect_str_eq(out.rules[0].glob, glob);
}

Test(run_control, times_and_levels_are_read_as_people_write_them)
{
	static const struct {
		const char *text;
		uint32_t seconds;
	} good[] = {{"1", 1}, {"90s", 90}, {"10m", 600}, {"2h", 7200}, {"7d", 604800}};
	static const char *const bad[] = {
		"", "0", "s", "-1", "1.5m", "10 m", "8d", "10min", "99999999999999999999", "1w"};
	uint32_t n = 0;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_expect_eq(run_control_time(good[i].text, &n), 0);
		cr_expect_eq(n, good[i].seconds);
	}
	n = 77;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(run_control_time(bad[i], &n), -EINVAL, "%s", bad[i]);
	cr_expect_eq(run_control_level("0", &n), -EINVAL);
	cr_expect_eq(run_control_level("25", &n), -EINVAL);
	cr_expect_eq(run_control_level("loud", &n), -EINVAL);
	cr_expect_eq(n, 77);
	cr_expect_eq(run_control_level("warn", &n), 0);
	cr_expect_eq(n, 13);
	cr_expect_eq(run_control_level("off", &n), 0);
	cr_expect_eq(n, 25);
	cr_expect_eq(run_control_level("24", &n), 0);
	cr_expect_eq(n, 24);
	cr_expect_str_eq(run_control_level_name(13), "warn");
	cr_expect_str_eq(run_control_level_name(14), "");
}
