/* agent/export/spool_say.c - see spool_say.h. */
#include "agent/export/spool_say.h"

#include "agent/log.h"

static void say_degraded(struct spool_say *said, const struct spool_status *status,
			 uint64_t mono_ns)
{
	uint64_t lasted_s;

	if (status->degraded && outage_fails(&said->outage, mono_ns))
		log_line(LOG_LEVEL_WARNING, "spool_degraded",
			 "%s; until then what cannot be sent stays in the nodes' rings",
			 status->problem);
	if (!status->degraded && outage_ends(&said->outage, mono_ns, &lasted_s))
		log_line(LOG_LEVEL_INFO, "spool_recovered",
			 "the spool can be written again after %llu s",
			 (unsigned long long)lasted_s);
}

static void say_damaged(struct spool_say *said, const struct spool_status *status)
{
	if (status->damaged == said->damaged)
		return;
	said->damaged = status->damaged;
	log_repeated(LOG_LEVEL_WARNING, "spool_damaged", "",
		     "the spool's database was damaged: it was moved aside to spool.db.damaged, "
		     "and what "
		     "could be read was brought over to a new one");
}

static void say_dropped(struct spool_say *said, const uint64_t dropped[SPOOL_DROPS])
{
	static const char *const why[SPOOL_DROPS] = {
		[SPOOL_DROP_FULL] = "gave way to newer or more important ones, the spool is full",
		[SPOOL_DROP_AGE] = "were too old",
		[SPOOL_DROP_CORRUPT] = "were damaged",
	};

	for (int i = 0; i < SPOOL_DROPS; i++) {
		if (dropped[i] <= said->dropped[i])
			continue;
		log_repeated(LOG_LEVEL_WARNING, "spool_dropped", why[i],
			     "%llu items of the spool are lost: they %s",
			     (unsigned long long)(dropped[i] - said->dropped[i]), why[i]);
		said->dropped[i] = dropped[i];
	}
}

void spool_say(struct spool_say *said, const struct spool_status *status,
	       const uint64_t dropped[SPOOL_DROPS], uint64_t mono_ns)
{
	say_degraded(said, status, mono_ns);
	say_damaged(said, status);
	say_dropped(said, dropped);
}
