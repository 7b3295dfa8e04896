// SPDX-License-Identifier: GPL-2.0
/* Chunks that go to the node that commits most to them (section 2.5.5), while all others use them. */
#include "hotpot.h"

#define SIZE (6 * CHUNK)
/* Two pages decide in a window: those are committed in it on a slow machine, too. */
#define EAGER "migrate=on,migrate_window_ms=2000,migrate_benefit=8K,migrate_cost=4M"
/* Until a move is there, on a busy machine. */
#define LIMIT_MS 40000

FIXTURE(migration) {
	struct cluster c;
	struct space s;
	struct agent a[SPACE_NODES + 1];
	uint64_t off;		/* of a chunk that node 2 owns at first */
};

static int mount_with(const struct place *p, const char *more)
{
	char options[160];

	snprintf(options, sizeof(options), "node=%s,timeout_ms=10000,%s", p->name, more);
	return hotpot_mount(p->dev, p->mnt, options);
}

/* Owner of the chunk at an offset, as node i sees it; 0 when it cannot be asked. */
static uint32_t owner_of(const struct space *s, int i, uint64_t off)
{
	struct hotpot_chunk chunks[SIZE / CHUNK] = { 0 };
	struct hotpot_info info = { .chunks = (uintptr_t)chunks, .nr_chunks = SIZE / CHUNK };
	int fd = open(at(s, i, "moves"), O_RDONLY | O_CLOEXEC);
	int err = ioctl(fd, HOTPOT_IOC_INFO, &info);

	close(fd);
	return err < 0 ? 0 : chunks[off / CHUNK].owner;
}

FIXTURE_SETUP(migration)
{
	ASSERT_EQ(0, hotpot_need());
	ASSERT_EQ(0, cluster_up(&self->c, SPACE_NODES));
	self->s.nr = SPACE_NODES;
	for (int i = 1; i <= SPACE_NODES; i++) {
		struct place *p = &self->s.n[i];

		snprintf(p->name, sizeof(p->name), "lt%d", i);
		snprintf(p->mnt, sizeof(p->mnt), "/mnt/lt%d", i);
		p->id = i;
		self->a[i] = (struct agent){ .pid = -1, .fd = -1 };
		if (!pmem_spare(0, p->dev, sizeof(p->dev)))
			SKIP(return, "fewer than three pmem devices that are not mounted");
		ASSERT_EQ(0, mkfs(p->dev, i, ""));
		ASSERT_EQ(0, mount_with(p, EAGER));
	}
	ASSERT_EQ(0, dataset_make(&self->s, 1, "moves", SIZE, 2));
	for (self->off = 0; self->off < SIZE; self->off += CHUNK)
		if (owner_of(&self->s, 1, self->off) == 2)
			break;
	ASSERT_LT(self->off, SIZE) TH_LOG("node 2 owns no chunk");
}

FIXTURE_TEARDOWN(migration)
{
	for (int i = 1; i <= SPACE_NODES; i++)
		agent_end(&self->a[i]);
	space_drop_own(&self->s, &self->c);
}

#define DS(i) at(&self->s, i, "moves")

/* A page that node 3 commits again and again. */
static int commit_page(struct agent *a, uint64_t off, int round)
{
	char bytes[PAGE];
	int err;

	fill(bytes, PAGE, 100 + round);
	err = agent_store(a, off, bytes, PAGE);
	return err ?: agent_commit(a, off, PAGE);
}

/*
 * Node `by` commits page after page of the chunk at `off` until all nodes that
 * are there see it as the owner. The last round, or -1; what was committed in it is
 * in the first page.
 */
static int commit_until_it_owns(struct space *s, struct agent *a, int by, uint64_t off, int gone, int round)
{
	int64_t until = now_ms() + LIMIT_MS;

	for (; now_ms() < until; round++) {
		int err = commit_page(a, off, round), see = 0;

		if (err) {
			fprintf(stderr, "# round %d: %s\n", round, strerror(err));
			return -1;
		}
		for (int i = 1; i <= SPACE_NODES; i++)
			see += i == gone || owner_of(s, i, off) == s->n[by].id;
		if (see == SPACE_NODES)
			return round;
	}
	return -1;
}

static bool all_hold(struct space *s, uint64_t off, int round, int gone)
{
	char bytes[PAGE];
	bool same = true;

	fill(bytes, PAGE, 100 + round);
	for (int i = 1; i <= SPACE_NODES; i++)
		if (i != gone && !holds(at(s, i, "moves"), off, bytes, PAGE)) {
			fprintf(stderr, "# node %d has not what round %d committed\n", i, round);
			same = false;
		}
	return same;
}

TEST_F_TIMEOUT(migration, brings_a_chunk_to_the_node_that_commits_most_to_it_while_all_use_it, 200)
{
	struct hotpot_info came, left;
	char bytes[PAGE];
	int round;

	for (int i = 1; i <= SPACE_NODES; i++) {
		ASSERT_EQ(0, agent_start(&self->a[i], DS(i), SIZE));
		/* A place of its own, in a page that all of them write. */
		ASSERT_EQ(0, agent_store(&self->a[i], self->off + PAGE + 8 * i, "mapped!", 8));
		ASSERT_EQ(0, agent_commit(&self->a[i], self->off + PAGE + 8 * i, 8));
	}
	ASSERT_EQ(0, agent_store(&self->a[1], self->off + 2 * PAGE, "not yet", 8));
	ASSERT_EQ(2, owner_of(&self->s, 3, self->off));
	round = commit_until_it_owns(&self->s, &self->a[3], 3, self->off, 0, 0);
	ASSERT_LE(0, round) TH_LOG("the chunk stays with node %u", owner_of(&self->s, 3, self->off));
	EXPECT_TRUE(all_hold(&self->s, self->off, round, 0));
	ASSERT_EQ(0, dataset_info(DS(3), &came));
	ASSERT_EQ(0, dataset_info(DS(2), &left));
	EXPECT_EQ(1, came.nr_came);
	EXPECT_EQ(1, left.nr_left);
	/* Mappings of before go on: loads, stores, and what was stored and not committed. */
	fill(bytes, PAGE, 100 + round);
	for (int i = 1; i <= SPACE_NODES; i++) {
		EXPECT_TRUE(agent_holds(&self->a[i], self->off, bytes, PAGE)) TH_LOG("node %d", i);
		for (int k = 1; k <= SPACE_NODES; k++) {
			EXPECT_TRUE(agent_holds(&self->a[i], self->off + PAGE + 8 * k, "mapped!", 8));
		}
	}
	EXPECT_TRUE(agent_holds(&self->a[1], self->off + 2 * PAGE, "not yet", 8));
	EXPECT_TRUE(holds(DS(3), self->off + 2 * PAGE, "\0\0\0\0", 4));
	ASSERT_EQ(0, agent_commit(&self->a[1], self->off + 2 * PAGE, 8));
	EXPECT_TRUE(holds(DS(2), self->off + 2 * PAGE, "not yet", 8));
	ASSERT_EQ(0, agent_store(&self->a[2], self->off + 3 * PAGE, "by old", 7));
	ASSERT_EQ(0, agent_commit(&self->a[2], self->off + 3 * PAGE, 7));
	EXPECT_TRUE(agent_holds(&self->a[3], self->off + 3 * PAGE, "by old", 7));
}

/* Counts up in its own 8 bytes of a page, committing each number, until it is told to end. */
static void count_up(const char *path, uint64_t off, int nr, int *stop, int fd)
{
	int file = open(path, O_RDWR | O_CLOEXEC);
	char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	uint64_t *slot = (uint64_t *)(map + off) + nr, k = 0;
	struct hotpot_area area = { (uintptr_t)slot, 8 };
	int err = map == MAP_FAILED ? errno : 0;

	while (!err && !__atomic_load_n(stop, __ATOMIC_RELAXED)) {
		if (*slot != k)
			err = EILSEQ;
		*slot = ++k;
		while (!err && (err = commit_fd(file, &area, 1, 0, 0, NULL)) == EAGAIN)
			err = 0;
		usleep(2000);
	}
	all_out(fd, &k, sizeof(k));
	_exit(err);
}

TEST_F_TIMEOUT(migration, loses_no_commit_of_any_node_while_a_chunk_goes_back_and_forth, 200)
{
	int *stop = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t page = self->off + 5 * PAGE, reached[SPACE_NODES + 1], got;
	int pair[SPACE_NODES + 1][2], round = 0, status;
	pid_t child[SPACE_NODES + 1];

	for (int i = 1; i <= SPACE_NODES; i++) {
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair[i]));
		fflush(NULL);
		child[i] = fork();
		if (!child[i])
			count_up(DS(i), page, i, stop, pair[i][1]);
	}
	for (int i = 1; i <= SPACE_NODES; i++) {
		int by = i == 1 ? 3 : i == 2 ? 1 : 2;

		ASSERT_EQ(0, agent_start(&self->a[by], DS(by), SIZE));
		round = commit_until_it_owns(&self->s, &self->a[by], by, self->off, 0, round + 1);
		EXPECT_LE(0, round) TH_LOG("the chunk does not go to node %d", by);
		if (round < 0)
			break;
	}
	__atomic_store_n(stop, 1, __ATOMIC_RELAXED);
	for (int i = 1; i <= SPACE_NODES; i++) {
		waitpid(child[i], &status, 0);
		EXPECT_EQ(0, WEXITSTATUS(status)) TH_LOG("writer on node %d: %s", i, strerror(WEXITSTATUS(status)));
		ASSERT_TRUE(all_in(pair[i][0], &reached[i], 8));
		EXPECT_LT(0, reached[i]);
	}
	for (int i = 1; i <= SPACE_NODES; i++)
		for (int k = 1; k <= SPACE_NODES; k++) {
			ASSERT_EQ(0, peek(DS(i), page + 8 * k, &got, 8));
			EXPECT_EQ(reached[k], got) TH_LOG("of the writer on node %d, read on node %d", k, i);
		}
	if (round >= 0) {
		EXPECT_TRUE(all_hold(&self->s, self->off, round, 0));
	}
}

TEST_F_TIMEOUT(migration, moves_nothing_when_it_is_switched_off, 100)
{
	struct hotpot_info info;

	for (int i = 1; i <= SPACE_NODES; i++) {
		ASSERT_EQ(0, place_umount(&self->s.n[i]));
		ASSERT_EQ(0, mount_with(&self->s.n[i], "migrate=off,migrate_window_ms=300,migrate_benefit=4K"));
		EXPECT_EQ(0, sh("grep -q '^%s .*migrate=off,migrate_window_ms=300,' /proc/mounts", self->s.n[i].dev));
	}
	ASSERT_EQ(0, agent_start(&self->a[3], DS(3), SIZE));
	for (int round = 0; round < 150; round++) {
		ASSERT_EQ(0, commit_page(&self->a[3], self->off, round));
		sleep_ms(10);
	}
	for (int i = 1; i <= SPACE_NODES; i++) {
		EXPECT_EQ(2, owner_of(&self->s, i, self->off));
		ASSERT_EQ(0, dataset_info(DS(i), &info));
		EXPECT_EQ(0, info.nr_came + info.nr_left + info.nr_stayed);
	}
	EXPECT_TRUE(all_hold(&self->s, self->off, 149, 0));
	EXPECT_EQ(EINVAL, mount_with(&self->s.n[3], "migrate=sometimes"));
	EXPECT_EQ(EINVAL, mount_with(&self->s.n[3], "migrate_window_ms=1"));
	EXPECT_EQ(EINVAL, mount_with(&self->s.n[3], "migrate_benefit=0"));
}

TEST_F_TIMEOUT(migration, is_remembered_after_a_restart_of_all_nodes, 200)
{
	int round;

	ASSERT_EQ(0, agent_start(&self->a[3], DS(3), SIZE));
	round = commit_until_it_owns(&self->s, &self->a[3], 3, self->off, 0, 0);
	ASSERT_LE(0, round);
	agent_end(&self->a[3]);
	ASSERT_EQ(0, space_restart(&self->s));
	for (int i = 1; i <= SPACE_NODES; i++) {
		EXPECT_EQ(3, owner_of(&self->s, i, self->off));
	}
	EXPECT_TRUE(all_hold(&self->s, self->off, round, 0));
	ASSERT_EQ(0, poke(DS(1), self->off, "again", 5));
	EXPECT_TRUE(holds(DS(2), self->off, "again", 5));
}

/* The chunk has gone from node 2 to node 3; one of them is gone for good then. */
static void lose_after_a_move(struct __test_metadata *_metadata, struct _test_data_migration *self, int lost)
{
	int rest = lost == 2 ? 3 : 2, round;
	struct hotpot_info info;

	ASSERT_EQ(0, agent_start(&self->a[3], DS(3), SIZE));
	round = commit_until_it_owns(&self->s, &self->a[3], 3, self->off, 0, 0);
	ASSERT_LE(0, round);
	agent_end(&self->a[3]);
	ASSERT_EQ(0, place_umount(&self->s.n[lost]));
	ASSERT_EQ(0, place_power(&self->s.n[lost], false));
	ASSERT_EQ(0, space_publish(&self->s, lost, RDMA_LITE_NODE_OUT, lost));
	EXPECT_TRUE(all_hold(&self->s, self->off, round, lost));
	EXPECT_EQ((uint32_t)rest, owner_of(&self->s, 1, self->off));
	ASSERT_EQ(0, poke(DS(1), self->off, "after", 5));
	EXPECT_TRUE(holds(DS(rest), self->off, "after", 5));
	EXPECT_TRUE(EVENTUALLY(LIMIT_MS, !dataset_info(DS(rest), &info) && info.nr_missing == 0));
}

TEST_F_TIMEOUT(migration, keeps_what_was_committed_when_the_old_owner_is_lost, 200)
{
	lose_after_a_move(_metadata, self, 2);
}

TEST_F_TIMEOUT(migration, keeps_what_was_committed_when_the_new_owner_is_lost, 200)
{
	lose_after_a_move(_metadata, self, 3);
}

TEST_HARNESS_MAIN
