/* placer.c - see placer.h. Loop thread only.
 *
 * The replicated state is the queue: VMs without a node wait in it, and it is bounded there. What
 * is kept here (when to try again, whose turn it is) a new leader begins afresh. One decision is
 * under way at a time, so that each is made on what all earlier ones have led to. */
#include "placer.h"

#include "placement.h"
#include "test/cluster/log.h"
#include "test/cluster/record/note.h"
#include "test/cluster/record/record.h"
#include "test/cluster/record/record_vm.h"
#include "test/cluster/record/trace.h"
#include "test/cluster/vm/vm_propose.h"

#include <inttypes.h>
#include <stdlib.h>

enum { PLACED_TIMEOUT_MS = 1000, RETRY_MIN_MS = 500, RETRY_MAX_MS = 15000 };

static const uint64_t ns_a_ms = 1000000;

struct waiting {
	uint64_t number; /* of the VM; 0: free */
	uint64_t next_try_ns;
	uint32_t wait_ms;
};

struct placer {
	struct placer_setup setup;
	struct event *timer;
	uint64_t last_node; /* that round robin chose */
	uint64_t placed;    /* number of the VM whose placement is under way; 0: none */
	uint64_t placement; /* that it had before */
	uint64_t placed_ns;
	struct waiting waiting[VMS_WAITING_MAX];
	struct {
		uint64_t node_id;
		uint64_t heard_ns; /* of it, or when this node began to lead */
	} heard[MEMBERS_MAX];
	bool led;
};

static const struct vms *vms_of(const struct placer *placer)
{
	return placer->setup.fsm->vms; /* a snapshot replaces it: never kept */
}

/* ---- who is lost ----------------------------------------------------------------------------- */

/* Nodes never change their order, and new ones find a place that is zeroed. */
static void listen_for_nodes(struct placer *placer, uint64_t now_ns, bool leads)
{
	const struct vm_node *known;
	size_t n = vms_nodes(vms_of(placer), &known);

	for (size_t i = 0; i < n; i++) {
		if (placer->heard[i].node_id != known[i].node_id || !placer->led || !leads ||
		    placer->setup.is_healthy(placer->setup.arg, known[i].node_id)) {
			placer->heard[i].node_id = known[i].node_id;
			placer->heard[i].heard_ns = now_ns;
		}
	}
	placer->led = leads;
}

static bool is_lost(const struct placer *placer, uint64_t node_id, uint64_t now_ns)
{
	for (size_t i = 0; i < MEMBERS_MAX; i++) {
		if (placer->heard[i].node_id == node_id)
			return now_ns - placer->heard[i].heard_ns >=
			       placer->setup.failover_ms * ns_a_ms;
	}
	return false;
}

static bool needs_node(const struct placer *placer, const struct vm *vm, uint64_t now_ns)
{
	return !vm->node_id ||
	       (vm->desired == VM_WANT_RUNNING && vm->request.strategy != VM_MANUAL &&
		is_lost(placer, vm->node_id, now_ns));
}

/* ---- who waits ------------------------------------------------------------------------------- */

static struct waiting *waiting_of(struct placer *placer, uint64_t number)
{
	struct waiting *free_one = NULL;

	for (size_t i = 0; i < VMS_WAITING_MAX; i++) {
		struct waiting *w = &placer->waiting[i];
		if (w->number == number)
			return w;
		if (!w->number)
			free_one = w;
	}
	if (free_one)
		*free_one = (struct waiting){.number = number, .wait_ms = RETRY_MIN_MS};
	return free_one;
}

static void forget_placed(struct placer *placer, uint64_t now_ns)
{
	const struct vm *all;
	size_t n = vms_all(vms_of(placer), &all);

	for (size_t i = 0; i < VMS_WAITING_MAX; i++) {
		struct waiting *w = &placer->waiting[i];
		bool waits = false;

		for (size_t j = 0; j < n; j++)
			waits |= all[j].number == w->number && needs_node(placer, &all[j], now_ns);
		if (!waits)
			w->number = 0;
	}
}

/* The highest priority that may be tried now; of equals, who has waited longest. */
static const struct vm *next(struct placer *placer, uint64_t now_ns)
{
	const struct vm *all, *best = NULL;
	size_t n = vms_all(vms_of(placer), &all);

	for (size_t i = 0; i < n; i++) {
		if (!needs_node(placer, &all[i], now_ns) ||
		    (best && all[i].request.priority <= best->request.priority))
			continue;
		struct waiting *w = waiting_of(placer, all[i].number);
		if (w && now_ns >= w->next_try_ns)
			best = &all[i];
	}
	return best;
}

/* ---- deciding -------------------------------------------------------------------------------- */

size_t placer_nodes(const struct placer *placer, struct placement_node nodes[MEMBERS_MAX])
{
	const struct vm_node *known;
	size_t n = vms_nodes(vms_of(placer), &known);

	for (size_t i = 0; i < n; i++) {
		nodes[i] = (struct placement_node){
			.node_id = known[i].node_id,
			.capacity = known[i].capacity,
			.healthy = placer->setup.is_healthy(placer->setup.arg, known[i].node_id)};
		nodes[i].vms = vms_allocated(vms_of(placer), known[i].node_id, &nodes[i].allocated);
	}
	return n;
}

struct placement_answer placer_ask_other(struct placer *placer, const struct vm_request *request,
					 uint64_t not_node)
{
	struct placement_node nodes[MEMBERS_MAX];
	struct placement_question question = {.nodes = nodes,
					      .request = request,
					      .last_node = placer->last_node,
					      .not_node = not_node};
	uint64_t start = record_now_ns();

	question.n_nodes = placer_nodes(placer, nodes);
	question.n_vms = vms_all(vms_of(placer), &question.vms);
	struct placement_answer answer = placement_decide(&question);
	record_placement(request->strategy, answer.result, record_now_ns() - start);
	return answer;
}

struct placement_answer placer_ask(struct placer *placer, const struct vm_request *request)
{
	return placer_ask_other(placer, request, 0);
}

static void submit(struct placer *placer, const struct vm *vm, uint64_t node_id)
{
	vm_propose(placer->setup.proposals, COMMAND_VM_PLACE, vm->name,
		   &(union vm_value){.placing = {.number = vm->number,
						 .placement = vm->placement,
						 .node_id = node_id}});
}

/* Part of the trace of whoever wants the VM; the commands below join it. */
static blix_span begin_place(const struct vm *vm, const struct placement_answer *answer)
{
	blix_span span = trace_begin_at(TRACE_VM_PLACE, &vm->context);

	if (!blix_span_is_recorded(span))
		return span;
	trace_str(span, TRACE_VM_NAME, vm->name);
	trace_str(span, TRACE_VM_STRATEGY, vm_strategy_name(vm->request.strategy));
	if (answer->result == PLACEMENT_OK)
		trace_u64(span, TRACE_VM_TARGET, answer->node_id);
	else
		trace_fail(span, placement_result_name(answer->result), "no node has room for it");
	return span;
}

/* Room is made in the same order as it is taken. Those who had to go wait for another place; their
 * processes end a moment later than their share is given away. */
static void submit_all(struct placer *placer, const struct vm *vm,
		       const struct placement_answer *answer)
{
	for (size_t i = 0; i < answer->n_victims; i++)
		submit(placer, answer->victims[i], 0);
	submit(placer, vm, answer->node_id);
}

static void place(struct placer *placer, const struct vm *vm, uint64_t now_ns)
{
	struct placement_answer answer = placer_ask(placer, &vm->request);
	struct waiting *w = waiting_of(placer, vm->number);
	blix_span span = begin_place(vm, &answer);

	if (vm->node_id) { /* of a node that is lost */
		note_vm_lost(vm->name, vm->node_id, answer.node_id);
		record_vm_recovery_begun();
		log_line(LOG_WARN, "vm %s: node %" PRIu64 " is lost, %s", vm->name, vm->node_id,
			 answer.result ? "and no other has room" : "it goes to another");
	}
	if (answer.result != PLACEMENT_OK) {
		if (vm->node_id)
			record_vm_recovery_failed();
		trace_end(span);
		if (!w)
			return;
		w->next_try_ns = now_ns + w->wait_ms * ns_a_ms;
		w->wait_ms = w->wait_ms * 2 < RETRY_MAX_MS ? w->wait_ms * 2 : RETRY_MAX_MS;
		return;
	}
	placer->placed = vm->number;
	placer->placement = vm->placement;
	placer->placed_ns = now_ns;
	if (vm->request.strategy == VM_ROUND_ROBIN)
		placer->last_node = answer.node_id;
	blix_token token = trace_enter(span);
	submit_all(placer, vm, &answer);
	trace_leave(token);
	trace_end(span);
}

/* Has the last decision come through, or come to nothing? */
static bool is_settled(struct placer *placer, uint64_t now_ns)
{
	const struct vm *all;
	size_t n = vms_all(vms_of(placer), &all);

	if (!placer->placed || now_ns - placer->placed_ns >= PLACED_TIMEOUT_MS * ns_a_ms)
		return true;
	for (size_t i = 0; i < n; i++) {
		if (all[i].number == placer->placed && all[i].placement == placer->placement)
			return false;
	}
	return true;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct placer *placer = arg;
	uint64_t now_ns = record_now_ns();
	bool leads = placer->setup.raft->state == RAFT_LEADER;

	(void)fd;
	(void)what;
	/* Everybody knows who waits; one tells, so that the sum over the nodes is right. */
	record_placement_pending(leads ? vms_waiting(vms_of(placer)) : 0);
	listen_for_nodes(placer, now_ns, leads);
	if (!leads || !is_settled(placer, now_ns))
		return;
	forget_placed(placer, now_ns);
	placer->placed = 0;
	const struct vm *vm = next(placer, now_ns);
	if (vm)
		place(placer, vm, now_ns);
}

static void look(struct placer *placer)
{
	/* Not EV_TIMEOUT, which would count as one of the timer's own periods. */
	event_active(placer->timer, EV_READ, 1);
}

void placer_applied(struct placer *placer, const struct command *command, int result)
{
	union vm_value value;

	if (!result && command->op == COMMAND_VM_PLACE &&
	    command->origin == placer->setup.raft->id &&
	    !vm_value_decode(command->op, command->value, command->value_len, &value) &&
	    !value.placing.node_id)
		record_preempted();
	look(placer);
}

struct placer *placer_start(const struct placer_setup *setup)
{
	static const struct timeval period = {0, VM_TICK_MS * 1000};
	struct placer *placer = calloc(1, sizeof(*placer));

	if (!placer)
		return NULL;
	placer->setup = *setup;
	placer->timer = event_new(setup->base, -1, EV_PERSIST, on_tick, placer);
	if (!placer->timer || event_add(placer->timer, &period))
		return placer_stop(placer);
	return placer;
}

struct placer *placer_stop(struct placer *placer)
{
	if (!placer)
		return NULL;
	if (placer->timer)
		event_free(placer->timer);
	free(placer);
	return NULL;
}
