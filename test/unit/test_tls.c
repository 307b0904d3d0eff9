/* Goal: TLS material that cannot be used is refused before anything connects, with the part that is
 * wrong in the reason; what is right is taken.
 * Method: keys and certificates made here by OpenSSL itself, then given whole, torn, mixed up and in
 * each other's place. */
#include "agent/export/tls.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct identity {
	char *cert, *key, *locked_key;
};

static char *text_of(BIO *bio)
{
	char *data, *text;
	long len = BIO_get_mem_data(bio, &data);

	text = strndup(data, (size_t)len);
	BIO_free(bio);
	return text;
}

static struct identity make_identity(const char *name)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	BIO *bios[3] = {BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem())};

	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
				   (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	cr_assert_gt(X509_sign(cert, key, EVP_sha256()), 0);
	cr_assert(PEM_write_bio_X509(bios[0], cert));
	cr_assert(PEM_write_bio_PrivateKey(bios[1], key, NULL, NULL, 0, NULL, NULL));
	cr_assert(PEM_write_bio_PrivateKey(bios[2], key, EVP_aes_128_cbc(), NULL, 0, NULL,
					   (char *)"secret"));
	X509_free(cert);
	EVP_PKEY_free(key);
	return (struct identity){text_of(bios[0]), text_of(bios[1]), text_of(bios[2])};
}

static void free_identity(struct identity *i)
{
	free(i->cert);
	free(i->key);
	free(i->locked_key);
}

static char *join(const char *a, const char *b)
{
	char *text = malloc(strlen(a) + strlen(b) + 1);

	strcpy(text, a);
	strcat(text, b);
	return text;
}

static void accepted(const char *ca, const char *cert, const char *key)
{
	struct transport_tls tls = {ca, cert, key};
	char reason[VERDICT_MESSAGE_MAX] = "";
	SSL_CTX *context = NULL;

	cr_assert_eq(tls_context_new(&tls, &context, reason), 0, "%s", reason);
	cr_assert_not_null(context);
	SSL_CTX_free(context);
}

static void refused(const char *ca, const char *cert, const char *key, const char *word)
{
	struct transport_tls tls = {ca, cert, key};
	char reason[VERDICT_MESSAGE_MAX] = "";
	SSL_CTX *context = NULL;

	cr_assert_eq(tls_context_new(&tls, &context, reason), -EPROTO, "%s", word);
	cr_assert_null(context, "written although refused");
	cr_assert_not_null(strstr(reason, word), "'%s' is not in '%s'", word, reason);
}

Test(tls, material_that_is_right_is_taken_and_none_means_the_systems)
{
	struct identity me = make_identity("me"), ca = make_identity("ca");
	char *both = join(ca.cert, me.cert), *noisy = join("a comment before\n", ca.cert);

	accepted(NULL, NULL, NULL);
	accepted(ca.cert, NULL, NULL);
	accepted(both, NULL, NULL);
	accepted(noisy, NULL, NULL);
	accepted(ca.cert, me.cert, me.key);
	accepted(NULL, both, ca.key); /* a chain behind the certificate */
	free(both);
	free(noisy);
	free_identity(&me);
	free_identity(&ca);
}

Test(tls, each_part_that_is_wrong_is_named)
{
	struct identity me = make_identity("me"), other = make_identity("other");
	char *torn = strndup(me.cert, strlen(me.cert) / 2);
	char *second_torn = join(me.cert, torn);

	refused("", NULL, NULL, "CA certificates");
	refused("junk", NULL, NULL, "CA certificates");
	refused(me.key, NULL, NULL, "CA certificates");
	refused(torn, NULL, NULL, "CA certificates");
	refused(second_torn, NULL, NULL, "CA certificates");
	refused(me.cert, me.cert, NULL, "needs its key");
	refused(me.cert, NULL, me.key, "a key its certificate");
	refused(NULL, "", me.key, "client certificate");
	refused(NULL, torn, me.key, "client certificate");
	refused(NULL, me.key, me.key, "client certificate");
	refused(NULL, me.cert, "", "client key");
	refused(NULL, me.cert, me.cert, "client key");
	refused(NULL, me.cert, other.key, "client key");
	free(torn);
	free(second_torn);
	free_identity(&me);
	free_identity(&other);
}

Test(tls, a_key_with_a_password_is_refused_and_nobody_is_asked_for_it, .timeout = 60)
{
	struct identity me = make_identity("me");

	refused(NULL, me.cert, me.locked_key, "client key");
	free_identity(&me);
}

Test(tls, a_failure_leaves_nothing_that_the_next_one_reports)
{
	struct identity me = make_identity("me");

	refused(NULL, me.cert, "junk", "client key");
	refused(NULL, me.cert, NULL, "needs its key");
	accepted(me.cert, me.cert, me.key);
	free_identity(&me);
}

Test(tls, the_systems_authorities_are_those_of_ssl_cert_file_read_once)
{
	struct identity me = make_identity("me");
	struct transport_tls tls = {NULL, NULL, NULL};
	char path[] = "/tmp/blix-ca-XXXXXX", reason[VERDICT_MESSAGE_MAX];
	int fd = mkstemp(path);
	SSL_CTX *contexts[2];
	FILE *f = fdopen(fd, "w");

	cr_assert_not_null(f);
	fputs(me.cert, f);
	fclose(f);
	setenv("SSL_CERT_FILE", path, 1);
	cr_assert_eq(tls_system_ca(), 0);
	cr_assert_eq(unlink(path), 0);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(tls_context_new(&tls, &contexts[i], reason), 0);
		cr_assert_eq(sk_X509_OBJECT_num(
				     X509_STORE_get0_objects(SSL_CTX_get_cert_store(contexts[i]))),
			     1);
	}
	for (int i = 0; i < 2; i++)
		SSL_CTX_free(contexts[i]);
	free_identity(&me);
}
