/* agent/export/backoff.c - see backoff.h. */
#include "agent/export/backoff.h"

#define NS_PER_S UINT64_C(1000000000)

uint32_t backoff_ms(uint32_t failures, uint32_t asked_ms, uint32_t chance)
{
	uint64_t base = BACKOFF_FIRST_MS;
	uint64_t ms;

	for (uint32_t i = 1; i < failures && base < BACKOFF_MAX_MS; i++)
		base = base * 8 / 5;
	if (base > BACKOFF_MAX_MS)
		base = BACKOFF_MAX_MS;
	ms = base / 2 + chance % (base + 1);
	return ms > asked_ms ? (uint32_t)ms : asked_ms;
}

bool outage_fails(struct outage *o, uint64_t now_ns)
{
	if (!o->on) {
		*o = (struct outage){.on = true, .since_ns = now_ns, .every_s = OUTAGE_FIRST_S};
		o->say_ns = now_ns + o->every_s * NS_PER_S;
		return true;
	}
	if (now_ns < o->say_ns)
		return false;
	o->every_s = o->every_s < OUTAGE_MAX_S / 2 ? o->every_s * 2 : OUTAGE_MAX_S;
	o->say_ns = now_ns + o->every_s * NS_PER_S;
	return true;
}

bool outage_ends(struct outage *o, uint64_t now_ns, uint64_t *ret_lasted_s)
{
	if (!o->on)
		return false;
	o->on = false;
	*ret_lasted_s = (now_ns - o->since_ns) / NS_PER_S;
	return true;
}
