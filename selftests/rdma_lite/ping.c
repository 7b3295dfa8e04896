// SPDX-License-Identifier: GPL-2.0
/* Calls between nodes whose network is sound. */
#include <pthread.h>
#include <sys/resource.h>

#include "lite.h"

FIXTURE(ping) {
	struct cluster c;
};

FIXTURE_SETUP(ping)
{
	ASSERT_EQ(0, cluster_up(&self->c, 3));
}

FIXTURE_TEARDOWN(ping)
{
	cluster_down(&self->c);
}

/* Largest length that a ping accepts, by bisection: the ABI does not say it. */
static uint32_t largest(int fd, uint32_t node)
{
	uint32_t good = 0, bad = 1u << 30;

	while (bad - good > 1) {
		uint32_t mid = good + (bad - good) / 2;

		if (lite_ping(fd, node, mid, 10000) == 0)
			good = mid;
		else if (errno == EMSGSIZE)
			bad = mid;
		else
			return 0;
	}
	return good;
}

TEST_F(ping, of_any_size_goes_each_way_between_all_nodes)
{
	static const uint32_t sizes[] = { 0, 1, 7, 8, 64, 4095, 4096, 4097, 65000 };

	for (int i = 1; i <= 3; i++) {
		for (int j = 1; j <= 3; j++) {
			for (size_t s = 0; s < COUNT(sizes); s++) {
				EXPECT_EQ(0, lite_ping(self->c.fd[i], j, sizes[s], 10000))
					TH_LOG("%d -> %d, %u bytes: %s", i, j, sizes[s], strerror(errno));
			}
		}
	}
}

TEST_F(ping, of_the_largest_size_passes_and_one_byte_more_is_emsgsize)
{
	uint32_t max = largest(self->c.fd[1], 2);

	ASSERT_GE(max, 65000);
	TH_LOG("largest message: %u bytes", max);
	for (int i = 0; i < 10; i++) {
		EXPECT_EQ(0, lite_ping(self->c.fd[1], 2, max, 10000));
	}
	EXPECT_EQ(EMSGSIZE, ERRNO_OF(lite_ping(self->c.fd[1], 2, max + 1, 10000)));
	EXPECT_EQ(EMSGSIZE, ERRNO_OF(lite_ping(self->c.fd[1], 2, 0xffffffff, 10000)));
	/* To itself as well. */
	EXPECT_EQ(0, lite_ping(self->c.fd[1], 1, max, 10000));
	EXPECT_EQ(EMSGSIZE, ERRNO_OF(lite_ping(self->c.fd[1], 1, max + 1, 10000)));
}

TEST_F(ping, wraps_round_the_ring_many_times)
{
	for (int i = 0; i < 300; i++) {
		ASSERT_EQ(0, lite_ping(self->c.fd[1], 2, (i * 7919) % 60000, 10000))
			TH_LOG("round %d: %s", i, strerror(errno));
	}
}

TEST_F(ping, to_a_node_that_the_map_does_not_know_is_ehostdown)
{
	EXPECT_EQ(EHOSTDOWN, ERRNO_OF(lite_ping(self->c.fd[1], 99, 8, 0)));
	EXPECT_EQ(EHOSTDOWN, ERRNO_OF(lite_ping(self->c.fd[1], 0, 8, 0)));
	EXPECT_EQ(EHOSTDOWN, ERRNO_OF(lite_ping(self->c.fd[1], 0xffffffff, 8, 0)));
}

TEST_F(ping, to_a_node_that_the_map_says_is_down_is_ehostdown)
{
	self->c.map[2].state = RDMA_LITE_NODE_DOWN;
	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_EQ(EHOSTDOWN, ERRNO_OF(lite_ping(self->c.fd[1], 3, 8, 0)));
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
}

TEST_F(ping, says_how_long_it_took)
{
	struct rdma_lite_ping ping = { .node = 2, .len = 64 };
	int64_t before = now_ms(), took;

	ASSERT_EQ(0, ioctl(self->c.fd[1], RDMA_LITE_IOC_PING, &ping));
	took = now_ms() - before;
	EXPECT_GT(ping.rtt_ns, 0);
	EXPECT_LE(ping.rtt_ns / 1000000, took + 1);
}

static void *many_pings(void *arg)
{
	int *fd_and_seed = arg;

	for (int i = 0; i < 100; i++)
		if (lite_ping(fd_and_seed[0], 2 + i % 2, (i * 977 + fd_and_seed[1] * 131) % 9000, 20000))
			return (void *)(intptr_t)errno;
	return NULL;
}

TEST_F(ping, from_many_threads_at_once_all_come_back)
{
	pthread_t threads[16];
	int args[16][2];

	for (int i = 0; i < 16; i++) {
		args[i][0] = self->c.fd[1];
		args[i][1] = i;
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, many_pings, args[i]));
	}
	for (int i = 0; i < 16; i++) {
		void *err;

		pthread_join(threads[i], &err);
		EXPECT_EQ(NULL, err) TH_LOG("thread %d: %s", i, strerror((intptr_t)err));
	}
}

TEST_F(ping, crosses_in_both_directions_at_once)
{
	pid_t child[3];

	for (int i = 0; i < 3; i++) {
		child[i] = fork();
		if (!child[i]) {
			for (int k = 0; k < 150; k++)
				if (lite_ping(self->c.fd[i + 1], 1 + (i + 1 + k % 2) % 3, 30000, 20000))
					_exit(1);
			_exit(0);
		}
	}
	for (int i = 0; i < 3; i++) {
		int status;

		waitpid(child[i], &status, 0);
		EXPECT_EQ(0, status);
	}
}

TEST_F(ping, with_flags_or_reserved_fields_set_is_einval)
{
	struct rdma_lite_ping ping = { .node = 2, .flags = 1 };

	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_PING, &ping)));
	for (int i = 0; i < 2; i++) {
		struct rdma_lite_ping dirty = { .node = 2 };

		dirty.reserved[i] = 1;
		EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_PING, &dirty)));
	}
}

/* How often we slept during some pings. */
static long sleeps(int fd, int pings)
{
	struct rusage before, after;

	getrusage(RUSAGE_SELF, &before);
	for (int i = 0; i < pings; i++)
		if (lite_ping(fd, 2, 64, 10000))
			return -1;
	getrusage(RUSAGE_SELF, &after);
	return after.ru_nvcsw - before.ru_nvcsw;
}

TEST_F(ping, is_polled_for_as_long_as_is_set_and_slept_for_otherwise)
{
	enum { PINGS = 60 };

	/* Never: each answer is slept for, or was there before we could. */
	ASSERT_EQ(0, node_power(1, false));
	ASSERT_EQ(0, node_attr("lt1", "poll_us", "0"));
	ASSERT_EQ(0, node_power(1, true));
	ASSERT_EQ(0, cluster_publish(&self->c));
	ASSERT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
	EXPECT_LE(PINGS / 2, sleeps(self->c.fd[1], PINGS));
	/* Longer than any answer takes: hardly one is slept for. */
	ASSERT_EQ(0, node_power(1, false));
	ASSERT_EQ(0, node_attr("lt1", "poll_us", "100000"));
	ASSERT_EQ(0, node_power(1, true));
	ASSERT_EQ(0, cluster_publish(&self->c));
	ASSERT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
	EXPECT_GE(PINGS / 4, sleeps(self->c.fd[1], PINGS));
}

TEST_F(ping, between_nodes_goes_on_while_another_comes_and_goes)
{
	for (int i = 0; i < 5; i++) {
		ASSERT_EQ(0, node_power(3, false));
		EXPECT_EQ(0, lite_ping(self->c.fd[1], 2, 1000, 10000)) TH_LOG("%s", strerror(errno));
		ASSERT_EQ(0, node_power(3, true));
		EXPECT_EQ(0, lite_ping(self->c.fd[1], 2, 1000, 10000)) TH_LOG("%s", strerror(errno));
	}
}

TEST_HARNESS_MAIN
