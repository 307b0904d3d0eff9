/* agent/input/target_orphans.c - files that dead predecessors left beside the current one. See
 * target_private.h.
 *
 * A node that restarts while no agent runs moves its predecessor's file aside (PATH.o.INCARNATION).
 * Those are drained and recovered too, one at a time, by whoever holds their consumer lock, and then
 * marked done. They are found by the disk thread (look.h), so the loop never lists a directory. */
#include "agent/input/target_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Done, or of a kind that nobody can drain. */
static bool is_judged(const struct target *t, const char *name)
{
	for (int i = 0; i < TARGET_ORPHANS_JUDGED; i++)
		if (strcmp(t->orphans_judged[i], name) == 0)
			return true;
	return false;
}

static void judge(struct target *t, const char *name)
{
	strcpy(t->orphans_judged[t->next_judged++ % TARGET_ORPHANS_JUDGED], name);
}

static struct target_given_up *given_up(struct target *t, const char *name)
{
	for (int i = 0; i < LOOK_ORPHANS_MAX; i++)
		if (strcmp(t->given_up[i].name, name) == 0)
			return &t->given_up[i];
	return NULL;
}

/* Somebody had a batch of it and could not answer for it: the records are still there, and he may
 * do better another time. Whoever is pushed out of the list is simply tried sooner. */
static void try_again_later(struct target *t, const char *name, uint64_t now_ns)
{
	struct target_given_up *g = given_up(t, name);

	if (!g)
		g = &t->given_up[t->next_given_up++ % LOOK_ORPHANS_MAX];
	strcpy(g->name, name);
	g->due_ns = now_ns + TARGET_ORPHAN_AGAIN_MS * NS_PER_MS;
}

uint32_t target_orphans_pending(const struct target *t)
{
	const struct look_result *look = look_result(t->look);
	uint32_t n = look->orphans;

	for (uint32_t i = 0; i < look->n_names; i++)
		n -= is_judged(t, look->names[i]) && n > 0;
	return n;
}

void target_drop_orphan(struct target *t, bool back_soon)
{
	target_close_attached(&t->orphan, back_soon);
}

/* 0: it is being drained now. Else it is nothing for us: now (-EAGAIN), or ever. */
static int take(struct target *t, const char *name)
{
	const struct blix_map_options options = {
		.check_owner = t->options.check_owner, .owner = t->options.owner, .consumer = true};
	char path[sizeof(t->path) + LOOK_ORPHAN_BYTES + 4], reason[BLIX_REASON_MAX];
	int r;

	snprintf(path, sizeof(path), "%s.o.%s", t->path, name);
	r = blix_map_open(path, &options, &t->orphan.map, reason);
	if (r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -EAGAIN)
		return -EAGAIN;
	if (r < 0)
		return r;
	if (drain_is_done(t->orphan.map))
		return -EALREADY;
	if (blix_map_owner_state(t->orphan.map) != BLIX_OWNER_GONE)
		return -EAGAIN;
	target_take_resource(t, &t->orphan);
	r = target_start_drain(t, &t->orphan);
	return r == -EBUSY || r == -ENOMEM ? -EAGAIN : r;
}

static bool begin(struct target *t, const char *name, uint64_t now_ns)
{
	int r = take(t, name);

	if (r == 0) {
		strcpy(t->orphan_name, name);
		t->orphan_polled_ns = now_ns;
		return true;
	}
	target_drop_orphan(t, false);
	if (r != -EAGAIN)
		judge(t, name);
	return false;
}

/* Those that were given up, after all others. */
static void look_for_given_up(struct target *t, uint64_t now_ns)
{
	const struct look_result *look = look_result(t->look);

	for (uint32_t i = 0; i < look->n_names; i++) {
		struct target_given_up *g = given_up(t, look->names[i]);

		if (!g || now_ns < g->due_ns || is_judged(t, look->names[i]))
			continue;
		g->due_ns = now_ns + TARGET_ORPHAN_AGAIN_MS * NS_PER_MS;
		if (begin(t, look->names[i], now_ns))
			return;
	}
}

/* Once an answer of the disk thread, so that what cannot be had now is tried again every 10 s. */
static void look_for_one(struct target *t, uint64_t now_ns)
{
	const struct look_result *look = look_result(t->look);

	for (uint32_t i = 0; i < look->n_names && look->at_ns != t->orphans_looked_ns; i++)
		if (!is_judged(t, look->names[i]) && !given_up(t, look->names[i]) &&
		    begin(t, look->names[i], now_ns))
			return; /* the others when it is done */
	t->orphans_looked_ns = look->at_ns;
	look_for_given_up(t, now_ns);
}

void target_turn_orphans(struct target *t, uint64_t now_ns)
{
	struct target_attached *o = &t->orphan;
	struct custody_figures figures;
	bool damaged, done;

	if (!o->map) {
		if (!t->options.watch_only)
			look_for_one(t, now_ns);
		return;
	}
	damaged = blix_map_refresh(o->map) == -ENODATA;
	if (!damaged && drain_poll(o->drain, target_elapsed_ms(&t->orphan_polled_ns, now_ns)))
		return;
	done = !damaged && drain_finish(o->drain);
	drain_custody(o->drain, &figures);
	damaged |= blix_map_poisoned(o->map);
	if (!done && !damaged && (!figures.stuck || figures.batches > 0))
		return; /* somebody still answers for what it gave */
	if (done)
		target_say(t, TARGET_LOG_STATE, "orphan_found",
			   "emptied the file of a dead predecessor, incarnation %s",
			   t->orphan_name);
	if (done || damaged)
		judge(t, t->orphan_name);
	else
		try_again_later(t, t->orphan_name, now_ns);
	target_drop_orphan(t, false);
}
