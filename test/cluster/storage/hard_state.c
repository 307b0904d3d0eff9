/* hard_state.c - the term and the vote, on disk. See hard_state.h for the format's reasons. */
#include "hard_state.h"

#include "bytes.h"
#include "disk.h"
#include "test/cluster/record/record.h"
#include "test/cluster/record/trace.h"
#include "shm/format.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static const uint64_t slot_magic = 0x3145544154535442ULL; /* "BTSTATE1" */

enum { SLOT_USED_BYTES = 5 * 8 };

static void encode_slot(const struct hard_state *state, uint8_t slot[HARD_STATE_SLOT_BYTES])
{
	struct writer w = writer_of(slot, HARD_STATE_SLOT_BYTES);

	put_u64(&w, slot_magic);
	put_u64(&w, state->sequence);
	put_u64(&w, state->node_id);
	put_u64(&w, state->term);
	put_u64(&w, state->vote);
	put_u32(&w, blix_crc32c(slot, SLOT_USED_BYTES));
	put_zeros(&w, w.left);
}

static bool decode_slot(const uint8_t slot[HARD_STATE_SLOT_BYTES], struct hard_state *ret_state)
{
	struct reader r = reader_of(slot, HARD_STATE_SLOT_BYTES);
	struct hard_state state = {.fd = -1};

	if (get_u64(&r) != slot_magic)
		return false;
	state.sequence = get_u64(&r);
	state.node_id = get_u64(&r);
	state.term = get_u64(&r);
	state.vote = get_u64(&r);
	if (get_u32(&r) != blix_crc32c(slot, SLOT_USED_BYTES) || !state.sequence)
		return false;
	*ret_state = state;
	return true;
}

static int write_slot(const struct hard_state *state)
{
	uint8_t slot[HARD_STATE_SLOT_BYTES];
	uint64_t offset = (state->sequence & 1) * HARD_STATE_SLOT_BYTES;

	encode_slot(state, slot);
	int err = disk_write(state->fd, slot, sizeof(slot), offset);
	return err ? err : disk_sync(state->fd);
}

/* An empty file: both slots get their disk blocks now, while failing is harmless. */
static int create(struct hard_state *state, int dir)
{
	static const uint8_t zeros[2 * HARD_STATE_SLOT_BYTES];
	int err = disk_write(state->fd, zeros, sizeof(zeros), 0);

	if (!err)
		err = disk_sync(state->fd);
	return err ? err : disk_sync_dir(dir);
}

static bool all_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i])
			return false;
	}
	return true;
}

static int load(struct hard_state *state, int dir)
{
	uint8_t slots[2][HARD_STATE_SLOT_BYTES];
	struct hard_state found = {.sequence = 0}, other;
	int err = disk_read(state->fd, slots, sizeof(slots), 0);

	if (err == -ENODATA) /* new, or its creation was interrupted before anything was saved */
		return create(state, dir);
	if (err)
		return err;
	for (int i = 0; i < 2; i++) {
		if (decode_slot(slots[i], &other) && other.sequence > found.sequence)
			found = other;
	}
	if (!found.sequence)
		return all_zero((const uint8_t *)slots, sizeof(slots)) ? 0 : -EBADMSG;
	found.fd = state->fd;
	bool stranger = state->node_id && found.node_id != state->node_id;
	*state = found;
	return stranger ? -ENXIO : 0;
}

int hard_state_open(int dir, uint64_t node_id, struct hard_state *state)
{
	uint64_t start = record_now_ns();

	*state = (struct hard_state){.node_id = node_id};
	state->fd = openat(dir, "state", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (state->fd < 0)
		return -errno;
	int err = load(state, dir);
	if (err) {
		hard_state_close(state);
		return err;
	}
	if (state->sequence)
		record_storage_read(TABLE_RAFT_HARD_STATE, record_now_ns() - start);
	return 0;
}

int hard_state_save(struct hard_state *state, uint64_t term, uint64_t vote)
{
	struct hard_state next = *state;
	uint64_t start = record_now_ns();

	next.sequence++;
	next.term = term;
	next.vote = vote;
	blix_span span = trace_begin(TRACE_STORAGE_SAVE_HARD_STATE);
	trace_storage(span, "save", "raft_hard_state");
	trace_u64(span, TRACE_TERM, term);
	blix_token token = trace_enter(span);
	int err = write_slot(&next);
	trace_leave(token);
	if (err)
		trace_fail(span, strerrorname_np(-err), "the hard state cannot be written");
	trace_end(span);
	if (err)
		return err;
	*state = next;
	record_storage_write(TABLE_RAFT_HARD_STATE, record_now_ns() - start);
	return 0;
}

void hard_state_close(struct hard_state *state)
{
	if (state->fd >= 0)
		close(state->fd);
	state->fd = -1;
}
