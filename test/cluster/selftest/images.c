/* test/cluster/selftest/images.c
 * Goal: the cache keeps what is of its digest and nothing else, within its bounds, the least used
 * going first; an image is told whole from damaged; jobs come back, each once.
 * Method: put, damage, take away and open again; what should be there is known beforehand.
 */
#include "record_double.h"
#include "tap.h"

#include "test/cluster/image/chunk_worker.h"
#include "test/cluster/image/image_sends.h"
#include "test/cluster/image/image_store.h"
#include "test/cluster/log.h"
#include "test/cluster/record/record_image.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[64];
static int dir;
static uint8_t bytes[8 * CHUNK_BYTES];
static uint8_t got[CHUNK_BYTES];

/* ---- doubles --------------------------------------------------------------------------------- */

static unsigned hits, misses, begun, ended, failed;

void record_image_cache(bool hit)
{
	hits += hit;
	misses += !hit;
}

void record_image_begun(void)
{
	begun++;
}

void record_image_ended(enum image_direction direction, bool good, uint64_t duration_ns)
{
	(void)duration_ns;
	ended += direction == IMAGE_SEND;
	failed += !good;
}

void log_line(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
}

/* ---- a directory of one's own ---------------------------------------------------------------- */

static void clean(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s/*", path);
	if (system(command))
		abort();
}

static int folder(const char *name)
{
	if (mkdirat(dir, name, 0700) && errno != EEXIST)
		abort();
	return openat(dir, name, O_RDONLY | O_DIRECTORY);
}

static void write_file(const char *name, const void *data, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, data, len) != (ssize_t)len)
		abort();
	close(fd);
}

static bool is_there(const char *name)
{
	return !faccessat(dir, name, F_OK, 0);
}

static struct digest of(const void *data, size_t len)
{
	struct digest digest;

	if (digest_of(data, len, &digest))
		abort();
	return digest;
}

static const char *file_of(const struct digest *digest)
{
	static char name[DIGEST_TEXT + 16];
	char text[DIGEST_TEXT + 1];

	digest_text(digest, text);
	snprintf(name, sizeof(name), "chunks/%s", text);
	return name;
}

static void make_bytes(void)
{
	uint64_t dice = 88172645463325252ull;

	for (size_t i = 0; i < sizeof(bytes); i++) {
		dice ^= dice << 13;
		dice ^= dice >> 7;
		dice ^= dice << 17;
		bytes[i] = (uint8_t)dice;
	}
}

/* ---- digests --------------------------------------------------------------------------------- */

static void digests_are_sha_256(void)
{
	/* FIPS 180-2, B.1 */
	static const char abc[] =
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	struct digest digest = of("abc", 3), parsed, piecewise;
	char text[DIGEST_TEXT + 1];

	digest_text(&digest, text);
	tap(!strcmp(text, abc), "the digest is SHA-256");
	tap(digest_parse(abc, &parsed) && digest_equal(&parsed, &digest), "its text is read back");
	struct digest_stream *stream = digest_begin();
	tap(!digest_add(stream, "a", 1) && !digest_add(stream, "bc", 2) &&
		    !digest_end(stream, &piecewise) && digest_equal(&piecewise, &digest),
	    "piece by piece it is the same");
	memcpy(text, abc, sizeof(text));
	text[0] = 'B';
	tap(!digest_parse(text, &parsed) && !digest_parse(abc + 1, &parsed) &&
		    !digest_parse("", &parsed) && !digest_parse("unfinished", &parsed),
	    "nothing else is a digest's text");
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static void chunks_are_what_their_digest_says(void)
{
	struct chunk_store *store = NULL;
	struct digest digest = of(bytes, 1000), other = of(bytes, 999);
	size_t len = 0;

	clean();
	tap(!chunk_store_open(folder("chunks"), 1 << 20, &store), "an empty cache opens");
	tap(!chunk_store_has(store, &digest) &&
		    chunk_store_get(store, &digest, got, &len) == -ENOENT,
	    "it has nothing: -ENOENT");
	tap(!chunk_store_put(store, &digest, bytes, 1000) && chunk_store_has(store, &digest) &&
		    !chunk_store_get(store, &digest, got, &len) && len == 1000 &&
		    !memcmp(got, bytes, 1000),
	    "what is put is got");
	tap(!chunk_store_put(store, &digest, bytes, 1000) && chunk_store_stats(store).chunks == 1 &&
		    chunk_store_stats(store).bytes == 1000,
	    "putting it again changes nothing");
	tap(chunk_store_put(store, &other, bytes, 1000) == -EBADMSG && !is_there(file_of(&other)),
	    "what is of another digest is not kept: -EBADMSG");
	tap(chunk_store_put(store, &digest, bytes, 0) == -EINVAL &&
		    chunk_store_put(store, &digest, bytes, CHUNK_BYTES + 1) == -EINVAL,
	    "nothing, or more than a chunk: -EINVAL");
	tap(chunk_store_verify(store, &digest, got, &len) == 0, "it is good");
	write_file(file_of(&digest), bytes + 1, 1000);
	tap(!chunk_store_get(store, &digest, got, &len), "damage shows only when verified");
	tap(chunk_store_verify(store, &digest, got, &len) == -EBADMSG &&
		    !chunk_store_has(store, &digest) && !is_there(file_of(&digest)),
	    "then it is dropped: -EBADMSG");
	tap(!chunk_store_put(store, &digest, bytes, 1000), "and can be put again");
	write_file(file_of(&digest), bytes, 999);
	tap(chunk_store_get(store, &digest, got, &len) == -EBADMSG &&
		    !chunk_store_has(store, &digest),
	    "a file that was cut short is dropped at once");
	chunk_store_close(store);
}

static void the_cache_keeps_its_bound(void)
{
	struct chunk_store *store = NULL;
	struct digest digests[5];
	bool has[5];

	clean();
	for (int i = 0; i < 5; i++)
		digests[i] = of(bytes + i * 1000, 1000);
	tap(!chunk_store_open(folder("chunks"), 3999, &store), "a cache for three chunks opens");
	for (int i = 0; i < 3; i++)
		chunk_store_put(store, &digests[i], bytes + i * 1000, 1000);
	chunk_store_has(store, &digests[0]); /* a use */
	chunk_store_put(store, &digests[3], bytes + 3000, 1000);
	struct chunk_stats stats = chunk_store_stats(store);
	tap(stats.chunks == 3 && stats.bytes == 3000 && stats.evicted == 1,
	    "a fourth pushes one out");
	for (int i = 0; i < 4; i++)
		has[i] = is_there(file_of(&digests[i]));
	tap(has[0] && !has[1] && has[2] && has[3], "the one that was unused for longest");
	struct digest large = of(bytes, 4000), exact = of(bytes, 3999);
	tap(chunk_store_put(store, &large, bytes, 4000) == -ENOSPC &&
		    chunk_store_stats(store).chunks == 3,
	    "what is larger than the cache pushes nothing out: -ENOSPC");
	tap(!chunk_store_put(store, &exact, bytes, 3999) && chunk_store_stats(store).chunks == 1,
	    "what is as large as it, everything");
	chunk_store_close(store);
}

static void a_cache_opens_with_what_it_had(void)
{
	struct chunk_store *store = NULL;
	struct digest digests[3];
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};

	clean();
	for (int i = 0; i < 3; i++)
		digests[i] = of(bytes + i * 1000, 1000);
	chunk_store_open(folder("chunks"), 1 << 20, &store);
	for (int i = 0; i < 3; i++)
		chunk_store_put(store, &digests[i], bytes + i * 1000, 1000);
	chunk_store_close(store);
	utimensat(dir, file_of(&digests[1]), times, 0);
	write_file("chunks/unfinished", bytes, 10);
	write_file("chunks/other", bytes, 10);
	struct digest empty = of("", 0);
	write_file(file_of(&empty), "", 0);
	tap(!chunk_store_open(folder("chunks"), 2999, &store) &&
		    chunk_store_stats(store).chunks == 2 && chunk_store_stats(store).bytes == 2000,
	    "a smaller bound holds from the beginning");
	tap(chunk_store_has(store, &digests[0]) && !chunk_store_has(store, &digests[1]) &&
		    chunk_store_has(store, &digests[2]),
	    "the oldest has gone");
	tap(!is_there("chunks/unfinished") && !is_there("chunks/other") &&
		    !is_there(file_of(&empty)),
	    "and so has what is no chunk");
	chunk_store_close(store);
}

static void a_full_disk_is_no_loss(void)
{
	struct chunk_store *store = NULL;
	struct rlimit limit, small;
	struct digest digest = of(bytes, 5000);

	clean();
	chunk_store_open(folder("chunks"), 1 << 20, &store);
	getrlimit(RLIMIT_FSIZE, &limit);
	small = limit;
	small.rlim_cur = 4096;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	int err = chunk_store_put(store, &digest, bytes, 5000);
	setrlimit(RLIMIT_FSIZE, &limit);
	tap(err == -EFBIG && !chunk_store_has(store, &digest) && !is_there("chunks/unfinished") &&
		    !is_there(file_of(&digest)) && recorded_errors[STORAGE_WRITE] == 1,
	    "a chunk that cannot be written whole leaves nothing, and is counted");
	tap(!chunk_store_put(store, &digest, bytes, 5000), "later it can");
	chunk_store_close(store);
}

/* ---- images ---------------------------------------------------------------------------------- */

static void names_are_names_of_files(void)
{
	char longest[IMAGE_NAME_MAX + 2];

	memset(longest, 'x', sizeof(longest));
	longest[IMAGE_NAME_MAX + 1] = '\0';
	tap(!image_name_is_good(longest) && image_name_is_good(longest + 1), "up to a length");
	tap(image_name_is_good("Debian-12_x.img") && !image_name_is_good("") &&
		    !image_name_is_good(".x") && !image_name_is_good("..") &&
		    !image_name_is_good("a/b") && !image_name_is_good("a b"),
	    "and never a path");
	tap(image_chunks_of(0) == 0 && image_chunks_of(1) == 1 &&
		    image_chunks_of(CHUNK_BYTES) == 1 && image_chunks_of(CHUNK_BYTES + 1) == 2 &&
		    image_chunks_of((uint64_t)IMAGE_CHUNKS_MAX * CHUNK_BYTES) == IMAGE_CHUNKS_MAX &&
		    image_chunks_of((uint64_t)IMAGE_CHUNKS_MAX * CHUNK_BYTES + 1) == 0 &&
		    image_chunks_of(UINT64_MAX) == 0,
	    "chunks are counted at every edge");
}

/* Is this refused, once `field` is not what it was? */
static bool refused(const Blixard__VmImage *message)
{
	struct image *image = NULL;
	int err = image_from_message(message, &image);

	free(image);
	return err == -EINVAL;
}

static void strange_descriptions_are_refused(void)
{
	Blixard__VmImage good = BLIXARD__VM_IMAGE__INIT, m;
	struct image *image = NULL;

	good.name = (char *)"x";
	good.size = CHUNK_BYTES + 1;
	good.digest = (ProtobufCBinaryData){DIGEST_BYTES, bytes};
	good.chunks = (ProtobufCBinaryData){2 * DIGEST_BYTES, bytes};
	tap(!image_from_message(&good, &image) && image->n_chunks == 2 &&
		    image_chunk_len(image, 0) == CHUNK_BYTES && image_chunk_len(image, 1) == 1,
	    "a good description is taken");
	free(image);
	bool all = refused(NULL);
	m = good, m.name = (char *)"../x", all &= refused(&m);
	m = good, m.size = 0, all &= refused(&m);
	m = good, m.size = UINT64_MAX, all &= refused(&m);
	m = good, m.size = CHUNK_BYTES, all &= refused(&m);
	m = good, m.size = 2 * CHUNK_BYTES + 1, all &= refused(&m);
	m = good, m.digest.len--, all &= refused(&m);
	m = good, m.digest.len = 0, all &= refused(&m);
	m = good, m.chunks.len--, all &= refused(&m);
	m = good, m.chunks.len = 0, all &= refused(&m);
	tap(all, "any other is refused: -EINVAL");
}

static void images_are_shared_and_planned(void)
{
	struct image_store *store = NULL;
	struct image *image = NULL, *found = NULL;
	struct image_plan plan;
	bool complete = false;

	clean();
	memcpy(bytes + 3 * CHUNK_BYTES, bytes + CHUNK_BYTES, CHUNK_BYTES); /* 3 is as 1 */
	hits = misses = 0;
	tap(!image_store_open(dir, 4 << 20, &store), "an empty store opens");
	tap(!image_store_share(store, "x", bytes, 4 * CHUNK_BYTES + 10, &image) &&
		    image->n_chunks == 5 && hits == 1 && misses == 4,
	    "an image is shared, the chunk it has twice kept once");
	struct digest whole = of(bytes, 4 * CHUNK_BYTES + 10);
	tap(digest_equal(&whole, &image->digest) &&
		    !image_store_find(store, "x", &whole, &found, &complete) && complete &&
		    found->n_chunks == 5,
	    "and found, complete");
	free(found);
	tap(image_store_find(store, "y", NULL, &found, &complete) == -ENOENT &&
		    image_store_find(store, "x", &image->chunks[0], &found, &complete) == -ENOENT,
	    "another name, or digest: -ENOENT");
	unlinkat(dir, file_of(&image->chunks[1]), 0);
	size_t len;
	tap(chunk_store_get(image_store_chunks(store), &image->chunks[1], got, &len) == -EBADMSG &&
		    !image_store_find(store, "x", NULL, &found, &complete) && !complete,
	    "without one of its chunks it is incomplete");
	free(found);
	hits = misses = 0;
	tap(!image_store_plan(store, image, &plan) && plan.n == 1 && plan.wanted[0] == 1 &&
		    plan.spared == 4 && hits == 3 && misses == 1,
	    "that one is to be moved, once");
	free(plan.wanted);
	tap(image_store_finish(store, image) == -ENOENT, "it cannot be finished before: -ENOENT");
	chunk_store_put(image_store_chunks(store), &image->chunks[1], bytes + CHUNK_BYTES,
			CHUNK_BYTES);
	tap(!image_store_finish(store, image), "then it is");
	write_file(file_of(&image->chunks[2]), bytes, CHUNK_BYTES);
	tap(image_store_finish(store, image) == -EBADMSG && !is_there(file_of(&image->chunks[2])),
	    "a damaged chunk is found, and dropped: -EBADMSG");
	chunk_store_put(image_store_chunks(store), &image->chunks[2], bytes + 2 * CHUNK_BYTES,
			CHUNK_BYTES);
	image->digest.bytes[0] ^= 1;
	tap(image_store_finish(store, image) == -EBADMSG, "so is a wrong digest of the whole");
	image->digest.bytes[0] ^= 1;
	image->size -= 1;
	tap(image_store_finish(store, image) == -EBADMSG, "and a wrong size");
	free(image);
	image = image_new("big", (4 << 20) + 1);
	tap(image_store_plan(store, image, &plan) == -EFBIG,
	    "what will not fit is not begun: -EFBIG");
	free(image);
	image_store_close(store);
}

static void what_cannot_be_shared_is_refused(void)
{
	struct image_store *store = NULL;
	struct image *image = NULL;

	clean();
	image_store_open(dir, 1 << 20, &store);
	tap(image_store_share(store, "a/b", bytes, 1, &image) == -EINVAL &&
		    image_store_share(store, "x", bytes, 0, &image) == -EINVAL &&
		    image_store_share_file(store, "x", "../a", &image) == -EINVAL,
	    "bad names, and no bytes: -EINVAL");
	tap(image_store_share(store, "x", bytes, (1 << 20) + 1, &image) == -EFBIG,
	    "more than the cache: -EFBIG");
	tap(image_store_share_file(store, "x", "none", &image) == -ENOENT, "no file: -ENOENT");
	write_file("images-to-share/file", bytes, CHUNK_BYTES + 7);
	tap(!image_store_share_file(store, "x", "file", &image) && image->size == CHUNK_BYTES + 7,
	    "a file is shared");
	struct digest whole = of(bytes, CHUNK_BYTES + 7);
	tap(digest_equal(&whole, &image->digest), "its bytes are");
	free(image);
	if (symlinkat("file", dir, "images-to-share/link") ||
	    mkfifoat(dir, "images-to-share/pipe", 0600))
		abort();
	tap(image_store_share_file(store, "x", "link", &image) == -EINVAL &&
		    image_store_share_file(store, "x", "pipe", &image) == -EINVAL,
	    "neither a link nor a pipe: -EINVAL");
	image_store_close(store);
}

static void images_outlive_the_process(void)
{
	struct image_store *store = NULL;
	struct image *image = NULL, *list[IMAGES_MAX];
	bool complete[IMAGES_MAX];
	char name[24];
	size_t len;

	clean();
	image_store_open(dir, 4 << 20, &store);
	for (int i = 0; i < IMAGES_MAX + 1; i++) {
		snprintf(name, sizeof(name), "image-%d", i);
		if (!image_store_share(store, name, bytes + i, 100, &image))
			free(image);
		(void)image_store_find(store, "image-0", NULL, &image, complete); /* a use */
		free(image);
		image = NULL;
	}
	tap(image_store_count(store) == IMAGES_MAX && is_there("images/image-0") &&
		    !is_there("images/image-1") && is_there("images/image-2"),
	    "one image too many: the one unused for longest is forgotten");
	image_store_close(store);
	write_file("images/torn", bytes, 50);
	uint8_t *copy = NULL;
	int fd = openat(dir, "images/image-2", O_RDONLY);
	copy = malloc(4096);
	len = (size_t)read(fd, copy, 4096);
	close(fd);
	write_file("images/elsewhere", copy, len);
	free(copy);
	tap(!image_store_open(dir, 4 << 20, &store) && image_store_count(store) == IMAGES_MAX,
	    "opened again, the others are there");
	tap(!is_there("images/torn") && !is_there("images/elsewhere"),
	    "a file that is no image, or another one, is removed");
	len = image_store_list(store, list, complete);
	bool all = len == IMAGES_MAX;
	for (size_t i = 0; i < len; i++) {
		all &= complete[i] && list[i]->size == 100;
		free(list[i]);
	}
	tap(all, "all are listed, and complete");
	image_store_close(store);
}

/* ---- transfers that this node serves --------------------------------------------------------- */

static void silent_transfers_end(void)
{
	struct image_sends sends = {.n = 0};
	const uint64_t idle = IMAGE_SEND_IDLE_MS * 1000000ull;
	bool good = true;

	begun = ended = failed = 0;
	for (uint64_t i = 1; i <= IMAGE_SENDS_MAX; i++)
		good &= !image_sends_begin(&sends, i, 1000);
	tap(good && image_sends_begin(&sends, 99, 1000) == -EBUSY &&
		    !image_sends_begin(&sends, 1, 1000) && begun == IMAGE_SENDS_MAX,
	    "one transfer too many is refused, one that has begun is not: -EBUSY");
	tap(image_sends_end(&sends, 1, true, 2000) && !image_sends_end(&sends, 1, true, 2000) &&
		    !image_sends_heard(&sends, 1, 2000) && ended == 1 && failed == 0,
	    "each ends once");
	image_sends_heard(&sends, 2, 1000 + idle);
	image_sends_expire(&sends, 1000 + idle);
	tap(ended == 1, "none is given up early");
	image_sends_expire(&sends, 1001 + idle);
	tap(sends.n == 1 && image_sends_heard(&sends, 2, 1001 + idle) &&
		    failed == IMAGE_SENDS_MAX - 2 && ended == IMAGE_SENDS_MAX - 1,
	    "those that fell silent have failed");
	image_sends_stop(&sends, 2000 + idle);
	tap(!sends.n && failed == IMAGE_SENDS_MAX - 1 && ended == begun, "at the stop so have all");
}

/* ---- the thread ------------------------------------------------------------------------------ */

struct counted {
	struct chunk_job job;
	unsigned worked;
	unsigned done;
	bool waits;
};

static atomic_bool may_go_on;

static unsigned n_done, n_cancelled;
static struct event_base *base;

static void count_work(struct chunk_job *job)
{
	struct counted *counted = (struct counted *)(void *)job;

	counted->worked++;
	while (counted->waits && !atomic_load(&may_go_on))
		usleep(1000);
}

static void count_done(struct chunk_job *job)
{
	struct counted *counted = (struct counted *)(void *)job;

	counted->done++;
	n_cancelled += job->cancelled;
	if (++n_done == CHUNK_JOBS_MAX)
		event_base_loopbreak(base);
}

static void jobs_come_back_once(void)
{
	static struct counted jobs[CHUNK_JOBS_MAX + 2];
	static const struct timeval deadline = {10, 0};
	struct chunk_worker *worker = NULL;
	size_t n = 0;
	bool each = true;

	base = event_base_new();
	tap(!chunk_worker_start(base, &worker), "a worker starts");
	jobs[0].waits = true; /* the others gather behind it */
	while (n < CHUNK_JOBS_MAX + 2) {
		jobs[n].job.work = count_work;
		jobs[n].job.done = count_done;
		if (chunk_worker_run(worker, &jobs[n].job))
			break;
		n++;
	}
	tap(n == CHUNK_JOBS_MAX && chunk_worker_run(worker, &jobs[n].job) == -EBUSY,
	    "one job too many is refused: -EBUSY");
	atomic_store(&may_go_on, true);
	event_base_loopexit(base, &deadline);
	event_base_dispatch(base);
	for (size_t i = 0; i < n; i++)
		each &= jobs[i].worked == 1 && jobs[i].done == 1;
	tap(n_done == n && each && !n_cancelled, "each is worked on and handed back, once");
	chunk_worker_stop(worker);
	event_base_free(base);
}

static void *let_go_on(void *arg)
{
	usleep(50000); /* the stop comes first, as a rule; if not, all of them are worked on */
	atomic_store(&may_go_on, true);
	return arg;
}

static void a_stop_hands_back_all(void)
{
	static struct counted jobs[20];
	struct chunk_worker *worker = NULL;
	pthread_t helper;
	unsigned worked = 0;
	bool each = true;

	n_done = n_cancelled = 0;
	atomic_store(&may_go_on, false);
	base = event_base_new();
	if (chunk_worker_start(base, &worker))
		abort();
	for (size_t i = 0; i < 20; i++) {
		jobs[i] = (struct counted){.job = {.work = count_work, .done = count_done},
					   .waits = !i};
		if (chunk_worker_run(worker, &jobs[i].job))
			abort();
	}
	if (pthread_create(&helper, NULL, let_go_on, NULL))
		abort();
	chunk_worker_stop(worker);
	pthread_join(helper, NULL);
	for (size_t i = 0; i < 20; i++) {
		worked += jobs[i].worked;
		each &= jobs[i].done == 1 && jobs[i].worked == !jobs[i].job.cancelled;
	}
	tap(each && worked + n_cancelled == 20,
	    "a worker that stops hands back all, those it did not come to as cancelled");
	event_base_free(base);
}

int main(void)
{
	snprintf(path, sizeof(path), "/tmp/blix-images-XXXXXX");
	if (!mkdtemp(path))
		return 1;
	dir = open(path, O_RDONLY | O_DIRECTORY);
	make_bytes();
	digests_are_sha_256();
	chunks_are_what_their_digest_says();
	the_cache_keeps_its_bound();
	a_cache_opens_with_what_it_had();
	a_full_disk_is_no_loss();
	names_are_names_of_files();
	strange_descriptions_are_refused();
	images_are_shared_and_planned();
	what_cannot_be_shared_is_refused();
	images_outlive_the_process();
	silent_transfers_end();
	jobs_come_back_once();
	a_stop_hands_back_all();
	clean();
	close(dir);
	rmdir(path);
	return tap_done();
}
