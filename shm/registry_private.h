/* shm/registry_private.h - what registry.c and registry_spec.c share. Includes: shm/ only. */
#ifndef BLIX_SHM_REGISTRY_PRIVATE_H
#define BLIX_SHM_REGISTRY_PRIVATE_H

#include "registry.h"

#include <string.h>

/* A text to look up or intern; not terminated. */
struct text {
	const char *at;
	uint32_t len;
};

static inline struct text text_of(const char *s)
{
	return (struct text){.at = s ? s : "", .len = s ? (uint32_t)strlen(s) : 0};
}

static inline bool same_text(struct text a, struct text b)
{
	return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

/* A metric about to be added, from the catalogue or from the program. */
struct candidate {
	uint32_t slot;
	enum blix_kind kind;
	struct text name;
	struct text help;
	struct text unit;
	bool stored_ns;
	uint32_t n_keys;
	struct text keys[BLIX_LABELS_MAX];
	uint32_t max_series;
	const uint64_t *bounds;
	uint32_t n_bounds;
};

/* Copy a text of the program as UTF-8: what is none becomes U+FFFD, what is too long is cut between
 * two characters. */
struct text blix_text_clean(const char *from, char *to, uint32_t max);

/* Check the program's spec and bring it into our form; help goes through `help_buf`, the other
 * texts stay the program's. 0; -EINVAL. */
int blix_spec_check(const struct blix_registry_spec *spec, char help_buf[BLIX_HELP_MAX],
		    struct candidate *ret_candidate);

/* Would two metrics together yield one sample or family name twice? */
bool blix_names_collide(struct text a, uint32_t kind_a, struct text b, uint32_t kind_b);

#endif
