/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * clio: remote memory. An open of /dev/clio acts for the rdma_lite node of the
 * opener's network namespace. It attaches to one remote address space (RAS) at
 * a time, allocates in it, and reads, writes and synchronises by operations;
 * or maps a range of it through a local cache. Everything that belongs to an
 * open ends with it: operations, locks, mappings.
 *
 * Reserved fields and unknown flags must be zero (EINVAL otherwise).
 */
#ifndef _UAPI_LINUX_CLIO_H
#define _UAPI_LINUX_CLIO_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define CLIO_ABI_VERSION	1
#define CLIO_NAME_MAX		63
#define CLIO_MAX_BATCH		1024		/* operations in one call */
#define CLIO_MAX_LEN		(4U << 20)	/* bytes of one read or write */

/* Rights, of a RAS for who attaches and of an allocation. */
#define CLIO_READ		(1U << 0)
#define CLIO_WRITE		(1U << 1)

/**
 * struct clio_info - who we are
 */
struct clio_info {
	__u32 abi_version;
	__u32 node;		/* id of our node */
	__u64 epoch;		/* of its map */
	__u64 incarnation;
	__u64 ras;		/* attached to; 0 for none */
	__u64 base;		/* first address of a RAS */
	__u64 region_size;	/* of the RAS attached to */
	__u32 page_size;	/* at its memory nodes */
	__u32 outstanding;	/* operations of this open that are not over */
	__u64 reserved[4];
};

/**
 * struct clio_ras - create, attach to, or destroy a RAS
 * @name: 1 to CLIO_NAME_MAX bytes, NUL-terminated
 * @key: whoever has it may attach, and destroy
 * @quota: create: most bytes that may be allocated; 0 for no limit
 * @region_size: create: what is placed on one memory node, a power of two from
 *	16 MiB to 1 GiB; 0 means 1 GiB
 * @home: create: node id of the memory node that keeps its tables; 0 means the
 *	one with the most free memory
 * @timeout_ms: 0 means the node's default
 * @id: out
 *
 * EEXIST: create, there is one of this name. ENOENT: no such name. EACCES: the
 * key is another one. EBUSY: attach, this open is attached already; destroy,
 * somebody is attached. ENOSPC: no memory node has room. EHOSTDOWN: no memory
 * node, or the one that has to answer, is up.
 */
struct clio_ras {
	char  name[CLIO_NAME_MAX + 1];
	__u8  key[16];
	__u64 quota;
	__u64 region_size;
	__u32 home;
	__u32 timeout_ms;
	__u64 id;
	__u64 reserved[4];
};

enum clio_opcode {
	CLIO_OP_READ	= 1,	/* @len bytes at @addr to @buf */
	CLIO_OP_WRITE	= 2,	/* @len bytes at @buf to @addr */
	CLIO_OP_TAS	= 3,	/* test and set the word at @addr to 1 */
	CLIO_OP_CAS	= 4,	/* compare the word with @arg[0], swap with @arg[1] */
	CLIO_OP_FAA	= 5,	/* add @arg[0] to the word at @addr */
	CLIO_OP_LOCK	= 6,	/* wait until the lock word at @addr is ours */
	CLIO_OP_UNLOCK	= 7,
	CLIO_OP_RELEASE	= 8,	/* wait for all operations before */
	CLIO_OP_FENCE	= 9,	/* and let those behind wait */
	CLIO_OP_ALLOC	= 10,	/* @len bytes with rights @arg[0] (0: all) */
	CLIO_OP_FREE	= 11,	/* the allocation at @addr; @len may be 0 */
	CLIO_OP_OFFLOAD	= 12,	/* offload @arg[0] for @addr: @len bytes of input
				 * at @buf, @arg[1] of output at @arg[2] */
};

/**
 * struct clio_op - one operation
 * @opcode: enum clio_opcode
 * @flags: zero
 * @addr: address in the RAS; of a word, a multiple of 8
 * @len: bytes; 0 for words, releases and fences
 * @buf: user pointer
 * @arg: as the opcode says
 * @cookie: comes back with the completion
 * @value: out, synchronous: what a word was, the address of an allocation, the
 *	length of an offload's output
 * @error: out, synchronous: 0 or a negative errno
 *
 * EFAULT: outside of an allocation, or across its end. EACCES: no right.
 * ENOSPC: no room or quota for an allocation. EINVAL: there is no such
 * operation; a free of what is not allocated. EIO: the memory node lost the
 * data. ETIMEDOUT: no answer by the deadline, it may have been executed.
 * EHOSTDOWN: the map says that the memory node is down, it may have been
 * executed. EDEADLK: a lock that is ours already. EPERM: a lock that is not.
 */
struct clio_op {
	__u32 opcode;
	__u32 flags;
	__u64 addr;
	__u64 len;
	__u64 buf;
	__u64 arg[3];
	__u64 cookie;
	__u64 value;
	__s32 error;
	__u32 reserved;
};

#define CLIO_ASYNC		(1U << 0)

/**
 * struct clio_submit - do operations
 * @ops: user pointer to struct clio_op[@nr]
 * @nr: 1 to CLIO_MAX_BATCH
 * @flags: CLIO_ASYNC: return at once; each is told of by CLIO_IOC_POLL. Else
 *	all are waited for, and each has its own @error.
 * @timeout_ms: deadline of each; 0 means the node's default
 * @done: out: operations that were accepted. The call fails if the first was
 *	not: EAGAIN: too many are outstanding.
 *
 * Operations of one open are done in an order of its own: none that depend on
 * each other (a write and any other access to a page of 4 KiB) at the same
 * time, all others at once.
 */
struct clio_submit {
	__u64 ops;
	__u32 nr;
	__u32 flags;
	__u32 timeout_ms;
	__u32 done;
	__u64 reserved[2];
};

/**
 * struct clio_completion - an asynchronous operation is over
 */
struct clio_completion {
	__u64 cookie;
	__u64 value;
	__s32 error;
	__u32 opcode;
};

/**
 * struct clio_poll - hear of asynchronous operations
 * @completions: user pointer to struct clio_completion[@nr]
 * @nr: room; out: how many there are
 * @min: wait for so many (0: do not wait), or for all outstanding if fewer
 * @timeout_ms: longest wait; 0 means the node's default. ETIMEDOUT when
 *	nothing came.
 *
 * What was read is copied to its @buf here. poll(2): EPOLLIN when there are
 * completions.
 */
struct clio_poll {
	__u64 completions;
	__u32 nr;
	__u32 min;
	__u32 timeout_ms;
	__u32 flags;
	__u64 reserved[2];
};

enum clio_policy {
	CLIO_LRU	= 0,	/* the page not used for longest goes */
	CLIO_FIFO	= 1,	/* the page that came first goes */
};

/**
 * struct clio_cache - the local cache of mappings of this open
 * @size: bytes; 0 means 64 MiB
 * @ways: lines of a set; 0 means 64
 * @policy: enum clio_policy
 * @flags: CLIO_CACHE_SHARED: others write what this open allocates, so its
 *	first touch is a fetch, not zeros
 * @hits, @fetches, @zeros, @evictions, @write_backs: out
 *
 * Before the first mmap; later EBUSY if anything but the counters is asked for
 * (@size, @ways, @policy, @flags all 0 only reads). The offset of a mapping is
 * the address in the RAS. fsync, msync and munmap write back; nothing is
 * coherent between nodes or opens without that.
 */
struct clio_cache {
	__u64 size;
	__u32 ways;
	__u32 policy;
	__u32 flags;
	__u32 reserved0;
	__u64 hits;
	__u64 fetches;
	__u64 zeros;
	__u64 evictions;
	__u64 write_backs;
	__u64 reserved[4];
};

#define CLIO_CACHE_SHARED	(1U << 0)

/**
 * struct clio_range - a range of the RAS, of whole pages of 4 KiB
 */
struct clio_range {
	__u64 addr;
	__u64 len;
};

#define CLIO_IOC_MAGIC		0xB9
#define CLIO_IOC_INFO		_IOR(CLIO_IOC_MAGIC, 0, struct clio_info)
#define CLIO_IOC_CREATE		_IOWR(CLIO_IOC_MAGIC, 1, struct clio_ras)
#define CLIO_IOC_ATTACH		_IOWR(CLIO_IOC_MAGIC, 2, struct clio_ras)
#define CLIO_IOC_DETACH		_IO(CLIO_IOC_MAGIC, 3)
#define CLIO_IOC_DESTROY	_IOW(CLIO_IOC_MAGIC, 4, struct clio_ras)
#define CLIO_IOC_SUBMIT		_IOWR(CLIO_IOC_MAGIC, 5, struct clio_submit)
#define CLIO_IOC_POLL		_IOWR(CLIO_IOC_MAGIC, 6, struct clio_poll)
#define CLIO_IOC_CACHE		_IOWR(CLIO_IOC_MAGIC, 7, struct clio_cache)
/* Writes back what the cache has of the range. */
#define CLIO_IOC_SYNC		_IOW(CLIO_IOC_MAGIC, 8, struct clio_range)
/* Drops it, with stores that were not written back. */
#define CLIO_IOC_DROP		_IOW(CLIO_IOC_MAGIC, 9, struct clio_range)

#endif /* _UAPI_LINUX_CLIO_H */
