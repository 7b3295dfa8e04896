/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For programs that measure remote memory, in the namespace of a compute node.
 */
#ifndef POTLUCK_BENCH_REMOTE_H
#define POTLUCK_BENCH_REMOTE_H

#include <clio.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "program.h"

#define PAGE 65536UL

static const uint64_t key[2] = { 0x62656e6368, 0x6d61726b };

/* Attached to a space, which is made if it is not there. */
static inline int attached_to(const char *name, uint64_t region_size)
{
	int fd = clio_open();

	if (fd < 0)
		die("/dev/clio");
	if (!clio_attach(fd, name, key))
		return fd;
	if (errno != ENOENT || clio_create(fd, name, key, 0, region_size))
		die("clio_create");
	if (clio_attach(fd, name, key))
		die("clio_attach");
	return fd;
}

static inline int attached(void)
{
	return attached_to("bench", 16 << 20);
}

static inline uint64_t allocated(int fd, uint64_t len)
{
	uint64_t addr = ralloc(fd, len);

	if (!addr)
		die("ralloc");
	return addr;
}

static inline void freed(int fd, uint64_t addr, uint64_t len)
{
	if (rfree(fd, addr, len))
		die("rfree");
}

static inline uint64_t timed(int fd, int writes, uint64_t addr, void *buf, uint64_t len)
{
	uint64_t begin = now_ns();

	if (writes ? rwrite(fd, addr, buf, len) : rread(fd, addr, buf, len))
		die(writes ? "rwrite" : "rread");
	return now_ns() - begin;
}

static inline void report(const uint64_t *ns, long count)
{
	for (long i = 0; i < count; i++)
		printf("%llu\n", (unsigned long long)ns[i]);
}

/* Room for so many figures. */
static inline uint64_t *figures(long count)
{
	uint64_t *ns = calloc(count > 0 ? count : 1, sizeof(*ns));

	if (!ns)
		die("calloc");
	return ns;
}

#endif /* POTLUCK_BENCH_REMOTE_H */
