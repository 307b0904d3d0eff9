/* agent/input/node_wait.c - see node_wait.h. */
#include "agent/input/node_wait.h"

#include "agent/input/host_parse.h"
#include "agent/input/proc_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NODE_WAIT_MAX_AGE_NS UINT64_C(1000000000)

struct thread_wait {
	char tid[16];
	uint64_t wait_ns;
	bool seen; /* in the look that is under way */
};

struct node_wait {
	int dir; /* /proc/PID */
	uint64_t looked_ns;
	uint64_t total_ns;
	bool known;
	uint32_t n_threads;
	struct thread_wait threads[NODE_WAIT_THREADS_MAX];
};

static ssize_t read_at(int dir, const char *path, char *buf, size_t size)
{
	struct proc_file f = {.dir = dir, .path = path, .fd = -1};
	ssize_t n = proc_file_read(&f, buf, size);

	proc_file_close(&f);
	return n;
}

int node_wait_new(pid_t pid, uint64_t start_ticks, struct node_wait **ret_wait)
{
	struct host_process process;
	struct node_wait *w;
	char path[32], text[1024];
	ssize_t n;
	int dir;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = read_at(dir, "stat", text, sizeof(text));
	w = n < 0 ? NULL : calloc(1, sizeof(*w));
	if (!w) {
		close(dir);
		return n < 0 ? (int)n : -ENOMEM;
	}
	w->dir = dir;
	if (host_parse_process(text, (size_t)n, &process) < 0 ||
	    process.start_ticks != start_ticks) {
		node_wait_free(w);
		return -ESRCH;
	}
	*ret_wait = w;
	return 0;
}

struct node_wait *node_wait_free(struct node_wait *w)
{
	if (!w)
		return NULL;
	close(w->dir);
	free(w);
	return NULL;
}

static struct thread_wait *find_thread(struct node_wait *w, const char *tid)
{
	for (uint32_t i = 0; i < w->n_threads; i++)
		if (strcmp(w->threads[i].tid, tid) == 0)
			return &w->threads[i];
	if (w->n_threads == NODE_WAIT_THREADS_MAX || strlen(tid) >= sizeof(w->threads[0].tid))
		return NULL;
	w->threads[w->n_threads] = (struct thread_wait){0};
	strcpy(w->threads[w->n_threads].tid, tid);
	return &w->threads[w->n_threads++];
}

static void look_at_thread(struct node_wait *w, int tasks, const char *tid)
{
	struct thread_wait *thread = find_thread(w, tid);
	char path[64], text[128];
	uint64_t wait_ns;
	ssize_t n;

	if (!thread)
		return;
	thread->seen = true;
	snprintf(path, sizeof(path), "%s/schedstat", tid);
	n = read_at(tasks, path, text, sizeof(text));
	if (n <= 0 || host_parse_schedstat(text, (size_t)n, &wait_ns) < 0)
		return;
	w->known = true;
	if (wait_ns > thread->wait_ns) /* lower: the number of another, newer thread */
		w->total_ns += wait_ns - thread->wait_ns;
	thread->wait_ns = wait_ns;
}

/* Threads that ended make room; what they had waited stays in the total. */
static void forget_ended(struct node_wait *w)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < w->n_threads; i++) {
		if (!w->threads[i].seen)
			continue;
		w->threads[kept] = w->threads[i];
		w->threads[kept++].seen = false;
	}
	w->n_threads = kept;
}

static void look(struct node_wait *w)
{
	int tasks = openat(w->dir, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = tasks >= 0 ? fdopendir(tasks) : NULL;
	const struct dirent *entry;

	if (!dir) {
		if (tasks >= 0)
			close(tasks);
		return;
	}
	for (int left = NODE_WAIT_THREADS_MAX + 2; left > 0 && (entry = readdir(dir)); left--)
		if (entry->d_name[0] != '.')
			look_at_thread(w, tasks, entry->d_name);
	closedir(dir);
	forget_ended(w);
}

bool node_wait_read(struct node_wait *w, uint64_t now_ns, uint64_t *ret_ns)
{
	if (w->looked_ns == 0 || now_ns - w->looked_ns >= NODE_WAIT_MAX_AGE_NS) {
		look(w);
		w->looked_ns = now_ns;
	}
	*ret_ns = w->total_ns;
	return w->known;
}
