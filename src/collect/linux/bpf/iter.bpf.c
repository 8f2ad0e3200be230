// SPDX-License-Identifier: MIT OR Apache-2.0
/* Tells which task has which socket in its file table (bpf_iter/task_file), for all tasks of the
 * reader's pid namespace in one pass. `holder.rs` reads what is written here. It keeps no state: what
 * was written last stands in the buffer that the reader gets. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* Kernels ask for it of whoever reads their structures. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* `s_magic` of what files are on: <linux/magic.h>. */
#define SOCKFS_MAGIC 0x534F434B
#define NSFS_MAGIC 0x6e736673
#define ANON_INODE_FS_MAGIC 0x09041934

/* Kinds of records, in the upper 8 bits of their last word; below it the kernel's own number of the
 * task, which has 22 (PID_MAX_LIMIT in <linux/threads.h>). */
#define TASK 1
#define SOCKET 2
#define RING 3      /* an io_uring: what is registered in it, its fdinfo tells */
#define NAMESPACE 4 /* of whatever kind */
#define NUMBER 0xffffff
#define OF(kind, task) ((kind) << 24 | ((task)->pid & NUMBER))

struct holder {
	__u64 start; /* of the process: nanoseconds since boot */
	__u32 pid;
	__u32 of;
	char comm[16]; /* of the process */
	__u32 parent;  /* 0: not in this pid namespace */
	__u32 tid;
	__u32 unused;
	__u32 of_again;
};

struct reference {
	__u64 inode;
	__u32 fd;
	__u32 of;
};

_Static_assert(sizeof(struct holder) == 48 && sizeof(struct reference) == 16, "holder.rs reads it so");

/* What is read of the kernel's structures: names alone count, the loader finds out where each lies.
 * `types.rs` has the same list. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block { unsigned long s_magic; };
struct inode { unsigned long i_ino; struct super_block *i_sb; };
struct qstr { const unsigned char *name; };
struct dentry { struct qstr d_name; };
struct path { struct dentry *dentry; };
struct file { struct path f_path; struct inode *f_inode; };
struct seq_file { char *buf; unsigned long count; };
struct upid { int nr; };
struct pid { unsigned int level; struct upid numbers[1]; };
struct task_struct {
	int pid;
	int tgid;
	__u64 start_boottime;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	char comm[16];
};

#pragma clang attribute pop

/* `struct upid` as it is (<linux/pid.h>): an array of them is walked. */
struct number {
	int nr;
	void *ns;
};

/* <linux/bpf.h> of the kernel; the verifier knows them by place. */
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd __attribute__((aligned(8)));
	struct file *file;
};

/* Pointers are read by `BPF_CORE_READ`: where the verifier follows them it looks through all names of
 * the kernel, several times for each, and that took half of the time to load this. */
static __always_inline struct number number(struct task_struct *task, __u32 level)
{
	struct number found = {};
	struct pid *pid = BPF_CORE_READ(task, thread_pid);

	if (level > 32 || BPF_CORE_READ(pid, level) < level)
		return found;
	bpf_probe_read_kernel(&found, sizeof(found), (void *)&pid->numbers + level * sizeof(found));
	return found;
}

/* The number of a task in a namespace; 0 where it has none there. */
static __always_inline __u32 there(struct task_struct *task, __u32 level, void *ns)
{
	struct number found = number(task, level);

	return found.ns == ns ? found.nr : 0;
}

static __always_inline int kind_of(struct file *file, struct inode *inode)
{
	unsigned long magic = BPF_CORE_READ(inode, i_sb, s_magic);
	char name[12] = {};

	if (magic == SOCKFS_MAGIC)
		return SOCKET;
	if (magic == NSFS_MAGIC)
		return NAMESPACE;
	if (magic != ANON_INODE_FS_MAGIC)
		return 0;
	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(file, f_path.dentry, d_name.name));
	return *(__u64 *)name == *(__u64 *)"[io_urin" ? RING : 0;
}

SEC("iter/task_file")
int owners(struct bpf_iter__task_file *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct {
		struct holder holder;
		struct reference reference;
	} out = {};

	if (!task || !file)
		return 0;
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	int kind = kind_of(file, inode);
	if (!kind)
		return 0;
	out.reference.inode = BPF_CORE_READ(inode, i_ino);
	out.reference.fd = ctx->fd;
	out.reference.of = OF(kind, task);

	__u64 count = seq->count;
	__u32 last = 0;
	if (count >= sizeof(out.reference))
		bpf_probe_read_kernel(&last, sizeof(last), seq->buf + count - sizeof(last));
	if (last && (last & NUMBER) == (task->pid & NUMBER)) {
		bpf_seq_write(seq, &out.reference, sizeof(out.reference));
		return 0;
	}
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct task_struct *parent = BPF_CORE_READ(leader, real_parent, group_leader);
	out.holder.start = BPF_CORE_READ(leader, start_boottime);
	out.holder.of = out.holder.of_again = OF(TASK, task);
	bpf_probe_read_kernel(&out.holder.comm, sizeof(out.holder.comm), &leader->comm);
	/* The reader's own namespace has this level, and its tasks are those that are visited. */
	struct task_struct *reader = (void *)bpf_get_current_task();
	__u32 level = BPF_CORE_READ(reader, thread_pid, level);
	if (level) {
		void *ns = number(reader, level).ns;
		out.holder.tid = there(task, level, ns);
		out.holder.pid = there(leader, level, ns);
		out.holder.parent = there(parent, level, ns);
	} else {
		out.holder.tid = task->pid;
		out.holder.pid = task->tgid;
		out.holder.parent = BPF_CORE_READ(parent, tgid);
	}
	bpf_seq_write(seq, &out, sizeof(out));
	return 0;
}
