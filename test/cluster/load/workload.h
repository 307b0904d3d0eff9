/* workload.h - which operation comes next: a seeded mix of what clients of a cluster do. The seed and
 * the times at which operations are due decide method, target and arguments, but for VMs: an order
 * waits until the last one of the same VM has been answered, and a look at the VM takes its place.
 * Times are since the start. One thread. */
#ifndef LOAD_WORKLOAD_H
#define LOAD_WORKLOAD_H

#include "pace.h"
#include "proto/blixard_cluster.pb-c.h"
#include "test/cluster/limits.h"

#include <grpc/status.h>
#include <stdbool.h>

enum {
	TARGETS_MAX = 16,
	LOAD_VMS_MAX = 64,
	LOAD_IMAGES = 4,
	LOAD_IMAGE_BYTES = 300 << 10,
	WORKLOAD_NAME_MAX = 48,
	WORKLOAD_VALUE_MAX = 128
};

enum method {
	METHOD_PROPOSE_TASK,
	METHOD_SUBMIT_TASK,
	METHOD_GET_TASK_STATUS,
	METHOD_GET_CLUSTER_STATUS,
	METHOD_GET_RAFT_STATUS,
	METHOD_HEALTH_CHECK,
	METHOD_CREATE_VM,
	METHOD_START_VM,
	METHOD_STOP_VM,
	METHOD_DELETE_VM,
	METHOD_GET_VM_STATUS,
	METHOD_LIST_VMS,
	METHOD_SCHEDULE_VM_PLACEMENT,
	METHOD_GET_CLUSTER_RESOURCE_SUMMARY,
	METHOD_SHARE_VM_IMAGE,
	METHOD_GET_VM_IMAGE,
	METHOD_LIST_P2P_IMAGES,
	METHOD_GET_P2P_STATUS,
	METHODS,
};

struct method_info {
	const char *name;
	unsigned weight; /* in the mix */
	const ProtobufCMessageDescriptor *reply;
};

const struct method_info *workload_method(enum method method);

/* A VM as far as the answers to its orders tell. */
struct load_vm {
	enum { LOAD_VM_NONE, LOAD_VM_RUNNING, LOAD_VM_STOPPED } state;
	bool ordered;		/* and not yet answered */
	uint64_t next_order_ns; /* not before */
};

struct workload {
	uint64_t seed;
	const char (*targets)[ADDRESS_MAX + 1];
	unsigned n_targets;
	unsigned n_vms;
	struct load_vm vms[LOAD_VMS_MAX];
	struct dice dice;
	struct dice vm_dice;	/* of orders: how many there are is a matter of time */
	unsigned weights;	/* sum of all */
	uint64_t next_image_ns; /* when one may be moved again */
	unsigned images;	/* orders to move one so far */
	uint8_t image[LOAD_IMAGE_BYTES];
};

struct operation {
	enum method method;
	unsigned target;
	int vm; /* that it is an order to; -1: it is none */
	char name[WORKLOAD_NAME_MAX];
	uint8_t value[WORKLOAD_VALUE_MAX];
	union {
		ProtobufCMessage base;
		Blixard__ProposeTaskRequest propose_task;
		Blixard__SubmitTaskRequest submit_task;
		Blixard__GetTaskStatusRequest get_task_status;
		Blixard__GetClusterStatusRequest get_cluster_status;
		Blixard__GetRaftStatusRequest get_raft_status;
		Blixard__HealthCheckRequest health_check;
		Blixard__CreateVmRequest create_vm;
		Blixard__StartVmRequest start_vm;
		Blixard__StopVmRequest stop_vm;
		Blixard__DeleteVmRequest delete_vm;
		Blixard__GetVmStatusRequest get_vm_status;
		Blixard__ListVmsRequest list_vms;
		Blixard__ScheduleVmPlacementRequest schedule_vm_placement;
		Blixard__GetClusterResourceSummaryRequest get_cluster_resource_summary;
		Blixard__ShareVmImageRequest share_vm_image;
		Blixard__GetVmImageRequest get_vm_image;
		Blixard__ListP2pImagesRequest list_p2p_images;
		Blixard__GetP2pStatusRequest get_p2p_status;
	} request;
	Blixard__VmRequest vm_request;
	Blixard__VmResources needs;
};

/* `targets` are borrowed: a node is told to get images from another one. */
void workload_init(struct workload *workload, uint64_t seed, const char (*targets)[ADDRESS_MAX + 1],
		   unsigned n_targets, unsigned n_vms);

/* `ret_operation` points into itself and the workload: it is to be used where it is, before the next
 * one is made. */
void workload_next(struct workload *workload, uint64_t due_ns, struct operation *ret_operation);

/* The bytes of so many chunks of one of its images: first the last chunk, which is new in each, then
 * the first one, which is alike in all. */
uint64_t workload_image_bytes(uint64_t chunks_moved);

/* The deletion of a VM that the workload has left behind; false: there is none. */
bool workload_clean_up(struct workload *workload, struct operation *ret_operation);

/* What became of an order to VM number `vm`. */
void workload_not_ordered(struct workload *workload, int vm);
void workload_ordered(struct workload *workload, int vm, enum method method, grpc_status_code code,
		      uint64_t now_ns);

#endif
