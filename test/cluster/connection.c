/* connection.c - framing over a bufferevent. Loop thread only. */
#include "connection.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static uint64_t next_serial;

static void destroy(struct connection *c)
{
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	bufferevent_free(c->bev);
	free(c);
}

void connection_close(struct connection *c)
{
	if (c->doomed)
		return;
	c->doomed = true;
	c->handler->down(c->handler->arg, c);
	bufferevent_disable(c->bev, EV_READ | EV_WRITE);
	bufferevent_setcb(c->bev, NULL, NULL, NULL, NULL);
	if (!c->reading)
		destroy(c);
}

/* One frame from the input. False: none is complete, or the connection is to be closed. */
static bool read_frame(struct connection *c, struct evbuffer *input, bool *ret_bad)
{
	uint8_t bytes[WIRE_HEAD_BYTES];
	struct wire_head head;

	if (evbuffer_copyout(input, bytes, sizeof(bytes)) != (ev_ssize_t)sizeof(bytes))
		return false;
	*ret_bad = true;
	if (wire_decode_head(bytes, &head) ||
	    (!c->greeted &&
	     (head.kind != WIRE_HELLO || head.payload_bytes > FRAME_SMALL_MAX_BYTES)))
		return false;
	*ret_bad = false;
	size_t total = sizeof(bytes) + head.payload_bytes;
	if (evbuffer_get_length(input) < total)
		return false;
	const uint8_t *frame = evbuffer_pullup(input, (ev_ssize_t)total);
	*ret_bad = !frame || !c->handler->frame(c->handler->arg, c, head.kind,
						frame + sizeof(bytes), head.payload_bytes);
	if (!*ret_bad && !c->doomed) {
		evbuffer_drain(input, total);
		c->heard_ns = record_now_ns();
	}
	return !*ret_bad && !c->doomed;
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct connection *c = arg;
	bool bad = false;

	c->reading = true;
	while (read_frame(c, bufferevent_get_input(bev), &bad))
		;
	if (bad && !c->doomed) {
		record_peer_fault(FAULT_FRAME);
		connection_close(c);
	}
	c->reading = false;
	if (c->doomed)
		destroy(c);
}

static void set_nodelay(struct bufferevent *bev)
{
	int one = 1;

	/* Only makes answers faster: no reason to refuse a connection. */
	(void)setsockopt(bufferevent_getfd(bev), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct connection *c = arg;

	if (what & BEV_EVENT_CONNECTED) {
		set_nodelay(bev);
		c->handler->up(c->handler->arg, c);
		return;
	}
	connection_close(c);
}

static void on_input(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *arg)
{
	struct connection *c = arg;

	(void)buffer;
	if (!info->n_added)
		return;
	if (c->record)
		record_peer_received(c->record, info->n_added);
	else
		c->unattributed_in += info->n_added;
}

static void on_output(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *arg)
{
	struct connection *c = arg;

	(void)buffer;
	if (!info->n_deleted)
		return;
	if (c->record)
		record_peer_sent(c->record, info->n_deleted);
	else
		c->unattributed_out += info->n_deleted;
}

static struct connection *make(struct event_base *base, evutil_socket_t fd,
			       const struct connection_handler *handler, struct connection **list)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c->bev) {
		free(c);
		return NULL;
	}
	c->handler = handler;
	c->serial = ++next_serial;
	c->opened_ns = c->heard_ns = record_now_ns();
	c->link = list;
	c->next = *list;
	if (c->next)
		c->next->link = &c->next;
	*list = c;
	evbuffer_add_cb(bufferevent_get_input(c->bev), on_input, c);
	evbuffer_add_cb(bufferevent_get_output(c->bev), on_output, c);
	bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
	bufferevent_setwatermark(c->bev, EV_READ, 0, FRAME_SMALL_MAX_BYTES + WIRE_HEAD_BYTES);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
	return c;
}

struct connection *connection_accept(struct event_base *base, evutil_socket_t fd,
				     const struct connection_handler *handler,
				     struct connection **list)
{
	struct connection *c = make(base, fd, handler, list);

	if (c)
		set_nodelay(c->bev);
	return c;
}

struct connection *connection_dial(struct event_base *base, const char *address,
				   const struct connection_handler *handler,
				   struct connection **list)
{
	struct sockaddr_storage to;
	int len = sizeof(to);

	if (evutil_parse_sockaddr_port(address, (struct sockaddr *)&to, &len))
		return NULL;
	struct connection *c = make(base, -1, handler, list);
	if (!c)
		return NULL;
	c->dialled = true;
	strncpy(c->address, address, ADDRESS_MAX);
	/* Failing at once reports through on_event as well, which frees the connection later only
	 * if the call did not. */
	c->reading = true;
	int err = bufferevent_socket_connect(c->bev, (struct sockaddr *)&to, len);
	c->reading = false;
	if (err && !c->doomed) {
		c->doomed = true;
	}
	if (c->doomed) {
		destroy(c);
		return NULL;
	}
	return c;
}

void connection_attribute(struct connection *c, struct record_peer *record)
{
	c->record = record;
	record_peer_received(record, c->unattributed_in);
	record_peer_sent(record, c->unattributed_out);
	c->unattributed_in = c->unattributed_out = 0;
}

void connection_greeted(struct connection *c)
{
	c->greeted = true;
	bufferevent_setwatermark(c->bev, EV_READ, 0, FRAME_MAX_BYTES + WIRE_HEAD_BYTES);
}

/* Room at the end of the output for a frame of this kind; its head is filled in. */
static int reserve(struct connection *c, enum wire_kind kind, size_t len,
		   struct evbuffer_iovec *room)
{
	struct evbuffer *output = bufferevent_get_output(c->bev);

	if (evbuffer_get_length(output) + len > OUTPUT_MAX_BYTES) {
		record_peer_message_dropped();
		return -ENOBUFS;
	}
	if (evbuffer_reserve_space(output, (ev_ssize_t)(WIRE_HEAD_BYTES + len), room, 1) != 1)
		return -ENOMEM;
	wire_encode_head(room->iov_base, kind, len);
	room->iov_len = WIRE_HEAD_BYTES + len;
	return 0;
}

static int commit(struct connection *c, struct evbuffer_iovec *room)
{
	return evbuffer_commit_space(bufferevent_get_output(c->bev), room, 1) ? -ENOMEM : 0;
}

int connection_send(struct connection *c, enum wire_kind kind, const void *payload, size_t len)
{
	struct evbuffer_iovec room;

	int err = reserve(c, kind, len, &room);
	if (err)
		return err;
	memcpy((uint8_t *)room.iov_base + WIRE_HEAD_BYTES, payload, len);
	return commit(c, &room);
}

int connection_send_raft(struct connection *c, const struct raft_message *message)
{
	unsigned n = wire_raft_entries(message);
	size_t len = wire_raft_bytes(message, n);
	struct evbuffer_iovec room;

	if (!len)
		return -EMSGSIZE;
	int err = reserve(c, WIRE_RAFT, len, &room);
	if (err)
		return err;
	if (wire_encode_raft(message, n, (uint8_t *)room.iov_base + WIRE_HEAD_BYTES, len) != len)
		return -EMSGSIZE;
	return commit(c, &room);
}
