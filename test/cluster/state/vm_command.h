/* vm_command.h - what the commands about VMs carry beside their key. Pure, any thread.
 *
 * The key of a command is the VM's name; the value of each operation is one struct here, with a
 * version in front, so that a later build can tell an earlier one's log. */
#ifndef CLUSTER_VM_COMMAND_H
#define CLUSTER_VM_COMMAND_H

#include "command.h"
#include "test/cluster/vm/vm.h"

enum { VM_VALUE_MAX_BYTES = 64 };

struct vm_order {
	enum vm_desired desired;
};

/* Where a VM is to live: its first node, or another one, where it begins anew. node_id 0: nowhere,
 * it has to make room. `number` says which VM is meant,
 * should another of this name have been created meanwhile. */
struct vm_placing {
	uint64_t number;
	uint64_t placement; /* as it was when this was decided; 0: it had none */
	uint64_t node_id;
};

/* What a node has seen of a VM it holds. */
struct vm_report {
	uint64_t placement;
	enum vm_status status;
	uint32_t restarts;
	bool gone; /* deleted: nothing is left of it */
};

/* The value of a command, by its op. */
union vm_value {
	struct vm_request create;  /* COMMAND_VM_CREATE */
	struct vm_order order;	   /* COMMAND_VM_ORDER */
	struct vm_placing placing; /* COMMAND_VM_PLACE */
	struct vm_report report;   /* COMMAND_VM_REPORT */
	struct vm_node node;	   /* COMMAND_VM_NODE; the key is not used */
};

/* Bytes written; 0: not an operation on VMs, or it does not fit. */
size_t vm_value_encode(enum command_op op, const union vm_value *value, uint8_t *out, size_t len);

/* 0; -EPROTO: malformed, out of range, or not an operation on VMs. */
int vm_value_decode(enum command_op op, const uint8_t *bytes, size_t len,
		    union vm_value *ret_value);

/* Parts of the encoding that snapshots use as well. */
struct writer;
struct reader;
void vm_put_request(struct writer *w, const struct vm_request *request);
void vm_get_request(struct reader *r, struct vm_request *ret_request);
void vm_put_resources(struct writer *w, const struct vm_resources *resources);
void vm_get_resources(struct reader *r, struct vm_resources *ret_resources);

#endif
