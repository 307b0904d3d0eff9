/* agent/run_control.c - see run_control.h. */
#include "agent/run_control.h"
#include "shm/utf8.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define NS_PER_S UINT64_C(1000000000)

const char *const run_control_source_names[RUN_CONTROL_SOURCES] = {"socket", "config"};

static const struct {
	const char *name;
	uint32_t log_min;
} levels[] = {
	{"trace", 1},	 {"debug", 5},	{"info", 9},   {"warn", 13},
	{"warning", 13}, {"error", 17}, {"fatal", 21}, {"off", RUN_CONTROL_LOG_OFF},
};
enum { LEVELS = sizeof(levels) / sizeof(levels[0]) };

/* ---- texts ------------------------------------------------------------------------------------ */

/* Digits up to `max`. Returns the rest of the text, NULL if there is no such number. */
static const char *digits(const char *text, uint64_t max, uint64_t *ret)
{
	uint64_t n = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		n = n * 10 + (uint64_t)(*p - '0');
		if (n > max)
			return NULL;
	}
	*ret = n;
	return p == text ? NULL : p;
}

int run_control_level(const char *text, uint32_t *ret_log_min)
{
	const char *rest;
	uint64_t n;

	for (size_t i = 0; i < LEVELS; i++) {
		if (strcmp(text, levels[i].name) != 0)
			continue;
		*ret_log_min = levels[i].log_min;
		return 0;
	}
	rest = digits(text, RUN_CONTROL_LOG_OFF - 1, &n);
	if (!rest || *rest || n == 0)
		return -EINVAL;
	*ret_log_min = (uint32_t)n;
	return 0;
}

const char *run_control_level_name(uint32_t log_min)
{
	for (size_t i = 0; i < LEVELS; i++)
		if (levels[i].log_min == log_min)
			return levels[i].name;
	return "";
}

int run_control_time(const char *text, uint32_t *ret_seconds)
{
	static const struct {
		char unit;
		uint32_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 24 * 3600}};
	uint32_t factor = 0;
	const char *rest;
	uint64_t n;

	rest = digits(text, RUN_CONTROL_FOR_MAX_S, &n);
	if (!rest || n == 0)
		return -EINVAL;
	for (size_t i = 0; i < 4; i++)
		if (*rest == units[i].unit && !rest[1])
			factor = units[i].seconds;
	if (!*rest)
		factor = 1;
	if (!factor || n * factor > RUN_CONTROL_FOR_MAX_S)
		return -EINVAL;
	*ret_seconds = (uint32_t)n * factor;
	return 0;
}

/* ---- change ----------------------------------------------------------------------------------- */

static bool glob_ok(const char *glob)
{
	size_t len = strlen(glob);

	if (len >= BLIX_CONTROL_GLOB_BYTES || !blix_utf8_valid((const uint8_t *)glob, len))
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)glob[i] < 0x20 || glob[i] == 0x7f)
			return false;
	return true;
}

static uint64_t end_of(uint32_t for_s, uint64_t now_ns)
{
	return for_s ? now_ns + for_s * NS_PER_S : 0;
}

static void rule_remove(struct run_control_part *p, uint32_t i)
{
	assert(i < p->n_rules);
	p->n_rules--;
	memmove(&p->rules[i], &p->rules[i + 1], (p->n_rules - i) * sizeof(p->rules[0]));
}

/* The latest rule of the socket is tried first; those of the file keep the order of the file. */
static int rule_add(struct run_control_part *p, const struct run_control_entry *e, bool first)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < p->n_rules; i++) {
		if (strcmp(p->rules[i].glob, e->glob) != 0)
			continue;
		rule_remove(p, i);
		break;
	}
	if (p->n_rules == RUN_CONTROL_RULES)
		return -ENOSPC;
	if (first)
		memmove(&p->rules[1], &p->rules[0], p->n_rules * sizeof(p->rules[0]));
	else
		at = p->n_rules;
	p->rules[at] = *e;
	p->n_rules++;
	return 0;
}

int run_control_sample(struct run_control *c, enum run_control_source source, const char *glob,
		       double ratio, uint32_t for_s, uint64_t now_ns)
{
	struct run_control_part *p = &c->parts[source];
	struct run_control_entry e = {
		.set = true,
		.ratio = ratio,
		.until_ns = end_of(for_s, now_ns),
	};

	if (!(ratio >= 0 && ratio <= 1) || for_s > RUN_CONTROL_FOR_MAX_S)
		return -EINVAL;
	if (!glob || !glob[0]) {
		p->ratio = e;
		return 0;
	}
	if (!glob_ok(glob))
		return -EINVAL;
	memcpy(e.glob, glob, strlen(glob) + 1);
	return rule_add(p, &e, source == RUN_CONTROL_SOCKET);
}

int run_control_log(struct run_control *c, enum run_control_source source, uint32_t log_min,
		    uint32_t for_s, uint64_t now_ns)
{
	if (log_min < 1 || log_min > RUN_CONTROL_LOG_OFF || for_s > RUN_CONTROL_FOR_MAX_S)
		return -EINVAL;
	c->parts[source].log = (struct run_control_entry){
		.set = true,
		.log = true,
		.log_min = log_min,
		.until_ns = end_of(for_s, now_ns),
	};
	return 0;
}

bool run_control_clear(struct run_control *c, enum run_control_source source)
{
	struct run_control_part *p = &c->parts[source];
	bool any = p->ratio.set || p->log.set || p->n_rules > 0;

	memset(p, 0, sizeof(*p));
	return any;
}

static bool has_ended(const struct run_control_entry *e, uint64_t now_ns)
{
	return e->set && e->until_ns && e->until_ns <= now_ns;
}

bool run_control_expire(struct run_control *c, uint64_t now_ns)
{
	bool any = false;

	for (int s = 0; s < RUN_CONTROL_SOURCES; s++) {
		struct run_control_part *p = &c->parts[s];
		struct run_control_entry *single[] = {&p->ratio, &p->log};

		for (size_t i = 0; i < 2; i++) {
			if (!has_ended(single[i], now_ns))
				continue;
			*single[i] = (struct run_control_entry){0};
			any = true;
		}
		for (uint32_t i = p->n_rules; i-- > 0;) {
			if (!has_ended(&p->rules[i], now_ns))
				continue;
			rule_remove(p, i);
			any = true;
		}
	}
	return any;
}

/* ---- what holds ------------------------------------------------------------------------------- */

/* The socket's where it has one, else the file's. */
static const struct run_control_entry *ratio_in_force(const struct run_control *c,
						      enum run_control_source *ret_source)
{
	for (int s = 0; s < RUN_CONTROL_SOURCES; s++) {
		*ret_source = (enum run_control_source)s;
		if (c->parts[s].ratio.set)
			return &c->parts[s].ratio;
	}
	return NULL;
}

static const struct run_control_entry *log_in_force(const struct run_control *c,
						    enum run_control_source *ret_source)
{
	for (int s = 0; s < RUN_CONTROL_SOURCES; s++) {
		*ret_source = (enum run_control_source)s;
		if (c->parts[s].log.set)
			return &c->parts[s].log;
	}
	return NULL;
}

const struct run_control_entry *run_control_nth(const struct run_control *c, uint32_t n,
						enum run_control_source *ret_source)
{
	const struct run_control_entry *e;

	for (int s = 0; s < RUN_CONTROL_SOURCES; s++) {
		*ret_source = (enum run_control_source)s;
		if (n < c->parts[s].n_rules)
			return &c->parts[s].rules[n];
		n -= c->parts[s].n_rules;
	}
	e = ratio_in_force(c, ret_source);
	if (e && n-- == 0)
		return e;
	e = log_in_force(c, ret_source);
	return e && n == 0 ? e : NULL;
}

bool run_control_ratio(const struct run_control *c, double *ret_ratio)
{
	enum run_control_source source;
	const struct run_control_entry *e = ratio_in_force(c, &source);

	if (e)
		*ret_ratio = e->ratio;
	return e != NULL;
}

uint32_t run_control_left_s(const struct run_control_entry *e, uint64_t now_ns)
{
	uint64_t left;

	if (!e->until_ns)
		return 0;
	left = e->until_ns > now_ns ? (e->until_ns - now_ns + NS_PER_S - 1) / NS_PER_S : 0;
	if (left < 1)
		return 1; /* it has ended, and nobody has looked yet */
	return left < RUN_CONTROL_FOR_MAX_S ? (uint32_t)left : RUN_CONTROL_FOR_MAX_S;
}

uint64_t run_control_due_ns(const struct run_control *c, uint64_t now_ns)
{
	const struct run_control_entry *e;
	enum run_control_source source;
	uint64_t due = UINT64_MAX;

	for (uint32_t n = 0; (e = run_control_nth(c, n, &source)); n++) {
		uint64_t next =
			e->until_ns ? e->until_ns : now_ns + RUN_CONTROL_REFRESH_S * NS_PER_S;

		due = next < due ? next : due;
	}
	/* A ratio or level of the file that the socket's hides has its end too: it is looked at when
	 * the socket's ends, and before that it does not matter. */
	return due;
}

static uint32_t ticks_of(const struct run_control_entry *e, uint64_t now_ns)
{
	return e->until_ns ? run_control_left_s(e, now_ns) : RUN_CONTROL_NO_END_TICKS;
}

void run_control_merge(const struct run_control *c, uint64_t now_ns,
		       struct blix_control_setting *ret_setting)
{
	const struct run_control_entry *e;
	enum run_control_source source;

	memset(ret_setting, 0, sizeof(*ret_setting));
	for (uint32_t n = 0; (e = run_control_nth(c, n, &source)); n++) {
		struct blix_control_rule *rule = &ret_setting->rules[ret_setting->n_rules];
		uint32_t ticks = ticks_of(e, now_ns);

		if (e->log) {
			ret_setting->has_log_min = true;
			ret_setting->log_min = e->log_min;
			ret_setting->log_min_ticks = ticks;
		} else if (!e->glob[0]) {
			ret_setting->has_threshold = true;
			ret_setting->threshold56 = blix_control_threshold(e->ratio);
			ret_setting->threshold_ticks = ticks;
		} else {
			assert(ret_setting->n_rules < BLIX_CONTROL_RULES);
			rule->ticks = ticks;
			rule->threshold56 = blix_control_threshold(e->ratio);
			memcpy(rule->glob, e->glob, sizeof(rule->glob));
			ret_setting->n_rules++;
		}
	}
}
