// SPDX-License-Identifier: GPL-2.0
/* Many nodes in one map: POTLUCK_NODES of them (4; `make test-all`: 64), each in a namespace of its own. */
#define LITE_MAX_NODES	64

#include <pthread.h>
#include <stdatomic.h>

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define PORT	100

FIXTURE(many) {
	struct cluster c;
	int nr;
};

FIXTURE_SETUP(many)
{
	self->nr = env_number("POTLUCK_NODES", 4);
	if (self->nr < 3 || self->nr > LITE_MAX_NODES)
		SKIP(return, "POTLUCK_NODES is from 3 to 64");
	/* Each node has a ring, and a mirror of another, for each other node. */
	lite_ring_size = "65536";
	/* They share the processors: 64 of them would need more than two, emulated, for heartbeats alone. */
	if (self->nr > 16) {
		lite_heartbeat_ms = "10000";
		lite_timeout_ms = "60000";
		lite_settle_ms = 600000;
	}
	ASSERT_EQ(0, cluster_up(&self->c, self->nr));
}

FIXTURE_TEARDOWN(many)
{
	cluster_down(&self->c);
	/* Others have fewer, and clean up no more. */
	net_drop();
}

/* Answers what it gets, with its own id, until its port is closed. */
struct server {
	pthread_t thread;
	int fd, id;
	atomic_int served;
};

static void *serve(void *arg)
{
	struct server *server = arg;

	for (;;) {
		struct rdma_lite_receive request = { .timeout_ms = 120000 };
		uint32_t n[2];

		if (lite_rpc_receive(server->fd, PORT, &n[0], sizeof(n[0]), &request) < 0)
			return NULL;
		n[1] = server->id;
		lite_rpc_reply(server->fd, &request, 0, n, sizeof(n));
		server->served++;
		if (!n[0])
			return NULL;
	}
}

/* A call from one node to each of some nodes at once; how many answered rightly. */
static int multicast(int fd, int nr, const bool *to, uint32_t number)
{
	struct rdma_lite_call calls[LITE_MAX_NODES] = {};
	uint32_t replies[LITE_MAX_NODES][2] = {};
	int n = 0, right = 0;

	for (int i = 1; i <= nr; i++) {
		if (!to[i])
			continue;
		calls[n++] = (struct rdma_lite_call){
			.node = i,
			.port = PORT,
			.timeout_ms = 60000,
			.request = (uintptr_t)&number,
			.request_len = sizeof(number),
			.reply = (uintptr_t)replies[i - 1],
			.reply_len = sizeof(replies[0]),
		};
	}
	if (lite_rpc_multicast(fd, calls, n) < 0)
		return -1;
	for (int i = 0; i < n; i++) {
		uint32_t *reply = replies[calls[i].node - 1];

		right += !calls[i].err && !calls[i].status && reply[0] == number && reply[1] == calls[i].node;
	}
	return right;
}

TEST_F_TIMEOUT(many, nodes_call_each_other_lose_one_that_comes_back_and_reach_all_at_once, 880)
{
	static struct server servers[LITE_MAX_NODES + 1];
	struct cluster *c = &self->c;
	struct rdma_lite_port port = { .port = PORT };
	bool all[LITE_MAX_NODES + 1] = {};
	int lost = self->nr / 2, failed = 0;
	uint64_t incarnation;
	int64_t began = now_ms();

	/* Coming up has made each call each. */
	TH_LOG("%d nodes are up", self->nr);
	for (int i = 1; i <= self->nr; i++) {
		servers[i] = (struct server){ .id = i };
		servers[i].fd = lite_open(c->map[i - 1].name, 0);
		ASSERT_LE(0, servers[i].fd);
		ASSERT_EQ(0, ioctl(servers[i].fd, RDMA_LITE_IOC_PORT_OPEN, &port));
		ASSERT_EQ(0, pthread_create(&servers[i].thread, NULL, serve, &servers[i]));
		all[i] = true;
	}
	for (int i = 1; i <= self->nr; i++) {
		EXPECT_EQ(self->nr, multicast(c->fd[i], self->nr, all, i)) TH_LOG("from node %d", i);
	}
	TH_LOG("each called all in %lld ms", (long long)(now_ms() - began));

	/* One dies: a map without it, and the others go on. */
	incarnation = node_attr_number(c->map[lost - 1].name, "incarnation");
	ASSERT_EQ(0, node_power(lost, false));
	/* Ports outlive that; nobody calls this one any more. */
	ASSERT_EQ(0, lite_rpc_unregister(servers[lost].fd, PORT));
	pthread_join(servers[lost].thread, NULL);
	close(servers[lost].fd);
	close(c->fd[lost]);
	c->fd[lost] = -1;
	c->map[lost - 1].state = RDMA_LITE_NODE_OUT;
	ASSERT_EQ(0, cluster_publish(c));
	all[lost] = false;
	for (int i = 1; i <= self->nr; i++) {
		if (i == lost)
			continue;
		EXPECT_EQ(self->nr - 1, multicast(c->fd[i], self->nr, all, 100 + i)) TH_LOG("from node %d", i);
		EXPECT_EQ(EHOSTDOWN, ERRNO_OF(lite_ping(c->fd[i], lost, 8, 1000)));
	}

	/* It comes back with a new life. */
	ASSERT_EQ(0, node_power(lost, true));
	EXPECT_LT(incarnation, node_attr_number(c->map[lost - 1].name, "incarnation"));
	c->fd[lost] = lite_open(c->map[lost - 1].name, O_NONBLOCK);
	ASSERT_LE(0, c->fd[lost]);
	c->map[lost - 1].state = RDMA_LITE_NODE_UP;
	ASSERT_EQ(0, cluster_publish(c));
	servers[lost] = (struct server){ .id = lost, .fd = lite_open(c->map[lost - 1].name, 0) };
	ASSERT_EQ(0, ioctl(servers[lost].fd, RDMA_LITE_IOC_PORT_OPEN, &port));
	ASSERT_EQ(0, pthread_create(&servers[lost].thread, NULL, serve, &servers[lost]));
	all[lost] = true;
	for (int i = 1; i <= self->nr; i++) {
		failed += !lite_reachable(c->fd[i], lost, 60000);
		failed += !lite_reachable(c->fd[lost], i, 60000);
	}
	EXPECT_EQ(0, failed);
	EXPECT_EQ(self->nr, multicast(c->fd[lost], self->nr, all, 1000));
	/* The last: the servers end with it. */
	EXPECT_EQ(self->nr, multicast(c->fd[1], self->nr, all, 0));
	for (int i = 1; i <= self->nr; i++) {
		pthread_join(servers[i].thread, NULL);
		EXPECT_LE(i == lost ? 2 : self->nr, servers[i].served) TH_LOG("node %d", i);
		close(servers[i].fd);
	}
}

TEST_HARNESS_MAIN
