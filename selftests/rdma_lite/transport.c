// SPDX-License-Identifier: GPL-2.0
/*
 * Nodes of one kernel that connect over its memory when their attribute
 * transport lets them, and over verbs when it does not. Cutting the network
 * shows which it is.
 */
#include "lite.h"

/* What debugfs says carries the connection of lti to a peer. */
static bool carried_by(int i, int peer, const char *transport)
{
	return !sh("grep -q '^lt%d %d %s ' /sys/kernel/debug/rdma_lite/peers", i, peer, transport);
}

static bool eventually_carried_by(int i, int peer, const char *transport)
{
	return EVENTUALLY(10000, carried_by(i, peer, transport));
}

static int set_transport(int i, const char *value)
{
	char node[16];

	snprintf(node, sizeof(node), "lt%d", i);
	return node_attr(node, "transport", value);
}

/* Off and on again, with another transport: a new life of the node, and a new map. */
static int again_with(struct cluster *c, int i, const char *transport)
{
	int err = node_power(i, false) ?: set_transport(i, transport) ?: node_power(i, true);

	return err ?: cluster_publish(c);
}

FIXTURE(transport) {
	struct cluster c;
};

FIXTURE_SETUP(transport)
{
	setenv("POTLUCK_TRANSPORT", "shm", 1);
	ASSERT_EQ(0, cluster_up(&self->c, 3));
}

FIXTURE_TEARDOWN(transport)
{
	cluster_down(&self->c);
}

TEST_F(transport, of_nodes_of_one_kernel_is_memory_when_both_let_it)
{
	for (int i = 1; i <= 3; i++) {
		for (int j = 1; j <= 3; j++) {
			if (i != j) {
				EXPECT_TRUE(eventually_carried_by(i, j, "shm")) TH_LOG("%d to %d", i, j);
			}
		}
	}
}

TEST_F(transport, over_memory_needs_no_network)
{
	int64_t before = now_ms();

	ASSERT_TRUE(eventually_carried_by(1, 2, "shm"));
	ASSERT_EQ(0, link_cut(2));
	while (now_ms() - before < 3000) {
		ASSERT_EQ(0, lite_ping(self->c.fd[1], 2, 64, 1000)) TH_LOG("%s", strerror(errno));
		ASSERT_EQ(0, lite_ping(self->c.fd[2], 1, 65000, 1000)) TH_LOG("%s", strerror(errno));
	}
	EXPECT_TRUE(carried_by(1, 2, "shm"));
}

TEST_F(transport, is_verbs_as_soon_as_one_of_two_nodes_wants_that)
{
	for (int one = 1; one <= 2; one++) {
		ASSERT_EQ(0, again_with(&self->c, one, "verbs"));
		EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000)) TH_LOG("%s", strerror(errno));
		EXPECT_TRUE(eventually_carried_by(1, 2, "verbs"));
		EXPECT_TRUE(eventually_carried_by(2, 1, "verbs"));
		EXPECT_TRUE(eventually_carried_by(3, 3 - one, "shm"));
		ASSERT_EQ(0, again_with(&self->c, one, "auto"));
		EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000)) TH_LOG("%s", strerror(errno));
		EXPECT_TRUE(eventually_carried_by(1, 2, "shm"));
	}
}

TEST_F(transport, over_memory_ends_when_a_node_goes_off)
{
	int64_t before;

	ASSERT_EQ(0, node_power(2, false));
	before = now_ms();
	EXPECT_EQ(ETIMEDOUT, ERRNO_OF(lite_ping(self->c.fd[1], 2, 64, 1000)));
	EXPECT_LE(now_ms() - before, 1000 + LITE_MARGIN_MS);
	EXPECT_TRUE(eventually_carried_by(1, 2, "none"));
	EXPECT_EQ(0, lite_ping(self->c.fd[1], 3, 64, 1000));
	ASSERT_EQ(0, node_power(2, true));
	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000)) TH_LOG("%s", strerror(errno));
	EXPECT_TRUE(eventually_carried_by(1, 2, "shm"));
}

TEST_F(transport, over_memory_is_not_for_a_node_that_the_map_has_not)
{
	struct rdma_lite_map_node map[2] = { map_entry(1), map_entry(3) };

	/* Node 2 still has the old map, with all three. */
	ASSERT_EQ(0, map_set(self->c.fd[1], 100, map, 2));
	ASSERT_EQ(0, map_set(self->c.fd[3], 100, map, 2));
	EXPECT_EQ(EHOSTDOWN, ERRNO_OF(lite_ping(self->c.fd[1], 2, 64, 500)));
	EXPECT_EQ(ETIMEDOUT, ERRNO_OF(lite_ping(self->c.fd[2], 1, 64, 500)));
	EXPECT_EQ(ETIMEDOUT, ERRNO_OF(lite_ping(self->c.fd[2], 3, 64, 500)));
	EXPECT_EQ(0, lite_ping(self->c.fd[1], 3, 64, 1000));
	EXPECT_FALSE(carried_by(2, 3, "shm"));
}

TEST_F(transport, over_memory_is_not_for_a_node_of_another_cluster)
{
	ASSERT_EQ(0, node_power(2, false));
	ASSERT_EQ(0, node_attr("lt2", "cluster", "5e1f7e57-0000-4000-8000-000000000002"));
	ASSERT_EQ(0, node_power(2, true));
	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_EQ(ETIMEDOUT, ERRNO_OF(lite_ping(self->c.fd[1], 2, 64, 1000)));
	EXPECT_EQ(ETIMEDOUT, ERRNO_OF(lite_ping(self->c.fd[2], 3, 64, 1000)));
	EXPECT_FALSE(carried_by(1, 2, "shm"));
	EXPECT_FALSE(carried_by(2, 3, "shm"));
}

TEST_F(transport, is_set_only_while_the_node_is_off_and_to_what_there_is)
{
	char value[16];

	EXPECT_EQ(EBUSY, set_transport(1, "verbs"));
	ASSERT_EQ(0, node_power(1, false));
	EXPECT_EQ(EINVAL, set_transport(1, "pigeons"));
	EXPECT_EQ(0, set_transport(1, "guests"));
	EXPECT_REFUSED("rdma_lite: lt1:", node_power(1, true), EINVAL); /* no shared_memory */
	EXPECT_EQ(0, set_transport(1, "auto"));
	ASSERT_EQ(0, node_attr_get("lt1", "transport", value, sizeof(value)));
	EXPECT_STREQ("auto", value);
	EXPECT_EQ(0, set_transport(1, "verbs\n"));
	ASSERT_EQ(0, node_attr_get("lt1", "transport", value, sizeof(value)));
	EXPECT_STREQ("verbs", value);
}

TEST_F(transport, of_a_node_is_verbs_until_it_is_told_otherwise)
{
	char value[16];

	node_down(3);
	ASSERT_EQ(0, node_make("lt3", "lt3"));
	ASSERT_EQ(0, node_attr_get("lt3", "transport", value, sizeof(value)));
	EXPECT_STREQ("verbs", value);
}

TEST_HARNESS_MAIN
