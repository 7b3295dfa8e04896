// SPDX-License-Identifier: GPL-2.0
/* MRSW datasets: acquire, store, commit and abort; one writer of a page in the cluster. */
#include "hotpot.h"

#define NR_PAGES 48		/* three chunks: each node owns one */
#define SIZE (NR_PAGES * PAGE)

FIXTURE(mrsw) {
	struct space s;
	struct agent a[SPACE_NODES + 1];
};

FIXTURE_SETUP(mrsw)
{
	ASSERT_EQ(0, space_open(&self->s));
	ASSERT_EQ(0, dataset_make_mode(&self->s, 1, "mrsw", SIZE, 1, HOTPOT_MRSW));
	for (int i = 1; i <= SPACE_NODES; i++)
		ASSERT_EQ(0, agent_start(&self->a[i], at(&self->s, i, "mrsw"), SIZE));
}

FIXTURE_TEARDOWN(mrsw)
{
	for (int i = 1; i <= SPACE_NODES; i++)
		agent_end(&self->a[i]);
	unlink(at(&self->s, 1, "mrsw"));
}

TEST_F(mrsw, a_store_to_a_page_that_was_not_acquired_is_sigbus_and_a_write_eacces)
{
	char got[8];

	EXPECT_EQ(EFAULT, agent_store(&self->a[1], 0, "unasked!", 8));
	EXPECT_EQ(EACCES, agent_write(&self->a[1], 0, "unasked!", 8));
	ASSERT_EQ(0, agent_load(&self->a[1], 0, got, 8));
	EXPECT_EQ(0, memcmp(got, "\0\0\0\0\0\0\0", 8));
	/* A page that is mapped already, for loads. */
	EXPECT_EQ(EFAULT, agent_store(&self->a[1], 0, "unasked!", 8));
	EXPECT_EQ(EACCES, agent_commit(&self->a[1], 0, 8));
}

TEST_F(mrsw, what_is_acquired_is_stored_committed_and_given_back)
{
	ASSERT_EQ(0, agent_acquire(&self->a[1], 0, SIZE, DEADLINE_MS, 0));
	for (int page = 0; page < NR_PAGES; page += 16)
		ASSERT_EQ(0, agent_store(&self->a[1], page * PAGE + 8, "of node1", 8));
	EXPECT_EQ(EAGAIN, agent_acquire(&self->a[2], 8, 8, DEADLINE_MS, 0));
	EXPECT_EQ(ETIMEDOUT, agent_acquire(&self->a[3], 8, 8, 500, HOTPOT_ACQUIRE_WAIT));
	ASSERT_EQ(0, agent_commit(&self->a[1], 0, SIZE));
	EXPECT_EQ(EFAULT, agent_store(&self->a[1], 8, "too late", 8));
	for (int i = 1; i <= SPACE_NODES; i++) {
		for (int page = 0; page < NR_PAGES; page += 16)
			EXPECT_TRUE(agent_holds(&self->a[i], page * PAGE + 8, "of node1", 8));
	}
	ASSERT_EQ(0, agent_acquire(&self->a[2], 0, SIZE, DEADLINE_MS, HOTPOT_ACQUIRE_WAIT));
	ASSERT_EQ(0, agent_store(&self->a[2], 8, "of node2", 8));
	ASSERT_EQ(0, agent_msync(&self->a[2], 0, PAGE));
	EXPECT_TRUE(agent_holds(&self->a[3], 8, "of node2", 8));
}

TEST_F(mrsw, who_waits_gets_the_page_when_its_writer_commits)
{
	ASSERT_EQ(0, agent_acquire(&self->a[1], 0, 8, DEADLINE_MS, 0));
	agent_ask_acquire(&self->a[2], 0, 8, DEADLINE_MS, HOTPOT_ACQUIRE_WAIT);
	ASSERT_EQ(0, agent_store(&self->a[1], 0, "first...", 8));
	sleep_ms(300);
	ASSERT_EQ(0, agent_commit(&self->a[1], 0, 8));
	ASSERT_EQ(0, agent_hear(&self->a[2], NULL));
	EXPECT_TRUE(agent_holds(&self->a[2], 0, "first...", 8));
}

TEST_F(mrsw, an_abort_drops_what_was_stored)
{
	ASSERT_EQ(0, agent_acquire(&self->a[1], 0, 2 * PAGE, DEADLINE_MS, 0));
	ASSERT_EQ(0, agent_store(&self->a[1], 0, "dropped!", 8));
	ASSERT_EQ(0, agent_store(&self->a[1], PAGE, "kept....", 8));
	EXPECT_EQ(EACCES, agent_abort(&self->a[2], 0, 8));
	ASSERT_EQ(0, agent_abort(&self->a[1], 0, 8));
	EXPECT_TRUE(agent_holds(&self->a[1], 0, "\0\0\0\0\0\0\0", 8));
	EXPECT_EQ(EFAULT, agent_store(&self->a[1], 0, "too late", 8));
	ASSERT_EQ(0, agent_commit(&self->a[1], PAGE, 8));
	EXPECT_TRUE(agent_holds(&self->a[2], PAGE, "kept....", 8));
	EXPECT_EQ(0, agent_abort(&self->a[1], 0, 0));
}

TEST_F(mrsw, a_process_that_dies_leaves_its_pages_to_others)
{
	ASSERT_EQ(0, agent_acquire(&self->a[1], 0, SIZE, DEADLINE_MS, 0));
	ASSERT_EQ(0, agent_store(&self->a[1], 0, "never...", 8));
	kill(self->a[1].pid, SIGKILL);
	agent_end(&self->a[1]);
	ASSERT_EQ(0, agent_acquire(&self->a[2], 0, SIZE, DEADLINE_MS, HOTPOT_ACQUIRE_WAIT));
	EXPECT_TRUE(agent_holds(&self->a[2], 0, "\0\0\0\0\0\0\0", 8));
}

TEST_F(mrsw, an_acquired_page_may_be_written_by_write)
{
	ASSERT_EQ(0, agent_acquire(&self->a[1], 0, 8, DEADLINE_MS, 0));
	ASSERT_EQ(0, agent_write(&self->a[1], 0, "written.", 8));
	EXPECT_TRUE(agent_holds(&self->a[2], 0, "written.", 8));
	EXPECT_EQ(EAGAIN, agent_acquire(&self->a[2], 0, 8, DEADLINE_MS, 0));
}

TEST_F(mrsw, bad_requests_are_refused)
{
	struct hotpot_info info;
	struct hotpot_area area;
	struct hotpot_acquire a = { .areas = (uintptr_t)&area, .nr_areas = 1 };
	int fd = open(at(&self->s, 1, "mrsw"), O_RDWR | O_CLOEXEC);
	int ro = open(at(&self->s, 1, "mrsw"), O_RDONLY | O_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_LE(0, ro);
	ASSERT_EQ(0, dataset_info(at(&self->s, 1, "mrsw"), &info));
	area = (struct hotpot_area){ info.base, 8 };
	EXPECT_EQ(EBADF, acquire_fd(ro, HOTPOT_IOC_ACQUIRE, &area, 1, 0, 0));
	EXPECT_EQ(EINVAL, acquire_fd(fd, HOTPOT_IOC_ACQUIRE, &area, 0, 0, 0));
	EXPECT_EQ(EINVAL, acquire_fd(fd, HOTPOT_IOC_ACQUIRE, &area, 1, 0, 2));
	EXPECT_EQ(EINVAL, acquire_fd(fd, HOTPOT_IOC_ABORT, &area, 1, 0, HOTPOT_ACQUIRE_WAIT));
	EXPECT_EQ(EINVAL, acquire_fd(fd, HOTPOT_IOC_ACQUIRE, &area, HOTPOT_MAX_AREAS + 1, 0, 0));
	EXPECT_EQ(EFAULT, acquire_fd(fd, HOTPOT_IOC_ACQUIRE, (void *)8, 1, 0, 0));
	a.reserved[1] = 1;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(fd, HOTPOT_IOC_ACQUIRE, &a)));
	area = (struct hotpot_area){ info.base + SIZE, 8 };
	EXPECT_EQ(EFAULT, acquire_fd(fd, HOTPOT_IOC_ACQUIRE, &area, 1, 0, 0));
	area = (struct hotpot_area){ info.base, 0 };
	EXPECT_EQ(EINVAL, acquire_fd(fd, HOTPOT_IOC_ACQUIRE, &area, 1, 0, 0));
	close(fd);
	close(ro);
}

TEST_HARNESS_MAIN
