/* vms.c - see vms.h. An array in the order of creation: there are few, and looking through them all
 * is simpler than keeping an index true. Loop thread only. */
#include "vms.h"

#include "test/cluster/storage/bytes.h"

#include <errno.h>
#include <stdlib.h>

enum {
	SNAPSHOT_UNTRACED = 1, /* before VMs had a trace context */
	SNAPSHOT_VERSION = 2,
	HEAD_BYTES = 4 + 2 + 8 + 4 + 4,
	REQUEST_BYTES = 20 + 1 + 1 + 8,
	VM_BYTES = 1 + 8 + REQUEST_BYTES + 1 + 8 + 8 + 8 + 1 + 4 +
		   TRACE_CONTEXT_BYTES, /* and the name */
	NODE_BYTES = 8 + 8 + 20,
};

static const uint32_t vms_magic = 0x534d5642; /* "BVMS" */

struct vms {
	size_t n;
	size_t n_nodes;
	uint64_t last_number; /* of VMs and placements */
	struct vm all[VMS_MAX];
	struct vm_node nodes[MEMBERS_MAX];
};

struct vms *vms_new(void)
{
	return calloc(1, sizeof(struct vms));
}

struct vms *vms_free(struct vms *vms)
{
	free(vms);
	return NULL;
}

/* ---- looking --------------------------------------------------------------------------------- */

size_t vms_all(const struct vms *vms, const struct vm **ret_all)
{
	*ret_all = vms->all;
	return vms->n;
}

size_t vms_nodes(const struct vms *vms, const struct vm_node **ret_nodes)
{
	*ret_nodes = vms->nodes;
	return vms->n_nodes;
}

static struct vm *find(struct vms *vms, const char *name, size_t len)
{
	for (size_t i = 0; i < vms->n; i++) {
		struct vm *vm = &vms->all[i];
		if (strlen(vm->name) == len && !memcmp(vm->name, name, len))
			return vm;
	}
	return NULL;
}

const struct vm *vms_get(const struct vms *vms, const char *name, size_t len)
{
	return find((struct vms *)vms, name, len);
}

const struct vm *vms_get_placed(const struct vms *vms, uint64_t placement)
{
	for (size_t i = 0; placement && i < vms->n; i++) {
		if (vms->all[i].placement == placement)
			return &vms->all[i];
	}
	return NULL;
}

const struct vm_node *vms_get_node(const struct vms *vms, uint64_t node_id)
{
	for (size_t i = 0; i < vms->n_nodes; i++) {
		if (vms->nodes[i].node_id == node_id)
			return &vms->nodes[i];
	}
	return NULL;
}

size_t vms_waiting(const struct vms *vms)
{
	size_t n = 0;

	for (size_t i = 0; i < vms->n; i++)
		n += !vms->all[i].node_id;
	return n;
}

size_t vms_allocated(const struct vms *vms, uint64_t node_id, struct vm_resources *ret_allocated)
{
	size_t n = 0;

	*ret_allocated = (struct vm_resources){0};
	for (size_t i = 0; i < vms->n; i++) {
		if (vms->all[i].node_id != node_id)
			continue;
		vm_add(ret_allocated, &vms->all[i].request.needs);
		n++;
	}
	return n;
}

/* ---- applying -------------------------------------------------------------------------------- */

static void remove_vm(struct vms *vms, struct vm *vm)
{
	size_t after = vms->n - (size_t)(vm - vms->all) - 1;

	memmove(vm, vm + 1, after * sizeof(*vm));
	vms->n--;
}

static int apply_create(struct vms *vms, const struct command *command,
			const struct vm_request *request)
{
	if (!vm_name_is_valid(command->key, command->key_len))
		return -EINVAL;
	if (find(vms, command->key, command->key_len))
		return -EEXIST;
	if (vms->n == VMS_MAX || vms_waiting(vms) >= VMS_WAITING_MAX)
		return -ENOSPC;
	struct vm *vm = &vms->all[vms->n++];
	*vm = (struct vm){.number = ++vms->last_number,
			  .request = *request,
			  .desired = VM_WANT_RUNNING,
			  .status = VM_CREATING,
			  .context = command->context};
	memcpy(vm->name, command->key, command->key_len);
	return 0;
}

static int apply_order(struct vms *vms, struct vm *vm, const struct vm_order *order)
{
	if (vm->desired == VM_WANT_DELETED)
		return -ESTALE;
	vm->desired = order->desired;
	vm->orders++;
	/* No node has anything of it: there is nothing to wait for. */
	if (order->desired == VM_WANT_DELETED && !vm->node_id)
		remove_vm(vms, vm);
	return 0;
}

static int apply_place(struct vms *vms, struct vm *vm, const struct vm_placing *placing)
{
	struct vm_resources allocated;

	if (vm->number != placing->number || vm->placement != placing->placement ||
	    vm->desired == VM_WANT_DELETED || (placing->node_id && vm->node_id == placing->node_id))
		return -ESTALE;
	if (placing->node_id) {
		const struct vm_node *node = vms_get_node(vms, placing->node_id);
		if (!node)
			return -ENOENT;
		vms_allocated(vms, placing->node_id, &allocated);
		if (!vm_fits(&vm->request.needs, &node->capacity, &allocated))
			return -EDQUOT;
	}
	vm->node_id = placing->node_id;
	vm->placement = placing->node_id ? ++vms->last_number : 0;
	vm->status = VM_CREATING;
	return 0;
}

static int apply_report(struct vms *vms, struct vm *vm, const struct vm_report *report)
{
	if (vm->placement != report->placement)
		return -ESTALE;
	if (report->gone) {
		if (vm->desired != VM_WANT_DELETED)
			return -ESTALE;
		remove_vm(vms, vm);
		return 0;
	}
	vm->status = report->status;
	vm->restarts = report->restarts;
	return 0;
}

static int apply_node(struct vms *vms, const struct vm_node *node)
{
	size_t i = 0;

	while (i < vms->n_nodes && vms->nodes[i].node_id < node->node_id)
		i++;
	if (i == vms->n_nodes || vms->nodes[i].node_id != node->node_id) {
		if (vms->n_nodes == MEMBERS_MAX)
			return -ENOSPC;
		memmove(&vms->nodes[i + 1], &vms->nodes[i],
			(vms->n_nodes - i) * sizeof(vms->nodes[0]));
		vms->n_nodes++;
	}
	vms->nodes[i] = *node;
	return 0;
}

int vms_apply(struct vms *vms, const struct command *command)
{
	union vm_value value;

	int err = vm_value_decode(command->op, command->value, command->value_len, &value);
	if (err)
		return err;
	if (command->op == COMMAND_VM_CREATE)
		return apply_create(vms, command, &value.create);
	if (command->op == COMMAND_VM_NODE)
		return apply_node(vms, &value.node);
	struct vm *vm = find(vms, command->key, command->key_len);
	if (!vm)
		return -ENOENT;
	if (command->op == COMMAND_VM_REPORT)
		return apply_report(vms, vm, &value.report);
	struct trace_context before = vm->context;
	vm->context = command->context; /* first: the VM may be gone afterwards */
	err = command->op == COMMAND_VM_ORDER ? apply_order(vms, vm, &value.order)
					      : apply_place(vms, vm, &value.placing);
	if (err)
		vm->context = before;
	return err;
}

/* ---- snapshots ------------------------------------------------------------------------------- */

size_t vms_bytes(const struct vms *vms)
{
	size_t bytes = HEAD_BYTES + vms->n_nodes * NODE_BYTES;

	for (size_t i = 0; i < vms->n; i++)
		bytes += VM_BYTES + strlen(vms->all[i].name);
	return bytes;
}

static void put_vm(struct writer *w, const struct vm *vm)
{
	put_u8(w, (uint8_t)strlen(vm->name));
	put_bytes(w, vm->name, strlen(vm->name));
	put_u64(w, vm->number);
	vm_put_request(w, &vm->request);
	put_u8(w, (uint8_t)vm->desired);
	put_u64(w, vm->orders);
	put_u64(w, vm->node_id);
	put_u64(w, vm->placement);
	put_u8(w, (uint8_t)vm->status);
	put_u32(w, vm->restarts);
	put_trace_context(w, &vm->context);
}

void vms_encode(const struct vms *vms, uint8_t *out, size_t len)
{
	struct writer w = writer_of(out, len);

	put_u32(&w, vms_magic);
	put_u16(&w, SNAPSHOT_VERSION);
	put_u64(&w, vms->last_number);
	put_u32(&w, (uint32_t)vms->n);
	put_u32(&w, (uint32_t)vms->n_nodes);
	for (size_t i = 0; i < vms->n; i++)
		put_vm(&w, &vms->all[i]);
	for (size_t i = 0; i < vms->n_nodes; i++) {
		put_u64(&w, vms->nodes[i].node_id);
		put_u64(&w, vms->nodes[i].life);
		vm_put_resources(&w, &vms->nodes[i].capacity);
	}
}

static bool get_vm(struct reader *r, struct vms *vms, uint16_t version)
{
	struct vm *vm = &vms->all[vms->n];
	size_t name_len = get_u8(r);
	const char *name = (const char *)get_bytes(r, name_len);

	if (!name || !vm_name_is_valid(name, name_len) || find(vms, name, name_len))
		return false;
	memcpy(vm->name, name, name_len);
	vm->number = get_u64(r);
	vm_get_request(r, &vm->request);
	vm->desired = (enum vm_desired)get_u8(r);
	vm->orders = get_u64(r);
	vm->node_id = get_u64(r);
	vm->placement = get_u64(r);
	vm->status = (enum vm_status)get_u8(r);
	vm->restarts = get_u32(r);
	if (version != SNAPSHOT_UNTRACED)
		get_trace_context(r, &vm->context);
	vms->n++;
	return !r->failed && vm->number && vm->number <= vms->last_number &&
	       vm->placement <= vms->last_number && !vm->placement == !vm->node_id &&
	       vm_request_is_valid(&vm->request) && vm->desired < VM_DESIRES &&
	       vm->status < VM_STATUSES;
}

static bool get_all(struct reader *r, struct vms *vms)
{
	uint32_t magic = get_u32(r);
	uint16_t version = get_u16(r);

	if (magic != vms_magic || (version != SNAPSHOT_UNTRACED && version != SNAPSHOT_VERSION))
		return false;
	vms->last_number = get_u64(r);
	uint32_t n = get_u32(r), n_nodes = get_u32(r);
	if (n > VMS_MAX || n_nodes > MEMBERS_MAX)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		if (!get_vm(r, vms, version))
			return false;
	}
	for (uint32_t i = 0; i < n_nodes && !r->failed; i++) {
		struct vm_node node = {.node_id = get_u64(r)};
		node.life = get_u64(r);
		vm_get_resources(r, &node.capacity);
		if (!node.node_id || node.capacity.vcpus > VM_VCPUS_MAX ||
		    node.capacity.memory_bytes > VM_BYTES_MAX ||
		    node.capacity.disk_bytes > VM_BYTES_MAX)
			return false;
		apply_node(vms, &node);
	}
	return !r->failed && !r->left && vms->n_nodes == n_nodes;
}

int vms_decode(const uint8_t *bytes, size_t len, struct vms **ret_vms)
{
	struct reader r = reader_of(bytes, len);
	struct vms *vms = vms_new();

	if (!vms)
		return -ENOMEM;
	if (!get_all(&r, vms)) {
		vms_free(vms);
		return -EBADMSG;
	}
	*ret_vms = vms;
	return 0;
}
