/* load.c - a steady load. Most proposals write a row of the table, which is read first; now and
 * then one is deleted. Twice a second one is about a VM instead. Loop thread only. */
#include "load.h"

#include "load_vms.h"
#include "test/cluster/record/record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PERIOD_MS = 20,
	ROWS = 200,	     /* of each node */
	DELETE_EVERY = 50,   /* proposals */
	BEHIND_MAX_MS = 500, /* what a stalled loop missed is made up for, up to this */
};

struct load {
	struct event *timer;
	struct proposals *proposals;
	const struct fsm *fsm;
	uint64_t node_id;
	uint32_t per_second;
	uint64_t last_ns;
	uint64_t owed; /* proposals x 10^9 */
	uint64_t count;
	struct load_vms vms;
	bool begun;
};

static const char *next_state(const struct row *row)
{
	static const char *const states[] = {"creating", "starting", "running", "stopping",
					     "stopped"};
	enum { STATES = sizeof(states) / sizeof(states[0]) };

	for (size_t i = 0; row && i < STATES; i++) {
		size_t len = strlen(states[i]);
		if (row->value_len > len && !memcmp(row->value, states[i], len) &&
		    row->value[len] == ' ')
			return states[(i + 1) % STATES];
	}
	return states[0];
}

static void propose_one(struct load *load)
{
	char key[TABLE_KEY_MAX + 1], value[TABLE_VALUE_MAX + 1];
	struct command command = {.op = COMMAND_PUT};

	if (load_vms_propose(&load->vms, load->proposals, load->fsm, load->last_ns))
		return;
	load->count++;
	command.key_len = (size_t)snprintf(key, sizeof(key), "row-%" PRIu64 "-%" PRIu64,
					   load->node_id, load->count % ROWS);
	command.key = key;
	const struct row *row = fsm_read(load->fsm, key, command.key_len);
	if (row && load->count % DELETE_EVERY == 0) {
		command.op = COMMAND_DELETE;
	} else {
		command.value_len = (size_t)snprintf(value, sizeof(value), "%s %" PRIu64,
						     next_state(row), load->count);
		command.value = (const uint8_t *)value;
	}
	proposals_submit(load->proposals, &command, NULL, NULL);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct load *load = arg;
	uint64_t now = record_now_ns(), past = now - load->last_ns;

	(void)fd;
	(void)what;
	if (past > BEHIND_MAX_MS * 1000000ull)
		past = BEHIND_MAX_MS * 1000000ull;
	load->last_ns = now;
	/* Clients come once there is a cluster to come to. From then on its failures are theirs. */
	load->begun = load->begun || proposals_possible(load->proposals);
	if (!load->begun)
		return;
	load->owed += past * load->per_second;
	while (load->owed >= 1000000000u) {
		load->owed -= 1000000000u;
		propose_one(load);
	}
}

struct load *load_start(struct event_base *base, struct proposals *proposals, const struct fsm *fsm,
			uint64_t node_id, uint32_t per_second, uint32_t vms)
{
	static const struct timeval period = {0, PERIOD_MS * 1000};
	struct load *load = calloc(1, sizeof(*load));

	if (!load)
		return NULL;
	load->proposals = proposals;
	load->fsm = fsm;
	load->node_id = node_id;
	load->vms = load_vms_of(node_id, vms);
	load->per_second = per_second;
	load->last_ns = record_now_ns();
	load->timer = event_new(base, -1, EV_PERSIST, on_timer, load);
	if (!load->timer || event_add(load->timer, &period))
		return load_stop(load);
	return load;
}

struct load *load_stop(struct load *load)
{
	if (!load)
		return NULL;
	if (load->timer)
		event_free(load->timer);
	free(load);
	return NULL;
}
