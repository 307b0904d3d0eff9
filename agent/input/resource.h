/* agent/input/resource.h - who a node is, as a batch_resource: from the file's OTLP Resource bytes
 * and its identity.
 *
 * The bytes are hostile: what is well-formed of them is taken, the rest is counted. The identity of
 * page 0 fills what they lack; what names this one life (incarnation, process) comes last.
 *
 * Thread rule: pure. Includes: batch.h, shm/map.h (for the identity), libc. */
#ifndef BLIX_AGENT_INPUT_RESOURCE_H
#define BLIX_AGENT_INPUT_RESOURCE_H

#include "agent/model/batch.h"
#include "shm/map.h"

/* A resource with one holder. 0; -ENOMEM. attrs.dropped says how many attributes were malformed, of
 * a type a resource does not need, or too many. */
int resource_new(const struct blix_map_identity *id, const uint8_t *bytes, size_t len,
		 struct batch_resource **ret_resource);

#endif
