// SPDX-License-Identifier: GPL-2.0
/* Mappings: one address on all nodes, and what a mapping may not be. */
#include <linux/futex.h>
#include "hotpot.h"

#define SIZE (4 * CHUNK)

FIXTURE(mapping) {
	struct space s;
	int fd;
	uint64_t base;
};

FIXTURE_SETUP(mapping)
{
	struct hotpot_info info;

	ASSERT_EQ(0, space_open(&self->s));
	ASSERT_EQ(0, dataset_make(&self->s, 1, "map", SIZE, 1));
	ASSERT_EQ(0, dataset_info(at(&self->s, 1, "map"), &info));
	self->base = info.base;
	self->fd = open(at(&self->s, 1, "map"), O_RDWR);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(mapping)
{
	close(self->fd);
	unlink(at(&self->s, 1, "map"));
}

#define RW (PROT_READ | PROT_WRITE)

TEST_F(mapping, lands_at_the_base_of_the_dataset)
{
	char *map = mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0);

	ASSERT_NE(MAP_FAILED, map) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(self->base, (uintptr_t)map);
	EXPECT_GE(self->base, HOTPOT_WINDOW_START);
	EXPECT_LT(self->base, HOTPOT_WINDOW_END);
}

TEST_F(mapping, of_a_part_lands_at_its_place)
{
	char *map = mmap(NULL, PAGE, RW, MAP_SHARED, self->fd, CHUNK);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(self->base + CHUNK, (uintptr_t)map);
	/* Parts side by side do not hinder each other. */
	map = mmap(NULL, PAGE, RW, MAP_SHARED, self->fd, CHUNK + PAGE);
	EXPECT_EQ(self->base + CHUNK + PAGE, (uintptr_t)map);
}

TEST_F(mapping, is_at_the_same_address_on_all_nodes)
{
	struct agent a[4];

	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, agent_start(&a[i], at(&self->s, i, "map"), SIZE));
		EXPECT_EQ(self->base, a[i].base);
		agent_end(&a[i]);
	}
}

TEST_F(mapping, of_different_datasets_never_meets)
{
	struct hotpot_info info;
	uint64_t base[8];

	for (int k = 0; k < 8; k++) {
		char name[16];

		snprintf(name, sizeof(name), "map%d", k);
		ASSERT_EQ(0, dataset_make(&self->s, 1 + k % 3, name, SIZE, 1));
		ASSERT_EQ(0, dataset_info(at(&self->s, 1, name), &info));
		base[k] = info.base;
		for (int j = 0; j < k; j++) {
			EXPECT_TRUE(base[k] >= base[j] + info.reserve || base[j] >= base[k] + info.reserve);
		}
		EXPECT_TRUE(base[k] >= self->base + info.reserve || self->base >= base[k] + info.reserve);
	}
	for (int k = 0; k < 8; k++) {
		char name[16];

		snprintf(name, sizeof(name), "map%d", k);
		unlink(at(&self->s, 1, name));
	}
}

TEST_F(mapping, on_an_occupied_address_is_eaddrinuse_and_never_moves)
{
	void *squatter = mmap((void *)self->base, PAGE, RW,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	ASSERT_EQ(self->base, (uintptr_t)squatter);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(EADDRINUSE, errno);
	munmap(squatter, PAGE);
	/* At the far end as well. */
	squatter = mmap((void *)(self->base + SIZE - PAGE), PAGE, RW,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(EADDRINUSE, errno);
	munmap(squatter, PAGE);
	EXPECT_EQ((void *)self->base, mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0));
}

TEST_F(mapping, a_second_time_in_one_process_is_eaddrinuse)
{
	int other = open(at(&self->s, 2, "map"), O_RDWR);

	ASSERT_NE(MAP_FAILED, mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(EADDRINUSE, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SIZE, RW, MAP_SHARED, other, 0));
	EXPECT_EQ(EADDRINUSE, errno);
	close(other);
}

TEST_F(mapping, elsewhere_by_map_fixed_is_refused)
{
	void *other = (void *)(self->base + (1ULL << 40));

	EXPECT_EQ(MAP_FAILED, mmap(other, PAGE, RW, MAP_SHARED | MAP_FIXED_NOREPLACE, self->fd, 0));
	EXPECT_TRUE(errno == EINVAL || errno == EADDRINUSE) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(MAP_FAILED, mmap((void *)0x20000000, PAGE, RW, MAP_SHARED | MAP_FIXED, self->fd, 0));
	EXPECT_TRUE(errno == EINVAL || errno == EADDRINUSE) TH_LOG("%s", strerror(errno));
	/* By its own address it is what it would be anyway. */
	EXPECT_EQ((void *)self->base, mmap((void *)self->base, PAGE, RW,
					   MAP_SHARED | MAP_FIXED_NOREPLACE, self->fd, 0));
}

TEST_F(mapping, that_is_private_is_refused)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SIZE, RW, MAP_PRIVATE, self->fd, 0));
	EXPECT_TRUE(errno == EINVAL || errno == EOPNOTSUPP) TH_LOG("%s", strerror(errno));
}

TEST_F(mapping, for_writing_needs_a_file_open_for_writing)
{
	int fd = open(at(&self->s, 1, "map"), O_RDONLY);
	char *map;

	EXPECT_EQ(MAP_FAILED, mmap(NULL, SIZE, RW, MAP_SHARED, fd, 0));
	EXPECT_EQ(EACCES, errno);
	map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, map) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, map[0]);
	EXPECT_EQ(EACCES, ERRNO_OF(mprotect(map, PAGE, RW)));
	close(fd);
}

TEST_F(mapping, cannot_be_moved_by_mremap)
{
	char *map = mmap(NULL, PAGE, RW, MAP_SHARED, self->fd, 0), *moved;

	ASSERT_NE(MAP_FAILED, map);
	moved = mremap(map, PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)0x7f0000000000);
	EXPECT_EQ(MAP_FAILED, moved);
}

/* SQLite tries it, and goes on by read(2). */
TEST_F(mapping, cannot_grow_by_mremap_and_a_new_one_is_as_large_as_it_may)
{
	char *map = mmap(NULL, CHUNK, RW, MAP_SHARED, self->fd, 0);

	ASSERT_NE(MAP_FAILED, map);
	map[0] = 1;
	EXPECT_EQ(MAP_FAILED, mremap(map, CHUNK, SIZE, MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(1, map[0]);
	EXPECT_EQ(0, msync(map, CHUNK, MS_SYNC));
	munmap(map, CHUNK);
	map = mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(1, map[0]);
}

/* LMDB's lock file has mutexes: it must lie elsewhere. */
TEST_F(mapping, has_no_futexes_that_processes_share)
{
	uint32_t *map = mmap(NULL, CHUNK, RW, MAP_SHARED, self->fd, 0);

	ASSERT_NE(MAP_FAILED, map);
	*map = 1;
	EXPECT_EQ(EFAULT, ERRNO_OF(syscall(SYS_futex, map, FUTEX_WAKE, 1, NULL, NULL, 0)));
}

TEST_F(mapping, beyond_the_end_is_sigbus)
{
	char *map, c = 1;

	ASSERT_EQ(0, ftruncate(self->fd, PAGE + 10));
	map = mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, careful_copy(map + PAGE + 9, &c, 1));
	EXPECT_EQ(EFAULT, careful_copy(&c, map + 2 * PAGE, 1));
	EXPECT_EQ(EFAULT, careful_copy(map + 3 * PAGE, &c, 1));
	/* Growing the file makes it good. */
	ASSERT_EQ(0, ftruncate(self->fd, SIZE));
	EXPECT_EQ(0, careful_copy(map + 3 * PAGE, &c, 1));
}

TEST_F(mapping, of_more_than_the_reservation_is_refused)
{
	struct hotpot_info info;

	ASSERT_EQ(0, dataset_info(at(&self->s, 1, "map"), &info));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, info.reserve + PAGE, RW, MAP_SHARED | MAP_NORESERVE, self->fd, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, RW, MAP_SHARED, self->fd, info.reserve));
}

TEST_F(mapping, reads_zeros_where_nothing_was_written)
{
	char zeros[PAGE] = { 0 };
	struct agent a;

	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, agent_start(&a, at(&self->s, i, "map"), SIZE));
		EXPECT_TRUE(agent_holds(&a, 2 * CHUNK + 5, zeros, PAGE));
		agent_end(&a);
	}
}

/* A list whose links are plain pointers, built on one node, walked on another. */
struct item {
	struct item *next;
	uint64_t value;
};

static int walk(const char *path, uint64_t expected)
{
	int fd = open(path, O_RDWR);
	struct item **head = mmap(NULL, SIZE, RW, MAP_SHARED, fd, 0);
	uint64_t sum = 0;

	if (head == MAP_FAILED)
		return errno;
	for (struct item *i = *head; i; i = i->next)
		sum += i->value;
	return sum == expected ? 0 : 255;
}

TEST_F(mapping, makes_plain_pointers_good_on_every_node_and_after_a_restart)
{
	char *map = mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0);
	struct item **head = (struct item **)map;

	ASSERT_NE(MAP_FAILED, map);
	for (int k = 0; k < 50; k++) {
		struct item *item = (struct item *)(map + 64 + k * 5000);

		item->value = k;
		item->next = *head;
		*head = item;
	}
	ASSERT_EQ(0, msync(map, SIZE, MS_SYNC));
	munmap(map, SIZE);
	close(self->fd);
	for (int round = 0; round < 2; round++) {
		for (int i = 1; i <= 3; i++) {
			pid_t child = fork();
			int status;

			if (!child)
				_exit(walk(at(&self->s, i, "map"), 49 * 50 / 2));
			waitpid(child, &status, 0);
			EXPECT_EQ(0, WEXITSTATUS(status)) TH_LOG("node %d, restart %d", i, round);
		}
		if (!round) {
			ASSERT_EQ(0, space_restart(&self->s));
		}
	}
}

TEST_F(mapping, stays_valid_after_close)
{
	char *map = mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0);

	ASSERT_NE(MAP_FAILED, map);
	close(self->fd);
	self->fd = -1;
	memcpy(map, "still", 5);
	EXPECT_EQ(0, msync(map, PAGE, MS_SYNC));
	EXPECT_TRUE(holds(at(&self->s, 3, "map"), 0, "still", 5));
	EXPECT_EQ(EBUSY, place_umount(&self->s.n[1]));
}

TEST_F(mapping, truncated_by_another_node_is_sigbus_then)
{
	char *map = mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0), c = 1;

	ASSERT_NE(MAP_FAILED, map);
	memset(map, 7, SIZE);
	ASSERT_EQ(0, msync(map, SIZE, MS_SYNC));
	ASSERT_EQ(0, truncate(at(&self->s, 2, "map"), CHUNK));
	EXPECT_EQ(0, careful_copy(&c, map, 1));
	EXPECT_EQ(EFAULT, careful_copy(&c, map + 2 * CHUNK, 1));
	ASSERT_EQ(0, truncate(at(&self->s, 3, "map"), SIZE));
	EXPECT_EQ(0, careful_copy(&c, map + 2 * CHUNK, 1));
	EXPECT_EQ(0, c);
}

TEST_F(mapping, dirty_stores_are_private_to_the_node_but_shared_in_it)
{
	struct agent one, two, other;

	ASSERT_EQ(0, agent_start(&one, at(&self->s, 1, "map"), SIZE));
	ASSERT_EQ(0, agent_start(&two, at(&self->s, 1, "map"), SIZE));
	ASSERT_EQ(0, agent_start(&other, at(&self->s, 2, "map"), SIZE));
	ASSERT_EQ(0, agent_store(&one, 10, "dirty", 5));
	EXPECT_TRUE(agent_holds(&two, 10, "dirty", 5));
	EXPECT_TRUE(agent_holds(&other, 10, "\0\0\0\0\0", 5));
	/* One process stores, another of the node commits. */
	ASSERT_EQ(0, agent_commit(&two, 10, 5));
	EXPECT_TRUE(agent_holds(&other, 10, "dirty", 5));
	agent_end(&one);
	agent_end(&two);
	agent_end(&other);
}

TEST_HARNESS_MAIN
