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
	__u32 outstanding;	/* operations of this open that are not over */
	__u32 reserved0;
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
	__u64 key[2];
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
	CLIO_OP_CAS	= 4,	/* if the word is @arg[0] it becomes @arg[1] */
	CLIO_OP_FAA	= 5,	/* add @arg[0] to the word at @addr */
	CLIO_OP_LOCK	= 6,	/* wait until the lock word at @addr is ours */
	CLIO_OP_UNLOCK	= 7,
	CLIO_OP_RELEASE	= 8,	/* wait for all operations before */
	CLIO_OP_FENCE	= 9,	/* and let those behind wait */
	CLIO_OP_ALLOC	= 10,	/* @len bytes with rights @arg[0] (0: all) */
	CLIO_OP_FREE	= 11,	/* the allocations that are @len bytes at @addr */
	CLIO_OP_OFFLOAD	= 12,	/* offload @arg[0] for @addr: @len bytes of input
				 * at @buf; low 32 bits of @arg[1]: most bytes of
				 * output, high 32: function; output to @arg[2]
				 */
};

/**
 * struct clio_op - one operation
 * @opcode: enum clio_opcode
 * @flags: zero
 * @addr: address in the RAS; of a word, a multiple of 8
 * @len: bytes; 0 for words, releases and fences. Out, synchronous: of an
 *	offload's output
 * @buf: user pointer
 * @arg: as the opcode says
 * @cookie: comes back with the completion
 * @value: out, synchronous: what a word was, the address of an allocation,
 *	the result of an offload
 * @error: out, synchronous: 0 or a negative errno
 *
 * EFAULT: outside of an allocation, or across its end. EACCES: no right.
 * ENOSPC, EDQUOT: no room or quota for an allocation. EINVAL: there is no such
 * operation; a word that is not aligned. EIO: the memory node lost the data.
 * ETIMEDOUT: no answer by the deadline, it may have been executed. EHOSTDOWN:
 * the map says that the memory node is down, it may have been executed. EPERM:
 * a lock that this open does not have. ESTALE: the RAS was destroyed.
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

/*
 * For operators. Who may open the device may look; what changes something needs
 * CAP_SYS_ADMIN (EPERM). All of it is asked of the memory nodes that the map
 * says are up: EHOSTDOWN when the one that matters is not.
 */

#define CLIO_NODE_DRAINING	(1U << 0)	/* gives its regions away */

/**
 * struct clio_memory_node - a memory node of the map
 * @id: its node id
 * @error: 0, or a negative errno: why it told nothing, and all below is zero
 * @flags: CLIO_NODE_*
 * @port: UDP port of its legomem
 * @incarnation: of its present life
 * @page_size: bytes of its pages, each of which has a part of one RAS
 * @size: bytes of its pool
 * @free: bytes of it that hold nothing
 * @promised: bytes that allocations may come to use
 * @limit: most bytes that it promises; more than @size where it over-commits
 * @allowance: bytes of quota that its regions were given
 * @load: requests of the last second
 * @regions: how many it has
 * @spaces: RASs that it has regions of
 */
struct clio_memory_node {
	__u32 id;
	__s32 error;
	__u32 flags;
	__u32 port;
	__u64 incarnation;
	__u64 page_size;
	__u64 size;
	__u64 free;
	__u64 promised;
	__u64 limit;
	__u64 allowance;
	__u64 load;
	__u32 regions;
	__u32 spaces;
	__u64 reserved[2];
};

/**
 * struct clio_space - a RAS, as its home knows it
 * @id: its id
 * @name: its name, NUL-terminated
 * @region_size: bytes of a region
 * @quota: most bytes that may be allocated
 * @granted: bytes of it that its regions were given
 * @version: grows with each change of the table of regions
 * @home: node id of its home
 * @pin: node id of the one memory node that has all its regions; 0 for any
 * @owner: user id of its creator
 * @regions: how many it has
 * @attached: nodes that are attached to it
 */
struct clio_space {
	__u64 id;
	char  name[CLIO_NAME_MAX + 1];
	__u64 region_size;
	__u64 quota;
	__u64 granted;
	__u64 version;
	__u32 home;
	__u32 pin;
	__u32 owner;
	__u32 regions;
	__u32 attached;
	__u32 reserved0;
	__u64 reserved[2];
};

/**
 * struct clio_region - a region of a RAS
 * @addr: its first address
 * @allowance: bytes that may be allocated in it
 * @incarnation: the life of the memory node that it was granted to
 * @index: its number
 * @node: node id of its memory node; 0 when it was lost with its node
 */
struct clio_region {
	__u64 addr;
	__u64 allowance;
	__u64 incarnation;
	__u32 index;
	__u32 node;
};

/**
 * struct clio_list - list memory nodes, RASs, or the regions of a RAS
 * @items: user pointer to @nr structs of what is listed
 * @nr: room at @items; out: how many there are. ENOSPC when that is more, and
 *	nothing was copied: ask again with more room.
 * @timeout_ms: 0 means the node's default
 * @ras: CLIO_IOC_REGIONS: of this RAS, by its id; else 0
 * @silent: out, CLIO_IOC_SPACES: memory nodes that did not answer, of whose
 *	RASs nothing is known
 */
struct clio_list {
	__u64 items;
	__u32 nr;
	__u32 timeout_ms;
	__u64 ras;
	__u32 silent;
	__u32 reserved0;
	__u64 reserved[2];
};

/**
 * struct clio_drain - have a memory node give its regions away, or stop that
 * @node: its node id
 * @on: 1: it gets no new regions, and those that it has move to other nodes, in
 *	the background; 0: it takes regions again
 * @timeout_ms: 0 means the node's default
 */
struct clio_drain {
	__u32 node;
	__u32 on;
	__u32 timeout_ms;
	__u32 reserved0;
	__u64 reserved[2];
};

/**
 * struct clio_move - move a region to another memory node, in the background
 * @ras: id of the RAS
 * @index: which region
 * @to: node id; 0: the one with most room
 * @timeout_ms: 0 means the node's default
 *
 * EBUSY: the node that has it moves another one. EEXIST: it is there. EIO: the
 * region is lost.
 */
struct clio_move {
	__u64 ras;
	__u32 index;
	__u32 to;
	__u32 timeout_ms;
	__u32 reserved0;
	__u64 reserved[2];
};

#define CLIO_REMOVE_FORCE	(1U << 0)	/* whoever is attached */

/**
 * struct clio_remove - destroy a RAS without its key
 * @ras: its id
 * @flags: CLIO_REMOVE_*. EBUSY without force when a node is attached.
 * @timeout_ms: 0 means the node's default
 */
struct clio_remove {
	__u64 ras;
	__u32 flags;
	__u32 timeout_ms;
	__u64 reserved[2];
};

/**
 * struct clio_quota - change the quota of a RAS
 * @ras: its id
 * @quota: most bytes that may be allocated. EBUSY when it is less than what its
 *	regions were given.
 * @timeout_ms: 0 means the node's default
 */
struct clio_quota {
	__u64 ras;
	__u64 quota;
	__u32 timeout_ms;
	__u32 reserved0;
	__u64 reserved[2];
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

/* Struct clio_memory_node, struct clio_space, struct clio_region at @items. */
#define CLIO_IOC_NODES		_IOWR(CLIO_IOC_MAGIC, 10, struct clio_list)
#define CLIO_IOC_SPACES		_IOWR(CLIO_IOC_MAGIC, 11, struct clio_list)
#define CLIO_IOC_REGIONS	_IOWR(CLIO_IOC_MAGIC, 12, struct clio_list)
#define CLIO_IOC_DRAIN		_IOW(CLIO_IOC_MAGIC, 13, struct clio_drain)
#define CLIO_IOC_MOVE		_IOW(CLIO_IOC_MAGIC, 14, struct clio_move)
#define CLIO_IOC_REMOVE		_IOW(CLIO_IOC_MAGIC, 15, struct clio_remove)
#define CLIO_IOC_QUOTA		_IOW(CLIO_IOC_MAGIC, 16, struct clio_quota)

#endif /* _UAPI_LINUX_CLIO_H */
