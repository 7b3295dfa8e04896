/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * rdma_lite: membership and events of a node, memory regions, locks and
 * barriers of the cluster, through /dev/rdma_lite.
 *
 * An open of the device acts for the node that was made in the opener's
 * network namespace (ENXIO when there is none). All integers are in host
 * byte order; reserved fields must be zero (EINVAL otherwise).
 */
#ifndef _UAPI_LINUX_RDMA_LITE_H
#define _UAPI_LINUX_RDMA_LITE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define RDMA_LITE_ABI_VERSION	1

/* State of a node in the map. */
enum rdma_lite_node_state {
	RDMA_LITE_NODE_UP	= 1,	/* member, expected to answer */
	RDMA_LITE_NODE_DOWN	= 2,	/* member that is not reachable for now */
	RDMA_LITE_NODE_OUT	= 3,	/* no member any more: its state is void */
};

/* Roles of a node in the map: a set of bits. */
#define RDMA_LITE_ROLE_HOTPOT		(1u << 0)	/* holds hotpot data */
#define RDMA_LITE_ROLE_HOTPOT_CD	(1u << 1)	/* hotpot's central dispatcher */
#define RDMA_LITE_ROLE_MEMORY		(1u << 2)	/* legomem memory node */

/**
 * struct rdma_lite_map_node - one node of a map
 * @id: node id, 1 to 65535, unique in the cluster
 * @state: enum rdma_lite_node_state
 * @roles: RDMA_LITE_ROLE_*
 * @port: rdma_cm port it listens on
 * @incarnation: start of the node's present life; a message that bears
 *	another one is refused. 0 in a map that is being published means
 *	"whatever it says when it is met"; never 0 in a map read back once
 *	the node was met.
 * @family: AF_INET or AF_INET6
 * @reserved: zero
 * @addr: address in network byte order, the first 4 bytes for AF_INET
 * @name: name of the node's configfs directory, NUL-terminated
 */
struct rdma_lite_map_node {
	__u32 id;
	__u32 state;
	__u32 roles;
	__u16 port;
	__u16 family;
	__u64 incarnation;
	__u8  addr[16];
	char  name[64];
	__u64 reserved[2];
};

/**
 * struct rdma_lite_map - a map, to be published or read
 * @epoch: of this map; to be published it must be greater than the node's
 *	present epoch (ESTALE), except that the very same map may be
 *	published again
 * @nr_nodes: in: entries at @nodes; out (GET_MAP): entries that there are.
 *	GET_MAP with too few answers ENOSPC and sets this.
 * @flags: zero
 * @nodes: user pointer to struct rdma_lite_map_node[@nr_nodes]
 */
struct rdma_lite_map {
	__u64 epoch;
	__u32 nr_nodes;
	__u32 flags;
	__u64 nodes;
	__u64 reserved[2];
};

/* What an event says. */
enum rdma_lite_event_type {
	RDMA_LITE_EVENT_SUSPECT	= 1,	/* @node does not answer; the kernel acts only on maps */
	RDMA_LITE_EVENT_ALIVE	= 2,	/* a suspect answers again */
	RDMA_LITE_EVENT_MAP	= 3,	/* a map with @epoch is in force */
	RDMA_LITE_EVENT_FENCED	= 4,	/* a peer refused us: its epoch @epoch is newer than ours */
	RDMA_LITE_EVENT_LOST	= 5,	/* events were lost here: the reader was too slow */
};

/* Why a node is suspected, in @reason. */
enum rdma_lite_suspect_reason {
	RDMA_LITE_SUSPECT_HEARTBEAT	= 1,
	RDMA_LITE_SUSPECT_TIMEOUT	= 2,
	RDMA_LITE_SUSPECT_DISCONNECT	= 3,
};

/**
 * struct rdma_lite_event - one read() gives a whole number of these
 * @type: enum rdma_lite_event_type
 * @node: whom it is about
 * @epoch: epoch at the time
 * @incarnation: of @node, 0 if not known
 * @time_ns: CLOCK_MONOTONIC
 */
struct rdma_lite_event {
	__u32 type;
	__u32 node;
	__u32 reason;
	__u32 reserved;
	__u64 epoch;
	__u64 incarnation;
	__u64 time_ns;
};

/**
 * struct rdma_lite_info - who this node is
 */
struct rdma_lite_info {
	__u32 abi_version;
	__u32 id;
	__u64 epoch;
	__u64 incarnation;
	char  name[64];
	__u8  cluster[16];
	__u64 reserved[4];
};

/**
 * struct rdma_lite_ping - one call to a node and back, for tests and benches
 * @node: whom
 * @len: bytes each way, at most the node's largest message
 * @timeout_ms: 0 means the node's default
 * @rtt_ns: out: how long it took
 * @flags: zero
 */
struct rdma_lite_ping {
	__u32 node;
	__u32 len;
	__u32 timeout_ms;
	__u32 flags;
	__u64 rtt_ns;
	__u64 reserved[2];
};

/*
 * Memory regions, locks and barriers. Handles belong to one open file and end
 * with it. In all of these @timeout_ms is the deadline, 0 for the node's
 * default.
 */

/* What may be done with a region: a set of bits. */
#define RDMA_LITE_READ		(1u << 0)
#define RDMA_LITE_WRITE		(1u << 1)
#define RDMA_LITE_ADMIN		(1u << 2)	/* free, grant, revoke */

/* The region lives until it is freed, else until its last handle is gone. */
#define RDMA_LITE_REGION_KEEP	(1u << 0)

/**
 * struct rdma_lite_region - a region to be made or mapped
 * @node: where it lies
 * @rights: ALLOC: what nodes may do that have no grant of their own;
 *	MAP: what is wanted. Out: what the handle may do.
 * @flags: ALLOC: RDMA_LITE_REGION_KEEP, which needs a name; else zero
 * @timeout_ms: deadline
 * @len: ALLOC: bytes; MAP: zero. Out: bytes.
 * @handle: out
 * @name: NUL-padded; ALLOC: may be empty
 */
struct rdma_lite_region {
	__u32 node;
	__u32 rights;
	__u32 flags;
	__u32 timeout_ms;
	__u64 len;
	__u64 handle;
	char  name[64];
	__u64 reserved[2];
};

/**
 * struct rdma_lite_handle - a handle to be given up, or whose region to free
 */
struct rdma_lite_handle {
	__u64 handle;
	__u32 timeout_ms;
	__u32 flags;
};

/**
 * struct rdma_lite_grant - what a node may do with a region
 * @node: whose rights; 0: those of all nodes, whose own grants are forgotten
 * @rights: which; 0 revokes. Handles that have more lose it, except @handle.
 */
struct rdma_lite_grant {
	__u64 handle;
	__u32 node;
	__u32 rights;
	__u32 timeout_ms;
	__u32 flags;
};

/**
 * struct rdma_lite_io - bytes of a region, to be read or written
 * @offset: first byte in the region
 * @len: bytes; not 0
 * @buf: user memory
 * @done: out: bytes that were moved, also on an error
 */
struct rdma_lite_io {
	__u64 handle;
	__u64 offset;
	__u64 len;
	__u64 buf;
	__u64 done;
	__u32 timeout_ms;
	__u32 flags;
};

/**
 * struct rdma_lite_fill - bytes of a region to be set to @value, by its owner
 */
struct rdma_lite_fill {
	__u64 handle;
	__u64 offset;
	__u64 len;
	__u32 value;
	__u32 timeout_ms;
	__u64 reserved;
};

/**
 * struct rdma_lite_copy - bytes to be copied from one region to another (or
 * the same), by the owner of the first; the ranges may overlap
 */
struct rdma_lite_copy {
	__u64 from;
	__u64 from_offset;
	__u64 to;
	__u64 to_offset;
	__u64 len;
	__u32 timeout_ms;
	__u32 flags;
};

/* What is done to a word. */
enum rdma_lite_atomic_op {
	RDMA_LITE_FETCH_ADD	= 1,	/* add @operand */
	RDMA_LITE_COMPARE_SWAP	= 2,	/* put @operand there if it is @expected */
};

/**
 * struct rdma_lite_atomic - a 64-bit word of a region, in its owner's byte order
 * @offset: a multiple of 8
 * @old: out: what it was
 */
struct rdma_lite_atomic {
	__u64 handle;
	__u64 offset;
	__u64 operand;
	__u64 expected;
	__u64 old;
	__u32 op;
	__u32 timeout_ms;
};

/**
 * struct rdma_lite_region_info - what is known about a region
 * @handle: in
 * @timeout_ms: in
 * @node: where it lies
 * @rights: what the handle may do
 * @others: what nodes may do that have no grant of their own
 * @flags: RDMA_LITE_REGION_KEEP
 * @len: bytes
 * @handles: on all nodes
 * @chunk_size: size of the pieces that it lies in
 */
struct rdma_lite_region_info {
	__u64 handle;
	__u32 timeout_ms;
	__u32 node;
	__u32 rights;
	__u32 others;
	__u32 flags;
	__u32 chunk_size;
	__u64 len;
	__u64 handles;
	__u64 reserved[2];
};

/* A deadline that never comes: the map and signals still end the wait. */
#define RDMA_LITE_FOREVER	0xffffffffu
/* LOCK: now or not at all (EBUSY). */
#define RDMA_LITE_TRY		(1u << 0)

/**
 * struct rdma_lite_lock - a lock, to be taken
 * @node: where it is kept
 * @flags: RDMA_LITE_TRY
 * @handle: out
 * @grant: out: grows with each grant of @node's life; shows it to whom a late
 *	holder could harm
 * @name: 1 to 63 bytes, NUL-padded
 */
struct rdma_lite_lock {
	__u32 node;
	__u32 flags;
	__u32 timeout_ms;
	__u32 reserved;
	__u64 handle;
	__u64 grant;
	char  name[64];
};

/**
 * struct rdma_lite_barrier - waits until @count have come, on any nodes
 * @node: where it is kept
 */
struct rdma_lite_barrier {
	__u32 node;
	__u32 count;
	__u32 timeout_ms;
	__u32 flags;
	char  name[64];
};

#define RDMA_LITE_IOC_MAGIC	0xB6
#define RDMA_LITE_IOC_INFO	_IOR(RDMA_LITE_IOC_MAGIC, 0, struct rdma_lite_info)
#define RDMA_LITE_IOC_SET_MAP	_IOW(RDMA_LITE_IOC_MAGIC, 1, struct rdma_lite_map)
#define RDMA_LITE_IOC_GET_MAP	_IOWR(RDMA_LITE_IOC_MAGIC, 2, struct rdma_lite_map)
#define RDMA_LITE_IOC_PING	_IOWR(RDMA_LITE_IOC_MAGIC, 3, struct rdma_lite_ping)

#define RDMA_LITE_IOC_ALLOC	_IOWR(RDMA_LITE_IOC_MAGIC, 32, struct rdma_lite_region)
#define RDMA_LITE_IOC_MAP	_IOWR(RDMA_LITE_IOC_MAGIC, 33, struct rdma_lite_region)
#define RDMA_LITE_IOC_UNMAP	_IOW(RDMA_LITE_IOC_MAGIC, 34, struct rdma_lite_handle)
#define RDMA_LITE_IOC_FREE	_IOW(RDMA_LITE_IOC_MAGIC, 35, struct rdma_lite_handle)
#define RDMA_LITE_IOC_GRANT	_IOW(RDMA_LITE_IOC_MAGIC, 36, struct rdma_lite_grant)
#define RDMA_LITE_IOC_READ	_IOWR(RDMA_LITE_IOC_MAGIC, 37, struct rdma_lite_io)
#define RDMA_LITE_IOC_WRITE	_IOWR(RDMA_LITE_IOC_MAGIC, 38, struct rdma_lite_io)
#define RDMA_LITE_IOC_FILL	_IOW(RDMA_LITE_IOC_MAGIC, 39, struct rdma_lite_fill)
#define RDMA_LITE_IOC_COPY	_IOW(RDMA_LITE_IOC_MAGIC, 40, struct rdma_lite_copy)
#define RDMA_LITE_IOC_ATOMIC	_IOWR(RDMA_LITE_IOC_MAGIC, 41, struct rdma_lite_atomic)
#define RDMA_LITE_IOC_REGION	_IOWR(RDMA_LITE_IOC_MAGIC, 42, struct rdma_lite_region_info)
#define RDMA_LITE_IOC_LOCK	_IOWR(RDMA_LITE_IOC_MAGIC, 48, struct rdma_lite_lock)
#define RDMA_LITE_IOC_UNLOCK	_IOW(RDMA_LITE_IOC_MAGIC, 49, struct rdma_lite_handle)
#define RDMA_LITE_IOC_BARRIER	_IOW(RDMA_LITE_IOC_MAGIC, 50, struct rdma_lite_barrier)

#endif /* _UAPI_LINUX_RDMA_LITE_H */
