/* test/support/scarce_memory.h - make malloc fail from now on, in this process alone.
 *
 * For tests that run in a process of their own, as Criterion's do. A sanitizer needs address space
 * without end, so under one there is nothing to test: check SCARCE_MEMORY_WORKS first. */
#ifndef BLIX_TEST_SUPPORT_SCARCE_MEMORY_H
#define BLIX_TEST_SUPPORT_SCARCE_MEMORY_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
enum { SCARCE_MEMORY_WORKS = 0 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
enum { SCARCE_MEMORY_WORKS = 0 };
#else
enum { SCARCE_MEMORY_WORKS = 1 };
#endif
#else
enum { SCARCE_MEMORY_WORKS = 1 };
#endif

/* Leave `bytes` of address space; what malloc holds already may still be given out. */
static inline void scarce_memory_begin(size_t bytes)
{
	unsigned long pages = 0;
	struct rlimit limit;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%lu", &pages) != 1 || getrlimit(RLIMIT_AS, &limit))
		abort();
	(void)fclose(f);
	limit.rlim_cur = pages * (size_t)sysconf(_SC_PAGESIZE) + bytes;
	if (setrlimit(RLIMIT_AS, &limit))
		abort();
}

static inline void scarce_memory_end(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit))
		abort();
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_AS, &limit))
		abort();
}

#endif
