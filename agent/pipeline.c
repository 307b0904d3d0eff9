/* agent/pipeline.c - see pipeline.h. */
#include "agent/pipeline.h"
#include "agent/export/credentials.h"
#include "agent/export/journal.h"
#include "agent/export/spool_say.h"
#include "agent/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define USER_AGENT "Blixard/" BLIX_VERSION " OTel-OTLP-Exporter-C/" BLIX_VERSION

struct pipeline {
	struct otlp_config config;
	struct credentials credentials[OTLP_SIGNALS];
	struct export *export;	 /* NULL: nothing is exported */
	struct spool *spool;	 /* NULL: none */
	struct journal *journal; /* NULL: not asked for */
	char spool_path[OPTIONS_PATH_MAX];
	char problem[FIGURES_PROBLEM_MAX]; /* why something is not exported; the last one */
	struct figures figures;
	struct spool_say said;
};

static const char *environment(void *arg, const char *name)
{
	(void)arg;
	return getenv(name);
}

/* ---- start ----------------------------------------------------------------------------------- */

static void read_config(struct pipeline *p)
{
	otlp_config_read(environment, NULL, &p->config);
	for (uint32_t i = 0; i < p->config.n_warnings; i++)
		log_line(LOG_LEVEL_WARNING, "export_config", "%s", p->config.warnings[i]);
	for (int i = 0; i < OTLP_SIGNALS; i++) {
		struct otlp_endpoint *to = &p->config.signals[i];
		char reason[CREDENTIALS_REASON_MAX];

		if (p->config.disabled || !to->on)
			continue;
		if (credentials_read(to, &p->credentials[i], reason) < 0) {
			snprintf(p->problem, sizeof(p->problem), "%s are not exported: %.200s",
				 otlp_signal_names[i], reason);
			log_line(LOG_LEVEL_ERROR, "export_off", "%s are not exported: %s",
				 otlp_signal_names[i], reason);
			to->on = false;
			continue;
		}
		log_line(LOG_LEVEL_INFO, "export_config", "%s go to %s by %s", otlp_signal_names[i],
			 to->shown_url, otlp_protocol_names[to->protocol]);
	}
}

/* In the state directory, or where --spool says. */
static void open_spool(struct pipeline *p, struct disk *disk, const struct options *options,
		       const struct state *state)
{
	const struct spool_options o = {.dir = p->spool_path};
	const char *path = state_spool(state, options);
	int r;

	if (!path)
		return; /* "nothing is kept" was said with its reason */
	snprintf(p->spool_path, sizeof(p->spool_path), "%s", path);
	r = spool_new(disk, &o, &p->spool);
	if (r < 0)
		log_line(LOG_LEVEL_WARNING, "spool_problem",
			 "no spool in %s: %s; what cannot be sent stays in the nodes' rings",
			 p->spool_path, strerror(-r));
}

static int open_export(struct event_base *base, struct pipeline *p)
{
	struct export_options o = {
		.config = &p->config, .spool = p->spool, .user_agent = USER_AGENT};
	char reason[VERDICT_MESSAGE_MAX];
	int r;

	for (int i = 0; i < OTLP_SIGNALS; i++)
		o.tls[i] = credentials_tls(&p->credentials[i]);
	r = export_new(base, &o, &p->export, reason);
	if (r < 0) {
		snprintf(p->problem, sizeof(p->problem), "nothing is exported: %.200s", reason);
		log_line(LOG_LEVEL_ERROR, "export_off", "nothing is exported: %s", reason);
	}
	return r == -ENOMEM ? r : 0;
}

static int open_journal(struct event_base *base, struct pipeline *p)
{
	int r = journal_new(base, NULL, &p->journal);

	if (r < 0)
		log_line(LOG_LEVEL_ERROR, "journal_dropped", "no logs go to the journal: %s",
			 strerror(-r));
	return r == -ENOMEM ? r : 0;
}

int pipeline_new(struct event_base *base, struct disk *disk, const struct options *options,
		 const struct state *state, struct pipeline **ret_pipeline)
{
	struct pipeline *p = calloc(1, sizeof(*p));
	int r = 0;

	if (!p)
		return -ENOMEM;
	read_config(p);
	if (otlp_config_any(&p->config)) {
		open_spool(p, disk, options, state);
		r = open_export(base, p);
	}
	if (r == 0 && options->journal)
		r = open_journal(base, p);
	if (r < 0) {
		pipeline_free(p);
		return r;
	}
	*ret_pipeline = p;
	return 0;
}

/* ---- what goes through ----------------------------------------------------------------------- */

bool pipeline_wants(const struct pipeline *p, enum otlp_signal signal)
{
	return export_wants(p->export, signal) || (signal == OTLP_LOGS && p->journal);
}

bool pipeline_exports(const struct pipeline *p)
{
	return p->export;
}

uint32_t pipeline_delay_ms(const struct pipeline *p, enum otlp_signal signal)
{
	return p->config.batch[signal].schedule_delay_ms;
}

void pipeline_batch(struct pipeline *p, struct batch *b)
{
	if (p->journal)
		journal_take(p->journal, b); /* holds it by itself */
	if (p->export)
		export_batch(p->export, b);
	else
		batch_release(b);
}

int pipeline_add_source(struct pipeline *p, const struct export_source *source)
{
	return p->export ? export_add_source(p->export, source) : 0;
}

const struct figures *pipeline_figures(struct pipeline *p)
{
	if (p->export)
		export_figures(p->export, &p->figures);
	memcpy(p->figures.problem, p->problem, sizeof(p->problem));
	p->figures.spool_path = p->spool_path;
	return &p->figures;
}

void pipeline_tick(struct pipeline *p)
{
	static const enum figures_drop kinds[SPOOL_DROPS] = {
		[SPOOL_DROP_FULL] = FIGURES_DROP_SPOOL_FULL,
		[SPOOL_DROP_AGE] = FIGURES_DROP_SPOOL_AGE,
		[SPOOL_DROP_CORRUPT] = FIGURES_DROP_SPOOL_CORRUPT,
	};
	uint64_t dropped[SPOOL_DROPS] = {0};
	struct spool_status status;
	struct timespec t;

	if (!p->spool)
		return;
	clock_gettime(CLOCK_MONOTONIC, &t);
	spool_status(p->spool, &status);
	pipeline_figures(p);
	for (uint32_t i = 0; i < p->figures.n; i++)
		for (int k = 0; k < SPOOL_DROPS; k++)
			dropped[k] += p->figures.pipes[i].dropped[kinds[k]];
	spool_say(&p->said, &status, dropped,
		  (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec);
}

/* ---- the end --------------------------------------------------------------------------------- */

void pipeline_stop(struct pipeline *p)
{
	if (p->export)
		export_stop(p->export);
}

bool pipeline_is_idle(const struct pipeline *p)
{
	return !p->export || export_is_idle(p->export);
}

struct pipeline *pipeline_free(struct pipeline *p)
{
	if (!p)
		return NULL;
	export_close(p->export);
	p->spool = spool_free(p->spool);
	p->export = export_free(p->export);
	p->journal = journal_free(p->journal);
	for (int i = 0; i < OTLP_SIGNALS; i++)
		credentials_done(&p->credentials[i]);
	free(p);
	return NULL;
}
