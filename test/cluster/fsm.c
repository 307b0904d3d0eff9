/* fsm.c - the state machine. A command that is malformed, or finds the table full, changes nothing,
 * on every node alike: applying never fails, because a node that cannot apply what the others did
 * would be lost. Loop thread only. */
#include "fsm.h"

#include "record.h"

#include <errno.h>

static int fsm_apply(struct raft_fsm *raft, const struct raft_buffer *buf, void **result)
{
	struct fsm *fsm = raft->data;
	uint64_t start = record_now_ns();
	struct command command;
	int err;

	*result = NULL;
	if (command_decode(buf->base, buf->len, &command))
		return 0;
	if (command.op == COMMAND_PUT)
		err = table_put(fsm->table, command.key, command.key_len, command.value,
				command.value_len);
	else
		err = table_delete(fsm->table, command.key, command.key_len);
	/* Memory is what nodes do not have alike: this one must stop. */
	if (err == -ENOMEM)
		return RAFT_NOMEM;
	if (!err)
		record_storage_write(TABLE_VM_STATES, record_now_ns() - start);
	fsm->events.applied(fsm->events.arg, &command);
	return 0;
}

static int fsm_snapshot(struct raft_fsm *raft, struct raft_buffer *bufs[], unsigned *n_bufs)
{
	struct fsm *fsm = raft->data;
	size_t len = table_bytes(fsm->table);
	struct raft_buffer *buf = raft_malloc(sizeof(*buf));
	void *bytes = raft_malloc(len);

	if (!buf || !bytes) {
		raft_free(buf);
		raft_free(bytes);
		return RAFT_NOMEM;
	}
	table_encode(fsm->table, bytes, len);
	*buf = (struct raft_buffer){.base = bytes, .len = len};
	*bufs = buf;
	*n_bufs = 1;
	return 0;
}

static int fsm_restore(struct raft_fsm *raft, struct raft_buffer *buf)
{
	struct fsm *fsm = raft->data;
	struct table *table;

	int err = table_decode(buf->base, buf->len, &table);
	if (err)
		return err == -ENOMEM ? RAFT_NOMEM : RAFT_MALFORMED;
	raft_free(buf->base);
	table_free(fsm->table);
	fsm->table = table;
	fsm->events.restored(fsm->events.arg);
	return 0;
}

int fsm_init(struct fsm *fsm, const struct fsm_events *events)
{
	*fsm = (struct fsm){.table = table_new(), .events = *events};
	fsm->raft = (struct raft_fsm){
		.version = 1,
		.data = fsm,
		.apply = fsm_apply,
		.snapshot = fsm_snapshot,
		.restore = fsm_restore,
	};
	return fsm->table ? 0 : -ENOMEM;
}

void fsm_done(struct fsm *fsm)
{
	fsm->table = table_free(fsm->table);
}

const struct row *fsm_read(const struct fsm *fsm, const char *key, size_t key_len)
{
	uint64_t start = record_now_ns();
	const struct row *row = table_get(fsm->table, key, key_len);

	record_storage_read(TABLE_VM_STATES, record_now_ns() - start);
	return row;
}
