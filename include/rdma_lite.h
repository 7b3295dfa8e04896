/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The memory, locks and barriers of a cluster for C programs, over
 * /dev/rdma_lite (linux/rdma_lite.h). Header-only:
 *
 *	int lite = lite_open();
 *	uint64_t table = lite_malloc(lite, 2, 1 << 20, "table", RDMA_LITE_READ, 0);
 *	lite_write(lite, table, 4096, "hello", 5);
 *	lite_read(lite, table, 4096, buf, 5);
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
