/* shm/map_strings.c - private copies of foreign text.
 *
 * A string is copied in whole words, judged, and kept once for each id. What an honest file can
 * hold bounds what is kept: strings that overlap would multiply. Thread rule: as the map. Includes:
 * shm/ only. */
#include "shm/map_private.h"

#include "shm/atomic.h"
#include "shm/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA_CHUNK = 16384 };

void blix_map_copy_words(void *ret_copy, const void *shared, size_t bytes)
{
	const uint64_t *from = shared;
	uint8_t *to = ret_copy;

	for (size_t i = 0; i < bytes / sizeof(uint64_t); i++) {
		uint64_t word = blix_load_relaxed(&from[i]);

		memcpy(to + i * sizeof(word), &word, sizeof(word));
	}
}

struct blix_map_arena {
	struct blix_map_arena *next;
	size_t used;
	size_t size;
	char bytes[];
};

/* `size` bytes that live as long as the registry; NULL: no memory, or more than an honest file of
 * this size can need (overlapping strings would multiply). */
static char *arena_take(struct blix_map_registry *r, size_t size)
{
	struct blix_map_arena *chunk = r->arena;
	char *bytes;

	if (size > r->arena_left)
		return NULL;
	if (!chunk || chunk->size - chunk->used < size) {
		size_t room = size > ARENA_CHUNK ? size : ARENA_CHUNK;

		chunk = malloc(sizeof(*chunk) + room);
		if (!chunk)
			return NULL;
		*chunk = (struct blix_map_arena){.next = r->arena, .size = room};
		r->arena = chunk;
	}
	bytes = chunk->bytes + chunk->used;
	chunk->used += size;
	r->arena_left -= size;
	return bytes;
}

static char *arena_copy(struct blix_map_registry *r, const char *text, size_t len)
{
	char *copy = arena_take(r, len + 1);

	if (!copy)
		return NULL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

static uint64_t string_end(uint64_t off, uint16_t len)
{
	return off + ((2u + len + 7u) & ~7u);
}

void blix_map_strings_refresh(struct blix_map_registry *r, const struct blix_view *view)
{
	/* Pairs with the release that published the strings. */
	uint32_t len = blix_load_acquire(&blix_view_header(view)->reg_strings_len);

	if (len > view->strings_len)
		len = (uint32_t)view->strings_len;
	if (len > r->strings_len)
		r->strings_len = len;
}

/* Is the string up to `end` published? More may be by now. */
static bool is_published(struct blix_map_registry *r, const struct blix_view *view, uint64_t end)
{
	if (end > r->strings_len)
		blix_map_strings_refresh(r, view);
	return end <= r->strings_len;
}

const char *blix_map_get_string(struct blix_map_registry *r, const struct blix_view *view,
				uint32_t id)
{
	char words[2 + MAP_TEXT_BYTES_MAX + 8] = {0};
	uint64_t off = (uint64_t)id * 8;
	const uint8_t *at = view->base + view->strings_off + off;
	uint16_t len;

	if (off >= view->strings_len)
		return NULL;
	if (r->strings[id])
		return r->strings[id];
	if (!is_published(r, view, string_end(off, 0)))
		return NULL;
	len = blix_load_relaxed((const uint16_t *)(const void *)at);
	if (len > MAP_TEXT_BYTES_MAX || !is_published(r, view, string_end(off, len)))
		return NULL;
	blix_map_copy_words(words, at, string_end(0, len));
	if (memchr(words + 2, '\0', len) || !blix_utf8_valid((const uint8_t *)words + 2, len))
		return NULL;
	r->strings[id] = arena_copy(r, words + 2, len);
	return r->strings[id];
}

const char *blix_map_get_line(struct blix_map_registry *r, const struct blix_view *view,
			      uint32_t id)
{
	const char *text = blix_map_get_string(r, view, id);
	char *line;

	if (!text || !blix_map_has_control(text))
		return text;
	line = arena_copy(r, text, strlen(text));
	if (line)
		blix_map_blank_controls(line);
	return line;
}

void blix_map_strings_done(struct blix_map_registry *r)
{
	while (r->arena) {
		struct blix_map_arena *next = r->arena->next;

		free(r->arena);
		r->arena = next;
	}
	free(r->strings);
}
