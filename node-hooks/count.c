/* node-hooks/count.c - the recording calls.
 *
 * Each has two paths. With a lane of its own, a thread adds with plain loads and stores. Else
 * blix_thread_cells() says where to: lane 0 with atomic adds, a lane taken just now, or nowhere.
 *
 * Thread rule: any thread; blix_sig_add() also in signal handlers. No call blocks, allocates, or
 * touches errno; but for a thread's first one there are no system calls. */
#include "trace.h"

#include "shm/buckets.h"

#include <math.h>

enum { HISTOGRAM_EXPONENTIAL = 1, GAUGE_F64 = 2 };

/* What is recorded while no file is open. Cell 0 and gauge 0 of an open file serve the handles that
 * record nowhere. */
static uint64_t scratch_gauges[BLIX_REGISTRY_GAUGES];
static uint64_t scratch_beat;

static uint64_t *gauges = scratch_gauges;
static uint64_t *app_beat = &scratch_beat;

void blix_count_redirect(const struct blix_session *session)
{
	blix_store_release(&gauges, session ? blix_view_gauges(&session->view) : scratch_gauges);
	blix_store_release(&app_beat,
			   session ? &blix_view_header(&session->view)->app_beat : &scratch_beat);
}

/* A lane of its own. */
static inline bool has_own_lane(void)
{
	return __builtin_expect(blix_self_.epoch == blix_load_relaxed(&blix_epoch_), 1);
}

/* The same, and outside of any recorded span: one comparison for both words. */
static inline bool is_plain(void)
{
	uint64_t both;

	_Static_assert(offsetof(struct blix_self, traced) == offsetof(struct blix_self, epoch) + 4,
		       "epoch and traced are one word");
	__builtin_memcpy(&both, &blix_self_.epoch, sizeof(both));
	return __builtin_expect(both == blix_load_relaxed(&blix_epoch_), 1);
}

/* ---- counters ------------------------------------------------------------------------------- */

static void add_slow(uint32_t cell, uint64_t n)
{
	struct blix_cells to = blix_thread_cells();

	/* A handle may be younger than a session this thread still sees: it may lie beyond it. */
	if (to.cells && cell < to.n_cells)
		blix_cell_add(&to.cells[cell], n, to.shared);
}

void blix_add_slow_(blix_counter counter, uint64_t n)
{
	add_slow(counter.cell, n);
	if (blix_self_.traced)
		blix_exemplar_leave(counter.exemplar, 0, n);
}

/* The header's inline function as a symbol, for languages that cannot include it. */
__attribute__((visibility("default"))) void blix_add_symbol_(blix_counter counter,
							     uint64_t n) __asm__("blix_add");
void blix_add_symbol_(blix_counter counter, uint64_t n)
{
	if (is_plain())
		blix_add_owned(&blix_self_.cells[counter.cell], n);
	else
		blix_add_slow_(counter, n);
}

void blix_updown(blix_updown_counter counter, int64_t n)
{
	if (has_own_lane())
		blix_add_owned(&blix_self_.cells[counter.cell], (uint64_t)n);
	else
		add_slow(counter.cell, (uint64_t)n);
}

void blix_sig_add(blix_counter counter, uint64_t n)
{
	const struct blix_session *session = blix_load_acquire(&blix_session_);

	if (session && counter.cell < session->view.lane.n_cells)
		blix_add_shared(&blix_view_cells(&session->view, 0)[counter.cell], n);
}

/* ---- gauges --------------------------------------------------------------------------------- */

static void set_bits(uint32_t index, uint64_t bits)
{
	if (index < BLIX_REGISTRY_GAUGES)
		blix_store_relaxed(&blix_load_acquire(&gauges)[index], bits);
}

static uint64_t bits_of(double value)
{
	uint64_t bits;

	_Static_assert(sizeof(bits) == sizeof(value), "IEEE 754 double");
	__builtin_memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static int64_t truncated(double value)
{
	if (isnan(value))
		return 0;
	if (value >= 0x1p63)
		return INT64_MAX;
	return value <= -0x1p63 ? INT64_MIN : (int64_t)value;
}

void blix_set(blix_gauge gauge, int64_t value)
{
	set_bits(gauge.index, gauge.kind == GAUGE_F64 ? bits_of((double)value) : (uint64_t)value);
}

void blix_set_f64(blix_gauge gauge, double value)
{
	set_bits(gauge.index,
		 gauge.kind == GAUGE_F64 ? bits_of(value) : (uint64_t)truncated(value));
}

/* ---- histograms ----------------------------------------------------------------------------- */

/* Bucket, sum, and the exponential cell behind them. The count is the sum of the buckets. */
static inline __attribute__((always_inline)) void observe_in(uint64_t *cells, blix_histogram h,
							     const struct blix_grid *grid,
							     uint64_t value, bool shared)
{
	uint64_t *own = cells + h.cell;

	blix_cell_add(&own[blix_grid_bucket(grid, value)], 1, shared);
	blix_cell_add(&own[grid->n_bounds + 1], value, shared);
	if (h.flags & HISTOGRAM_EXPONENTIAL)
		blix_cell_add(&own[grid->n_bounds + 2 + blix_exp_cell(value)], 1, shared);
}

static __attribute__((noinline)) void observe_slow(blix_histogram h, uint64_t value)
{
	const struct blix_grid *grid = &blix_registry_.grids[h.layout];
	struct blix_cells to = blix_thread_cells();
	uint32_t n = grid->n_bounds + 2 + (h.flags & HISTOGRAM_EXPONENTIAL ? BLIX_EXP_CELLS : 0);

	if (to.cells && h.cell < to.n_cells && n <= to.n_cells - h.cell)
		observe_in(to.cells, h, grid, value, to.shared);
	if (blix_self_.traced && h.exemplar != BLIX_NO_ID) {
		uint32_t bucket = blix_grid_bucket(grid, value);

		blix_exemplar_leave(h.exemplar + bucket, bucket, value);
	}
}

/* Inline in both calls: from one exported function to another is a detour by the PLT. */
static inline void observe(blix_histogram histogram, uint64_t value)
{
	if (histogram.cell == 0 || histogram.layout >= BLIX_REGISTRY_LAYOUTS)
		return;
	if (is_plain())
		observe_in(blix_self_.cells, histogram, &blix_registry_.grids[histogram.layout],
			   value, false);
	else
		observe_slow(histogram, value);
}

void blix_observe(blix_histogram histogram, uint64_t value)
{
	observe(histogram, value);
}

void blix_observe_ns(blix_histogram histogram, uint64_t ns)
{
	observe(histogram, ns);
}

/* ---- life signs ----------------------------------------------------------------------------- */

void blix_heartbeat(void)
{
	uint64_t *beat = blix_load_acquire(&app_beat);

	/* Only change counts, so two threads beating at once may lose one. Zero means never used.
	 */
	blix_add_owned(beat, 1);
}
