/* agent/encode/otlp_wire.h - protobuf written from a message's end to its start. Private to encode/.
 *
 * A message's length stands before it. Written backwards it is known when it is needed: no pass to
 * measure, nothing to move but the finished body once. Fields therefore come in descending order,
 * repeated ones last element first; the bytes read in ascending order, as a canonical encoder
 * writes them (the tests compare with protobuf-c).
 *
 * The bytes gather at the end of the buffer's capacity; wire_end() puts them behind its content.
 * Pure. Includes: buf.h. */
#ifndef BLIX_AGENT_ENCODE_OTLP_WIRE_H
#define BLIX_AGENT_ENCODE_OTLP_WIRE_H

#include "agent/buf.h"

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5, WIRE_VARINT_BYTES_MAX = 10 };

struct wire {
	struct buf *out;
	size_t used; /* bytes at the end of the buffer's capacity */
};

/* Make room where there was none; -1 once the buffer has failed. */
int wire_grow(struct wire *w, size_t len);

/* Append what was written to the buffer's content. */
void wire_end(struct wire *w);

/* Where the byte after the next one's place is: writing goes down from here. NULL: failed. */
static inline uint8_t *wire_room(struct wire *w, size_t len)
{
	if (__builtin_expect(w->out->capacity - w->out->len - w->used < len || w->out->failed, 0) &&
	    wire_grow(w, len) < 0)
		return NULL;
	return w->out->data + w->out->capacity - w->used;
}

static inline uint8_t *wire_varint_down(uint8_t *at, uint64_t value)
{
	if (value < 0x80) {
		*--at = (uint8_t)value;
		return at;
	}

	uint32_t n = (63u - (uint32_t)__builtin_clzll(value)) / 7; /* bytes that others follow */

	at -= n + 1;
	for (uint32_t i = 0; i < n; i++, value >>= 7)
		at[i] = (uint8_t)(value | 0x80);
	at[n] = (uint8_t)value;
	return at;
}

static inline uint8_t *wire_tag_down(uint8_t *at, uint32_t field, uint32_t type)
{
	return wire_varint_down(at, field << 3 | type);
}

static inline void wire_took(struct wire *w, const uint8_t *at)
{
	w->used = (size_t)(w->out->data + w->out->capacity - at);
}

static inline void wire_put_varint(struct wire *w, uint32_t field, uint64_t value)
{
	uint8_t *at = wire_room(w, 2 * WIRE_VARINT_BYTES_MAX);

	if (at)
		wire_took(w, wire_tag_down(wire_varint_down(at, value), field, WIRE_VARINT));
}

/* proto3: a zero is not written where the field has no presence. */
static inline void wire_opt_varint(struct wire *w, uint32_t field, uint64_t value)
{
	if (value)
		wire_put_varint(w, field, value);
}

static inline uint64_t wire_zigzag(int32_t value)
{
	return ((uint32_t)value << 1) ^ (value < 0 ? UINT32_MAX : 0);
}

static inline uint8_t *wire_fixed_down(uint8_t *at, uint64_t value, uint32_t bytes)
{
	at -= bytes;
	for (uint32_t i = 0; i < bytes; i++) /* one store, on a little-endian machine */
		at[i] = (uint8_t)(value >> (8 * i));
	return at;
}

static inline void wire_put_64(struct wire *w, uint32_t field, uint64_t value)
{
	uint8_t *at = wire_room(w, WIRE_VARINT_BYTES_MAX + sizeof(value));

	if (at)
		wire_took(w, wire_tag_down(wire_fixed_down(at, value, 8), field, WIRE_64));
}

static inline void wire_opt_64(struct wire *w, uint32_t field, uint64_t value)
{
	if (value)
		wire_put_64(w, field, value);
}

static inline void wire_put_double(struct wire *w, uint32_t field, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	wire_put_64(w, field, bits);
}

static inline void wire_opt_32(struct wire *w, uint32_t field, uint32_t value)
{
	uint8_t *at = value ? wire_room(w, WIRE_VARINT_BYTES_MAX + sizeof(value)) : NULL;

	if (at)
		wire_took(w, wire_tag_down(wire_fixed_down(at, value, 4), field, WIRE_32));
}

static inline void wire_put_bytes(struct wire *w, uint32_t field, const void *bytes, size_t len)
{
	uint8_t *at = wire_room(w, 2 * WIRE_VARINT_BYTES_MAX + len);

	if (!at)
		return;
	at -= len;
	if (len)
		memcpy(at, bytes, len);
	wire_took(w, wire_tag_down(wire_varint_down(at, len), field, WIRE_BYTES));
}

static inline void wire_opt_bytes(struct wire *w, uint32_t field, const void *bytes, size_t len)
{
	if (len)
		wire_put_bytes(w, field, bytes, len);
}

/* A message: remember where it ends, write its fields, then close it. */
static inline size_t wire_open(const struct wire *w)
{
	return w->used;
}

static inline void wire_close(struct wire *w, uint32_t field, size_t opened)
{
	uint8_t *at = wire_room(w, 2 * WIRE_VARINT_BYTES_MAX);

	if (at)
		wire_took(w,
			  wire_tag_down(wire_varint_down(at, w->used - opened), field, WIRE_BYTES));
}

#endif
