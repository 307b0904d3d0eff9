/* agent/export/credentials.c - see credentials.h. Includes: libc. */
#include "agent/export/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- one file -------------------------------------------------------------------------------- */

static char *wiped(char *text, size_t len)
{
	if (text)
		explicit_bzero(text, len);
	free(text);
	return NULL;
}

/* At most CREDENTIALS_BYTES_MAX + 1 bytes, so that one too many shows. */
static ssize_t read_all(int fd, char *text)
{
	size_t len = 0;
	ssize_t n = 1;

	while (n > 0 && len <= CREDENTIALS_BYTES_MAX) {
		n = read(fd, text + len, CREDENTIALS_BYTES_MAX + 1 - len);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			len += (size_t)n;
	}
	return n < 0 ? -errno : (ssize_t)len;
}

static int read_fd(int fd, char **ret_text)
{
	char *text = malloc(CREDENTIALS_BYTES_MAX + 1), *fitting = NULL;
	ssize_t len;
	int err = 0;

	if (!text)
		return -ENOMEM;
	len = read_all(fd, text);
	if (len < 0)
		err = (int)len;
	else if (len > CREDENTIALS_BYTES_MAX)
		err = -EFBIG;
	else if (!memmem(text, (size_t)len, "-----BEGIN ", 11) || memchr(text, 0, (size_t)len))
		err = -EINVAL;
	else if (!(fitting = strndup(text, (size_t)len)))
		err = -ENOMEM;
	wiped(text, len > 0 ? (size_t)len : 0);
	if (!err)
		*ret_text = fitting;
	return err;
}

/* 0, *ret_text stays NULL for the path "". */
static int read_file(const char *what, const char *path, char **ret_text,
		     char reason[CREDENTIALS_REASON_MAX])
{
	const char *why = NULL;
	struct stat st;
	int fd, err;

	if (!path[0])
		return 0;
	/* O_NONBLOCK: opening a FIFO must not wait for its writer. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode))
		err = -EINVAL, why = "is no regular file";
	else
		err = read_fd(fd, ret_text);
	if (fd >= 0)
		close(fd);
	if (err == -EINVAL && !why)
		why = "holds no PEM text (-----BEGIN ...)";
	if (err == -EFBIG)
		snprintf(reason, CREDENTIALS_REASON_MAX, "%s %s is larger than %d bytes", what,
			 path, CREDENTIALS_BYTES_MAX);
	else if (why)
		snprintf(reason, CREDENTIALS_REASON_MAX, "%s %s %s", what, path, why);
	else if (err)
		snprintf(reason, CREDENTIALS_REASON_MAX, "%s %s cannot be read: %s", what, path,
			 strerror(-err));
	return err;
}

/* ---- those of an endpoint -------------------------------------------------------------------- */

int credentials_read(const struct otlp_endpoint *e, struct credentials *ret_credentials,
		     char reason[CREDENTIALS_REASON_MAX])
{
	struct credentials c = {0};
	int err = 0;

	if (!strncmp(e->url, "https://", strlen("https://"))) {
		err = read_file("the CA certificate", e->ca_file, &c.ca_pem, reason);
		if (!err)
			err = read_file("the client certificate", e->client_cert_file,
					&c.client_cert_pem, reason);
		if (!err)
			err = read_file("the client key", e->client_key_file, &c.client_key_pem,
					reason);
	}
	if (err)
		credentials_done(&c);
	else
		*ret_credentials = c;
	return err;
}

struct transport_tls credentials_tls(const struct credentials *credentials)
{
	return (struct transport_tls){
		.ca_pem = credentials->ca_pem,
		.client_cert_pem = credentials->client_cert_pem,
		.client_key_pem = credentials->client_key_pem,
	};
}

static char *text_free(char *text)
{
	return wiped(text, text ? strlen(text) : 0);
}

void credentials_done(struct credentials *c)
{
	c->ca_pem = text_free(c->ca_pem);
	c->client_cert_pem = text_free(c->client_cert_pem);
	c->client_key_pem = text_free(c->client_key_pem);
}

/* ---- on the disk thread ---------------------------------------------------------------------- */

struct load_job {
	credentials_loaded loaded;
	void *arg;
	int err;
	struct credentials credentials;
	char reason[CREDENTIALS_REASON_MAX];
	struct otlp_endpoint files; /* its address and paths alone */
};

static void load_work(void *arg)
{
	struct load_job *job = arg;

	job->err = credentials_read(&job->files, &job->credentials, job->reason);
}

static void load_done(void *arg)
{
	struct load_job *job = arg;

	job->loaded(job->arg, job->err, &job->credentials, job->reason);
	free(job);
}

int credentials_load(struct disk *disk, const struct otlp_endpoint *e, credentials_loaded loaded,
		     void *arg)
{
	struct load_job *job = calloc(1, sizeof(*job));
	int err;

	if (!job)
		return -ENOMEM;
	job->loaded = loaded;
	job->arg = arg;
	job->err = -ECANCELED; /* until it has run */
	memcpy(job->files.url, e->url, sizeof(e->url));
	memcpy(job->files.ca_file, e->ca_file, sizeof(e->ca_file));
	memcpy(job->files.client_cert_file, e->client_cert_file, sizeof(e->client_cert_file));
	memcpy(job->files.client_key_file, e->client_key_file, sizeof(e->client_key_file));
	err = disk_submit(disk, load_work, load_done, job);
	if (err)
		free(job);
	return err;
}
