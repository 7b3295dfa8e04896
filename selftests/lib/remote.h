/* SPDX-License-Identifier: GPL-2.0 */
/*
 * clio in tests: a private cluster of lite.h with memory nodes on lt1 and lt2
 * (…), and compute nodes wherever /dev/clio is opened.
 */
#ifndef POTLUCK_SELFTEST_REMOTE_H
#define POTLUCK_SELFTEST_REMOTE_H

#include <clio.h>

#include "lite.h"

#define LEGOMEM_CONFIGFS	"/sys/kernel/config/legomem"
#define CLIO_REGION		(16ULL << 20)

static const uint64_t clio_key[2] = { 0x0123456789abcdef, 0xfedcba9876543210 };

struct clio_cluster {
	struct cluster c;
	int memories;
	int nr;
};

static __maybe_unused int memory_attr(int i, const char *attr, const char *value)
{
	char path[256];

	snprintf(path, sizeof(path), LEGOMEM_CONFIGFS "/lt%d/%s", i, attr);
	return put_text(path, value);
}

static __maybe_unused void memory_down(int i)
{
	char path[256];

	memory_attr(i, "power", "0");
	snprintf(path, sizeof(path), LEGOMEM_CONFIGFS "/lt%d", i);
	rmdir(path);
}

/* overcommit: percent of the pool that may be promised. */
static __maybe_unused int memory_up_as(int i, const char *size, const char *overcommit)
{
	char path[256], node[16];
	int before, err;

	memory_down(i);
	snprintf(node, sizeof(node), "lt%d", i);
	snprintf(path, sizeof(path), LEGOMEM_CONFIGFS "/%s", node);
	before = netns_enter(node);
	err = mkdir(path, 0755) < 0 ? errno : 0;
	netns_leave(before);
	err = err ?: memory_attr(i, "node", node);
	err = err ?: memory_attr(i, "size", size);
	err = err ?: memory_attr(i, "page_size", "65536");
	err = err ?: memory_attr(i, "overcommit", overcommit);
	return err ?: memory_attr(i, "power", "1");
}

static __maybe_unused int memory_up(int i, const char *size)
{
	return memory_up_as(i, size, "100");
}

/* /dev/clio as seen from node i; a descriptor, or -1 and errno. */
static __maybe_unused int clio_open_at(int i)
{
	char ns[16];
	int before, fd, err;

	snprintf(ns, sizeof(ns), "lt%d", i);
	before = netns_enter(ns);
	fd = clio_open();
	err = errno;
	netns_leave(before);
	errno = err;
	return fd;
}

static __maybe_unused void clio_cluster_down(struct clio_cluster *cl)
{
	for (int i = 1; i <= cl->memories; i++)
		memory_down(i);
	cluster_down(&cl->c);
}

/* nr nodes, of which the first `memories` are memory nodes of `size` bytes. */
static __maybe_unused int clio_cluster_up(struct clio_cluster *cl, int nr, int memories, const char *size)
{
	int err;

	cl->nr = nr;
	cl->memories = memories;
	if (access(LEGOMEM_CONFIGFS, F_OK) &&
	    sh("modprobe legomem || insmod \"$POTLUCK_MODULES\"/legomem/legomem.ko"))
		return ENODEV;
	if (access("/dev/clio", F_OK) &&
	    sh("modprobe clio_cn || insmod \"$POTLUCK_MODULES\"/clio_cn/clio_cn.ko"))
		return ENODEV;
	err = cluster_up(&cl->c, nr);
	for (int i = 1; i <= memories && !err; i++)
		err = memory_up(i, size);
	for (int i = 0; i < memories; i++)
		cl->c.map[i].roles |= RDMA_LITE_ROLE_MEMORY;
	return err ?: cluster_publish(&cl->c);
}

/* An open at node i, attached to a RAS of regions of 16 MiB, which is made if it is not there. */
static __maybe_unused int clio_attached(int i, const char *name)
{
	int fd = clio_open_at(i);

	if (fd < 0)
		return -1;
	if (clio_create(fd, name, clio_key, 0, CLIO_REGION) && errno != EEXIST)
		goto fail;
	if (clio_attach(fd, name, clio_key))
		goto fail;
	return fd;
fail:
	fprintf(stderr, "# no RAS %s at lt%d: %s\n", name, i, strerror(errno));
	close(fd);
	return -1;
}

#endif /* POTLUCK_SELFTEST_REMOTE_H */
