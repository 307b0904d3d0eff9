/* agent/input/names.c - see names.h. */
#include "agent/input/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct names {
	struct blix_map *map;
	struct batch_resource *resource;
	uint32_t n_ids;
	struct batch_text by_id[]; /* at NULL: not asked for yet */
};

struct names *names_new(struct blix_map *map, struct batch_resource *resource)
{
	uint32_t n_ids = (uint32_t)(blix_map_view(map)->strings_len / 8);
	struct names *n = calloc(1, sizeof(*n) + (size_t)n_ids * sizeof(n->by_id[0]));

	if (!n)
		return NULL;
	n->map = map;
	n->resource = resource;
	n->n_ids = n_ids;
	return n;
}

struct names *names_free(struct names *n)
{
	free(n);
	return NULL;
}

static int look_up(struct names *n, uint32_t id, struct arena *memory, struct batch_text *ret_text)
{
	const char *text = id < n->n_ids ? blix_map_string(n->map, id) : NULL;
	size_t len = text ? strlen(text) : 0;
	void *copy;
	bool keep;

	if (!text)
		return -ENOENT;
	keep = arena_alloc(&n->resource->memory, len + 1, &copy) == 0;
	if (!keep) {
		int r = arena_alloc(memory, len + 1, &copy);

		if (r < 0)
			return r;
	}
	memcpy(copy, text, len + 1);
	*ret_text = (struct batch_text){copy, (uint32_t)len};
	if (keep)
		n->by_id[id] = *ret_text;
	return 0;
}

int names_get(struct names *n, uint32_t id, struct arena *memory, struct batch_text *ret_text)
{
	if (id >= n->n_ids || !n->by_id[id].at)
		return look_up(n, id, memory, ret_text);
	*ret_text = n->by_id[id];
	return 0;
}
