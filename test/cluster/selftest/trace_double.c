/* test/cluster/selftest/trace_double.c - spans that are never there: what is tested here is what the
 * parts do besides. */
#include "test/cluster/record/note.h"
#include "test/cluster/record/trace.h"

static const blix_span none;

blix_span trace_begin(enum trace_name name)
{
	(void)name;
	return none;
}

blix_span trace_begin_within(enum trace_name name)
{
	(void)name;
	return none;
}

blix_span trace_begin_under(enum trace_name name, blix_span parent)
{
	(void)name;
	(void)parent;
	return none;
}

blix_span trace_begin_at(enum trace_name name, const struct trace_context *parent)
{
	(void)name;
	(void)parent;
	return none;
}

blix_span trace_begin_root(enum trace_name name)
{
	(void)name;
	return none;
}

void trace_str(blix_span span, enum trace_key key, const char *value)
{
	(void)span;
	(void)key;
	(void)value;
}

void trace_u64(blix_span span, enum trace_key key, uint64_t value)
{
	(void)span;
	(void)key;
	(void)value;
}

void trace_storage(blix_span span, const char *operation, const char *collection)
{
	(void)span;
	(void)operation;
	(void)collection;
}

void trace_fail(blix_span span, const char *type, const char *text)
{
	(void)span;
	(void)type;
	(void)text;
}

void trace_end(blix_span span)
{
	(void)span;
}

blix_span trace_here(void)
{
	return none;
}

blix_token trace_enter(blix_span span)
{
	(void)span;
	return (blix_token){.tid = 0};
}

void trace_leave(blix_token token)
{
	(void)token;
}

void note_vm_status(const char *name, const char *status)
{
	(void)name;
	(void)status;
}
