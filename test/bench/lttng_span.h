/* test/bench/lttng_span.h - the tracepoint of bench_lttng.c, as LTTng-UST has it: the four fields of
 * the span that bench_hot.c records. Included several times by lttng/tracepoint-event.h. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER blixard_bench
#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "test/bench/lttng_span.h"

#if !defined(BLIX_TEST_BENCH_LTTNG_SPAN_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define BLIX_TEST_BENCH_LTTNG_SPAN_H

#include <lttng/tracepoint.h>
#include <stdint.h>

LTTNG_UST_TRACEPOINT_EVENT(blixard_bench, begin, LTTNG_UST_TP_ARGS(const char *, name),
			   LTTNG_UST_TP_FIELDS(lttng_ust_field_string(name, name)))

LTTNG_UST_TRACEPOINT_EVENT(
	blixard_bench, end,
	LTTNG_UST_TP_ARGS(const char *, vm, int64_t, vcpus, int64_t, memory, int, started),
	LTTNG_UST_TP_FIELDS(lttng_ust_field_string(vm, vm)
				    lttng_ust_field_integer(int64_t, vcpus, vcpus)
					    lttng_ust_field_integer(int64_t, memory, memory)
						    lttng_ust_field_integer(int, started, started)))

#endif
#include <lttng/tracepoint-event.h>
