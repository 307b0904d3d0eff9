/* fsm.c - the state machine. A command that is malformed, or finds the table full, changes nothing,
 * on every node alike: applying never fails, because a node that cannot apply what the others did
 * would be lost. Loop thread only. */
#include "fsm.h"

#include "test/cluster/storage/bytes.h"
#include "test/cluster/record/record.h"
#include "test/cluster/record/trace.h"

#include <errno.h>

static const uint32_t snapshot_magic = 0x4d534642; /* "BFSM" */

enum { SNAPSHOT_VERSION = 1, SNAPSHOT_HEAD_BYTES = 4 + 2 + 4 };

static int apply(struct fsm *fsm, const struct command *command)
{
	switch (command->op) {
	case COMMAND_PUT:
		return table_put(fsm->table, command->key, command->key_len, command->value,
				 command->value_len);
	case COMMAND_DELETE:
		return table_delete(fsm->table, command->key, command->key_len);
	default:
		return vms_apply(fsm->vms, command);
	}
}

/* What was in the log when this process began was applied by an earlier one, which has told so. */
static blix_span begin_apply(const struct fsm *fsm, const struct command *command)
{
	uint64_t index = fsm->of ? fsm->of->last_applied + 1 : 0;

	if (!index || index <= fsm->loaded_index)
		return (blix_span){.place = 0};
	blix_span span = trace_begin_at(TRACE_RAFT_APPLY, &command->context);
	trace_str(span, TRACE_PROPOSAL_TYPE, command_name(command->op));
	trace_u64(span, TRACE_INDEX, index);
	trace_u64(span, TRACE_TERM, fsm->of->current_term);
	return span;
}

static int fsm_apply(struct raft_fsm *raft, const struct raft_buffer *buf, void **result)
{
	struct fsm *fsm = raft->data;
	uint64_t start = record_now_ns();
	struct command command;
	int err;

	*result = NULL;
	if (command_decode(buf->base, buf->len, &command))
		return 0;
	blix_span span = begin_apply(fsm, &command);
	blix_token token = trace_enter(span);
	err = apply(fsm, &command);
	trace_leave(token);
	if (err)
		trace_str(span, TRACE_RESULT, strerrorname_np(-err));
	trace_end(span);
	/* Memory is what nodes do not have alike: this one must stop. */
	if (err == -ENOMEM)
		return RAFT_NOMEM;
	if (!err)
		record_storage_write(TABLE_VM_STATES, record_now_ns() - start);
	fsm->events.applied(fsm->events.arg, &command, err);
	return 0;
}

static int fsm_snapshot(struct raft_fsm *raft, struct raft_buffer *bufs[], unsigned *n_bufs)
{
	struct fsm *fsm = raft->data;
	size_t rows = table_bytes(fsm->table);
	size_t len = SNAPSHOT_HEAD_BYTES + rows + vms_bytes(fsm->vms);
	struct raft_buffer *buf = raft_malloc(sizeof(*buf));
	void *bytes = raft_malloc(len);

	if (!buf || !bytes) {
		raft_free(buf);
		raft_free(bytes);
		return RAFT_NOMEM;
	}
	struct writer w = writer_of(bytes, len);
	put_u32(&w, snapshot_magic);
	put_u16(&w, SNAPSHOT_VERSION);
	put_u32(&w, (uint32_t)rows);
	table_encode(fsm->table, w.at, rows);
	vms_encode(fsm->vms, w.at + rows, w.left - rows);
	*buf = (struct raft_buffer){.base = bytes, .len = len};
	*bufs = buf;
	*n_bufs = 1;
	return 0;
}

static int decode(const void *bytes, size_t len, struct table **ret_table, struct vms **ret_vms)
{
	struct reader r = reader_of(bytes, len);
	struct table *table;

	if (get_u32(&r) != snapshot_magic || get_u16(&r) != SNAPSHOT_VERSION)
		return -EBADMSG;
	uint32_t rows = get_u32(&r);
	const uint8_t *rows_at = get_bytes(&r, rows);
	if (!rows_at)
		return -EBADMSG;
	int err = table_decode(rows_at, rows, &table);
	if (err)
		return err;
	err = vms_decode(r.at, r.left, ret_vms);
	if (err) {
		table_free(table);
		return err;
	}
	*ret_table = table;
	return 0;
}

static int fsm_restore(struct raft_fsm *raft, struct raft_buffer *buf)
{
	struct fsm *fsm = raft->data;
	struct table *table;
	struct vms *vms;

	int err = decode(buf->base, buf->len, &table, &vms);
	if (err)
		return err == -ENOMEM ? RAFT_NOMEM : RAFT_MALFORMED;
	raft_free(buf->base);
	table_free(fsm->table);
	vms_free(fsm->vms);
	fsm->table = table;
	fsm->vms = vms;
	fsm->events.restored(fsm->events.arg);
	return 0;
}

int fsm_init(struct fsm *fsm, const struct fsm_events *events)
{
	*fsm = (struct fsm){.table = table_new(), .vms = vms_new(), .events = *events};
	fsm->raft = (struct raft_fsm){
		.version = 1,
		.data = fsm,
		.apply = fsm_apply,
		.snapshot = fsm_snapshot,
		.restore = fsm_restore,
	};
	return fsm->table && fsm->vms ? 0 : -ENOMEM;
}

void fsm_done(struct fsm *fsm)
{
	fsm->table = table_free(fsm->table);
	fsm->vms = vms_free(fsm->vms);
}

static void end_read(blix_span span, uint64_t start_ns)
{
	record_storage_read(TABLE_VM_STATES, record_now_ns() - start_ns);
	if (blix_span_is_recorded(span))
		trace_storage(span, "get", "vm_states");
	trace_end(span);
}

const struct row *fsm_read(const struct fsm *fsm, const char *key, size_t key_len)
{
	uint64_t start = record_now_ns();
	blix_span span = trace_begin_within(TRACE_STORAGE_READ);
	const struct row *row = table_get(fsm->table, key, key_len);

	end_read(span, start);
	return row;
}

const struct vm *fsm_read_vm(const struct fsm *fsm, const char *name, size_t len)
{
	uint64_t start = record_now_ns();
	blix_span span = trace_begin_within(TRACE_STORAGE_READ);
	const struct vm *vm = vms_get(fsm->vms, name, len);

	end_read(span, start);
	return vm;
}
