/* agent/input/host_parse.c - see host_parse.h.
 *
 * One cursor type does all the reading, so one place decides where bytes end. */
#include "agent/input/host_parse.h"

#include <errno.h>
#include <string.h>

struct cursor {
	const char *at;
	const char *end;
};

/* The next line without its newline; false at the end. A last line without newline may have been
 * cut by our buffer, in the middle of a number, so it does not count. */
static bool next_line(struct cursor *file, struct cursor *ret_line)
{
	const char *newline;

	if (file->at == file->end)
		return false;
	newline = memchr(file->at, '\n', (size_t)(file->end - file->at));
	if (!newline)
		return false;
	*ret_line = (struct cursor){file->at, newline};
	file->at = newline + 1;
	return true;
}

static struct cursor open_bytes(const char *bytes, size_t len)
{
	return (struct cursor){bytes, bytes + len};
}

static void skip_blanks(struct cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\t'))
		c->at++;
}

static bool take_text(struct cursor *c, const char *text)
{
	size_t len = strlen(text);

	if ((size_t)(c->end - c->at) < len || memcmp(c->at, text, len) != 0)
		return false;
	c->at += len;
	return true;
}

static bool take_word(struct cursor *c, struct cursor *ret_word)
{
	skip_blanks(c);
	ret_word->at = c->at;
	while (c->at < c->end && *c->at != ' ' && *c->at != '\t')
		c->at++;
	ret_word->end = c->at;
	return ret_word->at < ret_word->end;
}

/* A decimal number that ends where a blank or the line does. */
static bool take_number(struct cursor *c, uint64_t *ret_number)
{
	uint64_t value = 0;
	const char *start;

	skip_blanks(c);
	start = c->at;
	while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
		if (__builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*c->at - '0'), &value))
			return false;
		c->at++;
	}
	if (c->at == start || (c->at < c->end && *c->at != ' ' && *c->at != '\t'))
		return false;
	*ret_number = value;
	return true;
}

static bool take_numbers(struct cursor *c, uint64_t *numbers, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (!take_number(c, &numbers[i]))
			return false;
	return true;
}

/* ---- CPU, memory, pressure ---------------------------------------------------------------- */

const char *host_cpu_mode_name(enum host_cpu_mode mode)
{
	static const char *const names[HOST_CPU_MODES] = {"user",   "nice", "system",  "idle",
							  "iowait", "irq",  "softirq", "steal"};

	return names[mode];
}

int host_parse_cpu(const char *bytes, size_t len, uint64_t ret_ticks[HOST_CPU_MODES])
{
	struct cursor file = open_bytes(bytes, len), line;
	uint64_t ticks[HOST_CPU_MODES];

	while (next_line(&file, &line)) {
		if (!take_text(&line, "cpu "))
			continue;
		if (!take_numbers(&line, ticks, HOST_CPU_MODES))
			return -EBADMSG;
		memcpy(ret_ticks, ticks, sizeof(ticks));
		return 0;
	}
	return -EBADMSG;
}

int host_parse_boot_time(const char *bytes, size_t len, uint64_t *ret_unix_s)
{
	struct cursor file = open_bytes(bytes, len), line;

	while (next_line(&file, &line))
		if (take_text(&line, "btime "))
			return take_number(&line, ret_unix_s) ? 0 : -EBADMSG;
	return -EBADMSG;
}

static bool take_kib(struct cursor *line, uint64_t *ret_bytes)
{
	uint64_t kib;

	return take_number(line, &kib) && !__builtin_mul_overflow(kib, 1024u, ret_bytes);
}

int host_parse_meminfo(const char *bytes, size_t len, struct host_memory *ret_memory)
{
	struct cursor file = open_bytes(bytes, len), line;
	struct host_memory memory;
	bool total = false, available = false;

	while (next_line(&file, &line)) {
		if (take_text(&line, "MemTotal:"))
			total = take_kib(&line, &memory.total_bytes);
		else if (take_text(&line, "MemAvailable:"))
			available = take_kib(&line, &memory.available_bytes);
	}
	if (!total || !available)
		return -EBADMSG;
	*ret_memory = memory;
	return 0;
}

int host_parse_pressure(const char *bytes, size_t len, uint64_t *ret_some_us)
{
	struct cursor file = open_bytes(bytes, len), line, word;

	while (next_line(&file, &line)) {
		if (!take_text(&line, "some "))
			continue;
		while (take_word(&line, &word))
			if (take_text(&word, "total="))
				return take_number(&word, ret_some_us) ? 0 : -EBADMSG;
	}
	return -EBADMSG;
}

int host_parse_schedstat(const char *bytes, size_t len, uint64_t *ret_wait_ns)
{
	struct cursor file = open_bytes(bytes, len), line;
	uint64_t numbers[2]; /* ran, waited */

	if (!next_line(&file, &line) || !take_numbers(&line, numbers, 2))
		return -EBADMSG;
	*ret_wait_ns = numbers[1];
	return 0;
}

/* ---- disks ---------------------------------------------------------------------------------- */

static bool all_digits(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (*s < '0' || *s > '9')
			return false;
	return true;
}

/* sda1 of sda, nvme0n1p2 of nvme0n1. */
static bool is_partition_of(const char *name, const char *disk)
{
	size_t len = strlen(disk);

	if (strncmp(name, disk, len) != 0)
		return false;
	name += len;
	if (disk[len - 1] >= '0' && disk[len - 1] <= '9') {
		if (*name != 'p')
			return false;
		name++;
	}
	return all_digits(name);
}

static bool is_uninteresting(const char *name)
{
	static const char *const prefixes[] = {"loop", "ram", "zram", "fd", "sr"};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t len = strlen(prefixes[i]);

		if (strncmp(name, prefixes[i], len) == 0 && all_digits(name + len))
			return true;
	}
	return false;
}

/* A device name goes into a label: short and printable, or not at all. */
static bool take_disk_name(struct cursor *line, char name[HOST_DISK_NAME_MAX])
{
	struct cursor word;
	size_t len;

	if (!take_word(line, &word))
		return false;
	len = (size_t)(word.end - word.at);
	if (len >= HOST_DISK_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (word.at[i] <= ' ' || word.at[i] > '~')
			return false;
	memcpy(name, word.at, len);
	name[len] = '\0';
	return true;
}

static bool take_disk(struct cursor *line, struct host_disk *ret_disk)
{
	/* reads merged sectors ms, writes merged sectors ms, in flight, busy ms, weighted ms */
	uint64_t n[11], device[2], discards[4], flush[2];

	if (!take_numbers(line, device, 2) || !take_disk_name(line, ret_disk->name) ||
	    !take_numbers(line, n, 11))
		return false;
	ret_disk->reads = n[0];
	ret_disk->sectors_read = n[2];
	ret_disk->read_ms = n[3];
	ret_disk->writes = n[4];
	ret_disk->sectors_written = n[6];
	ret_disk->write_ms = n[7];
	ret_disk->has_flushes = take_numbers(line, discards, 4) && take_numbers(line, flush, 2);
	ret_disk->flushes = ret_disk->has_flushes ? flush[0] : 0;
	ret_disk->flush_ms = ret_disk->has_flushes ? flush[1] : 0;
	return true;
}

uint32_t host_parse_diskstats(const char *bytes, size_t len, struct host_disk *ret_disks,
			      uint32_t max, uint32_t *ret_more)
{
	struct cursor file = open_bytes(bytes, len), line;
	struct host_disk disk;
	uint32_t n = 0, more = 0;

	while (next_line(&file, &line)) {
		bool partition = false;

		if (!take_disk(&line, &disk) || is_uninteresting(disk.name))
			continue;
		for (uint32_t i = 0; i < n && !partition; i++)
			partition = is_partition_of(disk.name, ret_disks[i].name) ||
				    strcmp(disk.name, ret_disks[i].name) == 0;
		if (partition)
			continue;
		if (n < max)
			ret_disks[n++] = disk;
		else
			more++;
	}
	*ret_more = more;
	return n;
}

/* ---- processes ------------------------------------------------------------------------------ */

int host_parse_process(const char *bytes, size_t len, struct host_process *ret_process)
{
	/* Fields of proc(5) by number; the command, 2, ends at the last parenthesis. */
	enum { UTIME = 14, STIME = 15, THREADS = 20, START = 22, VSIZE = 23, RSS = 24 };
	struct cursor c = open_bytes(bytes, len), word;
	const char *close = len ? memrchr(bytes, ')', len) : NULL;
	uint64_t fields[RSS + 1] = {0};

	if (!close)
		return -EBADMSG;
	c.at = close + 1;
	if (c.end > c.at && c.end[-1] == '\n')
		c.end--;
	for (int i = 3; i <= RSS; i++) {
		if (!take_word(&c, &word))
			return -EBADMSG;
		if (i != UTIME && i != STIME && i < THREADS)
			continue; /* among them letters and negative numbers */
		if (i != THREADS + 1 && !take_number(&word, &fields[i]))
			return -EBADMSG;
	}
	*ret_process = (struct host_process){
		.user_ticks = fields[UTIME],
		.system_ticks = fields[STIME],
		.threads = fields[THREADS],
		.start_ticks = fields[START],
		.virtual_bytes = fields[VSIZE],
		.resident_pages = fields[RSS],
	};
	return 0;
}

int host_parse_limit(const char *bytes, size_t len, const char *name, uint64_t *ret_soft)
{
	struct cursor file = open_bytes(bytes, len), line;

	while (next_line(&file, &line)) {
		if (!take_text(&line, name))
			continue;
		skip_blanks(&line);
		if (take_text(&line, "unlimited ")) {
			*ret_soft = UINT64_MAX;
			return 0;
		}
		return take_number(&line, ret_soft) ? 0 : -EBADMSG;
	}
	return -EBADMSG;
}

/* ---- mounts ---------------------------------------------------------------------------------- */

static bool is_octal(const char *s)
{
	return s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' &&
	       s[2] <= '7';
}

/* Undo the kernel's \ooo escapes. Returns the length, or SIZE_MAX if it does not fit. */
static size_t unescape(struct cursor word, char *out, size_t size)
{
	size_t n = 0;

	while (word.at < word.end) {
		char c = *word.at++;

		if (c == '\\' && word.end - word.at >= 3 && is_octal(word.at)) {
			c = (char)((word.at[0] - '0') * 64 + (word.at[1] - '0') * 8 +
				   (word.at[2] - '0'));
			word.at += 3;
		}
		if (n + 1 >= size)
			return SIZE_MAX;
		out[n++] = c;
	}
	out[n] = '\0';
	return n;
}

static bool lies_below(const char *path, const char *mount_point, size_t len)
{
	if (len == 1 && mount_point[0] == '/')
		return path[0] == '/';
	return strncmp(path, mount_point, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

int host_parse_mount_point(const char *bytes, size_t len, const char *path, char *ret_mount_point,
			   size_t size)
{
	struct cursor file = open_bytes(bytes, len), line, word;
	char best[4096] = "", name[4096];
	size_t best_len = 0;

	while (next_line(&file, &line)) {
		bool fine = true;
		size_t n;

		/* id, parent, device, root, then the mount point */
		for (int i = 0; i < 5 && fine; i++)
			fine = take_word(&line, &word);
		if (!fine)
			continue;
		n = unescape(word, name, sizeof(name));
		if (n == SIZE_MAX || n == 0 || strlen(name) != n || n < best_len ||
		    !lies_below(path, name, n))
			continue;
		memcpy(best, name, n + 1);
		best_len = n;
	}
	if (best_len == 0)
		return -ENOENT;
	if (best_len >= size)
		return -ENAMETOOLONG;
	memcpy(ret_mount_point, best, best_len + 1);
	return 0;
}
