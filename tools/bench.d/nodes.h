/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For programs that measure rdma_lite between nodes of one kernel, each named
 * by its network namespace.
 */
#ifndef POTLUCK_BENCH_NODES_H
#define POTLUCK_BENCH_NODES_H

#include <rdma_lite.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "program.h"

static inline void *memory(size_t len)
{
	char *mem = malloc(len ? len : 1);

	if (!mem)
		die("malloc");
	return memset(mem, 0x5a, len);
}

/* The node of a namespace; we stay in it. */
static inline int node_of(const char *ns)
{
	char path[128];
	int at, fd;

	snprintf(path, sizeof(path), "/run/netns/%s", ns);
	at = open(path, O_RDONLY | O_CLOEXEC);
	if (at < 0 || setns(at, CLONE_NEWNET))
		die(path);
	close(at);
	fd = lite_open();
	if (fd < 0)
		die("/dev/rdma_lite");
	return fd;
}

static inline uint32_t id_of(int fd)
{
	struct rdma_lite_info info = { 0 };

	if (ioctl(fd, RDMA_LITE_IOC_INFO, &info))
		die("RDMA_LITE_IOC_INFO");
	return info.id;
}

static inline uint32_t id_in(const char *ns)
{
	int fd = node_of(ns);
	uint32_t id = id_of(fd);

	close(fd);
	return id;
}

static inline uint64_t region_at(int fd, uint32_t node, uint64_t len)
{
	uint64_t region = lite_malloc(fd, node, len, NULL, 0, 0);

	if (!region)
		die("lite_malloc");
	return region;
}

#endif /* POTLUCK_BENCH_NODES_H */
