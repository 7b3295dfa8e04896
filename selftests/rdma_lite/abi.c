// SPDX-License-Identifier: GPL-2.0
/* /dev/rdma_lite against callers who do not know it, or mean ill. */
#include "lite.h"

FIXTURE(abi) {
	struct cluster c;
};

FIXTURE_SETUP(abi)
{
	ASSERT_EQ(0, cluster_up(&self->c, 2));
}

FIXTURE_TEARDOWN(abi)
{
	cluster_down(&self->c);
}

TEST_F(abi, open_in_a_namespace_without_a_node_is_enxio)
{
	int before;

	sh("ip netns add ltempty");
	before = netns_enter("ltempty");
	EXPECT_EQ(ENXIO, ERRNO_OF(open(LITE_DEVICE, O_RDWR)));
	netns_leave(before);
	sh("ip netns del ltempty");
}

TEST_F(abi, unknown_ioctls_are_enotty)
{
	char room[4096] = { 0 };

	EXPECT_EQ(ENOTTY, ERRNO_OF(ioctl(self->c.fd[1], _IO(RDMA_LITE_IOC_MAGIC, 99), room)));
	EXPECT_EQ(ENOTTY, ERRNO_OF(ioctl(self->c.fd[1], _IOWR(RDMA_LITE_IOC_MAGIC, 3, char[8]), room)));
	EXPECT_EQ(ENOTTY, ERRNO_OF(ioctl(self->c.fd[1], _IOWR(0xB7, 0, struct rdma_lite_ping), room)));
	EXPECT_EQ(ENOTTY, ERRNO_OF(ioctl(self->c.fd[1], 0, room)));
}

TEST_F(abi, bad_pointers_are_efault_in_every_ioctl)
{
	void *bad[] = { NULL, bad_pointer(), (void *)0xffffffff81000000ULL, (void *)~7ULL };

	for (size_t i = 0; i < COUNT(bad); i++) {
		EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_INFO, bad[i])));
		EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_SET_MAP, bad[i])));
		EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_GET_MAP, bad[i])));
		EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_PING, bad[i])));
		EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_SUBMIT, bad[i])));
		EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_POLL, bad[i])));
		EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_LEND, bad[i])));
	}
}

TEST_F(abi, get_map_into_a_bad_array_is_efault)
{
	struct rdma_lite_map map = { .nr_nodes = 2, .nodes = (uintptr_t)bad_pointer() };

	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_GET_MAP, &map)));
}

TEST_F(abi, get_map_with_reserved_fields_set_is_einval)
{
	struct rdma_lite_map_node got[2];
	struct rdma_lite_map map = { .nr_nodes = 2, .nodes = (uintptr_t)got, .flags = 1 };

	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_GET_MAP, &map)));
	map.flags = 0;
	map.reserved[1] = 1;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_GET_MAP, &map)));
}

TEST_F(abi, info_tells_who_the_node_is)
{
	struct rdma_lite_info info;

	for (int i = 1; i <= 2; i++) {
		memset(&info, 0xff, sizeof(info));
		ASSERT_EQ(0, ioctl(self->c.fd[i], RDMA_LITE_IOC_INFO, &info));
		EXPECT_EQ(i, info.id);
		EXPECT_EQ(0x5e, info.cluster[0]);
		EXPECT_EQ(0x01, info.cluster[15]);
		for (int k = 0; k < 4; k++) {
			EXPECT_EQ(0, info.reserved[k]);
		}
	}
}

TEST_F(abi, writing_to_the_device_is_refused)
{
	EXPECT_EQ(EINVAL, ERRNO_OF(write(self->c.fd[1], "x", 1)));
}

static void on_alarm(int sig) { (void)sig; }

TEST_F(abi, a_ping_that_waits_is_interrupted_by_a_signal)
{
	struct sigaction act = { .sa_handler = on_alarm };
	int64_t before;

	if (lite_is_shm())
		SKIP(return, LITE_NO_LINK);
	sigaction(SIGALRM, &act, NULL);
	ASSERT_EQ(0, link_cut(2));
	alarm(1);
	before = now_ms();
	EXPECT_EQ(EINTR, ERRNO_OF(lite_ping(self->c.fd[1], 2, 64, 60000)));
	EXPECT_LE(now_ms() - before, 1000 + LITE_MARGIN_MS);
}

TEST_F(abi, a_process_that_waits_in_a_ping_can_be_killed)
{
	pid_t child;
	int64_t before;

	if (lite_is_shm())
		SKIP(return, LITE_NO_LINK);
	ASSERT_EQ(0, link_cut(2));
	child = fork();
	if (!child) {
		lite_ping(self->c.fd[1], 2, 64, 600000);
		_exit(0);
	}
	sleep_ms(500);
	before = now_ms();
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, NULL, 0));
	EXPECT_LE(now_ms() - before, LITE_MARGIN_MS);
}

TEST_F(abi, an_open_descriptor_outlives_its_node_harmlessly)
{
	struct rdma_lite_info info;
	struct rdma_lite_event event;
	int fd = lite_open("lt2", O_NONBLOCK);

	ASSERT_LE(0, fd);
	node_down(2);
	EXPECT_NE(0, ERRNO_OF(lite_ping(fd, 1, 8, 1000)));
	(void)!ioctl(fd, RDMA_LITE_IOC_INFO, &info);
	(void)!read(fd, &event, sizeof(event));
	close(fd);
	ASSERT_EQ(0, node_up(2));
}

TEST_F(abi, switching_off_wakes_those_who_wait)
{
	int64_t before = now_ms();
	pid_t child;
	int status;

	if (lite_is_shm())
		SKIP(return, LITE_NO_LINK);
	ASSERT_EQ(0, link_cut(2));
	child = fork();
	if (!child)
		_exit(ERRNO_OF(lite_ping(self->c.fd[1], 2, 64, 100000)));
	sleep_ms(500);
	ASSERT_EQ(0, node_power(1, false));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(ESHUTDOWN, WEXITSTATUS(status));
	EXPECT_LE(now_ms() - before, 20000);
}

TEST_HARNESS_MAIN
