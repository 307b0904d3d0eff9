/* bytes.h - bounded cursors over little-endian bytes, for the disk and wire formats of the node.
 *
 * A reader that runs past its end yields zeros and stays failed; a writer that runs past its end
 * stores nothing and stays failed: callers check once, at the end. Pure, any thread. Includes:
 * libc. */
#ifndef CLUSTER_BYTES_H
#define CLUSTER_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct reader {
	const uint8_t *at;
	size_t left;
	bool failed;
};

struct writer {
	uint8_t *at;
	size_t left;
	bool failed;
};

static inline struct reader reader_of(const void *data, size_t len)
{
	return (struct reader){.at = data, .left = len};
}

static inline struct writer writer_of(void *data, size_t len)
{
	return (struct writer){.at = data, .left = len};
}

/* The next `len` bytes, borrowed from the underlying buffer; NULL when fewer are left. */
static inline const uint8_t *get_bytes(struct reader *r, size_t len)
{
	if (r->failed || len > r->left) {
		r->failed = true;
		return NULL;
	}
	const uint8_t *at = r->at;
	r->at += len;
	r->left -= len;
	return at;
}

static inline uint8_t get_u8(struct reader *r)
{
	const uint8_t *at = get_bytes(r, 1);
	return at ? *at : 0;
}

static inline uint16_t get_u16(struct reader *r)
{
	const uint8_t *at = get_bytes(r, sizeof(uint16_t));
	uint16_t value = 0;

	if (at)
		memcpy(&value, at, sizeof(value));
	return le16toh(value);
}

static inline uint32_t get_u32(struct reader *r)
{
	const uint8_t *at = get_bytes(r, sizeof(uint32_t));
	uint32_t value = 0;

	if (at)
		memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static inline uint64_t get_u64(struct reader *r)
{
	const uint8_t *at = get_bytes(r, sizeof(uint64_t));
	uint64_t value = 0;

	if (at)
		memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

static inline void put_bytes(struct writer *w, const void *data, size_t len)
{
	if (w->failed || len > w->left) {
		w->failed = true;
		return;
	}
	if (len)
		memcpy(w->at, data, len);
	w->at += len;
	w->left -= len;
}

static inline void put_zeros(struct writer *w, size_t len)
{
	if (w->failed || len > w->left) {
		w->failed = true;
		return;
	}
	if (len)
		memset(w->at, 0, len);
	w->at += len;
	w->left -= len;
}

static inline void put_u8(struct writer *w, uint8_t value)
{
	put_bytes(w, &value, sizeof(value));
}

static inline void put_u16(struct writer *w, uint16_t value)
{
	value = htole16(value);
	put_bytes(w, &value, sizeof(value));
}

static inline void put_u32(struct writer *w, uint32_t value)
{
	value = htole32(value);
	put_bytes(w, &value, sizeof(value));
}

static inline void put_u64(struct writer *w, uint64_t value)
{
	value = htole64(value);
	put_bytes(w, &value, sizeof(value));
}

static inline size_t pad8(size_t len)
{
	return (len + 7) & ~(size_t)7;
}

#endif
