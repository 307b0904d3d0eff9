/* shm/map_values.c - what changes all the time: the node's life, its cells, gauges and drops.
 *
 * Word loads only; nothing is judged but its range. Whether it was a hole that was read, the caller
 * asks blix_map_poisoned() afterwards. Thread rule: as the map. Includes: shm/ only. */
#include "shm/map_private.h"

#include "shm/atomic.h"

#include <string.h>

enum { LANES_AT_ONCE = 4 };

/* Seqlock: an even, unchanged sequence around both words. A writer that died in between leaves it
 * odd for ever, so the number of tries is bounded. */
static void take_pair(struct blix_map *map, const struct blix_header *h)
{
	for (int i = 0; i < MAP_SEQLOCK_TRIES; i++) {
		uint32_t before = blix_load_acquire(&h->pair_seq);
		uint64_t mono_ns = blix_load_data(&h->pair_mono_ns);
		uint64_t real_ns = blix_load_data(&h->pair_real_ns);

		blix_fence_acquire(); /* the words before the second look at the sequence */
		if (before % 2 || before != blix_load_relaxed(&h->pair_seq))
			continue;
		if (mono_ns && real_ns) {
			map->pair_mono_ns = mono_ns;
			map->pair_real_ns = real_ns;
		}
		return;
	}
}

void blix_map_life(struct blix_map *map, struct blix_map_life *ret_life)
{
	const struct blix_header *h = blix_view_header(&map->view);
	uint32_t state = blix_load_acquire(&h->state);

	take_pair(map, h);
	*ret_life = (struct blix_map_life){
		.state = state <= BLIX_STATE_CRASH_NOTED ? state : BLIX_STATE_LIVE,
		.exit_code = blix_load_relaxed(&h->exit_code),
		.alive_beat = blix_load_relaxed(&h->alive_beat),
		.app_beat = blix_load_relaxed(&h->app_beat),
		.pair_mono_ns = map->pair_mono_ns,
		.pair_real_ns = map->pair_real_ns,
		.orphans_discarded = blix_load_relaxed(&h->orphans_discarded),
	};
}

uint64_t blix_map_stat(const struct blix_map *map, enum blix_stat stat)
{
	const struct blix_header *h = blix_view_header(&map->view);

	if ((size_t)stat >= sizeof(h->stats) / sizeof(h->stats[0]))
		return 0;
	return blix_load_relaxed(&h->stats[stat]);
}

/* Lane 0 is shared and counts without being owned; any other lane counts only once claimed. */
static bool lane_used(const struct blix_view *view, uint32_t lane)
{
	return lane == 0 || blix_load_acquire(&blix_view_lane(view, lane)->owner) != 0;
}

/* Up to four lanes in one pass: a sum is then stored once for four loads. */
static void add_lanes(uint64_t *sums, uint32_t n, const uint64_t *const cells[LANES_AT_ONCE],
		      uint32_t n_lanes)
{
	if (n_lanes == LANES_AT_ONCE) {
		for (uint32_t i = 0; i < n; i++)
			sums[i] +=
				blix_load_relaxed(&cells[0][i]) + blix_load_relaxed(&cells[1][i]) +
				blix_load_relaxed(&cells[2][i]) + blix_load_relaxed(&cells[3][i]);
		return;
	}
	for (uint32_t lane = 0; lane < n_lanes; lane++)
		for (uint32_t i = 0; i < n; i++)
			sums[i] += blix_load_relaxed(&cells[lane][i]);
}

void blix_map_sum_cells(const struct blix_map *map, uint64_t *sums, uint32_t n_cells)
{
	const struct blix_view *v = &map->view;
	uint32_t n = n_cells < v->lane.n_cells ? n_cells : v->lane.n_cells;
	const uint64_t *cells[LANES_AT_ONCE];
	uint32_t n_lanes = 0;

	memset(sums, 0, n_cells * sizeof(*sums));
	/* Lane by lane: each lane's cells are one run of memory, the sums stay in the cache. */
	for (uint32_t lane = 0; lane < v->n_lanes; lane++) {
		if (!lane_used(v, lane))
			continue;
		cells[n_lanes++] = blix_view_cells(v, lane);
		if (n_lanes == LANES_AT_ONCE) {
			add_lanes(sums, n, cells, n_lanes);
			n_lanes = 0;
		}
	}
	add_lanes(sums, n, cells, n_lanes);
}

uint64_t blix_map_gauge(const struct blix_map *map, uint32_t index)
{
	if (index >= map->view.n_gauges)
		return 0;
	return blix_load_relaxed(&blix_view_gauges(&map->view)[index]);
}

void blix_map_lanes(const struct blix_map *map, struct blix_map_lanes *ret_lanes)
{
	const struct blix_view *v = &map->view;
	struct blix_map_lanes lanes = {0};

	for (uint32_t i = 0; i < v->n_lanes; i++) {
		uint64_t owner = blix_load_relaxed(&blix_view_lane(v, i)->owner);

		if (owner >> 32)
			lanes.owned++;
		else if (owner)
			lanes.free++;
		else
			lanes.never++;
	}
	*ret_lanes = lanes;
}

uint64_t blix_map_drops(const struct blix_map *map, enum blix_drop_kind kind,
			enum blix_drop_reason reason)
{
	const struct blix_view *v = &map->view;
	uint64_t sum = 0;

	if ((uint32_t)kind >= BLIX_DROP_KINDS || (uint32_t)reason >= BLIX_DROP_REASONS)
		return 0;
	for (uint32_t lane = 0; lane < v->n_lanes; lane++)
		if (lane_used(v, lane))
			sum += blix_load_acquire(&blix_view_ring(v, lane)->drops[kind][reason]);
	return sum;
}
