/* test/support/bin/journal_send.c - N logs of a made-up node through agent/export/journal.c.
 *
 * journal_send SOCKET N: the last one is larger than a datagram. Exit status 0 when all were sent. */
#include "agent/export/journal.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TURNS_MAX = 3000, LARGE = 400000 };

int main(int argc, char **argv)
{
	struct batch_value value = {.type = BATCH_STRING, .n = 8, .text = "CreateVm"};
	struct batch_attr attr = {{"rpc.method", 10}, value};
	struct batch_resource *resource = batch_resource_new();
	struct batch *b = batch_new(BATCH_LOGS, resource);
	const struct timeval tick = {.tv_usec = 5000};
	struct event_base *base = event_base_new();
	struct journal *journal;
	struct journal_counts counts = {.waiting = 1};
	static char text[LARGE];

	if (argc != 3 || atoi(argv[2]) < 1 || atoi(argv[2]) > BATCH_ITEMS_MAX ||
	    journal_new(base, argv[1], &journal) < 0)
		return 2;
	resource->node_id = 42;
	memset(text, 'L', sizeof(text));
	b->n = (uint32_t)atoi(argv[2]);
	for (uint32_t i = 0; i < b->n; i++) {
		b->logs[i] = (struct batch_log){.unix_ns = i, .severity = 13};
		b->logs[i].body = (struct batch_text){"two\nlines", 9};
		b->logs[i].attrs = (struct batch_attrs){.at = &attr, .n = 1};
		memset(b->logs[i].trace_id, 0xab, 16);
		memset(b->logs[i].span_id, 0xcd, 8);
	}
	b->logs[b->n - 1].body = (struct batch_text){text, sizeof(text)};
	batch_seal(b);
	journal_take(journal, b);
	batch_release(b);
	for (int i = 0; i < TURNS_MAX && counts.waiting; i++) {
		event_base_loopexit(base, &tick);
		event_base_loop(base, 0);
		journal_counts(journal, &counts);
	}
	printf("%llu sent, %llu dropped\n", (unsigned long long)counts.sent,
	       (unsigned long long)counts.dropped);
	batch_resource_release(resource);
	journal = journal_free(journal);
	event_base_free(base);
	return counts.waiting || counts.dropped ? 1 : 0;
}
