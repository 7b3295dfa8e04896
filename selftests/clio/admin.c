// SPDX-License-Identifier: GPL-2.0
/* What operators see of memory nodes, and do to them. */
#include <sys/wait.h>

#include "remote.h"

#define PIECE (1 << 20)

FIXTURE(admin) {
	struct clio_cluster cl;
	int fd;
	uint64_t addr, ras;
};

static struct clio_list list_of(void *items, uint32_t nr, uint64_t ras)
{
	return (struct clio_list) { .items = (uintptr_t)items, .nr = nr, .ras = ras };
}

/* What the memory node says of itself. */
static struct clio_memory_node node_stat(int fd, uint32_t id)
{
	struct clio_memory_node nodes[8] = { 0 };
	struct clio_list list = list_of(nodes, COUNT(nodes), 0);

	if (ioctl(fd, CLIO_IOC_NODES, &list) == 0)
		for (uint32_t i = 0; i < list.nr; i++)
			if (nodes[i].id == id)
				return nodes[i];
	return (struct clio_memory_node) { 0 };
}

static uint32_t node_of_region(int fd, uint64_t ras, uint32_t index)
{
	struct clio_region regions[8];
	struct clio_list list = list_of(regions, COUNT(regions), ras);

	if (ioctl(fd, CLIO_IOC_REGIONS, &list) == 0)
		for (uint32_t i = 0; i < list.nr; i++)
			if (regions[i].index == index)
				return regions[i].node;
	return 0;
}

/* Waits until the region is on another node than @from; that one, or 0. */
static uint32_t moved_from(int fd, uint64_t ras, uint32_t index, uint32_t from)
{
	for (int tries = 0; tries < 300; tries++) {
		uint32_t node = node_of_region(fd, ras, index);

		if (node && node != from)
			return node;
		usleep(100000);
	}
	return 0;
}

FIXTURE_SETUP(admin)
{
	struct clio_info info;

	ASSERT_EQ(0, clio_cluster_up(&self->cl, 3, 2, "67108864"));
	self->fd = clio_attached(3, "admin");
	ASSERT_GE(self->fd, 0);
	self->addr = ralloc(self->fd, PIECE);
	ASSERT_NE(0, self->addr);
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_INFO, &info));
	self->ras = info.ras;
}

FIXTURE_TEARDOWN(admin)
{
	close(self->fd);
	clio_cluster_down(&self->cl);
}

TEST_F(admin, lists_say_what_there_is_and_how_much_room_it_takes)
{
	struct clio_memory_node nodes[2];
	struct clio_space space;
	struct clio_region region;
	struct clio_list list = list_of(NULL, 0, 0);

	EXPECT_EQ(ENOSPC, ERRNO_OF(ioctl(self->fd, CLIO_IOC_NODES, &list)));
	ASSERT_EQ(2, list.nr);
	list = list_of(nodes, 2, 0);
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_NODES, &list));
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(i + 1, nodes[i].id);
		EXPECT_EQ(0, nodes[i].error);
		EXPECT_EQ(64 << 20, nodes[i].size);
		EXPECT_EQ(65536, nodes[i].page_size);
	}
	EXPECT_EQ(1, nodes[0].regions + nodes[1].regions);

	list = list_of(&space, 1, 0);
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_SPACES, &list));
	ASSERT_EQ(1, list.nr);
	EXPECT_EQ(0, list.silent);
	EXPECT_EQ(self->ras, space.id);
	EXPECT_STREQ("admin", space.name);
	EXPECT_EQ(CLIO_REGION, space.region_size);
	EXPECT_EQ(1, space.attached);

	list = list_of(&region, 1, self->ras);
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_REGIONS, &list));
	ASSERT_EQ(1, list.nr);
	EXPECT_EQ(self->addr, region.addr);
	EXPECT_EQ(1, nodes[region.node - 1].regions);
	list = list_of(&region, 1, self->ras + 1);
	EXPECT_EQ(ENOENT, ERRNO_OF(ioctl(self->fd, CLIO_IOC_REGIONS, &list)));
}

TEST_F(admin, a_node_that_is_down_is_listed_as_such)
{
	struct clio_space spaces[4];
	struct clio_list list = list_of(spaces, 4, 0);

	self->cl.c.map[1].state = RDMA_LITE_NODE_DOWN;
	ASSERT_EQ(0, cluster_publish(&self->cl.c));
	EXPECT_EQ(-EHOSTDOWN, node_stat(self->fd, 2).error);
	EXPECT_EQ(0, node_stat(self->fd, 1).error);
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_SPACES, &list));
	EXPECT_EQ(1, list.silent);
}

TEST_F(admin, a_region_moves_there_and_back_with_what_it_holds)
{
	struct clio_move move = { .ras = self->ras };
	uint64_t word = 77;
	uint32_t first, second;

	ASSERT_EQ(0, rwrite(self->fd, self->addr, &word, sizeof(word)));
	first = node_of_region(self->fd, self->ras, 0);
	second = 3 - first;
	move.to = first;
	EXPECT_EQ(EEXIST, ERRNO_OF(ioctl(self->fd, CLIO_IOC_MOVE, &move)));
	move.to = second;
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_MOVE, &move)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(second, moved_from(self->fd, self->ras, 0, first));
	move.to = 0;
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_MOVE, &move)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(first, moved_from(self->fd, self->ras, 0, second));
	word = 0;
	ASSERT_EQ(0, rread(self->fd, self->addr, &word, sizeof(word)));
	EXPECT_EQ(77, word);
	move.index = 5;
	EXPECT_EQ(ENOENT, ERRNO_OF(ioctl(self->fd, CLIO_IOC_MOVE, &move)));
}

TEST_F(admin, a_drained_node_is_left_by_its_regions_and_gets_none)
{
	struct clio_drain drain = { .node = node_of_region(self->fd, self->ras, 0), .on = 1 };
	uint64_t word = 78;

	ASSERT_EQ(0, rwrite(self->fd, self->addr, &word, sizeof(word)));
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_DRAIN, &drain));
	EXPECT_EQ(CLIO_NODE_DRAINING, node_stat(self->fd, drain.node).flags);
	EXPECT_EQ(3 - drain.node, moved_from(self->fd, self->ras, 0, drain.node));
	EXPECT_NE(0, ralloc(self->fd, CLIO_REGION));
	EXPECT_EQ(0, node_stat(self->fd, drain.node).regions);
	word = 0;
	ASSERT_EQ(0, rread(self->fd, self->addr, &word, sizeof(word)));
	EXPECT_EQ(78, word);
	drain.on = 0;
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_DRAIN, &drain));
	EXPECT_EQ(0, node_stat(self->fd, drain.node).flags);
	drain.node = 3;
	EXPECT_NE(0, ERRNO_OF(ioctl(self->fd, CLIO_IOC_DRAIN, &drain)));
}

TEST_F(admin, quotas_grow_but_never_below_what_was_given)
{
	struct clio_quota quota = { .ras = self->ras, .quota = 4 << 20 };

	EXPECT_EQ(EBUSY, ERRNO_OF(ioctl(self->fd, CLIO_IOC_QUOTA, &quota)));
	quota.quota = CLIO_REGION;
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_QUOTA, &quota));
	EXPECT_EQ(0, ralloc(self->fd, CLIO_REGION));
	EXPECT_EQ(EDQUOT, errno);
	quota.quota = 2 * CLIO_REGION;
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_QUOTA, &quota));
	EXPECT_NE(0, ralloc(self->fd, CLIO_REGION));
	quota.quota = 0;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd, CLIO_IOC_QUOTA, &quota)));
}

TEST_F(admin, a_space_in_use_is_removed_only_by_force)
{
	struct clio_remove gone = { .ras = self->ras };
	uint64_t word;

	EXPECT_EQ(EBUSY, ERRNO_OF(ioctl(self->fd, CLIO_IOC_REMOVE, &gone)));
	ASSERT_EQ(0, rread(self->fd, self->addr, &word, sizeof(word)));
	gone.flags = CLIO_REMOVE_FORCE;
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_REMOVE, &gone));
	EXPECT_NE(0, ERRNO_OF(rread(self->fd, self->addr, &word, sizeof(word))));
	EXPECT_EQ(ENOENT, ERRNO_OF(ioctl(self->fd, CLIO_IOC_REMOVE, &gone)));
	EXPECT_EQ(64 << 20, node_stat(self->fd, 1).free);
	EXPECT_EQ(64 << 20, node_stat(self->fd, 2).free);
}

static int looks_but_does_not_change(int fd, uint64_t ras)
{
	struct clio_memory_node nodes[2];
	struct clio_list list = list_of(nodes, 2, 0);
	struct clio_drain drain = { .node = 1, .on = 1 };
	struct clio_move move = { .ras = ras };
	struct clio_remove gone = { .ras = ras };
	struct clio_quota quota = { .ras = ras, .quota = 1 << 30 };

	if (setuid(65534))
		return 1;
	return ioctl(fd, CLIO_IOC_NODES, &list) ||
	       ERRNO_OF(ioctl(fd, CLIO_IOC_DRAIN, &drain)) != EPERM ||
	       ERRNO_OF(ioctl(fd, CLIO_IOC_MOVE, &move)) != EPERM ||
	       ERRNO_OF(ioctl(fd, CLIO_IOC_REMOVE, &gone)) != EPERM ||
	       ERRNO_OF(ioctl(fd, CLIO_IOC_QUOTA, &quota)) != EPERM;
}

TEST_F(admin, who_is_not_the_superuser_may_look_but_not_change)
{
	int status;
	pid_t child = fork();

	ASSERT_GE(child, 0);
	if (!child)
		_exit(looks_but_does_not_change(self->fd, self->ras));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F(admin, bad_input_is_refused)
{
	static const unsigned long calls[] = {
		CLIO_IOC_NODES, CLIO_IOC_SPACES, CLIO_IOC_REGIONS, CLIO_IOC_DRAIN,
		CLIO_IOC_MOVE, CLIO_IOC_REMOVE, CLIO_IOC_QUOTA,
	};
	struct clio_list list = list_of(bad_pointer(), 8, 0);
	struct clio_drain drain = { .node = 1, .on = 2 };
	struct clio_move move = { .ras = self->ras, .to = 1 << 16 };
	struct clio_remove gone = { .ras = self->ras, .flags = 2 };
	struct clio_quota quota = { .ras = self->ras, .quota = 1, .reserved0 = 1 };

	for (size_t i = 0; i < COUNT(calls); i++) {
		EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, calls[i], bad_pointer()))) TH_LOG("call %zu", i);
	}
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, CLIO_IOC_NODES, &list)));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, CLIO_IOC_SPACES, &list)));
	list = list_of(NULL, 0, 1);
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd, CLIO_IOC_NODES, &list)));
	list = (struct clio_list) { .reserved = { 1 } };
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd, CLIO_IOC_SPACES, &list)));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd, CLIO_IOC_DRAIN, &drain)));
	drain = (struct clio_drain) { .node = 0 };
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd, CLIO_IOC_DRAIN, &drain)));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd, CLIO_IOC_MOVE, &move)));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd, CLIO_IOC_REMOVE, &gone)));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd, CLIO_IOC_QUOTA, &quota)));
}

TEST_HARNESS_MAIN
