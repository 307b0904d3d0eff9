/* agent/input/node_control.c - see node_control.h. */
#include "agent/input/node_control.h"

int node_control_write(struct blix_map *map, const struct blix_control_setting *setting)
{
	const struct blix_view *view = blix_map_view(map);

	if (!setting->has_threshold && !setting->has_log_min && setting->n_rules == 0 &&
	    blix_control_generation(view) == 0)
		return 0;
	return blix_control_write(view, setting);
}
