// SPDX-License-Identifier: GPL-2.0
/* Membership: what a node accepts as a map, and what it says about it. */
#include "lite.h"

FIXTURE(map) {
	struct cluster c;
};

FIXTURE_SETUP(map)
{
	ASSERT_EQ(0, cluster_up(&self->c, 2));
}

FIXTURE_TEARDOWN(map)
{
	cluster_down(&self->c);
}

TEST_F(map, is_read_back_as_it_was_published)
{
	struct rdma_lite_map_node got[4];
	uint64_t epoch = 0;

	ASSERT_EQ(2, map_get(self->c.fd[1], &epoch, got, 4));
	EXPECT_EQ(self->c.epoch, epoch);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(self->c.map[i].id, got[i].id);
		EXPECT_EQ(self->c.map[i].state, got[i].state);
		EXPECT_EQ(self->c.map[i].roles, got[i].roles);
		EXPECT_EQ(self->c.map[i].port, got[i].port);
		EXPECT_EQ(self->c.map[i].family, got[i].family);
		EXPECT_EQ(0, memcmp(self->c.map[i].addr, got[i].addr, 16));
		EXPECT_STREQ(self->c.map[i].name, got[i].name);
	}
}

TEST_F(map, read_back_knows_the_incarnations_of_nodes_that_were_met)
{
	struct rdma_lite_map_node got[2];

	ASSERT_EQ(2, map_get(self->c.fd[1], NULL, got, 2));
	EXPECT_EQ(node_attr_number("lt1", "incarnation"), got[0].incarnation);
	EXPECT_EQ(node_attr_number("lt2", "incarnation"), got[1].incarnation);
	EXPECT_NE(0, got[0].incarnation);
	EXPECT_NE(0, got[1].incarnation);
}

TEST_F(map, epoch_shows_in_configfs_and_info)
{
	struct rdma_lite_info info;

	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_EQ(self->c.epoch, node_attr_number("lt1", "epoch"));
	ASSERT_EQ(0, ioctl(self->c.fd[1], RDMA_LITE_IOC_INFO, &info));
	EXPECT_EQ(self->c.epoch, info.epoch);
	EXPECT_EQ(1, info.id);
	EXPECT_EQ(RDMA_LITE_ABI_VERSION, info.abi_version);
	EXPECT_STREQ("lt1", info.name);
	EXPECT_EQ(node_attr_number("lt1", "incarnation"), info.incarnation);
}

TEST_F(map, with_an_older_epoch_is_stale)
{
	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_EQ(ESTALE, ERRNO_OF(map_set(self->c.fd[1], self->c.epoch - 1, self->c.map, 2)));
	EXPECT_EQ(self->c.epoch, node_attr_number("lt1", "epoch"));
}

TEST_F(map, that_is_the_very_same_may_come_again)
{
	EXPECT_EQ(0, map_set(self->c.fd[1], self->c.epoch, self->c.map, 2));
	EXPECT_EQ(0, lite_ping(self->c.fd[1], 2, 8, 0));
}

TEST_F(map, that_differs_under_the_same_epoch_is_stale)
{
	struct rdma_lite_map_node other[2] = { self->c.map[0], self->c.map[1] };

	other[1].state = RDMA_LITE_NODE_DOWN;
	EXPECT_EQ(ESTALE, ERRNO_OF(map_set(self->c.fd[1], self->c.epoch, other, 2)));
	EXPECT_EQ(0, lite_ping(self->c.fd[1], 2, 8, 0));
}

TEST_F(map, may_skip_epochs)
{
	self->c.epoch += 1000;
	EXPECT_EQ(0, cluster_publish(&self->c));
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
}

TEST_F(map, read_with_too_little_room_says_how_much_is_needed)
{
	struct rdma_lite_map_node got[1];
	struct rdma_lite_map map = { .nr_nodes = 1, .nodes = (uintptr_t)got };

	EXPECT_EQ(ENOSPC, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_GET_MAP, &map)));
	EXPECT_EQ(2, map.nr_nodes);
}

TEST_F(map, with_nonsense_in_it_is_refused_and_changes_nothing)
{
	struct rdma_lite_map_node n[2];
	uint64_t next = self->c.epoch + 1;
	struct rdma_lite_map map;

#define FRESH() do { \
	n[0] = self->c.map[0]; \
	n[1] = self->c.map[1]; \
	map = (struct rdma_lite_map){ .epoch = next, .nr_nodes = 2, .nodes = (uintptr_t)n }; \
} while (0)
#define REFUSED(err, change) do { \
	FRESH(); \
	change; \
	EXPECT_EQ(err, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_SET_MAP, &map))) { \
		TH_LOG("after: %s", #change); \
	} \
} while (0)
	REFUSED(EINVAL, map.flags = 1);
	REFUSED(EINVAL, map.reserved[0] = 1);
	REFUSED(EINVAL, map.reserved[1] = 1);
	REFUSED(EFAULT, map.nodes = 0);
	REFUSED(EFAULT, map.nodes = (uintptr_t)bad_pointer());
	REFUSED(EINVAL, n[1].state = 0);
	REFUSED(EINVAL, n[1].state = 4);
	REFUSED(EINVAL, n[1].id = 0);
	REFUSED(EINVAL, n[1].id = 65536);
	REFUSED(EINVAL, n[1].id = 1);
	REFUSED(EINVAL, n[1].family = AF_UNIX);
	REFUSED(EINVAL, n[1].reserved[0] = 1);
	REFUSED(EINVAL, n[1].reserved[1] = 1);
	REFUSED(EINVAL, n[1].port = 0);
	REFUSED(EINVAL, n[1].name[0] = 0);
	REFUSED(EINVAL, map.epoch = 0);
	REFUSED(EINVAL, memset(n[1].name, 'x', sizeof(n[1].name)));
	EXPECT_EQ(self->c.epoch, node_attr_number("lt1", "epoch"));
	EXPECT_EQ(0, lite_ping(self->c.fd[1], 2, 8, 0));
	/* An absurd count must neither be believed nor cost memory. */
	FRESH();
	map.nr_nodes = 0xffffffff;
	EXPECT_NE(0, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_SET_MAP, &map)));
#undef REFUSED
#undef FRESH
}

TEST_F(map, makes_a_node_leave_and_come_back)
{
	self->c.map[1].state = RDMA_LITE_NODE_OUT;
	ASSERT_EQ(0, map_set(self->c.fd[1], ++self->c.epoch, self->c.map, 2));
	EXPECT_EQ(EHOSTDOWN, ERRNO_OF(lite_ping(self->c.fd[1], 2, 8, 0)));
	/* Node 2 did not hear of it: its older epoch is refused at node 1. */
	EXPECT_NE(0, ERRNO_OF(lite_ping(self->c.fd[2], 1, 8, 1000)));
	self->c.map[1].state = RDMA_LITE_NODE_UP;
	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
	EXPECT_TRUE(lite_reachable(self->c.fd[2], 1, 30000));
}

TEST_F(map, of_an_older_epoch_fences_its_sender)
{
	/* Only node 2 learns the new map; what node 1 sends is of the past. */
	ASSERT_EQ(0, map_set(self->c.fd[2], ++self->c.epoch, self->c.map, 2));
	EXPECT_EQ(ESTALE, ERRNO_OF(lite_ping(self->c.fd[1], 2, 8, 0)));
	EXPECT_TRUE(event_wait(self->c.fd[1], RDMA_LITE_EVENT_FENCED, 0, 10000, NULL));
	ASSERT_EQ(0, map_set(self->c.fd[1], self->c.epoch, self->c.map, 2));
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
}

TEST_F(map, readers_and_publishers_may_run_against_each_other)
{
	pid_t reader = fork();
	int status;

	if (!reader) {
		uint64_t last = 0, epoch;
		struct rdma_lite_map_node got[2];

		for (;;) {
			if (map_get(self->c.fd[1], &epoch, got, 2) != 2 || epoch < last)
				_exit(1);
			last = epoch;
		}
	}
	for (int i = 0; i < 50; i++) {
		EXPECT_EQ(0, cluster_publish(&self->c));
	}
	kill(reader, SIGKILL);
	waitpid(reader, &status, 0);
	EXPECT_TRUE(WIFSIGNALED(status)) TH_LOG("the reader saw an epoch go back, or a partial map");
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
}

TEST_HARNESS_MAIN
