/* proposals.c - see proposals.h. Loop thread only.
 *
 * What waits lies in a ring indexed by the sequence number: finding one takes no search, and the
 * oldest is where the ring begins. */
#include "proposals.h"

#include "limits.h"
#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct waiting {
	uint64_t sequence; /* 0: free */
	uint64_t started_ns;
	uint64_t leader; /* it was forwarded to; 0: proposed here */
};

struct proposals {
	struct raft *raft;
	struct transport *transport;
	uint64_t node_id;
	uint64_t oldest; /* no sequence below it waits */
	uint64_t next;
	size_t pending;
	struct waiting waiting[PROPOSALS_MAX];
};

/* One raft_apply() under way, for this node or for a peer. */
struct attempt {
	struct raft_apply apply;
	struct proposals *proposals;
	uint64_t sequence;
	uint64_t connection; /* 0: submitted here */
	uint64_t request;
};

struct proposals *proposals_new(struct raft *raft, uint64_t node_id)
{
	struct proposals *p = calloc(1, sizeof(*p));
	struct timespec now;

	if (!p)
		return NULL;
	/* Sequences of an earlier life are still in the log: start where none of them can be. */
	clock_gettime(CLOCK_REALTIME, &now);
	p->next = p->oldest = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	p->raft = raft;
	p->node_id = node_id;
	return p;
}

struct proposals *proposals_free(struct proposals *p)
{
	free(p);
	return NULL;
}

void proposals_set_transport(struct proposals *p, struct transport *transport)
{
	p->transport = transport;
}

bool proposals_possible(const struct proposals *p)
{
	const char *address;
	raft_id leader;

	raft_leader(p->raft, &leader, &address);
	return leader &&
	       (leader == p->node_id || transport_heard(p->transport, leader, ELECTION_TIMEOUT_MS));
}

size_t proposals_pending(const struct proposals *p)
{
	return p->pending;
}

/* ---- the ring -------------------------------------------------------------------------------- */

static struct waiting *find(struct proposals *p, uint64_t sequence)
{
	struct waiting *w = &p->waiting[sequence % PROPOSALS_MAX];

	return sequence && w->sequence == sequence ? w : NULL;
}

static void release(struct proposals *p, struct waiting *w)
{
	w->sequence = 0;
	p->pending--;
	record_proposals_pending(p->pending);
}

static void fail(struct proposals *p, uint64_t sequence, enum proposal_failure why)
{
	struct waiting *w = find(p, sequence);

	if (!w)
		return;
	release(p, w);
	record_proposal_failed(why);
}

static enum proposal_failure failure_of(enum wire_verdict verdict)
{
	switch (verdict) {
	case WIRE_NOT_LEADER:
		return FAILED_NOT_LEADER;
	case WIRE_LEADERSHIP_LOST:
		return FAILED_LEADERSHIP_LOST;
	case WIRE_TIMEOUT:
		return FAILED_TIMEOUT;
	case WIRE_STORAGE:
		return FAILED_STORAGE;
	default:
		return FAILED_OTHER;
	}
}

static enum wire_verdict verdict_of(int status)
{
	switch (status) {
	case 0:
		return WIRE_OK;
	case RAFT_NOTLEADER:
		return WIRE_NOT_LEADER;
	case RAFT_LEADERSHIPLOST:
	case RAFT_SHUTDOWN:
	case RAFT_CANCELED:
		return WIRE_LEADERSHIP_LOST;
	case RAFT_IOERR:
	case RAFT_NOSPACE:
	case RAFT_CORRUPT:
		return WIRE_STORAGE;
	default:
		return WIRE_BUSY;
	}
}

/* ---- proposing ------------------------------------------------------------------------------- */

static void on_attempt(struct raft_apply *apply, int status, void *result)
{
	struct attempt *attempt = apply->data;
	struct proposals *p = attempt->proposals;
	enum wire_verdict verdict = verdict_of(status);

	(void)result;
	if (attempt->connection)
		transport_answer(p->transport, attempt->connection, WIRE_FORWARD_RESULT,
				 attempt->request, verdict);
	else if (status)
		fail(p, attempt->sequence, failure_of(verdict));
	free(attempt);
}

static enum wire_verdict propose(struct proposals *p, const struct attempt *template,
				 const void *bytes, size_t len)
{
	struct attempt *attempt = malloc(sizeof(*attempt));
	struct raft_buffer buf = {.base = raft_malloc(len), .len = len};

	if (!attempt || !buf.base) {
		free(attempt);
		raft_free(buf.base);
		return WIRE_BUSY;
	}
	memcpy(buf.base, bytes, len);
	*attempt = *template;
	attempt->apply.data = attempt;
	int err = raft_apply(p->raft, &attempt->apply, &buf, 1, on_attempt);
	if (err) {
		free(attempt);
		raft_free(buf.base);
	}
	return verdict_of(err);
}

static enum wire_verdict forward(struct proposals *p, struct waiting *w, const void *bytes,
				 size_t len)
{
	raft_id leader;
	const char *address;

	raft_leader(p->raft, &leader, &address);
	if (!leader || leader == p->node_id)
		return WIRE_NOT_LEADER;
	w->leader = leader;
	int err = transport_send_forward(p->transport, leader, w->sequence, bytes, len);
	if (!err)
		return WIRE_OK;
	return err == -ENOTCONN ? WIRE_NOT_LEADER : WIRE_BUSY;
}

void proposals_submit(struct proposals *p, struct command *command)
{
	uint8_t bytes[COMMAND_MAX_BYTES];
	uint64_t sequence = p->next++;
	struct waiting *w = &p->waiting[sequence % PROPOSALS_MAX];

	command->origin = p->node_id;
	command->sequence = sequence;
	size_t len = command_encode(command, bytes, sizeof(bytes));
	record_proposal_submitted();
	if (!len || w->sequence) { /* malformed, or as many wait as may */
		record_proposal_failed(FAILED_OTHER);
		return;
	}
	*w = (struct waiting){.sequence = sequence, .started_ns = record_now_ns()};
	p->pending++;
	record_proposals_pending(p->pending);

	enum wire_verdict verdict;
	if (raft_state(p->raft) == RAFT_LEADER)
		verdict = propose(p, &(struct attempt){.proposals = p, .sequence = sequence}, bytes,
				  len);
	else
		verdict = forward(p, w, bytes, len);
	if (verdict != WIRE_OK)
		fail(p, sequence, failure_of(verdict));
}

void proposals_take(struct proposals *p, uint64_t connection, const struct wire_request *request)
{
	struct attempt attempt = {
		.proposals = p, .connection = connection, .request = request->request};
	struct command command;
	enum wire_verdict verdict = WIRE_REFUSED;

	if (!command_decode(request->data, request->len, &command))
		verdict = propose(p, &attempt, request->data, request->len);
	if (verdict != WIRE_OK)
		transport_answer(p->transport, connection, WIRE_FORWARD_RESULT, request->request,
				 verdict);
}

/* ---- results --------------------------------------------------------------------------------- */

void proposals_applied(struct proposals *p, const struct command *command)
{
	struct waiting *w = command->origin == p->node_id ? find(p, command->sequence) : NULL;

	if (!w)
		return;
	uint64_t took = record_now_ns() - w->started_ns;
	release(p, w);
	record_proposal_done(took);
}

void proposals_forward_result(struct proposals *p, uint64_t sequence, enum wire_verdict verdict)
{
	/* Success is seen when the entry is applied here. */
	if (verdict != WIRE_OK)
		fail(p, sequence, failure_of(verdict));
}

void proposals_peer_lost(struct proposals *p, uint64_t node_id)
{
	for (uint64_t sequence = p->oldest; sequence < p->next; sequence++) {
		struct waiting *w = find(p, sequence);
		if (w && w->leader == node_id)
			fail(p, sequence, FAILED_LEADERSHIP_LOST);
	}
}

void proposals_expire(struct proposals *p)
{
	uint64_t now = record_now_ns();

	while (p->oldest < p->next) {
		const struct waiting *w = find(p, p->oldest);

		if (w && now - w->started_ns < PROPOSAL_TIMEOUT_MS * 1000000ull)
			break;
		if (w)
			fail(p, p->oldest, FAILED_TIMEOUT);
		p->oldest++;
	}
}

void proposals_cancel(struct proposals *p)
{
	for (; p->oldest < p->next; p->oldest++)
		fail(p, p->oldest, FAILED_CANCELLED);
}
