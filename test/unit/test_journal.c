/* Goal: logs reach the journal with ids and attributes, no attribute poses as a field of the
 * journal, and a journal that takes nothing holds up nobody. Method: a datagram socket of our own
 * as the journal, whose entries are taken apart here, byte by byte by the published protocol. (The
 * real journald reads them in test/e2e/16-journal.sh.) */
#include "agent/export/journal.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char dir[64], path[108];
static struct event_base *base;
static struct journal *journal;
static struct batch_resource *resource;
static int freed;
static char entry[2 << 20];
static size_t entry_len;

static void setup(void)
{
	strcpy(dir, "/dev/shm/blix-journal-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	base = event_base_new();
	resource = batch_resource_new();
	resource->node_id = 7;
	cr_assert_eq(journal_new(base, path, &journal), 0);
}

static void teardown(void)
{
	journal = journal_free(journal);
	batch_resource_release(resource);
	unlink(path);
	rmdir(dir);
	event_base_free(base);
}

TestSuite(journal, .init = setup, .fini = teardown, .timeout = 60);

static int listening(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	strcpy(a.sun_path, path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void on_freed(void *arg, struct batch *b)
{
	(void)arg;
	freed += b->abandoned ? 1000 : 1;
}

static struct batch *logs_of(uint32_t n, const char *body, size_t len)
{
	struct batch *b = batch_new(BATCH_LOGS, resource);

	for (uint32_t i = 0; i < n; i++)
		b->logs[i] = (struct batch_log){
			.unix_ns = 5, .body = {body, (uint32_t)len}, .severity = 17};
	b->n = n;
	b->freed = on_freed;
	return b;
}

static void give(struct batch *b)
{
	batch_seal(b);
	journal_take(journal, b);
	batch_release(b);
}

static void turn(void)
{
	struct timeval tick = {.tv_usec = 2000};

	event_base_loopexit(base, &tick);
	event_base_loop(base, 0);
}

static bool receive(int fd)
{
	char control[256];
	struct iovec io = {entry, sizeof(entry)};
	struct msghdr m = {.msg_iov = &io,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &m, 0);

	if (n < 0)
		return false;
	if (CMSG_FIRSTHDR(&m)) {
		int file;

		memcpy(&file, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(file));
		n = pread(file, entry, sizeof(entry), 0);
		close(file);
	}
	entry_len = (size_t)n;
	return true;
}

/* Value of `field` in the entry by the protocol: NAME "\n" u64 length, little endian, data "\n". */
static bool field_is(const char *field, const char *value, size_t len)
{
	const char *p = entry, *end = entry + entry_len;
	bool found = false;

	while (p < end) {
		const char *line = memchr(p, '\n', (size_t)(end - p));
		uint64_t n;

		cr_assert(line && end - line > 9, "no length");
		memcpy(&n, line + 1, 8);
		cr_assert(n < (uint64_t)(end - line - 9), "a length beyond the entry");
		cr_assert_eq(line[9 + n], '\n');
		if ((size_t)(line - p) == strlen(field) && !memcmp(p, field, strlen(field))) {
			cr_expect_not(found, "%s stands twice", field);
			found = n == len && !memcmp(line + 9, value, len);
		}
		p = line + 10 + n;
	}
	return found;
}

Test(journal, a_log_arrives_with_ids_and_attributes)
{
	struct batch_value list[] = {{.type = BATCH_I64, .i64 = -1},
				     {.type = BATCH_STRING, .n = 1, .text = "x"}};
	struct batch_attr attrs[] = {
		{{"db.system.name", 14}, {.type = BATCH_STRING, .n = 9, .text = "a\nPRIO=0\n"}},
		{{"priority", 8}, {.type = BATCH_BOOL, .boolean = true}},
		{{"list", 4}, {.type = BATCH_ARRAY, .n = 2, .array = list}},
	};
	int fd = listening();
	struct batch *b = logs_of(1, "two\nlines", 9);

	memset(b->logs[0].trace_id, 0xab, 16);
	memset(b->logs[0].span_id, 0x01, 8);
	b->logs[0].attrs = (struct batch_attrs){.at = attrs, .n = 3};
	give(b);
	for (int i = 0; i < 1000 && !receive(fd); i++)
		turn();
	cr_expect(field_is("MESSAGE", "two\nlines", 9));
	cr_expect(field_is("PRIORITY", "3", 1));
	cr_expect(field_is("TRACE_ID", "abababababababababababababababab", 32));
	cr_expect(field_is("SPAN_ID", "0101010101010101", 16));
	cr_expect(field_is("BLIXARD_NODE", "7", 1));
	cr_expect(field_is("DB_SYSTEM_NAME", "a\nPRIO=0\n", 9));
	cr_expect(field_is("ATTR_PRIORITY", "true", 4));
	cr_expect(field_is("LIST", "-1, x", 5));
	cr_expect_eq(freed, 1);
	close(fd);
}

Test(journal, a_field_name_is_one_that_the_journal_takes_and_poses_as_none_of_its_own)
{
	char field[JOURNAL_FIELD_MAX + 1], key[200];

	journal_field("syslog.identifier", 17, field);
	cr_expect_str_eq(field, "ATTR_SYSLOG_IDENTIFIER");
	journal_field("_pid", 4, field);
	cr_expect_str_eq(field, "ATTR__PID");
	journal_field("9lives", 6, field);
	cr_expect_str_eq(field, "ATTR_9LIVES");
	journal_field("a=b\n\xc3\xa9", 6, field);
	cr_expect_str_eq(field, "A_B___");
	memset(key, 'k', sizeof(key));
	journal_field(key, sizeof(key), field);
	cr_expect_eq(strlen(field), JOURNAL_FIELD_MAX);
	key[0] = '.';
	journal_field(key, sizeof(key), field);
	cr_expect_eq(strlen(field), JOURNAL_FIELD_MAX);
	cr_expect_eq(strncmp(field, "ATTR__K", 7), 0);
}

Test(journal, an_entry_too_large_for_a_datagram_travels_as_a_file)
{
	int fd = listening();
	size_t len = 600000;
	char *body = calloc(1, len);

	memset(body, 'b', len);
	give(logs_of(1, body, len));
	for (int i = 0; i < 1000 && !receive(fd); i++)
		turn();
	cr_expect(field_is("MESSAGE", body, len));
	close(fd);
	free(body);
}

Test(journal, a_journal_that_does_not_read_holds_up_nobody_and_gets_everything_later)
{
	struct journal_counts c;
	int fd = listening(), got = 0;

	give(logs_of(BATCH_ITEMS_MAX, "x", 1));
	for (int i = 0; i < 20; i++)
		turn();
	journal_counts(journal, &c);
	cr_expect_eq(c.waiting, 1, "its queue is full: the batch is held");
	cr_expect_lt(c.sent, BATCH_ITEMS_MAX);
	cr_expect_eq(freed, 0);
	for (int i = 0; i < 10000 && got < BATCH_ITEMS_MAX; i++) {
		turn();
		while (receive(fd))
			got++;
	}
	journal_counts(journal, &c);
	cr_expect_eq(got, BATCH_ITEMS_MAX);
	cr_expect_eq(c.sent, BATCH_ITEMS_MAX);
	cr_expect_eq(c.dropped, 0);
	cr_expect_eq(freed, 1);
	close(fd);
}

Test(journal, without_a_journal_the_queue_is_bounded_and_what_is_lost_is_counted)
{
	struct journal_counts c;

	for (int i = 0; i < JOURNAL_QUEUE_MAX + 1; i++)
		give(logs_of(3, "x", 1));
	turn();
	journal_counts(journal, &c);
	cr_expect_eq(c.waiting, JOURNAL_QUEUE_MAX);
	cr_expect_eq(c.dropped, 3);
	cr_expect_eq(freed, 1);
	for (int i = 0; i < 20000 && c.waiting; i++) { /* ten seconds, then each is given up */
		turn();
		journal_counts(journal, &c);
	}
	cr_expect_eq(c.waiting, 0);
	cr_expect_eq(c.dropped, 3 * (JOURNAL_QUEUE_MAX + 1));
	cr_expect_eq(freed, JOURNAL_QUEUE_MAX + 1);
}

Test(journal, at_the_end_what_waits_is_abandoned_so_that_it_stays_in_the_ring)
{
	char longer[200];
	struct journal *other = NULL;

	give(logs_of(3, "x", 1));
	journal = journal_free(journal);
	cr_expect_eq(freed, 1000);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[199] = '\0';
	cr_expect_eq(journal_new(base, longer, &other), -ENAMETOOLONG);
	cr_expect_null(other);
}
