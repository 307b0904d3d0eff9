/* log_segment.c - the bytes of one segment. Pure, any thread. */
#include "log_segment.h"

#include "bytes.h"
#include "test/cluster/limits.h"
#include "shm/format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const uint64_t head_magic = 0x31474f4c4e584c42ULL; /* "BLXNLOG1" */

static const char name_prefix[] = "log-";

enum { NAME_DIGITS = 20, CRC_BYTES = 4 };

void segment_name(uint64_t first, char name[SEGMENT_NAME_BYTES])
{
	snprintf(name, SEGMENT_NAME_BYTES, "%s%020" PRIu64, name_prefix, first);
}

bool segment_parse_name(const char *name, uint64_t *ret_first)
{
	char canonical[SEGMENT_NAME_BYTES];

	if (strncmp(name, name_prefix, sizeof(name_prefix) - 1) ||
	    strlen(name) != sizeof(name_prefix) - 1 + NAME_DIGITS)
		return false;
	uint64_t first = strtoull(name + sizeof(name_prefix) - 1, NULL, 10);
	segment_name(first, canonical);
	if (!first || strcmp(name, canonical))
		return false;
	*ret_first = first;
	return true;
}

void segment_encode_head(uint64_t first, uint8_t head[LOG_HEAD_BYTES])
{
	struct writer w = writer_of(head, LOG_HEAD_BYTES);

	put_u64(&w, head_magic);
	put_u64(&w, first);
	put_u32(&w, blix_crc32c(head, 16));
	put_zeros(&w, w.left);
}

bool segment_check_head(const uint8_t *bytes, size_t len, uint64_t first)
{
	uint8_t head[LOG_HEAD_BYTES];

	segment_encode_head(first, head);
	return len >= LOG_HEAD_BYTES && !memcmp(bytes, head, LOG_HEAD_BYTES);
}

size_t segment_record_bytes(size_t len)
{
	return LOG_RECORD_BYTES + pad8(len);
}

void segment_encode_record(uint64_t index, uint64_t synced, const struct raft_entry *entry,
			   uint8_t *out)
{
	size_t bytes = segment_record_bytes(entry->buf.len);
	struct writer w = writer_of(out + CRC_BYTES, bytes - CRC_BYTES);

	put_u32(&w, (uint32_t)entry->buf.len);
	put_u64(&w, index);
	put_u64(&w, entry->term);
	put_u64(&w, synced);
	put_u16(&w, entry->type);
	put_zeros(&w, LOG_RECORD_BYTES - CRC_BYTES - 4 - 3 * 8 - 2);
	put_bytes(&w, entry->buf.base, entry->buf.len);
	put_zeros(&w, w.left);

	struct writer crc = writer_of(out, CRC_BYTES);
	put_u32(&crc, blix_crc32c(out + CRC_BYTES, bytes - CRC_BYTES));
}

bool segment_decode_record(const uint8_t *bytes, size_t len, size_t offset,
			   struct record *ret_record)
{
	if (offset > len || len - offset < LOG_RECORD_BYTES)
		return false;
	struct reader r = reader_of(bytes + offset, LOG_RECORD_BYTES);
	uint32_t crc = get_u32(&r);
	struct record record = {.len = get_u32(&r)};

	if (record.len > ENTRY_MAX_BYTES || segment_record_bytes(record.len) > len - offset)
		return false;
	record.index = get_u64(&r);
	record.term = get_u64(&r);
	record.synced = get_u64(&r);
	record.type = get_u16(&r);
	record.data = bytes + offset + LOG_RECORD_BYTES;
	if (crc !=
	    blix_crc32c(bytes + offset + CRC_BYTES, segment_record_bytes(record.len) - CRC_BYTES))
		return false;
	*ret_record = record;
	return true;
}

int segment_add(struct segment *segment, uint32_t offset)
{
	if (segment->n == segment->capacity) {
		uint32_t capacity = segment->capacity ? segment->capacity * 2 : 256;
		uint32_t *offsets = realloc(segment->offsets, capacity * sizeof(*offsets));
		if (!offsets)
			return -ENOMEM;
		segment->offsets = offsets;
		segment->capacity = capacity;
	}
	segment->offsets[segment->n++] = offset;
	return 0;
}

/* Is there, after the bad place, a record that says this place was durable when it was written? */
static bool was_durable(const uint8_t *bytes, size_t len, size_t bad)
{
	struct record record;

	for (size_t offset = bad + 8; offset < len; offset += 8) {
		if (segment_decode_record(bytes, len, offset, &record) && record.synced > bad)
			return true;
	}
	return false;
}

int segment_scan(struct segment *segment, const uint8_t *bytes, size_t len)
{
	size_t offset = LOG_HEAD_BYTES;
	struct record record;

	while (segment_decode_record(bytes, len, offset, &record) &&
	       record.index == segment->first + segment->n) {
		int err = segment_add(segment, (uint32_t)offset);
		if (err)
			return err;
		offset += segment_record_bytes(record.len);
	}
	segment->size = offset;
	return offset < len && was_durable(bytes, len, offset) ? -EBADMSG : 0;
}
