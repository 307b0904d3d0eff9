/* Goal: every request gets the format that its weights ask for, and nothing a client can send makes
 * the parser read past its end, loop or fail.
 * Method: a table of headers, those of real Prometheus releases first; then each of them cut at
 * every byte and random bytes, all placed so that their terminator is the last readable byte. */
#include "agent/encode/encode.h"
#include "test/support/guard_page.h"

#include <criterion/criterion.h>
#include <stdint.h>

#define OM_1 "application/openmetrics-text;version=1.0.0"
#define OM_0 "application/openmetrics-text;version=0.0.1"
#define TEXT "text/plain;version=0.0.4"
#define PROTOBUF                                                                                   \
	"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"                 \
	"encoding=delimited"
#define ESCAPING ";escaping=allow-utf-8"

static const struct {
	const char *accept;
	enum encode_format format;
} accepts[] = {
	/* Prometheus 2.42, and the same with native histograms */
	{OM_1 "," OM_0 ";q=0.75," TEXT ";q=0.5,*/*;q=0.1", ENCODE_OPENMETRICS},
	{PROTOBUF "," OM_1 ";q=0.8," OM_0 ";q=0.75," TEXT ";q=0.5,*/*;q=0.1", ENCODE_PROTOBUF},
	/* Prometheus 3.x, two ways of weighing, and the same with native histograms */
	{OM_1 ESCAPING ";q=0.5," OM_0 ";q=0.4,text/plain;version=1.0.0" ESCAPING ";q=0.3," TEXT
		       ";q=0.2,*/*;q=0.1",
	 ENCODE_OPENMETRICS},
	{OM_1 ESCAPING ";q=0.6," OM_0 ";q=0.5,text/plain;version=1.0.0" ESCAPING ";q=0.4," TEXT
		       ";q=0.3,*/*;q=0.2",
	 ENCODE_OPENMETRICS},
	{PROTOBUF ESCAPING ";q=0.6," OM_1 ESCAPING ";q=0.5," OM_0 ";q=0.4,text/plain;version=1.0.0"
			   ";q=0.3," TEXT ";q=0.2,*/*;q=0.1",
	 ENCODE_PROTOBUF},
	/* people */
	{NULL, ENCODE_TEXT},
	{"", ENCODE_TEXT},
	{"*/*", ENCODE_TEXT},
	{"text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8", ENCODE_TEXT},
	{"text/plain", ENCODE_TEXT},
	{"text/*", ENCODE_TEXT},
	{"application/*", ENCODE_OPENMETRICS},
	{"application/openmetrics-text", ENCODE_OPENMETRICS},
	/* versions */
	{OM_0, ENCODE_OPENMETRICS},
	{"application/openmetrics-text;version=2.0.0", ENCODE_TEXT},
	{"application/openmetrics-text;version=2.0.0," OM_1 ";q=0.5", ENCODE_OPENMETRICS},
	{"text/plain;version=1.0.0;escaping=allow-utf-8," OM_1 ";q=0.5", ENCODE_OPENMETRICS},
	{"text/plain;version=1.0.0,text/plain;version=0.0.4;q=0.5," OM_1 ";q=0.4", ENCODE_TEXT},
	/* weights */
	{TEXT ";q=0.4," OM_1 ";q=0.5", ENCODE_OPENMETRICS},
	{TEXT ";q=0.5," OM_1 ";q=0.4", ENCODE_TEXT},
	{TEXT ";q=0.41," OM_1 ";q=0.409", ENCODE_TEXT},
	{TEXT ";q=0.5," OM_1 ";q=0.5", ENCODE_TEXT},
	{OM_1 ";q=0.5," TEXT ";q=0.5", ENCODE_OPENMETRICS},
	{OM_1 ";q=0," TEXT ";q=0.1", ENCODE_TEXT},
	{OM_1 ";q=0", ENCODE_TEXT},
	{OM_1 ";q=0.000," PROTOBUF ";q=0.001", ENCODE_PROTOBUF},
	{OM_1 ";q=1.000," PROTOBUF, ENCODE_OPENMETRICS},
	{OM_1 ";q=1.5," TEXT ";q=0.1", ENCODE_OPENMETRICS},
	{OM_1 ";q=2," TEXT ";q=0.1", ENCODE_TEXT},
	{OM_1 ";q=105," TEXT ";q=0.1", ENCODE_TEXT},
	{OM_1 ";q=high," TEXT ";q=0.1", ENCODE_TEXT},
	{OM_1 ";q=-1," TEXT ";q=0.1", ENCODE_TEXT},
	{OM_1 ";q=," TEXT ";q=0.1", ENCODE_TEXT},
	{OM_1 ";q," TEXT ";q=0.1", ENCODE_TEXT},
	{OM_1 ";q=0.1," OM_0 ";q=0.9," TEXT ";q=0.5", ENCODE_OPENMETRICS},
	/* the specific range stands before the wildcard, whatever their weights */
	{"*/*," OM_1 ";q=0.5", ENCODE_TEXT},
	{OM_1 ";q=0.5,*/*;q=0.6", ENCODE_TEXT},
	{TEXT ";q=0.1,*/*;q=0.9," OM_1 ";q=0.2", ENCODE_PROTOBUF},
	{"text/plain;q=0,*/*", ENCODE_OPENMETRICS},
	{"*/*;q=0", ENCODE_TEXT},
	/* parameters in any order and case, blanks, quotes */
	{"application/openmetrics-text; charset=utf-8; version=1.0.0", ENCODE_OPENMETRICS},
	{"APPLICATION/OpenMetrics-Text ; VERSION = 1.0.0 ; Q = 0.9 , text/plain;q=0.5",
	 ENCODE_OPENMETRICS},
	{"\tapplication/openmetrics-text;version=\"1.0.0\"", ENCODE_OPENMETRICS},
	{"text/plain;note=\"a, " OM_1 ";q=1\";q=0.5," PROTOBUF ";q=0.4", ENCODE_TEXT},
	{"application/vnd.google.protobuf;encoding=delimited;q=0.9;"
	 "proto=io.prometheus.client.MetricFamily",
	 ENCODE_PROTOBUF},
	/* protobuf in another shape */
	{"application/vnd.google.protobuf", ENCODE_TEXT},
	{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
	 ENCODE_TEXT},
	{"application/vnd.google.protobuf;proto=other.Message;encoding=delimited", ENCODE_TEXT},
	/* rubbish */
	{",,, ,", ENCODE_TEXT},
	{";;;===\"", ENCODE_TEXT},
	{"\"", ENCODE_TEXT},
	{"text/plain;a=\"\\", ENCODE_TEXT},
	{OM_1 ";", ENCODE_OPENMETRICS},
	{OM_1 " trailing words", ENCODE_OPENMETRICS},
	{";a;b;c;d;e;f;g;h;i;j;k;l;m;n;o;p;q;r;s;t;u;v," OM_1, ENCODE_OPENMETRICS},
	{OM_1 ";a;b;c;d;e;f;g;h;i;j;k;l;m;n;o;p;r;s;t;u;v," TEXT ";q=0.1", ENCODE_TEXT},
};

static const struct {
	const char *header;
	bool gzip;
} encodings[] = {
	{NULL, false},
	{"", false},
	{"gzip", true},
	{"identity", false},
	{"GZIP;Q=0.5", true},
	{"gzip;q=0", false},
	{"gzip;q=0.0", false},
	{"gzip;q=0.001", true},
	{"deflate, gzip;q=1.0, *;q=0.5", true},
	{"deflate, br", false},
	{"*", true},
	{"*;q=0", false},
	{"*;q=0, gzip", true},
	{"*, gzip;q=0", false},
	{"x-gzip", true},
	{"gzipped", false},
	{"zstd,gzip", true},
	{"gzi", false},
	{"br;q=1.0, gzip;q=0.8, *;q=0.1", true},
};

Test(negotiate, answers_each_accept_header_with_the_format_it_prefers)
{
	for (size_t i = 0; i < sizeof(accepts) / sizeof(accepts[0]); i++)
		cr_expect_eq(encode_negotiate(accepts[i].accept), accepts[i].format, "Accept: %s",
			     accepts[i].accept);
}

Test(negotiate, compresses_only_where_gzip_is_wanted)
{
	for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++)
		cr_expect_eq(encode_accepts_gzip(encodings[i].header), encodings[i].gzip,
			     "Accept-Encoding: %s", encodings[i].header);
}

Test(negotiate, reads_no_byte_past_a_header_cut_anywhere)
{
	struct guard_page g = guard_page_new(4096);

	for (size_t i = 0; i < sizeof(accepts) / sizeof(accepts[0]); i++) {
		size_t len = accepts[i].accept ? strlen(accepts[i].accept) : 0;

		for (size_t cut = 0; cut <= len; cut++) {
			char text[1024];

			(void)memcpy(text, accepts[i].accept ? accepts[i].accept : "", cut);
			text[cut] = '\0';
			const char *header = guard_page_place(&g, text, cut + 1);

			cr_expect_lt(encode_negotiate(header), ENCODE_FORMATS);
			(void)encode_accepts_gzip(header);
		}
	}
	guard_page_free(&g);
}

Test(negotiate, survives_random_headers_made_of_its_own_vocabulary)
{
	static const char *const words[] = {
		OM_1, OM_0, TEXT,    PROTOBUF,	      "*/*", "gzip",	",",	";",	"=",
		"\"", "\\", "q",     "q=0.5",	      " ",   "version", "\xff", "\x01", "0",
		".",  "1",  "text/", "application/*",
	};
	struct guard_page g = guard_page_new(8192);
	uint64_t state = 1;
	uint32_t seen[ENCODE_FORMATS] = {0};

	for (uint32_t round = 0; round < 200000; round++) {
		char text[2048];
		size_t len = 0;

		state = state * 6364136223846793005ull + 1442695040888963407ull;
		for (uint64_t n = (state >> 60) + 1; n > 0; n--) {
			const char *word =
				words[(state >> 33) % (sizeof(words) / sizeof(words[0]))];

			state = state * 6364136223846793005ull + 1442695040888963407ull;
			(void)memcpy(text + len, word, strlen(word));
			len += strlen(word);
			if (state >> 62 == 0)
				text[len++] = (char)(1 + (state >> 40) % 255);
		}
		text[len] = '\0';
		const char *header = guard_page_place(&g, text, len + 1);
		enum encode_format format = encode_negotiate(header);

		cr_assert_lt(format, ENCODE_FORMATS);
		seen[format]++;
		(void)encode_accepts_gzip(header);
	}
	for (uint32_t i = 0; i < ENCODE_FORMATS; i++)
		cr_expect_gt(seen[i], 100, "%s was reached %u times", encoders[i].name, seen[i]);
	guard_page_free(&g);
}

Test(negotiate, looks_at_a_bounded_part_of_an_endless_header)
{
	const size_t bytes = 8 << 20;
	char *header = malloc(bytes + sizeof(OM_1));

	cr_assert_not_null(header);
	(void)memset(header, ',', bytes);
	(void)memcpy(header + bytes, OM_1, sizeof(OM_1));
	cr_expect_eq(encode_negotiate(header), ENCODE_TEXT);
	free(header);
}

Test(negotiate, every_format_has_a_name_and_its_exact_content_type)
{
	cr_expect_str_eq(encoders[ENCODE_TEXT].content_type,
			 "text/plain; version=0.0.4; charset=utf-8");
	cr_expect_str_eq(encoders[ENCODE_OPENMETRICS].content_type,
			 "application/openmetrics-text; version=1.0.0; charset=utf-8");
	cr_expect_str_eq(encoders[ENCODE_PROTOBUF].content_type,
			 "application/vnd.google.protobuf; "
			 "proto=io.prometheus.client.MetricFamily; encoding=delimited");
	for (uint32_t i = 0; i < ENCODE_FORMATS; i++) {
		cr_expect_not_null(encoders[i].name);
		/* What we answer is what a client may ask for, in the same words. */
		cr_expect_eq(encode_negotiate(encoders[i].content_type), i, "%s", encoders[i].name);
	}
}
