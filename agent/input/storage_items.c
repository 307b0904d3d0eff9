/* agent/input/storage_items.c - see storage_items.h. */
#include "agent/input/storage_items.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { ITEM_ATTRS = 8, SPAN_INTERNAL = 1, STATUS_ERROR = 2, SEVERITY_WARN = 13, TEXT_BYTES = 160 };

/* Literals live for ever; only what the event lends is copied. */
static struct batch_text literal(const char *text)
{
	return (struct batch_text){text, (uint32_t)strlen(text)};
}

static int copy(struct arena *memory, const char *text, struct batch_text *ret_text)
{
	size_t len = strlen(text);
	void *at;
	int err = arena_alloc(memory, len + 1, &at);

	if (err)
		return err;
	memcpy(at, text, len + 1);
	*ret_text = (struct batch_text){at, (uint32_t)len};
	return 0;
}

static void set_text(struct batch_attr *a, const char *key, struct batch_text text)
{
	*a = (struct batch_attr){
		.key = literal(key),
		.value = {.type = BATCH_STRING, .n = text.len, .text = text.at},
	};
}

static void set_ms(struct batch_attr *a, const char *key, uint64_t ns)
{
	*a = (struct batch_attr){
		.key = literal(key),
		.value = {.type = BATCH_F64, .f64 = (double)ns * 1e-6},
	};
}

/* Durations of other I/O carry "overlapping" in their names: they lay inside of the wait, which does
 * not prove that they caused it. */
static int attributes(const struct storage_slow_event *e, struct arena *memory,
		      struct batch_attrs *ret_attrs)
{
	struct batch_text device;
	struct batch_attr *a;
	uint32_t n = 0;
	void *at;
	int err = arena_alloc(memory, ITEM_ATTRS * sizeof(*a), &at);

	if (!err)
		err = copy(memory, e->device, &device);
	if (err)
		return err;
	a = at;
	set_text(&a[n++], "db.operation.name", literal(e->call));
	set_text(&a[n++], "blixard.storage.hook", literal(e->hook));
	if (device.len)
		set_text(&a[n++], "blixard.storage.device", device);
	set_ms(&a[n++], "blixard.storage.overlapping_flush_ms", e->flush_ns);
	set_ms(&a[n++], "blixard.storage.overlapping_io_ms", e->device_ns);
	a[n++] = (struct batch_attr){.key = literal("thread.id"),
				     .value = {.type = BATCH_I64, .i64 = e->tid}};
	if (e->result < 0)
		a[n++] = (struct batch_attr){.key = literal("error.code"),
					     .value = {.type = BATCH_I64, .i64 = e->result}};
	*ret_attrs = (struct batch_attrs){.at = a, .n = n};
	return 0;
}

int storage_span(const struct storage_slow_event *e, const uint8_t span_id[8], struct arena *memory,
		 struct batch_span *ret_span)
{
	struct batch_span span = {
		.start_unix_ns = e->start_unix_ns,
		.end_unix_ns = e->end_unix_ns,
		.name = literal("storage.fsync"),
		/* Sampled, else there would be none; its parent is of this process. */
		.flags = 1 | BATCH_FLAG_HAS_IS_REMOTE,
		.kind = SPAN_INTERNAL,
		.status = e->result < 0 ? STATUS_ERROR : 0,
		.priority = true, /* slow by its nature */
	};
	int err;

	if (!e->valid || !e->sampled)
		return -EINVAL;
	memcpy(span.trace_id, e->trace_id, sizeof(span.trace_id));
	memcpy(span.parent_id, e->span_id, sizeof(span.parent_id));
	memcpy(span.span_id, span_id, sizeof(span.span_id));
	err = attributes(e, memory, &span.attrs);
	if (!err)
		*ret_span = span;
	return err;
}

int storage_log(const struct storage_slow_event *e, uint64_t unreported, struct arena *memory,
		struct batch_log *ret_log)
{
	struct batch_log log = {
		.unix_ns = e->end_unix_ns,
		.observed_unix_ns = e->end_unix_ns,
		.flags = e->sampled,
		.severity = SEVERITY_WARN,
		.event_name = literal("blixard.storage.slow"),
	};
	char text[TEXT_BYTES];
	int err;

	snprintf(text, sizeof(text), "waited %.1f ms in %s on %s",
		 (double)(e->end_ns - e->start_ns) * 1e-6, e->call,
		 e->device[0] ? e->device : "an unknown device");
	if (e->valid) {
		memcpy(log.trace_id, e->trace_id, sizeof(log.trace_id));
		memcpy(log.span_id, e->span_id, sizeof(log.span_id));
	}
	err = copy(memory, text, &log.body);
	if (!err)
		err = attributes(e, memory, &log.attrs);
	if (err)
		return err;
	if (unreported)
		log.attrs.at[log.attrs.n++] = (struct batch_attr){
			.key = literal("blixard.storage.unreported_waits"),
			.value = {.type = BATCH_I64, .i64 = (int64_t)unreported},
		};
	*ret_log = log;
	return 0;
}
