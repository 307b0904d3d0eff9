/* command.c - commands as bytes. Pure, any thread. */
#include "command.h"

#include "test/cluster/storage/bytes.h"

#include <errno.h>

enum { COMMAND_VERSION = 1 };

size_t command_encode(const struct command *command, uint8_t *out, size_t len)
{
	struct writer w = writer_of(out, len);

	put_u8(&w, COMMAND_VERSION);
	put_u8(&w, (uint8_t)command->op);
	put_u8(&w, (uint8_t)command->key_len);
	put_u16(&w, (uint16_t)command->value_len);
	put_u64(&w, command->origin);
	put_u64(&w, command->sequence);
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
	command.key = (const char *)get_bytes(&r, command.key_len);
	command.value = get_bytes(&r, command.value_len);
	if (r.failed || r.left || version != COMMAND_VERSION || !command.key_len ||
	    command.key_len > TABLE_KEY_MAX || command.value_len > TABLE_VALUE_MAX ||
	    command.op < COMMAND_PUT || command.op >= COMMAND_OPS)
		return -EPROTO;
	*ret_command = command;
	return 0;
}
