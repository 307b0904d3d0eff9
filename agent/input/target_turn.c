/* agent/input/target_turn.c - what happens when. See target_private.h.
 *
 * One timer drives everything. Its period is the time the fastest ring needs to get a quarter
 * full, at most half a second while a file is attached (the agent's beat) and one second else. */
#include "agent/input/target_private.h"

#include <errno.h>
#include <event2/event.h>
#include <time.h>

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t target_mono_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t target_unix_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

/* ---- the peak of the last minute ------------------------------------------------------------ */

/* A fixed window and not "since the last scrape": two scrapers and a curl see the same. */
static void note_fill(struct target *t, uint64_t now_ns, double fill)
{
	uint64_t second = now_ns / NS_PER_S;
	double *place;

	while (t->peak_s < second) {
		if (second - t->peak_s > TARGET_PEAKS)
			t->peak_s = second - TARGET_PEAKS;
		t->peaks[++t->peak_s % TARGET_PEAKS] = 0;
	}
	place = &t->peaks[second % TARGET_PEAKS];
	if (fill > *place)
		*place = fill;
}

double target_peak(const struct target *t, uint64_t now_ns)
{
	uint64_t age_s = now_ns / NS_PER_S - t->peak_s;
	double most = 0;

	for (uint64_t i = 0; i + age_s < TARGET_PEAKS && i <= t->peak_s; i++) {
		double peak = t->peaks[(t->peak_s - i) % TARGET_PEAKS];

		most = peak > most ? peak : most;
	}
	return most;
}

/* ---- draining -------------------------------------------------------------------------------- */

uint32_t target_elapsed_ms(uint64_t *since_ns, uint64_t now_ns)
{
	uint64_t ms = now_ns > *since_ns ? (now_ns - *since_ns) / NS_PER_MS : 0;

	*since_ns = now_ns;
	return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static void drain_now(struct target *t, uint64_t now_ns)
{
	bool more = false;
	int r;

	if (!t->now.map)
		return;
	r = blix_map_refresh(t->now.map);
	if (r == -ENODATA) {
		target_quarantine(t);
		return;
	}
	if (r == -EPROTO)
		target_say(t, TARGET_LOG_REPEAT, "registry_malformed",
			   "metrics or series of the node are malformed and not shown: %llu",
			   (unsigned long long)blix_map_rejected(t->now.map));
	note_fill(t, now_ns, drain_fill(t->now.map));
	if (t->now.drain)
		more = drain_poll(t->now.drain, target_elapsed_ms(&t->polled_ns, now_ns));
	if (blix_map_poisoned(t->now.map)) {
		target_quarantine(t);
		return;
	}
	/* The lock was seen free before this poll, so nobody can have written since. */
	if (t->now.drain && t->life.gone && !t->drained && !more)
		t->drained = drain_finish(t->now.drain);
}

/* A predecessor's rings: finite, because its owner is gone. Other agents' files stay theirs. False: there is
 * more to do. */
static bool drain_old(struct target_attached *old, uint32_t elapsed_ms, uint64_t now_ns)
{
	struct custody_figures figures;

	if (blix_map_refresh(old->map) == -ENODATA)
		return true;
	if (drain_poll(old->drain, elapsed_ms))
		return false;
	if (blix_map_poisoned(old->map) || blix_map_owner_state(old->map) != BLIX_OWNER_GONE)
		return true;
	drain_note_exit(old->drain, now_ns);
	drain_custody(old->drain, &figures);
	/* Its map stays until everything it gave was released, or never will be. */
	return drain_finish(old->drain) || figures.stuck;
}

static void drain_olds(struct target *t, uint64_t now_ns)
{
	for (int i = 0; i < TARGET_OLDS; i++) {
		struct target_attached *old = &t->olds[i];

		if (old->map &&
		    drain_old(old, target_elapsed_ms(&t->old_polled_ns[i], now_ns), now_ns))
			target_close_attached(old, false);
	}
}

/* ---- the timer ------------------------------------------------------------------------------- */

static bool is_due(uint64_t *due_ns, uint64_t now_ns, uint32_t period_ms)
{
	if (now_ns < *due_ns)
		return false;
	*due_ns = now_ns + period_ms * NS_PER_MS;
	return true;
}

static uint32_t next_ms(const struct target *t, uint64_t now_ns)
{
	uint32_t ms = TARGET_PROBE_MS;

	if (t->now.map)
		ms = t->now.drain ? drain_interval_ms(t->now.drain) : TARGET_LIFE_MS;
	for (int i = 0; i < TARGET_OLDS; i++)
		if (t->olds[i].map && drain_interval_ms(t->olds[i].drain) < ms)
			ms = drain_interval_ms(t->olds[i].drain);
	if (t->orphan.map && drain_interval_ms(t->orphan.drain) < ms)
		ms = drain_interval_ms(t->orphan.drain);
	if (t->process_gone && !t->life.gone && ms > TARGET_HURRY_MS)
		ms = TARGET_HURRY_MS;
	if (t->slow_waits && slow_waits_due_ms(t->slow_waits, now_ns) < ms)
		ms = slow_waits_due_ms(t->slow_waits, now_ns);
	return ms;
}

/* Idle targets tick on the same half seconds of the clock, to the microsecond, so that ten files
 * and the agent's own timer wake the process twice a second and not twenty times. */
static uint64_t aligned_us(uint32_t ms, uint64_t now_ns)
{
	uint64_t us = ms * UINT64_C(1000);

	if (ms != TARGET_LIFE_MS && ms != TARGET_PROBE_MS)
		return us;
	return us - now_ns / 1000 % us;
}

static void arm(struct target *t, uint64_t us)
{
	struct timeval after = {.tv_sec = (time_t)(us / 1000000),
				.tv_usec = (suseconds_t)(us % 1000000)};

	event_add(t->timer, &after);
}

void target_turn(struct target *t, uint64_t now_ns)
{
	drain_now(t, now_ns);
	drain_olds(t, now_ns);
	target_turn_orphans(t, now_ns);
	if (t->slow_waits)
		slow_waits_turn(t->slow_waits, now_ns);
	if (is_due(&t->probe_due_ns, now_ns, TARGET_PROBE_MS)) {
		watch_refresh(t->watch);
		target_probe(t, now_ns);
		target_retry_lock(t);
	}
	if (is_due(&t->life_due_ns, now_ns, TARGET_LIFE_MS) || t->process_gone)
		target_check_life(t, now_ns);
	if (is_due(&t->look_due_ns, now_ns, TARGET_LOOK_MS))
		look_ask(t->look, t->known ? t->id.data_dir : "");
	if (t->now.wake && !t->life.gone && drain_wants_wake(t->now.drain))
		wake_arm(t->now.wake);
	arm(t, aligned_us(next_ms(t, now_ns), now_ns));
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct target *t = arg;

	(void)fd;
	(void)what;
	target_turn(t, target_mono_ns());
}

int target_start_timer(struct target *t)
{
	t->timer = evtimer_new(t->base, on_timer, t);
	if (!t->timer)
		return -1;
	arm(t, 0);
	return 0;
}

void target_drain_soon(struct target *t)
{
	arm(t, 0);
}

void target_wake_soon(struct target *t)
{
	t->probe_due_ns = 0;
	arm(t, 0);
}
