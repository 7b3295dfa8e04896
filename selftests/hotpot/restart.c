// SPDX-License-Identifier: GPL-2.0
/* Unmount and mount again, of one node and of all: what is on PM comes back. */
#include "hotpot.h"

#define SIZE (8 * CHUNK)

FIXTURE(restart) {
	struct cluster c;
	struct space s;
};

FIXTURE_SETUP(restart)
{
	ASSERT_EQ(0, space_open(&self->s));
	ASSERT_EQ(0, dataset_make(&self->s, 1, "keep", SIZE, 2));
}

FIXTURE_TEARDOWN(restart)
{
	for (int i = 1; i <= 3; i++)
		place_mount(&self->s.n[i]);
	unlink(at(&self->s, 1, "keep"));
}

#define DS(i) at(&self->s, i, "keep")

TEST_F(restart, of_one_mount_finds_what_was_committed)
{
	static char bytes[SIZE];

	fill(bytes, SIZE, 21);
	ASSERT_EQ(0, poke(DS(1), 0, bytes, SIZE));
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, place_umount(&self->s.n[i]));
		ASSERT_EQ(0, place_mount(&self->s.n[i]));
		EXPECT_TRUE(holds(DS(i), 0, bytes, SIZE)) TH_LOG("node %d after its remount", i);
	}
	for (int i = 1; i <= 3; i++) {
		EXPECT_TRUE(holds(DS(i), 0, bytes, SIZE)) TH_LOG("node %d at the end", i);
	}
}

TEST_F(restart, of_a_mount_catches_up_with_what_it_missed)
{
	char got[8];

	ASSERT_EQ(0, poke(DS(1), 0, "old data", 8));
	ASSERT_TRUE(holds(DS(3), 0, "old data", 8));
	ASSERT_EQ(0, place_umount(&self->s.n[3]));
	/* The map must say so, else its copies are waited for. */
	ASSERT_EQ(0, space_publish(&self->s, self->s.n[3].id, RDMA_LITE_NODE_DOWN, 0));
	/* Chunk 0 may be owned by the node that is away: use one that answers. */
	int err = EAGAIN;
	uint64_t off = 0;

	for (off = 0; off < SIZE && err; off += CHUNK)
		err = poke(DS(1), off, "new data", 8);
	ASSERT_EQ(0, err) TH_LOG("%s", strerror(err));
	off -= CHUNK;
	ASSERT_EQ(0, space_publish(&self->s, self->s.n[3].id, RDMA_LITE_NODE_UP, 0));
	ASSERT_EQ(0, place_mount(&self->s.n[3]));
	ASSERT_EQ(0, peek(DS(3), off, got, 8)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, memcmp(got, "new data", 8));
}

TEST_F(restart, of_all_nodes_finds_all_datasets_equal)
{
	static char bytes[SIZE];
	struct hotpot_info before[4], after;
	struct stat st;

	for (int k = 0; k < 4; k++) {
		char name[16];

		snprintf(name, sizeof(name), "keep%d", k);
		ASSERT_EQ(0, dataset_make(&self->s, 1 + k % 3, name, SIZE, 1 + k % 3));
		fill(bytes, SIZE, 30 + k);
		ASSERT_EQ(0, poke(at(&self->s, 1 + (k + 1) % 3, name), 0, bytes, SIZE - k * 1000));
		ASSERT_EQ(0, chmod(at(&self->s, 1, name), 0600 + k));
		ASSERT_EQ(0, dataset_info(at(&self->s, 1, name), &before[k]));
	}
	for (int round = 0; round < 2; round++) {
		ASSERT_EQ(0, space_restart(&self->s));
		for (int k = 0; k < 4; k++) {
			char name[16];

			snprintf(name, sizeof(name), "keep%d", k);
			fill(bytes, SIZE, 30 + k);
			for (int i = 1; i <= 3; i++) {
				ASSERT_EQ(0, stat(at(&self->s, i, name), &st));
				EXPECT_EQ(0600 + k, st.st_mode & 07777);
				EXPECT_EQ(SIZE, st.st_size);
				EXPECT_TRUE(holds(at(&self->s, i, name), 0, bytes, SIZE - k * 1000))
					TH_LOG("%s on node %d after restart %d", name, i, round);
				ASSERT_EQ(0, dataset_info(at(&self->s, i, name), &after));
				EXPECT_EQ(before[k].base, after.base);
				EXPECT_EQ(before[k].id, after.id);
				EXPECT_EQ(before[k].replicas, after.replicas);
				EXPECT_EQ(before[k].chunk_size, after.chunk_size);
			}
		}
	}
	for (int k = 0; k < 4; k++) {
		char name[16];

		snprintf(name, sizeof(name), "keep%d", k);
		EXPECT_EQ(0, unlink(at(&self->s, 1, name)));
	}
	ASSERT_EQ(0, space_restart(&self->s));
	EXPECT_EQ(ENOENT, ERRNO_OF(access(at(&self->s, 2, "keep1"), F_OK))) TH_LOG("it was unlinked");
}

TEST_F(restart, forgets_stores_that_were_not_committed)
{
	struct agent a;

	ASSERT_EQ(0, agent_start(&a, DS(2), SIZE));
	ASSERT_EQ(0, agent_store(&a, 0, "yes", 3));
	ASSERT_EQ(0, agent_commit(&a, 0, 3));
	ASSERT_EQ(0, agent_store(&a, 100, "no", 2));
	ASSERT_EQ(0, agent_store(&a, 3 * CHUNK, "no", 2));
	agent_end(&a);
	ASSERT_EQ(0, space_restart(&self->s));
	for (int i = 1; i <= 3; i++) {
		EXPECT_TRUE(holds(DS(i), 0, "yes", 3));
		EXPECT_TRUE(holds(DS(i), 100, "\0\0", 2));
		EXPECT_TRUE(holds(DS(i), 3 * CHUNK, "\0\0", 2));
	}
}

TEST_F(restart, goes_on_with_commits_and_new_ids)
{
	uint64_t before, after;
	struct hotpot_area area;

	for (int round = 0; round < 2; round++) {
		int fd = open(DS(1), O_RDWR);
		char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		ASSERT_NE(MAP_FAILED, map);
		area = (struct hotpot_area){ (uintptr_t)map, 8 };
		map[round] = 'a' + round;
		ASSERT_EQ(0, commit_fd(fd, &area, 1, 3, DEADLINE_MS, round ? &after : &before));
		munmap(map, SIZE);
		close(fd);
		if (!round) {
			ASSERT_EQ(0, space_restart(&self->s));
		}
	}
	EXPECT_LT(before, after);
	EXPECT_TRUE(holds(DS(3), 0, "ab", 2));
}

TEST_HARNESS_MAIN
