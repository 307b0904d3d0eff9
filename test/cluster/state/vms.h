/* vms.h - the replicated VMs and nodes: what every node knows alike, because every node applies the
 * same commands in the same order. Pure: no clock, no chance, no metrics. Loop thread only. */
#ifndef CLUSTER_VMS_H
#define CLUSTER_VMS_H

#include "test/cluster/vm/vm.h"
#include "vm_command.h"

struct vms;

struct vms *vms_new(void); /* NULL: no memory */
struct vms *vms_free(struct vms *vms);

/* Apply one command about VMs. 0: applied; otherwise nothing has changed:
 *   -EPROTO  its value is malformed
 *   -EINVAL  its name is
 *   -EEXIST  create: there is a VM of this name
 *   -ENOENT  there is none
 *   -ENOSPC  create: VMS_MAX or VMS_WAITING_MAX are reached; node: MEMBERS_MAX
 *   -ESTALE  place, report: meant for a VM or placement that is no more; order: it is being deleted
 *   -EDQUOT  place: it does not fit there (any more) */
int vms_apply(struct vms *vms, const struct command *command);

/* All VMs, in the order of their creation, and all nodes, by id. Borrowed until the next apply. */
size_t vms_all(const struct vms *vms, const struct vm **ret_all);
size_t vms_nodes(const struct vms *vms, const struct vm_node **ret_nodes);

/* NULL: no such. */
const struct vm *vms_get(const struct vms *vms, const char *name, size_t len);
const struct vm *vms_get_placed(const struct vms *vms, uint64_t placement);
const struct vm_node *vms_get_node(const struct vms *vms, uint64_t node_id);

size_t vms_waiting(const struct vms *vms);

/* What the VMs placed on this node take, and how many they are. */
size_t vms_allocated(const struct vms *vms, uint64_t node_id, struct vm_resources *ret_allocated);

size_t vms_bytes(const struct vms *vms);
void vms_encode(const struct vms *vms, uint8_t *out, size_t len);

/* 0; -EBADMSG, -ENOMEM. */
int vms_decode(const uint8_t *bytes, size_t len, struct vms **ret_vms);

#endif
