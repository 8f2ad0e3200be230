/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the programs read of the kernel's structures: names alone count. Where each field lies, the
 * loader finds out from the running kernel's own types (CO-RE). */
#pragma once

#define AF_INET 2
#define AF_INET6 10
#define TCP_LISTEN 10
#define IPPROTO_UDP 17
#define IPPROTO_UDPLITE 136
#define PF_KTHREAD 0x00200000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common { unsigned int inum; };
struct net { struct ns_common ns; };
typedef struct { struct net *net; } possible_net_t;
struct in6_addr { union { __u8 u6_addr8[16]; } in6_u; };

struct sock_common {
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	int skc_bound_dev_if;
	unsigned char skc_ipv6only : 1;
	possible_net_t skc_net;
	struct in6_addr skc_v6_rcv_saddr;
};

typedef struct { unsigned int val; } kuid_t;

struct inode { unsigned long i_ino; };
struct socket { struct file *file; };

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	struct socket *sk_socket;
	kuid_t sk_uid;
	__u32 sk_max_ack_backlog;
};

struct qstr { const unsigned char *name; };
struct hlist_bl_node { struct hlist_bl_node **pprev; };
struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
};
struct vfsmount { struct dentry *mnt_root; };
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};
struct path { struct vfsmount *mnt; struct dentry *dentry; };
struct file { struct path f_path; struct inode *f_inode; };

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	struct file *exe_file;
};

/* One number of 64 bits since Linux 6.3, two of 32 before. */
typedef struct { __u64 val; } kernel_cap_t;
struct cred { kuid_t uid; kuid_t euid; kernel_cap_t cap_effective; };

struct task_struct {
	unsigned int flags;
	int tgid;
	__u64 start_boottime;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	const struct cred *real_cred;
	const struct cred *cred;
	struct mm_struct *mm;
	char comm[16];
};

#pragma clang attribute pop
