/* Goal: a setting is read whole or not at all while the agent replaces it as fast as it can.
 * Method: one thread writes settings whose every number follows from one, two threads read; a mix
 * of two is a failure. For ThreadSanitizer: a plain main. */
#include "shm/control.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { READERS = 2, WRITES = 20000, READS_MIN = 100 };

static atomic_bool done;
static struct blix_view view;

static struct blix_control_setting setting_of(uint32_t id)
{
	struct blix_control_setting s = {
		.has_threshold = true,
		.threshold56 = id,
		.threshold_ticks = id % 1000 + 1,
		.has_log_min = true,
		.log_min = id % 25 + 1,
		.log_min_ticks = id % 999 + 1,
		.n_rules = id % (BLIX_CONTROL_RULES + 1),
	};

	for (uint32_t i = 0; i < s.n_rules; i++) {
		s.rules[i].ticks = id % 998 + i + 1;
		s.rules[i].threshold56 = (uint64_t)id * 32 + i;
		snprintf(s.rules[i].glob, sizeof(s.rules[i].glob), "*/%u/%u", id, i);
	}
	return s;
}

static bool is_whole(const struct blix_control_setting *got)
{
	struct blix_control_setting want = setting_of((uint32_t)got->threshold56);

	for (size_t i = 0; i < sizeof(want); i++)
		if (((const char *)got)[i] != ((const char *)&want)[i])
			return false;
	return true;
}

static void *writer(void *arg)
{
	(void)arg;
	for (uint32_t id = 1; id <= WRITES; id++) {
		struct blix_control_setting s = setting_of(id);

		if (blix_control_write(&view, &s) != 0)
			abort();
	}
	atomic_store(&done, true);
	return NULL;
}

/* Reads at full speed until the writer is done and enough was seen; -1: something torn. */
static void *reader(void *arg)
{
	long *whole = arg;

	while (!atomic_load(&done) || *whole < READS_MIN) {
		static _Thread_local struct blix_control_setting got;
		uint32_t gen;
		int err = blix_control_read(&view, &got, &gen);

		if (err == -EAGAIN || err == -ENOENT)
			continue;
		if (err || !is_whole(&got)) {
			*whole = -1;
			break;
		}
		++*whole;
	}
	return NULL;
}

int main(void)
{
	pthread_t writes, reads[READERS];
	long whole[READERS] = {0};
	int bad = 0;

	view.base = aligned_alloc(4096, 8192);
	if (!view.base)
		return 77;
	for (size_t i = 0; i < 8192; i++)
		view.base[i] = 0;
	view.consumer = view.base + 1024;
	view.consumer_off = 1024;
	view.control_off = 4096;
	for (int i = 0; i < READERS; i++)
		pthread_create(&reads[i], NULL, reader, &whole[i]);
	pthread_create(&writes, NULL, writer, NULL);
	pthread_join(writes, NULL);
	for (int i = 0; i < READERS; i++) {
		pthread_join(reads[i], NULL);
		printf("reader %d: %ld whole settings of %d written\n", i, whole[i], WRITES);
		bad |= whole[i] < READS_MIN;
	}
	free(view.base);
	return bad;
}
