/* vm_propose.c - see vm_propose.h. Loop thread only. */
#include "vm_propose.h"

#include <string.h>

void vm_propose_and_tell(struct proposals *proposals, enum command_op op, const char *name,
			 const union vm_value *value, proposal_done done, void *arg)
{
	uint8_t bytes[VM_VALUE_MAX_BYTES];
	struct command command = {.op = op, .key = name, .key_len = strlen(name), .value = bytes};

	command.value_len = vm_value_encode(op, value, bytes, sizeof(bytes));
	proposals_submit(proposals, &command, done, arg);
}

void vm_propose(struct proposals *proposals, enum command_op op, const char *name,
		const union vm_value *value)
{
	vm_propose_and_tell(proposals, op, name, value, NULL, NULL);
}
