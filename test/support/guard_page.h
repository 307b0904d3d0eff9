/* test/support/guard_page.h - bytes that end where memory ends: one byte read beyond them is a
 * crash. Header only, so that the plain mains can use it as well. */
#ifndef BLIX_TEST_SUPPORT_GUARD_PAGE_H
#define BLIX_TEST_SUPPORT_GUARD_PAGE_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct guard_page {
	char *start;
	size_t bytes; /* readable, before the guard */
};

static inline struct guard_page guard_page_new(size_t bytes_min)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct guard_page g = {.bytes = (bytes_min + page - 1) / page * page};

	g.start = mmap(NULL, g.bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	if (g.start == MAP_FAILED || mprotect(g.start + g.bytes, page, PROT_NONE))
		abort();
	return g;
}

/* A copy of `data` whose last byte is the last that can be read. Valid until the next call. */
static inline char *guard_page_place(struct guard_page *g, const void *data, size_t len)
{
	char *at = g->start + g->bytes - len;

	if (len > g->bytes)
		abort();
	memset(g->start, 'q', g->bytes - len);
	return memcpy(at, data, len);
}

static inline void guard_page_free(struct guard_page *g)
{
	(void)munmap(g->start, g->bytes + (size_t)sysconf(_SC_PAGESIZE));
}

#endif
