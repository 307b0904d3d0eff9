/* Goal: a line is one line whatever is in it, a repeated failure is told once in five minutes with
 * its count, and a reader that does not read holds up nobody. Method: the pure parts with given
 * times; then the writing thread against a pipe that is full. */
#include "agent/log.h"
#include "agent/options.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char out[8192];

static const char *escaped(const char *text, bool json)
{
	log_escape(out, sizeof(out), text, strlen(text), json);
	return out;
}

Test(log, control_characters_and_broken_utf8_become_visible)
{
	cr_expect_str_eq(escaped("a\nb\x1b[31m\x7f", false), "a\\x0ab\\x1b[31m\\x7f");
	cr_expect_str_eq(escaped("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", false),
			 "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
	cr_expect_str_eq(escaped("\xc3(\xff", false), "\\xc3(\\xff");
	cr_expect_str_eq(escaped("say \"hi\"\\\n\x01", true), "say \\\"hi\\\"\\\\\\u000a\\u0001");
	cr_expect_str_eq(escaped("\xed\xa0\x80", true), "\\ufffd\\ufffd\\ufffd");
}

Test(log, a_long_text_is_cut_at_a_whole_character)
{
	char small[6];

	cr_expect_eq(log_escape(small, sizeof(small), "abcd\xc3\xa9", 6, false), 4);
	cr_expect_str_eq(small, "abcd");
	cr_expect_eq(log_escape(small, sizeof(small), "abc\xc3\xa9", 5, false), 5);
	cr_expect_eq(log_escape(small, 1, "a", 1, false), 0);
	cr_expect_str_eq(small, "");
	cr_expect_eq(log_escape(small, sizeof(small), "abcd\n", 5, true), 4);
}

Test(log, a_text_line_has_time_and_level_or_the_journals_priority)
{
	log_compose(out, sizeof(out), LOG_FORMAT_TEXT, false, LOG_LEVEL_WARNING,
		    UINT64_C(1795337464123456789), "node_attached", "hello", 0);
	cr_expect_str_eq(out, "2026-11-22T08:51:04.123Z warning: event=node_attached hello\n");
	log_compose(out, sizeof(out), LOG_FORMAT_TEXT, true, LOG_LEVEL_WARNING, 0, "kind", "hello",
		    2);
	cr_expect_str_eq(out, "<4>event=kind hello (2 more since the last such line)\n");
	log_compose(out, sizeof(out), LOG_FORMAT_TEXT, true, LOG_LEVEL_ERROR, 0, NULL, "x", 0);
	cr_expect_str_eq(out, "<3>x\n");
}

Test(log, a_json_line_is_json_whatever_is_in_it)
{
	char message[LOG_LINE_BYTES];
	json_t *json;
	size_t len;

	for (size_t i = 0; i < sizeof(message) - 1; i++)
		message[i] = (char)(i % 255 + 1);
	message[sizeof(message) - 1] = '\0';
	len = log_compose(out, sizeof(out), LOG_FORMAT_JSON, false, LOG_LEVEL_ERROR,
			  UINT64_C(1795337464123456789), "node_attached", message, 7);
	cr_expect_eq(len, strlen(out));
	cr_expect_eq(strchr(out, '\n'), out + len - 1);
	json = json_loads(out, 0, NULL);
	cr_assert(json);
	cr_expect_str_eq(json_string_value(json_object_get(json, "level")), "error");
	cr_expect_str_eq(json_string_value(json_object_get(json, "time")),
			 "2026-11-22T08:51:04.123Z");
	cr_expect_eq(json_integer_value(json_object_get(json, "repeated")), 7);
	cr_expect_str_eq(json_string_value(json_object_get(json, "event")), "node_attached");
	cr_expect(json_string_length(json_object_get(json, "message")) > 500);
	json_decref(json);
}

Test(log, a_repeated_failure_is_one_line_in_five_minutes_with_its_count)
{
	static struct log_limit limit;
	uint64_t muted = 99, start = 1000;

	cr_expect(log_limit_pass(&limit, "a", start, &muted));
	cr_expect_eq(muted, 0);
	for (int i = 0; i < 5; i++)
		cr_expect_not(log_limit_pass(&limit, "a", start + LOG_REPEAT_NS - 1, &muted));
	cr_expect(log_limit_pass(&limit, "b", start + 1, &muted), "another key speaks for itself");
	cr_expect_eq(muted, 0);
	cr_expect(log_limit_pass(&limit, "a", start + LOG_REPEAT_NS, &muted));
	cr_expect_eq(muted, 5);
	cr_expect_not(log_limit_pass(&limit, "a", start + LOG_REPEAT_NS + 1, &muted));
	log_limit_forget(&limit, "a");
	cr_expect(log_limit_pass(&limit, "a", start + LOG_REPEAT_NS + 2, &muted));
	cr_expect_eq(muted, 0);
}

Test(log, a_full_table_gives_up_the_key_that_is_silent_for_longest)
{
	static struct log_limit limit;
	char key[LOG_KEY_MAX + 20];
	uint64_t muted;

	for (int i = 0; i < LOG_KEYS_MAX; i++) {
		snprintf(key, sizeof(key), "key %d", i);
		cr_expect(log_limit_pass(&limit, key, 1000 + (uint64_t)i, &muted));
	}
	cr_expect(log_limit_pass(&limit, "new", 2000, &muted));
	cr_expect_not(log_limit_pass(&limit, "key 1", 2001, &muted));
	cr_expect(log_limit_pass(&limit, "key 0", 2002, &muted), "it gave up its place");
	memset(key, 'k', sizeof(key) - 1); /* longer than a place holds: still one key */
	key[sizeof(key) - 1] = '\0';
	cr_expect(log_limit_pass(&limit, key, 3000, &muted));
	cr_expect_not(log_limit_pass(&limit, key, 3001, &muted));
}

/* Read until `needle` has come or ten seconds are over. */
static bool read_until(int fd, const char *needle)
{
	size_t len = 0;

	for (int turns = 0; turns < 1000; turns++) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&p, 1, 10) <= 0)
			continue;
		if (len > sizeof(out) / 2) { /* keep the end */
			memmove(out, out + len - 256, 256);
			len = 256;
		}
		n = read(fd, out + len,
			 sizeof(out) / 2 - 1 < sizeof(out) - len - 1 ? sizeof(out) / 2 - 1
								     : sizeof(out) - len - 1);
		if (n <= 0)
			return false;
		len += (size_t)n;
		out[len] = '\0';
		if (strstr(out, needle))
			return true;
	}
	return false;
}

Test(log, a_full_pipe_holds_up_nobody_and_what_is_lost_is_counted_and_told, .timeout = 20)
{
	int pipes[2];
	uint64_t said = 0, lost;
	struct pollfd readable;
	char note[64];

	cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
	readable = (struct pollfd){.fd = pipes[0], .events = POLLIN};
	cr_assert_eq(log_start(pipes[1], LOG_FORMAT_TEXT, LOG_LEVEL_INFO), 0);
	/* Nobody reads: pipe and buffer fill up. A log that waits would hang here for ever. */
	while (log_dropped() == 0 && said++ < 1000000)
		log_line(LOG_LEVEL_INFO, "kind", "line %llu of many", (unsigned long long)said);
	cr_assert_gt(log_dropped(), 0);
	cr_expect_gt(said, LOG_BUFFER_BYTES / 100);
	log_line(LOG_LEVEL_INFO, "kind", "also lost");
	cr_expect_eq(log_dropped(), 2);
	log_line(LOG_LEVEL_DEBUG, "kind", "below the level: no loss");
	cr_expect_eq(log_dropped(), 2);
	cr_assert(read_until(pipes[0], "line 500 of many\n"));
	/* Read on until a line fits in again: the note about the lost ones stands before it. */
	for (lost = log_dropped() - 1; lost != log_dropped();) {
		while (poll(&readable, 1, 0) > 0 && read(pipes[0], out, 4096) > 0)
			;
		lost = log_dropped();
		log_line(LOG_LEVEL_ERROR, "kind", "here again");
	}
	cr_assert(read_until(pipes[0], "here again\n"));
	snprintf(note, sizeof(note), "%llu lines were lost here", (unsigned long long)lost);
	cr_expect(strstr(out, note), "%s", out);
	log_stop(2000);
	log_line(LOG_LEVEL_INFO, "kind", "after the end, at once");
	cr_expect(read_until(pipes[0], "after the end, at once\n"));
	close(pipes[0]);
	close(pipes[1]);
}

Test(log, stopping_does_not_wait_for_a_reader_that_never_reads, .timeout = 20)
{
	int pipes[2];

	cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
	cr_assert_eq(log_start(pipes[1], LOG_FORMAT_TEXT, LOG_LEVEL_INFO), 0);
	for (int i = 0; i < 20000; i++)
		log_line(LOG_LEVEL_INFO, "kind", "line %d", i);
	log_stop(50);
	cr_expect_gt(log_dropped(), 0);
}

Test(log, the_journal_gets_priorities_instead_of_times)
{
	int pipes[2];
	char stream[64];
	struct stat st;

	cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
	cr_assert_eq(fstat(pipes[1], &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	cr_assert_eq(log_start(pipes[1], LOG_FORMAT_TEXT, LOG_LEVEL_INFO), 0);
	log_repeated(LOG_LEVEL_WARNING, "kind", "k", "once");
	log_repeated(LOG_LEVEL_WARNING, "kind", "k", "twice");
	log_settled("k");
	log_repeated(LOG_LEVEL_ERROR, "kind", "k", "again");
	cr_assert(read_until(pipes[0], "<3>event=kind again\n"));
	cr_expect_str_eq(out, "<4>event=kind once\n<3>event=kind again\n");
	log_stop(2000);
}

Test(log, another_stream_than_the_journals_keeps_its_times)
{
	int pipes[2];

	setenv("JOURNAL_STREAM", "1:2", 1);
	cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
	cr_assert_eq(log_start(pipes[1], LOG_FORMAT_JSON, LOG_LEVEL_ERROR), 0);
	log_line(LOG_LEVEL_WARNING, "kind", "below the level");
	log_line(LOG_LEVEL_ERROR, "kind", "x");
	cr_assert(read_until(pipes[0], "\n"));
	cr_expect(!strncmp(out, "{\"time\":\"20", 11), "%s", out);
	cr_expect_null(strstr(out, "below"));
	log_stop(2000);
}
