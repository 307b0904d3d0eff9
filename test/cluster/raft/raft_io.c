/* raft_io.c - glue: each function of `struct raft_io` hands its work to storage, hard state or
 * transport. Loop thread only. */
#include "raft_io.h"

#include "test/cluster/storage/disk.h"
#include "test/cluster/limits.h"
#include "test/cluster/log.h"
#include "test/cluster/record/record.h"
#include "test/cluster/storage/snapshot_file.h"
#include "test/cluster/storage/storage.h"
#include "wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* A message handed to the transport whose callback is still to be called: Raft does not expect it
 * from within its own call. */
struct sent {
	struct sent *next;
	struct raft_io_send *request;
	int status;
};

static struct raft_io_state *state_of(const struct raft_io *io)
{
	return io->impl;
}

static int raft_error(int err)
{
	switch (err) {
	case 0:
		return 0;
	case -ENOMEM:
		return RAFT_NOMEM;
	case -ENOSPC:
	case -EDQUOT:
		return RAFT_NOSPACE;
	case -EBADMSG:
		return RAFT_CORRUPT;
	case -EAGAIN:
		return RAFT_BUSY;
	default:
		return RAFT_IOERR;
	}
}

/* ---- life ------------------------------------------------------------------------------------ */

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
	(void)io;
	(void)id;
	(void)address;
	return 0;
}

static void on_storage_done(void *arg)
{
	struct raft_io_state *state = arg;

	state->events.changed(state->events.arg);
}

static void on_storage_fatal(void *arg, int error)
{
	struct raft_io_state *state = arg;

	state->events.fatal(state->events.arg, error);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct raft_io_state *state = arg;

	(void)fd;
	(void)what;
	if (state->closing)
		return;
	state->tick(&state->io);
	state->events.changed(state->events.arg);
}

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
	struct raft_io_state *state = state_of(io);
	struct storage_events events = {
		.done = on_storage_done, .fatal = on_storage_fatal, .arg = state};
	struct timeval period = {.tv_sec = msecs / 1000, .tv_usec = (msecs % 1000) * 1000};

	state->tick = tick;
	state->recv = recv;
	int err = storage_start(state->base, state->dir, state->log, &events, &state->storage);
	if (err)
		return raft_error(err);
	state->log = NULL;
	state->ticker = event_new(state->base, -1, EV_PERSIST, on_tick, state);
	if (!state->ticker || event_add(state->ticker, &period))
		return RAFT_NOMEM;
	return 0;
}

static void run_sent(struct raft_io_state *state)
{
	struct sent *sent = state->sent_head;

	state->sent_head = NULL;
	state->sent_tail = &state->sent_head;
	while (sent) {
		struct sent *next = sent->next;
		if (sent->request->cb)
			sent->request->cb(sent->request, sent->status);
		free(sent);
		sent = next;
	}
}

static void on_sent(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	run_sent(arg);
}

static void on_storage_stopped(void *arg)
{
	struct raft_io_state *state = arg;

	run_sent(state);
	if (state->close_cb)
		state->close_cb(&state->io);
}

static void io_close(struct raft_io *io, raft_io_close_cb cb)
{
	struct raft_io_state *state = state_of(io);

	state->closing = true;
	state->close_cb = cb;
	if (state->storage)
		storage_stop(state->storage, on_storage_stopped, state);
	else
		on_storage_stopped(state);
}

/* ---- persistent state ------------------------------------------------------------------------ */

/* Does the log go on where the snapshot ends, with the entry that the snapshot ends with? A
 * snapshot sent by a leader replaces the log, and a crash may have come between the two. */
static bool log_matches(const struct raft_snapshot *snapshot, uint64_t first,
			const struct raft_entry *entries, size_t n)
{
	if (first == snapshot->index + 1)
		return true;
	return snapshot->index >= first && snapshot->index < first + n &&
	       entries[snapshot->index - first].term == snapshot->term;
}

static void free_entries(struct raft_entry *entries, size_t n)
{
	for (size_t i = 0; i < n; i++)
		raft_free(entries[i].batch);
	raft_free(entries);
}

static int load_log(struct raft_io_state *state, const struct raft_snapshot *snapshot,
		    struct raft_entry **ret_entries, size_t *ret_n)
{
	uint64_t start = record_now_ns();
	struct raft_entry *entries;
	size_t n;

	int err = log_store_load(state->log, &entries, &n);
	if (err)
		return err;
	if (n)
		record_storage_read(TABLE_RAFT_LOG, record_now_ns() - start);
	uint64_t first = log_store_first(state->log);
	uint64_t expected = snapshot ? snapshot->index + 1 : 1;
	if (snapshot ? first > expected && n : first != expected && n) {
		log_line(LOG_ERROR,
			 "the log begins at entry %" PRIu64 ", but entry %" PRIu64 " is missing",
			 first, expected);
		free_entries(entries, n);
		return -EBADMSG;
	}
	if (!n || (snapshot && !log_matches(snapshot, first, entries, n))) {
		free_entries(entries, n);
		entries = NULL;
		n = 0;
		err = log_store_reset(state->log, expected);
	}
	*ret_entries = entries;
	*ret_n = n;
	return err;
}

static int io_load(struct raft_io *io, raft_term *term, raft_id *voted_for,
		   struct raft_snapshot **snapshot, raft_index *start_index,
		   struct raft_entry *entries[], size_t *n_entries)
{
	struct raft_io_state *state = state_of(io);
	struct raft_snapshot *loaded;
	uint64_t start = record_now_ns();

	int err = snapshot_file_read(state->dir, &loaded);
	if (err) {
		log_line(LOG_ERROR, "the snapshot cannot be read: %s", strerror(-err));
		return raft_error(err);
	}
	if (loaded)
		record_storage_read(TABLE_RAFT_SNAPSHOT, record_now_ns() - start);
	err = load_log(state, loaded, entries, n_entries);
	if (err) {
		snapshot_free(loaded);
		return raft_error(err);
	}
	*term = state->hard.term;
	*voted_for = state->hard.vote;
	*snapshot = loaded;
	*start_index = log_store_first(state->log);
	return 0;
}

static int io_set_term(struct raft_io *io, raft_term term)
{
	return raft_error(hard_state_save(&state_of(io)->hard, term, 0));
}

static int io_set_vote(struct raft_io *io, raft_id server_id)
{
	struct raft_io_state *state = state_of(io);

	return raft_error(hard_state_save(&state->hard, state->hard.term, server_id));
}

/* The first entry before the term: a crash between the two leaves an entry of term 1 and no term,
 * which raft_io_open() completes. */
static int io_bootstrap(struct raft_io *io, const struct raft_configuration *configuration)
{
	struct raft_io_state *state = state_of(io);
	struct raft_entry entry = {.term = 1, .type = RAFT_CHANGE};

	if (!raft_io_is_empty(state))
		return RAFT_CANTBOOTSTRAP;
	int err = raft_configuration_encode(configuration, &entry.buf);
	if (err)
		return err;
	err = log_store_append(state->log, &entry, 1);
	raft_free(entry.buf.base);
	if (!err)
		err = log_store_sync(state->log);
	if (!err)
		err = hard_state_save(&state->hard, 1, 0);
	return raft_error(err);
}

/* Forcing a configuration on a cluster without quorum is a tool's business, not a node's. */
static int io_recover(struct raft_io *io, const struct raft_configuration *configuration)
{
	(void)io;
	(void)configuration;
	return RAFT_INVALID;
}

static int io_append(struct raft_io *io, struct raft_io_append *request,
		     const struct raft_entry entries[], unsigned n, raft_io_append_cb cb)
{
	return raft_error(storage_append(state_of(io)->storage, request, entries, n, cb));
}

static int io_truncate(struct raft_io *io, raft_index index)
{
	return raft_error(storage_truncate(state_of(io)->storage, index));
}

static int io_snapshot_put(struct raft_io *io, unsigned trailing,
			   struct raft_io_snapshot_put *request,
			   const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
	return raft_error(storage_put(state_of(io)->storage, trailing, request, snapshot, cb));
}

static int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *request,
			   raft_io_snapshot_get_cb cb)
{
	return raft_error(storage_get(state_of(io)->storage, request, cb));
}

/* ---- messages, time -------------------------------------------------------------------------- */

static int io_send(struct raft_io *io, struct raft_io_send *request,
		   const struct raft_message *message, raft_io_send_cb cb)
{
	static const struct timeval now = {0, 0};
	struct raft_io_state *state = state_of(io);
	struct sent *sent = malloc(sizeof(*sent));

	if (!sent)
		return RAFT_NOMEM;
	/* That it was not sent is told by the callback too: an error from here makes libraft 0.15
	 * release a received message's entries twice when it was answering it. */
	int err = transport_send_raft(state->transport, message);
	request->cb = cb;
	*sent = (struct sent){.request = request, .status = err ? RAFT_NOCONNECTION : 0};
	if (!state->sent_head)
		event_add(state->sender, &now);
	*state->sent_tail = sent;
	state->sent_tail = &sent->next;
	return 0;
}

/* A message that a correct peer does not send, and that libraft would take for granted. */
static bool is_stale(struct raft_io_state *state, const struct raft_message *message)
{
	const struct raft *raft = state->io.data;
	raft_term term;

	if (message->type == RAFT_IO_APPEND_ENTRIES)
		term = message->append_entries.term;
	else if (message->type == RAFT_IO_INSTALL_SNAPSHOT)
		term = message->install_snapshot.term;
	else
		return false;
	return raft->state == RAFT_LEADER && term == raft->current_term;
}

void raft_io_receive(struct raft_io_state *state, struct raft_message *message)
{
	bool has_entries =
		message->type == RAFT_IO_APPEND_ENTRIES && message->append_entries.n_entries;

	if (state->closing || !state->recv) {
		wire_release_raft(message);
		return;
	}
	if (is_stale(state, message)) {
		record_peer_fault(FAULT_STALE);
		wire_release_raft(message);
		return;
	}
	/* Entries that the disk cannot take now are ignored: the leader sends them again. */
	if (has_entries && !storage_has_room(state->storage)) {
		wire_release_raft(message);
		return;
	}
	state->recv(&state->io, message);
	state->events.changed(state->events.arg);
}

static raft_time io_time(struct raft_io *io)
{
	(void)io;
	return record_now_ns() / 1000000;
}

static int io_random(struct raft_io *io, int min, int max)
{
	uint32_t bits;

	(void)io;
	if (max <= min)
		return min;
	if (getrandom(&bits, sizeof(bits), 0) != (ssize_t)sizeof(bits))
		bits = (uint32_t)record_now_ns();
	return min + (int)(bits % ((unsigned)(max - min) + 1));
}

/* ---- opening --------------------------------------------------------------------------------- */

static void explain_state(char reason[LOG_REASON_MAX], const struct raft_io_state *state, int err)
{
	if (err == -ENXIO)
		snprintf(reason, LOG_REASON_MAX, "the data directory belongs to node %" PRIu64,
			 state->hard.node_id);
	else if (err == -EBADMSG)
		snprintf(reason, LOG_REASON_MAX, "the file `state` is damaged");
	else
		snprintf(reason, LOG_REASON_MAX, "the file `state`: %s", strerror(-err));
}

/* A log without a term: either its first entry was all that bootstrapping came to, or the file
 * `state` was lost, and with it a vote that may have been given. */
static int complete_bootstrap(struct raft_io_state *state, char reason[LOG_REASON_MAX])
{
	if (state->hard.term || log_store_next(state->log) == log_store_first(state->log))
		return 0;
	if (log_store_first(state->log) != 1 || log_store_next(state->log) != 2) {
		snprintf(reason, LOG_REASON_MAX, "there is a log, but the file `state` is missing");
		return -EBADMSG;
	}
	return hard_state_save(&state->hard, 1, 0);
}

static void set_functions(struct raft_io_state *state)
{
	state->io = (struct raft_io){
		.version = 2,
		.impl = state,
		.init = io_init,
		.close = io_close,
		.load = io_load,
		.start = io_start,
		.bootstrap = io_bootstrap,
		.recover = io_recover,
		.set_term = io_set_term,
		.set_vote = io_set_vote,
		.send = io_send,
		.append = io_append,
		.truncate = io_truncate,
		.snapshot_put = io_snapshot_put,
		.snapshot_get = io_snapshot_get,
		.time = io_time,
		.random = io_random,
	};
}

int raft_io_open(struct raft_io_state *state, struct event_base *base, int dir, uint64_t node_id,
		 const struct raft_io_events *events, char reason[LOG_REASON_MAX])
{
	*state = (struct raft_io_state){.base = base, .dir = dir, .events = *events};
	state->sent_tail = &state->sent_head;
	set_functions(state);
	int err = hard_state_open(dir, node_id, &state->hard);
	if (err) {
		explain_state(reason, state, err);
		return err;
	}
	err = log_store_open(dir, &state->log, reason);
	if (!err)
		err = complete_bootstrap(state, reason);
	state->sender = err ? NULL : event_new(base, -1, 0, on_sent, state);
	if (!err && !state->sender)
		err = -ENOMEM;
	if (err) {
		raft_io_done(state);
		return err;
	}
	if (log_store_torn_bytes(state->log)) {
		log_line(LOG_WARN, "cut %" PRIu64 " bytes of an unfinished write off the log",
			 log_store_torn_bytes(state->log));
		record_log_torn(log_store_torn_bytes(state->log));
	}
	return 0;
}

void raft_io_done(struct raft_io_state *state)
{
	if (state->ticker)
		event_free(state->ticker);
	if (state->sender)
		event_free(state->sender);
	state->ticker = state->sender = NULL;
	state->storage = storage_free(state->storage);
	state->log = log_store_close(state->log);
	hard_state_close(&state->hard);
}

bool raft_io_is_empty(const struct raft_io_state *state)
{
	return state->log && log_store_next(state->log) == 1 && !state->hard.term;
}

void raft_io_set_transport(struct raft_io_state *state, struct transport *transport)
{
	state->transport = transport;
}
