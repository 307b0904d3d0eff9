/* proposals.c - see proposals.h. Loop thread only.
 *
 * What waits lies in a ring indexed by the sequence number: finding one takes no search, and the
 * oldest is where the ring begins. */
#include "proposals.h"

#include "test/cluster/limits.h"
#include "proto/blixard_cluster.pb-c.h"
#include "test/cluster/record/record.h"
#include "test/cluster/record/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct waiting {
	uint64_t sequence; /* 0: free */
	uint64_t started_ns;
	proposal_done done; /* NULL: nobody waits for it */
	void *arg;
	blix_span span;
	blix_span caller; /* what was current when it was submitted */
};

struct proposals {
	struct raft *raft;
	struct transport *transport;
	const struct self *self;
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
	struct rpc_call *call; /* of the peer; NULL: submitted here */
	uint64_t from;	       /* that peer */
	blix_span span;
};

/* One Forward under way. */
struct forwarded {
	struct proposals *proposals;
	uint64_t sequence;
	uint64_t leader;
};

struct proposals *proposals_new(struct raft *raft, const struct self *self)
{
	struct proposals *p = calloc(1, sizeof(*p));
	struct timespec now;

	if (!p)
		return NULL;
	/* Sequences of an earlier life are still in the log: start where none of them can be. */
	clock_gettime(CLOCK_REALTIME, &now);
	p->next = p->oldest = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	p->raft = raft;
	p->self = self;
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
	return leader && (leader == p->self->node_id ||
			  transport_heard(p->transport, leader, ELECTION_TIMEOUT_MS));
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

static enum proposal_failure failure_of(enum verdict verdict)
{
	switch (verdict) {
	case VERDICT_NOT_LEADER:
		return FAILED_NOT_LEADER;
	case VERDICT_LEADERSHIP_LOST:
		return FAILED_LEADERSHIP_LOST;
	case VERDICT_TIMEOUT:
		return FAILED_TIMEOUT;
	case VERDICT_STORAGE:
		return FAILED_STORAGE;
	case VERDICT_CANCELLED:
		return FAILED_CANCELLED;
	default:
		return FAILED_OTHER;
	}
}

static void end(struct proposals *p, struct waiting *w, enum verdict verdict, int result)
{
	struct waiting ended = *w;

	release(p, w);
	blix_token token = trace_enter(ended.span); /* for the exemplar */
	if (verdict == VERDICT_OK)
		record_proposal_done(record_now_ns() - ended.started_ns);
	else
		record_proposal_failed(failure_of(verdict));
	trace_leave(token);
	if (verdict != VERDICT_OK)
		trace_fail(ended.span, verdict_name(verdict), verdict_text(verdict));
	else if (result)
		trace_str(ended.span, TRACE_RESULT, strerrorname_np(-result));
	trace_end(ended.span);
	token = trace_enter(ended.caller);
	if (ended.done)
		ended.done(ended.arg, ended.sequence, verdict, result);
	trace_leave(token);
}

static void fail(struct proposals *p, uint64_t sequence, enum verdict why)
{
	struct waiting *w = find(p, sequence);

	if (w)
		end(p, w, why, 0);
}

/* ---- proposing ------------------------------------------------------------------------------- */

static void answer(struct proposals *p, uint64_t from, struct rpc_call *call, enum verdict verdict)
{
	Blixard__ForwardReply reply = BLIXARD__FORWARD_REPLY__INIT;

	if (verdict == VERDICT_OK) {
		transport_count_sent(p->transport, from, &reply.base);
		rpc_reply(call, &reply.base);
	} else if (verdict == VERDICT_NOT_LEADER)
		rpc_fail(call, GRPC_STATUS_FAILED_PRECONDITION, "this node does not lead");
	else
		rpc_fail(call, verdict_status(verdict), verdict_text(verdict));
}

static void on_attempt(struct raft_apply *apply, int status, void *result)
{
	struct attempt *attempt = apply->data;
	enum verdict verdict = verdict_of_raft(status);

	(void)result;
	trace_u64(attempt->span, TRACE_INDEX, apply->index);
	if (status)
		trace_fail(attempt->span, verdict_name(verdict), raft_strerror(status));
	trace_end(attempt->span);
	if (attempt->call)
		answer(attempt->proposals, attempt->from, attempt->call, verdict);
	else if (status)
		fail(attempt->proposals, attempt->sequence, verdict);
	free(attempt);
}

static enum verdict propose(struct proposals *p, const struct attempt *template, const void *bytes,
			    size_t len)
{
	struct attempt *attempt = malloc(sizeof(*attempt));
	struct raft_buffer buf = {.base = raft_malloc(len), .len = len};

	if (!attempt || !buf.base) {
		free(attempt);
		raft_free(buf.base);
		return VERDICT_BUSY;
	}
	memcpy(buf.base, bytes, len);
	*attempt = *template;
	attempt->apply.data = attempt;
	attempt->span = trace_begin_within(TRACE_RAFT_COMMIT);
	trace_u64(attempt->span, TRACE_TERM, p->raft->current_term);
	blix_token token = trace_enter(attempt->span);
	int err = raft_apply(p->raft, &attempt->apply, &buf, 1, on_attempt);
	trace_leave(token);
	if (err) {
		trace_fail(attempt->span, verdict_name(verdict_of_raft(err)), raft_strerror(err));
		trace_end(attempt->span);
		free(attempt);
		raft_free(buf.base);
	}
	return verdict_of_raft(err);
}

static void on_forwarded(void *arg, const struct rpc_result *result)
{
	struct forwarded *forwarded = arg;
	enum verdict verdict = verdict_of_forward(result->code);

	/* Success is seen when the entry is applied here. */
	if (verdict != VERDICT_OK)
		fail(forwarded->proposals, forwarded->sequence, verdict);
	else
		transport_count_received(forwarded->proposals->transport, forwarded->leader,
					 result->reply);
	free(forwarded);
}

static enum verdict forward(struct proposals *p, uint64_t sequence, void *bytes, size_t len)
{
	Blixard__ForwardRequest request = BLIXARD__FORWARD_REQUEST__INIT;
	struct forwarded *forwarded;
	const char *address;
	raft_id leader;

	raft_leader(p->raft, &leader, &address);
	if (!leader || leader == p->self->node_id)
		return VERDICT_NOT_LEADER;
	forwarded = malloc(sizeof(*forwarded));
	if (!forwarded)
		return VERDICT_BUSY;
	*forwarded = (struct forwarded){.proposals = p, .sequence = sequence, .leader = leader};
	request.cluster = (char *)p->self->cluster;
	request.from = p->self->node_id;
	request.command = (ProtobufCBinaryData){.len = len, .data = bytes};
	int err = transport_call(p->transport, leader, "Forward", &request.base,
				 &blixard__forward_reply__descriptor, PROPOSAL_TIMEOUT_MS,
				 on_forwarded, forwarded);
	if (!err) {
		transport_count_sent(p->transport, leader, &request.base);
		return VERDICT_OK;
	}
	free(forwarded);
	return err == -ENOTCONN ? VERDICT_NOT_LEADER : VERDICT_BUSY;
}

void proposals_submit(struct proposals *p, struct command *command, proposal_done done, void *arg)
{
	uint8_t bytes[COMMAND_MAX_BYTES];
	uint64_t sequence = p->next++;
	struct waiting *w = &p->waiting[sequence % PROPOSALS_MAX];
	enum verdict verdict;

	blix_span caller = trace_here(), span = trace_begin(TRACE_RAFT_PROPOSE);

	trace_str(span, TRACE_PROPOSAL_TYPE, command_name(command->op));
	command->origin = p->self->node_id;
	command->sequence = sequence;
	command->context = trace_context_of(span);
	size_t len = command_encode(command, bytes, sizeof(bytes));
	record_proposal_submitted();
	if (!len || w->sequence) { /* malformed, or as many wait as may */
		verdict = len ? VERDICT_BUSY : VERDICT_REFUSED;
		record_proposal_failed(FAILED_OTHER);
		trace_fail(span, verdict_name(verdict), verdict_text(verdict));
		trace_end(span);
		if (done)
			done(arg, sequence, verdict, 0);
		return;
	}
	*w = (struct waiting){.sequence = sequence,
			      .started_ns = record_now_ns(),
			      .done = done,
			      .arg = arg,
			      .span = span,
			      .caller = caller};
	p->pending++;
	record_proposals_pending(p->pending);
	blix_token token = trace_enter(span);
	if (raft_state(p->raft) == RAFT_LEADER)
		verdict = propose(p, &(struct attempt){.proposals = p, .sequence = sequence}, bytes,
				  len);
	else
		verdict = forward(p, sequence, bytes, len);
	trace_leave(token);
	if (verdict != VERDICT_OK)
		fail(p, sequence, verdict);
}

/* ---- for peers ------------------------------------------------------------------------------- */

static void on_forward(void *arg, struct rpc_call *call, const ProtobufCMessage *message)
{
	const Blixard__ForwardRequest *request = (const void *)message;
	struct proposals *p = arg;
	struct attempt attempt = {.proposals = p, .call = call, .from = request->from};
	enum verdict verdict = VERDICT_REFUSED;
	struct command command;

	if (strcmp(request->cluster, p->self->cluster) != 0) {
		record_peer_fault(FAULT_IDENTITY);
		rpc_fail(call, GRPC_STATUS_FAILED_PRECONDITION, "this is another cluster");
		return;
	}
	transport_count_received(p->transport, request->from, message);
	if (request->command.len <= COMMAND_MAX_BYTES &&
	    !command_decode(request->command.data, request->command.len, &command))
		verdict = propose(p, &attempt, request->command.data, request->command.len);
	else
		record_peer_fault(FAULT_FRAME);
	if (verdict != VERDICT_OK)
		answer(p, request->from, call, verdict);
}

int proposals_serve(struct proposals *p, struct rpc_server *server)
{
	static const struct rpc_method method = {
		.name = "Forward",
		.request = &blixard__forward_request__descriptor,
		.handle = on_forward,
	};

	return rpc_server_add(server, &method, 1, p);
}

/* ---- results --------------------------------------------------------------------------------- */

void proposals_applied(struct proposals *p, const struct command *command, int result)
{
	struct waiting *w = command->origin == p->self->node_id ? find(p, command->sequence) : NULL;

	if (w)
		end(p, w, VERDICT_OK, result);
}

void proposals_expire(struct proposals *p)
{
	uint64_t now = record_now_ns();

	while (p->oldest < p->next) {
		const struct waiting *w = find(p, p->oldest);

		if (w && now - w->started_ns < PROPOSAL_TIMEOUT_MS * 1000000ull)
			break;
		if (w)
			fail(p, p->oldest, VERDICT_TIMEOUT);
		p->oldest++;
	}
}

void proposals_cancel(struct proposals *p)
{
	for (; p->oldest < p->next; p->oldest++)
		fail(p, p->oldest, VERDICT_CANCELLED);
}
