/* command.c - commands as bytes. Pure, any thread. */
#include "command.h"

#include "test/cluster/storage/bytes.h"

#include <errno.h>

/* One that belongs to no trace is as it was before there were any. */
enum { VERSION_PLAIN = 1, VERSION_TRACED = 2 };

void put_trace_context(struct writer *w, const struct trace_context *context)
{
	put_bytes(w, context->trace_id, sizeof(context->trace_id));
	put_bytes(w, context->span_id, sizeof(context->span_id));
	put_u8(w, context->flags);
}

void get_trace_context(struct reader *r, struct trace_context *ret_context)
{
	const uint8_t *bytes = get_bytes(r, TRACE_CONTEXT_BYTES);

	if (!bytes)
		return;
	memcpy(ret_context->trace_id, bytes, sizeof(ret_context->trace_id));
	memcpy(ret_context->span_id, bytes + sizeof(ret_context->trace_id),
	       sizeof(ret_context->span_id));
	ret_context->flags = bytes[TRACE_CONTEXT_BYTES - 1];
}

size_t command_encode(const struct command *command, uint8_t *out, size_t len)
{
	struct writer w = writer_of(out, len);
	bool traced = trace_context_is_set(&command->context);

	put_u8(&w, traced ? VERSION_TRACED : VERSION_PLAIN);
	put_u8(&w, (uint8_t)command->op);
	put_u8(&w, (uint8_t)command->key_len);
	put_u16(&w, (uint16_t)command->value_len);
	put_u64(&w, command->origin);
	put_u64(&w, command->sequence);
	if (traced)
		put_trace_context(&w, &command->context);
	put_bytes(&w, command->key, command->key_len);
	put_bytes(&w, command->value, command->value_len);
	return w.failed ? 0 : len - w.left;
}

int command_decode(const void *bytes, size_t len, struct command *ret_command)
{
	struct reader r = reader_of(bytes, len);
	struct command command = {0};
	uint8_t version = get_u8(&r);

	command.op = (enum command_op)get_u8(&r);
	command.key_len = get_u8(&r);
	command.value_len = get_u16(&r);
	command.origin = get_u64(&r);
	command.sequence = get_u64(&r);
	if (version == VERSION_TRACED)
		get_trace_context(&r, &command.context);
	command.key = (const char *)get_bytes(&r, command.key_len);
	command.value = get_bytes(&r, command.value_len);
	if (r.failed || r.left || (version != VERSION_PLAIN && version != VERSION_TRACED) ||
	    !command.key_len || command.key_len > TABLE_KEY_MAX ||
	    command.value_len > TABLE_VALUE_MAX || command.op < COMMAND_PUT ||
	    command.op >= COMMAND_OPS)
		return -EPROTO;
	*ret_command = command;
	return 0;
}

const char *command_name(enum command_op op)
{
	static const char *const names[COMMAND_OPS] = {
		[COMMAND_PUT] = "put",
		[COMMAND_DELETE] = "delete",
		[COMMAND_VM_CREATE] = "vm_create",
		[COMMAND_VM_ORDER] = "vm_order",
		[COMMAND_VM_PLACE] = "vm_place",
		[COMMAND_VM_REPORT] = "update_vm_status",
		[COMMAND_VM_NODE] = "update_node",
	};

	return op >= COMMAND_PUT && op < COMMAND_OPS ? names[op] : "unknown";
}
