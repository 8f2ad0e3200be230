// SPDX-License-Identifier: MIT OR Apache-2.0
/* Tells who begins to listen and who binds a datagram socket, as it happens and in the context of
 * whoever does it, so that they have a name although they may be gone a millisecond later.
 * `record.rs` reads what is written here, `hooks.rs` says which program is for what. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <stdbool.h>
#include "kernel.h"

/* Kernels ask for it of whoever reads their structures. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define LISTENS 1
#define ENDS 2
#define BINDS 3

#define EXE_READ 1     /* the whole path is there */
#define EXE_UNLINKED 2 /* and nothing has that name any more */
#define ARGS_READ 4    /* all arguments are there */
#define KERNEL 8       /* no process, a thread of the kernel */
#define V6ONLY 16
#define AS_BEFORE 32   /* parents, path and arguments are those of the process's record before this */
#define BRIEFLY 64     /* nothing was read of the process but who it is */

/* Names longer than this are left out as a whole, never cut. Powers of two, for the verifier. */
#define PATH_MAX 2048
#define ARGS_MAX 2048
#define NAME_MAX 256
#define DEPTH_MAX 40
#define PARENTS 8
/* What was read of a process holds for so many nanoseconds, unless it changes visibly. */
#define HOLDS 1000000000ULL
/* So many may be at work on one processor, one preempted by the other. */
#define DEEP 4

/* A sleeping reader is woken at most this often, in nanoseconds; it looks by itself that long after
 * it was woken. Mirrored by `REST` of ear.rs. */
#define REST 10000000ULL

struct parent {
	__u32 pid;
	char comm[16];
};

/* Naturally aligned. Of an end only what stands before `comm` is sent, of a process that is as before
 * only what stands before `parent`. All else is followed by `exe_len` bytes of path components, the
 * last one first, each with a NUL, and `args_len` bytes as in /proc/PID/cmdline. */
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

_Static_assert(sizeof(struct record) == 280 && __builtin_offsetof(struct record, comm) == 100 &&
		       __builtin_offsetof(struct record, parent) == 116,
	       "record.rs reads it so");

/* By what it is seen that a process is as it was. */
struct told {
	__u64 start;
	__u64 at;
	struct mm_struct *mm;
	struct file *exe;
	unsigned long arg_start;
	unsigned long arg_end;
};

struct scratch {
	__u32 busy;
	struct told told;
	struct record head;
	__u8 text[PATH_MAX + NAME_MAX + ARGS_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 << 20);
} EVENTS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DEEP);
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

static __always_inline void lose(void)
{
	__u32 lost = 0;
	__u64 *count = bpf_map_lookup_elem(&COUNTS, &lost);

	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline bool send(void *record, __u64 size, __u64 now)
{
	__u32 woken = 1;
	__u64 flags = BPF_RB_NO_WAKEUP;
	__u64 *last = bpf_map_lookup_elem(&COUNTS, &woken);

	if (last && now - *last >= REST) {
		*last = now;
		flags = BPF_RB_FORCE_WAKEUP;
	}
	if (!bpf_ringbuf_output(&EVENTS, record, size, flags))
		return true;
	lose();
	return false;
}

/* Room to write a record in, for us alone until it is given back: another program of ours may begin
 * on this processor before we are done. */
static __always_inline struct scratch *take(void)
{
#pragma unroll
	for (__u32 i = 0; i < DEEP; i++) {
		__u32 key = i;
		struct scratch *s = bpf_map_lookup_elem(&SCRATCH, &key);

		if (s && !__sync_lock_test_and_set(&s->busy, 1))
			return s;
	}
	lose();
	return 0;
}

static __always_inline void give_back(struct scratch *s)
{
	__sync_lock_test_and_set(&s->busy, 0);
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

/* `typed`: the verifier knows what `sk` points to, so that it is read without asking a helper. */
#define OF(sk, typed, ...) ((typed) ? TYPED(sk, __VA_ARGS__) : BPF_CORE_READ(sk, __VA_ARGS__))
#define TYPED(sk, ...) ___apply(TYPED, ___narg(__VA_ARGS__))(sk, __VA_ARGS__)
#define TYPED1(sk, a) (sk)->a
#define TYPED2(sk, a, b) (sk)->a->b

static __always_inline void place(struct record *r, struct sock *sk, bool typed)
{
	r->family = OF(sk, typed, __sk_common.skc_family);
	r->protocol = OF(sk, typed, sk_protocol);
	r->port = OF(sk, typed, __sk_common.skc_num);
	r->netns = OF(sk, typed, __sk_common.skc_net.net, ns.inum);
	r->interface = OF(sk, typed, __sk_common.skc_bound_dev_if);
	r->backlog = OF(sk, typed, sk_max_ack_backlog);
	r->socket_uid = OF(sk, typed, sk_uid.val);
	if (r->family == AF_INET6) {
		if (typed ? BPF_CORE_READ_BITFIELD(&sk->__sk_common, skc_ipv6only)
			  : BPF_CORE_READ_BITFIELD_PROBED(&sk->__sk_common, skc_ipv6only))
			r->flags |= V6ONLY;
		bpf_probe_read_kernel(&r->address, sizeof(r->address), &sk->__sk_common.skc_v6_rcv_saddr);
	} else {
		*(__u32 *)r->address = OF(sk, typed, __sk_common.skc_rcv_saddr);
	}
	struct socket *socket = OF(sk, typed, sk_socket);
	if (!socket)
		return;
	struct file *file = OF(socket, typed, file);
	if (file)
		r->inode = OF(file, typed, f_inode, i_ino);
}

/* What is the same for all that a process opens; returns how many bytes to send. */
static __always_inline __u64 owner(struct scratch *s, __u64 now)
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
		return sizeof(*r);
	}
	struct told *told = &s->told;
	struct file *exe = mm->exe_file;
	unsigned long arg_start = mm->arg_start, arg_end = mm->arg_end;
	if (told->start == r->start && told->mm == mm && told->exe == exe && told->arg_start == arg_start &&
	    told->arg_end == arg_end && now - told->at < HOLDS) {
		r->flags |= AS_BEFORE;
		return __builtin_offsetof(struct record, parent);
	}
	told->start = r->start;
	told->at = now;
	told->mm = mm;
	told->exe = exe;
	told->arg_start = arg_start;
	told->arg_end = arg_end;
	__builtin_memset(&r->parent, 0, sizeof(r->parent));
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
	return sizeof(*r) + r->exe_len + r->args_len;
}

static __always_inline struct scratch *begin(__u16 kind)
{
	struct scratch *s = take();

	if (s) {
		__builtin_memset(&s->head, 0, __builtin_offsetof(struct record, parent));
		s->head.kind = kind;
	}
	return s;
}

/* Sends it with whoever is at work here. */
static __always_inline void finish(struct scratch *s)
{
	__u64 now = bpf_ktime_get_ns(), size = owner(s, now);

	/* What was not heard of cannot be referred to. */
	if (size > sizeof(s->head) + PATH_MAX + NAME_MAX + ARGS_MAX || !send(&s->head, size, now))
		s->told.start = 0;
	give_back(s);
}

static __always_inline void ends(struct sock *sk, __u64 cookie, bool typed)
{
	struct record r;

	__builtin_memset(&r, 0, __builtin_offsetof(struct record, comm));
	r.kind = ENDS;
	r.cookie = cookie;
	place(&r, sk, typed);
	send(&r, __builtin_offsetof(struct record, comm), bpf_ktime_get_ns());
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(listening, struct sock *sk, int oldstate, int newstate)
{
	if (oldstate == TCP_LISTEN) {
		ends(sk, bpf_get_socket_cookie(sk), true);
		return 0;
	}
	if (newstate != TCP_LISTEN)
		return 0;
	struct scratch *s = begin(LISTENS);
	if (!s)
		return 0;
	place(&s->head, sk, true);
	s->head.cookie = bpf_get_socket_cookie(sk);
	finish(s);
	return 0;
}

/* Where the one above is refused: nothing but what kernels have had for long. It reads neither path
 * nor arguments, and has no cookie, so that the inode must tell sockets apart. */
SEC("raw_tp/inet_sock_set_state")
int BPF_PROG(listening_plain, struct sock *sk, int oldstate, int newstate)
{
	if (oldstate == TCP_LISTEN) {
		ends(sk, 0, false);
		return 0;
	}
	if (newstate != TCP_LISTEN)
		return 0;
	struct record r;
	__builtin_memset(&r, 0, __builtin_offsetof(struct record, parent));
	r.kind = LISTENS;
	r.flags = BRIEFLY;
	place(&r, sk, false);
	struct task_struct *task = (void *)bpf_get_current_task();
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	r.pid = BPF_CORE_READ(leader, tgid);
	r.start = BPF_CORE_READ(leader, start_boottime);
	r.uid = BPF_CORE_READ(task, real_cred, uid.val);
	r.euid = BPF_CORE_READ(task, cred, euid.val);
	bpf_probe_read_kernel(&r.capabilities, sizeof(r.capabilities), &BPF_CORE_READ(task, cred)->cap_effective);
	BPF_CORE_READ_INTO(&r.comm, leader, comm);
	if (BPF_CORE_READ(task, flags) & PF_KTHREAD || !BPF_CORE_READ(task, mm))
		r.flags |= KERNEL;
	send(&r, __builtin_offsetof(struct record, parent), bpf_ktime_get_ns());
	return 0;
}

static __always_inline bool datagram(struct bpf_sock *ctx)
{
	__u32 protocol = ctx->protocol;

	return protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE;
}

/* A bind that the kernel has granted, of whatever is not TCP's. Answers 1: we deny nothing. */
static __always_inline int binding(struct bpf_sock *ctx)
{
	if (!datagram(ctx))
		return 1;
	struct scratch *s = begin(BINDS);
	if (!s)
		return 1;
	/* What such a program is called with is the socket itself; the verifier only lets it be read
	 * as such through helpers. */
	place(&s->head, (struct sock *)ctx, false);
	s->head.cookie = bpf_get_socket_cookie(ctx);
	finish(s);
	return 1;
}

SEC("cgroup/post_bind4")
int binding4(struct bpf_sock *ctx)
{
	return binding(ctx);
}

SEC("cgroup/post_bind6")
int binding6(struct bpf_sock *ctx)
{
	return binding(ctx);
}

/* The end of a datagram socket that somebody new could have spoken to. */
SEC("cgroup/sock_release")
int releasing(struct bpf_sock *ctx)
{
	struct sock *sk = (struct sock *)ctx;

	if (!datagram(ctx) || !BPF_CORE_READ(sk, __sk_common.skc_num) || BPF_CORE_READ(sk, __sk_common.skc_dport))
		return 1;
	ends(sk, bpf_get_socket_cookie(ctx), false);
	return 1;
}
