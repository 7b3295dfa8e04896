/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Requests that make, share and use regions: near ones, of node 1, and far ones, of node 2.
 */
#ifndef POTLUCK_SELFTEST_REGION_REQUESTS_H
#define POTLUCK_SELFTEST_REGION_REQUESTS_H

#include "requests.h"

static int make(struct world *w, int node)
{
	w->handle = lite_malloc(w->one, node, LEN, NULL, 0, 0);
	return fresh(w->handle);
}

static int make_near(struct world *w) { return make(w, 1); }
static int make_far(struct world *w) { return make(w, 2); }

static int make_pair(struct world *w)
{
	w->other = lite_malloc(w->one, 1, LEN, NULL, 0, 0);
	return fresh(w->other) ?: make_far(w);
}

/* Its owner has made it; we map it. */
static int make_named(struct world *w)
{
	/* Who could not say that it was given up says so in the background: until then the name is taken. */
	EVENTUALLY(20000, (w->other = lite_malloc(w->c.fd[2], 2, LEN, "named", ALL, 0)) || errno != EEXIST);
	return fresh(w->other);
}

static int make_mapped(struct world *w)
{
	int err = make_named(w);

	if (!err) {
		w->handle = lite_map(w->one, 2, "named", ALL);
		err = fresh(w->handle);
	}
	return err;
}

static void drop(struct world *w)
{
	if (w->handle)
		lite_unmap(w->one, w->handle);
	w->handle = 0;
}

static void drop_pair(struct world *w)
{
	drop(w);
	if (w->other)
		lite_unmap(w->one, w->other);
	w->other = 0;
}

static void drop_named(struct world *w)
{
	drop(w);
	if (w->other)
		lite_unmap(w->c.fd[2], w->other);
	w->other = 0;
}

static int once_alloc_near(struct world *w) { return make(w, 1); }
static int once_alloc_far(struct world *w) { return make(w, 2); }

static int once_map(struct world *w)
{
	w->handle = lite_map(w->one, 2, "named", RW);
	return fresh(w->handle);
}

static int once_unmap(struct world *w)
{
	int err = ERRNO_OF(lite_unmap(w->one, w->handle));

	w->handle = 0;
	return err;
}

static int once_free(struct world *w)
{
	int err = ERRNO_OF(lite_free(w->one, w->handle));

	if (!err)
		w->handle = 0;
	return err;
}

static int once_grant(struct world *w) { return ERRNO_OF(lite_grant(w->one, w->handle, 2, RDMA_LITE_READ)); }
static int once_revoke(struct world *w) { return ERRNO_OF(lite_grant(w->one, w->handle, 0, 0)); }

static int once_write(struct world *w)
{
	memset(w->buf, 0x5a, LEN);
	return ERRNO_OF(lite_write(w->one, w->handle, 0, w->buf, LEN));
}

static int once_read(struct world *w) { return ERRNO_OF(lite_read(w->one, w->handle, 0, w->buf, LEN)); }
static int once_fill(struct world *w) { return ERRNO_OF(lite_memset(w->one, w->handle, 1, 7, LEN - 1)); }

static int once_copy_there(struct world *w)
{
	return ERRNO_OF(lite_memcpy(w->one, w->handle, 0, w->other, 0, LEN));
}

static int once_copy_here(struct world *w)
{
	return ERRNO_OF(lite_memcpy(w->one, w->other, 0, w->handle, 0, LEN));
}

static int once_copy_within(struct world *w)
{
	return ERRNO_OF(lite_memmove(w->one, w->other, 100, w->other, 0, LEN - 100));
}

static int once_add(struct world *w) { return ERRNO_OF(lite_fetch_add(w->one, w->handle, 8, 1, NULL)); }

static int once_swap(struct world *w)
{
	uint64_t expected = 0;

	return ERRNO_OF(lite_compare_swap(w->one, w->handle, 16, &expected, 0));
}

static int once_info(struct world *w)
{
	struct rdma_lite_region_info info;

	return ERRNO_OF(lite_region_info(w->one, w->handle, &info));
}

static int once_lend(struct world *w)
{
	w->handle = lite_lend(w->one, w->buf, LEN, "lent", RW);
	return fresh(w->handle);
}

static int once_batch(struct world *w)
{
	struct rdma_lite_segment to[] = { { (uintptr_t)w->buf, 100 }, { (uintptr_t)w->buf + 200, 50 } };
	struct rdma_lite_op ops[] = {
		{ .opcode = RDMA_LITE_OP_READ, .handle = w->handle, .len = 150, .segments = 2, .buf = (uintptr_t)to },
		{ .opcode = RDMA_LITE_OP_WRITE, .handle = w->handle, .len = 99, .buf = (uintptr_t)w->buf },
	};

	if (lite_batch(w->one, ops, COUNT(ops), 0) != COUNT(ops))
		return errno;
	return -ops[0].error ?: -ops[1].error;
}

static int once_submit(struct world *w)
{
	return ERRNO_OF(lite_read_async(w->one, w->handle, 0, w->buf, LEN, 5));
}

static int hear(struct world *w)
{
	struct rdma_lite_completion end = { 0 };

	if (lite_poll(w->one, &end, 1, 1, 20000) != 1)
		return errno;
	return end.cookie != 5 ? EBADMSG : -end.error;
}

static void hear_and_drop(struct world *w)
{
	hear(w);
	drop(w);
}

static int make_read(struct world *w)
{
	struct pollfd p = { .fd = w->one, .events = POLLRDBAND };
	int err = make_far(w) ?: once_submit(w);

	return err ?: poll(&p, 1, 20000) == 1 ? 0 : ETIMEDOUT;
}

static int once_submit_fill(struct world *w)
{
	return ERRNO_OF(lite_memset_async(w->one, w->handle, 0, 9, LEN, 5));
}

static int once_submit_copy(struct world *w)
{
	return ERRNO_OF(lite_memmove_async(w->one, w->handle, 0, w->other, 0, LEN, 5));
}

static int once_submit_add(struct world *w)
{
	return ERRNO_OF(lite_fetch_add_async(w->one, w->handle, 0, 1, 5));
}

static void hear_and_drop_pair(struct world *w)
{
	hear(w);
	drop_pair(w);
}

static int once_mmap(struct world *w)
{
	w->mem = lite_mmap(w->one, w->handle, 0, LEN, PROT_READ | PROT_WRITE);
	if (w->mem == MAP_FAILED)
		return errno;
	for (int page = 0; page < 3; page++)
		w->mem[page * PAGE] = 1;
	return 0;
}

static void unmap_and_drop(struct world *w)
{
	if (w->mem != MAP_FAILED)
		munmap(w->mem, LEN);
	drop(w);
}

#endif /* POTLUCK_SELFTEST_REGION_REQUESTS_H */
