/* load_vms.c - see load_vms.h. Loop thread only. */
#include "load_vms.h"

#include "test/cluster/vm/vm_propose.h"

#include <inttypes.h>
#include <stdio.h>

enum {
	EVERY_MS = 500,
	/* Chances in a hundred, each time a VM is looked at. */
	STOP_RUNNING = 15,
	DELETE_RUNNING = 4,
	START_STOPPED = 70,
	DELETE_STOPPED = 20,
	DELETE_FAILED = 15,
	DELETE_WAITING = 40,
	CREATE_GIANT = 1,
};

struct load_vms load_vms_of(uint64_t node_id, uint32_t vms)
{
	/* Any odd constant: neighbouring ids must not throw alike, and the dice never be 0. */
	return (struct load_vms){
		.node_id = node_id, .vms = vms, .dice = (node_id << 1 | 1) * 0x9e3779b97f4a7c15ull};
}

/* xorshift: 0 .. sides - 1. */
static uint32_t throw(struct load_vms * load, uint32_t sides)
{
	load->dice ^= load->dice << 13;
	load->dice ^= load->dice >> 7;
	load->dice ^= load->dice << 17;
	return (uint32_t)(load->dice >> 32) % sides;
}

static struct vm_request next_request(struct load_vms *load)
{
	static const uint8_t priorities[] = {1, 1, 1, 5, 9};
	struct vm_request request = {
		.needs = {.vcpus = 1 + throw(load, 2),
			  .memory_bytes = (16ull << 20) << throw(load, 3),
			  .disk_bytes = (8ull << 20) << throw(load, 3)},
		.priority = priorities[throw(load, sizeof(priorities))],
		.strategy = (enum vm_strategy) throw(load, VM_STRATEGIES),
	};

	if (request.strategy == VM_MANUAL || request.strategy == VM_LOCALITY)
		request.wanted_node = load->node_id;
	/* A client that asks for more than any node has. */
	if (throw(load, 100) < CREATE_GIANT)
		request.needs.vcpus = VM_VCPUS_MAX;
	return request;
}

/* What a client wants of this VM now; VM_DESIRES: nothing. */
static enum vm_desired next_order(struct load_vms *load, const struct vm *vm)
{
	uint32_t chance = throw(load, 100);

	if (vm->desired == VM_WANT_DELETED)
		return VM_DESIRES;
	if (!vm->node_id)
		return chance < DELETE_WAITING ? VM_WANT_DELETED : VM_DESIRES;
	if (vm->status == VM_FAILED)
		return chance < DELETE_FAILED ? VM_WANT_DELETED : VM_DESIRES;
	if (vm->status == VM_RUNNING && vm->desired == VM_WANT_RUNNING) {
		if (chance < DELETE_RUNNING)
			return VM_WANT_DELETED;
		return chance < DELETE_RUNNING + STOP_RUNNING ? VM_WANT_STOPPED : VM_DESIRES;
	}
	if (vm->status == VM_STOPPED && vm->desired == VM_WANT_STOPPED) {
		if (chance < DELETE_STOPPED)
			return VM_WANT_DELETED;
		return chance < DELETE_STOPPED + START_STOPPED ? VM_WANT_RUNNING : VM_DESIRES;
	}
	return VM_DESIRES;
}

bool load_vms_propose(struct load_vms *load, struct proposals *proposals, const struct fsm *fsm,
		      uint64_t now_ns)
{
	char name[VM_NAME_MAX + 1];

	if (!load->vms || now_ns - load->last_ns < EVERY_MS * 1000000ull)
		return false;
	load->last_ns = now_ns;
	int len = snprintf(name, sizeof(name), "load-%" PRIu64 "-%" PRIu32, load->node_id,
			   throw(load, load->vms));
	const struct vm *vm = fsm_read_vm(fsm, name, (size_t)len);
	if (!vm) {
		vm_propose(proposals, COMMAND_VM_CREATE, name,
			   &(union vm_value){.create = next_request(load)});
		return true;
	}
	enum vm_desired order = next_order(load, vm);
	if (order == VM_DESIRES)
		return false;
	vm_propose(proposals, COMMAND_VM_ORDER, name,
		   &(union vm_value){.order = {.desired = order}});
	return true;
}
