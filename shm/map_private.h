/* shm/map_private.h - what the map_*.c files share. Nobody else includes it.
 *
 * map.c           open, close, locks               map_validate.c  page 0 and TOC -> blix_view
 * map_registry.c  descriptors -> private copies    map_strings.c   texts -> private copies
 * map_values.c    what changes all the time        map_guard.c     surviving SIGBUS
 * map_text.c      grammar of names, controls       map_keys.c      "was this seen before?"
 *
 * Thread rule: one thread at a time a map; the guard is process-wide and lock-free. */
#ifndef BLIX_SHM_MAP_PRIVATE_H
#define BLIX_SHM_MAP_PRIVATE_H

#include "map.h"
#include "metric.h"

enum {
	MAP_NAME_BYTES_MAX = 200,  /* metric names and label keys */
	MAP_TEXT_BYTES_MAX = 1024, /* help, unit, label values */
	MAP_SLOTS_MAX = 1 << 16,   /* metric slots a reader tells apart */
	MAP_SEQLOCK_TRIES = 8,	   /* then the last consistent value is used */
};

/* ---- refusing -------------------------------------------------------------------------------- */

/* Write one sentence and return `error`. */
int blix_map_refuse(char reason[BLIX_REASON_MAX], int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- map_guard.c: ranges whose holes must not kill us ---------------------------------------- */

/* Watch [base, base + len), page-aligned. Slot >= 0; -EMFILE: all slots are taken; another negative
 * errno: the handler cannot be installed. */
int blix_map_guard_add(void *base, size_t len);
/* Call before the range is unmapped. Negative slots are ignored. */
void blix_map_guard_remove(int slot);
/* True once a hole was hit: the whole range reads as zero from then on. */
bool blix_map_guard_hit(int slot);

/* ---- map_text.c --------------------------------------------------------------------------- */

/* [a-zA-Z_][a-zA-Z0-9_]*, at most MAP_NAME_BYTES_MAX. */
bool blix_map_is_name(const char *text);
bool blix_map_has_control(const char *text);
void blix_map_blank_controls(char *text);
/* Copy a NUL-padded field of `size` bytes to ret_text[size + 1]; what is no valid text becomes '?'.
 */
void blix_map_copy_field(char *ret_text, const char *field, size_t size);

/* ---- map_keys.c: a set of 64-bit keyed hashes --------------------------------------------- */

struct blix_map_keys {
	uint64_t secret[2]; /* so that a hostile node cannot aim for collisions */
	uint64_t *slots;    /* open addressing; 0 = empty */
	uint64_t mask;
	uint64_t used;
};

/* Room for `capacity` keys. 0; -ENOMEM; errno of getrandom. */
int blix_map_keys_init(struct blix_map_keys *keys, uint64_t capacity);
void blix_map_keys_done(struct blix_map_keys *keys);
/* Fold bytes into a running hash; start from 0 or from a number that names the domain. */
uint64_t blix_map_keys_hash(const struct blix_map_keys *keys, uint64_t hash, const void *data,
			    size_t len);
bool blix_map_keys_has(const struct blix_map_keys *keys, uint64_t key);
/* 0; -EEXIST; -ENOSPC beyond the capacity. */
int blix_map_keys_add(struct blix_map_keys *keys, uint64_t key);

/* ---- map_validate.c ----------------------------------------------------------------------- */

/* Check page 0 and the TOC of the open file and say where everything is; ret_view->base and
 * ->consumer stay NULL. Uses pread only. Errors as blix_map_open(). */
int blix_map_validate(int fd, const char *path, uint64_t file_bytes, struct blix_view *ret_view,
		      struct blix_map_identity *ret_identity, char reason[BLIX_REASON_MAX]);

/* ---- map_registry.c ----------------------------------------------------------------------- */

struct blix_map_arena; /* chunks of text that never move */

struct blix_map_registry {
	uint32_t n_layouts; /* taken up so far */
	uint32_t n_metrics;
	uint32_t n_series;
	uint32_t strings_len;
	struct blix_map_layout *layouts; /* n_bounds BLIX_NO_ID = rejected */
	struct blix_map_metric *metrics; /* name NULL = rejected */
	struct blix_map_series *series;	 /* metric BLIX_NO_ID = rejected, or records nowhere */
	char **strings;			 /* by id; NULL = not needed so far */
	struct blix_map_arena *arena;
	uint64_t arena_left; /* bytes it may still grow by */
	struct blix_map_keys keys;
	uint64_t *cells_taken; /* bitmaps: each cell, gauge, exemplar and slot has one owner */
	uint64_t *gauges_taken;
	uint64_t *exemplars_taken;
	uint64_t *slots_taken;
	uint64_t generation;
	uint64_t rejected;
};

/* 0; -ENOMEM. */
int blix_map_registry_init(struct blix_map_registry *registry, const struct blix_view *view);
void blix_map_registry_done(struct blix_map_registry *registry);
/* Take up what was published since. 0; -EPROTO: something new was rejected. */
int blix_map_registry_load(struct blix_map_registry *registry, const struct blix_view *view);

/* ---- map_strings.c -------------------------------------------------------------------------- */

/* Copy `bytes` (a multiple of 8) of the file in whole words. */
void blix_map_copy_words(void *ret_copy, const void *shared, size_t bytes);

/* Take up how many bytes of strings are published; they never become fewer. */
void blix_map_strings_refresh(struct blix_map_registry *registry, const struct blix_view *view);
/* The text of a string id: terminated, valid UTF-8, no NUL inside; lives as long as the registry.
 * NULL: there is none, or it is malformed. */
const char *blix_map_get_string(struct blix_map_registry *registry, const struct blix_view *view,
				uint32_t id);
/* The same, with blanks for control characters: fit to be shown in one line. */
const char *blix_map_get_line(struct blix_map_registry *registry, const struct blix_view *view,
			      uint32_t id);
void blix_map_strings_done(struct blix_map_registry *registry);

/* ---- the map ------------------------------------------------------------------------------ */

struct blix_map {
	int fd;
	int guard_file; /* slots of the guard; -1 = none */
	int guard_consumer;
	struct blix_view view;
	struct blix_map_identity identity;
	struct blix_map_registry registry;
	uint64_t pair_mono_ns; /* last consistent pair */
	uint64_t pair_real_ns;
	uint8_t *resource;
};

#endif
