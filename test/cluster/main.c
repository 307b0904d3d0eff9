/* main.c - the reference node: parse, run, exit code. */
#include "log.h"
#include "node.h"
#include "options.h"
#include "test/cluster/vm/vm_child.h"

#include <string.h>

int main(int argc, char **argv)
{
	struct options options;

	if (argc > 1 && !strcmp(argv[1], VM_CHILD_WORD))
		return vm_child_main(argc, argv);
	switch (options_parse(argc, argv, &options)) {
	case OPTIONS_DONE:
		return 0;
	case OPTIONS_WRONG:
		return 2;
	case OPTIONS_RUN:
		break;
	}
	log_init(options.id, options.log_level);
	return options.inspect ? node_inspect(&options) : node_run(&options);
}
