/* node.c - wiring: makes the parts, gives each the callbacks of the others, runs the loop, and
 * takes everything down again. Main thread. */
#include "node.h"

#include "test/cluster/storage/disk.h"
#include "test/cluster/state/fsm.h"
#include "test/cluster/image/images.h"
#include "test/cluster/raft/join.h"
#include "test/cluster/own_load/load.h"
#include "test/cluster/own_load/load_images.h"
#include "log.h"
#include "test/cluster/placement/placer.h"
#include "test/cluster/raft/proposals.h"
#include "test/cluster/raft/raft_io.h"
#include "test/cluster/record/note.h"
#include "test/cluster/record/record.h"
#include "test/cluster/record/record_image.h"
#include "test/cluster/record/record_rpc.h"
#include "test/cluster/record/record_vm.h"
#include "test/cluster/record/trace.h"
#include "test/cluster/service/rpc_vm.h"
#include "test/cluster/service/service.h"
#include "test/cluster/vm/vm_runtime.h"
#include "test/cluster/raft/watch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <time.h>

enum { STOP_DEADLINE_S = 3, SNAPSHOT_TRAILING_SHARE = 2 };

struct node {
	const struct options *options;
	struct self self;
	struct event_base *base;
	struct event *sigterm;
	struct event *sigint;
	struct event *sigusr1;
	struct event *pulse;
	int dir;
	struct fsm fsm;
	struct raft_io_state io;
	struct raft raft;
	struct rpc_queue *queue;
	struct rpc_server *server;
	struct service service;
	struct rpc_vm rpc_vm;
	struct transport *transport;
	struct proposals *proposals;
	struct joins *joins;
	struct load *load;
	struct images images;
	struct load_images *load_images;
	struct vm_runtime *vms;
	struct placer *placer;
	struct watch watch;
	bool stopping;
	bool closed; /* Raft has let go of everything */
	bool served; /* the gRPC server has answered everybody */
	bool failed;
};

static void stop_loop(struct node *node, bool failed)
{
	node->failed |= failed;
	event_base_loopbreak(node->base);
}

/* ---- what the parts tell each other ---------------------------------------------------------- */

static void on_raft_changed(void *arg)
{
	struct node *node = arg;

	if (!node->stopping)
		watch_raft(&node->watch);
}

static void on_disk_failed(void *arg, int error)
{
	log_line(LOG_ERROR, "the log cannot be written: %s; stopping, nothing acknowledged is lost",
		 strerror(-error));
	stop_loop(arg, true);
}

static void on_applied(void *arg, const struct command *command, int result)
{
	struct node *node = arg;

	proposals_applied(node->proposals, command, result);
	if (command->op < COMMAND_VM_CREATE || node->stopping)
		return;
	if (result && command->origin == node->options->id)
		record_vm_refused(result);
	if (node->vms)
		vm_runtime_look(node->vms);
	if (node->placer)
		placer_applied(node->placer, command, result);
	rpc_vm_look(&node->rpc_vm);
}

static void on_restored(void *arg)
{
	struct node *node = arg;

	watch_restored(&node->watch);
}

static void on_raft_message(void *arg, struct raft_message *message)
{
	struct node *node = arg;

	raft_io_receive(&node->io, message);
}

static void on_refused(void *arg)
{
	stop_loop(arg, true);
}

/* ---- the loop's own -------------------------------------------------------------------------- */

static void on_pulse(evutil_socket_t fd, short what, void *arg)
{
	struct node *node = arg;

	(void)fd;
	(void)what;
	record_alive();
	if (node->stopping)
		return;
	proposals_expire(node->proposals);
	rpc_server_expire(node->server);
	rpc_vm_look(&node->rpc_vm);
	watch_peers(&node->watch);
	if (raft_state(&node->raft) == RAFT_UNAVAILABLE) {
		log_line(LOG_ERROR, "raft gave up: %s", raft_errmsg(&node->raft));
		stop_loop(node, true);
	}
}

static void on_raft_closed(struct raft *raft)
{
	struct node *node = raft->data;

	node->closed = true;
	if (node->served)
		stop_loop(node, false);
}

static void on_served(void *arg)
{
	struct node *node = arg;

	node->served = true;
	if (node->closed)
		stop_loop(node, false);
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval deadline = {STOP_DEADLINE_S, 0};
	struct node *node = arg;

	(void)fd;
	(void)what;
	if (node->stopping) {
		stop_loop(node, false);
		return;
	}
	log_line(LOG_INFO, "stopping");
	note_node("stopping");
	node->stopping = true;
	node->load = load_stop(node->load);
	node->load_images = load_images_stop(node->load_images);
	node->placer = placer_stop(node->placer);
	node->vms = vm_runtime_stop(node->vms);
	proposals_cancel(node->proposals);
	rpc_vm_stop(&node->rpc_vm);
	joins_stop(node->joins);
	images_stop(&node->images);
	transport_stop(node->transport);
	rpc_server_stop(node->server, on_served, node);
	event_base_loopexit(node->base, &deadline);
	raft_close(&node->raft, on_raft_closed);
}

/* Somebody wants calls to go wrong, or to go well again. */
static void on_usr1(evutil_socket_t fd, short what, void *arg)
{
	struct node *node = arg;
	struct rpc_faults faults;

	(void)fd;
	(void)what;
	if (!node->stopping && !rpc_faults_load(node->dir, &faults))
		rpc_server_set_faults(node->server, &faults);
}

static int add_events(struct node *node)
{
	static const struct timeval period = {0, TICK_MS * 1000};

	node->sigterm = evsignal_new(node->base, SIGTERM, on_signal, node);
	node->sigint = evsignal_new(node->base, SIGINT, on_signal, node);
	node->sigusr1 = evsignal_new(node->base, SIGUSR1, on_usr1, node);
	node->pulse = event_new(node->base, -1, EV_PERSIST, on_pulse, node);
	if (!node->sigterm || !node->sigint || !node->sigusr1 || !node->pulse ||
	    event_add(node->sigterm, NULL) || event_add(node->sigint, NULL) ||
	    event_add(node->sigusr1, NULL) || event_add(node->pulse, &period))
		return -ENOMEM;
	return 0;
}

/* ---- starting -------------------------------------------------------------------------------- */

static int open_disk(struct node *node)
{
	struct raft_io_events events = {
		.changed = on_raft_changed, .fatal = on_disk_failed, .arg = node};
	char reason[LOG_REASON_MAX] = "";

	int err = disk_open_dir(node->options->data, &node->dir);
	if (err) {
		log_line(LOG_ERROR, "%s: %s", node->options->data,
			 err == -EBUSY ? "another node uses this data directory" : strerror(-err));
		return err;
	}
	err = raft_io_open(&node->io, node->base, node->dir, node->options->id, &events, reason);
	if (err)
		log_line(LOG_ERROR, "%s: %s", node->options->data,
			 reason[0] ? reason : strerror(-err));
	return err;
}

static int listen_on(struct node *node)
{
	const char *address = node->options->listen_address;
	int err = rpc_server_open(node->base, node->queue, address, &node->server);

	if (err)
		log_line(LOG_ERROR, "cannot listen on %s: %s%s", address, strerror(-err),
			 err == -EADDRINUSE ? "; choose another port with --bind" : "");
	return err;
}

static int open_network(struct node *node)
{
	struct transport_events events = {.raft = on_raft_message, .arg = node};

	int err = rpc_queue_open(node->base, &node->queue);
	if (!err)
		err = transport_open(node->base, node->queue, &node->self, &events,
				     &node->transport);
	if (err)
		return err;
	node->joins = joins_new(node->base, node->queue, &node->raft, &node->self);
	if (!node->joins)
		return -ENOMEM;
	raft_io_set_transport(&node->io, node->transport);
	proposals_set_transport(node->proposals, node->transport);
	joins_set_transport(node->joins, node->transport);
	return listen_on(node);
}

static bool is_healthy(void *arg, uint64_t node_id)
{
	const struct node *node = arg;

	return node_id == node->options->id ||
	       transport_heard(node->transport, node_id, ELECTION_TIMEOUT_MS);
}

static int start_vms(struct node *node)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	struct vm_runtime_setup runtime = {
		.base = node->base,
		.proposals = node->proposals,
		.fsm = &node->fsm,
		.data = node->options->data,
		.node = {.node_id = node->options->id,
			 .life = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
			 .capacity = node->options->capacity},
	};
	struct placer_setup placer = {
		.base = node->base,
		.proposals = node->proposals,
		.fsm = &node->fsm,
		.raft = &node->raft,
		.failover_ms = node->options->failover_ms,
		.is_healthy = is_healthy,
		.arg = node,
	};

	int err = vm_runtime_start(&runtime, &node->vms);
	if (err)
		return err;
	node->placer = placer_start(&placer);
	return node->placer ? 0 : -ENOMEM;
}

static int serve(struct node *node)
{
	node->service = (struct service){.self = &node->self,
					 .raft = &node->raft,
					 .fsm = &node->fsm,
					 .proposals = node->proposals,
					 .transport = node->transport};
	node->rpc_vm = (struct rpc_vm){.fsm = &node->fsm,
				       .proposals = node->proposals,
				       .placer = &node->placer,
				       .node_id = node->options->id};
	int err = transport_serve(node->transport, node->server);

	if (!err)
		err = proposals_serve(node->proposals, node->server);
	if (!err)
		err = joins_serve(node->joins, node->server);
	if (!err)
		err = service_serve(&node->service, node->server);
	if (!err)
		err = images_serve(&node->images, node->server);
	if (!err)
		err = rpc_vm_serve(&node->rpc_vm, node->server);
	if (!err)
		rpc_server_start(node->server);
	return err;
}

/* A node that joins nobody and was never part of anything begins a cluster of one. */
static int bootstrap(struct node *node)
{
	struct raft_configuration configuration;

	if (node->options->join || !raft_io_is_empty(&node->io))
		return 0;
	raft_configuration_init(&configuration);
	int err = raft_configuration_add(&configuration, node->options->id, node->self.address,
					 RAFT_VOTER);
	if (!err)
		err = raft_bootstrap(&node->raft, &configuration);
	raft_configuration_close(&configuration);
	if (!err)
		log_line(LOG_INFO, "started a new cluster, %s", node->options->cluster);
	return err;
}

static int start_raft(struct node *node)
{
	uint32_t every = node->options->snapshot_every;
	int err = raft_init(&node->raft, &node->io.io, &node->fsm.raft, node->options->id,
			    node->self.address);

	if (!err) {
		node->raft.data = node;
		raft_set_heartbeat_timeout(&node->raft, TICK_MS);
		raft_set_election_timeout(&node->raft, ELECTION_TIMEOUT_MS);
		raft_set_pre_vote(&node->raft, true);
		raft_set_snapshot_threshold(&node->raft, every);
		raft_set_snapshot_trailing(&node->raft, every / SNAPSHOT_TRAILING_SHARE);
		err = bootstrap(node);
	}
	node->fsm.of = &node->raft;
	node->fsm.loaded_index = log_store_next(node->io.log) - 1;
	if (!err)
		err = raft_start(&node->raft);
	if (err) {
		log_line(LOG_ERROR, "raft does not start: %s", raft_strerror(err));
		return -EIO;
	}
	watch_init(&node->watch, &node->raft, node->transport);
	return 0;
}

/* With members in its log the node is part of a cluster already: they will be in touch. */
static int join(struct node *node)
{
	if (!node->options->join || node->raft.configuration.n)
		return 0;
	return joins_start(node->joins, node->options->join_address, on_refused, node);
}

static int open_images(struct node *node)
{
	int err = images_open(&node->images, node->base, node->queue, node->dir,
			      node->options->image_cache_bytes);

	if (err)
		log_line(LOG_ERROR, "%s: the cache of images: %s", node->options->data,
			 strerror(-err));
	return err;
}

/* Nobody's clients: the node's own. */
static int start_load(struct node *node)
{
	node->load = load_start(node->base, node->proposals, &node->fsm, node->options->id,
				node->options->load_per_second, node->options->load_vms);
	node->load_images = load_images_start(&node->images, &node->raft, node->options->id);
	return node->load && node->load_images ? 0 : -ENOMEM;
}

static int start(struct node *node)
{
	struct fsm_events fsm_events = {
		.applied = on_applied, .restored = on_restored, .arg = node};

	node->base = event_base_new();
	node->proposals = proposals_new(&node->raft, &node->self);
	if (!node->base || !node->proposals || fsm_init(&node->fsm, &fsm_events))
		return -ENOMEM;
	int err = open_disk(node);
	if (!err)
		err = open_network(node);
	if (!err)
		err = open_images(node);
	if (!err)
		err = start_raft(node);
	if (!err)
		err = start_vms(node);
	if (!err)
		err = serve(node);
	if (!err)
		err = add_events(node);
	if (!err)
		err = join(node);
	if (err || !node->options->load_per_second)
		return err;
	return start_load(node);
}

static void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

/* Only after a clean stop: otherwise the storage and gRPC threads may still be at work. */
static void take_down(struct node *node)
{
	node->queue = rpc_queue_close(node->queue); /* what it waits for still finds its owner */
	node->server = rpc_server_free(node->server);
	node->transport = transport_free(node->transport);
	node->joins = joins_free(node->joins);
	images_close(&node->images);
	node->proposals = proposals_free(node->proposals);
	raft_io_done(&node->io);
	fsm_done(&node->fsm);
	free_event(node->sigterm);
	free_event(node->sigint);
	free_event(node->sigusr1);
	free_event(node->pulse);
	event_base_free(node->base);
}

int node_run(const struct options *options)
{
	static struct node node; /* large, and other threads hold pointers into it until the end */

	node.options = options;
	node.dir = -1;
	node.self.node_id = options->id;
	memcpy(node.self.address, options->address, sizeof(node.self.address));
	strncpy(node.self.cluster, options->cluster, CLUSTER_NAME_MAX);
	signal(SIGPIPE, SIG_IGN);
	record_open(options);
	record_rpc_open();
	trace_open(options->id);
	record_image_open();
	int err = start(&node);
	if (!err) {
		log_line(LOG_INFO, "listening on %s, data in %s", node.self.address, options->data);
		note_node("listening");
		event_base_dispatch(node.base);
	} else if (err == -ENOMEM) {
		log_line(LOG_ERROR, "no memory");
	}
	bool ok = !err && !node.failed;
	bool clean = node.closed && node.served;
	if (clean)
		take_down(&node);
	log_line(LOG_INFO, ok ? "stopped" : "failed");
	record_close();
	if (!clean) { /* what exit() would take down is still in use */
		fflush(NULL);
		_exit(ok ? 0 : 1);
	}
	return ok ? 0 : 1;
}
