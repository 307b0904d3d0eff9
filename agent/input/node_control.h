/* agent/input/node_control.h - write run-time control into the file of a node.
 *
 * Thread rule: the loop thread; only the holder of the consumer lock. Includes: shm/. */
#ifndef BLIX_AGENT_INPUT_NODE_CONTROL_H
#define BLIX_AGENT_INPUT_NODE_CONTROL_H

#include "shm/control.h"
#include "shm/map.h"

/* Replace what is there; nothing is touched where nothing was ever set and nothing is to be.
 * 0; -ENOENT the file has no such element or is mapped read-only; -EINVAL out of range. */
int node_control_write(struct blix_map *map, const struct blix_control_setting *setting);

#endif
