// SPDX-License-Identifier: GPL-2.0
/*
 * Nodes that talk over a pmem device, as those of several guests do that share
 * one; here they are of one kernel, which makes no difference to the device.
 * What a broken or hostile guest could leave there is written to it.
 */
#include "lite.h"

#define TABLE_AT	4096		/* slots of nodes: Documentation/guests-format.md */
#define TABLE_LEN	8192
#define LANES_AT	65536
#define LANE_LEN	(320 * 1024 + (1 << 20))
#define BELLS_END	(9 * 4096)	/* control record, accesses and bells of a lane */

static bool carried_by(int i, int peer, const char *transport)
{
	return !sh("grep -q '^lt%d %d %s ' /sys/kernel/debug/rdma_lite/peers", i, peer, transport);
}

static bool eventually_carried_by(int i, int peer, const char *transport)
{
	return EVENTUALLY(20000, carried_by(i, peer, transport));
}

static int again(struct cluster *c, int i)
{
	return node_power(i, true) ?: cluster_publish(c);
}

FIXTURE(guests) {
	struct cluster c;
};

FIXTURE_SETUP(guests)
{
	if (access(lite_shared_memory(), F_OK))
		SKIP(return, "no %s: --pmem 3x256M", lite_shared_memory());
	setenv("POTLUCK_TRANSPORT", "guests", 1);
	ASSERT_EQ(0, cluster_up(&self->c, 3));
}

FIXTURE_TEARDOWN(guests)
{
	if (self->c.nr)
		cluster_down(&self->c);
}

TEST_F(guests, talk_over_the_device_each_with_each)
{
	for (int i = 1; i <= 3; i++) {
		for (int j = 1; j <= 3; j++) {
			if (i != j) {
				EXPECT_TRUE(eventually_carried_by(i, j, "guests")) TH_LOG("%d to %d", i, j);
			}
		}
	}
}

TEST_F(guests, need_no_network)
{
	int64_t before = now_ms();

	ASSERT_TRUE(eventually_carried_by(1, 2, "guests"));
	ASSERT_EQ(0, link_cut(2));
	while (now_ms() - before < 3000) {
		ASSERT_EQ(0, lite_ping(self->c.fd[1], 2, 64, 1000)) TH_LOG("%s", strerror(errno));
		ASSERT_EQ(0, lite_ping(self->c.fd[2], 1, 65000, 1000)) TH_LOG("%s", strerror(errno));
	}
	EXPECT_TRUE(carried_by(1, 2, "guests"));
}

TEST_F(guests, that_go_off_are_gone_and_come_again)
{
	ASSERT_EQ(0, node_power(2, false));
	EXPECT_EQ(ETIMEDOUT, ERRNO_OF(lite_ping(self->c.fd[1], 2, 64, 1000)));
	EXPECT_TRUE(eventually_carried_by(1, 2, "none"));
	EXPECT_EQ(0, lite_ping(self->c.fd[1], 3, 64, 1000));
	ASSERT_EQ(0, again(&self->c, 2));
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000)) TH_LOG("%s", strerror(errno));
	EXPECT_TRUE(eventually_carried_by(1, 2, "guests"));
	EXPECT_TRUE(eventually_carried_by(2, 3, "guests"));
}

TEST_F(guests, of_one_id_are_not_two)
{
	ASSERT_EQ(0, node_power(2, false));
	ASSERT_EQ(0, node_attr("lt2", "id", "1"));
	/* Of its own: others say meanwhile that it went off. */
	EXPECT_REFUSED("rdma_lite: lt2:", node_power(2, true), EEXIST);
	EXPECT_EQ(0, lite_ping(self->c.fd[1], 3, 64, 1000));
}

TEST_F(guests, that_lose_their_slots_go_over_verbs)
{
	ASSERT_TRUE(eventually_carried_by(1, 2, "guests"));
	ASSERT_EQ(0, lite_poke_memory(TABLE_AT, TABLE_LEN, 0));
	EXPECT_TRUE(eventually_carried_by(1, 2, "verbs"));
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000)) TH_LOG("%s", strerror(errno));
	EXPECT_TRUE(lite_reachable(self->c.fd[3], 1, 30000)) TH_LOG("%s", strerror(errno));
}

TEST_F(guests, begin_anew_when_there_is_rubbish_in_their_lanes)
{
	ASSERT_TRUE(eventually_carried_by(1, 2, "guests"));
	for (int i = 0; i < 3; i++) {
		/* All lanes of the three nodes, as a table of 13 slots has them. */
		for (int lane = 0; lane < 3 * 13; lane++)
			ASSERT_EQ(0, lite_poke_memory(LANES_AT + (off_t)lane * LANE_LEN, BELLS_END, 0xff << i));
		EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000)) TH_LOG("%s", strerror(errno));
		EXPECT_TRUE(lite_reachable(self->c.fd[3], 1, 30000)) TH_LOG("%s", strerror(errno));
	}
}

FIXTURE(device) {
	struct cluster c;
};

FIXTURE_SETUP(device)
{
	if (access(lite_shared_memory(), F_OK))
		SKIP(return, "no %s: --pmem 3x256M", lite_shared_memory());
	setenv("POTLUCK_TRANSPORT", "guests", 1);
	ASSERT_EQ(0, cluster_up(&self->c, 1));
	ASSERT_EQ(0, node_power(1, false));
}

FIXTURE_TEARDOWN(device)
{
	lite_poke_memory(0, 65536, 0);
	if (self->c.nr)
		cluster_down(&self->c);
}

TEST_F(device, that_holds_something_else_is_left_alone)
{
	char byte = 0;
	int fd;

	ASSERT_EQ(0, lite_poke_memory(0, 65536, 'x'));
	EXPECT_REFUSED("rdma_lite: lt1:", node_power(1, true), EMEDIUMTYPE);
	fd = open(lite_shared_memory(), O_RDONLY | O_CLOEXEC);
	ASSERT_EQ(1, pread(fd, &byte, 1, 4096));
	close(fd);
	EXPECT_EQ('x', byte);
}

TEST_F(device, without_dax_or_that_is_none_is_refused)
{
	ASSERT_EQ(0, node_attr("lt1", "shared_memory", "/dev/zero"));
	EXPECT_REFUSED("rdma_lite: lt1:", node_power(1, true), ENOTBLK);
	ASSERT_EQ(0, node_attr("lt1", "shared_memory", "/dev/nothing"));
	EXPECT_EQ(ENOENT, node_power(1, true));
	if (!sh("modprobe -q brd rd_nr=1 rd_size=8192; test -b /dev/ram0")) {
		ASSERT_EQ(0, node_attr("lt1", "shared_memory", "/dev/ram0"));
		EXPECT_EQ(EOPNOTSUPP, node_power(1, true));
	}
}

TEST_F(device, is_set_only_while_the_node_is_off)
{
	char value[128];

	ASSERT_EQ(0, node_power(1, true));
	EXPECT_EQ(EBUSY, node_attr("lt1", "shared_memory", "/dev/pmem0"));
	ASSERT_EQ(0, node_attr_get("lt1", "shared_memory", value, sizeof(value)));
	EXPECT_STREQ(lite_shared_memory(), value);
}

TEST_F(device, whose_rings_are_smaller_than_those_of_the_node_is_refused)
{
	ASSERT_EQ(0, node_attr("lt1", "ring_size", "2097152"));
	EXPECT_REFUSED("rdma_lite: lt1:", node_power(1, true), EMSGSIZE);
}

TEST_HARNESS_MAIN
