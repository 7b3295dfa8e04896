// SPDX-License-Identifier: GPL-2.0
/* The tracepoints: what a node does can be read in tracefs. */
#include <sys/mount.h>

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define TRACEFS	"/sys/kernel/tracing"
#define EVENTS	TRACEFS "/events/rdma_lite"
#define ALL	(RDMA_LITE_READ | RDMA_LITE_WRITE | RDMA_LITE_ADMIN)

FIXTURE(trace) {
	struct cluster c;
};

FIXTURE_SETUP(trace)
{
	if (net_need(0))
		SKIP(return, "rdma_lite cannot be loaded");
	if (access(TRACEFS "/events", F_OK) && mount("tracefs", TRACEFS, "tracefs", 0, NULL))
		SKIP(return, "this kernel has no tracefs");
	if (access(EVENTS, F_OK))
		SKIP(return, "this kernel has no tracepoints");
	ASSERT_EQ(0, cluster_up(&self->c, 2));
	ASSERT_EQ(0, put_text(EVENTS "/enable", "1"));
	/* What was traced before is of no interest. */
	ASSERT_EQ(0, truncate(TRACEFS "/trace", 0));
}

FIXTURE_TEARDOWN(trace)
{
	put_text(EVENTS "/enable", "0");
	cluster_down(&self->c);
}

/* How many lines of the trace have all these words. */
static int traced(const char *event, const char *one, const char *two)
{
	FILE *f = fopen(TRACEFS "/trace", "re");
	char line[1024], name[64];
	int found = 0;

	snprintf(name, sizeof(name), " %s: ", event);
	while (f && fgets(line, sizeof(line), f))
		found += *line != '#' && strstr(line, name) && strstr(line, one) && strstr(line, two);
	if (f)
		fclose(f);
	return found;
}

TEST_F(trace, shows_a_call_at_both_of_its_ends)
{
	ASSERT_EQ(0, lite_ping(self->c.fd[1], 2, 100, 5000));
	EXPECT_LE(1, traced("lite_call_begin", "node=lt1 peer=2 port=1 bytes=100", "timeout_ms=5000"));
	EXPECT_LE(1, traced("lite_call_end", "node=lt1 peer=2 port=1 bytes=100", "status=0 errno=0 ns="));
	EXPECT_LE(1, traced("lite_message_sent", "node=lt1 peer=2 kind=call port=1 bytes=100", "call="));
	EXPECT_LE(1, traced("lite_message_received", "node=lt2 peer=1 kind=call port=1 bytes=100", "call="));
	EXPECT_LE(1, traced("lite_message_received", "node=lt1 peer=2 kind=reply", "bytes=100"));
	EXPECT_LE(1, traced("lite_executed", "node=lt2 peer=1 port=1 bytes=100", "status=0 errno=0"));
}

TEST_F(trace, shows_why_a_call_failed)
{
	ASSERT_EQ(0, link_cut(2));
	ASSERT_EQ(ETIMEDOUT, ERRNO_OF(lite_ping(self->c.fd[1], 2, 8, 500)));
	EXPECT_LE(1, traced("lite_call_end", "node=lt1 peer=2 port=1", "errno=-110"));
}

TEST_F(trace, shows_links_that_go_and_come_and_maps)
{
	int before;

	/* Node 2 rests for a map: the connection ends, and is made again. */
	self->c.map[1].state = RDMA_LITE_NODE_DOWN;
	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_TRUE(EVENTUALLY(10000, traced("lite_map", "node=lt1", "nodes=2") >= 1));
	before = traced("lite_link_up", "node=lt1 peer=2", "errno=0");
	self->c.map[1].state = RDMA_LITE_NODE_UP;
	ASSERT_EQ(0, cluster_publish(&self->c));
	ASSERT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
	EXPECT_LT(before, traced("lite_link_up", "node=lt1 peer=2", "errno=0"));
	ASSERT_EQ(0, node_power(2, false));
	EXPECT_TRUE(EVENTUALLY(20000, traced("lite_link_down", "node=lt1 peer=2", "errno=-") >= 1));
}

TEST_F(trace, shows_accesses_grants_and_what_is_revoked)
{
	char bytes[4096] = "x";
	uint64_t r, other;

	r = lite_malloc(self->c.fd[2], 2, sizeof(bytes), "traced", ALL, 0);
	ASSERT_NE(0, r) TH_LOG("%s", strerror(errno));
	other = lite_map(self->c.fd[1], 2, "traced", RDMA_LITE_READ | RDMA_LITE_WRITE);
	ASSERT_NE(0, other) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, lite_write(self->c.fd[1], other, 0, bytes, sizeof(bytes))) TH_LOG("%s", strerror(errno));
	EXPECT_LE(1, traced("lite_access", "node=lt1 peer=2 write bytes=4096", "errno=0"));
	ASSERT_EQ(0, lite_grant(self->c.fd[2], r, 1, RDMA_LITE_READ));
	EXPECT_EQ(1, traced("lite_region_grant", "node=lt2 peer=1", "rights=read"));
	EXPECT_EQ(1, traced("lite_region_revoke", "node=lt2 peer=1", "rights=read"));
}

TEST_F(trace, shows_how_long_a_lock_was_waited_for)
{
	uint64_t lock = lite_lock(self->c.fd[1], 2, "traced");

	ASSERT_NE(0, lock) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(1, traced("lite_lock", "node=lt1 peer=2 lock grant=", "errno=0 ns="));
	ASSERT_EQ(0, lite_unlock(self->c.fd[1], lock));
	EXPECT_EQ(1, traced("lite_unlock", "node=lt1 peer=2 grant=", "errno=0"));
}

TEST_HARNESS_MAIN
