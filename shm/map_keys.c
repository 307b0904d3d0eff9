/* shm/map_keys.c - a set of keys, to find names and series that come twice.
 *
 * Only a 64-bit keyed hash of each key is kept. With a random secret two different keys of one file
 * collide with a probability below 2^-30, and the node, who does not know the secret, can do
 * nothing to raise it or to make the probing long. Thread rule: as the map. Includes: shm/ only. */
#include "shm/map_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static uint64_t rotate_left(uint64_t value, unsigned int bits)
{
	return value << bits | value >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate_left(v[1], 13) ^ v[0];
	v[0] = rotate_left(v[0], 32);
	v[2] += v[3];
	v[3] = rotate_left(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate_left(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate_left(v[1], 17) ^ v[2];
	v[2] = rotate_left(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
}

/* SipHash-1-3 over the running hash, the bytes, and their number. */
uint64_t blix_map_keys_hash(const struct blix_map_keys *keys, uint64_t hash, const void *data,
			    size_t len)
{
	uint64_t v[4] = {
		keys->secret[0] ^ 0x736f6d6570736575u,
		keys->secret[1] ^ 0x646f72616e646f6du,
		keys->secret[0] ^ 0x6c7967656e657261u,
		keys->secret[1] ^ 0x7465646279746573u,
	};
	const uint8_t *bytes = data;
	uint64_t word;

	sip_word(v, hash);
	for (size_t at = 0; at < len; at += sizeof(word)) {
		word = 0;
		memcpy(&word, bytes + at, len - at < sizeof(word) ? len - at : sizeof(word));
		sip_word(v, word);
	}
	sip_word(v, len);
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

int blix_map_keys_init(struct blix_map_keys *keys, uint64_t capacity)
{
	uint64_t size = 16;

	while (size < 2 * capacity)
		size *= 2;
	if (getrandom(keys->secret, sizeof(keys->secret), 0) != (ssize_t)sizeof(keys->secret))
		return -errno;
	keys->slots = calloc(size, sizeof(*keys->slots));
	if (!keys->slots)
		return -ENOMEM;
	keys->mask = size - 1;
	keys->used = 0;
	return 0;
}

void blix_map_keys_done(struct blix_map_keys *keys)
{
	free(keys->slots);
	keys->slots = NULL;
}

/* Slot of `key`, or the empty one where it belongs. At most half of the slots are ever used. */
static uint64_t *probe(const struct blix_map_keys *keys, uint64_t key)
{
	uint64_t at = key & keys->mask;

	while (keys->slots[at] && keys->slots[at] != key)
		at = (at + 1) & keys->mask;
	return &keys->slots[at];
}

static uint64_t not_empty(uint64_t key)
{
	return key ? key : 1;
}

bool blix_map_keys_has(const struct blix_map_keys *keys, uint64_t key)
{
	return *probe(keys, not_empty(key)) != 0;
}

int blix_map_keys_add(struct blix_map_keys *keys, uint64_t key)
{
	uint64_t *slot = probe(keys, not_empty(key));

	if (*slot)
		return -EEXIST;
	if (keys->used > keys->mask / 2)
		return -ENOSPC;
	*slot = not_empty(key);
	keys->used++;
	return 0;
}
