/* image_sends.c - see image_sends.h. Loop thread only. */
#include "image_sends.h"

#include "test/cluster/record/record_image.h"

#include <errno.h>

static size_t find(const struct image_sends *sends, uint64_t transfer)
{
	size_t i = 0;

	while (i < sends->n && sends->of[i].transfer != transfer)
		i++;
	return i;
}

static void end(struct image_sends *sends, size_t i, bool good, uint64_t now_ns)
{
	record_image_ended(IMAGE_SEND, good, now_ns - sends->of[i].started_ns);
	sends->of[i] = sends->of[--sends->n];
}

int image_sends_begin(struct image_sends *sends, uint64_t transfer, uint64_t now_ns)
{
	if (image_sends_heard(sends, transfer, now_ns))
		return 0;
	if (sends->n == IMAGE_SENDS_MAX)
		return -EBUSY;
	sends->of[sends->n].transfer = transfer;
	sends->of[sends->n].started_ns = sends->of[sends->n].heard_ns = now_ns;
	sends->n++;
	record_image_begun();
	return 0;
}

bool image_sends_heard(struct image_sends *sends, uint64_t transfer, uint64_t now_ns)
{
	size_t i = find(sends, transfer);

	if (i == sends->n)
		return false;
	sends->of[i].heard_ns = now_ns;
	return true;
}

bool image_sends_end(struct image_sends *sends, uint64_t transfer, bool good, uint64_t now_ns)
{
	size_t i = find(sends, transfer);

	if (i == sends->n)
		return false;
	end(sends, i, good, now_ns);
	return true;
}

void image_sends_expire(struct image_sends *sends, uint64_t now_ns)
{
	for (size_t i = sends->n; i-- > 0;) {
		if (now_ns - sends->of[i].heard_ns > IMAGE_SEND_IDLE_MS * 1000000ull)
			end(sends, i, false, now_ns);
	}
}

void image_sends_stop(struct image_sends *sends, uint64_t now_ns)
{
	while (sends->n)
		end(sends, 0, false, now_ns);
}
