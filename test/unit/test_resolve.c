/* Goal: a name becomes addresses without the loop waiting, each question is answered once or, when
 * it is cancelled, never, and whatever is missing is an error and leaves nothing behind.
 * Method: numbers, names of /etc/hosts and names that cannot exist, from a loop of its own; limits of
 * descriptors and memory for the errors; descriptors counted before and after. */
#include "agent/export/resolve.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/resource.h>

static struct seen {
	struct event_base *base;
	int times, error;
	unsigned n;
	struct resolve_address first;
} seen;

static void on_done(void *arg, int error, const struct resolve_address *addresses, unsigned n)
{
	struct seen *s = arg;

	s->times++;
	s->error = error;
	s->n = n;
	if (n)
		s->first = addresses[0];
	event_base_loopbreak(s->base);
}

static void give_up(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	event_base_loopbreak(arg);
}

/* Runs until the answer, or for so long. */
static void turn(unsigned seconds)
{
	struct timeval tv = {.tv_sec = seconds};

	event_base_once(seen.base, -1, EV_TIMEOUT, give_up, seen.base, &tv);
	event_base_dispatch(seen.base);
}

static void open_base(void)
{
	seen = (struct seen){.base = event_base_new(), .error = -1};
	cr_assert_not_null(seen.base);
}

static void close_base(void)
{
	event_base_free(seen.base);
}

TestSuite(resolve, .init = open_base, .fini = close_base);

static unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int ask(const char *host, bool is_number, struct resolve **r)
{
	return resolve_begin(seen.base, host, 4317, is_number, on_done, &seen, r);
}

Test(resolve, numbers_are_themselves_with_the_port)
{
	struct resolve *r;
	char text[64];

	cr_assert_eq(ask("127.0.0.9", true, &r), 0);
	cr_assert_eq(seen.times, 0, "answered from within");
	turn(60);
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&seen.first.sa;

	cr_assert_eq(seen.error, 0);
	cr_assert_eq(seen.n, 1);
	cr_assert_eq(v4->sin_family, AF_INET);
	cr_assert_eq(ntohs(v4->sin_port), 4317);
	cr_assert_str_eq(inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text)), "127.0.0.9");

	cr_assert_eq(ask("2001:db8::1", true, &r), 0);
	turn(60);
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&seen.first.sa;

	cr_assert_eq(seen.times, 2);
	cr_assert_eq(v6->sin6_family, AF_INET6);
	cr_assert_str_eq(inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text)), "2001:db8::1");
}

Test(resolve, localhost_is_a_loopback_address_and_there_are_at_most_eight)
{
	unsigned before = open_files();
	struct resolve *r;

	cr_assert_eq(ask("localhost", false, &r), 0);
	turn(60);
	cr_assert_eq(seen.error, 0);
	cr_assert(seen.n >= 1 && seen.n <= RESOLVE_ADDRESSES_MAX);
	cr_assert_eq(seen.times, 1);
	cr_assert_leq(open_files(), before, "a descriptor was left");
}

Test(resolve, what_is_no_address_is_an_error_of_getaddrinfo)
{
	struct resolve *r;

	cr_assert_eq(ask("not-a-number", true, &r), 0);
	turn(60);
	cr_assert_eq(seen.error, EAI_NONAME);
	cr_assert_eq(seen.n, 0);
	cr_assert_eq(ask("no-such-host.invalid", false, &r), 0);
	turn(120);
	cr_assert_eq(seen.times, 2);
	cr_assert(seen.error == EAI_NONAME || seen.error == EAI_AGAIN, "%d", seen.error);
}

Test(resolve, who_cancels_is_never_answered)
{
	unsigned before = open_files();
	struct resolve *r;

	for (int i = 0; i < 50; i++) {
		cr_assert_eq(ask(i % 2 ? "localhost" : "127.0.0.1", !(i % 2), &r), 0);
		cr_assert_null(resolve_cancel(r));
	}
	cr_assert_null(resolve_cancel(NULL));
	/* The threads behind them end; one that is awaited answers alone. */
	cr_assert_eq(ask("127.0.0.1", true, &r), 0);
	turn(60);
	cr_assert_eq(seen.times, 1);
	for (int i = 0; i < 6000 && open_files() > before; i++)
		turn(0);
	cr_assert_leq(open_files(), before);
}

Test(resolve, without_descriptors_it_is_emfile)
{
	struct rlimit limit = {.rlim_cur = 3, .rlim_max = 1024};
	struct resolve *r = NULL;

	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_assert_eq(ask("127.0.0.1", true, &r), -EMFILE);
	cr_assert_null(r);
	limit.rlim_cur = 1024;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_assert_eq(ask("127.0.0.1", true, &r), 0);
	turn(60);
	cr_assert_eq(seen.times, 1);
}

#ifndef __SANITIZE_ADDRESS__ /* which needs address space of its own */
Test(resolve, without_a_thread_it_is_eagain_and_nothing_is_left)
{
	struct rlimit limit, none;
	struct resolve *r = NULL;
	unsigned before = open_files();

	/* Memory for the small things stays at hand; a thread's stack has to be mapped. */
	free(malloc(64 << 10));
	cr_assert_eq(getrlimit(RLIMIT_AS, &limit), 0);
	none = limit;
	none.rlim_cur = 1 << 20;
	cr_assert_eq(setrlimit(RLIMIT_AS, &none), 0);
	int err = ask("127.0.0.1", true, &r);

	cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
	cr_assert_eq(err, -EAGAIN, "%d", err);
	cr_assert_null(r);
	cr_assert_eq(open_files(), before);
}
#endif
