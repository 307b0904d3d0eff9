/* agent/input/node_life.c - see node_life.h. */
#include "agent/input/node_life.h"

static void note_beat(uint64_t *last, uint64_t *still_ns, uint64_t beat, uint64_t step_ns)
{
	if (beat != *last)
		*still_ns = 0;
	else
		*still_ns += step_ns;
	*last = beat;
}

static void note_beats(struct node_life *life, const struct node_life_seen *seen, uint64_t now_ns)
{
	uint64_t step_ns = 0;

	if (!life->observed) {
		life->observed = true;
		life->alive_beat = seen->alive_beat;
		life->app_beat = seen->app_beat;
	} else if (now_ns > life->at_ns) {
		step_ns = now_ns - life->at_ns;
	}
	if (step_ns > NODE_LIFE_STEP_MAX_NS)
		step_ns = NODE_LIFE_STEP_MAX_NS;
	life->at_ns = now_ns;
	note_beat(&life->alive_beat, &life->alive_still_ns, seen->alive_beat, step_ns);
	note_beat(&life->app_beat, &life->app_still_ns, seen->app_beat, step_ns);
}

uint64_t node_life_still_ns(const struct node_life *life)
{
	if (life->app_beat != 0 && life->app_still_ns > life->alive_still_ns)
		return life->app_still_ns;
	return life->alive_still_ns;
}

enum target_node node_life_observe(struct node_life *life, const struct node_life_seen *seen,
				   uint64_t now_ns, uint64_t stale_after_ns)
{
	/* Sticky: a starter takes the free lock for a moment to move the file aside. */
	if (life->gone)
		return life->node;
	note_beats(life, seen, now_ns);
	life->lock_leaked =
		seen->locked && seen->process_gone && life->alive_still_ns >= NODE_LIFE_LEAK_NS;
	if (!seen->locked || life->lock_leaked) {
		life->gone = true;
		life->node = seen->closed ? TARGET_NODE_CLOSED : TARGET_NODE_DEAD;
	} else {
		life->node = node_life_still_ns(life) >= stale_after_ns ? TARGET_NODE_HUNG
									: TARGET_NODE_LIVE;
	}
	return life->node;
}
