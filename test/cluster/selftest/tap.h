/* test/cluster/selftest/tap.h - cases of a self-test as TAP lines. */
#ifndef SELFTEST_TAP_H
#define SELFTEST_TAP_H

#include <stdbool.h>
#include <stdio.h>

static int tap_cases;
static int tap_failed;

/* One case: what should hold, and whether it does. */
static inline void tap(bool good, const char *name)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++tap_cases, name);
	tap_failed += !good;
}

static inline int tap_done(void)
{
	printf("1..%d\n", tap_cases);
	return tap_failed ? 1 : 0;
}

#endif
