/* test/support/tiny_file.c - see tiny_file.h. */
#include "tiny_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TINY_CELLS = 16, BODY_WORDS_MIN = 4, PAGE = 4096 };

static uint64_t round_up(uint64_t bytes, uint64_t to)
{
	return (bytes + to - 1) / to * to;
}

static struct blix_view plan(uint32_t lanes, uint32_t slots, uint32_t slots0)
{
	struct blix_view view = {.n_lanes = lanes, .n_slots0 = slots0};
	uint32_t at = sizeof(struct blix_lane);

	view.lane.cells_off = at;
	view.lane.n_cells = TINY_CELLS;
	at += TINY_CELLS * 8;
	view.lane.ring_ctl_off = at;
	at += (uint32_t)sizeof(struct blix_ring);
	view.lane.slots_off = at;
	view.lane.n_slots = slots;
	at += slots * (uint32_t)sizeof(struct blix_span_slot);
	view.lane.ring_off = at;
	view.lane.ring_bytes = TINY_RING_BYTES;

	view.slots0_off = BLIX_PAGE_HEADER;
	view.lanes_off = view.slots0_off + slots0 * sizeof(struct blix_span_slot);
	view.lane_stride = round_up(at + TINY_RING_BYTES, BLIX_LINE);
	view.consumer_off = view.lanes_off + lanes * view.lane_stride;
	view.consumer_len =
		sizeof(struct blix_consumer) + lanes * sizeof(struct blix_consumer_lane);
	view.size = round_up(view.consumer_off + view.consumer_len, PAGE);
	return view;
}

struct blix_view tiny_view_at(const struct blix_view *view, void *base)
{
	struct blix_view other = *view;

	other.base = base;
	other.consumer = other.base + other.consumer_off;
	return other;
}

struct tiny_file tiny_file_new(uint32_t lanes, uint32_t slots, uint32_t slots0)
{
	struct tiny_file file = {.view = plan(lanes, slots, slots0)};
	void *base;

	file.fd = memfd_create("tiny_file", MFD_CLOEXEC);
	if (file.fd < 0 || ftruncate(file.fd, (off_t)file.view.size) < 0) {
		perror("memfd");
		abort();
	}
	base = mmap(NULL, file.view.size, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
	if (base == MAP_FAILED) {
		perror("mmap");
		abort();
	}
	file.view = tiny_view_at(&file.view, base);
	return file;
}

void tiny_file_done(struct tiny_file *file)
{
	munmap(file->view.base, file->view.size);
	close(file->fd);
}

/* The finaliser of MurmurHash3: every bit of x moves every bit of the result. */
uint64_t tiny_hash(uint64_t x)
{
	x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
	x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}

static uint32_t body_length(uint64_t id)
{
	return BODY_WORDS_MIN + (uint32_t)(tiny_hash(id) % (TINY_BODY_WORDS_MAX - BODY_WORDS_MIN));
}

uint32_t tiny_body(uint64_t id, uint64_t words[TINY_BODY_WORDS_MAX])
{
	uint32_t n_words = body_length(id);

	words[0] = id;
	for (uint32_t i = 1; i < n_words; i++)
		words[i] = tiny_hash(id * TINY_BODY_WORDS_MAX + i);
	return n_words;
}

struct blix_ring_entry tiny_entry(uint64_t id, uint16_t type, uint16_t flags,
				  uint64_t words[TINY_BODY_WORDS_MAX])
{
	return (struct blix_ring_entry){
		.type = type,
		.flags = flags,
		.n_words = tiny_body(id, words),
		.t_ns = ~id,
		.body = words,
	};
}

bool tiny_record_ok(const uint64_t *record, int n_words, uint64_t *ret_id)
{
	uint64_t expected[TINY_BODY_WORDS_MAX];
	int n_body = n_words - BLIX_RING_HEAD_WORDS;
	uint64_t id;

	if (n_body < BODY_WORDS_MIN)
		return false;
	id = record[BLIX_RING_HEAD_WORDS];
	if ((uint32_t)n_body != tiny_body(id, expected) || record[2] != ~id ||
	    (uint32_t)record[0] != (uint32_t)n_words * 8)
		return false;
	if (memcmp(record + BLIX_RING_HEAD_WORDS, expected, (size_t)n_body * 8) != 0)
		return false;
	*ret_id = id;
	return true;
}

struct blix_slot_head tiny_head(uint64_t id, uint32_t tid)
{
	struct blix_slot_head head = {
		.start_ns = tiny_hash(id + 1),
		.name_id = (uint32_t)tiny_hash(id + 2),
		.scope_id = (uint16_t)tiny_hash(id + 3),
		.kind = (uint8_t)tiny_hash(id + 4),
		.trace_flags = (uint8_t)tiny_hash(id + 5),
		.tid = tid,
	};
	uint64_t trace[2] = {id, tiny_hash(id)};
	uint64_t span = tiny_hash(id + 6);
	uint64_t parent = tiny_hash(id + 7);

	memcpy(head.trace_id, trace, sizeof(trace));
	memcpy(head.span_id, &span, sizeof(span));
	memcpy(head.parent_id, &parent, sizeof(parent));
	return head;
}

bool tiny_slot_ok(const struct blix_span_slot *slot, uint64_t *ret_id)
{
	struct blix_slot_head head;
	uint64_t id;

	memcpy(&id, slot->trace_id, sizeof(id));
	head = tiny_head(id, slot->tid);
	*ret_id = id;
	return memcmp(slot->trace_id, head.trace_id, sizeof(head.trace_id)) == 0 &&
	       memcmp(slot->span_id, head.span_id, sizeof(head.span_id)) == 0 &&
	       memcmp(slot->parent_id, head.parent_id, sizeof(head.parent_id)) == 0 &&
	       slot->start_ns == head.start_ns && slot->name_id == head.name_id &&
	       slot->scope_id == head.scope_id && slot->kind == head.kind &&
	       slot->trace_flags == head.trace_flags && slot->used_bytes == 0 &&
	       slot->status == 0 && slot->span_flags == 0 && slot->n_attrs == 0 &&
	       slot->dropped_attrs == 0 && slot->rsv[0] == 0;
}
