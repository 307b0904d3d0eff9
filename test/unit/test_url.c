/* Goal: an endpoint's address is taken apart as the OTLP specification says, everything else is
 * refused with a reason, and no reason repeats what may be secret.
 * Method: a table of good addresses with their parts, one of bad ones with the word of the reason. */
#include "agent/export/url.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct good {
	const char *text, *host, *path;
	uint16_t port;
	bool tls, bare, number, loopback;
} good[] = {
	{"http://localhost:4318", "localhost", "", 4318, false, false, false, true},
	{"https://C.example/my/", "c.example", "/my/", 0, true, false, false, false},
	{"HTTPS://c:65535/v1/traces?k=v", "c", "/v1/traces?k=v", 65535, true, false, false, false},
	{"http://c?x", "c", "/?x", 0, false, false, false, false},
	{"http://[::1]:4317", "::1", "", 4317, false, false, true, true},
	{"http://[2001:db8::1]/p", "2001:db8::1", "/p", 0, false, false, true, false},
	{"http://[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", "", 1, false, false, true, true},
	{"http://127.1.2.3:1", "127.1.2.3", "", 1, false, false, true, true},
	{"collector:4317", "collector", "", 4317, false, true, false, false},
	{"[::1]:4317", "::1", "", 4317, false, true, true, true},
	{"10.0.0.1:4317", "10.0.0.1", "", 4317, false, true, true, false},
};

static const struct bad {
	const char *text, *word;
} bad[] = {
	{"", "host"},
	{"http://", "host"},
	{"http://:4317", "host"},
	{"ftp://s3cret", "scheme"},
	{"unix:///s3cret", "scheme"},
	{"http://u:s3cret@h:1", "credentials"},
	{"http://h:0", "port"},
	{"http://h:65536", "port"},
	{"http://h:", "port"},
	{"http://h:12x", "port"},
	{"http://h:000001", "port"},
	{"http://[::1", "bracket"},
	{"http://[::1]x", "bracket"},
	{"http://[s3cret]", "IPv6"},
	{"http://h/a b", "space"},
	{"http://h\r\ns3cret: x", "control"},
	{"http://h/#s3cret", "fragment"},
	{"http://s3c!ret", "character"},
};

Test(url, an_address_is_taken_apart)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		const struct good *g = &good[i];
		char reason[URL_REASON_MAX] = "";
		struct url u;

		cr_assert_eq(url_parse(g->text, true, &u, reason), 0, "%s: %s", g->text, reason);
		cr_expect_str_eq(u.host, g->host);
		cr_expect_str_eq(u.path, g->path);
		cr_expect_eq(u.port, g->port);
		cr_expect_eq(u.tls, g->tls, "%s", g->text);
		cr_expect_eq(u.bare, g->bare, "%s", g->text);
		cr_expect_eq(u.is_number, g->number, "%s", g->text);
		cr_expect_eq(url_is_loopback(&u), g->loopback, "%s", g->text);
	}
}

Test(url, what_is_not_an_address_is_refused_without_repeating_it)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char reason[URL_REASON_MAX] = "";
		struct url u = {.port = 77};

		cr_expect_eq(url_parse(bad[i].text, true, &u, reason), -EINVAL, "%s", bad[i].text);
		cr_expect(strstr(reason, bad[i].word), "%s: %s", bad[i].text, reason);
		cr_expect_not(strstr(reason, "s3c"), "%s", reason);
		cr_expect_eq(u.port, 77, "written on success only");
	}
}

Test(url, a_bare_address_is_for_grpc_only)
{
	char reason[URL_REASON_MAX];
	struct url u;

	cr_assert_eq(url_parse("collector:4317", false, &u, reason), -EINVAL);
}

Test(url, host_and_path_are_taken_up_to_their_limits_and_not_beyond)
{
	static char text[URL_TEXT_MAX * 2];
	char reason[URL_REASON_MAX];
	struct url u;

	snprintf(text, sizeof(text), "http://%0*d", URL_HOST_MAX - 1, 1);
	cr_assert_eq(url_parse(text, false, &u, reason), 0);
	snprintf(text, sizeof(text), "http://%0*d", URL_HOST_MAX, 1);
	cr_assert_eq(url_parse(text, false, &u, reason), -EINVAL);
	snprintf(text, sizeof(text), "http://h/%0*d", URL_PATH_MAX - 3, 1);
	cr_assert_eq(url_parse(text, false, &u, reason), 0);
	snprintf(text, sizeof(text), "http://h/%0*d", URL_PATH_MAX - 2, 1);
	cr_assert_eq(url_parse(text, false, &u, reason), -EINVAL);
}

Test(url, an_authority_has_brackets_where_it_must)
{
	char reason[URL_REASON_MAX], text[URL_HOST_MAX + 9];
	struct url u;

	cr_assert_eq(url_parse("http://[::1]", false, &u, reason), 0);
	url_authority(&u, 4317, text);
	cr_assert_str_eq(text, "[::1]:4317");
}
