// SPDX-License-Identifier: GPL-2.0
/* What /dev/rdma_lite tells its readers. */
#include "lite.h"

FIXTURE(events) {
	struct cluster c;
};

FIXTURE_SETUP(events)
{
	ASSERT_EQ(0, cluster_up(&self->c, 2));
}

FIXTURE_TEARDOWN(events)
{
	cluster_down(&self->c);
}

/* A reader that begins now: it has not seen what came before. */
static int reader(void)
{
	return lite_open("lt1", O_NONBLOCK);
}

TEST_F(events, of_which_there_are_none_read_as_eagain)
{
	struct rdma_lite_event event;
	int fd = reader();
	struct pollfd p = { .fd = fd, .events = POLLIN };

	ASSERT_LE(0, fd);
	EXPECT_EQ(EAGAIN, ERRNO_OF(read(fd, &event, sizeof(event))));
	EXPECT_EQ(0, poll(&p, 1, 100));
}

TEST_F(events, say_that_a_map_is_in_force)
{
	struct rdma_lite_event event;
	int fd = reader();

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cluster_publish(&self->c));
	ASSERT_TRUE(event_wait(fd, RDMA_LITE_EVENT_MAP, 0, 10000, &event));
	EXPECT_EQ(self->c.epoch, event.epoch);
	EXPECT_EQ(0, event.reserved);
	EXPECT_GE(now_ms() + 1, event.time_ns / 1000000);
}

TEST_F(events, go_to_every_reader)
{
	int one = reader(), two = reader();

	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_TRUE(event_wait(one, RDMA_LITE_EVENT_MAP, 0, 10000, NULL));
	EXPECT_TRUE(event_wait(two, RDMA_LITE_EVENT_MAP, 0, 10000, NULL));
}

TEST_F(events, say_who_does_not_answer_and_when_it_does_again)
{
	struct rdma_lite_map_node got[2];
	struct rdma_lite_event event;
	int fd = reader();

	if (lite_is_shm())
		SKIP(return, LITE_NO_LINK);
	ASSERT_EQ(0, link_cut(2));
	ASSERT_TRUE(event_wait(fd, RDMA_LITE_EVENT_SUSPECT, 2, 30000, &event));
	EXPECT_TRUE(event.reason >= RDMA_LITE_SUSPECT_HEARTBEAT &&
		    event.reason <= RDMA_LITE_SUSPECT_DISCONNECT) TH_LOG("reason %u", event.reason);
	EXPECT_EQ(self->c.epoch, event.epoch);
	/* The kernel only reports: node 2 is still in the map. */
	ASSERT_EQ(2, map_get(fd, NULL, got, 2));
	EXPECT_EQ(RDMA_LITE_NODE_UP, got[1].state);
	ASSERT_EQ(0, link_mend(2));
	EXPECT_TRUE(event_wait(fd, RDMA_LITE_EVENT_ALIVE, 2, 60000, NULL));
}

TEST_F(events, say_that_a_node_was_switched_off)
{
	int fd = reader();

	ASSERT_EQ(0, node_power(2, false));
	EXPECT_TRUE(event_wait(fd, RDMA_LITE_EVENT_SUSPECT, 2, 30000, NULL));
}

TEST_F(events, wake_a_reader_that_blocks)
{
	int ready[2], status;
	pid_t child;
	char x;

	ASSERT_EQ(0, pipe(ready));
	child = fork();
	if (!child) {
		struct rdma_lite_event event;
		int fd = lite_open("lt1", 0);

		if (fd < 0 || write(ready[1], "x", 1) != 1)
			_exit(2);
		_exit(read(fd, &event, sizeof(event)) != sizeof(event) || event.type != RDMA_LITE_EVENT_MAP);
	}
	ASSERT_EQ(1, read(ready[0], &x, 1));
	sleep_ms(200);
	ASSERT_EQ(0, cluster_publish(&self->c));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

static void on_alarm(int sig) { (void)sig; }

TEST_F(events, reader_that_blocks_is_interrupted_by_a_signal)
{
	struct sigaction act = { .sa_handler = on_alarm };
	struct rdma_lite_event event;
	int fd = lite_open("lt1", 0);

	ASSERT_LE(0, fd);
	sigaction(SIGALRM, &act, NULL);
	alarm(1);
	EXPECT_EQ(EINTR, ERRNO_OF(read(fd, &event, sizeof(event))));
}

TEST_F(events, come_whole_and_in_order_many_in_one_read)
{
	struct rdma_lite_event many[8];
	int fd = reader();
	ssize_t len;

	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, cluster_publish(&self->c));
	}
	/* An odd length gives only whole events. */
	len = read(fd, many, 2 * sizeof(many[0]) + 17);
	EXPECT_EQ(2 * sizeof(many[0]), len);
	EXPECT_LT(many[0].epoch, many[1].epoch);
	EXPECT_LE(many[0].time_ns, many[1].time_ns);
	EXPECT_EQ(EINVAL, ERRNO_OF(read(fd, many, sizeof(many[0]) - 1)));
	EXPECT_EQ(EFAULT, ERRNO_OF(read(fd, bad_pointer(), sizeof(many[0]))));
}

TEST_F(events, that_a_slow_reader_misses_are_said_to_be_lost)
{
	struct rdma_lite_event event;
	int fd = reader();
	bool lost = false;
	uint64_t last = 0;

	for (int i = 0; i < 3000; i++) {
		ASSERT_EQ(0, map_set(self->c.fd[1], ++self->c.epoch, self->c.map, 2));
	}
	while (read(fd, &event, sizeof(event)) == sizeof(event)) {
		lost |= event.type == RDMA_LITE_EVENT_LOST;
		if (event.type == RDMA_LITE_EVENT_MAP)
			last = event.epoch;
	}
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_TRUE(lost);
	/* What is kept is the newest. */
	EXPECT_EQ(self->c.epoch, last);
}

TEST_HARNESS_MAIN
