/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * hotpot: a distributed shared persistent memory file system.
 *
 * A file is a dataset. mmap(MAP_SHARED) places it at the dataset's own base
 * address on every node; stores stay private to the node until they are
 * committed. Reserved fields must be zero (EINVAL otherwise).
 */
#ifndef _UAPI_LINUX_HOTPOT_H
#define _UAPI_LINUX_HOTPOT_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define HOTPOT_SUPER_MAGIC	0x504f5448	/* "HTOP" */
#define HOTPOT_NAME_MAX		255
#define HOTPOT_MAX_AREAS	65536
#define HOTPOT_PAGE_SIZE	4096

/* Window of addresses out of which datasets get their base. */
#define HOTPOT_WINDOW_START	0x100000000000ULL
#define HOTPOT_WINDOW_END	0x200000000000ULL

enum hotpot_mode {
	HOTPOT_MRMW	= 1,	/* many readers, many writers */
	HOTPOT_MRSW	= 2,	/* many readers, one writer per page */
};

/**
 * struct hotpot_area - bytes to commit
 * @addr: address inside the dataset's range (base .. base + size)
 * @len: bytes, not 0
 */
struct hotpot_area {
	__u64 addr;
	__u64 len;
};

/**
 * struct hotpot_commit - publish exactly these bytes, all or nothing
 * @areas: user pointer to struct hotpot_area[@nr_areas]; they must not
 *	overlap (EINVAL) and must lie in the dataset (EFAULT)
 * @nr_areas: 1 to HOTPOT_MAX_AREAS
 * @replicas: persistent copies to reach; 0 means the dataset's degree
 * @timeout_ms: deadline; 0 means the mount's default
 * @flags: zero
 * @cid: out: id of this commit, also set when the commit fails
 *
 * 0 only when @replicas nodes hold the bytes persistently. EAGAIN: another
 * commit of some of the bytes is in flight, nothing was published. ENOSPC,
 * EHOSTDOWN (fewer live nodes than replicas), ESTALE: nothing was published.
 * ETIMEDOUT: nothing was published, nor ever will be, whichever node fails.
 * EINPROGRESS: that cannot be said by the deadline (an owner does not answer, or
 * a node that may hold a copy has not confirmed that the commit was given up);
 * ask for the outcome of @cid.
 */
struct hotpot_commit {
	__u64 areas;
	__u32 nr_areas;
	__u32 replicas;
	__u32 timeout_ms;
	__u32 flags;
	__u64 cid;
	__u64 reserved[2];
};

/**
 * struct hotpot_setup - properties of a dataset; only while it is empty
 * @replicas: degree of replication, 1 or more; 0 leaves it as it is
 * @mode: enum hotpot_mode; 0 leaves it as it is
 * @chunk_size: bytes, a power of two, 64 KiB to 1 GiB; 0 leaves it
 * @reserve: bytes of address space to reserve, which bounds the size; a
 *	multiple of the chunk size; 0 leaves it
 */
struct hotpot_setup {
	__u32 replicas;
	__u32 mode;
	__u64 chunk_size;
	__u64 reserve;
	__u64 reserved[4];
};

/**
 * struct hotpot_chunk - one chunk, as the asked node sees it
 * @owner: node id of its owner node
 * @nr_local: pages that this node holds a clean copy of
 * @nr_dirty: pages with uncommitted stores on this node
 * @nr_pages: at the owner: committed pages that exist; else 0
 * @min_replicas: at the owner: durable copies of the page that has the fewest
 */
struct hotpot_chunk {
	__u32 owner;
	__u32 nr_local;
	__u32 nr_dirty;
	__u32 nr_pages;
	__u32 min_replicas;
	__u32 reserved;
};

/**
 * struct hotpot_info - a dataset, as the asked node sees it
 * @chunks: user pointer to struct hotpot_chunk[], or 0
 * @nr_chunks: in: room at @chunks; out: chunks that the dataset has
 */
struct hotpot_info {
	__u64 id;
	__u64 base;
	__u64 size;
	__u64 reserve;
	__u64 chunk_size;
	__u64 epoch;
	__u64 chunks;
	__u32 nr_chunks;
	__u32 replicas;
	__u32 mode;
	__u32 node;		/* id of the asked node */
	__u64 nr_committed;	/* pages by state on this node (section 2.5.1) */
	__u64 nr_redundant;
	__u64 nr_dirty;
	__u64 nr_missing;	/* pages that it owns with too few copies: being made */
	__u64 nr_came;		/* chunks that have moved to this node since its mount, */
	__u64 nr_left;		/* and from it */
	__u64 nr_stayed;	/* that were to move from it, and could not */
	__u64 reserved[4];
};

/**
 * struct hotpot_barrier - meet @count participants, on any nodes
 * @name: of the barrier, NUL-terminated, any text
 * @count: participants, 1 or more; all must say the same (EINVAL)
 * @timeout_ms: deadline; 0 means the mount's default. ETIMEDOUT: not all
 *	came, and this participant does not count any more.
 */
struct hotpot_barrier {
	char  name[64];
	__u32 count;
	__u32 timeout_ms;
	__u64 reserved[2];
};

/* flags of struct hotpot_acquire */
#define HOTPOT_ACQUIRE_WAIT	1	/* wait for other writers, until the deadline */

/**
 * struct hotpot_acquire - write permission for areas of an MRSW dataset
 * @areas: user pointer to struct hotpot_area[@nr_areas]
 * @nr_areas: 1 to HOTPOT_MAX_AREAS; 0 only for HOTPOT_IOC_ABORT: all areas
 * @timeout_ms: deadline; 0 means the mount's default
 * @flags: HOTPOT_ACQUIRE_WAIT or 0; 0 for HOTPOT_IOC_ABORT
 *
 * Whole pages are acquired, all or none, for this open file. EAGAIN: one has
 * another writer (with HOTPOT_ACQUIRE_WAIT: ETIMEDOUT, when it still has one at
 * the deadline). EINVAL: not an MRSW dataset. A store to a page that was not
 * acquired on this node is SIGBUS; a write(2) to, or a commit of, a page that
 * this file has not acquired is EACCES. HOTPOT_IOC_COMMIT, msync(2) and fsync(2)
 * give the pages back that they leave clean; HOTPOT_IOC_ABORT and close(2) drop
 * what was stored and give the pages back. ESTALE, and SIGBUS for loads too:
 * the pages were lost, as the map had this node out of the cluster or a commit
 * ended with EINPROGRESS; abort.
 */
struct hotpot_acquire {
	__u64 areas;
	__u32 nr_areas;
	__u32 timeout_ms;
	__u32 flags;
	__u32 reserved0;
	__u64 reserved[2];
};

enum hotpot_outcome_state {
	HOTPOT_OUTCOME_ABORTED		= 1,	/* nothing was published, nor will be */
	HOTPOT_OUTCOME_COMMITTED	= 2,	/* published, or will be whatever happens */
	HOTPOT_OUTCOME_PENDING		= 3,	/* not known yet: ask again */
	HOTPOT_OUTCOME_FORGOTTEN	= 4,	/* not published, or all that it wrote was overwritten since */
};

/**
 * struct hotpot_outcome - what became of a commit
 * @cid: of the commit, of any node
 * @outcome: out: enum hotpot_outcome_state; zero before
 *
 * ETIMEDOUT: somebody who may know did not answer.
 */
struct hotpot_outcome {
	__u64 cid;
	__u32 outcome;
	__u32 reserved;
};

/**
 * struct hotpot_scrub - check committed copies of a dataset on this node
 * @page: in: first page to check; out: where to go on, 0 when @done
 * @nr_pages: check the copies of at most so many pages; 0 means 1024
 * @timeout_ms: deadline; 0 means the mount's default. A check that takes
 *	longer stops early and says where to go on.
 * @flags: zero
 * @done: out: 1 when no page is left to check
 * @checked: out: copies that were checked against their crc32c
 * @healed: out: damaged copies that were healed from a good one elsewhere
 * @dropped: out: damaged copies that were outdated: nobody needs them
 * @lost: out: damaged copies of which no good one is left: reading them is
 *	EIO, until all of the page is written anew
 * @waiting: out: damaged copies whose good copy may be on a node that does
 *	not answer or is down
 */
struct hotpot_scrub {
	__u64 page;
	__u32 nr_pages;
	__u32 timeout_ms;
	__u32 flags;
	__u32 done;
	__u64 checked;
	__u64 healed;
	__u64 dropped;
	__u64 lost;
	__u64 waiting;
	__u64 reserved[4];
};

#define HOTPOT_IOC_MAGIC	0xB7
#define HOTPOT_IOC_COMMIT	_IOWR(HOTPOT_IOC_MAGIC, 0, struct hotpot_commit)
#define HOTPOT_IOC_SETUP	_IOW(HOTPOT_IOC_MAGIC, 1, struct hotpot_setup)
#define HOTPOT_IOC_INFO		_IOWR(HOTPOT_IOC_MAGIC, 2, struct hotpot_info)
#define HOTPOT_IOC_BARRIER	_IOW(HOTPOT_IOC_MAGIC, 3, struct hotpot_barrier)
#define HOTPOT_IOC_ACQUIRE	_IOW(HOTPOT_IOC_MAGIC, 4, struct hotpot_acquire)
#define HOTPOT_IOC_ABORT	_IOW(HOTPOT_IOC_MAGIC, 5, struct hotpot_acquire)
#define HOTPOT_IOC_OUTCOME	_IOWR(HOTPOT_IOC_MAGIC, 6, struct hotpot_outcome)
#define HOTPOT_IOC_SCRUB	_IOWR(HOTPOT_IOC_MAGIC, 7, struct hotpot_scrub)

#endif /* _UAPI_LINUX_HOTPOT_H */
