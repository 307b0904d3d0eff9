/* placement.c - see placement.h. Pure, any thread. */
#include "placement.h"

const char *placement_result_name(enum placement_result result)
{
	static const char *const names[PLACEMENT_RESULTS] = {
		"", "no_healthy_node", "vcpus", "memory", "disk", "constraint"};

	return result < PLACEMENT_RESULTS ? names[result] : "";
}

static bool is_candidate(const struct placement_question *q, const struct placement_node *node)
{
	return node->healthy && node->node_id != q->not_node &&
	       (q->request->strategy != VM_MANUAL || node->node_id == q->request->wanted_node);
}

static bool has_room(const struct placement_question *q, const struct placement_node *node)
{
	return vm_fits(&q->request->needs, &node->capacity, &node->allocated);
}

/* ---- by strategy ----------------------------------------------------------------------------- */

static double share_left(uint64_t capacity, uint64_t allocated, uint64_t needs)
{
	return capacity ? (double)(capacity - allocated - needs) / (double)capacity : 0;
}

/* What would be left of the scarcest resource, 0 to 1. */
static double room_left(const struct placement_question *q, const struct placement_node *node)
{
	const struct vm_resources *c = &node->capacity, *a = &node->allocated;
	const struct vm_resources *needs = &q->request->needs;
	double vcpus = share_left(c->vcpus, a->vcpus, needs->vcpus);
	double memory = share_left(c->memory_bytes, a->memory_bytes, needs->memory_bytes);
	double disk = share_left(c->disk_bytes, a->disk_bytes, needs->disk_bytes);
	double least = vcpus < memory ? vcpus : memory;

	/* A VM without a disk does not care for disks. */
	return needs->disk_bytes && disk < least ? disk : least;
}

/* How far ahead on the ring of nodes, beginning after the last one chosen. */
static uint64_t turn(const struct placement_question *q, const struct placement_node *node)
{
	return node->node_id - q->last_node -
	       1; /* unsigned: whoever came before wraps to the end */
}

/* How many there are that matter as much, or more. */
static size_t rivals(const struct placement_question *q, const struct placement_node *node)
{
	size_t n = 0;

	for (size_t i = 0; i < q->n_vms; i++)
		n += q->vms[i].node_id == node->node_id &&
		     q->vms[i].request.priority >= q->request->priority;
	return n;
}

/* A node that is in use costs nothing more; an empty one what it has. */
static uint32_t cost(const struct placement_node *node)
{
	return node->vms ? 0 : node->capacity.vcpus;
}

static bool is_better(const struct placement_question *q, const struct placement_node *node,
		      const struct placement_node *best)
{
	switch (q->request->strategy) {
	case VM_LEAST_AVAILABLE:
		return room_left(q, node) < room_left(q, best);
	case VM_ROUND_ROBIN:
		return turn(q, node) < turn(q, best);
	case VM_SPREAD:
		return node->vms < best->vms ||
		       (node->vms == best->vms && room_left(q, node) > room_left(q, best));
	case VM_PRIORITY:
		if (rivals(q, node) != rivals(q, best))
			return rivals(q, node) < rivals(q, best);
		return room_left(q, node) > room_left(q, best);
	case VM_LOCALITY:
		if ((node->node_id == q->request->wanted_node) !=
		    (best->node_id == q->request->wanted_node))
			return node->node_id == q->request->wanted_node;
		return room_left(q, node) > room_left(q, best);
	case VM_COST:
		if (cost(node) != cost(best))
			return cost(node) < cost(best);
		return room_left(q, node) < room_left(q, best);
	default:
		return room_left(q, node) > room_left(q, best);
	}
}

static const struct placement_node *choose(const struct placement_question *q)
{
	const struct placement_node *best = NULL;

	for (size_t i = 0; i < q->n_nodes; i++) {
		const struct placement_node *node = &q->nodes[i];
		if (!is_candidate(q, node) || !has_room(q, node))
			continue;
		if (!best || is_better(q, node, best))
			best = node;
	}
	return best;
}

/* ---- preemption ------------------------------------------------------------------------------ */

/* Of the VMs on the node that may be displaced and are not chosen yet: the lowest in priority, of
 * those the youngest. */
static const struct vm *next_victim(const struct placement_question *q,
				    const struct placement_node *node,
				    const struct placement_answer *chosen)
{
	const struct vm *best = NULL;

	for (size_t i = 0; i < q->n_vms; i++) {
		const struct vm *vm = &q->vms[i];
		bool taken = false;

		for (size_t j = 0; j < chosen->n_victims; j++)
			taken |= chosen->victims[j] == vm;
		if (taken || vm->node_id != node->node_id || vm->desired == VM_WANT_DELETED ||
		    vm->request.priority >= q->request->priority)
			continue;
		if (!best || vm->request.priority < best->request.priority ||
		    (vm->request.priority == best->request.priority && vm->number > best->number))
			best = vm;
	}
	return best;
}

/* Who need not go after all, because others that are larger have to: the last chosen first, which
 * has the highest priority. */
static void spare(const struct placement_question *q, const struct placement_node *node,
		  struct vm_resources *allocated, struct placement_answer *answer)
{
	for (size_t i = answer->n_victims; i-- > 0;) {
		const struct vm_resources *its = &answer->victims[i]->request.needs;
		struct vm_resources with = *allocated;

		vm_add(&with, its);
		if (!vm_fits(&q->request->needs, &node->capacity, &with))
			continue;
		*allocated = with;
		for (size_t j = i + 1; j < answer->n_victims; j++)
			answer->victims[j - 1] = answer->victims[j];
		answer->n_victims--;
	}
}

static bool make_room(const struct placement_question *q, const struct placement_node *node,
		      struct placement_answer *ret_answer)
{
	struct placement_answer answer = {.node_id = node->node_id};
	struct vm_resources allocated = node->allocated;

	while (!vm_fits(&q->request->needs, &node->capacity, &allocated)) {
		const struct vm *victim = next_victim(q, node, &answer);
		if (!victim || answer.n_victims == PLACEMENT_VICTIMS_MAX)
			return false;
		answer.victims[answer.n_victims++] = victim;
		vm_subtract(&allocated, &victim->request.needs);
	}
	spare(q, node, &allocated, &answer);
	*ret_answer = answer;
	return true;
}

/* The node where the fewest have to go. */
static bool preempt(const struct placement_question *q, struct placement_answer *ret_answer)
{
	struct placement_answer answer;
	bool found = false;

	for (size_t i = 0; i < q->n_nodes; i++) {
		if (!is_candidate(q, &q->nodes[i]) || !make_room(q, &q->nodes[i], &answer))
			continue;
		if (!found || answer.n_victims < ret_answer->n_victims)
			*ret_answer = answer;
		found = true;
	}
	return found;
}

/* ---- reasons --------------------------------------------------------------------------------- */

/* What most candidates lack; a node that lacks several things counts for the first of them. */
static enum placement_result what_is_missing(const struct placement_question *q)
{
	size_t lacking[PLACEMENT_RESULTS] = {0};
	size_t healthy = 0;
	enum placement_result worst = PLACEMENT_CONSTRAINT;

	for (size_t i = 0; i < q->n_nodes; i++) {
		const struct placement_node *node = &q->nodes[i];
		struct vm_resources sum = node->allocated;

		healthy += node->healthy;
		if (!is_candidate(q, node))
			continue;
		vm_add(&sum, &q->request->needs);
		if (sum.vcpus > node->capacity.vcpus)
			lacking[PLACEMENT_NO_VCPUS]++;
		else if (sum.memory_bytes > node->capacity.memory_bytes)
			lacking[PLACEMENT_NO_MEMORY]++;
		else
			lacking[PLACEMENT_NO_DISK]++;
	}
	if (!healthy)
		return PLACEMENT_NO_HEALTHY_NODE;
	for (enum placement_result r = PLACEMENT_NO_VCPUS; r <= PLACEMENT_NO_DISK; r++) {
		if (lacking[r] > lacking[worst])
			worst = r;
	}
	return worst;
}

struct placement_answer placement_decide(const struct placement_question *q)
{
	const struct placement_node *node = choose(q);
	struct placement_answer answer = {0};

	if (node)
		answer.node_id = node->node_id;
	else if (!preempt(q, &answer))
		answer = (struct placement_answer){.result = what_is_missing(q)};
	return answer;
}
