// SPDX-License-Identifier: GPL-2.0
/* Many threads and processes on one dataset, and mappings that go away under them. */
#include <pthread.h>

#include "hotpot.h"

#define SIZE (8 * CHUNK)

FIXTURE(stress) {
	struct space s;
	int fd;
	char *map;
};

FIXTURE_SETUP(stress)
{
	ASSERT_EQ(0, space_open(&self->s));
	ASSERT_EQ(0, dataset_make(&self->s, 1, "stress", SIZE, 1));
	self->fd = open(at(&self->s, 1, "stress"), O_RDWR);
	self->map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, self->map);
}

FIXTURE_TEARDOWN(stress)
{
	munmap(self->map, SIZE);
	close(self->fd);
	unlink(at(&self->s, 1, "stress"));
}

#define DS(i) at(&self->s, i, "stress")

struct worker {
	pthread_t thread;
	char *map;
	int fd, nr, rounds;
	int failures;
};

/* Its own 8 bytes in every page: faults of all threads meet on all pages. */
static void *touch_all(void *arg)
{
	struct worker *w = arg;

	for (int k = 0; k < w->rounds; k++) {
		for (unsigned long page = 0; page < SIZE / PAGE; page++) {
			uint64_t *slot = (uint64_t *)(w->map + page * PAGE) + w->nr;

			if (*slot != (uint64_t)k)
				w->failures++;
			*slot = k + 1;
		}
		if (w->nr == 0 && msync(w->map, SIZE, MS_SYNC) && errno != EAGAIN)
			w->failures++;
	}
	return NULL;
}

TEST_F_TIMEOUT(stress, threads_that_fault_on_the_same_pages_lose_nothing, 300)
{
	struct worker w[8];

	for (int i = 0; i < 8; i++) {
		w[i] = (struct worker){ .map = self->map, .nr = i, .rounds = 4 };
		ASSERT_EQ(0, pthread_create(&w[i].thread, NULL, touch_all, &w[i]));
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(w[i].thread, NULL);
		EXPECT_EQ(0, w[i].failures) TH_LOG("thread %d", i);
	}
	ASSERT_EQ(0, msync(self->map, SIZE, MS_SYNC));
	for (unsigned long page = 0; page < SIZE / PAGE; page += 7) {
		EXPECT_TRUE(holds(DS(2), page * PAGE, self->map + page * PAGE, 64)) TH_LOG("page %lu", page);
	}
}

/* Stores and commits of its own slot of one page, as fast as it goes. */
static void *commit_own(void *arg)
{
	struct worker *w = arg;

	for (int k = 0; k < w->rounds; k++) {
		uint64_t *slot = (uint64_t *)w->map + w->nr;
		struct hotpot_area area = { (uintptr_t)slot, 8 };
		int err;

		if (*slot != (uint64_t)k)
			w->failures++;
		*slot = k + 1;
		while ((err = commit_fd(w->fd, &area, 1, 0, 0, NULL)) == EAGAIN)
			;
		if (err) {
			w->failures++;
			fprintf(stderr, "# thread %d, round %d: %s\n", w->nr, k, strerror(err));
		}
	}
	return NULL;
}

TEST_F_TIMEOUT(stress, threads_that_commit_within_one_page_lose_nothing, 300)
{
	struct worker w[6];
	uint64_t got;

	for (int i = 0; i < 6; i++) {
		w[i] = (struct worker){ .map = self->map, .fd = self->fd, .nr = i, .rounds = 25 };
		ASSERT_EQ(0, pthread_create(&w[i].thread, NULL, commit_own, &w[i]));
	}
	for (int i = 0; i < 6; i++) {
		pthread_join(w[i].thread, NULL);
		EXPECT_EQ(0, w[i].failures) TH_LOG("thread %d", i);
	}
	for (int i = 0; i < 6; i++) {
		ASSERT_EQ(0, peek(DS(3), 8 * i, &got, 8));
		EXPECT_EQ(25, got) TH_LOG("slot %d", i);
	}
}

TEST_F(stress, mapping_is_shared_with_a_child_after_fork)
{
	pid_t child;
	int status;

	memcpy(self->map, "parent", 6);
	child = fork();
	if (!child) {
		if (memcmp(self->map, "parent", 6))
			_exit(1);
		memcpy(self->map + 100, "child", 5);
		if (msync(self->map, PAGE, MS_SYNC))
			_exit(2);
		memcpy(self->map + 200, "later", 5);
		_exit(0);
	}
	waitpid(child, &status, 0);
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_EQ(0, memcmp(self->map + 100, "child", 5));
	EXPECT_EQ(0, memcmp(self->map + 200, "later", 5));
	EXPECT_TRUE(holds(DS(2), 0, "parent", 6));
	EXPECT_TRUE(holds(DS(2), 200, "\0\0\0\0\0", 5));
}

static void *commit_forever(void *arg)
{
	struct worker *w = arg;
	struct hotpot_area area = { (uintptr_t)w->map, 4 * PAGE };

	for (int k = 0; k < w->rounds; k++) {
		int err = commit_fd(w->fd, &area, 1, 0, 0, NULL);

		/* EFAULT is allowed: areas need not be mapped, but may have to be by then. */
		if (err && err != EAGAIN && err != EFAULT)
			w->failures++;
	}
	return NULL;
}

TEST_F_TIMEOUT(stress, munmap_during_commits_harms_nobody, 200)
{
	struct worker w = { .map = self->map, .fd = self->fd, .rounds = 60 };

	ASSERT_EQ(0, pthread_create(&w.thread, NULL, commit_forever, &w));
	for (int k = 0; k < 30; k++) {
		memset(self->map, k, 4 * PAGE);
		munmap(self->map, SIZE);
		ASSERT_EQ(self->map, mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0));
	}
	pthread_join(w.thread, NULL);
	EXPECT_EQ(0, w.failures);
	ASSERT_EQ(0, msync(self->map, SIZE, MS_SYNC));
	EXPECT_TRUE(holds(DS(2), 0, self->map, 4 * PAGE));
}

TEST_F_TIMEOUT(stress, truncate_under_a_mapping_in_use_is_sigbus_at_most, 200)
{
	pid_t child = fork();
	int status;

	if (!child) {
		char c = 1;

		for (int k = 0; k < 400; k++) {
			int err = careful_copy(self->map + 5 * CHUNK + (k % 16) * PAGE, &c, 1);

			if (err && err != EFAULT)
				_exit(1);
			if (k % 10 == 0 && msync(self->map, SIZE, MS_SYNC) && errno != EAGAIN && errno != EFAULT &&
			    errno != EINVAL && errno != ENOMEM)
				_exit(errno);
		}
		_exit(0);
	}
	for (int k = 0; k < 10; k++) {
		EXPECT_EQ(0, truncate(DS(2), 2 * CHUNK));
		EXPECT_EQ(0, truncate(DS(3), SIZE));
	}
	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
}

TEST_F_TIMEOUT(stress, nodes_that_commit_and_read_at_random_agree_at_the_end, 400)
{
	unsigned long rounds = env_number("POTLUCK_STRESS", 40);
	pid_t child[4];
	int status;

	munmap(self->map, SIZE);
	for (int i = 1; i <= 3; i++) {
		child[i] = fork();
		if (!child[i]) {
			int fd = open(DS(i), O_RDWR);
			char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			unsigned int seed = i;

			if (map == MAP_FAILED)
				_exit(1);
			for (unsigned long k = 0; k < rounds; k++) {
				struct hotpot_area areas[4];
				int err;

				for (int j = 0; j < 4; j++) {
					uint64_t len = 1 + rand_r(&seed) % 6000;
					uint64_t off = 2 * CHUNK * j + rand_r(&seed) % (2 * CHUNK - len);

					memset(map + off, i * 16 + k % 16, len);
					areas[j] = (struct hotpot_area){ (uintptr_t)map + off, len };
				}
				err = commit_fd(fd, areas, 4, 1 + rand_r(&seed) % 3, DEADLINE_MS, NULL);
				if (err && err != EAGAIN)
					_exit(err);
			}
			while ((status = msync(map, SIZE, MS_SYNC)) && errno == EAGAIN)
				;
			_exit(status ? errno : 0);
		}
	}
	for (int i = 1; i <= 3; i++) {
		waitpid(child[i], &status, 0);
		EXPECT_EQ(0, WEXITSTATUS(status)) TH_LOG("node %d: %s", i, strerror(WEXITSTATUS(status)));
	}
	static char one[SIZE];

	ASSERT_EQ(0, peek(DS(1), 0, one, SIZE));
	EXPECT_TRUE(holds(DS(2), 0, one, SIZE));
	EXPECT_TRUE(holds(DS(3), 0, one, SIZE));
	self->map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	EXPECT_EQ(0, memcmp(self->map, one, SIZE));
}

TEST_HARNESS_MAIN
