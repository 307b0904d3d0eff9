/* agent/model/snapshot_private.h - what struct snapshot holds; for the files of model/ alone. */
#ifndef BLIX_AGENT_MODEL_SNAPSHOT_PRIVATE_H
#define BLIX_AGENT_MODEL_SNAPSHOT_PRIVATE_H

#include "agent/model/arena.h"
#include "agent/model/snapshot.h"

enum { SNAPSHOT_NONE = UINT32_MAX };

/* Beside each family. */
struct family_state {
	uint32_t *series; /* the same array as family.series */
	uint32_t series_capacity;
	uint32_t superset;		  /* family; SNAPSHOT_NONE */
	uint32_t linked, linked_superset; /* how many series of both the parents below cover */
};

/* Beside each series. */
struct series_state {
	uint64_t hash;
	uint32_t parent;       /* the superset's series it counts towards; SNAPSHOT_NONE */
	uint64_t shown;	       /* value that the last clamp left */
	unsigned __int128 sum; /* of its subset, while clamping; wide, so that it cannot wrap */
};

/* A sample name that is taken: `base` + the suffix. */
struct taken_name {
	const char *base;
	uint32_t len;
	uint32_t suffix;
	uint32_t family; /* + 1; 0 = empty place */
};

struct snapshot {
	struct arena text;
	struct snapshot_family *families;
	struct family_state *family_states;
	uint32_t n_families, families_capacity;
	struct snapshot_series *series;
	struct series_state *series_states;
	uint32_t n_series, series_capacity;
	uint64_t *values;
	uint32_t n_values, values_capacity;
	struct snapshot_exemplar *exemplars;
	uint32_t n_exemplars, exemplars_capacity;
	struct taken_name *names; /* open addressing */
	uint32_t n_names, names_capacity;
	uint32_t *series_index; /* open addressing: series + 1 */
	uint32_t series_index_capacity;
	uint64_t refused;
};

/* Values of a series of this family. */
uint32_t snapshot_value_count(const struct snapshot_family *family, bool exponential);

#endif
