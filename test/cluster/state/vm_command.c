/* vm_command.c - the values of commands about VMs as bytes. Pure, any thread. */
#include "vm_command.h"

#include "test/cluster/storage/bytes.h"

#include <errno.h>

enum { VALUE_VERSION = 1 };

void vm_put_resources(struct writer *w, const struct vm_resources *resources)
{
	put_u32(w, resources->vcpus);
	put_u64(w, resources->memory_bytes);
	put_u64(w, resources->disk_bytes);
}

void vm_get_resources(struct reader *r, struct vm_resources *ret_resources)
{
	ret_resources->vcpus = get_u32(r);
	ret_resources->memory_bytes = get_u64(r);
	ret_resources->disk_bytes = get_u64(r);
}

void vm_put_request(struct writer *w, const struct vm_request *request)
{
	vm_put_resources(w, &request->needs);
	put_u8(w, request->priority);
	put_u8(w, (uint8_t)request->strategy);
	put_u64(w, request->wanted_node);
}

void vm_get_request(struct reader *r, struct vm_request *ret_request)
{
	vm_get_resources(r, &ret_request->needs);
	ret_request->priority = get_u8(r);
	ret_request->strategy = (enum vm_strategy)get_u8(r);
	ret_request->wanted_node = get_u64(r);
}

static void put_value(struct writer *w, enum command_op op, const union vm_value *value)
{
	switch (op) {
	case COMMAND_VM_CREATE:
		vm_put_request(w, &value->create);
		return;
	case COMMAND_VM_ORDER:
		put_u8(w, (uint8_t)value->order.desired);
		return;
	case COMMAND_VM_PLACE:
		put_u64(w, value->placing.number);
		put_u64(w, value->placing.placement);
		put_u64(w, value->placing.node_id);
		return;
	case COMMAND_VM_REPORT:
		put_u64(w, value->report.placement);
		put_u8(w, (uint8_t)value->report.status);
		put_u32(w, value->report.restarts);
		put_u8(w, value->report.gone);
		return;
	case COMMAND_VM_NODE:
		put_u64(w, value->node.node_id);
		put_u64(w, value->node.life);
		vm_put_resources(w, &value->node.capacity);
		return;
	default:
		w->failed = true;
	}
}

size_t vm_value_encode(enum command_op op, const union vm_value *value, uint8_t *out, size_t len)
{
	struct writer w = writer_of(out, len);

	put_u8(&w, VALUE_VERSION);
	put_value(&w, op, value);
	return w.failed ? 0 : len - w.left;
}

static bool get_report(struct reader *r, struct vm_report *report)
{
	report->placement = get_u64(r);
	report->status = (enum vm_status)get_u8(r);
	report->restarts = get_u32(r);
	uint8_t gone = get_u8(r);
	report->gone = gone == 1;
	return report->placement && report->status < VM_STATUSES && gone <= 1;
}

static bool get_node(struct reader *r, struct vm_node *node)
{
	node->node_id = get_u64(r);
	node->life = get_u64(r);
	vm_get_resources(r, &node->capacity);
	return node->node_id && node->capacity.vcpus <= VM_VCPUS_MAX &&
	       node->capacity.memory_bytes <= VM_BYTES_MAX &&
	       node->capacity.disk_bytes <= VM_BYTES_MAX;
}

/* False: out of range. What is too short shows in the reader. */
static bool get_value(struct reader *r, enum command_op op, union vm_value *value)
{
	switch (op) {
	case COMMAND_VM_CREATE:
		vm_get_request(r, &value->create);
		return vm_request_is_valid(&value->create);
	case COMMAND_VM_ORDER:
		value->order.desired = (enum vm_desired)get_u8(r);
		return value->order.desired < VM_DESIRES;
	case COMMAND_VM_PLACE:
		value->placing.number = get_u64(r);
		value->placing.placement = get_u64(r);
		value->placing.node_id = get_u64(r);
		return value->placing.number != 0;
	case COMMAND_VM_REPORT:
		return get_report(r, &value->report);
	case COMMAND_VM_NODE:
		return get_node(r, &value->node);
	default:
		return false;
	}
}

int vm_value_decode(enum command_op op, const uint8_t *bytes, size_t len, union vm_value *ret_value)
{
	struct reader r = reader_of(bytes, len);
	union vm_value value;

	memset(&value, 0, sizeof(value));
	if (get_u8(&r) != VALUE_VERSION || !get_value(&r, op, &value) || r.failed || r.left)
		return -EPROTO;
	*ret_value = value;
	return 0;
}
