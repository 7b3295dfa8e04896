/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * rdma_lite: membership and events of a node, through /dev/rdma_lite.
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

#define RDMA_LITE_IOC_MAGIC	0xB6
#define RDMA_LITE_IOC_INFO	_IOR(RDMA_LITE_IOC_MAGIC, 0, struct rdma_lite_info)
#define RDMA_LITE_IOC_SET_MAP	_IOW(RDMA_LITE_IOC_MAGIC, 1, struct rdma_lite_map)
#define RDMA_LITE_IOC_GET_MAP	_IOWR(RDMA_LITE_IOC_MAGIC, 2, struct rdma_lite_map)
#define RDMA_LITE_IOC_PING	_IOWR(RDMA_LITE_IOC_MAGIC, 3, struct rdma_lite_ping)

#endif /* _UAPI_LINUX_RDMA_LITE_H */
