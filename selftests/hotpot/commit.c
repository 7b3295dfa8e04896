// SPDX-License-Identifier: GPL-2.0
/* Commit: exactly the areas, all or nothing, on as many nodes as asked. */
#include "hotpot.h"

#define SIZE (8 * CHUNK)

FIXTURE(commit) {
	struct space s;
	struct agent a[SPACE_NODES + 1];
};

FIXTURE_SETUP(commit)
{
	ASSERT_EQ(0, space_open(&self->s));
	ASSERT_EQ(0, dataset_make(&self->s, 1, "commit", SIZE, 1));
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, agent_start(&self->a[i], at(&self->s, i, "commit"), SIZE));
	}
}

FIXTURE_TEARDOWN(commit)
{
	for (int i = 1; i <= 3; i++)
		agent_end(&self->a[i]);
	unlink(at(&self->s, 1, "commit"));
}

#define DS(i) at(&self->s, i, "commit")

TEST_F(commit, of_stores_makes_them_visible_on_every_node)
{
	EXPECT_EQ(0, agent_store(&self->a[1], 100, "hello", 5));
	EXPECT_TRUE(agent_holds(&self->a[1], 100, "hello", 5));
	EXPECT_TRUE(agent_holds(&self->a[2], 100, "\0\0\0\0\0", 5));
	EXPECT_EQ(0, agent_commit(&self->a[1], 100, 5));
	for (int i = 1; i <= 3; i++) {
		EXPECT_TRUE(agent_holds(&self->a[i], 100, "hello", 5)) TH_LOG("loaded on node %d", i);
		EXPECT_TRUE(holds(DS(i), 100, "hello", 5)) TH_LOG("read on node %d", i);
	}
}

TEST_F(commit, publishes_exactly_the_bytes_of_its_areas)
{
	struct hotpot_area areas[] = { { 1, 2 }, { 4095, 2 }, { PAGE + 7, 1 } };
	char want[2 * PAGE] = { 0 }, ones[2 * PAGE];

	memset(ones, 1, sizeof(ones));
	ASSERT_EQ(0, agent_store(&self->a[1], 0, ones, sizeof(ones)));
	ASSERT_EQ(0, agent_commit_areas(&self->a[1], areas, 3, 0, 0));
	for (int i = 0; i < 3; i++)
		memset(want + areas[i].addr, 1, areas[i].len);
	EXPECT_TRUE(agent_holds(&self->a[2], 0, want, sizeof(want)));
	EXPECT_TRUE(agent_holds(&self->a[3], 0, want, sizeof(want)));
	EXPECT_TRUE(holds(DS(2), 0, want, sizeof(want)));
}

TEST_F(commit, leaves_other_dirty_bytes_of_the_page_private_and_dirty)
{
	struct hotpot_info info;

	ASSERT_EQ(0, agent_store(&self->a[1], 0, "AAAA", 4));
	ASSERT_EQ(0, agent_store(&self->a[1], 8, "BBBB", 4));
	ASSERT_EQ(0, agent_commit(&self->a[1], 0, 4));
	EXPECT_TRUE(agent_holds(&self->a[1], 8, "BBBB", 4));
	EXPECT_TRUE(holds(DS(2), 8, "\0\0\0\0", 4));
	ASSERT_EQ(0, dataset_info(DS(1), &info));
	EXPECT_EQ(1, info.nr_dirty);
	ASSERT_EQ(0, agent_commit(&self->a[1], 8, 4));
	EXPECT_TRUE(agent_holds(&self->a[2], 0, "AAAA\0\0\0\0BBBB", 12));
	ASSERT_EQ(0, dataset_info(DS(1), &info));
	EXPECT_EQ(0, info.nr_dirty);
}

TEST_F(commit, of_another_node_does_not_touch_bytes_that_are_dirty_here)
{
	ASSERT_EQ(0, agent_store(&self->a[1], 0, "mine", 4));
	ASSERT_EQ(0, agent_store(&self->a[2], 16, "theirs", 6));
	ASSERT_EQ(0, agent_commit(&self->a[2], 16, 6));
	EXPECT_TRUE(agent_holds(&self->a[1], 0, "mine", 4));
	ASSERT_EQ(0, agent_commit(&self->a[1], 0, 4));
	for (int i = 1; i <= 3; i++) {
		EXPECT_TRUE(holds(DS(i), 0, "mine", 4));
		EXPECT_TRUE(holds(DS(i), 16, "theirs", 6));
	}
	EXPECT_TRUE(agent_holds(&self->a[1], 16, "theirs", 6));
}

TEST_F(commit, of_clean_bytes_publishes_them_as_they_are)
{
	ASSERT_EQ(0, agent_store(&self->a[1], 0, "old", 3));
	ASSERT_EQ(0, agent_commit(&self->a[1], 0, 3));
	EXPECT_TRUE(agent_holds(&self->a[2], 0, "old", 3));
	EXPECT_EQ(0, agent_commit(&self->a[2], 0, 3));
	EXPECT_EQ(0, agent_commit(&self->a[2], 5 * CHUNK, 10));
	EXPECT_TRUE(agent_holds(&self->a[3], 0, "old", 3));
}

TEST_F(commit, of_areas_over_many_pages_chunks_and_owners_arrives_whole)
{
	struct hotpot_area areas[64];
	static char bytes[SIZE];

	fill(bytes, SIZE, 7);
	ASSERT_EQ(0, agent_store(&self->a[2], 0, bytes, SIZE));
	/* Areas of odd lengths that cross page and chunk borders. */
	for (int i = 0; i < 64; i++)
		areas[i] = (struct hotpot_area){ i * (SIZE / 64) + i, SIZE / 64 - 2 * i - 1 };
	ASSERT_EQ(0, agent_commit_areas(&self->a[2], areas, 64, 2, DEADLINE_MS));
	for (int i = 0; i < 64; i++) {
		EXPECT_TRUE(holds(DS(1), areas[i].addr, bytes + areas[i].addr, areas[i].len)) TH_LOG("area %d", i);
		EXPECT_TRUE(agent_holds(&self->a[3], areas[i].addr, bytes + areas[i].addr, areas[i].len))
			TH_LOG("area %d", i);
	}
}

TEST_F(commit, of_very_many_small_areas_arrives_whole)
{
	enum { NR = 4096 };
	struct hotpot_area *areas = calloc(NR, sizeof(*areas));
	uint64_t value;

	for (uint64_t i = 0; i < NR; i++) {
		value = i + 1;
		areas[i] = (struct hotpot_area){ i * 64, 8 };
		ASSERT_EQ(0, agent_store(&self->a[1], i * 64, &value, 8));
	}
	ASSERT_EQ(0, agent_commit_areas(&self->a[1], areas, NR, 1, DEADLINE_MS));
	for (uint64_t i = 0; i < NR; i += 37) {
		value = i + 1;
		EXPECT_TRUE(holds(DS(2), i * 64, &value, 8));
	}
	free(areas);
}

TEST_F(commit, reaches_one_two_or_three_replicas)
{
	struct hotpot_area area = { 0, 3 * PAGE };
	struct hotpot_chunk chunks[8];

	for (int replicas = 1; replicas <= 3; replicas++) {
		char bytes[3 * PAGE];
		struct hotpot_info info = { .nr_chunks = 8, .chunks = (uintptr_t)chunks };
		unsigned int least = 0;

		fill(bytes, sizeof(bytes), replicas);
		ASSERT_EQ(0, agent_store(&self->a[1], 0, bytes, sizeof(bytes)));
		ASSERT_EQ(0, agent_commit_areas(&self->a[1], &area, 1, replicas, DEADLINE_MS));
		for (int i = 1; i <= 3; i++) {
			int fd = open(DS(i), O_RDONLY);

			info = (struct hotpot_info){ .nr_chunks = 8, .chunks = (uintptr_t)chunks };
			ASSERT_EQ(0, ioctl(fd, HOTPOT_IOC_INFO, &info));
			close(fd);
			if (chunks[0].owner == info.node)
				least = chunks[0].min_replicas;
		}
		EXPECT_GE(least, replicas);
		EXPECT_TRUE(holds(DS(3), 0, bytes, sizeof(bytes)));
	}
}

TEST_F(commit, with_more_replicas_than_live_nodes_is_ehostdown_and_publishes_nothing)
{
	struct hotpot_area area = { 0, 4 };

	ASSERT_EQ(0, agent_store(&self->a[1], 0, "four", 4));
	EXPECT_EQ(EHOSTDOWN, agent_commit_areas(&self->a[1], &area, 1, 4, 0));
	EXPECT_EQ(EHOSTDOWN, agent_commit_areas(&self->a[1], &area, 1, 0xffffffff, 0));
	EXPECT_TRUE(holds(DS(2), 0, "\0\0\0\0", 4));
	EXPECT_TRUE(agent_holds(&self->a[1], 0, "four", 4));
	/* A node that the map says is down counts no more, and is missed no more. */
	ASSERT_EQ(0, space_publish(&self->s, self->s.n[3].id, RDMA_LITE_NODE_DOWN, 0));
	EXPECT_EQ(EHOSTDOWN, agent_commit_areas(&self->a[1], &area, 1, 3, 0));
	ASSERT_EQ(0, space_publish(&self->s, self->s.n[3].id, RDMA_LITE_NODE_UP, 0));
	EXPECT_TRUE(EVENTUALLY(DEADLINE_MS, agent_commit_areas(&self->a[1], &area, 1, 3, 0) == 0));
	EXPECT_TRUE(holds(DS(3), 0, "four", 4));
}

TEST_F(commit, gives_every_attempt_an_id_of_its_own)
{
	int fd = open(DS(1), O_RDWR);
	struct hotpot_info info;
	uint64_t cid, last = 0;
	char *map;

	ASSERT_EQ(0, dataset_info(DS(1), &info));
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	for (int i = 0; i < 5; i++) {
		struct hotpot_area area = { (uintptr_t)map, 8 };

		map[0]++;
		ASSERT_EQ(0, commit_fd(fd, &area, 1, 0, 0, &cid));
		EXPECT_EQ(info.node, cid >> 48);
		EXPECT_LT(last, cid);
		last = cid;
	}
	struct hotpot_area area = { (uintptr_t)map, 8 };

	EXPECT_EQ(EHOSTDOWN, commit_fd(fd, &area, 1, 9, 0, &cid));
	EXPECT_NE(last, cid);
}

/* --- conflicts ------------------------------------------------------------------ */

TEST_F(commit, of_disjoint_bytes_of_one_page_by_all_nodes_at_once_succeeds)
{
	for (int round = 0; round < 20; round++) {
		struct hotpot_area area[4];
		char bytes[4][64];

		for (int i = 1; i <= 3; i++) {
			area[i] = (struct hotpot_area){ 64 * i, 64 };
			fill(bytes[i], 64, round * 10 + i);
			ASSERT_EQ(0, agent_store(&self->a[i], 64 * i, bytes[i], 64));
		}
		for (int i = 1; i <= 3; i++)
			agent_ask_commit(&self->a[i], &area[i], 1, 2, DEADLINE_MS);
		for (int i = 1; i <= 3; i++) {
			EXPECT_EQ(0, agent_hear(&self->a[i], NULL)) TH_LOG("round %d, node %d", round, i);
		}
		for (int i = 1; i <= 3; i++) {
			for (int k = 1; k <= 3; k++) {
				ASSERT_TRUE(holds(DS(i), 64 * k, bytes[k], 64))
					TH_LOG("round %d: node %d misses what node %d wrote", round, i, k);
			}
		}
	}
}

TEST_F(commit, that_overlaps_one_in_flight_succeeds_or_is_eagain_and_is_never_mixed)
{
	enum { LEN = 2 * PAGE };	/* two pages of two chunks: two owners */
	uint64_t off = CHUNK - PAGE;
	struct hotpot_area area = { off, LEN };
	static char bytes[4][LEN], now[LEN];
	int won = 0, again = 0;

	for (int round = 0; round < 30; round++) {
		int result[4], match = 0;

		for (int i = 1; i <= 3; i++) {
			fill(bytes[i], LEN, round * 100 + i);
			ASSERT_EQ(0, agent_store(&self->a[i], off, bytes[i], LEN));
		}
		for (int i = 1; i <= 3; i++)
			agent_ask_commit(&self->a[i], &area, 1, 1 + round % 3, DEADLINE_MS);
		for (int i = 1; i <= 3; i++) {
			result[i] = agent_hear(&self->a[i], NULL);
			ASSERT_TRUE(result[i] == 0 || result[i] == EAGAIN)
				TH_LOG("round %d node %d: %s", round, i, strerror(result[i]));
			won += !result[i];
			again += result[i] == EAGAIN;
		}
		/* A loser still sees its own dirty bytes: ask the winners. */
		for (int w = 1; w <= 3; w++) {
			if (result[w])
				continue;
			if (!match) {
				ASSERT_EQ(0, peek(DS(w), off, now, LEN));
				for (int i = 1; i <= 3; i++)
					match += !result[i] && !memcmp(now, bytes[i], LEN);
				ASSERT_EQ(1, match) {
					TH_LOG("round %d: the pages are nobody's whole commit", round);
				}
			}
			ASSERT_TRUE(holds(DS(w), off, now, LEN)) TH_LOG("round %d: winners differ", round);
		}
		/* Losers publish theirs in peace; then all nodes are the same again. */
		for (int i = 1; i <= 3; i++) {
			if (result[i]) {
				ASSERT_EQ(0, agent_commit(&self->a[i], off, LEN));
				memcpy(now, bytes[i], LEN);
			}
		}
		for (int i = 1; i <= 3; i++) {
			ASSERT_TRUE(holds(DS(i), off, now, LEN)) TH_LOG("round %d: nodes differ", round);
		}
	}
	TH_LOG("%d succeeded, %d EAGAIN", won, again);
	EXPECT_LT(0, won);
}

TEST_F_TIMEOUT(commit, counter_that_nodes_increment_by_turns_adds_up, 300)
{
	unsigned long per_node = env_number("POTLUCK_INCREMENTS", 20);
	uint64_t value = 0;

	for (unsigned long turn = 0; turn < 3 * per_node; turn++) {
		struct agent *a = &self->a[1 + turn % 3];

		ASSERT_EQ(0, agent_load(a, 0, &value, 8));
		ASSERT_EQ(turn, value) TH_LOG("node %lu did not see the last commit", 1 + turn % 3);
		value++;
		ASSERT_EQ(0, agent_store(a, 0, &value, 8));
		for (;;) {
			int err = agent_commit(a, 0, 8);

			if (!err)
				break;
			ASSERT_EQ(EAGAIN, err);
		}
	}
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, agent_load(&self->a[i], 0, &value, 8));
		EXPECT_EQ(3 * per_node, value);
	}
}

TEST_F_TIMEOUT(commit, slots_that_all_nodes_bump_in_parallel_add_up, 300)
{
	unsigned long rounds = env_number("POTLUCK_INCREMENTS", 20);
	pid_t child[4];
	uint64_t value;

	/* Each node bumps a counter of its own in the one page they share. */
	for (int i = 1; i <= 3; i++) {
		child[i] = fork();
		if (!child[i]) {
			for (unsigned long k = 1; k <= rounds; k++) {
				int err;

				if (agent_load(&self->a[i], 8 * i, &value, 8) || value != k - 1)
					_exit(1);
				value++;
				if (agent_store(&self->a[i], 8 * i, &value, 8))
					_exit(2);
				while ((err = agent_commit(&self->a[i], 8 * i, 8)) == EAGAIN)
					;
				if (err)
					_exit(3);
			}
			_exit(0);
		}
	}
	for (int i = 1; i <= 3; i++) {
		int status;

		waitpid(child[i], &status, 0);
		EXPECT_EQ(0, WEXITSTATUS(status)) TH_LOG("node %d", i);
	}
	for (int i = 1; i <= 3; i++) {
		for (int k = 1; k <= 3; k++) {
			ASSERT_EQ(0, peek(DS(i), 8 * k, &value, 8));
			EXPECT_EQ(rounds, value) TH_LOG("counter of node %d as read on %d", k, i);
		}
	}
}

TEST_F(commit, is_all_there_on_all_nodes_once_it_returned)
{
	/* One record is spread over chunks of different owners; a version in each piece. */
	struct hotpot_area areas[6];

	for (uint64_t version = 1; version <= 25; version++) {
		struct agent *writer = &self->a[1 + version % 3];

		for (int k = 0; k < 6; k++) {
			areas[k] = (struct hotpot_area){ k * CHUNK + 128, 8 };
			ASSERT_EQ(0, agent_store(writer, areas[k].addr, &version, 8));
		}
		ASSERT_EQ(0, agent_commit_areas(writer, areas, 6, 1 + version % 3, DEADLINE_MS));
		for (int i = 1; i <= 3; i++) {
			for (int k = 0; k < 6; k++) {
				ASSERT_TRUE(agent_holds(&self->a[i], areas[k].addr, &version, 8))
					TH_LOG("version %lu, piece %d, node %d", (unsigned long)version, k, i);
			}
		}
	}
}

/* --- what a commit refuses --------------------------------------------------------- */

FIXTURE(bad_commit) {
	struct space s;
	int fd;
	char *map;
};

FIXTURE_SETUP(bad_commit)
{
	ASSERT_EQ(0, space_open(&self->s));
	ASSERT_EQ(0, dataset_make(&self->s, 1, "bad", SIZE, 1));
	self->fd = open(at(&self->s, 1, "bad"), O_RDWR);
	self->map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	memcpy(self->map, "kept", 4);
}

FIXTURE_TEARDOWN(bad_commit)
{
	munmap(self->map, SIZE);
	close(self->fd);
	unlink(at(&self->s, 1, "bad"));
}

TEST_F(bad_commit, of_areas_that_are_nonsense_is_refused_and_publishes_nothing)
{
	uint64_t base = (uintptr_t)self->map;
	const struct { int err; const char *why; struct hotpot_area area[3]; int nr; } cases[] = {
		{ EFAULT, "before the dataset", { { base - PAGE, PAGE } }, 1 },
		{ EFAULT, "reaching in from before", { { base - 1, 2 } }, 1 },
		{ EFAULT, "behind the end", { { base + SIZE, 1 } }, 1 },
		{ EFAULT, "reaching out of the end", { { base + SIZE - 1, 2 } }, 1 },
		{ EFAULT, "at address 0", { { 0, 8 } }, 1 },
		{ EFAULT, "in the kernel", { { 0xffff888000000000ULL, 8 } }, 1 },
		{ EFAULT, "far off", { { base + (1ULL << 45), 8 } }, 1 },
		{ EINVAL, "empty", { { base, 0 } }, 1 },
		{ EINVAL, "one empty among good ones", { { base, 4 }, { base + 8, 0 }, { base + 16, 4 } }, 3 },
		{ EINVAL, "equal", { { base, 4 }, { base, 4 } }, 2 },
		{ EINVAL, "overlapping by a byte", { { base, 5 }, { base + 4, 4 } }, 2 },
		{ EINVAL, "overlapping, not sorted", { { base + 100, 50 }, { base, 50 }, { base + 40, 61 } }, 3 },
		{ EINVAL, "one within another", { { base, 4096 }, { base + 64, 8 } }, 2 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		EXPECT_EQ(cases[i].err, commit_fd(self->fd, cases[i].area, cases[i].nr, 0, 0, NULL))
			TH_LOG("%s", cases[i].why);
	}
	/* Lengths that wrap round the address space. */
	struct hotpot_area wrap = { base + 16, UINT64_MAX - 8 };
	int err = commit_fd(self->fd, &wrap, 1, 0, 0, NULL);

	EXPECT_TRUE(err == EFAULT || err == EINVAL) TH_LOG("wrapping: %s", strerror(err));
	EXPECT_TRUE(holds(at(&self->s, 2, "bad"), 0, "\0\0\0\0", 4));
	EXPECT_EQ(0, memcmp(self->map, "kept", 4));
}

TEST_F(bad_commit, of_no_area_or_too_many_is_einval)
{
	struct hotpot_area *many = calloc(HOTPOT_MAX_AREAS + 1, sizeof(*many));

	EXPECT_EQ(EINVAL, commit_fd(self->fd, many, 0, 0, 0, NULL));
	for (uint64_t i = 0; i <= HOTPOT_MAX_AREAS; i++)
		many[i] = (struct hotpot_area){ (uintptr_t)self->map + i * 4, 1 };
	EXPECT_EQ(EINVAL, commit_fd(self->fd, many, HOTPOT_MAX_AREAS + 1, 0, 0, NULL));
	EXPECT_EQ(EINVAL, commit_fd(self->fd, many, 0xffffffff, 0, 0, NULL));
	free(many);
}

TEST_F(bad_commit, through_bad_pointers_is_efault)
{
	struct hotpot_commit c = { .nr_areas = 1 };

	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_COMMIT, NULL)));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_COMMIT, bad_pointer())));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_COMMIT, 0xffffffff81000000ULL)));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_COMMIT, &c)));
	c.areas = (uintptr_t)bad_pointer();
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_COMMIT, &c)));
	c.areas = 0xffffffff81000000ULL;
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_COMMIT, &c)));
}

TEST_F(bad_commit, with_flags_or_reserved_fields_set_is_einval)
{
	struct hotpot_area area = { (uintptr_t)self->map, 4 };
	struct hotpot_commit good = { .areas = (uintptr_t)&area, .nr_areas = 1 }, c;

	c = good;
	c.flags = 1;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_COMMIT, &c)));
	for (int i = 0; i < 2; i++) {
		c = good;
		c.reserved[i] = 1;
		EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd, HOTPOT_IOC_COMMIT, &c)));
	}
	EXPECT_EQ(0, ioctl(self->fd, HOTPOT_IOC_COMMIT, &good));
}

TEST_F(bad_commit, by_who_may_only_read_is_refused)
{
	struct hotpot_area area = { (uintptr_t)self->map, 4 };
	int fd = open(at(&self->s, 1, "bad"), O_RDONLY), err;

	err = commit_fd(fd, &area, 1, 0, 0, NULL);
	EXPECT_TRUE(err == EBADF || err == EACCES || err == EPERM) TH_LOG("%s", strerror(err));
	close(fd);
	EXPECT_TRUE(holds(at(&self->s, 2, "bad"), 0, "\0\0\0\0", 4));
}

/* --- msync and fsync ---------------------------------------------------------------- */

TEST_F(commit, by_msync_publishes_all_dirty_bytes_of_the_range)
{
	static char bytes[3 * PAGE];

	fill(bytes, sizeof(bytes), 3);
	ASSERT_EQ(0, agent_store(&self->a[1], 0, bytes, sizeof(bytes)));
	ASSERT_EQ(0, agent_msync(&self->a[1], PAGE, PAGE));
	EXPECT_TRUE(holds(DS(2), PAGE, bytes + PAGE, PAGE));
	EXPECT_TRUE(holds(DS(2), 0, "\0\0\0\0\0\0\0\0", 8));
	EXPECT_TRUE(holds(DS(2), 2 * PAGE, "\0\0\0\0\0\0\0\0", 8));
	ASSERT_EQ(0, agent_msync(&self->a[1], 0, 3 * PAGE));
	EXPECT_TRUE(holds(DS(2), 0, bytes, sizeof(bytes)));
	/* Clean again: nothing to do, and no error. */
	EXPECT_EQ(0, agent_msync(&self->a[1], 0, 3 * PAGE));
}

TEST_F(commit, by_fsync_publishes_everything_that_is_dirty)
{
	for (uint64_t k = 0; k < 8; k++) {
		ASSERT_EQ(0, agent_store(&self->a[3], k * CHUNK + 5, &k, 8));
	}
	ASSERT_EQ(0, agent_fsync(&self->a[3]));
	for (uint64_t k = 0; k < 8; k++) {
		EXPECT_TRUE(agent_holds(&self->a[1], k * CHUNK + 5, &k, 8));
	}
}

TEST_F(commit, by_msync_leaves_alone_what_others_published_in_the_page)
{
	ASSERT_EQ(0, agent_store(&self->a[1], 0, "one", 3));
	ASSERT_EQ(0, agent_store(&self->a[2], 100, "two", 3));
	ASSERT_EQ(0, agent_msync(&self->a[1], 0, PAGE));
	ASSERT_EQ(0, agent_msync(&self->a[2], 0, PAGE));
	for (int i = 1; i <= 3; i++) {
		EXPECT_TRUE(agent_holds(&self->a[i], 0, "one", 3));
		EXPECT_TRUE(agent_holds(&self->a[i], 100, "two", 3));
	}
}

TEST_HARNESS_MAIN
