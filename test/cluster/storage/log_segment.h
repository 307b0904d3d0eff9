/* log_segment.h - one segment file of the log: its name, head, records and how to read them back.
 * Format in log_store.h. Thread rule: that of its log_store. */
#ifndef CLUSTER_LOG_SEGMENT_H
#define CLUSTER_LOG_SEGMENT_H

#include "log_store.h"

#include <stdbool.h>

enum { SEGMENT_NAME_BYTES = 32 };

struct segment {
	uint64_t first;	   /* index of its first entry */
	uint64_t size;	   /* bytes in use */
	uint32_t n;	   /* entries */
	uint32_t capacity; /* of offsets */
	uint32_t *offsets; /* of each record */
};

struct record {
	uint64_t index;
	uint64_t term;
	uint64_t synced;
	uint32_t len; /* of the data */
	uint16_t type;
	const uint8_t *data; /* borrowed */
};

void segment_name(uint64_t first, char name[SEGMENT_NAME_BYTES]);
bool segment_parse_name(const char *name, uint64_t *ret_first);

void segment_encode_head(uint64_t first, uint8_t head[LOG_HEAD_BYTES]);
bool segment_check_head(const uint8_t *bytes, size_t len, uint64_t first);

/* Bytes of a record with `len` bytes of data. */
size_t segment_record_bytes(size_t len);
void segment_encode_record(uint64_t index, uint64_t synced, const struct raft_entry *entry,
			   uint8_t *out);

/* The record at `offset` of a segment's bytes. False: none is whole there. */
bool segment_decode_record(const uint8_t *bytes, size_t len, size_t offset,
			   struct record *ret_record);

/* Remember where the next record lies. 0 or -ENOMEM. */
int segment_add(struct segment *segment, uint32_t offset);

/* Find the records of a segment's bytes and set n, offsets and size (up to where they are whole).
 * 0; -EBADMSG: a later record proves that what is bad at segment->size was once durable;
 * -ENOMEM. */
int segment_scan(struct segment *segment, const uint8_t *bytes, size_t len);

#endif
