/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * rdma_lite: membership and events of a node, memory regions, locks and
 * barriers of the cluster, through /dev/rdma_lite.
 *
 * An open of the device acts for the node that was made in the opener's
 * network namespace (ENXIO when there is none) and for the opener's effective
 * user, whose limits (EAGAIN, EDQUOT) all its open files share. All integers
 * are in host byte order; reserved fields must be zero (EINVAL otherwise).
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

/* Classes of service. */
enum rdma_lite_class_of_service {
	RDMA_LITE_CLASS_NORMAL	= 0,	/* of a file that was just opened */
	RDMA_LITE_CLASS_HIGH	= 1,	/* has a guaranteed share under load */
};

/**
 * struct rdma_lite_class - what is asked for through this file from now on
 *	(calls, what is done with regions, locks and barriers) is of a class
 * @class: enum rdma_lite_class_of_service. EPERM for the high one, unless the
 *	user is named in the node's high_users, or may raise priorities
 *	(CAP_SYS_NICE).
 * @reserved: zero
 *
 * Of what the users of a pair of nodes share (room in the ring, calls and
 * accesses under way, queues of ports) the high class has high_share percent
 * while it wants it, the normal class the rest. Locks are given in the order
 * in which they were asked for, whatever the class; what has begun stays as it
 * is.
 */
struct rdma_lite_class {
	__u32 class;
	__u32 reserved;
};

/* Ports below this belong to modules. */
#define RDMA_LITE_PORT_FIRST	64

/**
 * struct rdma_lite_port - a port whose calls this open file receives
 * @port: RDMA_LITE_PORT_FIRST to 65535; EBUSY when it has an owner at this
 *	node. It ends with PORT_CLOSE or with the file: calls that wait end by
 *	ENOENT (not executed), those that were received by status -EPIPE.
 * @flags: zero
 * @requests: how many requests the queue holds, until their reply; 0: 256, at
 *	most 65536. What does not fit is tried again by the caller's kernel
 *	until the caller's deadline, or ends by EAGAIN (RDMA_LITE_CALL_NOWAIT).
 * @bytes: how many bytes of requests; 0: 4 MiB, at most 64 MiB. A request that
 *	is larger ends by EMSGSIZE.
 *
 * PORT_CLOSE wants all but @port to be zero.
 */
struct rdma_lite_port {
	__u32 port;
	__u32 flags;
	__u32 requests;
	__u32 reserved0;
	__u64 bytes;
	__u64 reserved[2];
};

/* RECEIVE: reply to @token first. */
#define RDMA_LITE_RECEIVE_REPLY	(1u << 0)

/**
 * struct rdma_lite_receive - receives the next request of a port
 * @port: one that this file opened (ENOENT)
 * @flags: RDMA_LITE_RECEIVE_REPLY; zero once the reply was given, so that a
 *	call that a signal ended can be made again as it is
 * @timeout_ms: how long to wait for a request (ETIMEDOUT); 0, or a file that
 *	is O_NONBLOCK: not at all (EAGAIN); ~0: until a signal comes (EINTR)
 * @status: in, of the reply
 * @token: in: what is replied to; out: names the request in its reply, 0 when
 *	its caller wants none
 * @reply: in: address of the reply
 * @reply_len: in: its length
 * @buf: where the request goes
 * @len: in: room there; out: bytes of the request. With EMSGSIZE: the room
 *	that it needs; the request is still the next one.
 * @src: out: node of the caller
 * @reply_room: out: bytes of reply that the caller takes
 * @src_incarnation: out: that node's life
 * @epoch: out: of the caller's map
 */
struct rdma_lite_receive {
	__u32 port;
	__u32 flags;
	__u32 timeout_ms;
	__s32 status;
	__u64 token;
	__u64 reply;
	__u64 reply_len;
	__u64 buf;
	__u64 len;
	__u32 src;
	__u32 reply_room;
	__u64 src_incarnation;
	__u64 epoch;
	__u64 reserved[2];
};

/**
 * struct rdma_lite_reply - replies to a request
 * @port: where it was received
 * @status: 0, or a negative errno that the caller finds in its @status
 * @token: of the request; ENOENT when it has a reply, or nobody waits for one
 * @buf: the reply
 * @len: its length; EMSGSIZE when the caller does not take so much. 0 with a
 *	negative @status.
 */
struct rdma_lite_reply {
	__u32 port;
	__s32 status;
	__u64 token;
	__u64 buf;
	__u64 len;
	__u64 reserved[2];
};

/* End by EAGAIN when there is no room at the port, instead of trying again. */
#define RDMA_LITE_CALL_NOWAIT	(1u << 0)
/* One way: ends when the port has taken it in; @reply_len is 0. */
#define RDMA_LITE_CALL_NOTIFY	(1u << 1)

/**
 * struct rdma_lite_call - calls a port of a node and waits for the reply
 * @node: whom, also ourselves
 * @port: port of a user there; ENOENT: nobody has it; EACCES: one of a module
 * @flags: RDMA_LITE_CALL_*
 * @timeout_ms: deadline; 0: the node's default
 * @request: address
 * @request_len: bytes, at most the largest message (EMSGSIZE)
 * @reply: address
 * @reply_len: in: room; out: bytes of the reply
 * @status: out: the errno that the receiver replied with, negative, or 0
 * @err: out, of a multicast: 0 when it was answered, else a negative errno
 *
 * ETIMEDOUT: no reply by the deadline, it may have been executed. EINTR: a
 * signal came, it may have been executed. EHOSTDOWN, ESTALE, ENOENT, EAGAIN:
 * it was not executed.
 */
struct rdma_lite_call {
	__u32 node;
	__u32 port;
	__u32 flags;
	__u32 timeout_ms;
	__u64 request;
	__u64 request_len;
	__u64 reply;
	__u64 reply_len;
	__s32 status;
	__s32 err;
	__u64 reserved[2];
};

/**
 * struct rdma_lite_multicast - makes calls at once and waits for all of them
 * @calls: user pointer to struct rdma_lite_call[@nr]; each has its own result
 * @nr: 1 to 1024
 * @answered: out: how many were answered
 */
struct rdma_lite_multicast {
	__u64 calls;
	__u32 nr;
	__u32 answered;
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
 * struct rdma_lite_lend - memory of the caller's own, to be made a region of
 *	its node
 * @addr: where it begins; a multiple of 8
 * @len: bytes
 * @handle: out: with all rights
 * @rights: what nodes may do that have no grant of their own
 * @flags: zero
 * @name: NUL-padded; may be empty
 *
 * Its pages are pinned for writing, and count as locked memory of the process
 * (ENOMEM beyond RLIMIT_MEMLOCK; EFBIG beyond 64 GiB); EFAULT: not all of it
 * is there, and writable; EOPNOTSUPP: it cannot be pinned, as files on persistent memory. The region is
 * freed when the handle ends: by UNMAP, close or the end of the process. What
 * the process unmaps stays with the region until then.
 */
struct rdma_lite_lend {
	__u64 addr;
	__u64 len;
	__u64 handle;
	__u32 rights;
	__u32 flags;
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
 * @mmap_offset: out: where mmap(2) of this file shows the region, see there; 0:
 *	nowhere, as it lies at another node or is of memory that was lent
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
	__u64 mmap_offset;
	__u64 reserved;
};

#define RDMA_LITE_MAX_BATCH	1024		/* operations in one call */
#define RDMA_LITE_MAX_ASYNC	(4u << 20)	/* bytes of one operation */
#define RDMA_LITE_MAX_SEGMENTS	1024		/* segments of one operation */

/* What an operation does. */
enum rdma_lite_opcode {
	RDMA_LITE_OP_READ	= 1,	/* of a region, into user memory */
	RDMA_LITE_OP_WRITE	= 2,	/* of user memory, into a region */
	RDMA_LITE_OP_FILL	= 3,	/* bytes become @operand, by their owner */
	RDMA_LITE_OP_COPY	= 4,	/* to the region @to, by the owner of @handle */
	RDMA_LITE_OP_FETCH_ADD	= 5,	/* add @operand to a word */
	RDMA_LITE_OP_COMPARE_SWAP = 6,	/* put @operand there if it is @expected */
};

/**
 * struct rdma_lite_segment - a piece of user memory
 */
struct rdma_lite_segment {
	__u64 buf;
	__u64 len;
};

/**
 * struct rdma_lite_op - an operation to be submitted
 * @opcode: enum rdma_lite_opcode
 * @segments: 0: @buf is the user memory; else @buf is an array of so many
 *	struct rdma_lite_segment, whose lengths sum up to @len: a read is
 *	scattered to them, a write gathered from them, in their order; of others 0
 * @handle: of the region
 * @offset: first byte in the region
 * @len: bytes; not 0; READ, WRITE: at most RDMA_LITE_MAX_ASYNC (EMSGSIZE); of a
 *	word 8
 * @buf: READ, WRITE: see @segments; what is written is taken from there when it
 *	is submitted, what is read comes there when its end is told
 * @operand: FILL: a byte; FETCH_ADD: what is added; COMPARE_SWAP: what is put
 * @to: COPY: handle of the region that is written, which may be the same
 * @cookie: comes back with its completion
 * @done: READ, WRITE, FILL, FETCH_ADD: zero; out, synchronous: bytes that were
 *	moved, also on an error; what the word was
 * @expected: COMPARE_SWAP
 * @to_offset: COPY: first byte in @to
 * @error: zero; out, synchronous: 0 or a negative errno, as of
 *	RDMA_LITE_IOC_READ, _WRITE, _FILL, _COPY, _ATOMIC
 * @flags: zero
 */
struct rdma_lite_op {
	__u32 opcode;
	__u32 segments;
	__u64 handle;
	__u64 offset;
	__u64 len;
	union {
		__u64 buf;
		__u64 operand;
		__u64 to;
	};
	__u64 cookie;
	union {
		__u64 done;
		__u64 expected;
		__u64 to_offset;
	};
	__s32 error;
	__u32 flags;
};

/* SUBMIT: return at once; RDMA_LITE_IOC_POLL tells of the ends. */
#define RDMA_LITE_ASYNC		(1u << 0)

/**
 * struct rdma_lite_submit - do operations, in no order
 * @ops: user pointer to struct rdma_lite_op[@nr]
 * @nr: 1 to RDMA_LITE_MAX_BATCH
 * @flags: RDMA_LITE_ASYNC; else all are waited for, and each has its own
 *	@error; together at most 16 MiB (EMSGSIZE for those beyond)
 * @timeout_ms: deadline of each; 0 means the node's default
 * @done: out: operations that were accepted; the rest was not begun. The call
 *	fails if the first was not: EAGAIN: too many (1024 or 16 MiB of an open
 *	file) are outstanding.
 */
struct rdma_lite_submit {
	__u64 ops;
	__u32 nr;
	__u32 flags;
	__u32 timeout_ms;
	__u32 done;
	__u64 reserved[2];
};

/**
 * struct rdma_lite_completion - an asynchronous operation is over
 * @done: bytes that were moved, also on an error; what the word was
 * @error: 0 or a negative errno
 */
struct rdma_lite_completion {
	__u64 cookie;
	__u64 done;
	__s32 error;
	__u32 opcode;
};

/**
 * struct rdma_lite_poll - hear of asynchronous operations that are over
 * @completions: user pointer to struct rdma_lite_completion[@nr]
 * @nr: room, not 0; out: how many there are
 * @min: wait for so many (0: do not wait), or for all outstanding if fewer
 * @timeout_ms: longest wait; 0 means the node's default. ETIMEDOUT when
 *	nothing came, EINTR when a signal did.
 * @flags: zero
 *
 * What was read is copied to its memory here. EFAULT: where completions should
 * go, or this structure, cannot be written; what the caller cannot know to have
 * heard is told again. poll(2): EPOLLRDBAND when there
 * are completions.
 */
struct rdma_lite_poll {
	__u64 completions;
	__u32 nr;
	__u32 min;
	__u32 timeout_ms;
	__u32 flags;
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
#define RDMA_LITE_IOC_CLASS	_IOW(RDMA_LITE_IOC_MAGIC, 4, struct rdma_lite_class)

#define RDMA_LITE_IOC_PORT_OPEN	_IOW(RDMA_LITE_IOC_MAGIC, 16, struct rdma_lite_port)
#define RDMA_LITE_IOC_PORT_CLOSE _IOW(RDMA_LITE_IOC_MAGIC, 17, struct rdma_lite_port)
#define RDMA_LITE_IOC_RECEIVE	_IOWR(RDMA_LITE_IOC_MAGIC, 18, struct rdma_lite_receive)
#define RDMA_LITE_IOC_REPLY	_IOW(RDMA_LITE_IOC_MAGIC, 19, struct rdma_lite_reply)
#define RDMA_LITE_IOC_CALL	_IOWR(RDMA_LITE_IOC_MAGIC, 20, struct rdma_lite_call)
#define RDMA_LITE_IOC_MULTICAST	_IOWR(RDMA_LITE_IOC_MAGIC, 21, struct rdma_lite_multicast)
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
#define RDMA_LITE_IOC_SUBMIT	_IOWR(RDMA_LITE_IOC_MAGIC, 43, struct rdma_lite_submit)
#define RDMA_LITE_IOC_POLL	_IOWR(RDMA_LITE_IOC_MAGIC, 44, struct rdma_lite_poll)
#define RDMA_LITE_IOC_LEND	_IOWR(RDMA_LITE_IOC_MAGIC, 45, struct rdma_lite_lend)
#define RDMA_LITE_IOC_LOCK	_IOWR(RDMA_LITE_IOC_MAGIC, 48, struct rdma_lite_lock)
#define RDMA_LITE_IOC_UNLOCK	_IOW(RDMA_LITE_IOC_MAGIC, 49, struct rdma_lite_handle)
#define RDMA_LITE_IOC_BARRIER	_IOW(RDMA_LITE_IOC_MAGIC, 50, struct rdma_lite_barrier)

#endif /* _UAPI_LINUX_RDMA_LITE_H */
