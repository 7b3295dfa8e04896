// SPDX-License-Identifier: GPL-2.0
/* HOTPOT_IOC_SETUP and HOTPOT_IOC_INFO, and what is not there yet. */
#include "hotpot.h"

FIXTURE(dataset) {
	struct space s;
	int fd;
};

FIXTURE_SETUP(dataset)
{
	ASSERT_EQ(0, space_open(&self->s));
	unlink(at(&self->s, 1, "prop"));
	self->fd = open(at(&self->s, 1, "prop"), O_RDWR | O_CREAT | O_EXCL, 0644);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(dataset)
{
	close(self->fd);
	unlink(at(&self->s, 1, "prop"));
}

static int setup(int fd, struct hotpot_setup s)
{
	return ioctl(fd, HOTPOT_IOC_SETUP, &s) < 0 ? errno : 0;
}

TEST_F(dataset, is_mrmw_with_sensible_defaults)
{
	struct hotpot_info info = { 0 };

	ASSERT_EQ(0, ioctl(self->fd, HOTPOT_IOC_INFO, &info));
	EXPECT_EQ(HOTPOT_MRMW, info.mode);
	EXPECT_LE(1, info.replicas);
	EXPECT_EQ(0, info.size);
	EXPECT_EQ(0, info.base % PAGE);
	EXPECT_LE(65536, info.chunk_size);
	EXPECT_EQ(0, info.chunk_size & (info.chunk_size - 1));
	EXPECT_EQ(0, info.reserve % info.chunk_size);
	EXPECT_EQ(self->s.n[1].id, info.node);
	EXPECT_NE(0, info.epoch);
	EXPECT_NE(0, info.id);
}

TEST_F(dataset, that_is_empty_can_be_set_up_and_all_nodes_know)
{
	ASSERT_EQ(0, setup(self->fd, (struct hotpot_setup){ .replicas = 2, .mode = HOTPOT_MRMW,
							    .chunk_size = 131072, .reserve = 1ULL << 30 }));
	for (int i = 1; i <= 3; i++) {
		struct hotpot_info info;

		ASSERT_EQ(0, dataset_info(at(&self->s, i, "prop"), &info));
		EXPECT_EQ(2, info.replicas);
		EXPECT_EQ(131072, info.chunk_size);
		EXPECT_EQ(1ULL << 30, info.reserve);
		EXPECT_EQ(self->s.n[i].id, info.node);
	}
	/* 0 leaves it as it is. */
	ASSERT_EQ(0, setup(self->fd, (struct hotpot_setup){ .replicas = 3 }));
	struct hotpot_info info;

	ASSERT_EQ(0, dataset_info(at(&self->s, 3, "prop"), &info));
	EXPECT_EQ(3, info.replicas);
	EXPECT_EQ(131072, info.chunk_size);
}

TEST_F(dataset, that_is_not_empty_cannot_be_set_up)
{
	int err;

	ASSERT_EQ(1, write(self->fd, "x", 1));
	err = setup(self->fd, (struct hotpot_setup){ .replicas = 2 });
	EXPECT_TRUE(err == EBUSY || err == EINVAL) TH_LOG("%s", strerror(err));
	/* Not from another node either. */
	int other = open(at(&self->s, 2, "prop"), O_RDWR);

	err = setup(other, (struct hotpot_setup){ .chunk_size = CHUNK });
	EXPECT_TRUE(err == EBUSY || err == EINVAL) TH_LOG("%s", strerror(err));
	close(other);
}

TEST_F(dataset, setup_refuses_nonsense)
{
	EXPECT_EQ(EINVAL, setup(self->fd, (struct hotpot_setup){ .mode = 3 }));
	EXPECT_EQ(EINVAL, setup(self->fd, (struct hotpot_setup){ .mode = 0xffffffff }));
	EXPECT_EQ(EINVAL, setup(self->fd, (struct hotpot_setup){ .chunk_size = 4096 }));
	EXPECT_EQ(EINVAL, setup(self->fd, (struct hotpot_setup){ .chunk_size = 100000 }));
	EXPECT_EQ(EINVAL, setup(self->fd, (struct hotpot_setup){ .chunk_size = 1ULL << 31 }));
	EXPECT_EQ(EINVAL, setup(self->fd, (struct hotpot_setup){ .chunk_size = CHUNK, .reserve = CHUNK + PAGE }));
	for (int i = 0; i < 4; i++) {
		struct hotpot_setup s = { .replicas = 1 };

		s.reserved[i] = 1;
		EXPECT_EQ(EINVAL, setup(self->fd, s));
	}
	/* A reservation that the window cannot hold. */
	int err = setup(self->fd, (struct hotpot_setup){ .reserve = 1ULL << 60 });

	EXPECT_TRUE(err == EINVAL || err == ENOMEM || err == ENOSPC) TH_LOG("%s", strerror(err));
	struct hotpot_info info = { 0 };

	ASSERT_EQ(0, ioctl(self->fd, HOTPOT_IOC_INFO, &info));
	EXPECT_EQ(HOTPOT_MRMW, info.mode);
}

TEST_F(dataset, setup_needs_write_permission)
{
	int fd = open(at(&self->s, 1, "prop"), O_RDONLY), err;

	err = setup(fd, (struct hotpot_setup){ .replicas = 2 });
	EXPECT_TRUE(err == EBADF || err == EACCES || err == EPERM) TH_LOG("%s", strerror(err));
	close(fd);
}

static uint32_t outcome_of(int fd, uint64_t cid)
{
	struct hotpot_outcome o = { .cid = cid };

	return ioctl(fd, HOTPOT_IOC_OUTCOME, &o) < 0 ? 0 : o.outcome;
}

TEST_F(dataset, knows_on_each_node_what_became_of_a_commit)
{
	struct hotpot_outcome bad = { .cid = 1, .reserved = 1 };
	struct agent a;
	struct hotpot_area area = { 0, 8 };
	uint64_t cid = 0, never;

	ASSERT_EQ(0, ftruncate(self->fd, PAGE));
	ASSERT_EQ(0, agent_start(&a, at(&self->s, 1, "prop"), PAGE));
	ASSERT_EQ(0, agent_store(&a, 0, "outcome!", 8));
	agent_ask_commit(&a, &area, 1, 0, 0);
	ASSERT_EQ(0, agent_hear(&a, &cid));
	never = cid + 1000;
	for (int i = 1; i <= 3; i++) {
		int fd = open(at(&self->s, i, "prop"), O_RDONLY | O_CLOEXEC);

		EXPECT_EQ(HOTPOT_OUTCOME_COMMITTED, outcome_of(fd, cid)) TH_LOG("node %d", i);
		EXPECT_EQ(HOTPOT_OUTCOME_ABORTED, outcome_of(fd, never)) TH_LOG("node %d", i);
		close(fd);
	}
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_OUTCOME, &bad)));
	agent_end(&a);
}

TEST_F(dataset, of_many_writers_has_nothing_to_acquire)
{
	struct hotpot_info info;
	struct hotpot_area area = { 0, 8 };

	ASSERT_EQ(0, dataset_info(at(&self->s, 1, "prop"), &info));
	area.addr = info.base;
	EXPECT_EQ(EINVAL, setup(self->fd, (struct hotpot_setup){ .mode = 3 }));
	EXPECT_EQ(EINVAL, acquire_fd(self->fd, HOTPOT_IOC_ACQUIRE, &area, 1, 0, 0));
	ASSERT_EQ(0, ftruncate(self->fd, PAGE));
	EXPECT_EQ(EINVAL, acquire_fd(self->fd, HOTPOT_IOC_ACQUIRE, &area, 1, 0, 0));
	EXPECT_EQ(EACCES, acquire_fd(self->fd, HOTPOT_IOC_ABORT, &area, 1, 0, 0));
	EXPECT_EQ(0, acquire_fd(self->fd, HOTPOT_IOC_ABORT, NULL, 0, 0, 0));
}

TEST_F(dataset, chunks_go_round_the_nodes)
{
	struct hotpot_chunk chunks[9];
	struct hotpot_info info = { .chunks = (uintptr_t)chunks, .nr_chunks = 9 };
	int owned[16] = { 0 };

	ASSERT_EQ(0, setup(self->fd, (struct hotpot_setup){ .chunk_size = CHUNK }));
	ASSERT_EQ(0, ftruncate(self->fd, 9 * CHUNK));
	ASSERT_EQ(0, ioctl(self->fd, HOTPOT_IOC_INFO, &info));
	EXPECT_EQ(9, info.nr_chunks);
	for (int k = 0; k < 9; k++) {
		ASSERT_LT(chunks[k].owner, 16);
		owned[chunks[k].owner]++;
		EXPECT_EQ(0, chunks[k].reserved);
		EXPECT_EQ(0, chunks[k].nr_dirty);
	}
	for (int i = 1; i <= 3; i++) {
		EXPECT_EQ(3, owned[self->s.n[i].id]) TH_LOG("node %d", i);
	}
}

TEST_F(dataset, info_with_little_room_says_how_much_there_is)
{
	struct hotpot_chunk chunks[2] = { { .owner = 0xffff }, { .owner = 0xffff } };
	struct hotpot_info info = { .chunks = (uintptr_t)chunks, .nr_chunks = 1 };

	ASSERT_EQ(0, setup(self->fd, (struct hotpot_setup){ .chunk_size = CHUNK }));
	ASSERT_EQ(0, ftruncate(self->fd, 9 * CHUNK));
	ASSERT_EQ(0, ioctl(self->fd, HOTPOT_IOC_INFO, &info));
	EXPECT_EQ(9, info.nr_chunks);
	EXPECT_NE(0xffff, chunks[0].owner);
	EXPECT_EQ(0xffff, chunks[1].owner);
	/* Without an array only the count. */
	info = (struct hotpot_info){ 0 };
	ASSERT_EQ(0, ioctl(self->fd, HOTPOT_IOC_INFO, &info));
	EXPECT_EQ(9, info.nr_chunks);
}

TEST_F(dataset, info_counts_pages_by_state)
{
	struct hotpot_info info;
	struct agent a;
	char page[PAGE];

	ASSERT_EQ(0, ftruncate(self->fd, 1 << 20));
	ASSERT_EQ(0, agent_start(&a, at(&self->s, 1, "prop"), 1 << 20));
	memset(page, 1, PAGE);
	for (int k = 0; k < 5; k++) {
		ASSERT_EQ(0, agent_store(&a, k * PAGE, page, PAGE));
	}
	ASSERT_EQ(0, dataset_info(at(&self->s, 1, "prop"), &info));
	EXPECT_EQ(5, info.nr_dirty);
	ASSERT_EQ(0, agent_commit(&a, 0, 5 * PAGE));
	EXPECT_TRUE(agent_holds(&a, 0, page, PAGE));
	ASSERT_EQ(0, dataset_info(at(&self->s, 1, "prop"), &info));
	EXPECT_EQ(0, info.nr_dirty);
	EXPECT_LE(1, info.nr_committed + info.nr_redundant);
	agent_end(&a);
}

TEST_F(dataset, info_refuses_bad_pointers_and_reserved_fields)
{
	struct hotpot_info info = { .nr_chunks = 4, .chunks = (uintptr_t)bad_pointer() };

	ASSERT_EQ(0, ftruncate(self->fd, 1 << 20));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_INFO, &info)));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_INFO, NULL)));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_INFO, bad_pointer())));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_SETUP, bad_pointer())));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_SETUP, NULL)));
	info = (struct hotpot_info){ 0 };
	info.reserved[3] = 1;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_INFO, &info)));
}

TEST_F(dataset, unknown_ioctls_are_enotty)
{
	char room[4096] = { 0 };

	EXPECT_EQ(ENOTTY, ERRNO_OF(ioctl(self->fd, _IO(HOTPOT_IOC_MAGIC, 99), room)));
	EXPECT_EQ(ENOTTY, ERRNO_OF(ioctl(self->fd, _IOWR(HOTPOT_IOC_MAGIC, 0, char[16]), room)));
	EXPECT_EQ(ENOTTY, ERRNO_OF(ioctl(self->fd, 0x5401, room)));
}

TEST_HARNESS_MAIN
