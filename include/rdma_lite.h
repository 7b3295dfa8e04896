/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The memory, calls, locks and barriers of a cluster for C programs, over
 * /dev/rdma_lite (linux/rdma_lite.h). Header-only:
 *
 *	int lite = lite_open();
 *	uint64_t table = lite_malloc(lite, 2, 1 << 20, "table", RDMA_LITE_READ, 0);
 *	lite_write(lite, table, 4096, "hello", 5);
 *	lite_read(lite, table, 4096, buf, 5);
 *
 *	lite_rpc_register(lite, 100);				(on node 2)
 *	len = lite_rpc_receive(lite, 100, buf, sizeof(buf), &request);
 *	lite_rpc_reply(lite, &request, 0, "pong", 4);
 *	len = lite_rpc_call(lite, 2, 100, "ping", 4, buf, sizeof(buf));	(on node 1)
 *
 *	lite_read_async(lite, table, 0, buf, 4096, cookie);
 *	n = lite_poll(lite, completions, 8, 1, 0);
 *
 * Functions return 0, or -1 and errno; those that return a handle 0 and errno.
 * Handles belong to the descriptor, which may be used by many threads, and end
 * with close(). Deadlines are the node's default.
 */
#ifndef _RDMA_LITE_H
#define _RDMA_LITE_H

#include <errno.h>
#include <fcntl.h>
#include <linux/rdma_lite.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

/* Opens the node of our network namespace. */
static inline int lite_open(void)
{
	return open("/dev/rdma_lite", O_RDWR | O_CLOEXEC);
}

static inline int lite_name(char field[64], const char *name)
{
	size_t len = name ? strlen(name) : 0;

	if (len > 63) {
		errno = EINVAL;
		return -1;
	}
	memset(field, 0, 64);
	if (len)
		memcpy(field, name, len);
	return 0;
}

/*
 * A region of len bytes at a node, all zero. others: what nodes may do that
 * have no grant of their own. The name may be NULL.
 */
static inline uint64_t lite_malloc(int fd, uint32_t node, uint64_t len, const char *name,
				   uint32_t others, uint32_t flags)
{
	struct rdma_lite_region region = {
		.node = node,
		.rights = others,
		.flags = flags,
		.len = len,
	};

	if (lite_name(region.name, name) || ioctl(fd, RDMA_LITE_IOC_ALLOC, &region))
		return 0;
	return region.handle;
}

/*
 * Memory of ours, as a region of our own node until the handle ends; it counts as locked memory
 * (RLIMIT_MEMLOCK). mem is a multiple of 8.
 */
static inline uint64_t lite_lend(int fd, void *mem, uint64_t len, const char *name, uint32_t others)
{
	struct rdma_lite_lend lend = {
		.addr = (uintptr_t)mem,
		.len = len,
		.rights = others,
	};

	if (lite_name(lend.name, name) || ioctl(fd, RDMA_LITE_IOC_LEND, &lend))
		return 0;
	return lend.handle;
}

/* The region of this name at a node. */
static inline uint64_t lite_map(int fd, uint32_t node, const char *name, uint32_t rights)
{
	struct rdma_lite_region region = {
		.node = node,
		.rights = rights,
	};

	if (lite_name(region.name, name) || ioctl(fd, RDMA_LITE_IOC_MAP, &region))
		return 0;
	return region.handle;
}

static inline int lite_unmap(int fd, uint64_t handle)
{
	struct rdma_lite_handle h = { .handle = handle };

	return ioctl(fd, RDMA_LITE_IOC_UNMAP, &h);
}

/* Frees the region, whoever has mapped it; the handle ends. */
static inline int lite_free(int fd, uint64_t handle)
{
	struct rdma_lite_handle h = { .handle = handle };

	return ioctl(fd, RDMA_LITE_IOC_FREE, &h);
}

/* What a node (0: each) may do from now on; rights 0 revokes. */
static inline int lite_grant(int fd, uint64_t handle, uint32_t node, uint32_t rights)
{
	struct rdma_lite_grant grant = {
		.handle = handle,
		.node = node,
		.rights = rights,
	};

	return ioctl(fd, RDMA_LITE_IOC_GRANT, &grant);
}

static inline int lite_read(int fd, uint64_t handle, uint64_t offset, void *buf, uint64_t len)
{
	struct rdma_lite_io io = {
		.handle = handle,
		.offset = offset,
		.len = len,
		.buf = (uintptr_t)buf,
	};

	return ioctl(fd, RDMA_LITE_IOC_READ, &io);
}

static inline int lite_write(int fd, uint64_t handle, uint64_t offset, const void *buf,
			     uint64_t len)
{
	struct rdma_lite_io io = {
		.handle = handle,
		.offset = offset,
		.len = len,
		.buf = (uintptr_t)buf,
	};

	return ioctl(fd, RDMA_LITE_IOC_WRITE, &io);
}

/* --- many operations at once --------------------------------------------- */

/*
 * Does all of ops (rdma_lite_op) in no order and waits for them; each has its own error. Returns how many
 * were done, or -1.
 */
static inline int lite_batch(int fd, struct rdma_lite_op *ops, uint32_t nr, uint32_t timeout_ms)
{
	struct rdma_lite_submit submit = {
		.ops = (uintptr_t)ops,
		.nr = nr,
		.timeout_ms = timeout_ms,
	};

	return ioctl(fd, RDMA_LITE_IOC_SUBMIT, &submit) ? -1 : (int)submit.done;
}

/* Begins ops; lite_poll() tells of their ends. Returns how many of them, from the first on, or -1. */
static inline int lite_submit(int fd, const struct rdma_lite_op *ops, uint32_t nr, uint32_t timeout_ms)
{
	struct rdma_lite_submit submit = {
		.ops = (uintptr_t)ops,
		.nr = nr,
		.flags = RDMA_LITE_ASYNC,
		.timeout_ms = timeout_ms,
	};

	return ioctl(fd, RDMA_LITE_IOC_SUBMIT, &submit) ? -1 : (int)submit.done;
}

/* The memory must stay until lite_poll() has told of the end. */
static inline int lite_read_async(int fd, uint64_t handle, uint64_t offset, void *buf, uint64_t len,
				  uint64_t cookie)
{
	struct rdma_lite_op op = {
		.opcode = RDMA_LITE_OP_READ,
		.handle = handle,
		.offset = offset,
		.len = len,
		.buf = (uintptr_t)buf,
		.cookie = cookie,
	};

	return lite_submit(fd, &op, 1, 0) < 0 ? -1 : 0;
}

/* The memory may be used for something else at once. */
static inline int lite_write_async(int fd, uint64_t handle, uint64_t offset, const void *buf, uint64_t len,
				   uint64_t cookie)
{
	struct rdma_lite_op op = {
		.opcode = RDMA_LITE_OP_WRITE,
		.handle = handle,
		.offset = offset,
		.len = len,
		.buf = (uintptr_t)buf,
		.cookie = cookie,
	};

	return lite_submit(fd, &op, 1, 0) < 0 ? -1 : 0;
}

static inline int lite_begin_op(int fd, uint32_t opcode, uint64_t handle, uint64_t offset, uint64_t len,
				uint64_t operand, uint64_t argument, uint64_t cookie)
{
	struct rdma_lite_op op = {
		.opcode = opcode,
		.handle = handle,
		.offset = offset,
		.len = len,
		.operand = operand,
		.cookie = cookie,
		.expected = argument,
	};

	return lite_submit(fd, &op, 1, 0) < 0 ? -1 : 0;
}

static inline int lite_memset_async(int fd, uint64_t handle, uint64_t offset, uint8_t value, uint64_t len,
				    uint64_t cookie)
{
	return lite_begin_op(fd, RDMA_LITE_OP_FILL, handle, offset, len, value, 0, cookie);
}

/* As lite_memmove(). */
static inline int lite_memmove_async(int fd, uint64_t to, uint64_t to_offset, uint64_t from, uint64_t from_offset,
				     uint64_t len, uint64_t cookie)
{
	return lite_begin_op(fd, RDMA_LITE_OP_COPY, from, from_offset, len, to, to_offset, cookie);
}

/* What the word was is in the completion's done. */
static inline int lite_fetch_add_async(int fd, uint64_t handle, uint64_t offset, uint64_t add, uint64_t cookie)
{
	return lite_begin_op(fd, RDMA_LITE_OP_FETCH_ADD, handle, offset, 8, add, 0, cookie);
}

/* What the word was is in the completion's done; it was changed if that is what was expected. */
static inline int lite_compare_swap_async(int fd, uint64_t handle, uint64_t offset, uint64_t expected,
					  uint64_t value, uint64_t cookie)
{
	return lite_begin_op(fd, RDMA_LITE_OP_COMPARE_SWAP, handle, offset, 8, value, expected, cookie);
}

/* Waits for min ends (0: for none), tells of nr at most. Returns how many, or -1. */
static inline int lite_poll(int fd, struct rdma_lite_completion *completions, uint32_t nr, uint32_t min,
			    uint32_t timeout_ms)
{
	struct rdma_lite_poll poll = {
		.completions = (uintptr_t)completions,
		.nr = nr,
		.min = min,
		.timeout_ms = timeout_ms,
	};

	return ioctl(fd, RDMA_LITE_IOC_POLL, &poll) ? -1 : (int)poll.nr;
}

static inline int lite_vector(int fd, uint32_t opcode, uint64_t handle, uint64_t offset,
			      const struct rdma_lite_segment *segments, uint32_t nr)
{
	struct rdma_lite_op op = {
		.opcode = opcode,
		.segments = nr,
		.handle = handle,
		.offset = offset,
		.buf = (uintptr_t)segments,
	};
	uint32_t i;

	if (!nr) {
		errno = EINVAL;
		return -1;
	}
	for (i = 0; i < nr; i++)
		op.len += segments[i].len;
	if (lite_batch(fd, &op, 1, 0) < 0)
		return -1;
	if (op.error) {
		errno = -op.error;
		return -1;
	}
	return 0;
}

/* From one place of a region to many of ours; at most RDMA_LITE_MAX_ASYNC bytes. */
static inline int lite_readv(int fd, uint64_t handle, uint64_t offset,
			     const struct rdma_lite_segment *segments, uint32_t nr)
{
	return lite_vector(fd, RDMA_LITE_OP_READ, handle, offset, segments, nr);
}

/* From many places of ours to one of a region. */
static inline int lite_writev(int fd, uint64_t handle, uint64_t offset,
			      const struct rdma_lite_segment *segments, uint32_t nr)
{
	return lite_vector(fd, RDMA_LITE_OP_WRITE, handle, offset, segments, nr);
}

static inline int lite_memset(int fd, uint64_t handle, uint64_t offset, uint8_t value,
			      uint64_t len)
{
	struct rdma_lite_fill fill = {
		.handle = handle,
		.offset = offset,
		.len = len,
		.value = value,
	};

	return ioctl(fd, RDMA_LITE_IOC_FILL, &fill);
}

/* Between any two regions, or in one: then the ranges may overlap. */
static inline int lite_memmove(int fd, uint64_t to, uint64_t to_offset, uint64_t from,
			       uint64_t from_offset, uint64_t len)
{
	struct rdma_lite_copy copy = {
		.from = from,
		.from_offset = from_offset,
		.to = to,
		.to_offset = to_offset,
		.len = len,
	};

	return ioctl(fd, RDMA_LITE_IOC_COPY, &copy);
}

static inline int lite_memcpy(int fd, uint64_t to, uint64_t to_offset, uint64_t from,
			      uint64_t from_offset, uint64_t len)
{
	return lite_memmove(fd, to, to_offset, from, from_offset, len);
}

/* Adds to a word; *old is what it was. */
static inline int lite_fetch_add(int fd, uint64_t handle, uint64_t offset, uint64_t add,
				 uint64_t *old)
{
	struct rdma_lite_atomic op = {
		.handle = handle,
		.offset = offset,
		.operand = add,
		.op = RDMA_LITE_FETCH_ADD,
	};
	int err = ioctl(fd, RDMA_LITE_IOC_ATOMIC, &op);

	if (!err && old)
		*old = op.old;
	return err;
}

/* Puts a word there if it is *expected, which becomes what it was. */
static inline int lite_compare_swap(int fd, uint64_t handle, uint64_t offset,
				    uint64_t *expected, uint64_t value)
{
	struct rdma_lite_atomic op = {
		.handle = handle,
		.offset = offset,
		.operand = value,
		.expected = *expected,
		.op = RDMA_LITE_COMPARE_SWAP,
	};
	int err = ioctl(fd, RDMA_LITE_IOC_ATOMIC, &op);

	if (!err)
		*expected = op.old;
	return err;
}

static inline int lite_region_info(int fd, uint64_t handle, struct rdma_lite_region_info *info)
{
	memset(info, 0, sizeof(*info));
	info->handle = handle;
	return ioctl(fd, RDMA_LITE_IOC_REGION, info);
}

/*
 * Maps len bytes from offset (a multiple of the page size) of a region that lies at our own node, with PROT_READ, or
 * both PROT_READ and PROT_WRITE, as far as the handle goes (EACCES). Others change them at any time. A process that
 * touches them once the rights are revoked, the region is freed or the handle has ended gets a SIGBUS. Returns MAP_FAILED
 * and errno, EOPNOTSUPP when the region cannot be mapped. munmap() ends it.
 */
static inline void *lite_mmap(int fd, uint64_t handle, uint64_t offset, size_t len, int prot)
{
	struct rdma_lite_region_info info;

	if (lite_region_info(fd, handle, &info))
		return MAP_FAILED;
	if (!info.mmap_offset || offset >= info.len) {
		errno = info.mmap_offset ? ERANGE : EOPNOTSUPP;
		return MAP_FAILED;
	}
	return mmap(NULL, len, prot, MAP_SHARED, fd, (off_t)(info.mmap_offset + offset));
}

/* --- calls --------------------------------------------------------------------- */

/* The calls of a port are received through this descriptor; poll(2) says POLLPRI when there are some. */
static inline int lite_rpc_register(int fd, uint32_t port)
{
	struct rdma_lite_port p = { .port = port };

	return ioctl(fd, RDMA_LITE_IOC_PORT_OPEN, &p);
}

static inline int lite_rpc_unregister(int fd, uint32_t port)
{
	struct rdma_lite_port p = { .port = port };

	return ioctl(fd, RDMA_LITE_IOC_PORT_CLOSE, &p);
}

/*
 * Waits for the next request of a port, until a signal comes; *request is what lite_rpc_reply() wants.
 * Returns its length, or -1.
 */
static inline ssize_t lite_rpc_receive(int fd, uint32_t port, void *buf, size_t len,
				       struct rdma_lite_receive *request)
{
	memset(request, 0, sizeof(*request));
	request->port = port;
	request->timeout_ms = 0xffffffffu;
	request->buf = (uintptr_t)buf;
	request->len = len;
	return ioctl(fd, RDMA_LITE_IOC_RECEIVE, request) ? -1 : (ssize_t)request->len;
}

/* A status is 0 or a negative errno, then without bytes. A request that wants no reply needs none. */
static inline int lite_rpc_reply(int fd, const struct rdma_lite_receive *request, int status, const void *buf,
				 size_t len)
{
	struct rdma_lite_reply reply = {
		.port = request->port,
		.status = status,
		.token = request->token,
		.buf = (uintptr_t)buf,
		.len = len,
	};

	return request->token ? ioctl(fd, RDMA_LITE_IOC_REPLY, &reply) : 0;
}

/*
 * Calls a port of a node with a deadline (0: the node's default). Returns the length of the reply, or -1
 * and errno, which may be the receiver's status.
 */
static inline ssize_t lite_rpc_call_for(int fd, uint32_t node, uint32_t port, const void *request, size_t len,
					void *reply, size_t room, uint32_t timeout_ms)
{
	struct rdma_lite_call call = {
		.node = node,
		.port = port,
		.timeout_ms = timeout_ms,
		.request = (uintptr_t)request,
		.request_len = len,
		.reply = (uintptr_t)reply,
		.reply_len = room,
	};

	if (ioctl(fd, RDMA_LITE_IOC_CALL, &call))
		return -1;
	if (call.status) {
		errno = -call.status;
		return -1;
	}
	return call.reply_len;
}

static inline ssize_t lite_rpc_call(int fd, uint32_t node, uint32_t port, const void *request, size_t len,
				    void *reply, size_t room)
{
	return lite_rpc_call_for(fd, node, port, request, len, reply, room, 0);
}

/* One way: returns when the port has taken it in. */
static inline int lite_rpc_notify(int fd, uint32_t node, uint32_t port, const void *request, size_t len)
{
	struct rdma_lite_call call = {
		.node = node,
		.port = port,
		.flags = RDMA_LITE_CALL_NOTIFY,
		.request = (uintptr_t)request,
		.request_len = len,
	};

	return ioctl(fd, RDMA_LITE_IOC_CALL, &call);
}

/* Makes calls at once, each with its own result. Returns how many were answered, or -1. */
static inline int lite_rpc_multicast(int fd, struct rdma_lite_call *calls, uint32_t nr)
{
	struct rdma_lite_multicast multicast = {
		.calls = (uintptr_t)calls,
		.nr = nr,
	};

	return ioctl(fd, RDMA_LITE_IOC_MULTICAST, &multicast) ? -1 : (int)multicast.answered;
}

/* --- locks and barriers ---------------------------------------------------------- */

/* Takes the lock of this name at a node; 0 ms: the node's default. */
static inline uint64_t lite_lock_for(int fd, uint32_t node, const char *name, uint32_t flags,
				     uint32_t timeout_ms)
{
	struct rdma_lite_lock lock = {
		.node = node,
		.flags = flags,
		.timeout_ms = timeout_ms,
	};

	if (lite_name(lock.name, name) || ioctl(fd, RDMA_LITE_IOC_LOCK, &lock))
		return 0;
	return lock.handle;
}

static inline uint64_t lite_lock(int fd, uint32_t node, const char *name)
{
	return lite_lock_for(fd, node, name, 0, RDMA_LITE_FOREVER);
}

static inline int lite_unlock(int fd, uint64_t handle)
{
	struct rdma_lite_handle h = { .handle = handle };

	return ioctl(fd, RDMA_LITE_IOC_UNLOCK, &h);
}

/* Waits until count have come to the barrier of this name at a node. */
static inline int lite_barrier(int fd, uint32_t node, const char *name, uint32_t count,
			       uint32_t timeout_ms)
{
	struct rdma_lite_barrier barrier = {
		.node = node,
		.count = count,
		.timeout_ms = timeout_ms,
	};

	if (lite_name(barrier.name, name))
		return -1;
	return ioctl(fd, RDMA_LITE_IOC_BARRIER, &barrier);
}

#endif /* _RDMA_LITE_H */
