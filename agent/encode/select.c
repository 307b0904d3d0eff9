/* agent/encode/select.c - what every metric encoder shows. Pure; includes agent/model/. */
#include "agent/encode/select.h"

#include "agent/model/number.h"

#include <math.h>

bool select_total(const struct snapshot_family *family, struct snapshot_text name)
{
	return family->type == SNAPSHOT_COUNTER && name.len > SELECT_TOTAL_BYTES &&
	       !memcmp(name.at + name.len - SELECT_TOTAL_BYTES, "_total", SELECT_TOTAL_BYTES);
}

double select_double(const struct snapshot_family *family, uint64_t bits)
{
	double value;

	switch (family->number) {
	case SNAPSHOT_U64:
		return (double)bits;
	case SNAPSHOT_I64:
		return (double)(int64_t)bits;
	case SNAPSHOT_NS:
		if (family->type == SNAPSHOT_GAUGE && (int64_t)bits < 0)
			return -number_ns_to_f64(0 - bits);
		return number_ns_to_f64(bits);
	case SNAPSHOT_F64:
		break;
	}
	memcpy(&value, &bits, sizeof(value));
	return value;
}

bool select_exemplar_checked(const struct snapshot_family *family,
			     const struct snapshot_exemplar *exemplar, uint32_t i)
{
	static const uint8_t no_trace[sizeof(exemplar->trace_id)];
	double value = select_double(family, exemplar->value);

	if (!memcmp(exemplar->trace_id, no_trace, sizeof(no_trace)) || isnan(value))
		return false;
	if (family->type != SNAPSHOT_HISTOGRAM)
		return true;
	return (i == 0 || value > family->bounds->value[i - 1]) &&
	       (i == family->bounds->n || value <= family->bounds->value[i]);
}
