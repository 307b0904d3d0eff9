/* Goal: the key of redaction is kept, secret, and never taken from somebody else's file.
 * Method: a state directory made by hand, with files that are wrong in one thing each. */
#include "agent/state.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/blix-state-XXXXXX", path[64];
static struct state state;

static void setup(void)
{
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/redaction.key", dir);
	state = (struct state){.dir = open(dir, O_RDONLY | O_DIRECTORY)};
	state.lock = dup(state.dir);
}

static void teardown(void)
{
	state_close(&state);
	unlink(path);
	rmdir(path);
	cr_expect_eq(rmdir(dir), 0, "nothing else is left there");
}

TestSuite(state, .init = setup, .fini = teardown, .timeout = 30);

static void write_key(size_t len, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	cr_assert_eq(write(fd, "0123456789012345678901234567890123456789", len), (ssize_t)len);
	fchmod(fd, mode);
	close(fd);
}

Test(state, the_key_of_redaction_is_made_once_and_for_its_owner_only)
{
	uint8_t first[STATE_KEY_BYTES] = {0}, again[STATE_KEY_BYTES], none[STATE_KEY_BYTES] = {0};
	struct stat st;

	cr_assert_eq(state_redaction_key(&state, first), 0);
	cr_expect_neq(memcmp(first, none, sizeof(none)), 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0600);
	cr_expect_eq(st.st_size, STATE_KEY_BYTES);
	cr_assert_eq(state_redaction_key(&state, again), 0);
	cr_expect_eq(memcmp(first, again, sizeof(first)), 0);
}

Test(state, a_key_that_others_may_read_or_of_another_size_is_refused)
{
	uint8_t key[STATE_KEY_BYTES];
	const struct {
		size_t len;
		mode_t mode;
		int result;
	} cases[] = {
		{32, 0600, 0},	    {32, 0400, 0},	{32, 0640, -EPERM}, {32, 0604, -EPERM},
		{31, 0600, -EPERM}, {33, 0600, -EPERM}, {0, 0600, -EPERM},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_key(cases[i].len, cases[i].mode);
		cr_expect_eq(state_redaction_key(&state, key), cases[i].result, "%zu", i);
		unlink(path);
	}
	mkdir(path, 0700);
	cr_expect_eq(state_redaction_key(&state, key), -EPERM);
	rmdir(path);
	cr_assert_eq(symlink("/dev/zero", path), 0);
	cr_expect_eq(state_redaction_key(&state, key), -EPERM);
}

Test(state, without_a_directory_of_our_own_there_is_no_key)
{
	uint8_t key[STATE_KEY_BYTES];
	int lock = state.lock;

	state.lock = -1;
	cr_expect_eq(state_redaction_key(&state, key), -EBADF);
	state.lock = lock;
	cr_expect_neq(access(path, F_OK), 0);
}

Test(state, the_spool_is_where_the_option_says_else_in_a_state_directory_that_is_ours)
{
	static struct options o;

	snprintf(state.path, sizeof(state.path), "%s", dir);
	cr_expect_str_eq(state_spool(&state, &o), dir);
	snprintf(o.spool, sizeof(o.spool), "/elsewhere");
	cr_expect_str_eq(state_spool(&state, &o), "/elsewhere");
	close(state.lock);
	state.lock = -1; /* another agent's */
	cr_expect_str_eq(state_spool(&state, &o), "/elsewhere");
	o.spool[0] = '\0';
	cr_expect_null(state_spool(&state, &o));
}
