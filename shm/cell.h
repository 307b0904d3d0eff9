/* shm/cell.h - what a recording call does to a lane's cells.
 *
 * The owner of a lane adds by a plain load and store; on lane 0, which several threads share, by
 * an atomic add. Nothing here may be called on a cell that another thread owns.
 *
 * Header only, async-signal-safe, no state. Includes: shm/ only. */
#ifndef BLIX_SHM_CELL_H
#define BLIX_SHM_CELL_H

#include "atomic.h"
#include "layout.h"

#include <stdbool.h>

static inline void blix_cell_add(uint64_t *cell, uint64_t n, bool shared)
{
	if (shared)
		blix_add_shared(cell, n);
	else
		blix_add_owned(cell, n);
}

/* ---- from a value to its classic bucket --------------------------------------------------------
 *
 * A grid cuts the values into four steps an octave and knows for each step how many bounds lie
 * wholly below it. What is left is to compare with the bounds inside the step: one, for the usual
 * layouts. The number of comparisons depends on the layout and not on the value, so there is no
 * branch to mispredict. */
enum { BLIX_GRID_STEPS = 256, BLIX_GRID_BOUNDS = 24 };

struct blix_grid {
	uint32_t n_bounds;
	uint32_t compares;		       /* most bounds that lie within one step */
	uint64_t bounds[BLIX_GRID_BOUNDS + 1]; /* ascending; the unused ones are UINT64_MAX */
	uint8_t first[BLIX_GRID_STEPS];	       /* bounds below the step's lowest value */
};

static inline uint32_t blix_grid_step(uint64_t value)
{
	uint32_t octave;

	if (value < 4)
		return (uint32_t)value;
	octave = 63 - (uint32_t)__builtin_clzll(value);
	return octave * 4 + (uint32_t)((value >> (octave - 2)) & 3);
}

/* Lowest value of a step; the steps 4 to 7 hold none. */
static inline uint64_t blix_grid_lowest(uint32_t step)
{
	return step < 8 ? step : (uint64_t)(4 + step % 4) << (step / 4 - 2);
}

/* `bounds` ascend; n_bounds is at most BLIX_GRID_BOUNDS. */
static inline void blix_grid_init(struct blix_grid *grid, const uint64_t *bounds, uint32_t n_bounds)
{
	uint32_t within = 0;

	grid->n_bounds = n_bounds;
	grid->compares = 0;
	for (uint32_t i = 0; i <= BLIX_GRID_BOUNDS; i++)
		grid->bounds[i] = i < n_bounds ? bounds[i] : UINT64_MAX;
	for (uint32_t step = 0; step < BLIX_GRID_STEPS; step++) {
		uint32_t below = 0;

		while (below < n_bounds && bounds[below] < blix_grid_lowest(step))
			below++;
		grid->first[step] = (uint8_t)below;
	}
	for (uint32_t i = 0; i < n_bounds; i++) {
		bool same = i > 0 && blix_grid_step(bounds[i]) == blix_grid_step(bounds[i - 1]);

		within = same ? within + 1 : 1;
		grid->compares = within > grid->compares ? within : grid->compares;
	}
}

/* Index of the first bound that `value` does not exceed; n_bounds if it exceeds them all. */
static inline uint32_t blix_grid_bucket(const struct blix_grid *grid, uint64_t value)
{
	uint32_t bucket = grid->first[blix_grid_step(value)];

	for (uint32_t n = grid->compares; n > 0; n--)
		bucket += value > grid->bounds[bucket];
	return bucket;
}

#endif
