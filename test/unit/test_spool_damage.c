/* Goal: no state of the files or the disk keeps the spool from starting; what comes out is what went
 * in or is counted; a disk that fails is told, and used again when it works.
 * Method: real files are cut, flipped, zeroed, deleted and replaced; write errors are given to SQLite
 * in place of pwrite's result; a small tmpfs is really full. */
#include "test/support/spool_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 12, PAGE = 4096 };

static struct spool_bench bench;
static char dir[256];

static void setup(void)
{
	spool_dir_make(dir, sizeof(dir));
}

static void teardown(void)
{
	spool_dir_remove(dir);
}

TestSuite(spool_damage, .init = setup, .fini = teardown, .timeout = 240);

static void open_spool(void)
{
	const struct spool_options o = {.dir = dir, .free_percent_min = 1};

	spool_bench_open(&bench, &o);
	spool_bench_settle(&bench);
}

static const char *path(const char *name)
{
	static char names[4][512];
	static int n;
	char *p = names[n++ % 4];

	(void)snprintf(p, sizeof(names[0]), "%s/%s", dir, name);
	return p;
}

static size_t len_of(uint32_t number)
{
	return 200 + number % 3 * 5000;
}

static int put(uint32_t number)
{
	struct spool_row row = {.len = len_of(number), .items = number + 1};
	int r;

	row.body = malloc(row.len);
	for (size_t i = 0; i < row.len; i++)
		row.body[i] = (uint8_t)(number + i * 7);
	r = spool_bench_put(&bench, "otlp", &row, NULL);
	free(row.body);
	return r;
}

/* Take and finish everything; each must be whole and come once. The number of rows, or the error. */
static int drain(uint32_t rows, bool *seen)
{
	int n = 0;

	memset(seen, 0, rows * sizeof(*seen));
	for (;;) {
		struct spool_row row;
		int r = spool_bench_take(&bench, "otlp", &row);
		uint32_t number;

		if (r < 0)
			return r == -ENOENT ? n : r;
		number = row.items - 1;
		cr_assert_lt(number, rows);
		cr_assert_not(seen[number], "row %u came twice", number);
		cr_assert_eq(row.len, len_of(number));
		for (size_t i = 0; i < row.len; i++)
			cr_assert_eq(row.body[i], (uint8_t)(number + i * 7));
		seen[number] = true;
		free(row.body);
		cr_assert_eq(spool_finish(bench.spool, row.id, true), 0);
		n++;
	}
}

struct image {
	uint8_t *bytes;
	size_t len;
};

static struct image load_file(const char *name)
{
	struct image image = {0};
	FILE *f = fopen(path(name), "re");

	if (!f)
		return image;
	(void)fseek(f, 0, SEEK_END);
	image.len = (size_t)ftell(f);
	rewind(f);
	image.bytes = malloc(image.len + 1);
	cr_assert_eq(fread(image.bytes, 1, image.len, f), image.len);
	(void)fclose(f);
	return image;
}

static void store_file(const char *name, const uint8_t *bytes, size_t len)
{
	FILE *f = fopen(path(name), "we");

	cr_assert_eq(fwrite(bytes, 1, len, f), len);
	cr_assert_eq(fclose(f), 0);
}

/* The files of a spool with ROWS rows: `wal` empty after a clean end, else as after a kill. */
static void make_images(bool killed, struct image *ret_db, struct image *ret_wal)
{
	open_spool();
	for (uint32_t i = 0; i < ROWS; i++)
		cr_assert_eq(put(i), 0);
	if (killed) {
		*ret_db = load_file("spool.db");
		*ret_wal = load_file("spool.db-wal");
	}
	spool_bench_close(&bench);
	if (!killed) {
		*ret_db = load_file("spool.db");
		*ret_wal = (struct image){0};
	}
}

/* Start on these files: never refused, what comes out is whole, it stores again. */
static void start_on(const uint8_t *db, size_t db_len, const uint8_t *wal, size_t wal_len, bool all)
{
	struct spool_status status;
	struct spool_figures f;
	bool seen[ROWS + 1];
	int rows;

	unlink(path("spool.db.damaged"));
	store_file("spool.db", db, db_len);
	unlink(path("spool.db-wal"));
	if (wal)
		store_file("spool.db-wal", wal, wal_len);
	open_spool();
	rows = drain(ROWS, seen);
	cr_assert_geq(rows, 0, "%s", strerror(-rows));
	f = spool_bench_figures(&bench, "otlp");
	spool_status(bench.spool, &status);
	cr_assert(status.open);
	if (all)
		cr_assert(rows == ROWS || status.damaged > 0 ||
				  f.dropped_items[SPOOL_DROP_CORRUPT] > 0,
			  "%d rows and nothing said", rows);
	cr_assert_eq(put(ROWS), 0);
	cr_assert_eq(drain(ROWS + 1, seen), 1);
	cr_assert_eq(spool_bench_figures(&bench, "otlp").rows, 0);
	spool_bench_close(&bench);
}

Test(spool_damage, a_database_cut_anywhere_starts)
{
	struct image db, wal;

	make_images(false, &db, &wal);
	for (size_t at = 0; at < db.len; at += at < 2 * PAGE ? 512 : 3001)
		start_on(db.bytes, at, NULL, 0, at > 0);
	free(db.bytes);
	free(wal.bytes);
}

Test(spool_damage, a_wal_cut_anywhere_starts)
{
	struct image db, wal;

	make_images(true, &db, &wal);
	cr_assert_gt(wal.len, 0);
	for (size_t at = 0; at < wal.len; at += wal.len / 40)
		start_on(db.bytes, db.len, wal.bytes, at, false);
	start_on(db.bytes, db.len, wal.bytes, wal.len, true);
	free(db.bytes);
	free(wal.bytes);
}

Test(spool_damage, flipped_bytes_never_come_out)
{
	struct image db, wal;

	make_images(false, &db, &wal);
	srandom(1);
	for (int i = 0; i < 150; i++) {
		size_t at = i < 50 ? (size_t)i * 2 : (size_t)random() % db.len;

		db.bytes[at] ^= 0x41;
		start_on(db.bytes, db.len, NULL, 0, false);
		db.bytes[at] ^= 0x41;
	}
	free(db.bytes);
	free(wal.bytes);
}

Test(spool_damage, a_zeroed_page_costs_its_rows_and_no_more)
{
	struct image db, wal;
	uint8_t page[PAGE];

	make_images(false, &db, &wal);
	for (size_t at = 0; at + PAGE <= db.len; at += PAGE) {
		memcpy(page, db.bytes + at, PAGE);
		memset(db.bytes + at, 0, PAGE);
		start_on(db.bytes, db.len, NULL, 0, false);
		memcpy(db.bytes + at, page, PAGE);
	}
	free(db.bytes);
	free(wal.bytes);
}

/* ---- changed behind our back ------------------------------------------------------------------- */

static void change(const char *sql)
{
	sqlite3 *handle;

	cr_assert_eq(sqlite3_open(path("spool.db"), &handle), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(handle, sql, NULL, NULL, NULL), SQLITE_OK, "%s",
		     sqlite3_errmsg(handle));
	sqlite3_close(handle);
}

static struct spool_status status_now(void)
{
	struct spool_status status;

	spool_bench_settle(&bench);
	spool_status(bench.spool, &status);
	return status;
}

static void restart_changed(const char *sql)
{
	open_spool();
	for (uint32_t i = 0; i < ROWS; i++)
		cr_assert_eq(put(i), 0);
	spool_bench_close(&bench);
	change(sql);
	open_spool();
}

Test(spool_damage, a_row_whose_body_changed_is_dropped_and_its_items_counted)
{
	bool seen[ROWS];

	restart_changed("UPDATE body SET data=zeroblob(length(data)) WHERE id=3;"
			"DELETE FROM body WHERE id=5;");
	cr_expect_eq(drain(ROWS, seen), ROWS - 2);
	cr_expect_eq(spool_bench_figures(&bench, "otlp").dropped_items[SPOOL_DROP_CORRUPT], 3 + 5);
	cr_expect_eq(status_now().damaged, 0, "one row is no reason to replace the database");
	spool_bench_close(&bench);
}

Test(spool_damage, rows_of_a_changed_book_are_brought_over_but_the_changed_one)
{
	bool seen[ROWS];

	restart_changed("UPDATE request SET items=1000000 WHERE id=3");
	cr_expect_eq(status_now().damaged, 1);
	cr_expect_eq(spool_bench_figures(&bench, "otlp").rows, ROWS - 1);
	cr_expect_eq(drain(ROWS, seen), ROWS - 1);
	cr_expect_not(seen[2]);
	cr_expect_eq(access(path("spool.db.damaged"), F_OK), 0, "kept for whoever wants to look");
	spool_bench_close(&bench);
}

Test(spool_damage, a_table_that_is_gone_or_a_stranger_is_moved_aside)
{
	bool seen[ROWS];

	restart_changed("DROP TABLE body");
	cr_expect_eq(status_now().damaged, 1);
	cr_expect_eq(drain(ROWS, seen), 0);
	spool_bench_close(&bench);
	change("PRAGMA user_version=2");
	open_spool();
	cr_expect_eq(status_now().damaged, 1);
	spool_bench_close(&bench);
	unlink(path("spool.db"));
	cr_assert_eq(mkdir(path("spool.db"), 0700), 0);
	open_spool();
	cr_expect_eq(status_now().damaged, 1);
	cr_expect_eq(put(0), 0);
	spool_bench_close(&bench);
	rmdir(path("spool.db.damaged"));
}

Test(spool_damage, a_database_deleted_while_in_use_is_noticed_before_the_next_answer)
{
	bool seen[ROWS];

	open_spool();
	for (uint32_t i = 0; i < 3; i++)
		cr_assert_eq(put(i), 0);
	cr_assert_eq(unlink(path("spool.db")), 0);
	cr_assert_eq(put(3), 0);
	cr_expect_eq(status_now().damaged, 1);
	cr_expect_eq(spool_bench_figures(&bench, "otlp").dropped_items[SPOOL_DROP_CORRUPT],
		     1 + 2 + 3);
	spool_bench_close(&bench);
	open_spool();
	cr_expect_eq(drain(ROWS, seen), 1);
	cr_expect(seen[3]);
	spool_bench_close(&bench);
}

Test(spool_damage, a_changed_value_is_said_once_and_removed)
{
	void *value;
	size_t len;

	open_spool();
	cr_assert_eq(spool_bench_set(&bench, "k", "value", 5), 0);
	spool_bench_close(&bench);
	change("UPDATE value SET data=x'00' WHERE key='k'");
	open_spool();
	cr_expect_eq(spool_bench_get(&bench, "k", &value, &len), -EBADMSG);
	cr_expect_eq(spool_bench_get(&bench, "k", &value, &len), -ENOENT);
	spool_bench_close(&bench);
}

/* ---- a disk that fails ------------------------------------------------------------------------- */

static volatile int write_error;

static ssize_t failing_pwrite(int fd, const void *bytes, size_t len, off_t at)
{
	if (write_error) {
		errno = write_error;
		return -1;
	}
	return pwrite(fd, bytes, len, at);
}

static void intercept_writes(void)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
	int replaced = 0;

	for (int i = 0; i < 2; i++)
		replaced += vfs->xSetSystemCall(vfs, i ? "pwrite64" : "pwrite",
						(sqlite3_syscall_ptr)failing_pwrite) == SQLITE_OK;
	cr_assert_gt(replaced, 0);
}

Test(spool_damage, a_failing_disk_is_told_and_used_again_when_it_works)
{
	static const int errors[] = {EIO, ENOSPC, EROFS, EDQUOT};
	bool seen[ROWS];
	uint32_t n = 0;
	int r;

	intercept_writes();
	open_spool();
	cr_assert_eq(put(n++), 0);
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		write_error = errors[i];
		r = put(n);
		cr_expect_eq(r, -errors[i], "%d and not %d", r, -errors[i]);
		cr_expect(status_now().degraded);
		cr_expect_neq(status_now().problem[0], '\0');
		spool_tick(bench.spool);
		cr_expect(status_now().degraded, "and still is");
		write_error = 0;
		spool_tick(bench.spool);
		cr_expect_not(status_now().degraded);
		cr_expect_str_eq(status_now().problem, "");
		cr_assert_eq(put(n++), 0);
	}
	cr_expect_eq(status_now().damaged, 0);
	spool_bench_close(&bench);
	open_spool();
	cr_expect_eq(drain(ROWS, seen), (int)n);
	spool_bench_close(&bench);
}

Test(spool_damage, rows_can_be_taken_from_a_disk_that_cannot_write_and_are_removed_later)
{
	struct spool_row row;
	bool seen[ROWS];

	intercept_writes();
	open_spool();
	put(0);
	put(1);
	write_error = EIO;
	cr_assert_eq(spool_bench_take(&bench, "otlp", &row), 0);
	free(row.body);
	cr_assert_eq(spool_finish(bench.spool, row.id, true), 0);
	spool_bench_settle(&bench);
	cr_expect_eq(spool_bench_figures(&bench, "otlp").rows, 2);
	write_error = 0;
	spool_tick(bench.spool);
	spool_bench_settle(&bench);
	cr_expect_eq(spool_bench_figures(&bench, "otlp").rows, 1);
	cr_expect_eq(drain(ROWS, seen), 1);
	cr_expect(seen[1]);
	spool_bench_close(&bench);
}

Test(spool_damage, a_file_system_below_the_floor_takes_nothing_more)
{
	const struct spool_options o = {.dir = dir, .free_percent_min = 99};

	spool_bench_open(&bench, &o);
	cr_expect_eq(put(0), -ENOSPC);
	cr_expect(status_now().degraded);
	cr_expect_not_null(strstr(status_now().problem, "is free"));
	spool_bench_close(&bench);
}

Test(spool_damage, a_directory_that_is_missing_or_not_ours_is_told_and_tried_again)
{
	rmdir(dir);
	open_spool();
	cr_expect_eq(put(0), -ENOENT);
	cr_expect_not(status_now().open);
	cr_assert_eq(mkdir(dir, 0500), 0);
	if (geteuid() == 0)
		cr_assert_eq(seteuid(65534), 0);
	spool_bench_close(&bench);
	open_spool(); /* the disk thread has the user of whoever starts it */
	cr_expect_eq(put(0), -EACCES);
	spool_bench_close(&bench);
	(void)!seteuid(0);
	cr_assert_eq(chmod(dir, 0700), 0);
	open_spool();
	cr_expect_eq(put(0), 0);
	spool_bench_close(&bench);
}

Test(spool_damage, a_second_agent_is_refused_until_the_first_ends)
{
	int ready[2];
	char c;
	pid_t child;

	cr_assert_eq(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		open_spool();
		if (put(0) == 0)
			(void)!write(ready[1], "x", 1);
		for (;;)
			pause();
	}
	cr_assert_eq(read(ready[0], &c, 1), 1);
	open_spool();
	cr_expect_eq(put(1), -EBUSY);
	cr_expect_not_null(strstr(status_now().problem, "another process"));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	cr_expect_eq(put(1), 0);
	cr_expect_eq(spool_bench_figures(&bench, "otlp").rows, 2,
		     "and what it had stored is there");
	spool_bench_close(&bench);
}

Test(spool_damage, a_full_and_then_read_only_file_system_loses_nothing_it_confirmed)
{
	int confirmed = 0, r = 0, filler;
	static char kib[1024];
	bool *seen;

	if (mount("none", dir, "tmpfs", 0, "size=6m") < 0)
		cr_skip_test("cannot mount a tmpfs: %s", strerror(errno));
	open_spool();
	while (confirmed < 5000 && (r = put((uint32_t)confirmed)) == 0)
		confirmed++;
	cr_expect_eq(r, -ENOSPC);
	filler = open(path("filler"), O_CREAT | O_WRONLY, 0600);
	while (write(filler, kib, sizeof(kib)) > 0)
		;
	close(filler);
	cr_expect_eq(put((uint32_t)confirmed), -ENOSPC);
	unlink(path("filler"));
	spool_bench_close(&bench);
	cr_assert_eq(mount("none", dir, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=16m"), 0);
	open_spool();
	r = put((uint32_t)confirmed);
	cr_expect_eq(r, -EROFS, "%d", r);
	cr_expect(status_now().degraded);
	cr_assert_eq(mount("none", dir, "tmpfs", MS_REMOUNT, "size=16m"), 0);
	cr_expect_eq(put((uint32_t)confirmed), 0);
	seen = calloc((size_t)confirmed + 1, sizeof(*seen));
	cr_expect_eq(drain((uint32_t)confirmed + 1, seen), confirmed + 1);
	free(seen);
	spool_bench_close(&bench);
	cr_assert_eq(umount(dir), 0);
}
