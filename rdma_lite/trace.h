/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints of rdma_lite: /sys/kernel/tracing/events/rdma_lite, on kernels
 * with CONFIG_TRACEPOINTS. Times are in ns, errors negative errnos, "node" is
 * the name of the node's directory in configfs, other nodes are ids.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rdma_lite

#if !defined(_RDMA_LITE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _RDMA_LITE_TRACE_H

#include <linux/tracepoint.h>

#define show_lite_kind(kind) \
	__print_symbolic(kind, { 1, "call" }, { 2, "reply" }, { 3, "refusal" }, { 4, "heartbeat" })
#define show_lite_rights(rights) \
	__print_flags(rights, "|", { 1, "read" }, { 2, "write" }, { 4, "admin" })

/* A call of ours to a peer begins; it waits at most timeout_ms. */
TRACE_EVENT(lite_call_begin,
	TP_PROTO(const char *node, u32 peer, u32 port, u32 bytes, u32 timeout_ms),
	TP_ARGS(node, peer, port, bytes, timeout_ms),
	TP_STRUCT__entry(
		__string(node, node)
		__field(u32, peer)
		__field(u32, port)
		__field(u32, bytes)
		__field(u32, timeout_ms)
	),
	TP_fast_assign(
		__assign_str(node);
		__entry->peer = peer;
		__entry->port = port;
		__entry->bytes = bytes;
		__entry->timeout_ms = timeout_ms;
	),
	TP_printk("node=%s peer=%u port=%u bytes=%u timeout_ms=%u", __get_str(node),
		  __entry->peer, __entry->port, __entry->bytes, __entry->timeout_ms)
);

DECLARE_EVENT_CLASS(lite_ended,
	TP_PROTO(const char *node, u32 peer, u32 port, u32 bytes, int status, int error, u64 ns),
	TP_ARGS(node, peer, port, bytes, status, error, ns),
	TP_STRUCT__entry(
		__string(node, node)
		__field(u32, peer)
		__field(u32, port)
		__field(u32, bytes)
		__field(int, status)
		__field(int, error)
		__field(u64, ns)
	),
	TP_fast_assign(
		__assign_str(node);
		__entry->peer = peer;
		__entry->port = port;
		__entry->bytes = bytes;
		__entry->status = status;
		__entry->error = error;
		__entry->ns = ns;
	),
	TP_printk("node=%s peer=%u port=%u bytes=%u status=%d errno=%d ns=%llu", __get_str(node),
		  __entry->peer, __entry->port, __entry->bytes, __entry->status, __entry->error,
		  __entry->ns)
);

/* A call of ours ended: bytes of reply and the handler's status, or an error. */
DEFINE_EVENT(lite_ended, lite_call_end,
	TP_PROTO(const char *node, u32 peer, u32 port, u32 bytes, int status, int error, u64 ns),
	TP_ARGS(node, peer, port, bytes, status, error, ns));

/* A call of a peer was executed here. */
DEFINE_EVENT(lite_ended, lite_executed,
	TP_PROTO(const char *node, u32 peer, u32 port, u32 bytes, int status, int error, u64 ns),
	TP_ARGS(node, peer, port, bytes, status, error, ns));

DECLARE_EVENT_CLASS(lite_message,
	TP_PROTO(const char *node, u32 peer, u32 kind, u32 port, u32 bytes, u64 call),
	TP_ARGS(node, peer, kind, port, bytes, call),
	TP_STRUCT__entry(
		__string(node, node)
		__field(u32, peer)
		__field(u32, kind)
		__field(u32, port)
		__field(u32, bytes)
		__field(u64, call)
	),
	TP_fast_assign(
		__assign_str(node);
		__entry->peer = peer;
		__entry->kind = kind;
		__entry->port = port;
		__entry->bytes = bytes;
		__entry->call = call;
	),
	TP_printk("node=%s peer=%u kind=%s port=%u bytes=%u call=%llx", __get_str(node),
		  __entry->peer, show_lite_kind(__entry->kind), __entry->port, __entry->bytes,
		  __entry->call)
);

/* A message was put into the ring of a peer (port and call as its header has them). */
DEFINE_EVENT(lite_message, lite_message_sent,
	TP_PROTO(const char *node, u32 peer, u32 kind, u32 port, u32 bytes, u64 call),
	TP_ARGS(node, peer, kind, port, bytes, call));

/* A message of a peer was taken out of our ring. */
DEFINE_EVENT(lite_message, lite_message_received,
	TP_PROTO(const char *node, u32 peer, u32 kind, u32 port, u32 bytes, u64 call),
	TP_ARGS(node, peer, kind, port, bytes, call));

DECLARE_EVENT_CLASS(lite_link,
	TP_PROTO(const char *node, u32 peer, u32 generation, int error),
	TP_ARGS(node, peer, generation, error),
	TP_STRUCT__entry(
		__string(node, node)
		__field(u32, peer)
		__field(u32, generation)
		__field(int, error)
	),
	TP_fast_assign(
		__assign_str(node);
		__entry->peer = peer;
		__entry->generation = generation;
		__entry->error = error;
	),
	TP_printk("node=%s peer=%u generation=%u errno=%d", __get_str(node), __entry->peer,
		  __entry->generation, __entry->error)
);

/* Messages to and from a peer flow from now on. */
DEFINE_EVENT(lite_link, lite_link_up,
	TP_PROTO(const char *node, u32 peer, u32 generation, int error),
	TP_ARGS(node, peer, generation, error));

/* A connection to a peer, or an attempt at one, is over. */
DEFINE_EVENT(lite_link, lite_link_down,
	TP_PROTO(const char *node, u32 peer, u32 generation, int error),
	TP_ARGS(node, peer, generation, error));

/* A map is in force. */
TRACE_EVENT(lite_map,
	TP_PROTO(const char *node, u64 epoch, u32 nodes),
	TP_ARGS(node, epoch, nodes),
	TP_STRUCT__entry(
		__string(node, node)
		__field(u64, epoch)
		__field(u32, nodes)
	),
	TP_fast_assign(
		__assign_str(node);
		__entry->epoch = epoch;
		__entry->nodes = nodes;
	),
	TP_printk("node=%s epoch=%llu nodes=%u", __get_str(node), __entry->epoch, __entry->nodes)
);

/* RDMA into or out of a region of a peer; a part of it, if it is a large one. */
TRACE_EVENT(lite_access,
	TP_PROTO(const char *node, u32 peer, bool write, u64 bytes, int error, u64 ns),
	TP_ARGS(node, peer, write, bytes, error, ns),
	TP_STRUCT__entry(
		__string(node, node)
		__field(u32, peer)
		__field(bool, write)
		__field(u64, bytes)
		__field(int, error)
		__field(u64, ns)
	),
	TP_fast_assign(
		__assign_str(node);
		__entry->peer = peer;
		__entry->write = write;
		__entry->bytes = bytes;
		__entry->error = error;
		__entry->ns = ns;
	),
	TP_printk("node=%s peer=%u %s bytes=%llu errno=%d ns=%llu", __get_str(node), __entry->peer,
		  __entry->write ? "write" : "read", __entry->bytes, __entry->error, __entry->ns)
);

DECLARE_EVENT_CLASS(lite_region,
	TP_PROTO(const char *node, u32 peer, u64 tag, u32 rights),
	TP_ARGS(node, peer, tag, rights),
	TP_STRUCT__entry(
		__string(node, node)
		__field(u32, peer)
		__field(u64, tag)
		__field(u32, rights)
	),
	TP_fast_assign(
		__assign_str(node);
		__entry->peer = peer;
		__entry->tag = tag;
		__entry->rights = rights;
	),
	TP_printk("node=%s peer=%u tag=%llx rights=%s", __get_str(node), __entry->peer, __entry->tag,
		  show_lite_rights(__entry->rights))
);

/* The holder of a mapping (tag) said what a node (0: each) may do with a region of ours. */
DEFINE_EVENT(lite_region, lite_region_grant,
	TP_PROTO(const char *node, u32 peer, u64 tag, u32 rights),
	TP_ARGS(node, peer, tag, rights));

/* A mapping that a node has of a region of ours lost rights; these are left. */
DEFINE_EVENT(lite_region, lite_region_revoke,
	TP_PROTO(const char *node, u32 peer, u64 tag, u32 rights),
	TP_ARGS(node, peer, tag, rights));

/* The wait for a lock or a barrier that a node keeps is over. */
TRACE_EVENT(lite_lock,
	TP_PROTO(const char *node, u32 peer, bool barrier, u64 grant, int error, u64 ns),
	TP_ARGS(node, peer, barrier, grant, error, ns),
	TP_STRUCT__entry(
		__string(node, node)
		__field(u32, peer)
		__field(bool, barrier)
		__field(u64, grant)
		__field(int, error)
		__field(u64, ns)
	),
	TP_fast_assign(
		__assign_str(node);
		__entry->peer = peer;
		__entry->barrier = barrier;
		__entry->grant = grant;
		__entry->error = error;
		__entry->ns = ns;
	),
	TP_printk("node=%s peer=%u %s grant=%llu errno=%d ns=%llu", __get_str(node), __entry->peer,
		  __entry->barrier ? "barrier" : "lock", __entry->grant, __entry->error,
		  __entry->ns)
);

/* A lock is given back to the node that keeps it. */
TRACE_EVENT(lite_unlock,
	TP_PROTO(const char *node, u32 peer, u64 grant, int error),
	TP_ARGS(node, peer, grant, error),
	TP_STRUCT__entry(
		__string(node, node)
		__field(u32, peer)
		__field(u64, grant)
		__field(int, error)
	),
	TP_fast_assign(
		__assign_str(node);
		__entry->peer = peer;
		__entry->grant = grant;
		__entry->error = error;
	),
	TP_printk("node=%s peer=%u grant=%llu errno=%d", __get_str(node), __entry->peer,
		  __entry->grant, __entry->error)
);

#endif /* _RDMA_LITE_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
