/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Requests of /dev/rdma_lite and of configfs, each with what it needs: made in a cluster of two nodes, by a program at
 * node 1, once and again.
 */
#ifndef POTLUCK_SELFTEST_REQUESTS_H
#define POTLUCK_SELFTEST_REQUESTS_H

#include <pthread.h>

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define ALL (RDMA_LITE_READ | RDMA_LITE_WRITE | RDMA_LITE_ADMIN)
#define RW (RDMA_LITE_READ | RDMA_LITE_WRITE)
#define PAGE 4096
#define LEN (3 * PAGE)
#define SERVED 100
#define OWN 101

struct world {
	struct cluster c;
	int one;
	/* What the request at hand uses. */
	uint64_t handle, other;
	int fd, ns;
	uint8_t *buf, *mem;
	struct rdma_lite_receive request;
	pthread_t caller;
	/* The server of SERVED at node 2. */
	pthread_t server;
	volatile bool done;
};

struct request {
	const char *name;
	/* What has to be there; 0 or an errno. */
	int (*prepare)(struct world *w);
	/* The request itself; 0 or an errno. */
	int (*once)(struct world *w);
	/* Gives back what prepare and a request that succeeded have made. */
	void (*undo)(struct world *w);
	/* An error uses up what was prepared, as a handle that ends in any case. */
	bool ends;
};

#define REQUEST(name, prepare, once, undo) { name, prepare, once, undo, false }
#define ENDS(name, prepare, once, undo) { name, prepare, once, undo, true }

static int fresh(uint64_t handle)
{
	return handle ? 0 : errno;
}

static int nothing(struct world *w)
{
	w->handle = 0;
	return 0;
}

static void leave_nothing(struct world *w) { (void)w; }

#endif /* POTLUCK_SELFTEST_REQUESTS_H */
