/* bpf/kernel_types.h - the few fields of the kernel that the probes read. SPDX: GPL-2.0 OR BSD-2-Clause
 *
 * Hand-written instead of a vmlinux.h of several megabytes: only names count here. Everything below
 * carries CO-RE relocations (preserve_access_index), so offsets and sizes come from the running
 * kernel's BTF at load time, and building needs no kernel at all. A field the kernel does not have
 * is asked for with bpf_core_field_exists() first; `___old` flavours are other ages of one struct.
 *
 * Includes nothing of ours. Thread rule: none, types only. */
#ifndef BLIX_BPF_KERNEL_TYPES_H
#define BLIX_BPF_KERNEL_TYPES_H

/* libbpf's generated helper header names these without declaring them. */
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

#define bool _Bool
#define true 1
#define false 0
#define NULL ((void *)0)

/* enum bpf_map_type and the flags used, by value: they are ABI (linux/bpf.h). */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2, BPF_RB_AVAIL_DATA = 0 };
enum { BPF_LOCAL_STORAGE_GET_F_CREATE = 1 };

struct bpf_pidns_info {
	__u32 pid;
	__u32 tgid;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* ---- block layer */
struct gendisk {
	int major;
	int first_minor;
};
struct request_queue {
	struct gendisk *disk; /* since 5.17 (and backports); before, the request had it */
};
struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
};
struct request___old {
	struct gendisk *rq_disk;
};

/* ---- tasks and files */
struct super_block {
	__u32 s_dev;
};
struct inode {
	struct super_block *i_sb;
};
struct file {
	struct inode *f_inode;
};
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct task_struct {
	unsigned int flags;
	int tgid;
	struct task_struct *real_parent;
	struct files_struct *files;
};

/* Arguments of the syscall tracepoints. The head is ABI of tracefs. */
struct trace_event_raw_sys_enter {
	long long ent;
	long id;
	unsigned long args[6];
};
struct trace_event_raw_sys_exit {
	long long ent;
	long id;
	long ret;
};

#pragma clang attribute pop

#define PF_KTHREAD     0x00200000u /* include/linux/sched.h; unchanged since 2.6 */
#define REQ_OP_MASK    0xffu	   /* include/linux/blk_types.h */
#define REQ_OP_READ    0u
#define REQ_OP_WRITE   1u
#define REQ_OP_FLUSH   2u
#define REQ_OP_DISCARD 3u
#define LLONG_MAX      0x7fffffffffffffffll

#endif
