/* test/support/spool_fixture.c - see spool_fixture.h. */
#include "test/support/spool_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DEADLINE_S = 60 };

struct answer {
	bool there;
	int error;
	struct spool_row row;
	void *value;
	size_t len;
};

static void must(bool fine, const char *what)
{
	if (fine)
		return;
	(void)fprintf(stderr, "spool_fixture: %s: %s\n", what, strerror(errno));
	abort();
}

void spool_bench_open(struct spool_bench *b, const struct spool_options *options)
{
	b->options = *options;
	b->base = event_base_new();
	must(b->base != NULL, "event_base_new");
	must(disk_new(b->base, 64, &b->disk) == 0, "disk_new");
	must(spool_new(b->disk, options, &b->spool) == 0, "spool_new");
}

void spool_bench_close(struct spool_bench *b)
{
	spool_free(b->spool);
	disk_free(b->disk, DEADLINE_S * 1000);
	event_base_free(b->base);
}

static bool wait_for(struct spool_bench *b, const bool *there)
{
	struct timespec start, now;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (!*there) {
		const struct timeval slice = {.tv_usec = 100000};

		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - start.tv_sec > DEADLINE_S)
			return false;
		event_base_loopexit(b->base, &slice);
		event_base_loop(b->base, EVLOOP_ONCE);
	}
	return true;
}

static void on_plain(void *arg, int error)
{
	struct answer *a = arg;

	a->there = true;
	a->error = error;
}

static void on_put(void *arg, int error, int64_t id)
{
	(void)id;
	on_plain(arg, error);
}

static void on_row(void *arg, int error, const struct spool_row *row)
{
	struct answer *a = arg;

	if (row)
		a->row = *row;
	on_plain(arg, error);
}

static void on_value(void *arg, int error, const void *value, size_t len)
{
	struct answer *a = arg;

	if (error == 0) {
		a->value = malloc(len ? len : 1);
		must(a->value != NULL, "malloc");
		memcpy(a->value, value, len);
		a->len = len;
	}
	on_plain(arg, error);
}

static int finish(struct spool_bench *b, int r, struct answer *a)
{
	if (r < 0)
		return r;
	return wait_for(b, &a->there) ? a->error : -ETIME;
}

int spool_bench_put(struct spool_bench *b, const char *destination, const struct spool_row *row,
		    const struct spool_origin *origin)
{
	struct answer a = {0};

	return finish(
		b,
		spool_put(b->spool, destination, "traces", row, origin, origin ? 1 : 0, on_put, &a),
		&a);
}

int spool_bench_take(struct spool_bench *b, const char *destination, struct spool_row *ret_row)
{
	struct answer a = {0};
	int r = finish(b, spool_take(b->spool, destination, "traces", on_row, &a), &a);

	if (r == 0)
		*ret_row = a.row;
	return r;
}

int spool_bench_set(struct spool_bench *b, const char *key, const void *value, size_t len)
{
	struct answer a = {0};

	return finish(b, spool_set(b->spool, key, value, len, on_plain, &a), &a);
}

int spool_bench_get(struct spool_bench *b, const char *key, void **ret_value, size_t *ret_len)
{
	struct answer a = {0};
	int r = finish(b, spool_get(b->spool, key, on_value, &a), &a);

	if (r == 0) {
		*ret_value = a.value;
		*ret_len = a.len;
	}
	return r;
}

void spool_bench_settle(struct spool_bench *b)
{
	void *value;
	size_t len;
	int r;

	/* While the queue is full not even this is taken. */
	while ((r = spool_bench_get(b, "settle", &value, &len)) == -ENOBUFS)
		event_base_loop(b->base, EVLOOP_ONCE);
	if (r == 0)
		free(value);
}

struct spool_figures spool_bench_figures(struct spool_bench *b, const char *destination)
{
	struct spool_figures f;

	spool_figures(b->spool, destination, "traces", &f);
	return f;
}

void spool_dir_make(char *path, size_t size)
{
	const char *tmp = getenv("TMPDIR");

	(void)snprintf(path, size, "%s/blix-spool-XXXXXX", tmp ? tmp : "/tmp");
	must(mkdtemp(path) != NULL, "mkdtemp");
}

void spool_dir_remove(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		char name[4096];

		(void)snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		if (e->d_name[0] != '.' && unlink(name) < 0 && errno == EISDIR)
			spool_dir_remove(name);
	}
	if (dir)
		closedir(dir);
	(void)rmdir(path);
}
