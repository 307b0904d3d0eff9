/* wire_raft.c - Raft's messages and configurations as bytes. Pure, any thread. */
#include "wire.h"

#include "test/cluster/storage/bytes.h"

#include <errno.h>

/* Indexes and terms beyond this are nonsense, and sums of them must not wrap. */
static const uint64_t number_max = 1ULL << 62;

enum {
	ENTRY_HEAD_BYTES = 8 + 2 + 4, /* term, type, length */
	ENTRIES_MAX = 65536,
	ROLE_MAX = RAFT_SPARE,
};

/* ---- configurations -------------------------------------------------------------------------- */

size_t wire_configuration_bytes(const struct raft_configuration *configuration)
{
	size_t bytes = sizeof(uint16_t);

	for (unsigned i = 0; i < configuration->n; i++)
		bytes += sizeof(uint64_t) + 2 + strlen(configuration->servers[i].address);
	return bytes;
}

void wire_put_configuration(struct writer *w, const struct raft_configuration *configuration)
{
	put_u16(w, (uint16_t)configuration->n);
	for (unsigned i = 0; i < configuration->n; i++) {
		const struct raft_server *server = &configuration->servers[i];
		size_t len = strlen(server->address);

		put_u64(w, server->id);
		put_u8(w, (uint8_t)server->role);
		put_u8(w, (uint8_t)len);
		put_bytes(w, server->address, len);
		if (len > ADDRESS_MAX)
			w->failed = true;
	}
}

static int get_server(struct reader *r, struct raft_configuration *configuration)
{
	char address[ADDRESS_MAX + 1];
	uint64_t id = get_u64(r);
	uint8_t role = get_u8(r);
	size_t len = get_u8(r);
	const uint8_t *text = len <= ADDRESS_MAX ? get_bytes(r, len) : NULL;

	if (!text || !id || !len || role > ROLE_MAX || memchr(text, 0, len))
		return -EPROTO;
	memcpy(address, text, len);
	address[len] = '\0';
	int err = raft_configuration_add(configuration, id, address, role);
	if (err)
		return err == RAFT_NOMEM ? -ENOMEM : -EPROTO;
	return 0;
}

int wire_get_configuration(struct reader *r, struct raft_configuration *ret_configuration)
{
	struct raft_configuration configuration;
	unsigned n = get_u16(r);

	if (r->failed || n > MEMBERS_MAX)
		return -EPROTO;
	raft_configuration_init(&configuration);
	for (unsigned i = 0; i < n; i++) {
		int err = get_server(r, &configuration);
		if (err) {
			raft_configuration_close(&configuration);
			return err;
		}
	}
	*ret_configuration = configuration;
	return 0;
}

/* ---- encoding -------------------------------------------------------------------------------- */

unsigned wire_raft_entries(const struct raft_message *message)
{
	const struct raft_append_entries *append = &message->append_entries;
	size_t bytes = 0;
	unsigned n = 0;

	if (message->type != RAFT_IO_APPEND_ENTRIES)
		return 0;
	while (n < append->n_entries && n < ENTRIES_MAX) {
		bytes += ENTRY_HEAD_BYTES + pad8(append->entries[n].buf.len);
		if (n && bytes > APPEND_MAX_BYTES)
			break;
		n++;
	}
	return n;
}

size_t wire_raft_bytes(const struct raft_message *message, unsigned n_entries)
{
	size_t bytes = sizeof(uint16_t);

	switch (message->type) {
	case RAFT_IO_REQUEST_VOTE:
		bytes += 4 * sizeof(uint64_t) + 2;
		break;
	case RAFT_IO_REQUEST_VOTE_RESULT:
		bytes += sizeof(uint64_t) + 2;
		break;
	case RAFT_IO_APPEND_ENTRIES:
		bytes += 4 * sizeof(uint64_t) + sizeof(uint32_t);
		for (unsigned i = 0; i < n_entries; i++)
			bytes +=
				ENTRY_HEAD_BYTES + pad8(message->append_entries.entries[i].buf.len);
		break;
	case RAFT_IO_APPEND_ENTRIES_RESULT:
	case RAFT_IO_TIMEOUT_NOW:
		bytes += 3 * sizeof(uint64_t);
		break;
	case RAFT_IO_INSTALL_SNAPSHOT:
		bytes += 4 * sizeof(uint64_t) + sizeof(uint32_t) +
			 wire_configuration_bytes(&message->install_snapshot.conf) +
			 message->install_snapshot.data.len;
		break;
	default:
		return 0;
	}
	return bytes <= FRAME_MAX_BYTES ? bytes : 0;
}

static void put_append(struct writer *w, const struct raft_append_entries *append, unsigned n)
{
	put_u64(w, append->term);
	put_u64(w, append->prev_log_index);
	put_u64(w, append->prev_log_term);
	put_u64(w, append->leader_commit);
	put_u32(w, n);
	for (unsigned i = 0; i < n; i++) {
		put_u64(w, append->entries[i].term);
		put_u16(w, append->entries[i].type);
		put_u32(w, (uint32_t)append->entries[i].buf.len);
	}
	for (unsigned i = 0; i < n; i++) {
		const struct raft_buffer *buf = &append->entries[i].buf;

		put_bytes(w, buf->base, buf->len);
		put_zeros(w, pad8(buf->len) - buf->len);
	}
}

static void put_snapshot(struct writer *w, const struct raft_install_snapshot *snapshot)
{
	put_u64(w, snapshot->term);
	put_u64(w, snapshot->last_index);
	put_u64(w, snapshot->last_term);
	put_u64(w, snapshot->conf_index);
	wire_put_configuration(w, &snapshot->conf);
	put_u32(w, (uint32_t)snapshot->data.len);
	put_bytes(w, snapshot->data.base, snapshot->data.len);
}

static void put_vote(struct writer *w, const struct raft_request_vote *vote)
{
	put_u64(w, vote->term);
	put_u64(w, vote->candidate_id);
	put_u64(w, vote->last_log_index);
	put_u64(w, vote->last_log_term);
	put_u8(w, vote->disrupt_leader);
	put_u8(w, vote->pre_vote);
}

size_t wire_encode_raft(const struct raft_message *message, unsigned n_entries, uint8_t *out,
			size_t len)
{
	struct writer w = writer_of(out, len);

	put_u16(&w, message->type);
	switch (message->type) {
	case RAFT_IO_REQUEST_VOTE:
		put_vote(&w, &message->request_vote);
		break;
	case RAFT_IO_REQUEST_VOTE_RESULT:
		put_u64(&w, message->request_vote_result.term);
		put_u8(&w, message->request_vote_result.vote_granted);
		put_u8(&w, (uint8_t)message->request_vote_result.pre_vote);
		break;
	case RAFT_IO_APPEND_ENTRIES:
		put_append(&w, &message->append_entries, n_entries);
		break;
	case RAFT_IO_APPEND_ENTRIES_RESULT:
		put_u64(&w, message->append_entries_result.term);
		put_u64(&w, message->append_entries_result.rejected);
		put_u64(&w, message->append_entries_result.last_log_index);
		break;
	case RAFT_IO_INSTALL_SNAPSHOT:
		put_snapshot(&w, &message->install_snapshot);
		break;
	case RAFT_IO_TIMEOUT_NOW:
		put_u64(&w, message->timeout_now.term);
		put_u64(&w, message->timeout_now.last_log_index);
		put_u64(&w, message->timeout_now.last_log_term);
		break;
	default:
		return 0;
	}
	return w.failed ? 0 : len - w.left;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static bool sane(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	return a <= number_max && b <= number_max && c <= number_max && d <= number_max;
}

static int get_vote(struct reader *r, struct raft_request_vote *vote)
{
	vote->term = get_u64(r);
	vote->candidate_id = get_u64(r);
	vote->last_log_index = get_u64(r);
	vote->last_log_term = get_u64(r);
	uint8_t disrupt = get_u8(r);
	uint8_t pre_vote = get_u8(r);
	vote->disrupt_leader = disrupt;
	vote->pre_vote = pre_vote;
	bool ok = vote->term && vote->candidate_id && disrupt <= 1 && pre_vote <= 1 &&
		  sane(vote->term, 0, vote->last_log_index, vote->last_log_term);
	return ok ? 0 : -EPROTO;
}

static int get_vote_result(struct reader *r, struct raft_request_vote_result *result)
{
	result->term = get_u64(r);
	uint8_t granted = get_u8(r);
	uint8_t pre_vote = get_u8(r);
	result->vote_granted = granted;
	result->pre_vote = (raft_tribool)pre_vote;
	return granted <= 1 && pre_vote <= raft_tribool_false && sane(result->term, 0, 0, 0)
		       ? 0
		       : -EPROTO;
}

/* Copies the entries' data into one batch, as Raft wants to have it. `heads` has been checked to
 * hold n heads. */
static int get_entries(struct reader *heads, struct reader *data, raft_term term, unsigned n,
		       struct raft_entry **ret_entries)
{
	struct raft_entry *entries = raft_calloc(n, sizeof(*entries));
	uint8_t *batch = raft_malloc(data->left ? data->left : 1);
	uint8_t *to = batch;
	int err = -ENOMEM;

	if (!entries || !batch)
		goto fail;
	err = -EPROTO;
	for (unsigned i = 0; i < n; i++) {
		struct raft_entry *entry = &entries[i];

		entry->term = get_u64(heads);
		entry->type = get_u16(heads);
		size_t len = get_u32(heads);
		if (!entry->term || entry->term > term || entry->type < RAFT_COMMAND ||
		    entry->type > RAFT_CHANGE || !len || len > ENTRY_MAX_BYTES)
			goto fail;
		const uint8_t *from = get_bytes(data, pad8(len));
		if (!from)
			goto fail;
		memcpy(to, from, pad8(len));
		entry->buf = (struct raft_buffer){.base = to, .len = len};
		entry->batch = batch;
		to += pad8(len);
	}
	if (data->left)
		goto fail;
	*ret_entries = entries;
	return 0;
fail:
	raft_free(entries);
	raft_free(batch);
	return err;
}

static int get_append(struct reader *r, struct raft_append_entries *append)
{
	append->term = get_u64(r);
	append->prev_log_index = get_u64(r);
	append->prev_log_term = get_u64(r);
	append->leader_commit = get_u64(r);
	append->n_entries = get_u32(r);
	append->entries = NULL;
	if (r->failed || !append->term || append->prev_log_term > append->term ||
	    append->n_entries > ENTRIES_MAX || !append->prev_log_index != !append->prev_log_term ||
	    !sane(append->term, append->prev_log_index, append->leader_commit, 0))
		return -EPROTO;
	if (!append->n_entries)
		return 0;

	size_t heads_bytes = (size_t)append->n_entries * ENTRY_HEAD_BYTES;
	const uint8_t *at = get_bytes(r, heads_bytes);
	if (!at)
		return -EPROTO;
	struct reader heads = reader_of(at, heads_bytes);
	return get_entries(&heads, r, append->term, append->n_entries, &append->entries);
}

static int get_snapshot(struct reader *r, struct raft_install_snapshot *snapshot)
{
	snapshot->term = get_u64(r);
	snapshot->last_index = get_u64(r);
	snapshot->last_term = get_u64(r);
	snapshot->conf_index = get_u64(r);
	if (r->failed || !snapshot->term || !snapshot->last_index || !snapshot->last_term ||
	    snapshot->last_term > snapshot->term || snapshot->conf_index > snapshot->last_index ||
	    !sane(snapshot->term, snapshot->last_index, 0, 0))
		return -EPROTO;
	int err = wire_get_configuration(r, &snapshot->conf);
	if (err)
		return err;

	size_t len = get_u32(r);
	const uint8_t *at = get_bytes(r, len);
	err = -EPROTO;
	if (!at || !len || r->left || !snapshot->conf.n)
		goto fail;
	err = -ENOMEM;
	snapshot->data.len = len;
	snapshot->data.base = raft_malloc(len);
	if (!snapshot->data.base)
		goto fail;
	memcpy(snapshot->data.base, at, len);
	return 0;
fail:
	raft_configuration_close(&snapshot->conf);
	return err;
}

static int get_three(struct reader *r, raft_term *a, raft_index *b, uint64_t *c)
{
	*a = get_u64(r);
	*b = get_u64(r);
	uint64_t third = get_u64(r);
	*c = third;
	return sane(*a, *b, third, 0) ? 0 : -EPROTO;
}

int wire_decode_raft(const uint8_t *payload, size_t len, struct raft_message *ret_message)
{
	struct reader r = reader_of(payload, len);
	struct raft_message message = {.type = get_u16(&r)};
	uint64_t third = 0;
	int err;

	switch (message.type) {
	case RAFT_IO_REQUEST_VOTE:
		err = get_vote(&r, &message.request_vote);
		break;
	case RAFT_IO_REQUEST_VOTE_RESULT:
		err = get_vote_result(&r, &message.request_vote_result);
		break;
	case RAFT_IO_APPEND_ENTRIES:
		err = get_append(&r, &message.append_entries);
		break;
	case RAFT_IO_APPEND_ENTRIES_RESULT:
		err = get_three(&r, &message.append_entries_result.term,
				&message.append_entries_result.rejected, &third);
		message.append_entries_result.last_log_index = third;
		break;
	case RAFT_IO_INSTALL_SNAPSHOT:
		err = get_snapshot(&r, &message.install_snapshot);
		break;
	case RAFT_IO_TIMEOUT_NOW:
		err = get_three(&r, &message.timeout_now.term, &message.timeout_now.last_log_index,
				&third);
		message.timeout_now.last_log_term = third;
		break;
	default:
		return -EPROTO;
	}
	if (!err && (r.failed || r.left)) {
		wire_release_raft(&message);
		err = -EPROTO;
	}
	if (!err)
		*ret_message = message;
	return err;
}

void wire_release_raft(struct raft_message *message)
{
	if (message->type == RAFT_IO_APPEND_ENTRIES && message->append_entries.n_entries) {
		raft_free(message->append_entries.entries[0].batch);
		raft_free(message->append_entries.entries);
	} else if (message->type == RAFT_IO_INSTALL_SNAPSHOT) {
		raft_configuration_close(&message->install_snapshot.conf);
		raft_free(message->install_snapshot.data.base);
	}
}
