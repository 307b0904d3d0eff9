/* Goal: any thread may log while another one changes level and format or reads the counter, and
 * every line is either written whole or counted as dropped. Method: three threads log numbered
 * lines into a pipe that is read slowly; the reader adds up. For ThreadSanitizer: a plain main. */
#include "agent/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { WRITERS = 3, LINES = 4000 };

static void *writer(void *arg)
{
	for (int i = 0; i < LINES; i++) {
		log_line(LOG_LEVEL_ERROR, "kind", "line %d of writer %p ends", i, arg);
		log_repeated(LOG_LEVEL_DEBUG, "kind", "never shown", "x");
		if (i % 64 == 0)
			log_set_level(i % 128 ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING);
	}
	return NULL;
}

/* Count whole lines, apart from notes about lost ones; negative if one is torn. */
static void *reader(void *arg)
{
	static long whole;
	FILE *in = fdopen(*(int *)arg, "r");
	char line[4096];

	while (in && fgets(line, sizeof(line), in)) {
		if (strstr(line, "lines were lost here"))
			continue;
		if (!strstr(line, " error: event=kind line ") || !strstr(line, " ends\n"))
			return NULL;
		whole++;
	}
	if (in)
		fclose(in);
	return &whole;
}

int main(void)
{
	pthread_t writers[WRITERS], read_thread;
	char lines_of[WRITERS];
	long *whole;
	void *result;
	int pipes[2];

	if (pipe2(pipes, O_CLOEXEC) < 0 || log_start(pipes[1], LOG_FORMAT_TEXT, LOG_LEVEL_INFO) < 0)
		return 77;
	pthread_create(&read_thread, NULL, reader, &pipes[0]);
	for (int i = 0; i < WRITERS; i++)
		pthread_create(&writers[i], NULL, writer, &lines_of[i]);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
	log_stop(10000);
	close(pipes[1]);
	pthread_join(read_thread, &result);
	whole = result;
	printf("%ld lines came, %llu were dropped, of %d\n", whole ? *whole : -1,
	       (unsigned long long)log_dropped(), WRITERS * LINES);
	return !whole || *whole + (long)log_dropped() != WRITERS * LINES;
}
