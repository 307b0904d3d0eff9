/* shm/ring.c - see ring.h for what the ring promises, layout.h for where its words are.
 *
 * The order of the stores is the protocol. Its steps carry these names in the comments:
 *   floor store, fence, copy words, tail publish   (writer)
 *   load tail, load floor, copy words, fence, re-check floor   (reader)
 *   fill ack, select ack   (acknowledgement)
 * Includes: shm/ and libc. Thread rule: see ring.h; no function here blocks or allocates. */
#include "ring.h"

#include "atomic.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Shares of the ring's capacity. */
enum {
	RECORD_SHARE = 8, /* no record is larger */
	SLACK_SHARE = 16, /* the floor moves this much further than it must, to move rarely */
	WAKE_SHARE = 4,	  /* unacknowledged part at which an armed agent is woken */
};

/* Making room moves the floor to at most tail + need - capacity + slack + one record, where `need`
 * is a record and a pad smaller than it. That must stay below the tail: then the ring always holds
 * its last record, whose seq tells how many went before it. */
_Static_assert(3 * (BLIX_RING_BYTES_MIN / RECORD_SHARE) + BLIX_RING_BYTES_MIN / SLACK_SHARE <
		       BLIX_RING_BYTES_MIN,
	       "the floor may reach the tail");
_Static_assert(SLACK_SHARE >= 4, "slack above a quarter of the ring");
_Static_assert(BLIX_RING_BYTES_MAX / RECORD_SHARE / 8 <= INT_MAX, "a record's words fit an int");
_Static_assert(sizeof(struct blix_record) / 8 == BLIX_RING_HEAD_WORDS, "header words");

static inline blix_ring_word *word_at(uint8_t *data, uint64_t capacity, uint64_t pos)
{
	return (blix_ring_word *)(void *)(data + (pos & (capacity - 1)));
}

/* First word of a record, as the little-endian struct blix_record lies in memory. */
static inline uint64_t pack_head(uint64_t size, uint16_t type, uint16_t flags)
{
	return size | (uint64_t)type << 32 | (uint64_t)flags << 48;
}

static inline uint64_t head_size(uint64_t head)
{
	return (uint32_t)head;
}

static inline uint16_t head_type(uint64_t head)
{
	return (uint16_t)(head >> 32);
}

/* Positions are compared by the sign of their difference: either may be ahead of the other. */
static inline bool is_above(uint64_t pos, uint64_t other)
{
	return (int64_t)(pos - other) > 0;
}

/* Could a record that starts with `head` be whole between `pos` and `tail`? */
static bool is_sound(uint64_t head, uint64_t pos, uint64_t tail, uint64_t capacity)
{
	uint64_t size = head_size(head);

	if (size < 8 || size % 8 != 0 || size > capacity / RECORD_SHARE || size > tail - pos)
		return false;
	if ((pos & (capacity - 1)) + size > capacity)
		return false;
	return head_type(head) == BLIX_REC_PAD || size >= sizeof(struct blix_record);
}

/* ---- writer --------------------------------------------------------------------------------- */

static void futex_wake(uint32_t *word)
{
	int saved = errno; /* recording never touches the caller's errno */

	(void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	errno = saved;
}

/* Continue after the last record's seq; 0 in a ring never written. */
static int find_next_seq(struct blix_ring_writer *writer)
{
	uint64_t pos = writer->floor;

	if ((writer->floor | writer->tail) % 8 != 0 || writer->tail - pos > writer->capacity)
		return -EILSEQ;
	while (pos != writer->tail) {
		blix_ring_word *record = word_at(writer->data, writer->capacity, pos);
		uint64_t head = blix_load_data(record);

		if (!is_sound(head, pos, writer->tail, writer->capacity))
			return -EILSEQ;
		if (head_type(head) != BLIX_REC_PAD)
			writer->seq = blix_load_data(record + 1) + 1;
		pos += head_size(head);
	}
	return 0;
}

int blix_ring_writer_init(struct blix_ring_writer *writer, const struct blix_view *view,
			  uint32_t lane)
{
	assert(lane < view->n_lanes && view->consumer);

	*writer = (struct blix_ring_writer){
		.view = view,
		.ring = blix_view_ring(view, lane),
		.data = blix_view_ring_data(view, lane),
		.capacity = view->lane.ring_bytes,
		.lane = lane,
		.wake = futex_wake,
	};
	writer->tail = blix_load_acquire(&writer->ring->tail);
	writer->floor = blix_load_relaxed(&writer->ring->floor);
	writer->room_end = writer->quiet_end = writer->tail; /* the first record decides */
	if (find_next_seq(writer) < 0) {
		writer->off = true;
		return -EILSEQ;
	}
	return 0;
}

/* Bytes that an agent has not acknowledged yet, as far as we know. */
static uint64_t unread(const struct blix_ring_writer *writer)
{
	uint64_t from =
		is_above(writer->head_cached, writer->floor) ? writer->head_cached : writer->floor;

	return writer->tail - from;
}

/* Take up the agent's acknowledgement. It is not trusted: it may lag or lie, but it neither goes
 * back nor beyond the tail. Below the floor is fine: the agent was lapped. */
static void refresh_head(struct blix_ring_writer *writer)
{
	const struct blix_consumer_lane *consumer =
		blix_view_consumer_lane(writer->view, writer->lane);
	uint32_t sel = blix_load_acquire(&consumer->sel) & 1; /* pairs with select ack */
	uint64_t head = blix_load_acquire(&consumer->ack[sel].head);

	if (is_above(head, writer->tail)) {
		struct blix_header *header = blix_view_header(writer->view);

		blix_add_shared(&header->stats[BLIX_STAT_CONSUMER_CORRUPT], 1);
		return;
	}
	if (is_above(head, writer->head_cached))
		writer->head_cached = head;
}

/* Level-triggered: whoever arms while a quarter is full is woken by the next record. The load
 * keeps the common case free of a locked instruction, the exchange makes it one wake an arming. */
static void wake_if_due(struct blix_ring_writer *writer, uint64_t need)
{
	struct blix_consumer *consumer = blix_view_consumer(writer->view);
	uint64_t level = writer->capacity / WAKE_SHARE;

	if (unread(writer) + need <= level || !blix_load_relaxed(&consumer->wake_armed))
		return;
	refresh_head(writer); /* what we know may be a lap old, and the agent idle */
	if (unread(writer) + need > level && blix_exchange_acq_rel(&consumer->wake_armed, 0))
		writer->wake(&consumer->wake_armed);
}

/* Unread bytes above which a record of this kind makes way for more important ones. */
static uint64_t shed_level(uint16_t type, uint16_t flags, uint64_t capacity)
{
	if (flags & BLIX_REC_PRIORITY)
		return capacity;
	return type == BLIX_REC_LOG ? capacity / 4 * 3 : capacity / 8 * 7;
}

/* May this record enter? Below its level without asking; above it only while nobody listens. */
static int admit(struct blix_ring_writer *writer, uint16_t type, uint16_t flags, uint64_t need,
		 bool listening)
{
	uint64_t level = shed_level(type, flags, writer->capacity);

	if (!listening)
		return BLIX_DROP_NONE;
	if (unread(writer) + need <= level)
		return BLIX_DROP_NONE;
	refresh_head(writer);
	if (unread(writer) > level) /* never true of an important record: its level is all of it */
		return BLIX_DROP_SHED;
	if (unread(writer) + need > writer->capacity)
		return BLIX_DROP_FULL;
	return BLIX_DROP_NONE;
}

/* Move the floor past whole records until `need` bytes are free, and a slack further. */
static int make_room(struct blix_ring_writer *writer, uint64_t need, bool listening)
{
	uint64_t want = writer->tail + need - writer->capacity;
	uint64_t enough = want + writer->capacity / SLACK_SHARE;
	uint64_t floor = writer->floor;

	if (!is_above(want, floor))
		return BLIX_DROP_NONE;
	while (is_above(enough, floor)) {
		uint64_t head = blix_load_data(word_at(writer->data, writer->capacity, floor));

		if (!is_sound(head, floor, writer->tail, writer->capacity)) {
			writer->off = true; /* somebody scribbled over our records */
			return BLIX_DROP_CORRUPT;
		}
		/* While somebody listens nothing is given up that was not acknowledged. */
		if (listening && is_above(floor + head_size(head), writer->head_cached))
			break;
		floor += head_size(head);
	}
	if (is_above(want, floor))
		return BLIX_DROP_FULL;
	writer->floor = floor;
	blix_store_relaxed(&writer->ring->floor, floor); /* floor store */
	blix_fence_release(); /* fence: the floor before the words; pairs with the reader's fence */
	return BLIX_DROP_NONE;
}

/* Decide about a record of `need` bytes, and remember up to where the answer would be the same. */
static __attribute__((noinline)) int decide(struct blix_ring_writer *writer, uint16_t type,
					    uint16_t flags, uint64_t need, bool listening)
{
	int reason;

	if (writer->off)
		return BLIX_DROP_CORRUPT;
	wake_if_due(writer, need);
	reason = admit(writer, type, flags, need, listening);
	if (reason == BLIX_DROP_NONE)
		reason = make_room(writer, need, listening);
	writer->room_end = writer->floor + writer->capacity;
	writer->quiet_end = writer->tail - unread(writer) + writer->capacity / WAKE_SHARE;
	return reason;
}

/* Most records: there is room, nobody waits to be woken and nothing is to be shed. */
static inline bool is_plain(const struct blix_ring_writer *writer, uint64_t end, bool listening)
{
	if (writer->off || is_above(end, writer->room_end))
		return false;
	return !is_above(end, writer->quiet_end) ||
	       (!listening && !blix_load_relaxed(&blix_view_consumer(writer->view)->wake_armed));
}

int blix_ring_reserve(struct blix_ring_writer *writer, uint16_t type, uint16_t flags,
		      uint32_t n_words, uint64_t t_ns, bool listening)
{
	uint64_t capacity = writer->capacity;
	uint64_t size = sizeof(struct blix_record) + (uint64_t)n_words * 8;
	uint64_t index = writer->tail & (capacity - 1);
	uint64_t pad = index + size > capacity ? capacity - index : 0;
	blix_ring_word *to;

	assert(type != BLIX_REC_PAD);

	if (__builtin_expect(size > capacity / RECORD_SHARE, 0))
		return writer->off ? BLIX_DROP_CORRUPT : BLIX_DROP_TOO_BIG;
	if (!is_plain(writer, writer->tail + pad + size, listening)) {
		int reason = decide(writer, type, flags, pad + size, listening);

		if (reason != BLIX_DROP_NONE)
			return reason;
	}
	/* Padding up to the wrap, if any, then the record's head. Nobody looks at them before the
	 * tail is published. */
	if (__builtin_expect(pad != 0, 0))
		blix_store_data(word_at(writer->data, capacity, writer->tail),
				pack_head(pad, BLIX_REC_PAD, 0));
	to = word_at(writer->data, capacity, writer->tail + pad);
	blix_store_data(to, pack_head(size, type, flags));
	blix_store_data(to + 1, writer->seq);
	blix_store_data(to + 2, t_ns);
	writer->body = to + BLIX_RING_HEAD_WORDS;
	writer->reserved = pad + size;
	return BLIX_DROP_NONE;
}

void blix_ring_commit(struct blix_ring_writer *writer)
{
	writer->tail += writer->reserved;
	writer->seq++;
	blix_store_release(&writer->ring->tail,
			   writer->tail); /* tail publish: the words before it */
}

int blix_ring_write(struct blix_ring_writer *writer, const struct blix_ring_entry *entry,
		    bool listening)
{
	int reason = blix_ring_reserve(writer, entry->type, entry->flags, entry->n_words,
				       entry->t_ns, listening);

	if (reason != BLIX_DROP_NONE)
		return reason;
	blix_ring_fill_words(writer->body, entry->body, entry->n_words);
	blix_ring_commit(writer);
	return BLIX_DROP_NONE;
}

void blix_ring_count_drop(const struct blix_view *view, uint32_t lane, enum blix_drop_kind kind,
			  enum blix_drop_reason reason)
{
	uint64_t *count = &blix_view_ring(view, lane)->drops[kind][reason];

	/* Release: the slot state stored before must not be overtaken by the count. Several
	 * threads count in lane 0. */
	if (lane == 0)
		(void)blix_add_shared_release(count, 1);
	else
		blix_store_release(count, blix_load_relaxed(count) + 1);
}

/* ---- reader --------------------------------------------------------------------------------- */

void blix_ring_reader_init(struct blix_ring_reader *reader, const struct blix_view *view,
			   uint32_t lane)
{
	assert(lane < view->n_lanes);

	*reader = (struct blix_ring_reader){.view = view, .lane = lane, .fresh = true};
	/* A misaligned floor is reported by the first read, not here. */
	reader->pos = blix_load_acquire(&blix_view_ring(view, lane)->floor) & ~UINT64_C(7);
}

/* The acknowledgements of a lane, also for a view that may only read them. */
static const struct blix_consumer_lane *consumer_lane(const struct blix_view *view, uint32_t lane)
{
	const uint8_t *consumer = view->consumer ? view->consumer : view->base + view->consumer_off;

	return (const struct blix_consumer_lane *)(const void *)(consumer +
								 sizeof(struct blix_consumer)) +
	       lane;
}

static struct blix_ack load_ack(const struct blix_view *view, uint32_t lane)
{
	const struct blix_consumer_lane *consumer = consumer_lane(view, lane);
	const struct blix_ack *ack = &consumer->ack[blix_load_acquire(&consumer->sel) & 1];

	return (struct blix_ack){
		.head = blix_load_relaxed(&ack->head),
		.head_seq = blix_load_relaxed(&ack->head_seq),
		.lost = blix_load_relaxed(&ack->lost),
	};
}

/* A record takes at least its header, so neither seq nor loss can outrun the position. */
static bool is_plausible(const struct blix_ack *ack, uint64_t tail)
{
	uint64_t records_max = ack->head / sizeof(struct blix_record);

	return ack->head % 8 == 0 && ack->head <= tail && ack->head_seq <= records_max &&
	       ack->lost <= ack->head_seq;
}

int blix_ring_reader_resume(struct blix_ring_reader *reader, const struct blix_view *view,
			    uint32_t lane)
{
	struct blix_ack ack = load_ack(view, lane);
	uint64_t tail = blix_load_acquire(&blix_view_ring(view, lane)->tail);

	blix_ring_reader_init(reader, view, lane);
	if (!is_plausible(&ack, tail)) {
		reader->lost = ack.lost <= tail / sizeof(struct blix_record) ? ack.lost : 0;
		return -EILSEQ;
	}
	reader->pos = ack.head; /* below the floor: the first read jumps, and counts by seq */
	reader->expect = ack.head_seq;
	reader->expect_pos = ack.head;
	reader->expect_known = true;
	reader->lost = ack.lost;
	return 0;
}

/* Damage: everything up to `skip_to` is given up. What it held is unknown until a later seq tells.
 */
static int give_up(struct blix_ring_reader *reader, uint64_t skip_to)
{
	reader->corrupt++;
	reader->pos = skip_to;
	if (reader->corrupt >= BLIX_RING_CORRUPT_MAX)
		reader->quarantined = true;
	return -EILSEQ;
}

/* Loss, from the gap in seq. Returns whether the record at `pos` is to be handed over. */
static bool account(struct blix_ring_reader *reader, uint64_t pos, uint64_t seq)
{
	uint64_t gap = seq - reader->expect;
	uint64_t gap_max = (pos - reader->expect_pos) / sizeof(struct blix_record);

	if (reader->expect_known && !reader->fresh && (int64_t)gap < 0) {
		reader->duplicates++;
		return false;
	}
	/* A first record below what the acknowledgement expects, or a gap that its bytes cannot
	 * have held: somebody's numbers are wrong, so start counting anew. */
	if (reader->expect_known && ((int64_t)gap < 0 || gap > gap_max))
		reader->implausible++;
	else if (reader->expect_known)
		reader->lost += gap;
	reader->expect = seq + 1;
	reader->expect_known = true;
	reader->fresh = false;
	return true;
}

/* Read at reader->pos, which is below `tail`. 0: moved on without a record; else as
 * blix_ring_next(). */
static int read_one(struct blix_ring_reader *reader, uint64_t tail, uint64_t *buf,
		    uint32_t buf_words)
{
	const struct blix_view *view = reader->view;
	const struct blix_ring *ring = blix_view_ring(view, reader->lane);
	uint64_t capacity = view->lane.ring_bytes;
	uint64_t pos = reader->pos;
	uint64_t floor = blix_load_acquire(&ring->floor); /* load floor */

	/* Live tail and floor are never compared: either may be the older one. */
	if ((tail | floor) % 8 != 0)
		return give_up(reader, pos);
	if (is_above(floor, pos)) {
		reader->pos = floor;
		reader->lapped++;
		return 0;
	}

	const blix_ring_word *from =
		word_at(blix_view_ring_data(view, reader->lane), capacity, pos);
	uint64_t head = blix_load_data(from); /* loaded once: checked and used */
	bool sound = is_sound(head, pos, tail, capacity);
	uint64_t size = head_size(head);
	bool is_pad = head_type(head) == BLIX_REC_PAD;
	bool fits = size / 8 <= buf_words;
	uint32_t n_words = fits ? (uint32_t)(size / 8) : BLIX_RING_HEAD_WORDS;

	if (sound && !is_pad) {
		buf[0] = head;
		for (uint32_t i = 1; i < n_words; i++)
			buf[i] = blix_load_data(from + i); /* copy words */
	}
	blix_fence_acquire(); /* fence: the words before the floor; pairs with the writer's */
	floor = blix_load_relaxed(&ring->floor);
	if (is_above(floor, pos)) { /* re-check floor: overwritten meanwhile, the copy is void */
		reader->pos = floor & ~UINT64_C(7);
		reader->lapped++;
		return 0;
	}
	if (!sound)
		return give_up(reader, tail);
	reader->pos = pos + size;
	if (is_pad || !account(reader, pos, buf[1]))
		return 0;
	reader->expect_pos = reader->pos;
	reader->delivered += fits;
	reader->oversized += !fits;
	return fits ? (int)n_words : -EMSGSIZE;
}

int blix_ring_next(struct blix_ring_reader *reader, uint64_t *buf, uint32_t buf_words)
{
	const struct blix_ring *ring = blix_view_ring(reader->view, reader->lane);
	uint64_t tail = blix_load_acquire(&ring->tail); /* load tail, before the floor */

	assert(buf_words >= BLIX_RING_HEAD_WORDS);

	if (reader->quarantined)
		return -ENOTRECOVERABLE;
	for (int tries = 0; tries < BLIX_RING_TRIES_MAX; tries++) {
		int ret;

		if (!is_above(tail, reader->pos)) {
			tail = blix_load_acquire(&ring->tail);
			if (!is_above(tail, reader->pos))
				return 0;
		}
		ret = read_one(reader, tail, buf, buf_words);
		if (ret != 0)
			return ret;
	}
	return -EAGAIN;
}

void blix_ring_ack(const struct blix_view *view, uint32_t lane, uint64_t head, uint64_t head_seq,
		   uint64_t lost)
{
	struct blix_consumer_lane *consumer = blix_view_consumer_lane(view, lane);
	uint32_t other = 1 - (blix_load_relaxed(&consumer->sel) & 1);

	assert(view->consumer);

	blix_store_relaxed(&consumer->ack[other].head, head); /* fill ack */
	blix_store_relaxed(&consumer->ack[other].head_seq, head_seq);
	blix_store_relaxed(&consumer->ack[other].lost, lost);
	blix_store_release(&consumer->sel, other); /* select ack: all three at once */
}

struct blix_ring_fill blix_ring_fill(const struct blix_view *view, uint32_t lane)
{
	const struct blix_ring *ring = blix_view_ring(view, lane);
	uint64_t capacity = view->lane.ring_bytes;
	uint64_t head = load_ack(view, lane).head;
	uint64_t floor = blix_load_acquire(&ring->floor);
	uint64_t tail = blix_load_acquire(&ring->tail);
	uint64_t from = is_above(head, floor) ? head : floor;
	uint64_t held = is_above(tail, floor) ? tail - floor : 0;
	uint64_t unacknowledged = is_above(tail, from) ? tail - from : 0;

	return (struct blix_ring_fill){
		.capacity_bytes = capacity,
		.held_bytes = held < capacity ? held : capacity,
		.unacknowledged_bytes = unacknowledged < capacity ? unacknowledged : capacity,
	};
}
