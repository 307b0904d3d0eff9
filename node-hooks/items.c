/* node-hooks/items.c - see items.h. Includes: items.h. */
#include "items.h"

enum {
	HEAD = sizeof(struct blix_item),
	TEXT_MAX = UINT16_MAX & ~7,
	ARRAY_MAX = 512, /* bytes of an array's elements */
};

static uint32_t padded(uint32_t len)
{
	return (len + 7) & ~7u;
}

bool blix_run_put(struct blix_run *run, blix_key key, uint8_t type, uint8_t flags,
		  const void *value, uint32_t len)
{
	if (len > TEXT_MAX || HEAD + padded(len) > blix_run_left(run))
		return false;
	blix_run_bytes(blix_run_head(run, key, type, flags, len), value, len);
	return true;
}

static bool put_word(struct blix_run *run, blix_key key, uint8_t type, uint64_t word)
{
	if (HEAD + 8 > blix_run_left(run))
		return false;
	blix_store_data(blix_run_head(run, key, type, 0, 8), word);
	return true;
}

/* ---- texts ---------------------------------------------------------------------------------- */

static bool continues_character(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* Bytes of the longest beginning of at most `max_bytes` that does not end within a character. */
static uint32_t cut_bytes(const char *text, uint32_t max_bytes)
{
	uint32_t at = max_bytes;

	/* No character is longer than four bytes: more continuation bytes are none of any. */
	while (at > 0 && max_bytes - at < 4 && continues_character(text[at]))
		at--;
	return continues_character(text[at]) ? max_bytes : at;
}

/* Bytes of the first `max_chars` characters. */
static uint32_t cut_chars(const char *text, uint32_t len, uint32_t max_chars)
{
	uint32_t chars = 0;

	if (len <= max_chars)
		return len;
	for (uint32_t i = 0; i < len; i++)
		if (!continues_character(text[i]) && chars++ == max_chars)
			return i;
	return len;
}

bool blix_run_text(struct blix_run *run, blix_key key, uint8_t type, const char *text, uint64_t len,
		   uint32_t max_chars)
{
	uint32_t room = blix_run_left(run);
	uint32_t fits;
	uint32_t take;

	if (__builtin_expect(room >= HEAD && len <= ((room - HEAD) & ~7u) && len <= max_chars, 1)) {
		blix_run_bytes(blix_run_head(run, key, type, 0, (uint32_t)len), text,
			       (uint32_t)len);
		return true;
	}
	if (room < HEAD)
		return false;
	room -= HEAD;
	fits = room < TEXT_MAX ? room : TEXT_MAX;
	take = len > fits ? cut_bytes(text, fits) : (uint32_t)len;
	take = cut_chars(text, take, max_chars);
	if (take == 0 && len > 0 && max_chars > 0)
		return false;
	return blix_run_put(run, key, type, take < len ? BLIX_ITEM_CUT : 0, text, take);
}

/* ---- attributes ------------------------------------------------------------------------------- */

/* An array is whole or not at all: half of one would say something else. */
static bool put_array(struct blix_run *run, const struct blix_attr *attr, uint32_t max_chars)
{
	uint64_t words[ARRAY_MAX / 8];
	struct blix_run elements = {.words = words, .size = sizeof(words)};

	for (uint64_t i = 0; i < attr->len; i++) {
		const char *text = attr->value.strings[i] ? attr->value.strings[i] : "";
		size_t len = strnlen(text, ARRAY_MAX);
		uint32_t take = cut_chars(text, (uint32_t)len, max_chars);

		if (!blix_run_put(&elements, BLIX_NO_KEY, BLIX_ITEM_STRING,
				  take < len ? BLIX_ITEM_CUT : 0, text, take))
			return false;
	}
	return blix_run_put(run, attr->key, BLIX_ITEM_ARRAY, 0, words, elements.used);
}

bool blix_run_attr(struct blix_run *run, const struct blix_attr *attr, uint32_t max_chars)
{
	if (attr->key.id == 0)
		return false;
	switch (attr->type) {
	case BLIX_ATTR_BOOL:
		return put_word(run, attr->key, BLIX_ITEM_BOOL, attr->value.boolean != 0);
	case BLIX_ATTR_I64:
	case BLIX_ATTR_F64: /* the same eight bytes */
		return put_word(run, attr->key, (uint8_t)attr->type, (uint64_t)attr->value.i64);
	case BLIX_ATTR_STR:
		return blix_run_text(run, attr->key, BLIX_ITEM_STRING, attr->value.bytes, attr->len,
				     max_chars);
	case BLIX_ATTR_BYTES:
		if (attr->len > TEXT_MAX)
			return false;
		return blix_run_put(run, attr->key, BLIX_ITEM_BYTES, 0, attr->value.bytes,
				    (uint32_t)attr->len);
	case BLIX_ATTR_STR_ARRAY:
		return put_array(run, attr, max_chars);
	default:
		return false;
	}
}

uint32_t blix_run_attrs(struct blix_run *run, const struct blix_attr *attrs, size_t n, uint32_t max,
			uint32_t max_chars)
{
	uint32_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (kept < max && blix_run_attr(run, &attrs[i], max_chars))
			kept++;
	return (uint32_t)(n - kept < UINT16_MAX ? n - kept : UINT16_MAX);
}
