/* shm/control.h - run-time control: the agent writes it, the node reads it, neither trusts the other.
 *
 * The element lies in the pages that the agent may write. It is a seqlock: `gen` is odd while it is
 * being written. A reader takes a copy, checks every number, and works on the copy alone; the worst
 * a hostile agent can do is more spans or fewer.
 *
 * Thread rule: one writer process (the holder of the consumer lock). Any reader. Includes: shm/. */
#ifndef BLIX_SHM_CONTROL_H
#define BLIX_SHM_CONTROL_H

#include "view.h"

#include <stdbool.h>

/* The setting as a whole: what the writer publishes and the reader returns. Texts terminated. */
struct blix_control_setting {
	bool has_threshold;
	uint64_t threshold56;
	uint32_t threshold_ticks;
	bool has_log_min;
	uint32_t log_min;
	uint32_t log_min_ticks;
	uint32_t n_rules;
	struct blix_control_rule rules[BLIX_CONTROL_RULES];
};

/* Replace what is there. 0; -EINVAL a number or glob out of range; -ENOENT: the file has no such
 * element, or view->consumer is not mapped. */
int blix_control_write(const struct blix_view *view, const struct blix_control_setting *setting);

/* The generation to compare with; 0: never written, odd: being written. */
uint32_t blix_control_generation(const struct blix_view *view);

/* A consistent, validated copy: out of range numbers are clamped or their entry left out.
 * 0; -EAGAIN: it is being written (look again next tick); -ENOENT: never written, or no element. */
int blix_control_read(const struct blix_view *view, struct blix_control_setting *ret_setting,
		      uint32_t *ret_gen);

/* Does `name` match? "*" any run of bytes, "?" one character. Bounded work. */
bool blix_control_match(const char *glob, const char *name, size_t name_len);

/* The threshold for a sampling ratio of 0 to 1 (NaN and beyond are clamped), and back. */
uint64_t blix_control_threshold(double ratio);
double blix_control_ratio(uint64_t threshold56);

#endif
