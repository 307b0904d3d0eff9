/* raft_io.h - what libraft needs from us: its `struct raft_io` over storage, hard state and
 * transport. Loop thread only. */
#ifndef CLUSTER_RAFT_IO_H
#define CLUSTER_RAFT_IO_H

#include "test/cluster/storage/hard_state.h"
#include "test/cluster/storage/log_store.h"
#include "transport.h"

#include <event2/event.h>
#include <raft.h>

struct raft_io_events {
	void (*changed)(void *arg);	     /* Raft has just been given something to do */
	void (*fatal)(void *arg, int error); /* the disk failed */
	void *arg;
};

struct raft_io_state {
	struct raft_io io; /* hand this to raft_init() */
	struct event_base *base;
	struct transport *transport;
	struct raft_io_events events;
	int dir;
	struct hard_state hard;
	struct log_store *log; /* until storage owns it */
	struct storage *storage;
	struct event *ticker;
	struct event *sender; /* runs the callbacks of messages that were sent */
	struct sent *sent_head;
	struct sent **sent_tail;
	raft_io_tick_cb tick;
	raft_io_recv_cb recv;
	raft_io_close_cb close_cb;
	bool closing;
};

/* Open the data directory's state. 0; otherwise -errno and a sentence in `reason`. */
int raft_io_open(struct raft_io_state *state, struct event_base *base, int dir, uint64_t node_id,
		 const struct raft_io_events *events, char reason[LOG_REASON_MAX]);

/* Release what raft_io_open() took, after Raft was closed, or when it never started. */
void raft_io_done(struct raft_io_state *state);

/* Nothing was ever logged or voted here: a new node. */
bool raft_io_is_empty(const struct raft_io_state *state);

/* Before raft_start(): the transport, once it exists. */
void raft_io_set_transport(struct raft_io_state *state, struct transport *transport);

/* Give Raft a message from a peer. Takes over its memory. */
void raft_io_receive(struct raft_io_state *state, struct raft_message *message);

#endif
