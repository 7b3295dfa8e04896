// SPDX-License-Identifier: GPL-2.0
/* Ranges mapped through the local cache. */
#include <sys/resource.h>
#include <sys/wait.h>

#include "remote.h"

#define MIB (1ULL << 20)
#define PAGES 256
#define PAGE 4096

FIXTURE(mapping) {
	struct clio_cluster cl;
	int one, two;
	uint64_t addr;
};

FIXTURE_VARIANT(mapping) {
	uint32_t policy;
};

FIXTURE_VARIANT_ADD(mapping, lru) { .policy = CLIO_LRU };
FIXTURE_VARIANT_ADD(mapping, fifo) { .policy = CLIO_FIFO };

FIXTURE_SETUP(mapping)
{
	/* A cache of a quarter of what is mapped. */
	struct clio_cache cache = { .size = PAGES * PAGE / 4, .ways = 16, .policy = variant->policy };

	ASSERT_EQ(0, clio_cluster_up(&self->cl, 3, 2, "67108864"));
	self->one = clio_attached(3, "mapping");
	ASSERT_GE(self->one, 0);
	self->two = clio_attached(1, "mapping");
	ASSERT_GE(self->two, 0);
	self->addr = ralloc(self->one, PAGES * PAGE);
	ASSERT_NE(0, self->addr);
	ASSERT_EQ(0, ioctl(self->one, CLIO_IOC_CACHE, &cache)) TH_LOG("%s", strerror(errno));
}

FIXTURE_TEARDOWN(mapping)
{
	close(self->one);
	close(self->two);
	clio_cluster_down(&self->cl);
}

static struct clio_cache counters(int fd)
{
	struct clio_cache cache = { 0 };

	ioctl(fd, CLIO_IOC_CACHE, &cache);
	return cache;
}

TEST_F(mapping, four_times_the_cache_holds_what_was_stored)
{
	uint64_t *map = rmap(self->one, self->addr, PAGES * PAGE, PROT_READ | PROT_WRITE);
	struct clio_cache cache;
	uint64_t word;

	ASSERT_NE(MAP_FAILED, map) TH_LOG("%s", strerror(errno));
	for (int i = 0; i < PAGES; i++) {
		ASSERT_EQ(0, map[i * 512 + i]);
		map[i * 512 + i] = i + 1;
	}
	for (int i = 0; i < PAGES; i++) {
		ASSERT_EQ(i + 1, map[i * 512 + i]);
	}
	cache = counters(self->one);
	TH_LOG("hits %llu fetches %llu zeros %llu evictions %llu write-backs %llu", cache.hits,
	       cache.fetches, cache.zeros, cache.evictions, cache.write_backs);
	EXPECT_EQ(PAGES, cache.zeros);
	EXPECT_GE(cache.evictions, PAGES);
	ASSERT_EQ(0, munmap(map, PAGES * PAGE));
	for (int i = 0; i < PAGES; i++) {
		ASSERT_EQ(0, rread(self->two, self->addr + i * PAGE + i * 8, &word, 8));
		ASSERT_EQ(i + 1, word);
	}
}

/* Page faults of this process so far. */
static long faults(void)
{
	struct rusage usage = { 0 };

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

TEST_F(mapping, is_faulted_once_by_a_first_store_and_once_more_after_a_load)
{
	const int pages = PAGES / 8;
	uint64_t *map = rmap(self->one, self->addr, 2 * pages * PAGE, PROT_READ | PROT_WRITE);
	uint64_t *read = map + pages * 512, sum = 0;
	long before;

	ASSERT_NE(MAP_FAILED, map);
	before = faults();
	for (int i = 0; i < pages; i++)
		map[i * 512] = i;
	/* Some others may come between. */
	EXPECT_GE(faults() - before, pages);
	EXPECT_LE(faults() - before, pages + pages / 2);
	before = faults();
	for (int i = 0; i < pages; i++)
		sum += ((volatile uint64_t *)read)[i * 512];
	EXPECT_EQ(0, sum);
	for (int i = 0; i < pages; i++)
		read[i * 512] = i;
	EXPECT_GE(faults() - before, 2 * pages);
	/* What was stored at once is written back all the same. */
	ASSERT_EQ(0, munmap(map, 2 * pages * PAGE));
	for (int i = 0; i < 2 * pages; i++) {
		ASSERT_EQ(0, rread(self->two, self->addr + i * PAGE, &sum, 8));
		ASSERT_EQ(i % pages, sum);
	}
}

TEST_F(mapping, is_written_back_on_demand_and_dropped_on_demand)
{
	uint64_t *map = rmap(self->one, self->addr, 4 * PAGE, PROT_READ | PROT_WRITE), word;
	struct clio_range range = { .addr = self->addr, .len = 4 * PAGE };

	ASSERT_NE(MAP_FAILED, map);
	map[0] = 5;
	ASSERT_EQ(0, rread(self->two, self->addr, &word, 8));
	EXPECT_EQ(0, word);
	ASSERT_EQ(0, ioctl(self->one, CLIO_IOC_SYNC, &range)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, rread(self->two, self->addr, &word, 8));
	EXPECT_EQ(5, word);
	/* It goes on being stored to. */
	map[0] = 6;
	ASSERT_EQ(0, ioctl(self->one, CLIO_IOC_SYNC, &range));
	ASSERT_EQ(0, rread(self->two, self->addr, &word, 8));
	EXPECT_EQ(6, word);
	/* As any file is. */
	map[0] = 8;
	ASSERT_EQ(0, msync(map, PAGE, MS_SYNC)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, rread(self->two, self->addr, &word, 8));
	EXPECT_EQ(8, word);
	map[0] = 6;
	ASSERT_EQ(0, fsync(self->one)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, rread(self->two, self->addr, &word, 8));
	EXPECT_EQ(6, word);
	/* What another node wrote is seen once the copy here is dropped. */
	word = 7;
	ASSERT_EQ(0, rwrite(self->two, self->addr, &word, 8));
	EXPECT_EQ(6, map[0]);
	map[1] = 8;
	ASSERT_EQ(0, ioctl(self->one, CLIO_IOC_DROP, &range));
	EXPECT_EQ(7, map[0]);
	EXPECT_EQ(0, map[1]);
}

TEST_F(mapping, whose_pages_are_not_needed_loses_nothing)
{
	uint64_t *map = rmap(self->one, self->addr, PAGES * PAGE, PROT_READ | PROT_WRITE);

	ASSERT_NE(MAP_FAILED, map);
	for (int i = 0; i < PAGES; i++)
		map[i * 512] = i + 1;
	ASSERT_EQ(0, madvise(map, PAGES * PAGE, MADV_DONTNEED)) TH_LOG("%s", strerror(errno));
	for (int i = 0; i < PAGES; i++) {
		ASSERT_EQ(i + 1, map[i * 512]);
	}
}

TEST_F(mapping, serves_calls_that_know_nothing_of_it)
{
	char *map = rmap(self->one, self->addr, 16 * PAGE, PROT_READ | PROT_WRITE);
	char back[64] = "";
	int pipes[2];

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, pipe(pipes));
	snprintf(map + PAGE - 8, 32, "across a page: %d", 42);
	ASSERT_EQ(20, write(pipes[1], map + PAGE - 8, 20));
	ASSERT_EQ(20, read(pipes[0], map + 9 * PAGE, 20));
	memcpy(back, map + 9 * PAGE, 20);
	EXPECT_STREQ("across a page: 42", back);
}

TEST_F(mapping, of_what_is_not_allocated_is_a_sigbus)
{
	char *map = rmap(self->one, self->addr + (1ULL << 36), PAGE, PROT_READ);
	int status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	pid = fork();
	if (!pid)
		_exit(*(volatile char *)map);
	waitpid(pid, &status, 0);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGBUS, WTERMSIG(status));
}

TEST_F(mapping, that_is_private_is_refused)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, self->one, self->addr));
	EXPECT_EQ(EINVAL, errno);
}

TEST_HARNESS_MAIN
