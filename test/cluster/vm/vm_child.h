/* vm_child.h - what a "VM" is: this program once more, started with the hidden word "vm-child".
 * Runs in a process of its own, which has no part in the cluster. */
#ifndef CLUSTER_VM_CHILD_H
#define CLUSTER_VM_CHILD_H

/* What it is started for. */
#define VM_CHILD_WORD	 "vm-child"
#define VM_CHILD_PREPARE "prepare" /* make the disk */
#define VM_CHILD_RUN	 "run"
#define VM_CHILD_ERASE	 "erase" /* remove the disk */

enum {
	VM_CHILD_CHANNEL = 3, /* descriptor of the supervisor's channel: packets of one u64 */
	VM_CHILD_READY = 0,   /* its first packet; afterwards each packet is sent back as it came */
};

/* Arguments: vm-child VERB NAME PARENT-PID DISK-FILE VCPUS MEMORY-BYTES DISK-BYTES. An exit code.
 */
int vm_child_main(int argc, char **argv);

#endif
