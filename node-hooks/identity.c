/* node-hooks/identity.c - who this process is: /proc, the environment, and what the caller said.
 *
 * The resource attributes become the bytes of an OTLP Resource message, written by hand: five
 * kinds of field are no reason to link a protobuf library into every node. They name what is
 * stable over restarts; the incarnation is in page 0.
 *
 * Thread rule: called by blix_open alone, under its lock. Cold. */
#include "session.h"

#include "shm/utf8.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	ATTRIBUTES_MAX = 128,
	ATTRIBUTES_BYTES = 8 << 10,
	START_TIME_FIELD = 22, /* of /proc/PID/stat, see proc(5) */
};

/* ---- from the kernel ------------------------------------------------------------------------ */

/* Read a small file of /proc. Length, or 0 if it cannot be had. */
static size_t slurp(const char *path, char *to, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, to, size - 1);

	if (fd >= 0)
		close(fd);
	to[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The 16 bytes of a UUID in its usual form; zeros if it is none. */
static void read_boot_id(uint8_t ret_id[16])
{
	char text[64];
	size_t len = slurp("/proc/sys/kernel/random/boot_id", text, sizeof(text));
	uint8_t id[16] = {0};
	size_t digits = 0;

	for (size_t i = 0; i < len && digits < 32; i++) {
		int digit = hex_digit(text[i]);

		if (digit < 0)
			continue;
		id[digits / 2] = (uint8_t)(id[digits / 2] << 4 | digit);
		digits++;
	}
	if (digits == 32)
		memcpy(ret_id, id, sizeof(id));
}

static void read_random(uint8_t ret_bytes[16])
{
	struct timespec now;

	if (getrandom(ret_bytes, 16, GRND_NONBLOCK) == 16)
		return;
	/* Before the kernel's pool is ready: unique for this process on this machine is enough. */
	clock_gettime(CLOCK_REALTIME, &now);
	memcpy(ret_bytes, &now, 16 < sizeof(now) ? 16 : sizeof(now));
	ret_bytes[7] ^= (uint8_t)getpid();
	ret_bytes[6] ^= (uint8_t)(getpid() >> 8);
}

/* When this process started, in clock ticks since boot. */
static uint64_t read_start_ticks(void)
{
	char text[1024];
	const char *at;

	slurp("/proc/self/stat", text, sizeof(text));
	at = strrchr(text, ')'); /* the second field may hold blanks and parentheses */
	for (int field = 2; at && field < START_TIME_FIELD; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

static uint64_t inode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_ino : 0;
}

/* The GNU build id among the notes of one segment. */
static bool find_build_id(const uint8_t *notes, size_t len, uint8_t ret_id[20])
{
	while (len >= sizeof(ElfW(Nhdr))) {
		ElfW(Nhdr) note;
		size_t name_len;
		size_t desc_len;
		const uint8_t *desc;

		memcpy(&note, notes, sizeof(note));
		name_len = (note.n_namesz + 3u) & ~(size_t)3;
		desc_len = (note.n_descsz + 3u) & ~(size_t)3;
		if (name_len > len - sizeof(note) || desc_len > len - sizeof(note) - name_len)
			return false;
		desc = notes + sizeof(note) + name_len;
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof(ELF_NOTE_GNU) &&
		    memcmp(notes + sizeof(note), ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)) == 0) {
			memcpy(ret_id, desc, note.n_descsz < 20 ? note.n_descsz : 20);
			return true;
		}
		len -= sizeof(note) + name_len + desc_len;
		notes += sizeof(note) + name_len + desc_len;
	}
	return false;
}

/* The first object of the walk is the program itself; stop there. */
static int visit_program(struct dl_phdr_info *info, size_t size, void *ret_id)
{
	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_NOTE &&
		    find_build_id((const uint8_t *)(info->dlpi_addr + ph->p_vaddr), ph->p_memsz,
				  ret_id))
			break;
	}
	return 1;
}

static void describe_process(struct blix_format_identity *f)
{
	read_boot_id(f->boot_id);
	read_random(f->incarnation);
	f->pid = (uint32_t)getpid();
	f->uid = (uint32_t)geteuid();
	f->pid_start_ticks = read_start_ticks();
	f->pidns_ino = inode_of("/proc/self/ns/pid");
	f->timens_ino = inode_of("/proc/self/ns/time");
	dl_iterate_phdr(visit_program, f->build_id);
	blix_clock_pair(&f->open_mono_ns, &f->open_real_ns);
}

/* ---- attributes ----------------------------------------------------------------------------- */

/* A bounded map; texts are offsets into bytes, so that it can be copied. Later values replace
 * earlier ones. */
struct attributes {
	uint32_t n;
	uint32_t used;
	struct {
		uint32_t key;
		uint32_t value;
	} at[ATTRIBUTES_MAX];
	char bytes[ATTRIBUTES_BYTES];
};

static const char *key_of(const struct attributes *a, uint32_t i)
{
	return a->bytes + a->at[i].key;
}

static const char *value_of(const struct attributes *a, uint32_t i)
{
	return a->bytes + a->at[i].value;
}

/* False when there is no room. */
static bool keep_text(struct attributes *a, const char *text, uint32_t *ret_offset)
{
	size_t len = strlen(text) + 1;

	if (len > ATTRIBUTES_BYTES - a->used)
		return false;
	memcpy(a->bytes + a->used, text, len);
	*ret_offset = a->used;
	a->used += (uint32_t)len;
	return true;
}

static bool set_attribute(struct attributes *a, const char *key, const char *value)
{
	uint32_t i = 0;

	while (i < a->n && strcmp(key_of(a, i), key) != 0)
		i++;
	if (i == ATTRIBUTES_MAX || !keep_text(a, value, &a->at[i].value))
		return false;
	if (i < a->n)
		return true;
	if (!keep_text(a, key, &a->at[i].key))
		return false;
	a->n++;
	return true;
}

static const char *get_attribute(const struct attributes *a, const char *key)
{
	for (uint32_t i = 0; i < a->n; i++)
		if (strcmp(key_of(a, i), key) == 0)
			return value_of(a, i);
	return NULL;
}

/* Undo percent-encoding and blanks around; -1: malformed, or no text. `to` has room for `len`. */
static int decode(const char *from, size_t len, char *to)
{
	size_t out = 0;

	while (len > 0 && isspace((unsigned char)from[0])) {
		from++;
		len--;
	}
	while (len > 0 && isspace((unsigned char)from[len - 1]))
		len--;
	for (size_t i = 0; i < len; i++) {
		int high;
		int low;

		if (from[i] != '%') {
			to[out++] = from[i];
			continue;
		}
		if (len - i < 3)
			return -1;
		high = hex_digit(from[i + 1]);
		low = hex_digit(from[i + 2]);
		if (high < 0 || low < 0 || (high == 0 && low == 0))
			return -1;
		to[out++] = (char)(high << 4 | low);
		i += 2;
	}
	to[out] = '\0';
	return blix_utf8_valid((const uint8_t *)to, out) ? 0 : -1;
}

/* Add one "key=value". */
static bool add_pair(struct attributes *a, const char *pair, size_t len)
{
	const char *equals = memchr(pair, '=', len);
	char key[ATTRIBUTES_BYTES];
	char value[ATTRIBUTES_BYTES];

	if (!equals || len >= ATTRIBUTES_BYTES || decode(pair, (size_t)(equals - pair), key) < 0 ||
	    !key[0] || decode(equals + 1, (size_t)(pair + len - equals - 1), value) < 0)
		return false;
	return set_attribute(a, key, value);
}

/* Add "key=value,key=value": all of it, or nothing of it. */
static bool add_list(struct attributes *a, const char *list)
{
	struct attributes *with;
	bool ok = true;

	if (!list)
		return true;
	with = malloc(sizeof(*with));
	if (!with)
		return false;
	*with = *a;
	while (ok && *list) {
		size_t len = strcspn(list, ",");

		if (strspn(list, " \t") < len) /* an empty element is harmless */
			ok = add_pair(with, list, len);
		list += len + (list[len] == ',');
	}
	if (ok)
		*a = *with;
	free(with);
	return ok;
}

/* ---- OTLP ------------------------------------------------------------------------------------ */

/* Field numbers of opentelemetry/proto/{resource,common}/v1, wire type 2 for all of them. */
enum {
	RESOURCE_ATTRIBUTES = 1 << 3 | 2,
	KEY_VALUE_KEY = 1 << 3 | 2,
	KEY_VALUE_VALUE = 2 << 3 | 2,
	ANY_VALUE_STRING = 1 << 3 | 2,
};

static size_t varint_len(size_t value)
{
	size_t n = 1;

	while (value >= 0x80) {
		value >>= 7;
		n++;
	}
	return n;
}

/* Bytes of a length-delimited field with a one-byte tag. */
static size_t field_len(size_t payload)
{
	return 1 + varint_len(payload) + payload;
}

static uint8_t *put_head(uint8_t *to, uint8_t tag, size_t payload)
{
	*to++ = tag;
	while (payload >= 0x80) {
		*to++ = (uint8_t)(payload | 0x80);
		payload >>= 7;
	}
	*to++ = (uint8_t)payload;
	return to;
}

static uint8_t *put_text(uint8_t *to, uint8_t tag, const char *text, size_t len)
{
	to = put_head(to, tag, len);
	memcpy(to, text, len);
	return to + len;
}

/* Encode what fits; false: something did not. */
static bool encode_resource(const struct attributes *a, struct blix_description *d)
{
	uint8_t *to = d->resource;

	for (uint32_t i = 0; i < a->n; i++) {
		size_t key_len = strlen(key_of(a, i));
		size_t value_len = strlen(value_of(a, i));
		size_t any_len = field_len(value_len);
		size_t pair_len = field_len(key_len) + field_len(any_len);

		if (field_len(pair_len) > (size_t)(d->resource + sizeof(d->resource) - to))
			return false;
		to = put_head(to, RESOURCE_ATTRIBUTES, pair_len);
		to = put_text(to, KEY_VALUE_KEY, key_of(a, i), key_len);
		to = put_head(to, KEY_VALUE_VALUE, any_len);
		to = put_text(to, ANY_VALUE_STRING, value_of(a, i), value_len);
		d->resource_len = (uint32_t)(to - d->resource);
	}
	return true;
}

/* ---- what the caller said ------------------------------------------------------------------- */

#define explain(reason, ...) snprintf((reason), BLIX_TEXT_MAX, __VA_ARGS__)

/* Copy a text of the identity into its field of page 0. */
static int take_text(char *to, size_t size, const char *name, const char *text,
		     char reason[BLIX_TEXT_MAX])
{
	size_t len = text ? strlen(text) : 0;

	if (len >= size) {
		explain(reason, "identity.%s is longer than %zu bytes", name, size - 1);
		return -EINVAL;
	}
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f) {
			explain(reason, "identity.%s holds a control character", name);
			return -EINVAL;
		}
	}
	if (text && !blix_utf8_valid((const uint8_t *)text, len)) {
		explain(reason, "identity.%s is not UTF-8", name);
		return -EINVAL;
	}
	memcpy(to, text ? text : "", len + 1);
	return 0;
}

static int check_number(const char *name, uint32_t value, uint32_t low, uint32_t high,
			char reason[BLIX_TEXT_MAX])
{
	if (value == 0 || (value >= low && value <= high))
		return 0;
	explain(reason, "identity.%s is %u: 0 or %u to %u", name, value, low, high);
	return -EINVAL;
}

static int check_numbers(const struct blix_identity *id, char reason[BLIX_TEXT_MAX])
{
	if (check_number("ring_bytes", id->ring_bytes, BLIX_RING_BYTES_MIN, BLIX_RING_BYTES_MAX,
			 reason) < 0 ||
	    check_number("lanes", id->lanes, 1, BLIX_CAP_LANES, reason) < 0 ||
	    check_number("cells", id->cells, 2, BLIX_CAP_CELLS, reason) < 0 ||
	    check_number("slots", id->slots, 1, BLIX_CAP_SLOTS, reason) < 0 ||
	    check_number("histograms", id->histograms, 1, 2, reason) < 0)
		return -EINVAL;
	if (id->ring_bytes & (id->ring_bytes - 1)) {
		explain(reason, "identity.ring_bytes is %u: no power of two", id->ring_bytes);
		return -EINVAL;
	}
	for (size_t i = 0; i < sizeof(id->reserved) / sizeof(id->reserved[0]); i++) {
		if (id->reserved[i]) {
			explain(reason,
				"identity.reserved is not zero: built against a newer header?");
			return -EINVAL;
		}
	}
	return 0;
}

/* Texts and numbers as given, before the environment has its say. */
static int take_identity(const struct blix_identity *id, struct blix_description *d,
			 char reason[BLIX_TEXT_MAX])
{
	const char *cluster = id->cluster ? id->cluster : "default";

	if (check_numbers(id, reason) < 0 ||
	    take_text(d->version, sizeof(d->version), "service_version", id->service_version,
		      reason) < 0 ||
	    take_text(d->grpc_address, sizeof(d->grpc_address), "grpc_address", id->grpc_address,
		      reason) < 0 ||
	    take_text(d->cluster, sizeof(d->cluster), "cluster", cluster, reason) < 0 ||
	    take_text(d->service_name, sizeof(d->service_name), "service_name", id->service_name,
		      reason) < 0 ||
	    take_text(d->data_dir, sizeof(d->data_dir), "data_dir", id->data_dir, reason) < 0)
		return -EINVAL;
	d->format.node_id = id->node_id;
	return 0;
}

/* ---- the environment ------------------------------------------------------------------------ */

bool blix_environment_histograms_both(void)
{
	const char *value = getenv("BLIXARD_HISTOGRAMS");

	return value && strcasecmp(value, "both") == 0;
}

static bool endpoint_is_set(void)
{
	static const char *const names[] = {
		"OTEL_EXPORTER_OTLP_ENDPOINT",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
		"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value = getenv(names[i]);

		if (value && *value)
			return true;
	}
	return false;
}

/* A value of unknown origin as a page 0 text: cut between characters, cleared of controls. */
static void fit_text(char *to, size_t size, const char *from)
{
	size_t left = strlen(from);
	size_t out = 0;

	while (left > 0) {
		size_t n = blix_utf8_char((const uint8_t *)from, left);

		if (n == 0 || out + n >= size)
			break;
		memcpy(to + out, from, n);
		if ((unsigned char)to[out] < ' ' || to[out] == 0x7f)
			to[out] = ' ';
		out += n;
		from += n;
		left -= n;
	}
	to[out] = '\0';
}

static bool add_defaults(struct attributes *a, const struct blix_description *d)
{
	char instance[sizeof(d->cluster) + 24];
	char host[256] = "";

	gethostname(host, sizeof(host) - 1);
	snprintf(instance, sizeof(instance), "%s/%llu", d->cluster,
		 (unsigned long long)d->format.node_id);
	return set_attribute(a, "service.name", "blixard") &&
	       set_attribute(a, "service.instance.id", instance) &&
	       (!host[0] || !blix_utf8_valid((const uint8_t *)host, strlen(host)) ||
		set_attribute(a, "host.name", host)) &&
	       set_attribute(a, "telemetry.sdk.name", "blixard") &&
	       set_attribute(a, "telemetry.sdk.language", "c") &&
	       set_attribute(a, "telemetry.sdk.version", BLIX_HOOKS_VERSION);
}

/* Weakest first: defaults, environment, the caller's list, then the single-purpose settings. */
static int gather_attributes(const struct blix_identity *id, struct attributes *a,
			     struct blix_description *d, char reason[BLIX_TEXT_MAX])
{
	const char *name = getenv("OTEL_SERVICE_NAME");

	add_defaults(a, d); /* always fits */
	if (!add_list(a, getenv("OTEL_RESOURCE_ATTRIBUTES")))
		explain(d->warning,
			"OTEL_RESOURCE_ATTRIBUTES is malformed or too long and was ignored: "
			"key=value,key=value with percent-encoding");
	if (!add_list(a, id->resource_attributes)) {
		explain(reason, "identity.resource_attributes is malformed or too long: "
				"key=value,key=value with percent-encoding");
		return -EINVAL;
	}
	if (name && *name && blix_utf8_valid((const uint8_t *)name, strlen(name)))
		set_attribute(a, "service.name", name);
	if (d->service_name[0])
		set_attribute(a, "service.name", d->service_name);
	if (d->version[0])
		set_attribute(a, "service.version", d->version);
	return 0;
}

int blix_describe(const struct blix_identity *identity, struct blix_description *ret_description,
		  char reason[BLIX_TEXT_MAX])
{
	struct blix_description *d = ret_description;
	const char *version;
	struct attributes *a;
	int err;

	memset(d, 0, sizeof(*d));
	err = take_identity(identity, d, reason);
	if (err < 0)
		return err;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	err = gather_attributes(identity, a, d, reason);
	if (err < 0)
		goto out;
	if (!encode_resource(a, d))
		explain(d->warning,
			"the resource attributes are too long; the last ones are left out");
	fit_text(d->service_name, sizeof(d->service_name), get_attribute(a, "service.name"));
	version = get_attribute(a, "service.version");
	fit_text(d->version, sizeof(d->version), version ? version : "");

	describe_process(&d->format);
	d->histograms_both = identity->histograms ? identity->histograms == 2
						  : blix_environment_histograms_both();
	d->format.flags = (endpoint_is_set() ? (uint32_t)BLIX_FLAG_ENDPOINT_SET : 0) |
			  (d->histograms_both ? (uint32_t)BLIX_FLAG_HISTOGRAMS_BOTH : 0);
	d->format.version = d->version;
	d->format.grpc_address = d->grpc_address;
	d->format.cluster = d->cluster;
	d->format.service_name = d->service_name;
	d->format.data_dir = d->data_dir;
	d->format.resource = d->resource;
out:
	free(a);
	return err;
}
