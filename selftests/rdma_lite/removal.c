// SPDX-License-Identifier: GPL-2.0
/* The device of a node goes away under load: calls end in time, and all works again when it is back. */
#include <pthread.h>
#include <stdatomic.h>

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define ALL		(RDMA_LITE_READ | RDMA_LITE_WRITE | RDMA_LITE_ADMIN)
#define DEADLINE_MS	3000	/* LITE_TIMEOUT_MS */
#define PIECE		(256 * 1024)

FIXTURE(device) {
	struct cluster c;
};

FIXTURE_VARIANT(device) {
	const char *remove;
	bool interface;
};

FIXTURE_VARIANT_ADD(device, deleted_as_rdma_link) {
	.remove = "ip netns exec lt2 rdma link del ltr2",
};

FIXTURE_VARIANT_ADD(device, deleted_with_its_interface) {
	.remove = "ip -n lt2 link del ltv2",
	.interface = true,
};

FIXTURE_SETUP(device)
{
	ASSERT_EQ(0, cluster_up(&self->c, 3));
}

FIXTURE_TEARDOWN(device)
{
	/* Those that follow want the device. */
	if (sh("ip -n lt2 link show ltv2"))
		net_link(2);
	else if (sh("ip netns exec lt2 rdma link show ltr2"))
		sh("ip netns exec lt2 rdma link add ltr2 type rxe netdev ltv2");
	cluster_down(&self->c);
}

/* One of those who load the device, and what it saw. */
struct load {
	pthread_t thread;
	int fd, to;
	enum { PING, WRITE, READ } what;
	uint64_t region;
	atomic_int well, failed;
	/* Of the operations: how long the longest took, and an error that none should have. */
	int64_t longest;
	int odd;
};

static atomic_bool over;

static void *work(void *arg)
{
	struct load *load = arg;
	char *bytes = calloc(1, PIECE);
	sigset_t all;

	/* The commands that the others run end by SIGCHLD, which would end our waits. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	while (!over) {
		int64_t before = now_ms();
		int err;

		switch (load->what) {
		case PING:
			err = ERRNO_OF(lite_ping(load->fd, load->to, 20000, DEADLINE_MS));
			break;
		case WRITE:
			err = ERRNO_OF(lite_write(load->fd, load->region, 0, bytes, PIECE));
			break;
		default:
			err = ERRNO_OF(lite_read(load->fd, load->region, 0, bytes, PIECE));
		}
		load->well += !err;
		load->failed += !!err;
		switch (err) {
		case 0: case ETIMEDOUT: case ESHUTDOWN: case ESTALE: case EHOSTDOWN:
			break;
		default:
			load->odd = err;
		}
		if (now_ms() - before > load->longest)
			load->longest = now_ms() - before;
		if (err)
			sleep_ms(5);
	}
	free(bytes);
	return NULL;
}

TEST_F_TIMEOUT(device, under_load_ends_what_is_under_way_in_time_and_comes_back, 300)
{
	/* From and to the node that loses it, and between others. */
	static const struct { int from, to, what; } loads[] = {
		{ 1, 2, PING }, { 1, 2, WRITE }, { 1, 2, READ }, { 2, 1, PING }, { 2, 1, WRITE },
		{ 3, 2, PING }, { 2, 3, READ }, { 1, 3, PING }, { 3, 1, WRITE },
	};
	struct load load[COUNT(loads)] = {};
	int others = 0, other_failed = 0;
	uint64_t r;
	char byte;

	over = false;
	for (size_t i = 0; i < COUNT(loads); i++) {
		char ns[16];

		snprintf(ns, sizeof(ns), "lt%d", loads[i].from);
		load[i].fd = lite_open(ns, 0);
		ASSERT_LE(0, load[i].fd);
		load[i].to = loads[i].to;
		load[i].what = loads[i].what;
		if (loads[i].what != PING) {
			load[i].region = lite_malloc(load[i].fd, loads[i].to, PIECE, NULL, 0, 0);
			ASSERT_NE(0, load[i].region) TH_LOG("%s", strerror(errno));
		}
	}
	for (size_t i = 0; i < COUNT(loads); i++) {
		ASSERT_EQ(0, pthread_create(&load[i].thread, NULL, work, &load[i]));
	}
	for (size_t i = 0; i < COUNT(loads); i++) {
		EXPECT_TRUE(EVENTUALLY(30000, load[i].well >= 3)) TH_LOG("load %zu", i);
	}
	ASSERT_EQ(0, sh("%s", variant->remove));
	/* The node lost what it stands on: it is off, and says so. */
	EXPECT_TRUE(EVENTUALLY(20000, ERRNO_OF(lite_ping(self->c.fd[2], 1, 8, 500)) == ESHUTDOWN));
	EXPECT_EQ(0, node_attr_number("lt2", "power"));
	for (size_t i = 0; i < COUNT(loads); i++) {
		if (loads[i].from != 2 && loads[i].to != 2)
			continue;
		EXPECT_TRUE(EVENTUALLY(20000, load[i].failed > 0)) TH_LOG("load %zu goes on", i);
	}
	/* Nobody else noticed. */
	others = load[7].well;
	EXPECT_TRUE(EVENTUALLY(20000, load[7].well > others));
	for (size_t i = 7; i < COUNT(loads); i++)
		other_failed += load[i].failed;
	EXPECT_EQ(0, other_failed);
	over = true;
	for (size_t i = 0; i < COUNT(loads); i++) {
		pthread_join(load[i].thread, NULL);
		EXPECT_EQ(0, load[i].odd) TH_LOG("load %zu: %s", i, strerror(load[i].odd));
		EXPECT_GE(DEADLINE_MS + LITE_MARGIN_MS, load[i].longest) TH_LOG("load %zu", i);
	}
	/* It comes back: a new life of the node, under a new map. */
	if (variant->interface) {
		ASSERT_EQ(0, net_link(2));
	} else {
		ASSERT_EQ(0, sh("ip netns exec lt2 rdma link add ltr2 type rxe netdev ltv2"));
	}
	ASSERT_EQ(0, node_power(2, true));
	ASSERT_EQ(0, cluster_publish(&self->c));
	for (int i = 1; i <= 3; i++) {
		for (int j = 1; j <= 3; j++) {
			EXPECT_TRUE(lite_reachable(self->c.fd[i], j, 60000)) TH_LOG("%d to %d: %s", i, j, strerror(errno));
		}
	}
	/* What lay there is gone, and nothing else is in its place. */
	EXPECT_EQ(ESTALE, ERRNO_OF(lite_read(load[1].fd, load[1].region, 0, &byte, 1)));
	r = lite_malloc(load[1].fd, 2, PIECE, NULL, 0, 0);
	ASSERT_NE(0, r) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, lite_write(load[1].fd, r, 0, "x", 1)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, lite_read(load[1].fd, r, 0, &byte, 1)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ('x', byte);
	for (size_t i = 0; i < COUNT(loads); i++)
		close(load[i].fd);
}

TEST_HARNESS_MAIN
