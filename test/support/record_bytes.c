/* test/support/record_bytes.c - see record_bytes.h. */
#include "test/support/record_bytes.h"

#include "shm/atomic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void record_put(struct record_bytes *r, const void *bytes, uint32_t len)
{
	if (len > RECORD_BYTES_MAX - r->len) {
		fprintf(stderr, "record_bytes: too long\n");
		abort();
	}
	if (len)
		memcpy(r->at + r->len, bytes, len);
	r->len += len;
}

void record_item(struct record_bytes *r, uint8_t type, uint32_t key_id, const void *value,
		 uint32_t len)
{
	static const uint8_t zeros[8];
	struct blix_item head = {.key_id = key_id, .type = type, .len = (uint16_t)len};

	record_put(r, &head, sizeof(head));
	record_put(r, value, len);
	record_put(r, zeros, (8 - len % 8) % 8);
}

void record_word(struct record_bytes *r, uint8_t type, uint32_t key_id, uint64_t word)
{
	record_item(r, type, key_id, &word, sizeof(word));
}

void record_text(struct record_bytes *r, uint8_t type, uint32_t key_id, const char *text)
{
	record_item(r, type, key_id, text, (uint32_t)strlen(text));
}

struct blix_span_body record_span_body(uint64_t n, uint32_t name_id, uint64_t end_ns)
{
	struct blix_span_body body = {
		.start_ns = end_ns - 1000, .end_ns = end_ns, .name_id = name_id, .kind = 2};

	memcpy(body.trace_id, &n, sizeof(n));
	memset(body.trace_id + 8, 0x77, 8);
	memcpy(body.span_id, &n, sizeof(n));
	body.trace_flags = 1;
	return body;
}

void record_span(struct record_bytes *r, uint64_t n, uint32_t name_id, uint64_t end_ns)
{
	struct blix_span_body body = record_span_body(n, name_id, end_ns);

	record_put(r, &body, sizeof(body));
}

void record_log(struct record_bytes *r, uint8_t severity, const char *body_text)
{
	struct blix_log_body body = {.event_id = BLIX_NO_ID, .severity = severity};

	record_put(r, &body, sizeof(body));
	record_text(r, BLIX_ITEM_BODY, BLIX_NO_ID, body_text);
}

int record_write(struct blix_ring_writer *writer, uint16_t type, uint16_t flags, uint64_t t_ns,
		 const struct record_bytes *r, bool listening)
{
	struct blix_ring_entry entry = {.type = type,
					.flags = flags,
					.n_words = r->len / 8,
					.t_ns = t_ns,
					.body = (const uint64_t *)(const void *)r->at};

	return blix_ring_write(writer, &entry, listening);
}

uint32_t record_words(uint16_t type, uint16_t flags, uint64_t seq, uint64_t t_ns,
		      const struct record_bytes *r, uint64_t *words)
{
	struct blix_record head = {.size = (uint32_t)sizeof(head) + r->len,
				   .type = type,
				   .flags = flags,
				   .seq = seq,
				   .t_ns = t_ns};

	memcpy(words, &head, sizeof(head));
	memcpy(words + sizeof(head) / 8, r->at, r->len);
	return head.size / 8;
}

void record_open_span(struct shm_file *f, uint32_t lane, uint64_t n, uint32_t name_id,
		      uint64_t start_ns, const struct record_bytes *items)
{
	struct blix_slot_head head = {.start_ns = start_ns, .name_id = name_id, .kind = 2};
	struct blix_span_body body = record_span_body(n, name_id, start_ns);
	struct blix_span_slot *slot;
	struct blix_slot_ref ref;
	uint32_t hint = 0;

	memcpy(head.trace_id, body.trace_id, sizeof(head.trace_id));
	memcpy(head.span_id, body.span_id, sizeof(head.span_id));
	if (blix_slot_begin(&f->view, lane, &hint, &head, &ref) < 0) {
		fprintf(stderr, "record_bytes: no free slot\n");
		abort();
	}
	slot = blix_slot_get(&f->view, ref);
	if (items && items->len <= sizeof(slot->data)) {
		memcpy(slot->data, items->at, items->len);
		blix_store_release(&slot->used_bytes, items->len);
	}
}
