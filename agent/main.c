/* agent/main.c - blixard-agent: options in, exit status out. */
#include "agent/agent.h"
#include "agent/buf.h"
#include "agent/encode/dump.h"
#include "agent/log.h"
#include "agent/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2, PRINT_BYTES_MAX = 4 << 20 };

/* What was asked for on standard output. */
static int print(struct buf *text)
{
	bool ok = !text->failed && fwrite(text->data, 1, text->len, stdout) == text->len &&
		  fflush(stdout) == 0;

	buf_done(text);
	if (!ok)
		log_line(LOG_LEVEL_ERROR, "output_failed", "cannot write to standard output");
	return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int print_for(const struct options *o)
{
	struct buf text;

	buf_init(&text, PRINT_BYTES_MAX);
	switch (o->action) {
	case OPTIONS_DUMP_JSON:
		dump_metrics_json(&text);
		break;
	case OPTIONS_DUMP_MARKDOWN:
		dump_metrics_markdown(&text);
		break;
	case OPTIONS_VERSION:
		buf_addf(&text, "blixard-agent " BLIX_VERSION "\n%s\n", agent_features());
		break;
	default:
		options_help(&text);
	}
	return print(&text);
}

/* Flags, then the configuration file they name. */
static int read_options(int argc, char **argv, struct options *flags, struct options *all)
{
	char error[OPTIONS_ERROR_MAX], *text = NULL;
	size_t len;
	int err;

	options_init(flags);
	err = options_parse(flags, argc, argv, error);
	*all = *flags;
	if (!err && all->config[0]) {
		err = options_read_file(all->config, &text, &len, error);
		if (!err)
			err = options_config(all, all->config, text, len, error);
		free(text);
	}
	if (!err)
		err = options_complete(all, error);
	if (err) {
		log_set_format(all->log_format);
		log_line(LOG_LEVEL_ERROR, "options_refused", "%s", error);
	}
	return err;
}

int main(int argc, char **argv)
{
	static struct options flags, all;

	if (read_options(argc, argv, &flags, &all) < 0)
		return all.action == OPTIONS_CHECK ? EXIT_FAILURE : EXIT_USAGE;
	switch (all.action) {
	case OPTIONS_RUN:
		return agent_run(&flags, &all);
	case OPTIONS_CHECK:
		return agent_check(&all);
	case OPTIONS_CHECK_EXPORT:
		return agent_check_export();
	default:
		return print_for(&all);
	}
}
