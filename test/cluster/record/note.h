/* note.h - the node's structured log records, for what changes its state: one function for each.
 * They carry the current span's ids. What goes wrong while it changes is log.h's. Loop thread. */
#ifndef CLUSTER_NOTE_H
#define CLUSTER_NOTE_H

#include <stdbool.h>
#include <stdint.h>

void note_node(const char *state);
void note_leader(uint64_t node_id, uint64_t term);
void note_peer(uint64_t node_id, bool up);
void note_vm_status(const char *name, const char *status);

/* A VM of a node that is lost; `to` 0: no other has room. */
void note_vm_lost(const char *name, uint64_t from, uint64_t to);

#endif
