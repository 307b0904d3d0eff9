/* test/support/bin/control_dump.c - the run-time control in a file, as the node would read it.
 *
 * control_dump PATH: prints the generation and one line a setting. Exit status 1: no such file, or
 * nothing was ever written. Maps the file by itself and does not disturb it. */
#include "shm/control.h"
#include "shm/map.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	const struct blix_map_options options = {0};
	struct blix_control_setting s;
	char reason[BLIX_REASON_MAX] = "";
	struct blix_map *map;
	uint32_t gen;
	int err;

	if (argc != 2)
		return 2;
	err = blix_map_open(argv[1], &options, &map, reason);
	if (!err)
		err = blix_control_read(blix_map_view(map), &s, &gen);
	if (err) {
		fprintf(stderr, "control_dump: %s %s\n", reason, strerror(-err));
		return 1;
	}
	printf("generation %u\n", gen);
	if (s.has_threshold)
		printf("threshold %llu ticks %u\n", (unsigned long long)s.threshold56,
		       s.threshold_ticks);
	if (s.has_log_min)
		printf("log_min %u ticks %u\n", s.log_min, s.log_min_ticks);
	for (uint32_t i = 0; i < s.n_rules; i++)
		printf("rule %s threshold %llu ticks %u\n", s.rules[i].glob,
		       (unsigned long long)s.rules[i].threshold56, s.rules[i].ticks);
	blix_map_close(map);
	return 0;
}
