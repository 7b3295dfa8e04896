// SPDX-License-Identifier: GPL-2.0
/* Nodes in configfs: how they come, what they refuse, how they go and return. */
#include "lite.h"

FIXTURE(node) {
	int unused;
};

FIXTURE_SETUP(node)
{
	ASSERT_EQ(0, net_need(2));
	node_down(1);
	node_down(2);
	ASSERT_EQ(0, node_make("lt1", "lt1"));
}

FIXTURE_TEARDOWN(node)
{
	node_down(1);
	node_down(2);
}

TEST_F(node, that_is_new_is_off)
{
	char text[64];

	ASSERT_EQ(0, node_attr_get("lt1", "power", text, sizeof(text)));
	EXPECT_STREQ("0", text);
	EXPECT_EQ(0, node_attr_get("lt1", "state", text, sizeof(text)));
	EXPECT_EQ(0, node_attr_number("lt1", "epoch"));
}

TEST_F(node, attributes_read_back_what_was_written)
{
	char text[64];

	ASSERT_EQ(0, node_configure(1));
	EXPECT_EQ(1, node_attr_number("lt1", "id"));
	EXPECT_EQ(LITE_PORT, node_attr_number("lt1", "port"));
	EXPECT_EQ(3000, node_attr_number("lt1", "timeout_ms"));
	EXPECT_EQ(300, node_attr_number("lt1", "heartbeat_ms"));
	ASSERT_EQ(0, node_attr_get("lt1", "addr", text, sizeof(text)));
	EXPECT_STREQ("10.78.0.1", text);
	ASSERT_EQ(0, node_attr_get("lt1", "device", text, sizeof(text)));
	EXPECT_STREQ("ltr1", text);
	ASSERT_EQ(0, node_attr_get("lt1", "cluster", text, sizeof(text)));
	EXPECT_STREQ(LITE_CLUSTER, text);
}

TEST_F(node, attributes_refuse_what_is_malformed)
{
	static const struct { const char *attr, *value; } bad[] = {
		{ "id", "0" }, { "id", "65536" }, { "id", "-1" }, { "id", "one" },
		{ "id", "99999999999999999999" }, { "id", "7 8" },
		{ "port", "0" }, { "port", "65536" }, { "port", "http" },
		{ "addr", "10.0.0" }, { "addr", "localhost" }, { "addr", "10.0.0.1/24" }, { "addr", "300.1.1.1" },
		{ "addr", ":::" },
		{ "cluster", "not-a-uuid" }, { "cluster", "5e1f7e57-0000-4000-8000-00000000000" },
		{ "cluster", "00000000-0000-0000-0000-000000000000" },
		{ "ring_size", "1000" }, { "ring_size", "0" }, { "ring_size", "3" }, { "ring_size", "1099511627776" },
		{ "heartbeat_ms", "x" }, { "timeout_ms", "0" }, { "timeout_ms", "soon" },
		{ "power", "2" }, { "power", "maybe" },
		{ "poll_us", "100001" }, { "poll_us", "-1" },
		{ "high_share", "49" }, { "high_share", "96" }, { "queue_pairs", "0" }, { "queue_pairs", "9" },
		{ "high_users", "1000,1001" }, { "high_users", "4294967296" },
		{ "device", "a-name-that-is-far-longer-than-any-verbs-device-could-ever-have-in-linux-12345" },
	};

	for (size_t i = 0; i < COUNT(bad); i++) {
		EXPECT_EQ(EINVAL, node_attr("lt1", bad[i].attr, bad[i].value))
			TH_LOG("%s = '%s'", bad[i].attr, bad[i].value);
	}
}

TEST_F(node, without_its_attributes_cannot_be_switched_on)
{
	EXPECT_EQ(EINVAL, node_power(1, true));
}

TEST_F(node, with_an_address_that_is_not_local_cannot_be_switched_on)
{
	char line[512];
	int mark, err;

	ASSERT_EQ(0, node_configure(1));
	ASSERT_EQ(0, node_attr("lt1", "addr", "10.78.0.2"));
	mark = kmsg_mark();
	err = node_power(1, true);
	EXPECT_TRUE(err == EADDRNOTAVAIL || err == EINVAL || err == ENODEV) TH_LOG("%s", strerror(err));
	EXPECT_EQ(1, kmsg_complaints(mark, "rdma_lite", line, sizeof(line))) TH_LOG("%s", line);
}

TEST_F(node, with_a_device_that_is_not_there_cannot_be_switched_on)
{
	char line[512];
	int mark, err;

	ASSERT_EQ(0, node_configure(1));
	ASSERT_EQ(0, node_attr("lt1", "device", "nosuch0"));
	mark = kmsg_mark();
	err = node_power(1, true);
	EXPECT_TRUE(err == ENODEV || err == EINVAL) TH_LOG("%s", strerror(err));
	EXPECT_EQ(1, kmsg_complaints(mark, "rdma_lite", line, sizeof(line))) TH_LOG("%s", line);
	/* Nothing is left half on: with the right device it starts. */
	ASSERT_EQ(0, node_attr("lt1", "device", "ltr1"));
	EXPECT_EQ(0, node_power(1, true));
}

TEST_F(node, that_is_on_refuses_changes)
{
	unsigned long long life;

	ASSERT_EQ(0, node_configure(1));
	ASSERT_EQ(0, node_power(1, true));
	EXPECT_EQ(EBUSY, node_attr("lt1", "id", "9"));
	EXPECT_EQ(EBUSY, node_attr("lt1", "addr", "10.78.0.9"));
	EXPECT_EQ(EBUSY, node_attr("lt1", "port", "9"));
	EXPECT_EQ(EBUSY, node_attr("lt1", "device", "ltr2"));
	EXPECT_EQ(EBUSY, node_attr("lt1", "cluster", LITE_CLUSTER));
	EXPECT_EQ(EBUSY, node_attr("lt1", "ring_size", "65536"));
	EXPECT_EQ(1, node_attr_number("lt1", "id"));
	/* Power is what it is already: no error, no new life. */
	life = node_attr_number("lt1", "incarnation");
	EXPECT_EQ(0, node_power(1, true));
	EXPECT_EQ(life, node_attr_number("lt1", "incarnation"));
}

TEST_F(node, is_alone_in_its_namespace)
{
	int err = node_make("lt1", "second");

	EXPECT_TRUE(err == EEXIST || err == EBUSY) TH_LOG("%s", strerror(err));
	node_remove("second");
	EXPECT_EQ(0, node_make("lt2", "second"));
	EXPECT_EQ(0, node_remove("second"));
}

TEST_F(node, gets_a_new_incarnation_each_time_it_is_switched_on)
{
	unsigned long long last = 0;

	ASSERT_EQ(0, node_configure(1));
	for (int i = 0; i < 5; i++) {
		ASSERT_EQ(0, node_power(1, true));
		EXPECT_LT(last, node_attr_number("lt1", "incarnation"));
		last = node_attr_number("lt1", "incarnation");
		ASSERT_EQ(0, node_power(1, false));
	}
}

TEST_F(node, that_is_off_says_so_to_callers)
{
	struct rdma_lite_map_node n[1] = { map_entry(1) };
	int fd;

	ASSERT_EQ(0, node_configure(1));
	fd = lite_open("lt1", 0);
	ASSERT_LE(0, fd) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(ESHUTDOWN, ERRNO_OF(lite_ping(fd, 1, 8, 0)));
	EXPECT_EQ(ESHUTDOWN, ERRNO_OF(map_set(fd, 1, n, 1)));
	close(fd);
}

TEST_F(node, that_is_on_cannot_be_removed)
{
	ASSERT_EQ(0, node_configure(1));
	ASSERT_EQ(0, node_power(1, true));
	EXPECT_EQ(EBUSY, node_remove("lt1"));
	ASSERT_EQ(0, node_power(1, false));
	EXPECT_EQ(0, node_remove("lt1"));
	/* Port and device are free again. */
	EXPECT_EQ(0, node_up(1));
}

/* --- nodes that meet others --------------------------------------------------- */

FIXTURE(peers) {
	struct cluster c;
};

FIXTURE_SETUP(peers)
{
	ASSERT_EQ(0, cluster_up(&self->c, 3));
}

FIXTURE_TEARDOWN(peers)
{
	cluster_down(&self->c);
}

TEST_F(peers, that_were_off_and_on_are_reached_after_a_new_map)
{
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, node_power(2, false));
		EXPECT_NE(0, ERRNO_OF(lite_ping(self->c.fd[1], 2, 8, 1000)));
		ASSERT_EQ(0, node_power(2, true));
		ASSERT_EQ(0, cluster_publish(&self->c));
		EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000)) TH_LOG("%s", strerror(errno));
		EXPECT_TRUE(lite_reachable(self->c.fd[3], 2, 30000)) TH_LOG("%s", strerror(errno));
		EXPECT_TRUE(lite_reachable(self->c.fd[2], 1, 30000)) TH_LOG("%s", strerror(errno));
	}
}

TEST_F(peers, of_an_incarnation_that_the_map_does_not_name_are_refused)
{
	/* A map that pins node 2 to a life that is over. */
	self->c.map[1].incarnation = node_attr_number("lt2", "incarnation");
	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
	ASSERT_EQ(0, node_power(2, false));
	ASSERT_EQ(0, node_power(2, true));
	ASSERT_EQ(0, map_set(self->c.fd[1], ++self->c.epoch, self->c.map, 3));
	EXPECT_NE(0, ERRNO_OF(lite_ping(self->c.fd[1], 2, 8, 3000)));
	/* And with the life that is: */
	self->c.map[1].incarnation = node_attr_number("lt2", "incarnation");
	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
}

TEST_F(peers, of_another_cluster_are_refused_with_one_line)
{
	char line[512];
	int mark, lines;

	ASSERT_EQ(0, node_power(2, false));
	ASSERT_EQ(0, node_attr("lt2", "cluster", "5e1f7e57-0000-4000-8000-0000000000ff"));
	ASSERT_EQ(0, node_power(2, true));
	mark = kmsg_mark();
	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_NE(0, ERRNO_OF(lite_ping(self->c.fd[1], 2, 8, 2000)));
	EXPECT_NE(0, ERRNO_OF(lite_ping(self->c.fd[1], 2, 8, 2000)));
	EXPECT_EQ(0, lite_ping(self->c.fd[1], 3, 8, 10000));
	/* Said, but not with every attempt: at most once by each end of a pair. */
	lines = kmsg_complaints_about(mark, "rdma_lite", "luster", line, sizeof(line));
	EXPECT_GE(lines, 1);
	EXPECT_LE(lines, 4) TH_LOG("last: %s", line);
}

TEST_F(peers, whose_id_is_not_what_the_map_says_are_refused)
{
	ASSERT_EQ(0, node_power(2, false));
	ASSERT_EQ(0, node_attr("lt2", "id", "77"));
	ASSERT_EQ(0, node_power(2, true));
	ASSERT_EQ(0, map_set(self->c.fd[1], ++self->c.epoch, self->c.map, 3));
	EXPECT_NE(0, ERRNO_OF(lite_ping(self->c.fd[1], 2, 8, 2000)));
}

TEST_F(peers, leave_and_join_at_run_time)
{
	/* Node 3 leaves: others go on, and it can be removed altogether. */
	self->c.map[2].state = RDMA_LITE_NODE_OUT;
	ASSERT_EQ(0, cluster_publish(&self->c));
	close(self->c.fd[3]);
	self->c.fd[3] = -1;
	node_down(3);
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
	EXPECT_EQ(EHOSTDOWN, ERRNO_OF(lite_ping(self->c.fd[1], 3, 8, 0)));
	/* It comes back as a new life under the same id. */
	ASSERT_EQ(0, node_up(3));
	self->c.fd[3] = lite_open("lt3", O_NONBLOCK);
	self->c.map[2].state = RDMA_LITE_NODE_UP;
	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 3, 30000));
	EXPECT_TRUE(lite_reachable(self->c.fd[3], 2, 30000));
}

TEST_F(peers, that_a_map_leaves_out_are_no_peers_any_more)
{
	ASSERT_EQ(0, map_set(self->c.fd[1], ++self->c.epoch, self->c.map, 2));
	ASSERT_EQ(0, map_set(self->c.fd[2], self->c.epoch, self->c.map, 2));
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
	EXPECT_EQ(EHOSTDOWN, ERRNO_OF(lite_ping(self->c.fd[1], 3, 8, 0)));
}

TEST_HARNESS_MAIN
