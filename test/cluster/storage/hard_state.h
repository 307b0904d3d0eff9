/* hard_state.h - the term and the vote, on disk.
 *
 * The file `state` holds two slots of HARD_STATE_SLOT_BYTES; each save overwrites the older one and
 * syncs it, so that a crash leaves at least one whole slot, and so that a full disk cannot refuse a
 * vote. The newer slot with a right checksum counts. It also names the node, so that a data
 * directory cannot be started under another id. Thread rule: one thread at a time. */
#ifndef CLUSTER_HARD_STATE_H
#define CLUSTER_HARD_STATE_H

#include <stdbool.h>
#include <stdint.h>

enum { HARD_STATE_SLOT_BYTES = 512 };

struct hard_state {
	int fd;
	uint64_t node_id;
	uint64_t sequence; /* of the newest slot; 0: nothing was ever saved */
	uint64_t term;
	uint64_t vote; /* node id; 0 = none */
};

/* Open or create. 0; -ENXIO: the directory belongs to another node, whose id is left in
 * state->node_id; -EBADMSG: no slot is whole; -errno. A node_id of 0 accepts any. */
int hard_state_open(int dir, uint64_t node_id, struct hard_state *state);

/* Durable when it returns 0; unchanged otherwise. */
int hard_state_save(struct hard_state *state, uint64_t term, uint64_t vote);

void hard_state_close(struct hard_state *state);

#endif
