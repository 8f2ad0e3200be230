// SPDX-License-Identifier: MIT OR Apache-2.0
/* Tells who begins to listen, as it happens and in the listener's own context, so that it has a name
 * although it may be gone a millisecond later. `decode.rs` reads what is written here. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "kernel.h"

/* Kernels ask for it of whoever reads their structures. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define LISTENS 1
#define ENDS 2

#define EXE_READ 1     /* the whole path is there */
#define EXE_UNLINKED 2 /* and nothing has that name any more */
#define ARGS_READ 4    /* all arguments are there */
#define KERNEL 8       /* no process, a thread of the kernel */
#define V6ONLY 16

/* Names longer than this are left out as a whole, never cut. Powers of two, for the verifier. */
#define PATH_MAX 2048
#define ARGS_MAX 2048
#define NAME_MAX 256
#define DEPTH_MAX 40
#define PARENTS 8

/* A sleeping reader is woken at most this often, in nanoseconds; it looks by itself that long after
 * it was woken. Mirrored by `REST` of mod.rs. */
#define REST 10000000ULL

struct parent {
	__u32 pid;
	char comm[16];
};

/* Naturally aligned. Of an end only what stands before `comm` is sent. A listener's is followed by
 * `exe_len` bytes of path components, the last one first, each with a NUL, and `args_len` bytes as in
 * /proc/PID/cmdline. */
struct record {
	__u64 cookie;
	__u64 inode;
	__u64 start; /* nanoseconds since boot */
	__u64 cgroup;
	__u64 capabilities;
	__u32 netns;
	__u32 pid;
	__u32 uid;
	__u32 euid;
	__u32 socket_uid;
	__u32 interface;
	__u32 backlog;
	__u16 kind;
	__u16 family;
	__u16 protocol;
	__u16 port;
	__u16 flags;
	__u16 parents;
	__u16 exe_len;
	__u16 args_len;
	__u8 address[16];
	char comm[16];
	struct parent parent[PARENTS];
};

_Static_assert(sizeof(struct record) == 280 && __builtin_offsetof(struct record, comm) == 100,
	       "record.rs reads it so");

struct scratch {
	struct record head;
	__u8 text[PATH_MAX + NAME_MAX + ARGS_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} EVENTS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} SCRATCH SEC(".maps");

/* 0: events for which there was no room. 1: when the reader was last woken. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} COUNTS SEC(".maps");

static __always_inline void send(void *record, __u64 size)
{
	__u32 lost = 0, woken = 1;
	__u64 flags = BPF_RB_NO_WAKEUP, now = bpf_ktime_get_ns();
	__u64 *last = bpf_map_lookup_elem(&COUNTS, &woken);

	if (last && now - *last >= REST) {
		*last = now;
		flags = BPF_RB_FORCE_WAKEUP;
	}
	if (bpf_ringbuf_output(&EVENTS, record, size, flags)) {
		__u64 *count = bpf_map_lookup_elem(&COUNTS, &lost);
		if (count)
			__sync_fetch_and_add(count, 1);
	}
}

/* The path as the mount namespace of the file has it: up through every mount to the topmost. */
static __always_inline void executable(struct scratch *s, struct mm_struct *mm)
{
	struct file *file = mm->exe_file;
	__u32 at = 0;

	if (!file)
		return;
	struct dentry *dentry = file->f_path.dentry;
	struct vfsmount *vfsmount = file->f_path.mnt;
	struct dentry *root = vfsmount->mnt_root;
	if (!dentry->d_hash.pprev)
		s->head.flags |= EXE_UNLINKED;
	for (int i = 0; i < DEPTH_MAX; i++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);

		if (dentry == root || dentry == parent) {
			struct mount *mount = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt);
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);

			if (above == mount || dentry != root) {
				s->head.exe_len = at;
				s->head.flags |= EXE_READ;
				return;
			}
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			vfsmount = (void *)above + bpf_core_field_offset(struct mount, mnt);
			root = BPF_CORE_READ(vfsmount, mnt_root);
			continue;
		}
		if (at >= PATH_MAX)
			return;
		long length = bpf_probe_read_kernel_str(&s->text[at & (PATH_MAX - 1)], NAME_MAX,
							BPF_CORE_READ(dentry, d_name.name));
		if (length <= 0)
			return;
		at += length;
		dentry = parent;
	}
}

static __always_inline __u32 arguments(struct scratch *s, struct mm_struct *mm, __u32 at)
{
	unsigned long start = mm->arg_start, end = mm->arg_end;
	unsigned long length = end - start;

	if (end < start || length >= ARGS_MAX)
		return 0;
	length &= ARGS_MAX - 1;
	/* A page that is not in memory now is not fetched. */
	if (at > PATH_MAX + NAME_MAX || bpf_probe_read_user(&s->text[at], length, (void *)start))
		return 0;
	s->head.flags |= ARGS_READ;
	return length;
}

static __always_inline void place(struct scratch *s, struct sock *sk)
{
	struct record *r = &s->head;

	r->family = sk->__sk_common.skc_family;
	r->protocol = sk->sk_protocol;
	r->port = sk->__sk_common.skc_num;
	r->netns = sk->__sk_common.skc_net.net->ns.inum;
	r->interface = sk->__sk_common.skc_bound_dev_if;
	r->backlog = sk->sk_max_ack_backlog;
	r->socket_uid = sk->sk_uid.val;
	if (BPF_CORE_READ_BITFIELD(&sk->__sk_common, skc_ipv6only))
		r->flags |= V6ONLY;
	if (r->family == AF_INET6)
		bpf_probe_read_kernel(&r->address, sizeof(r->address), &sk->__sk_common.skc_v6_rcv_saddr);
	else
		*(__u32 *)r->address = sk->__sk_common.skc_rcv_saddr;
	struct socket *socket = sk->sk_socket;
	struct file *file = socket ? socket->file : 0;
	r->inode = file ? file->f_inode->i_ino : 0;
}

static __always_inline __u32 owner(struct scratch *s)
{
	struct record *r = &s->head;
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_struct *leader = task->group_leader;
	struct mm_struct *mm = task->mm;

	r->pid = leader->tgid;
	r->start = leader->start_boottime;
	r->uid = task->real_cred->uid.val;
	r->euid = task->cred->euid.val;
	/* Its one member has another name before Linux 6.3. */
	bpf_probe_read_kernel(&r->capabilities, sizeof(r->capabilities), &task->cred->cap_effective);
	r->cgroup = bpf_get_current_cgroup_id();
	bpf_probe_read_kernel(&r->comm, sizeof(r->comm), &leader->comm);
	if (task->flags & PF_KTHREAD || !mm) {
		r->flags |= KERNEL;
		return 0;
	}
	struct task_struct *each = leader;
#pragma unroll
	for (int i = 0; i < PARENTS; i++) {
		each = each->real_parent->group_leader;
		__u32 pid = each->tgid;
		if (!pid)
			break;
		r->parent[i].pid = pid;
		bpf_probe_read_kernel(&r->parent[i].comm, sizeof(r->comm), &each->comm);
		r->parents = i + 1;
	}
	executable(s, mm);
	r->args_len = arguments(s, mm, r->exe_len);
	return r->exe_len + r->args_len;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(listening, struct sock *sk, int oldstate, int newstate)
{
	__u32 zero = 0;

	if (oldstate != TCP_LISTEN && newstate != TCP_LISTEN)
		return 0;
	struct scratch *s = bpf_map_lookup_elem(&SCRATCH, &zero);
	if (!s)
		return 0;
	__builtin_memset(&s->head, 0, sizeof(s->head));
	place(s, sk);
	s->head.cookie = bpf_get_socket_cookie(sk);
	if (newstate != TCP_LISTEN) {
		s->head.kind = ENDS;
		send(s, __builtin_offsetof(struct record, comm));
		return 0;
	}
	s->head.kind = LISTENS;
	__u32 more = owner(s);
	if (more <= PATH_MAX + NAME_MAX + ARGS_MAX)
		send(s, sizeof(s->head) + more);
	return 0;
}
