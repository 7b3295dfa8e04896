/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Remote memory for C programs, over /dev/clio (linux/clio.h). Header-only:
 *
 *	int ras = clio_open();
 *	clio_create(ras, "shared", key, 0, 0);
 *	clio_attach(ras, "shared", key);
 *	uint64_t addr = ralloc(ras, 1 << 20);
 *	rwrite(ras, addr, "hello", 5);
 *	rread(ras, addr, buf, 5);
 *
 * Functions return 0, or -1 and errno (ralloc: the address, or 0 and errno).
 * Those that end in _async return at once; rpoll() tells of their end. Their
 * buffers are the caller's until then. A descriptor may be used by many
 * threads; what it holds ends with close().
 */
#ifndef _CLIO_H
#define _CLIO_H

#include <errno.h>
#include <fcntl.h>
#include <linux/clio.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Opens the node of our network namespace. */
static inline int clio_open(void)
{
	return open("/dev/clio", O_RDWR | O_CLOEXEC);
}

static inline int clio_ras(int fd, unsigned long request, const char *name,
			   const uint64_t key[2], uint64_t quota, uint64_t region_size)
{
	struct clio_ras ras = {
		.quota = quota,
		.region_size = region_size,
	};
	size_t len = strlen(name);

	if (len > CLIO_NAME_MAX) {
		errno = EINVAL;
		return -1;
	}
	memcpy(ras.name, name, len);
	ras.key[0] = key[0];
	ras.key[1] = key[1];
	return ioctl(fd, request, &ras);
}

/* Makes a remote address space; 0: no quota, regions of 1 GiB. */
static inline int clio_create(int fd, const char *name, const uint64_t key[2],
			      uint64_t quota, uint64_t region_size)
{
	return clio_ras(fd, CLIO_IOC_CREATE, name, key, quota, region_size);
}

static inline int clio_attach(int fd, const char *name, const uint64_t key[2])
{
	return clio_ras(fd, CLIO_IOC_ATTACH, name, key, 0, 0);
}

static inline int clio_detach(int fd)
{
	return ioctl(fd, CLIO_IOC_DETACH);
}

static inline int clio_destroy(int fd, const char *name, const uint64_t key[2])
{
	return clio_ras(fd, CLIO_IOC_DESTROY, name, key, 0, 0);
}

/* Begins operations; how many, or -1 and errno. */
static inline int clio_submit(int fd, struct clio_op *ops, uint32_t nr, uint32_t flags,
			      uint32_t timeout_ms)
{
	struct clio_submit submit = {
		.ops = (uintptr_t)ops,
		.nr = nr,
		.flags = flags,
		.timeout_ms = timeout_ms,
	};

	return ioctl(fd, CLIO_IOC_SUBMIT, &submit) < 0 ? -1 : (int)submit.done;
}

/* One operation to its end. */
static inline int clio_do(int fd, struct clio_op *op)
{
	if (clio_submit(fd, op, 1, 0, 0) < 0)
		return -1;
	if (op->error) {
		errno = -op->error;
		return -1;
	}
	return 0;
}

static inline int clio_begin(int fd, struct clio_op *op)
{
	return clio_submit(fd, op, 1, CLIO_ASYNC, 0) == 1 ? 0 : -1;
}

static inline uint64_t ralloc_rights(int fd, uint64_t len, uint64_t rights)
{
	struct clio_op op = { .opcode = CLIO_OP_ALLOC, .len = len, .arg = { rights } };

	return clio_do(fd, &op) ? 0 : op.value;
}

static inline uint64_t ralloc(int fd, uint64_t len)
{
	return ralloc_rights(fd, len, 0);
}

static inline int rfree(int fd, uint64_t addr, uint64_t len)
{
	struct clio_op op = { .opcode = CLIO_OP_FREE, .addr = addr, .len = len };

	return clio_do(fd, &op);
}

/* Pieces of at most CLIO_MAX_LEN, one after the other. */
static inline int clio_copy(int fd, uint32_t opcode, uint64_t addr, uintptr_t buf, uint64_t len)
{
	do {
		uint64_t piece = len < CLIO_MAX_LEN ? len : CLIO_MAX_LEN;
		struct clio_op op = { .opcode = opcode, .addr = addr, .len = piece, .buf = buf };

		if (clio_do(fd, &op))
			return -1;
		addr += piece;
		buf += piece;
		len -= piece;
	} while (len);
	return 0;
}

static inline int rread(int fd, uint64_t addr, void *buf, uint64_t len)
{
	return clio_copy(fd, CLIO_OP_READ, addr, (uintptr_t)buf, len);
}

static inline int rwrite(int fd, uint64_t addr, const void *buf, uint64_t len)
{
	return clio_copy(fd, CLIO_OP_WRITE, addr, (uintptr_t)buf, len);
}

static inline int rread_async(int fd, uint64_t addr, void *buf, uint32_t len, uint64_t cookie)
{
	struct clio_op op = { .opcode = CLIO_OP_READ, .addr = addr, .len = len,
			      .buf = (uintptr_t)buf, .cookie = cookie };

	return clio_begin(fd, &op);
}

static inline int rwrite_async(int fd, uint64_t addr, const void *buf, uint32_t len, uint64_t cookie)
{
	struct clio_op op = { .opcode = CLIO_OP_WRITE, .addr = addr, .len = len,
			      .buf = (uintptr_t)buf, .cookie = cookie };

	return clio_begin(fd, &op);
}

static inline int ralloc_async(int fd, uint64_t len, uint64_t cookie)
{
	struct clio_op op = { .opcode = CLIO_OP_ALLOC, .len = len, .cookie = cookie };

	return clio_begin(fd, &op);
}

static inline int rfree_async(int fd, uint64_t addr, uint64_t len, uint64_t cookie)
{
	struct clio_op op = { .opcode = CLIO_OP_FREE, .addr = addr, .len = len, .cookie = cookie };

	return clio_begin(fd, &op);
}

/* Waits for min of the ends of asynchronous operations; how many came. */
static inline int rpoll(int fd, struct clio_completion *completions, uint32_t nr, uint32_t min,
			uint32_t timeout_ms)
{
	struct clio_poll poll = {
		.completions = (uintptr_t)completions,
		.nr = nr,
		.min = min,
		.timeout_ms = timeout_ms,
	};

	return ioctl(fd, CLIO_IOC_POLL, &poll) < 0 ? -1 : (int)poll.nr;
}

static inline int clio_word(int fd, uint32_t opcode, uint64_t addr, uint64_t one, uint64_t two,
			    uint64_t *was)
{
	struct clio_op op = { .opcode = opcode, .addr = addr, .arg = { one, two } };

	if (clio_do(fd, &op))
		return -1;
	if (was)
		*was = op.value;
	return 0;
}

/* All operations begun before are over when this returns. */
static inline int rrelease(int fd)
{
	return clio_word(fd, CLIO_OP_RELEASE, 0, 0, 0, NULL);
}

/* And at the memory nodes; those begun after it come after. */
static inline int rfence(int fd)
{
	return clio_word(fd, CLIO_OP_FENCE, 0, 0, 0, NULL);
}

/* A lock is a word of 8 bytes that was 0 in the beginning. */
static inline int rlock(int fd, uint64_t addr)
{
	return clio_word(fd, CLIO_OP_LOCK, addr, 0, 0, NULL);
}

static inline int runlock(int fd, uint64_t addr)
{
	return clio_word(fd, CLIO_OP_UNLOCK, addr, 0, 0, NULL);
}

static inline int rtas(int fd, uint64_t addr, uint64_t *was)
{
	return clio_word(fd, CLIO_OP_TAS, addr, 0, 0, was);
}

static inline int rcas(int fd, uint64_t addr, uint64_t expected, uint64_t desired, uint64_t *was)
{
	return clio_word(fd, CLIO_OP_CAS, addr, expected, desired, was);
}

static inline int rfaa(int fd, uint64_t addr, uint64_t value, uint64_t *was)
{
	return clio_word(fd, CLIO_OP_FAA, addr, value, 0, was);
}

/* Calls a function of an offload; *len: room for the output, and its length; *result may be NULL. */
static inline int roffload(int fd, uint16_t id, uint16_t function, uint64_t addr, const void *in,
			   uint32_t in_len, void *out, uint32_t *len, uint64_t *result)
{
	struct clio_op op = {
		.opcode = CLIO_OP_OFFLOAD,
		.addr = addr,
		.len = in_len,
		.buf = (uintptr_t)in,
		.arg = { id, (uint64_t)function << 32 | *len, (uintptr_t)out },
	};

	if (clio_do(fd, &op))
		return -1;
	*len = op.len;
	if (result)
		*result = op.value;
	return 0;
}

/* Maps a range through the local cache; MAP_FAILED and errno. */
static inline void *rmap(int fd, uint64_t addr, size_t len, int prot)
{
	return mmap(NULL, len, prot, MAP_SHARED, fd, addr);
}

#endif /* _CLIO_H */
