/* node-hooks/sampler.c - which roots are recorded: thresholds on the random part of the trace id.
 *
 * A trace is sampled when the low 56 bits of its id are at or above a threshold (consistent
 * probability sampling: who samples at a lower rate keeps a subset of what others keep). The
 * threshold of each name is one word that a root span reads. Housekeeping recomputes the words when
 * run-time control changes or ends, so that a root pays nothing for the rules.
 *
 * Thread rule: tick by housekeeping; reset by blix_open and blix_close while there is none. */
#include "trace.h"

#include "shm/control.h"

uint64_t blix_thresholds_[BLIX_NAMES_MAX];

/* What is in force; ticks count down, 0 = over. */
static struct blix_control_setting control;
static uint32_t control_gen;

static uint64_t word_for(const char *name, size_t len)
{
	for (uint32_t i = 0; i < control.n_rules; i++)
		if (control.rules[i].ticks > 0 &&
		    blix_control_match(control.rules[i].glob, name, len))
			return control.rules[i].threshold56 | BLIX_THRESHOLD_TOLD;
	if (control.has_threshold)
		return control.threshold56 | BLIX_THRESHOLD_TOLD;
	return blix_setting(sampler_word);
}

static void apply(void)
{
	/* A name beyond the table, too, is told apart by nothing but the general threshold. */
	blix_store_relaxed(&blix_thresholds_[0], control.has_threshold
							 ? control.threshold56 | BLIX_THRESHOLD_TOLD
							 : blix_setting(sampler_word));
	blix_names_set_thresholds(word_for);
	blix_store_relaxed(&blix_log_min_,
			   control.has_log_min ? control.log_min : blix_setting(log_min));
}

void blix_sampler_reset(void)
{
	memset(&control, 0, sizeof(control));
	control_gen = 0;
	apply();
}

/* True: a setting ended. */
static bool count_down(void)
{
	bool ended = false;

	if (control.has_threshold && --control.threshold_ticks == 0) {
		control.has_threshold = false;
		ended = true;
	}
	if (control.has_log_min && --control.log_min_ticks == 0) {
		control.has_log_min = false;
		ended = true;
	}
	for (uint32_t i = 0; i < control.n_rules; i++)
		ended |= control.rules[i].ticks > 0 && --control.rules[i].ticks == 0;
	return ended;
}

void blix_sampler_tick(struct blix_session *session)
{
	struct blix_control_setting fresh;
	uint32_t gen = blix_control_generation(&session->view);
	bool changed = false;

	if (gen != control_gen && blix_control_read(&session->view, &fresh, &gen) == 0) {
		control = fresh;
		control_gen = gen;
		changed = true;
	} else {
		changed = count_down();
	}
	/* A setting is somebody's wish, and nobody is there any more. */
	if (!blix_load_relaxed(&session->listening) &&
	    (control.has_threshold || control.has_log_min || control.n_rules > 0)) {
		memset(&control, 0, sizeof(control));
		changed = true;
	}
	if (changed)
		apply();
}
