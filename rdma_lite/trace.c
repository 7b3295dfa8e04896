// SPDX-License-Identifier: GPL-2.0
/*
 * The tracepoints, as functions that Rust can call (trace.rs): the macros are
 * for C alone. Without CONFIG_TRACEPOINTS there are none, and nobody calls them.
 */
#include <linux/types.h>

#ifdef CONFIG_TRACEPOINTS

#define CREATE_TRACE_POINTS
#include "trace.h"

/* NAME(prototype)(arguments): lite_trace_NAME() is what trace.rs declares. */
#define LITE_TRACE(name, proto, args) \
	void lite_trace_##name proto; \
	void lite_trace_##name proto { trace_lite_##name args; }

LITE_TRACE(call_begin, (const char *node, u32 peer, u32 port, u32 bytes, u32 timeout_ms),
	   (node, peer, port, bytes, timeout_ms))
LITE_TRACE(call_end, (const char *node, u32 peer, u32 port, u32 bytes, int status, int error, u64 ns),
	   (node, peer, port, bytes, status, error, ns))
LITE_TRACE(executed, (const char *node, u32 peer, u32 port, u32 bytes, int status, int error, u64 ns),
	   (node, peer, port, bytes, status, error, ns))
LITE_TRACE(message_sent, (const char *node, u32 peer, u32 kind, u32 port, u32 bytes, u64 call),
	   (node, peer, kind, port, bytes, call))
LITE_TRACE(message_received, (const char *node, u32 peer, u32 kind, u32 port, u32 bytes, u64 call),
	   (node, peer, kind, port, bytes, call))
LITE_TRACE(link_up, (const char *node, u32 peer, u32 generation, int error),
	   (node, peer, generation, error))
LITE_TRACE(link_down, (const char *node, u32 peer, u32 generation, int error),
	   (node, peer, generation, error))
LITE_TRACE(map, (const char *node, u64 epoch, u32 nodes), (node, epoch, nodes))
LITE_TRACE(access, (const char *node, u32 peer, bool write, u64 bytes, int error, u64 ns),
	   (node, peer, write, bytes, error, ns))
LITE_TRACE(region_grant, (const char *node, u32 peer, u64 tag, u32 rights),
	   (node, peer, tag, rights))
LITE_TRACE(region_revoke, (const char *node, u32 peer, u64 tag, u32 rights),
	   (node, peer, tag, rights))
LITE_TRACE(lock, (const char *node, u32 peer, bool barrier, u64 grant, int error, u64 ns),
	   (node, peer, barrier, grant, error, ns))
LITE_TRACE(unlock, (const char *node, u32 peer, u64 grant, int error), (node, peer, grant, error))

#endif /* CONFIG_TRACEPOINTS */
