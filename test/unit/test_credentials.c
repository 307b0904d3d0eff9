/* Goal: the PEM files of an endpoint arrive whole, and a file that cannot be used is named together
 * with what it was for. Method: real files of every wrong kind, both sides of the size limit, on the
 * calling thread and through the disk thread. */
#include "agent/export/credentials.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char pem[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
static char dir[] = "/tmp/blix-credentials-XXXXXX";
static struct otlp_endpoint endpoint;
static struct credentials got;
static char reason[CREDENTIALS_REASON_MAX];

static const char *path_of(const char *name)
{
	static char path[3][256];
	static unsigned turn;
	char *p = path[turn++ % 3];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static const char *file(const char *name, const char *bytes, size_t len)
{
	const char *path = path_of(name);
	FILE *f = fopen(path, "w");

	cr_assert(f);
	cr_assert_eq(fwrite(bytes, 1, len, f), len);
	cr_assert_eq(fclose(f), 0);
	return path;
}

static void begin(void)
{
	cr_assert(mkdtemp(dir));
	memset(&endpoint, 0, sizeof(endpoint));
	memset(&got, 0, sizeof(got));
	strcpy(endpoint.url, "https://c:4317");
	strcpy(endpoint.ca_file, file("ca", pem, strlen(pem)));
}

static void end(void)
{
	char command[128];

	credentials_done(&got);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
}

TestSuite(credentials, .init = begin, .fini = end);

/* Refused with this errno; the reason holds both; nothing was handed out. */
static void refused(int err, const char *what, const char *why)
{
	cr_expect_eq(credentials_read(&endpoint, &got, reason), err);
	cr_expect(strstr(reason, what), "no '%s' in: %s", what, reason);
	cr_expect(strstr(reason, why), "no '%s' in: %s", why, reason);
	cr_expect_null(got.ca_pem);
	cr_expect_null(got.client_cert_pem);
	cr_expect_null(got.client_key_pem);
}

Test(credentials, every_named_file_is_read_whole)
{
	struct transport_tls tls;

	strcpy(endpoint.client_cert_file, file("cert", "x-----BEGIN B", 13));
	strcpy(endpoint.client_key_file, file("key", "-----BEGIN K", 12));
	cr_assert_eq(credentials_read(&endpoint, &got, reason), 0, "%s", reason);
	tls = credentials_tls(&got);
	cr_expect_str_eq(tls.ca_pem, pem);
	cr_expect_str_eq(tls.client_cert_pem, "x-----BEGIN B");
	cr_expect_str_eq(tls.client_key_pem, "-----BEGIN K");
	credentials_done(&got);
	cr_expect_null(got.client_key_pem);
	credentials_done(&got);
}

Test(credentials, no_name_is_no_text)
{
	endpoint.ca_file[0] = '\0';
	cr_assert_eq(credentials_read(&endpoint, &got, reason), 0);
	cr_expect_null(got.ca_pem);
	cr_expect_null(credentials_tls(&got).client_key_pem);
}

Test(credentials, an_address_without_tls_needs_no_file)
{
	strcpy(endpoint.url, "http://c:4317");
	strcpy(endpoint.ca_file, "/nowhere/ca");
	cr_assert_eq(credentials_read(&endpoint, &got, reason), 0);
	cr_expect_null(got.ca_pem);
}

Test(credentials, a_missing_file_is_named_with_its_purpose_and_the_others_are_let_go)
{
	strcpy(endpoint.client_cert_file, file("cert", pem, strlen(pem)));
	strcpy(endpoint.client_key_file, path_of("absent"));
	refused(-ENOENT, "the client key", "absent cannot be read: No such file");
	strcpy(endpoint.client_cert_file, path_of("absent"));
	refused(-ENOENT, "the client certificate", "absent");
	strcpy(endpoint.ca_file, path_of("absent"));
	refused(-ENOENT, "the CA certificate", "absent");
}

Test(credentials, what_is_no_regular_file_is_refused_without_waiting)
{
	strcpy(endpoint.ca_file, dir);
	refused(-EINVAL, dir, "no regular file");
	strcpy(endpoint.ca_file, path_of("fifo"));
	cr_assert_eq(mkfifo(endpoint.ca_file, 0600), 0);
	refused(-EINVAL, "fifo", "no regular file");
	strcpy(endpoint.ca_file, "/dev/zero");
	refused(-EINVAL, "/dev/zero", "no regular file");
}

Test(credentials, what_is_no_pem_is_refused)
{
	static const char nul[] = "-----BEGIN C-----\0AAAA";

	strcpy(endpoint.ca_file, file("empty", "", 0));
	refused(-EINVAL, "empty", "no PEM");
	strcpy(endpoint.ca_file, file("der", "\x30\x82\x01\x0a", 4));
	refused(-EINVAL, "der", "no PEM");
	strcpy(endpoint.ca_file, file("nul", nul, sizeof(nul)));
	refused(-EINVAL, "nul", "no PEM");
}

Test(credentials, a_file_has_a_limit)
{
	char *large = malloc(CREDENTIALS_BYTES_MAX + 1);

	cr_assert(large);
	memset(large, '\n', CREDENTIALS_BYTES_MAX + 1);
	memcpy(large, pem, strlen(pem));
	strcpy(endpoint.ca_file, file("fits", large, CREDENTIALS_BYTES_MAX));
	cr_assert_eq(credentials_read(&endpoint, &got, reason), 0, "%s", reason);
	cr_expect_eq(strlen(got.ca_pem), CREDENTIALS_BYTES_MAX);
	credentials_done(&got);
	strcpy(endpoint.ca_file, file("over", large, CREDENTIALS_BYTES_MAX + 1));
	refused(-EFBIG, "over", "larger");
	free(large);
}

/* ---- the disk thread ------------------------------------------------------------------------- */

static struct event_base *base;
static int calls, last_err;

static void on_loaded(void *arg, int err, struct credentials *credentials, const char *why)
{
	cr_expect_eq(arg, &calls);
	calls++;
	last_err = err;
	got = *credentials;
	snprintf(reason, sizeof(reason), "%s", why);
	event_base_loopbreak(base);
}

Test(credentials, the_disk_thread_reads_them, .timeout = 60)
{
	struct disk *disk;

	base = event_base_new();
	cr_assert_eq(disk_new(base, 1, &disk), 0);
	cr_assert_eq(credentials_load(disk, &endpoint, on_loaded, &calls), 0);
	cr_expect_eq(credentials_load(disk, &endpoint, on_loaded, &calls), -ENOBUFS);
	event_base_dispatch(base);
	cr_expect_eq(calls, 1);
	cr_expect_eq(last_err, 0);
	cr_assert(got.ca_pem);
	cr_expect_str_eq(got.ca_pem, pem);
	credentials_done(&got);

	strcpy(endpoint.ca_file, path_of("absent"));
	cr_assert_eq(credentials_load(disk, &endpoint, on_loaded, &calls), 0);
	endpoint.ca_file[0] = '\0'; /* it has its own copy */
	event_base_dispatch(base);
	cr_expect_eq(calls, 2);
	cr_expect_eq(last_err, -ENOENT);
	cr_expect_null(got.ca_pem);
	cr_expect(strstr(reason, "absent"), "%s", reason);
	disk_free(disk, 1000);
	event_base_free(base);
}

static void hold(void *arg)
{
	char c;

	cr_expect_eq(read(*(int *)arg, &c, 1), 0);
}

static void held(void *arg)
{
	(void)arg;
}

Test(credentials, a_stopped_disk_thread_says_cancelled, .timeout = 60)
{
	struct disk *disk;
	int ends[2];

	cr_assert_eq(pipe(ends), 0);
	base = event_base_new();
	cr_assert_eq(disk_new(base, 4, &disk), 0);
	cr_assert_eq(disk_submit(disk, hold, held, &ends[0]), 0);
	cr_assert_eq(credentials_load(disk, &endpoint, on_loaded, &calls), 0);
	disk_free(disk, 0); /* the job before ours is stuck: ours never runs */
	cr_expect_eq(calls, 1);
	cr_expect_eq(last_err, -ECANCELED);
	cr_expect_null(got.ca_pem);
	close(ends[1]);
	event_base_free(base);
}
