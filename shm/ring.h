/* shm/ring.h - the record ring of a lane: one writer, any number of readers, no locks.
 *
 * Positions are byte counts that never wrap; the place in the ring is the position modulo its
 * size. [floor, tail) holds whole records. A record becomes visible by one store of `tail` and
 * ceases to exist by one store of `floor`, which always comes before its bytes are overwritten; so
 * a reader that finds `floor` still at or below its position after copying has a whole record.
 * A dead writer leaves nothing half-done, a slow or dead reader never holds the writer up.
 *
 * Thread rule: a writer belongs to the one thread that owns the lane (lane 0: to the holder of its
 * lock). A reader belongs to one thread; readers do not know of each other. At most one process
 * acknowledges (OFD lock on byte 1, see map.h). Includes: shm/ only. */
#ifndef BLIX_SHM_RING_H
#define BLIX_SHM_RING_H

#include "atomic.h"
#include "view.h"

#include <stdbool.h>

/* The ring's bytes are read and written as words only. */
typedef uint64_t __attribute__((may_alias)) blix_ring_word;

/* ---- writing -------------------------------------------------------------------------------- */

#define BLIX_DROP_NONE (-1) /* the record was committed */

/* Private state of the writer. The shared words it mirrors are read back at init only: whoever
 * scribbles over them cannot lead the writer out of its ring. */
struct blix_ring_writer {
	const struct blix_view *view; /* borrowed for the life of the writer */
	struct blix_ring *ring;
	uint8_t *data;
	uint64_t capacity;
	uint64_t tail;
	uint64_t floor;
	uint64_t seq;	      /* of the next record */
	uint64_t head_cached; /* highest valid acknowledgement seen */
	uint64_t room_end;    /* a record that ends here, or before, has room */
	uint64_t quiet_end;   /* and one that ends here is neither shed nor wakes anybody */
	blix_ring_word *body; /* of the record reserved */
	uint64_t reserved;    /* bytes of it, and of the padding before it */
	uint32_t lane;
	bool off;		      /* the ring's content is damaged: refuse everything */
	void (*wake)(uint32_t *word); /* wakes who waits on the futex; replaced by tests */
};

/* A record to be written; its header's size and seq are the ring's own business. */
struct blix_ring_entry {
	uint16_t type;	  /* enum blix_record_type, not PAD */
	uint16_t flags;	  /* BLIX_REC_PRIORITY, BLIX_REC_TRUNCATED */
	uint32_t n_words; /* 64-bit words in the body */
	uint64_t t_ns;
	const uint64_t *body;
};

/* Continue the ring of `lane`, which the caller has claimed: find the floor and the tail and, by
 * walking the records between them, the next seq.
 *
 * 0; -EILSEQ: its content is damaged; the writer is usable but refuses every record (CORRUPT). */
int blix_ring_writer_init(struct blix_ring_writer *writer, const struct blix_view *view,
			  uint32_t lane);

/* Write one record. `listening`: an agent drains this file, so acknowledged records alone may be
 * overwritten and ordinary ones are shed before the ring is full; otherwise the oldest records
 * give way and nothing is ever shed.
 *
 * BLIX_DROP_NONE, or an enum blix_drop_reason: FULL, SHED, TOO_BIG or CORRUPT. The caller counts
 * the drop, once. Never blocks; one futex wake when an armed reader's quarter is full. */
int blix_ring_write(struct blix_ring_writer *writer, const struct blix_ring_entry *entry,
		    bool listening);

/* The same in pieces: reserve a record of `n_words`, store its body's words, all of them, at
 * writer->body with blix_store_data(), commit. Until then nobody sees it, and the next reservation
 * takes its place: one that is never committed has not happened. t_ns is the record's time.
 *
 * As blix_ring_write(): BLIX_DROP_NONE, or the reason, and then nothing is reserved. */
int blix_ring_reserve(struct blix_ring_writer *writer, uint16_t type, uint16_t flags,
		      uint32_t n_words, uint64_t t_ns, bool listening);
void blix_ring_commit(struct blix_ring_writer *writer);

/* Copy words of a body to where it is reserved. */
static inline void blix_ring_fill_words(blix_ring_word *to, const uint64_t *from, uint32_t n_words)
{
	for (uint32_t i = 0; i < n_words; i++)
		blix_store_data(to + i, from[i]);
}

/* Count one dropped record. May be called without lane 0's lock. */
void blix_ring_count_drop(const struct blix_view *view, uint32_t lane, enum blix_drop_kind kind,
			  enum blix_drop_reason reason);

/* Where drops of this record type are counted. */
static inline enum blix_drop_kind blix_ring_drop_kind(uint16_t type)
{
	return type == BLIX_REC_SPAN ? BLIX_DROP_SPAN : BLIX_DROP_LOG;
}

/* ---- reading -------------------------------------------------------------------------------- */

enum {
	BLIX_RING_CORRUPT_MAX = 3,  /* damaged places until the lane is left alone */
	BLIX_RING_TRIES_MAX = 1024, /* of one call, before it says "busy" */
	BLIX_RING_HEAD_WORDS = 3,   /* struct blix_record */
};

/* A cursor. Copy it to remember a place: {pos, expect, lost} is what an acknowledgement stores. */
struct blix_ring_reader {
	const struct blix_view *view; /* borrowed for the life of the reader */
	uint32_t lane;
	uint32_t corrupt;    /* damaged places found */
	uint64_t pos;	     /* of the next record to read */
	uint64_t expect;     /* its seq, if nothing is lost */
	uint64_t expect_pos; /* position for which `expect` was true */
	bool expect_known;   /* false until the first record of a reader without a past */
	bool fresh;	     /* no record read yet */
	bool quarantined;
	uint64_t lost; /* records overwritten before they were read; exact, from seq alone */
	uint64_t delivered;
	uint64_t duplicates;  /* records skipped because they had been read before */
	uint64_t lapped;      /* times the floor passed this reader */
	uint64_t oversized;   /* records that did not fit the caller's buffer */
	uint64_t implausible; /* seq numbers that no run of records can explain: loss unknown */
};

/* Start a private cursor at the oldest record; what was overwritten before is not counted lost. */
void blix_ring_reader_init(struct blix_ring_reader *reader, const struct blix_view *view,
			   uint32_t lane);

/* Start where the last acknowledgement left off (a new file: at its very first record, so that
 * everything overwritten since counts as lost). An acknowledgement that cannot be true is replaced
 * by a cursor as of blix_ring_reader_init() that keeps its loss.
 * 0; -EILSEQ: it was replaced. */
int blix_ring_reader_resume(struct blix_ring_reader *reader, const struct blix_view *view,
			    uint32_t lane);

/* Copy the next record, header first, into buf[0 .. buf_words), at least BLIX_RING_HEAD_WORDS.
 *
 * > 0  words copied: a whole record, as it was committed; its size field agrees
 * 0    no further record for now
 * -EAGAIN    nothing found within bounded work; call again when it suits
 * -EMSGSIZE  longer than the buffer: header copied, record skipped and counted
 * -EILSEQ    damaged; skipped to the tail; call again
 * -ENOTRECOVERABLE  damaged BLIX_RING_CORRUPT_MAX times: this lane is given up */
int blix_ring_next(struct blix_ring_reader *reader, uint64_t *buf, uint32_t buf_words);

/* Acknowledge everything below `head`: the writer may overwrite it, a later
 * blix_ring_reader_resume() starts there. Needs view->consumer; of one process only. */
void blix_ring_ack(const struct blix_view *view, uint32_t lane, uint64_t head, uint64_t head_seq,
		   uint64_t lost);

/* How full the ring is. Clamped, whatever the file says. */
struct blix_ring_fill {
	uint64_t capacity_bytes;
	uint64_t held_bytes;	       /* records in the ring, acknowledged or not */
	uint64_t unacknowledged_bytes; /* those still to be delivered */
};
struct blix_ring_fill blix_ring_fill(const struct blix_view *view, uint32_t lane);

#endif
