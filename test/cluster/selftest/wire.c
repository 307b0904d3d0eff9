/* test/cluster/selftest/wire.c
 * Goal: every message arrives as it was sent, and no bytes of a peer can do harm.
 * Method: encode and decode each kind; then cut, flip and invent payloads that end where memory
 * ends, so that one byte read too far is a crash, and let the sanitizers count what is not freed.
 */
#include "tap.h"

#include "test/cluster/storage/bytes.h"
#include "test/cluster/state/command.h"
#include "test/cluster/state/table.h"
#include "test/cluster/raft/wire.h"
#include "test/support/guard_page.h"

#include <errno.h>
#include <stdint.h>

enum { PAYLOAD_MAX = 64 << 10, INVENTED = 200000 };

static struct guard_page guard;
static uint64_t seed = 0x9e3779b97f4a7c15ULL;

/* xorshift: the same bytes on every run. */
static uint64_t invent(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* ---- what decodes a payload of one kind ------------------------------------------------------ */

typedef int (*decoder)(const uint8_t *payload, size_t len);

static int decode_raft(const uint8_t *payload, size_t len)
{
	struct raft_message message;
	int err = wire_decode_raft(payload, len, &message);

	if (!err)
		wire_release_raft(&message);
	return err;
}

static int decode_command(const uint8_t *payload, size_t len)
{
	struct command command;

	return command_decode(payload, len, &command);
}

static int decode_table(const uint8_t *payload, size_t len)
{
	struct table *table;
	int err = table_decode(payload, len, &table);

	if (!err)
		table_free(table);
	return err;
}

/* Every payload that is shorter is refused; any byte may change without harm. */
static bool withstands(decoder decode, const uint8_t *payload, size_t len)
{
	static uint8_t copy[PAYLOAD_MAX];
	bool good = !decode((uint8_t *)guard_page_place(&guard, payload, len), len);

	for (size_t cut = 0; cut < len; cut++)
		good &= decode((uint8_t *)guard_page_place(&guard, payload, cut), cut) < 0;
	memcpy(copy, payload, len);
	copy[len] = 0;
	good &= decode((uint8_t *)guard_page_place(&guard, copy, len + 1), len + 1) < 0;
	for (size_t i = 0; i < len; i++) {
		static const uint8_t others[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
		for (size_t j = 0; j < sizeof(others); j++) {
			copy[i] = others[j];
			(void)decode((uint8_t *)guard_page_place(&guard, copy, len), len);
		}
		copy[i] = payload[i];
	}
	return good;
}

/* ---- Raft's messages ------------------------------------------------------------------------- */

static char first[] = "first entry", second[] = "the second one";
static struct raft_entry entries[2] = {
	{.term = 3, .type = RAFT_COMMAND, .buf = {.base = first, .len = sizeof(first)}},
	{.term = 4, .type = RAFT_BARRIER, .buf = {.base = second, .len = sizeof(second)}},
};
static struct raft_server servers[2] = {
	{.id = 1, .address = (char *)(uintptr_t) "127.0.0.1:7001", .role = RAFT_VOTER},
	{.id = 2, .address = (char *)(uintptr_t) "[::1]:7002", .role = RAFT_STANDBY},
};
static char state_bytes[] = "the state machine's bytes";

static const struct raft_message messages[] = {
	{.type = RAFT_IO_REQUEST_VOTE,
	 .request_vote = {.term = 5,
			  .candidate_id = 2,
			  .last_log_index = 9,
			  .last_log_term = 4,
			  .disrupt_leader = true,
			  .pre_vote = false}},
	{.type = RAFT_IO_REQUEST_VOTE_RESULT,
	 .request_vote_result = {.term = 5, .vote_granted = true, .pre_vote = raft_tribool_false}},
	{.type = RAFT_IO_APPEND_ENTRIES,
	 .append_entries = {.term = 5,
			    .prev_log_index = 7,
			    .prev_log_term = 3,
			    .leader_commit = 6,
			    .entries = entries,
			    .n_entries = 2}},
	{.type = RAFT_IO_APPEND_ENTRIES,
	 .append_entries =
		 {.term = 5, .prev_log_index = 7, .prev_log_term = 3, .leader_commit = 6}},
	{.type = RAFT_IO_APPEND_ENTRIES_RESULT,
	 .append_entries_result = {.term = 5, .rejected = 8, .last_log_index = 7}},
	{.type = RAFT_IO_INSTALL_SNAPSHOT,
	 .install_snapshot = {.term = 5,
			      .last_index = 8,
			      .last_term = 4,
			      .conf_index = 2,
			      .conf = {.servers = servers, .n = 2},
			      .data = {.base = state_bytes, .len = sizeof(state_bytes)}}},
	{.type = RAFT_IO_TIMEOUT_NOW,
	 .timeout_now = {.term = 5, .last_log_index = 9, .last_log_term = 4}},
};
enum { MESSAGES = sizeof(messages) / sizeof(messages[0]) };

static bool same_entries(const struct raft_append_entries *a, const struct raft_append_entries *b)
{
	bool same = a->n_entries == b->n_entries;

	for (unsigned i = 0; same && i < a->n_entries; i++) {
		const struct raft_entry *x = &a->entries[i], *y = &b->entries[i];
		same = x->term == y->term && x->type == y->type && x->buf.len == y->buf.len &&
		       !memcmp(x->buf.base, y->buf.base, x->buf.len) && y->batch &&
		       (uintptr_t)y->buf.base % 8 == 0;
	}
	return same && a->term == b->term && a->prev_log_index == b->prev_log_index &&
	       a->prev_log_term == b->prev_log_term && a->leader_commit == b->leader_commit;
}

static bool same_snapshot(const struct raft_install_snapshot *a,
			  const struct raft_install_snapshot *b)
{
	bool same = a->conf.n == b->conf.n && a->data.len == b->data.len;

	for (unsigned i = 0; same && i < a->conf.n; i++)
		same = a->conf.servers[i].id == b->conf.servers[i].id &&
		       a->conf.servers[i].role == b->conf.servers[i].role &&
		       !strcmp(a->conf.servers[i].address, b->conf.servers[i].address);
	return same && a->term == b->term && a->last_index == b->last_index &&
	       a->last_term == b->last_term && a->conf_index == b->conf_index &&
	       !memcmp(a->data.base, b->data.base, a->data.len);
}

static bool same_vote(const struct raft_request_vote *a, const struct raft_request_vote *b)
{
	return a->term == b->term && a->candidate_id == b->candidate_id &&
	       a->last_log_index == b->last_log_index && a->last_log_term == b->last_log_term &&
	       a->disrupt_leader == b->disrupt_leader && a->pre_vote == b->pre_vote;
}

static bool same_small(const struct raft_message *a, const struct raft_message *b)
{
	const struct raft_request_vote_result *v = &a->request_vote_result,
					      *w = &b->request_vote_result;
	const struct raft_append_entries_result *r = &a->append_entries_result,
						*s = &b->append_entries_result;
	const struct raft_timeout_now *t = &a->timeout_now, *u = &b->timeout_now;

	if (a->type == RAFT_IO_REQUEST_VOTE_RESULT)
		return v->term == w->term && v->vote_granted == w->vote_granted &&
		       v->pre_vote == w->pre_vote;
	if (a->type == RAFT_IO_APPEND_ENTRIES_RESULT)
		return r->term == s->term && r->rejected == s->rejected &&
		       r->last_log_index == s->last_log_index;
	return t->term == u->term && t->last_log_index == u->last_log_index &&
	       t->last_log_term == u->last_log_term;
}

static bool same(const struct raft_message *a, const struct raft_message *b)
{
	if (a->type != b->type)
		return false;
	if (a->type == RAFT_IO_APPEND_ENTRIES)
		return same_entries(&a->append_entries, &b->append_entries);
	if (a->type == RAFT_IO_INSTALL_SNAPSHOT)
		return same_snapshot(&a->install_snapshot, &b->install_snapshot);
	if (a->type == RAFT_IO_REQUEST_VOTE)
		return same_vote(&a->request_vote, &b->request_vote);
	return same_small(a, b);
}

static size_t encode(const struct raft_message *message, uint8_t *out)
{
	unsigned n = wire_raft_entries(message);
	size_t len = wire_raft_bytes(message, n);

	return len && wire_encode_raft(message, n, out, len) == len ? len : 0;
}

static void test_raft(void)
{
	static uint8_t payload[PAYLOAD_MAX];
	bool arrives = true, robust = true;

	for (size_t i = 0; i < MESSAGES; i++) {
		struct raft_message message;
		size_t len = encode(&messages[i], payload);

		arrives &= len && !wire_decode_raft(payload, len, &message);
		arrives &= same(&messages[i], &message);
		wire_release_raft(&message);
		robust &= withstands(decode_raft, payload, len);
	}
	tap(arrives, "each of Raft's messages arrives as it was sent");
	tap(robust, "cut, lengthened or changed anywhere, it does no harm");
}

static bool refuses(const struct raft_message *message)
{
	static uint8_t payload[PAYLOAD_MAX];

	return decode_raft(payload, encode(message, payload)) == -EPROTO;
}

static void test_nonsense(void)
{
	struct raft_message m = messages[2];
	bool good;

	m.append_entries.prev_log_term = 0;
	good = refuses(&m);
	m = messages[2];
	m.append_entries.term = 3; /* an entry is of a later term */
	good &= refuses(&m);
	m = messages[2];
	m.append_entries.prev_log_index = UINT64_MAX;
	good &= refuses(&m);
	m = messages[5];
	m.install_snapshot.last_index = 0;
	good &= refuses(&m);
	m = messages[5];
	m.install_snapshot.conf_index = 9;
	good &= refuses(&m);
	m = messages[5];
	m.install_snapshot.conf.n = 0;
	good &= refuses(&m);
	m = messages[0];
	m.request_vote.candidate_id = 0;
	good &= refuses(&m);
	m = messages[6];
	m.type = 7;
	uint8_t payload[64];
	good &= encode(&m, payload) == 0;
	tap(good, "numbers that contradict each other are refused");
}

static void test_large(void)
{
	static uint8_t data[600 << 10];
	struct raft_entry large[4];
	struct raft_message m = messages[2];

	for (int i = 0; i < 4; i++)
		large[i] = (struct raft_entry){.term = 3,
					       .type = RAFT_COMMAND,
					       .buf = {.base = data, .len = sizeof(data)}};
	m.append_entries.entries = large;
	m.append_entries.n_entries = 4;
	tap(wire_raft_entries(&m) == 1,
	    "as many entries are sent as fit into one message, and one at least");
	m = messages[5];
	m.install_snapshot.data.len = FRAME_MAX_BYTES;
	tap(wire_raft_bytes(&m, 0) == 0, "what no call can carry is not encoded");
}

/* ---- everything else ------------------------------------------------------------------------- */

static void test_command(void)
{
	struct command command = {.op = COMMAND_PUT,
				  .origin = 1,
				  .sequence = 77,
				  .key = "vm-1",
				  .key_len = 4,
				  .value = (const uint8_t *)"running",
				  .value_len = 7},
		       got;
	uint8_t bytes[512];

	size_t len = command_encode(&command, bytes, sizeof(bytes));
	bool good = !command_decode(bytes, len, &got) && got.sequence == 77 && got.value_len == 7 &&
		    !memcmp(got.key, "vm-1", 4) && !memcmp(got.value, "running", 7);
	tap(good && withstands(decode_command, bytes, len), "a command");
	tap(bytes[0] == 1 && !trace_context_is_set(&got.context),
	    "one of no trace is as it was before there were any");
	command.context = (struct trace_context){.trace_id = {1, 2}, .span_id = {3}, .flags = 1};
	size_t traced = command_encode(&command, bytes, sizeof(bytes));
	good = traced == len + TRACE_CONTEXT_BYTES && !command_decode(bytes, traced, &got) &&
	       !memcmp(&got.context, &command.context, sizeof(got.context)) && got.key_len == 4;
	tap(good && withstands(decode_command, bytes, traced), "one that belongs to a trace");
}

static void test_table(void)
{
	static uint8_t bytes[PAYLOAD_MAX];
	struct table *table = table_new(), *copy = NULL;
	char key[16];
	bool good = true;

	for (int i = 0; i < 20; i++) {
		size_t len = (size_t)snprintf(key, sizeof(key), "vm-%d", i);
		good &= !table_put(table, key, len, (const uint8_t *)"starting", 8);
		good &= !table_put(table, key, len, (const uint8_t *)"up", 2);
	}
	good &= !table_delete(table, "vm-7", 4) && table_delete(table, "vm-7", 4) == -ENOENT;
	good &= table_rows(table) == 19 && !table_get(table, "vm-7", 4);
	good &= table_put(table, key, 0, NULL, 0) == -EINVAL &&
		table_put(table, key, TABLE_KEY_MAX + 1, NULL, 0) == -EINVAL &&
		table_put(table, key, 1, bytes, TABLE_VALUE_MAX + 1) == -EINVAL;
	tap(good, "rows are put, replaced and deleted, within their limits");
	size_t len = table_bytes(table);
	table_encode(table, bytes, len);
	good = !table_decode(bytes, len, &copy) && table_rows(copy) == 19 &&
	       table_get(copy, "vm-8", 4)->value_len == 2;
	tap(good && withstands(decode_table, bytes, len), "a table goes into a snapshot and back");
	table_free(copy);

	good = true;
	for (unsigned i = 0; table_rows(table) < TABLE_ROWS_MAX && good; i++)
		good = !table_put(table, (const char *)&i, sizeof(i), NULL, 0);
	tap(good && table_put(table, "one more", 8, NULL, 0) == -ENOSPC &&
		    !table_put(table, "vm-8", 4, NULL, 0),
	    "a full table takes changes, but no more rows");
	table_free(table);
}

static void test_invented(void)
{
	static const decoder decoders[] = {decode_raft, decode_command, decode_table};
	static uint8_t bytes[256];

	for (int i = 0; i < INVENTED; i++) {
		size_t len = invent() % sizeof(bytes);

		for (size_t j = 0; j < len; j++)
			bytes[j] = invent() % 3 ? (uint8_t)(invent() % 8) : (uint8_t)invent();
		(void)decoders[(size_t)i % (sizeof(decoders) / sizeof(decoders[0]))](
			(uint8_t *)guard_page_place(&guard, bytes, len), len);
	}
	tap(true, "invented bytes end no decoder");
}

int main(void)
{
	guard = guard_page_new(PAYLOAD_MAX);
	test_raft();
	test_nonsense();
	test_large();
	test_command();
	test_table();
	test_invented();
	guard_page_free(&guard);
	return tap_done();
}
