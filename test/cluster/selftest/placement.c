/* test/cluster/selftest/placement.c
 * Goal: each strategy chooses the node it promises, only among those with room, names what is
 * missing when there is none, and lets VMs of lower priority, and no others, make room.
 * Method: small clusters with one right answer each; then invented ones, whose answers are held
 * against what must be true of any answer.
 */
#include "tap.h"

#include "test/cluster/placement/placement.h"

#include <string.h>

enum { INVENTED = 100000, NODES = 5, VMS = 24 };

static const uint64_t gib = 1ull << 30;

/* 10 vCPUs, 10 GiB, 100 GiB each. */
static struct placement_node node(uint64_t id, uint32_t vcpus, uint64_t memory_gib)
{
	return (struct placement_node){
		.node_id = id,
		.healthy = true,
		.capacity = {.vcpus = 10, .memory_bytes = 10 * gib, .disk_bytes = 100 * gib},
		.allocated = {.vcpus = vcpus,
			      .memory_bytes = memory_gib * gib,
			      .disk_bytes = vcpus * gib},
		.vms = vcpus,
	};
}

static struct vm_request request(enum vm_strategy strategy, uint32_t vcpus)
{
	return (struct vm_request){
		.needs = {.vcpus = vcpus, .memory_bytes = gib, .disk_bytes = gib},
		.strategy = strategy};
}

static struct placement_answer ask(const struct placement_node *nodes, size_t n,
				   const struct vm_request *r, uint64_t last)
{
	return placement_decide(&(struct placement_question){
		.nodes = nodes, .n_nodes = n, .request = r, .last_node = last});
}

/* ---- strategies ------------------------------------------------------------------------------ */

static bool chooses(enum vm_strategy strategy, const struct placement_node *nodes, size_t n,
		    uint64_t expected)
{
	struct vm_request r = request(strategy, 1);
	struct placement_answer answer = ask(nodes, n, &r, 0);

	return answer.result == PLACEMENT_OK && answer.node_id == expected && !answer.n_victims;
}

static void test_strategies(void)
{
	struct placement_node nodes[] = {node(1, 5, 1), node(2, 2, 2), node(3, 3, 8)};
	struct vm_request r = request(VM_ROUND_ROBIN, 1);
	bool good = true;

	tap(chooses(VM_MOST_AVAILABLE, nodes, 3, 2),
	    "most_available: most left of what is scarcest");
	tap(chooses(VM_LEAST_AVAILABLE, nodes, 3, 3),
	    "least_available: least left, and still room");
	tap(chooses(VM_SPREAD, nodes, 3, 2), "spread: the node with the fewest VMs");
	for (uint64_t last = 0; last < 4; last++)
		good &= ask(nodes, 3, &r, last).node_id == (last == 3 ? 1 : last + 1);
	tap(good, "round_robin: the next one, and after the last the first");
	nodes[1].healthy = false;
	tap(ask(nodes, 3, &r, 1).node_id == 3,
	    "round_robin: a node that is not healthy is left out");
	r = request(VM_MANUAL, 1);
	r.wanted_node = 3;
	tap(ask(nodes, 3, &r, 0).node_id == 3, "manual: the node that was named");
	struct placement_node equal[] = {node(4, 1, 1), node(7, 1, 1)};
	tap(chooses(VM_MOST_AVAILABLE, equal, 2, 4) && chooses(VM_LEAST_AVAILABLE, equal, 2, 4) &&
		    chooses(VM_SPREAD, equal, 2, 4),
	    "of equals the lowest id");
}

static void test_wishes(void)
{
	struct placement_node nodes[] = {node(1, 5, 1), node(2, 2, 2), node(3, 3, 3)};
	struct vm vms[] = {{.number = 1, .node_id = 2, .request = {.priority = 5}},
			   {.number = 2, .node_id = 2, .request = {.priority = 1}},
			   {.number = 3, .node_id = 1, .request = {.priority = 1}},
			   {.number = 4, .node_id = 3, .request = {.priority = 7}}};
	struct vm_request r = request(VM_PRIORITY, 1);
	struct placement_question q = {
		.nodes = nodes, .n_nodes = 3, .vms = vms, .n_vms = 4, .request = &r};

	r.priority = 5;
	tap(placement_decide(&q).node_id == 1,
	    "priority_based: the node without others that matter as much");
	r.priority = 6;
	tap(placement_decide(&q).node_id == 2, "priority_based: of those the one with most room");
	r = request(VM_LOCALITY, 1);
	r.wanted_node = 1;
	tap(placement_decide(&q).node_id == 1, "locality_aware: the node that is wished for");
	r.needs.vcpus = 6;
	tap(placement_decide(&q).node_id == 2, "locality_aware: another when that has no room");
	r = request(VM_COST, 1);
	tap(placement_decide(&q).node_id == 1, "cost_optimised: the fullest of those in use");
	r.needs.vcpus = 6;
	nodes[1] = node(2, 0, 0);
	nodes[1].capacity.vcpus = 64;
	tap(placement_decide(&q).node_id == 3, "cost_optimised: one in use before an empty one");
	nodes[0] = nodes[2] = node(1, 0, 0);
	nodes[2].node_id = 3;
	nodes[2].capacity.vcpus = 8;
	tap(placement_decide(&q).node_id == 3, "cost_optimised: of empty ones the smallest");
	q.not_node = 3;
	tap(placement_decide(&q).node_id == 1, "a node that the VM is to leave is left out");
	q.n_nodes = 1;
	q.not_node = 1;
	tap(placement_decide(&q).result == PLACEMENT_CONSTRAINT, "without another there is none");
}

/* ---- edges and reasons ----------------------------------------------------------------------- */

static void test_edges(void)
{
	struct placement_node one = node(1, 6, 1);
	struct vm_request fits = request(VM_MOST_AVAILABLE, 4);
	struct vm_request too_big = request(VM_MOST_AVAILABLE, 5);

	tap(ask(&one, 1, &fits, 0).node_id == 1, "a VM that takes all that is left fits");
	tap(ask(&one, 1, &too_big, 0).result == PLACEMENT_NO_VCPUS, "one vCPU more does not");
	fits.needs.memory_bytes = 9 * gib;
	tap(ask(&one, 1, &fits, 0).node_id == 1, "nor is memory wasted");
	fits.needs.memory_bytes++;
	tap(ask(&one, 1, &fits, 0).result == PLACEMENT_NO_MEMORY,
	    "one byte of memory more is named");
	fits.needs.memory_bytes = gib;
	fits.needs.disk_bytes = 94 * gib + 1;
	tap(ask(&one, 1, &fits, 0).result == PLACEMENT_NO_DISK, "so is one byte of disk");
}

static void test_reasons(void)
{
	struct placement_node nodes[] = {node(1, 10, 1), node(2, 1, 10), node(3, 2, 10)};
	struct vm_request r = request(VM_SPREAD, 1);

	tap(ask(nodes, 3, &r, 0).result == PLACEMENT_NO_MEMORY,
	    "what most nodes lack is the reason");
	r = request(VM_MANUAL, 1);
	r.wanted_node = 9;
	tap(ask(nodes, 3, &r, 0).result == PLACEMENT_CONSTRAINT,
	    "manual: a node that is not there");
	r.wanted_node = 1;
	tap(ask(nodes, 3, &r, 0).result == PLACEMENT_NO_VCPUS,
	    "manual: what the named node lacks, not what others do");
	nodes[0].healthy = false;
	tap(ask(nodes, 3, &r, 0).result == PLACEMENT_CONSTRAINT,
	    "manual: a node that is not healthy");
	nodes[1].healthy = nodes[2].healthy = false;
	r = request(VM_SPREAD, 1);
	tap(ask(nodes, 3, &r, 0).result == PLACEMENT_NO_HEALTHY_NODE &&
		    ask(nodes, 0, &r, 0).result == PLACEMENT_NO_HEALTHY_NODE,
	    "no node, or none that is healthy");
}

/* ---- preemption ------------------------------------------------------------------------------ */

static struct vm vm(uint64_t number, uint64_t node_id, uint8_t priority, uint32_t vcpus)
{
	struct vm one = {.number = number, .node_id = node_id, .placement = 100 + number};

	one.request = request(VM_SPREAD, vcpus);
	one.request.priority = priority;
	return one;
}

static void test_preemption(void)
{
	struct placement_node nodes[] = {node(1, 10, 3), node(2, 10, 2)};
	struct vm vms[] = {vm(1, 1, 3, 4), vm(2, 1, 1, 3), vm(3, 1, 1, 3), vm(4, 2, 5, 5),
			   vm(5, 2, 2, 5)};
	struct vm_request r = request(VM_MOST_AVAILABLE, 5);
	struct placement_question q = {
		.nodes = nodes, .n_nodes = 2, .vms = vms, .n_vms = 5, .request = &r};
	struct placement_answer answer;

	r.priority = 1;
	tap(placement_decide(&q).result == PLACEMENT_NO_VCPUS, "equal priority makes no room");
	r.priority = 2;
	answer = placement_decide(&q);
	tap(answer.node_id == 1 && answer.n_victims == 2 && answer.victims[0] == &vms[2] &&
		    answer.victims[1] == &vms[1],
	    "lower priority makes room, the youngest first");
	r.priority = 3;
	answer = placement_decide(&q);
	tap(answer.node_id == 2 && answer.n_victims == 1 && answer.victims[0] == &vms[4],
	    "where the fewest have to go");
	r.priority = 4;
	r.needs.vcpus = 4;
	nodes[1].healthy = false;
	answer = placement_decide(&q);
	tap(answer.n_victims == 2 && answer.victims[0] == &vms[2] && answer.victims[1] == &vms[1],
	    "the lowest go first, though one higher would do");
	vms[1].request.needs.vcpus = vms[2].request.needs.vcpus = 1;
	answer = placement_decide(&q);
	tap(answer.n_victims == 1 && answer.victims[0] == &vms[0],
	    "but who is spared stays: a larger one has to go in any case");
	vms[1].request.needs.vcpus = vms[2].request.needs.vcpus = 3;
	r.needs.vcpus = 5;
	r.priority = 3;
	nodes[1].healthy = true;
	vms[4].desired = VM_WANT_DELETED;
	tap(placement_decide(&q).node_id == 1, "who is on the way out is not displaced");
	nodes[0].healthy = false;
	tap(placement_decide(&q).result == PLACEMENT_NO_VCPUS,
	    "nor is anybody on a node not healthy");
	nodes[0].healthy = true;
	nodes[0].allocated.vcpus = 9;
	r.needs.vcpus = 1;
	answer = placement_decide(&q);
	tap(answer.node_id == 1 && !answer.n_victims, "nobody has to go where there is room");
}

static void test_victims_are_bounded(void)
{
	struct placement_node full = node(1, 10, 9);
	struct vm vms[PLACEMENT_VICTIMS_MAX + 1];
	struct vm_request r = request(VM_SPREAD, PLACEMENT_VICTIMS_MAX);
	struct placement_question q = {.nodes = &full, .n_nodes = 1, .vms = vms, .request = &r};

	r.priority = 1;
	for (size_t i = 0; i <= PLACEMENT_VICTIMS_MAX; i++)
		vms[q.n_vms++] = vm(i + 1, 1, 0, 1);
	tap(placement_decide(&q).n_victims == PLACEMENT_VICTIMS_MAX, "as many may go as may");
	r.needs.vcpus++;
	tap(placement_decide(&q).result == PLACEMENT_NO_VCPUS, "but not one more");
}

/* ---- invented clusters ----------------------------------------------------------------------- */

static uint64_t seed = 0x9e3779b97f4a7c15ULL;

static uint32_t invent(uint32_t sides)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 32) % sides;
}

static bool is_sound(const struct placement_question *q, const struct placement_answer *a)
{
	const struct placement_node *chosen = NULL;
	struct vm_resources left;

	for (size_t i = 0; i < q->n_nodes; i++)
		chosen = q->nodes[i].node_id == a->node_id ? &q->nodes[i] : chosen;
	if (a->result != PLACEMENT_OK) {
		/* Nobody had room, then. */
		for (size_t i = 0; i < q->n_nodes; i++) {
			const struct placement_node *n = &q->nodes[i];
			if (n->healthy &&
			    (q->request->strategy != VM_MANUAL ||
			     n->node_id == q->request->wanted_node) &&
			    vm_fits(&q->request->needs, &n->capacity, &n->allocated))
				return false;
		}
		return !a->node_id && !a->n_victims;
	}
	if (!chosen || !chosen->healthy)
		return false;
	left = chosen->allocated;
	for (size_t i = 0; i < a->n_victims; i++) {
		if (a->victims[i]->node_id != a->node_id ||
		    a->victims[i]->request.priority >= q->request->priority)
			return false;
		vm_subtract(&left, &a->victims[i]->request.needs);
	}
	for (size_t i = 0; i < a->n_victims; i++) {
		struct vm_resources with = left;

		vm_add(&with, &a->victims[i]->request.needs);
		if (vm_fits(&q->request->needs, &chosen->capacity, &with))
			return false; /* this one need not have gone */
	}
	return vm_fits(&q->request->needs, &chosen->capacity, &left);
}

static void test_invented(void)
{
	struct placement_node nodes[NODES];
	struct vm vms[VMS];
	size_t unsound = 0, placed = 0, failed = 0, preempted = 0;

	for (int round = 0; round < INVENTED; round++) {
		struct vm_request r =
			request((enum vm_strategy)invent(VM_STRATEGIES), 1 + invent(8));
		struct placement_question q = {.nodes = nodes,
					       .n_nodes = 1 + invent(NODES),
					       .vms = vms,
					       .n_vms = invent(VMS),
					       .request = &r,
					       .last_node = invent(NODES + 1)};
		r.priority = (uint8_t)invent(4);
		r.needs.memory_bytes = (1 + invent(6)) * gib;
		r.wanted_node = r.strategy == VM_MANUAL || r.strategy == VM_LOCALITY
					? 1 + invent(NODES + 1)
					: 0;
		for (size_t i = 0; i < q.n_nodes; i++) {
			nodes[i] = node(i + 1, 0, 0);
			nodes[i].healthy = invent(8) != 0;
			nodes[i].capacity.vcpus = 8 + invent(8);
		}
		for (size_t i = 0; i < q.n_vms; i++) {
			uint64_t where = 1 + invent((uint32_t)q.n_nodes);
			vms[i] = vm(i + 1, where, (uint8_t)invent(4), 1 + invent(4));
			struct placement_node *n = &nodes[where - 1];
			if (!vm_fits(&vms[i].request.needs, &n->capacity, &n->allocated)) {
				vms[i].node_id = vms[i].placement = 0;
				continue;
			}
			vm_add(&n->allocated, &vms[i].request.needs);
			n->vms++;
		}
		struct placement_answer answer = placement_decide(&q);
		unsound += !is_sound(&q, &answer);
		placed += answer.result == PLACEMENT_OK;
		failed += answer.result != PLACEMENT_OK;
		preempted += answer.n_victims > 0;
	}
	tap(!unsound, "every answer about an invented cluster is sound");
	tap(placed > 1000 && failed > 1000 && preempted > 1000, "and all kinds of answers came up");
}

int main(void)
{
	test_strategies();
	test_wishes();
	test_edges();
	test_reasons();
	test_preemption();
	test_victims_are_bounded();
	test_invented();
	return tap_done();
}
