/* SPDX-License-Identifier: GPL-2.0 */
/*
 * rdma_lite: in-kernel interface (C ABI; rdma_lite/face.rs is its safe Rust
 * face).
 *
 * A user takes a reference to a node by its configfs name and calls ports on
 * other nodes. Every call has a deadline. A call is executed at most once,
 * whatever is lost, repeated or reconnected on the way.
 *
 * All functions may sleep unless they say otherwise. Errors are negative
 * errnos:
 *	-ETIMEDOUT	no answer by the deadline; it may have been executed
 *	-EHOSTDOWN	the map says down or out, or does not know the node
 *	-ESTALE		the peer (or we) live in an older epoch, or the peer
 *			has a new incarnation: it was not executed
 *	-EMSGSIZE	more than the largest message
 *	-ENOENT		no such port at the peer: it was not executed
 *	-ESHUTDOWN	our own node was switched off
 *	-EINTR		a fatal signal came while waiting
 *	-EAGAIN		LITE_CALL_NOWAIT, and no room: it was not executed
 */
#ifndef _LINUX_RDMA_LITE_H
#define _LINUX_RDMA_LITE_H

#include <linux/types.h>

struct lite_node;
struct module;
struct net;
struct __kernel_sockaddr_storage;

struct lite_buf {
	const void *ptr;
	size_t len;
};

/* End by -EAGAIN when the callee has no room for it now, instead of trying again. */
#define LITE_CALL_NOWAIT	1
/* One way: it ends when the callee has taken it in; @reply_cap is 0. */
#define LITE_CALL_NOTIFY	2
/* Of the high class, which has a guaranteed share under load (high_share). */
#define LITE_CALL_HIGH		4

/**
 * struct lite_call - one call, or one leg of a multicast
 * @dst: node id; our own id is a local call without the network
 * @port: port at @dst
 * @flags: LITE_CALL_*
 * @timeout_ms: 0 means the node's default
 * @nr_req: pieces of the request
 * @req: the request is their concatenation
 * @reply: where the reply goes (kernel memory of the linear map)
 * @reply_cap: room at @reply
 * @reply_len: out: bytes of the reply
 * @status: out: what the handler returned if negative, else 0. Valid when
 *	@err is 0.
 * @err: out: 0 when an answer came, else a negative errno as above
 */
struct lite_call {
	u32 dst;
	u16 port;
	u16 flags;
	u32 timeout_ms;
	u32 nr_req;
	const struct lite_buf *req;
	void *reply;
	size_t reply_cap;
	size_t reply_len;
	int status;
	int err;
};

/**
 * struct lite_msg - a request, as its handler sees it
 */
struct lite_msg {
	u32 src;
	u32 len;
	u64 src_incarnation;
	u64 epoch;
	const void *data;
};

/**
 * typedef lite_handler_t - executes one request
 * @ctx: as registered
 * @msg: the request; valid until the handler returns
 * @reply: where to write the reply
 * @reply_cap: room there, as the caller announced (bounded by the largest
 *	message)
 *
 * Runs in process context, many at once; may sleep and may itself make
 * calls. Returns the length of the reply or a negative errno, which the
 * caller finds in lite_call.status.
 */
typedef long (*lite_handler_t)(void *ctx, const struct lite_msg *msg,
			       void *reply, size_t reply_cap);

/**
 * struct lite_peer - a node of the map
 */
struct lite_peer {
	u32 id;
	u32 state;
	u32 roles;
	u32 suspect;
	u64 incarnation;
};

/*
 * Called after each new map, and again (with the same epoch) when more is known of
 * it: when a node turns out to live another life. In process context; may sleep, not
 * for long.
 */
typedef void (*lite_map_notify_t)(void *ctx, u64 epoch);

/* By configfs name, in any namespace; -ENODEV if none, -ESHUTDOWN if off. */
int lite_node_get(const char *name, struct module *owner, struct lite_node **node);
/* By network namespace; -ENXIO if it has none, -ESHUTDOWN if it is off. */
int lite_node_get_net(struct net *net, struct module *owner, struct lite_node **node);
void lite_node_put(struct lite_node *node);

/* Its network namespace, which lives as long as the caller has the node. */
struct net *lite_node_net(const struct lite_node *node);
u32 lite_node_id(const struct lite_node *node);
u64 lite_node_incarnation(const struct lite_node *node);
u64 lite_node_epoch(const struct lite_node *node);
void lite_node_cluster(const struct lite_node *node, u8 uuid[16]);
/* Largest request, and largest reply that goes through the ring. */
size_t lite_node_max_msg(const struct lite_node *node);
/* Default deadline of a call, in ms. */
u32 lite_node_timeout_ms(const struct lite_node *node);

/* Fills up to @cap peers; returns how many there are, and their epoch. */
long lite_node_peers(const struct lite_node *node, struct lite_peer *peers,
		     size_t cap, u64 *epoch);

/*
 * Address of a node of the map (ourselves included), with the port that
 * rdma_cm listens on; -EHOSTDOWN if the map does not know it.
 */
int lite_peer_address(const struct lite_node *node, u32 id,
		      struct __kernel_sockaddr_storage *addr);

/* One owner for a port at a time (-EBUSY). Unregister waits for handlers. */
int lite_port_register(struct lite_node *node, u16 port, lite_handler_t handler,
		       void *ctx, struct module *owner);
void lite_port_unregister(struct lite_node *node, u16 port);

int lite_map_notify_register(struct lite_node *node, lite_map_notify_t notify,
			     void *ctx, u64 *cookie);
void lite_map_notify_unregister(struct lite_node *node, u64 cookie);

/* Returns calls[0].err. */
int lite_call(struct lite_node *node, struct lite_call *call);
/* All at once; waits for all; returns the number of calls with err == 0. */
long lite_multicast(struct lite_node *node, struct lite_call *calls, size_t nr);

/*
 * Memory regions, locks and barriers. In all of these @at is the node where it
 * lies or is kept, and @timeout_ms the deadline (0: the node's default).
 * Further errors:
 *	-EACCES		the region was not given with these rights, or they
 *			were revoked
 *	-ESTALE		the region was freed, or is of an earlier life of its
 *			owner; the lock was lost, as the map dropped us
 *	-ERANGE		not in the region
 *	-EINVAL		no bytes; a word that is not aligned; a bad argument
 *	-ENOSPC		@at does not offer so much memory
 *	-EEXIST, -ENOENT	the name is taken, or nobody has it
 */
struct lite_region;
struct lite_lock;

#define LITE_READ		(1u << 0)
#define LITE_WRITE		(1u << 1)
#define LITE_ADMIN		(1u << 2)	/* free, grant, revoke */

#define LITE_REGION_KEEP	(1u << 0)	/* lives until it is freed */
#define LITE_TRY		(1u << 0)	/* lock now or not at all (-EBUSY) */
#define LITE_FOREVER		0xffffffffu	/* locks and barriers: no deadline */

/*
 * A region of @len bytes, all zero, mapped with all rights. @others: what nodes
 * may do that have no grant of their own. @name may be NULL. Without
 * LITE_REGION_KEEP it ends with its last mapping.
 */
int lite_malloc(struct lite_node *node, u32 at, u64 len, const char *name, u32 others,
		u32 flags, u32 timeout_ms, struct lite_region **region);
int lite_map(struct lite_node *node, u32 at, const char *name, u32 rights, u32 timeout_ms,
	     struct lite_region **region);
/* @region ends in any case; on an error its owner hears of it in the background. */
int lite_unmap(struct lite_region *region, u32 timeout_ms);
/* Whoever has mapped it; on success @region ends as well. Needs LITE_ADMIN. */
int lite_free(struct lite_region *region, u32 timeout_ms);
/* What node @to (0: each) may do from now on; 0 revokes. Needs LITE_ADMIN. */
int lite_grant(struct lite_region *region, u32 to, u32 rights, u32 timeout_ms);

/* What is done with @region from now on is of the high class, or not. Never fails. */
void lite_region_set_high(struct lite_region *region, bool high);
int lite_read(struct lite_region *region, u64 offset, void *buf, size_t len, u32 timeout_ms);
int lite_write(struct lite_region *region, u64 offset, const void *buf, size_t len,
	       u32 timeout_ms);
int lite_memset(struct lite_region *region, u64 offset, u8 value, u64 len, u32 timeout_ms);
/* Any two regions, or one: the ranges may overlap. Executed by the owner of @from. */
int lite_memmove(struct lite_region *to, u64 to_offset, struct lite_region *from,
		 u64 from_offset, u64 len, u32 timeout_ms);
/* Aligned 64-bit words; executed by the owner. @old may be NULL. */
int lite_fetch_add(struct lite_region *region, u64 offset, u64 add, u64 *old, u32 timeout_ms);
/* @expected becomes what the word was. */
int lite_compare_swap(struct lite_region *region, u64 offset, u64 *expected, u64 value,
		      u32 timeout_ms);

int lite_lock(struct lite_node *node, u32 at, const char *name, u32 flags, u32 timeout_ms,
	      struct lite_lock **lock);
/* @lock ends in any case; on an error its owner hears of it in the background. */
int lite_unlock(struct lite_lock *lock, u32 timeout_ms);
int lite_barrier(struct lite_node *node, u32 at, const char *name, u32 count, u32 timeout_ms);

/* Ports below 64 are for the modules of this tree. */
#define LITE_PORT_ECHO		1	/* answers what it gets (ping) */
#define LITE_PORT_HOTPOT	2
#define LITE_PORT_LEGOMEM	3	/* control of memory nodes */
#define LITE_PORT_CLIO		4	/* control of compute nodes */
#define LITE_PORT_REGION	8	/* memory regions */
#define LITE_PORT_SYNC		9	/* locks and barriers */

#endif /* _LINUX_RDMA_LITE_H */
