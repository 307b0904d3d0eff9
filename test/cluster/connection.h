/* connection.h - one TCP connection between two nodes: bytes to frames and back.
 *
 * Knows framing, bounds, byte counts and its own end; what a frame means is the transport's
 * business. Loop thread only. */
#ifndef CLUSTER_CONNECTION_H
#define CLUSTER_CONNECTION_H

#include "record.h"
#include "wire.h"

#include <event2/event.h>
#include <event2/util.h>
#include <stdbool.h>

struct bufferevent;
struct connection;

struct connection_handler {
	void (*up)(void *arg, struct connection *connection); /* the TCP connection stands */
	/* False: the frame is not acceptable, the connection is to be closed. */
	bool (*frame)(void *arg, struct connection *connection, enum wire_kind kind,
		      const uint8_t *payload, size_t len);
	void (*down)(void *arg, struct connection *connection); /* about to be freed */
	void *arg;
};

struct connection {
	struct connection *next;
	struct connection **link;
	const struct connection_handler *handler;
	struct bufferevent *bev;
	uint64_t serial; /* never reused */
	bool dialled;	 /* by this node */
	bool joining;	 /* dialled to ask for membership */
	bool greeted;	 /* the other side's HELLO has come */
	bool reading;	 /* a frame of it is being handled: it is freed afterwards */
	bool doomed;
	uint64_t node_id; /* dialled: of the peer it is for; accepted: from its HELLO */
	char address[ADDRESS_MAX + 1]; /* of the other node, as peers dial it */
	uint64_t opened_ns;
	uint64_t heard_ns;	    /* last frame */
	struct record_peer *record; /* NULL: not attributed to a peer */
	size_t unattributed_in;	    /* received while it was not */
	size_t unattributed_out;
	uint64_t ping; /* sequence that was sent last */
	uint64_t ping_sent_ns;
	bool ping_waits; /* for its answer */
};

/* Take over an accepted socket, or dial a numeric "host:port". NULL: no memory or no such
 * address. */
struct connection *connection_accept(struct event_base *base, evutil_socket_t fd,
				     const struct connection_handler *handler,
				     struct connection **list);
struct connection *connection_dial(struct event_base *base, const char *address,
				   const struct connection_handler *handler,
				   struct connection **list);

/* handler->down() is called first. */
void connection_close(struct connection *connection);

/* From now on its bytes are this peer's, those so far included. */
void connection_attribute(struct connection *connection, struct record_peer *record);

/* The other side has said who it is: larger frames are read from now on. */
void connection_greeted(struct connection *connection);

/* 0; -ENOBUFS: too much is waiting, the frame was dropped; -EMSGSIZE, -ENOMEM. */
int connection_send(struct connection *connection, enum wire_kind kind, const void *payload,
		    size_t len);
int connection_send_raft(struct connection *connection, const struct raft_message *message);

#endif
