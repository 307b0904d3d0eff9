/* node-hooks/symbols.c - the header's inline functions as symbols, for languages that cannot include
 * it. (blix_add is in count.c, beside its slow path.) Thread rule: as in the header. */
#include "trace.h"

#define SYMBOL(type, name, params, args)                                                           \
	__attribute__((visibility("default"))) type name##_symbol_ params __asm__(#name);          \
	type name##_symbol_ params                                                                 \
	{                                                                                          \
		return name args;                                                                  \
	}

SYMBOL(struct blix_attr, blix_attr_text, (blix_key key, const char *text, size_t len_bytes),
       (key, text, len_bytes))
SYMBOL(struct blix_attr, blix_attr_str, (blix_key key, const char *text), (key, text))
SYMBOL(struct blix_attr, blix_attr_i64, (blix_key key, int64_t value), (key, value))
SYMBOL(struct blix_attr, blix_attr_f64, (blix_key key, double value), (key, value))
SYMBOL(struct blix_attr, blix_attr_bool, (blix_key key, int value), (key, value))
SYMBOL(struct blix_attr, blix_attr_bytes, (blix_key key, const void *bytes, size_t len_bytes),
       (key, bytes, len_bytes))
SYMBOL(struct blix_attr, blix_attr_str_array, (blix_key key, const char *const *strings, size_t n),
       (key, strings, n))
SYMBOL(int, blix_span_is_recorded, (blix_span span), (span))
SYMBOL(int, blix_log_is_on, (int severity), (severity))
