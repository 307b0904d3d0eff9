/* run.c - see run.h. Loop thread only. */
#include "run.h"

#include "test/cluster/record/record.h"
#include "test/cluster/rpc/rpc_client.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

enum { PACE_US = 500, SEND_AT_ONCE_MAX = 4096 };

struct run {
	const struct options *options;
	struct tally *tally;
	void (*progress)(const struct options *options, const struct tally *tally,
			 uint64_t elapsed_ns);
	struct event_base *base;
	struct event *pacer;
	struct event *second;
	struct event *sigint;
	struct event *sigterm;
	struct rpc_queue *queue;
	struct rpc_channel *channels[TARGETS_MAX][CONNECTIONS_MAX];
	unsigned turn[TARGETS_MAX]; /* the connection whose turn it is */
	struct workload workload;
	struct pace pace;
	uint64_t started_ns;
	uint64_t due_ns; /* the next operation, since the start */
	uint64_t ended_ns;
	uint32_t in_flight;
	bool ended;   /* nothing more is sent, but */
	bool cleaned; /* what was left behind is deleted */
};

/* An operation under way. */
struct pending {
	struct run *run;
	enum method method;
	unsigned target;
	int vm;
	uint64_t due_ns; /* on the clock */
};

static uint64_t elapsed_ns(const struct run *run)
{
	return record_now_ns() - run->started_ns;
}

static void clean_up(struct run *run);

/* Everything that was sent has an answer, and no more is to come. */
static void finish(struct run *run)
{
	if (!run->cleaned)
		clean_up(run);
	if (!run->in_flight)
		event_base_loopbreak(run->base);
}

static void end(struct run *run)
{
	if (run->ended)
		return;
	run->ended = true;
	run->ended_ns = elapsed_ns(run);
	if (!run->in_flight)
		finish(run);
}

static void on_done(void *arg, const struct rpc_result *result)
{
	struct pending *pending = arg;
	struct run *run = pending->run;
	uint64_t now_ns = record_now_ns();

	tally_ended(run->tally, pending->target, pending->method, result->code,
		    now_ns - pending->due_ns);
	if (pending->method == METHOD_GET_VM_IMAGE && result->code == GRPC_STATUS_OK) {
		const Blixard__GetVmImageReply *reply = (const void *)result->reply;
		tally_image(run->tally, pending->target, reply->chunks_moved, reply->chunks_spared);
	}
	workload_ordered(&run->workload, pending->vm, pending->method, result->code,
			 now_ns - run->started_ns);
	free(pending);
	run->in_flight--;
	if (run->ended && !run->in_flight)
		finish(run);
}

static int send_one(struct run *run, const struct operation *op, uint64_t due_ns)
{
	unsigned turn = run->turn[op->target]++ % run->options->connections;
	struct pending *pending = malloc(sizeof(*pending));

	if (!pending)
		return -ENOMEM;
	*pending = (struct pending){.run = run,
				    .method = op->method,
				    .target = op->target,
				    .vm = op->vm,
				    .due_ns = due_ns};
	int err =
		rpc_channel_call(run->channels[op->target][turn], workload_method(op->method)->name,
				 &op->request.base, workload_method(op->method)->reply,
				 run->options->timeout_ms, on_done, pending);
	if (err)
		free(pending);
	return err;
}

static void send_or_count(struct run *run, const struct operation *op, uint64_t due_ns)
{
	if (run->in_flight >= run->options->in_flight_max || send_one(run, op, due_ns)) {
		tally_not_sent(run->tally, op->target, op->method);
		workload_not_ordered(&run->workload, op->vm);
		return;
	}
	tally_sent(run->tally, op->target, op->method);
	run->in_flight++;
}

static void do_next(struct run *run)
{
	struct operation op;

	workload_next(&run->workload, run->due_ns, &op);
	send_or_count(run, &op, run->started_ns + run->due_ns);
}

static void clean_up(struct run *run)
{
	struct operation op;

	run->cleaned = true;
	while (workload_clean_up(&run->workload, &op))
		send_or_count(run, &op, record_now_ns());
}

static void on_pace(evutil_socket_t fd, short what, void *arg)
{
	struct run *run = arg;
	uint64_t now_ns = elapsed_ns(run);
	uint64_t end_ns = run->options->seconds * 1000000000ull;

	(void)fd;
	(void)what;
	for (int i = 0; !run->ended && run->due_ns <= now_ns && i < SEND_AT_ONCE_MAX; i++) {
		if (run->due_ns >= end_ns) {
			end(run);
			return;
		}
		do_next(run);
		run->due_ns = pace_next_ns(&run->pace);
	}
	if (now_ns >= end_ns && run->due_ns >= end_ns)
		end(run);
}

static void on_second(evutil_socket_t fd, short what, void *arg)
{
	const struct run *run = arg;

	(void)fd;
	(void)what;
	run->progress(run->options, run->tally, elapsed_ns(run));
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
	struct run *run = arg;

	(void)fd;
	(void)what;
	if (run->ended) { /* the second one: what is under way is cancelled on the way out */
		run->cleaned = true;
		event_base_loopbreak(run->base);
	}
	end(run);
}

static int open_channels(struct run *run)
{
	for (unsigned i = 0; i < run->options->n_targets; i++) {
		for (unsigned j = 0; j < run->options->connections; j++) {
			run->channels[i][j] =
				rpc_channel_open(run->queue, run->options->targets[i]);
			if (!run->channels[i][j])
				return -ENOMEM;
		}
	}
	return 0;
}

static int add_events(struct run *run)
{
	static const struct timeval pace = {0, PACE_US}, second = {1, 0};

	run->pacer = event_new(run->base, -1, EV_PERSIST, on_pace, run);
	run->second = event_new(run->base, -1, EV_PERSIST, on_second, run);
	run->sigint = evsignal_new(run->base, SIGINT, on_signal, run);
	run->sigterm = evsignal_new(run->base, SIGTERM, on_signal, run);
	if (!run->pacer || !run->second || !run->sigint || !run->sigterm ||
	    event_add(run->pacer, &pace) || event_add(run->second, &second) ||
	    event_add(run->sigint, NULL) || event_add(run->sigterm, NULL))
		return -ENOMEM;
	return 0;
}

static struct event_base *new_base(void)
{
	struct event_config *config = event_config_new();

	if (!config)
		return NULL;
	event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
	struct event_base *base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

static void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

static void take_down(struct run *run)
{
	for (unsigned i = 0; i < TARGETS_MAX; i++) {
		for (unsigned j = 0; j < run->options->connections; j++)
			rpc_channel_close(run->channels[i][j]);
	}
	rpc_queue_close(run->queue); /* what had no answer is counted as cancelled here */
	free_event(run->pacer);
	free_event(run->second);
	free_event(run->sigint);
	free_event(run->sigterm);
	if (run->base)
		event_base_free(run->base);
}

int run_load(const struct options *options,
	     void (*progress)(const struct options *options, const struct tally *tally,
			      uint64_t elapsed_ns),
	     struct tally *tally, uint64_t *ret_elapsed_ns)
{
	static struct run run; /* large */

	run = (struct run){.options = options,
			   .tally = tally,
			   .progress = progress,
			   .pace = pace_of(options->profile, options->per_second, options->seed)};
	workload_init(&run.workload, options->seed, options->targets, options->n_targets,
		      options->vms);
	run.base = new_base();
	int err = run.base ? rpc_queue_open(run.base, &run.queue) : -ENOMEM;
	if (!err)
		err = open_channels(&run);
	if (!err)
		err = add_events(&run);
	if (!err) {
		run.started_ns = record_now_ns();
		run.due_ns = pace_next_ns(&run.pace);
		event_base_dispatch(run.base);
		*ret_elapsed_ns = run.ended_ns;
	}
	take_down(&run);
	return err;
}
