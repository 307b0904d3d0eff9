/* main.c - blixard-load: parse, run, print. Exit code 0: at least one operation was answered OK; 1:
 * none was; 2: the command line is wrong. */
#include "options.h"
#include "report.h"
#include "run.h"
#include "traces.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	static struct tally tally; /* large */
	static struct options options;
	uint64_t elapsed_ns;

	int code = options_parse(argc, argv, &options);
	if (code >= 0)
		return code;
	traces_init(options.traces_percent);
	int err = run_load(&options, report_progress, &tally, &elapsed_ns);
	if (err) {
		fprintf(stderr, "blixard-load: %s\n", strerror(-err));
		return 1;
	}
	(options.json ? report_json : report_text)(&options, &tally, elapsed_ns);
	return tally.ok ? 0 : 1;
}
