/* Goal: a node is called dead, hung or live for the right reasons only.
 * Method: made-up observations at made-up times; each rule from both sides of its limit. */
#include "agent/input/drain.h"
#include "agent/input/node_life.h"

#include <criterion/criterion.h>

#define SECOND UINT64_C(1000000000)
#define STALE  (10 * SECOND)

static struct node_life life;
static struct node_life_seen seen;
static uint64_t now_ns;

static void setup(void)
{
	life = (struct node_life){0};
	seen = (struct node_life_seen){.locked = true, .alive_beat = 7};
	now_ns = 1000 * SECOND;
	node_life_observe(&life, &seen, now_ns, STALE);
}

TestSuite(node_life, .init = setup);

/* Observe each half second for `seconds`; beats change where `alive`, `app` say so. */
static enum target_node live_on(uint32_t seconds, bool alive, bool app)
{
	enum target_node node = TARGET_NODE_WAITING;

	for (uint32_t i = 0; i < 2 * seconds; i++) {
		now_ns += SECOND / 2;
		seen.alive_beat += alive;
		seen.app_beat += app;
		node = node_life_observe(&life, &seen, now_ns, STALE);
	}
	return node;
}

Test(node_life, a_beating_node_is_live)
{
	cr_expect_eq(life.node, TARGET_NODE_LIVE);
	cr_expect_eq(live_on(60, true, false), TARGET_NODE_LIVE);
	cr_expect_eq(live_on(60, true, true), TARGET_NODE_LIVE);
}

Test(node_life, a_still_heart_is_hung_at_the_limit_and_recovers)
{
	cr_expect_eq(live_on(9, false, false), TARGET_NODE_LIVE);
	cr_expect_eq(live_on(1, false, false), TARGET_NODE_HUNG);
	cr_expect_eq(node_life_still_ns(&life), STALE);
	cr_expect_eq(live_on(1, true, false), TARGET_NODE_LIVE);
}

Test(node_life, the_loop_beat_counts_once_it_was_used)
{
	cr_expect_eq(live_on(60, true, false), TARGET_NODE_LIVE, "never used");
	cr_expect_eq(live_on(1, true, true), TARGET_NODE_LIVE);
	cr_expect_eq(live_on(9, true, false), TARGET_NODE_LIVE);
	cr_expect_eq(live_on(1, true, false), TARGET_NODE_HUNG);
	cr_expect_eq(live_on(1, true, true), TARGET_NODE_LIVE);
}

Test(node_life, a_beat_of_any_other_value_is_a_change)
{
	live_on(9, false, false);
	seen.alive_beat = 0;
	cr_expect_eq(live_on(1, false, false), TARGET_NODE_LIVE);
	cr_expect_lt(node_life_still_ns(&life), SECOND);
}

Test(node_life, an_observer_that_slept_accuses_nobody)
{
	now_ns += 3600 * SECOND;
	cr_expect_eq(node_life_observe(&life, &seen, now_ns, STALE), TARGET_NODE_LIVE);
	now_ns -= 10 * SECOND; /* a clock that went back counts nothing */
	cr_expect_eq(node_life_observe(&life, &seen, now_ns, STALE), TARGET_NODE_LIVE);
	cr_expect_eq(node_life_still_ns(&life), SECOND);
}

Test(node_life, a_free_lock_means_gone_for_ever)
{
	seen.locked = false;
	cr_expect_eq(live_on(1, false, false), TARGET_NODE_DEAD);
	seen.locked = true; /* a starter holds it to move the file aside */
	seen.alive_beat++;
	cr_expect_eq(live_on(1, true, false), TARGET_NODE_DEAD);
}

Test(node_life, a_closed_file_was_closed_only_when_its_lock_is_free)
{
	seen.closed = true;
	cr_expect_eq(live_on(1, true, false), TARGET_NODE_LIVE);
	seen.locked = false;
	cr_expect_eq(live_on(1, true, false), TARGET_NODE_CLOSED);
}

Test(node_life, a_lock_that_outlives_its_process_is_leaked)
{
	seen.process_gone = true;
	cr_expect_eq(live_on(60, true, false), TARGET_NODE_LIVE, "beating: another process?");
	live_on(9, false, false);
	cr_expect(!life.gone);
	cr_expect_eq(live_on(1, false, false), TARGET_NODE_DEAD);
	cr_expect(life.lock_leaked);
}

Test(node_life, a_still_heart_of_a_living_process_is_not_a_leak)
{
	cr_expect_eq(live_on(60, false, false), TARGET_NODE_HUNG);
	cr_expect(!life.lock_leaked);
}

/* The other pure rule of the inputs: how often rings are looked at. */
Test(node_life, polling_follows_the_fastest_ring)
{
	cr_expect_eq(drain_next_interval(0, 500, 500), 500u, "idle");
	cr_expect_eq(drain_next_interval(0.25, 500, 500), 500u, "a quarter in half a second");
	cr_expect_eq(drain_next_interval(0.5, 500, 500), 250u);
	cr_expect_eq(drain_next_interval(1, 500, 500), 125u);
	cr_expect_eq(drain_next_interval(1, 1, 1), 1u, "never below a millisecond");
	cr_expect_eq(drain_next_interval(0, 1, 1), 2u, "slow to grow");
	cr_expect_eq(drain_next_interval(0, 400, 400), 500u, "never above half a second");
	cr_expect_eq(drain_next_interval(1, 0, 8), 16u, "no time passed: nothing is known");
}
