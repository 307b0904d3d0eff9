/* Goal: what the agent asks for reaches the node unchanged, nothing that a hostile agent leaves in
 * the element reaches it, and a name is matched in bounded time. Method: an element in plain memory
 * that is written by the writer, then by hand; the matcher against fnmatch(3) over all short
 * patterns; text placed against an unreadable page. */
#include "shm/control.h"
#include "test/support/guard_page.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <string.h>

static union {
	uint8_t bytes[8192];
	uint64_t align;
} file;
static struct blix_view view;

static struct blix_control *element(void)
{
	return (struct blix_control *)(void *)(file.bytes + 4096);
}

static void fresh(void)
{
	memset(&file, 0, sizeof(file));
	memset(&view, 0, sizeof(view));
	view.base = file.bytes;
	view.size = sizeof(file);
	view.consumer_off = 1024;
	view.consumer = file.bytes + view.consumer_off;
	view.consumer_len = sizeof(file) - view.consumer_off;
	view.control_off = 4096;
}

TestSuite(control, .init = fresh);

static struct blix_control_setting full_setting(void)
{
	struct blix_control_setting s = {
		.has_threshold = true,
		.threshold56 = 12345,
		.threshold_ticks = 1,
		.has_log_min = true,
		.log_min = 25,
		.log_min_ticks = BLIX_CONTROL_TICKS_MAX,
		.n_rules = BLIX_CONTROL_RULES,
	};

	for (uint32_t i = 0; i < BLIX_CONTROL_RULES; i++) {
		s.rules[i].ticks = i + 1;
		s.rules[i].threshold56 = BLIX_THRESHOLD_NEVER - i;
		memset(s.rules[i].glob, 'a' + (int)(i % 26), i + 16); /* the last has 47 bytes */
	}
	return s;
}

Test(control, what_was_written_is_read)
{
	struct blix_control_setting in = full_setting(), got;
	uint32_t gen = 7;

	cr_assert_eq(blix_control_write(&view, &in), 0);
	cr_assert_eq(blix_control_read(&view, &got, &gen), 0);
	cr_expect_eq(gen, 2);
	cr_expect_eq(blix_control_generation(&view), 2);
	cr_expect_eq(memcmp(&in, &got, sizeof(in)), 0);
	in = (struct blix_control_setting){0};
	cr_assert_eq(blix_control_write(&view, &in), 0);
	cr_assert_eq(blix_control_read(&view, &got, &gen), 0);
	cr_expect_eq(gen, 4);
	cr_expect_eq(memcmp(&in, &got, sizeof(in)), 0, "nothing of the old setting is left");
}

Test(control, an_element_never_written_or_absent_says_so)
{
	struct blix_control_setting got = {.n_rules = 99};
	uint32_t gen = 7;

	cr_expect_eq(blix_control_read(&view, &got, &gen), -ENOENT);
	cr_expect_eq(blix_control_generation(&view), 0);
	view.control_off = 0;
	cr_expect_eq(blix_control_read(&view, &got, &gen), -ENOENT);
	cr_expect_eq(blix_control_generation(&view), 0);
	cr_expect_eq(blix_control_write(&view, &got), -ENOENT);
	view.control_off = 4096;
	view.consumer = NULL;
	got.n_rules = 0;
	cr_expect_eq(blix_control_write(&view, &got), -ENOENT, "mapped for reading alone");
	cr_expect_eq(gen, 7);
}

Test(control, a_writer_that_died_in_between_is_waited_for_and_then_replaced)
{
	struct blix_control_setting in = full_setting(), got = {.n_rules = 99};
	uint32_t gen = 7;

	element()->gen = 5;
	element()->n_rules = 3;
	cr_expect_eq(blix_control_read(&view, &got, &gen), -EAGAIN);
	cr_expect_eq(got.n_rules, 99, "written on success only");
	cr_assert_eq(blix_control_write(&view, &in), 0);
	cr_assert_eq(blix_control_read(&view, &got, &gen), 0);
	cr_expect_eq(gen, 6);
	cr_expect_eq(memcmp(&in, &got, sizeof(in)), 0);
}

Test(control, a_generation_that_wraps_is_never_the_one_of_an_empty_element)
{
	struct blix_control_setting in = {0}, got;
	uint32_t gen;

	element()->gen = UINT32_MAX - 1;
	cr_assert_eq(blix_control_write(&view, &in), 0);
	cr_assert_eq(blix_control_read(&view, &got, &gen), 0);
	cr_expect_eq(gen, 2);
}

static int write_with(void (*change)(struct blix_control_setting *s))
{
	struct blix_control_setting s = full_setting();

	change(&s);
	return blix_control_write(&view, &s);
}

static void no_ticks(struct blix_control_setting *s)
{
	s->threshold_ticks = 0;
}
static void too_many_ticks(struct blix_control_setting *s)
{
	s->threshold_ticks = BLIX_CONTROL_TICKS_MAX + 1;
}
static void threshold_beyond(struct blix_control_setting *s)
{
	s->threshold56 = BLIX_THRESHOLD_NEVER + 1;
}
static void log_min_zero(struct blix_control_setting *s)
{
	s->log_min = 0;
}
static void log_min_beyond(struct blix_control_setting *s)
{
	s->log_min = 26;
}
static void log_no_ticks(struct blix_control_setting *s)
{
	s->log_min_ticks = 0;
}
static void log_too_many_ticks(struct blix_control_setting *s)
{
	s->log_min_ticks++;
}
static void rule_too_many(struct blix_control_setting *s)
{
	s->n_rules++;
}
static void rule_no_ticks(struct blix_control_setting *s)
{
	s->rules[0].ticks = 0;
}
static void rule_threshold_beyond(struct blix_control_setting *s)
{
	s->rules[0].threshold56++;
}
static void rule_no_glob(struct blix_control_setting *s)
{
	s->rules[3].glob[0] = '\0';
}
static void rule_endless_glob(struct blix_control_setting *s)
{
	memset(s->rules[31].glob, 'x', BLIX_CONTROL_GLOB_BYTES);
}
static void rule_not_utf8(struct blix_control_setting *s)
{
	s->rules[3].glob[1] = '\xff';
}
static void rule_unprintable(struct blix_control_setting *s)
{
	s->rules[3].glob[1] = '\n';
}

Test(control, the_writer_refuses_what_is_out_of_range_and_leaves_the_element_alone)
{
	static void (*const changes[])(struct blix_control_setting *) = {
		no_ticks,	too_many_ticks,	       threshold_beyond,   log_min_zero,
		log_min_beyond, log_no_ticks,	       log_too_many_ticks, rule_too_many,
		rule_no_ticks,	rule_threshold_beyond, rule_no_glob,	   rule_endless_glob,
		rule_not_utf8,	rule_unprintable,
	};

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		cr_expect_eq(write_with(changes[i]), -EINVAL, "change %zu", i);
	cr_expect_eq(blix_control_generation(&view), 0);
}

Test(control, hostile_numbers_are_clamped_or_left_out_and_their_neighbours_stay)
{
	struct blix_control_setting in = full_setting(), got;
	struct blix_control *e = element();
	uint32_t gen;

	cr_assert_eq(blix_control_write(&view, &in), 0);
	e->n_rules = UINT32_MAX;
	e->flags = UINT32_MAX;
	e->threshold56 = UINT64_MAX;
	e->threshold_ticks = UINT32_MAX;
	e->log_min = UINT32_MAX;
	e->log_min_ticks = UINT32_MAX;
	e->rules[0].ticks = 0;
	e->rules[1].glob[0] = '\0';
	memset(e->rules[2].glob, 'x', BLIX_CONTROL_GLOB_BYTES);
	e->rules[3].glob[0] = '\xc3';
	e->rules[4].ticks = UINT32_MAX;
	e->rules[4].threshold56 = UINT64_MAX;
	cr_assert_eq(blix_control_read(&view, &got, &gen), 0);
	cr_expect(got.has_threshold && got.has_log_min);
	cr_expect_eq(got.threshold56, BLIX_THRESHOLD_NEVER);
	cr_expect_eq(got.threshold_ticks, BLIX_CONTROL_TICKS_MAX);
	cr_expect_eq(got.log_min, 25);
	cr_expect_eq(got.log_min_ticks, BLIX_CONTROL_TICKS_MAX);
	cr_assert_eq(got.n_rules, BLIX_CONTROL_RULES - 4);
	cr_expect_eq(got.rules[0].ticks, BLIX_CONTROL_TICKS_MAX);
	cr_expect_eq(got.rules[0].threshold56, BLIX_THRESHOLD_NEVER);
	cr_expect_eq(memcmp(&got.rules[1], &in.rules[5], sizeof(in.rules[5])), 0);
	e->threshold_ticks = 0;
	e->log_min = 0;
	cr_assert_eq(blix_control_read(&view, &got, &gen), 0);
	cr_expect_not(got.has_threshold || got.has_log_min);
	e->log_min = 1;
	e->log_min_ticks = 0;
	cr_assert_eq(blix_control_read(&view, &got, &gen), 0);
	cr_expect_not(got.has_log_min);
}

Test(control, whatever_bytes_the_element_holds_what_is_read_could_have_been_written)
{
	uint64_t state = 1;

	for (int round = 0; round < 20000; round++) {
		struct blix_control_setting got;
		uint32_t gen;

		for (size_t i = 0; i < sizeof(struct blix_control); i++) {
			state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
			file.bytes[4096 + i] = (uint8_t)(state >> 56) & (round % 2 ? 0x7f : 0xff);
		}
		element()->gen &= ~1u;
		element()->gen |= 2;
		cr_assert_eq(blix_control_read(&view, &got, &gen), 0);
		cr_assert_eq(blix_control_write(&view, &got), 0, "round %d", round);
	}
}

static bool match(const char *glob, const char *name)
{
	return blix_control_match(glob, name, strlen(name));
}

Test(control, a_glob_matches_the_whole_name)
{
	cr_expect(match("*/CreateVm", "blixard.VmService/CreateVm"));
	cr_expect_not(match("*/CreateVm", "blixard.VmService/CreateVmX"));
	cr_expect_not(match("CreateVm", "xCreateVm"));
	cr_expect(match("*", ""));
	cr_expect(match("**", "abc"));
	cr_expect_not(match("", "a"));
	cr_expect(match("", ""));
	cr_expect_not(match("?", ""));
	cr_expect(match("raft ?ppend*", "raft append entries"));
}

Test(control, a_question_mark_is_one_character_however_many_bytes)
{
	cr_expect(match("a?b", "a\xe2\x82\xac"
			       "b"));
	cr_expect_not(match("a??b", "a\xe2\x82\xac"
				    "b"));
	cr_expect(match("*\xe2\x82\xac?", "xx\xe2\x82\xac\xc3\xa9"));
	cr_expect(match("a?b", "a\xff"
			       "b"),
		  "a byte that begins no character is one");
	cr_expect_not(match("*?\xac", "\xe2\x82\xac"), "a character is not taken apart");
}

Test(control, the_matcher_agrees_with_fnmatch_on_every_short_pattern_and_name)
{
	static const char letters[] = "ab*?";
	char glob[6], name[7];

	for (int g = 0; g < 4 * 4 * 4 * 4 * 4; g++) {
		for (int i = 0, x = g; i < 5; i++, x /= 4)
			glob[i] = letters[x % 4];
		glob[5] = '\0';
		for (int n = 0; n < 64; n++) {
			for (int i = 0; i < 6; i++)
				name[i] = n >> i & 1 ? 'a' : 'b';
			name[6] = '\0';
			for (int cut = 0; cut <= 6; cut++)
				cr_assert_eq(match(glob, name + cut),
					     fnmatch(glob, name + cut, 0) == 0, "%s %s", glob,
					     name + cut);
		}
	}
}

Test(control, matching_reads_no_byte_beyond_name_and_glob_and_ends_soon, .timeout = 10)
{
	struct guard_page g = guard_page_new(4096), n = guard_page_new(65536);
	char worst[BLIX_CONTROL_GLOB_BYTES];
	static char name[65536];
	const char *placed = guard_page_place(&n, "a\xe2\x82", 3);

	cr_expect_not(blix_control_match("a?", placed, 3));
	cr_expect(blix_control_match("a??", placed, 3));
	for (size_t i = 0; i < sizeof(worst); i++)
		worst[i] = i % 2 ? 'a' : '*';
	worst[46] = 'b'; /* and no terminator: 48 bytes, and the page ends */
	memset(name, 'a', sizeof(name));
	for (int i = 0; i < 100; i++)
		cr_expect_not(blix_control_match(guard_page_place(&g, worst, sizeof(worst)), name,
						 sizeof(name)));
	guard_page_free(&g);
	guard_page_free(&n);
}

Test(control, ratios_are_exact_at_their_edges)
{
	cr_expect_eq(blix_control_threshold(1.0), 0);
	cr_expect_eq(blix_control_threshold(0.0), BLIX_THRESHOLD_NEVER);
	cr_expect_eq(blix_control_threshold(0.5), BLIX_THRESHOLD_NEVER / 2);
	cr_expect_eq(blix_control_threshold(0.25), BLIX_THRESHOLD_NEVER / 4 * 3);
	cr_expect_eq(blix_control_threshold(ldexp(1, -56)), BLIX_THRESHOLD_NEVER - 1);
	cr_expect_eq(blix_control_threshold(ldexp(1, -57)), BLIX_THRESHOLD_NEVER - 1);
	cr_expect_eq(blix_control_threshold(ldexp(1, -58)), BLIX_THRESHOLD_NEVER);
	cr_expect_eq(blix_control_threshold(nextafter(1.0, 0)), 8);
	cr_expect_eq(blix_control_threshold(ldexp(1, -4) + ldexp(1, -56)),
		     BLIX_THRESHOLD_NEVER - (UINT64_C(1) << 52) - 1);
	cr_expect_eq(blix_control_threshold(-0.1), BLIX_THRESHOLD_NEVER);
	cr_expect_eq(blix_control_threshold(1.1), 0);
	cr_expect_eq(blix_control_threshold(INFINITY), 0);
	cr_expect_eq(blix_control_threshold(-INFINITY), BLIX_THRESHOLD_NEVER);
	cr_expect_eq(blix_control_threshold((double)NAN), BLIX_THRESHOLD_NEVER);
	cr_expect_eq(blix_control_ratio(0), 1.0);
	cr_expect_eq(blix_control_ratio(BLIX_THRESHOLD_NEVER), 0.0);
	cr_expect_eq(blix_control_ratio(UINT64_MAX), 0.0);
	cr_expect_eq(blix_control_ratio(BLIX_THRESHOLD_NEVER - 1), ldexp(1, -56));
}

Test(control, a_ratio_survives_the_way_there_and_back)
{
	for (int i = 0; i <= 10000; i++) {
		double ratio = i / 10000.0;
		double back = blix_control_ratio(blix_control_threshold(ratio));

		cr_assert(fabs(back - ratio) <= ldexp(1, -53), "%d", i);
	}
}
