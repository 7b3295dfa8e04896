// SPDX-License-Identifier: GPL-2.0
/* Memory of a process as a region: other nodes use it, until the process gives it up or ends. */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define ALL (RDMA_LITE_READ | RDMA_LITE_WRITE | RDMA_LITE_ADMIN)
#define RW (RDMA_LITE_READ | RDMA_LITE_WRITE)
#define PAGE 4096
#define ROOM (400 * PAGE)
#define LEN (ROOM - 3 * PAGE - 100)

FIXTURE(lend) {
	struct cluster c;
	int one, two;
	uint8_t *room;
};

FIXTURE_SETUP(lend)
{
	ASSERT_EQ(0, cluster_up(&self->c, 2));
	self->one = self->c.fd[1];
	self->two = self->c.fd[2];
	self->room = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->room);
}

FIXTURE_TEARDOWN(lend)
{
	munmap(self->room, ROOM);
	cluster_down(&self->c);
}

static void pattern(uint8_t *bytes, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = i * 31 + i / 251 + seed;
}

/* Locked memory of this process, in KiB. */
static long locked(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	long kib = -1;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "VmLck: %ld", &kib);
	if (f)
		fclose(f);
	return kib;
}

/* Pages of the whole system that are pinned. */
static long pinned(void)
{
	/* What each processor has counted for itself, too. */
	int err = put_text("/proc/sys/vm/stat_refresh", "1");
	FILE *f = fopen("/proc/vmstat", "re");
	long count, sum = 0;
	char name[128];

	if (err)
		fprintf(stderr, "# vm.stat_refresh: %s\n", strerror(err));

	while (f && fscanf(f, "%127s %ld", name, &count) == 2) {
		if (!strcmp(name, "nr_foll_pin_acquired"))
			sum += count;
		else if (!strcmp(name, "nr_foll_pin_released"))
			sum -= count;
	}
	if (f)
		fclose(f);
	return sum;
}

TEST_F(lend, memory_of_a_process_is_read_and_written_from_other_nodes)
{
	uint8_t *mine = self->room + PAGE + 8, *copy = malloc(LEN);
	uint64_t r, m, other, old, word = 40;
	long long alone = lite_accessed("lt2", 1, true), by_calls = lite_accessed("lt2", 1, false);

	pattern(mine, LEN, 1);
	r = lite_lend(self->one, mine, LEN, "mine", RW);
	ASSERT_NE(0, r) TH_LOG("%s", strerror(errno));
	m = lite_map(self->two, 1, "mine", RW);
	ASSERT_NE(0, m) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, lite_read(self->two, m, 0, copy, LEN)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, memcmp(mine, copy, LEN));
	pattern(copy, LEN, 77);
	ASSERT_EQ(0, lite_write(self->two, m, 0, copy, LEN)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, memcmp(mine, copy, LEN));
	/* Nobody of this node was asked for that. */
	EXPECT_LE(alone + 4, lite_accessed("lt2", 1, true));
	EXPECT_EQ(by_calls, lite_accessed("lt2", 1, false));
	/* Nothing around it. */
	EXPECT_EQ(0, mine[-1]);
	EXPECT_EQ(0, mine[LEN]);
	/* Through the handle of its process, too. */
	ASSERT_EQ(0, lite_read(self->one, r, 5000, copy, 10));
	EXPECT_EQ(0, memcmp(mine + 5000, copy, 10));
	/* A word at the end of a page; the process sees what others do to it. */
	memcpy(mine + PAGE - 16, &word, 8);
	ASSERT_EQ(0, lite_fetch_add(self->two, m, PAGE - 16, 2, &old));
	memcpy(&word, mine + PAGE - 16, 8);
	EXPECT_EQ(40, old);
	EXPECT_EQ(42, word);
	EXPECT_EQ(EINVAL, ERRNO_OF(lite_fetch_add(self->two, m, 4, 2, &old)));
	EXPECT_EQ(ERANGE, ERRNO_OF(lite_read(self->two, m, LEN - 1, copy, 2)));
	ASSERT_EQ(0, lite_memset(self->two, m, 100, 9, 2 * PAGE));
	for (int i = 100; i < 100 + 2 * PAGE; i++)
		ASSERT_EQ(9, mine[i]);
	other = lite_malloc(self->two, 2, LEN, NULL, 0, 0);
	ASSERT_NE(0, other);
	ASSERT_EQ(0, lite_memcpy(self->two, other, 0, m, 0, LEN)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, lite_read(self->two, other, 0, copy, LEN));
	EXPECT_EQ(0, memcmp(mine, copy, LEN));
	ASSERT_EQ(0, lite_memmove(self->two, m, 50, m, 0, 10 * PAGE));
	EXPECT_EQ(0, memcmp(mine + 50, copy, 10 * PAGE));
	free(copy);
}

TEST_F(lend, it_is_locked_memory_until_it_is_given_up_and_then_of_use_to_nobody)
{
	long before = pinned();
	unsigned long long used = node_attr_number("lt1", "memory_used");
	uint64_t r, m;
	char byte = 5;

	EXPECT_EQ(0, locked());
	r = lite_lend(self->one, self->room + 8, 3 * PAGE, "mine", ALL);
	ASSERT_NE(0, r);
	EXPECT_EQ(16, locked());
	EXPECT_EQ(before + 4, pinned());
	/* It is none of the node's memory. */
	EXPECT_EQ(used, node_attr_number("lt1", "memory_used"));
	m = lite_map(self->two, 1, "mine", ALL);
	ASSERT_NE(0, m);
	/* What is unmapped, and made anew, is not what was lent. */
	ASSERT_EQ(0, munmap(self->room, PAGE));
	ASSERT_EQ(0, lite_write(self->two, m, 0, &byte, 1));
	ASSERT_EQ(0, lite_read(self->one, r, 0, &byte, 1));
	EXPECT_EQ(5, byte);
	/* Another one cannot keep it, not even one that takes our rights. */
	ASSERT_EQ(0, lite_grant(self->two, m, 1, 0));
	ASSERT_EQ(0, lite_unmap(self->one, r)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(ESTALE, ERRNO_OF(lite_read(self->two, m, 0, &byte, 1)));
	EXPECT_EQ(0, locked());
	EXPECT_EQ(before, pinned());
	EXPECT_EQ(0, lite_map(self->two, 1, "mine", ALL));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(0, lite_unmap(self->two, m));
}

/* Reads and writes all of a region, again and again, until it may not. */
struct user {
	int fd;
	uint64_t handle;
	int err;
	volatile int rounds;
	pthread_t thread;
};

static void *use(void *arg)
{
	struct user *u = arg;
	uint8_t *bytes = malloc(LEN);

	memset(bytes, 0xee, LEN);
	do {
		u->err = ERRNO_OF(lite_write(u->fd, u->handle, 0, bytes, LEN)) ?:
			 ERRNO_OF(lite_read(u->fd, u->handle, 0, bytes, LEN));
		u->rounds++;
	} while (!u->err);
	free(bytes);
	return NULL;
}

TEST_F(lend, what_is_taken_back_under_load_is_nobody_else_s_from_then_on)
{
	for (int round = 0; round < 6; round++) {
		/* By UNMAP, and by close(2). */
		int fd = round % 2 ? lite_open("lt1", 0) : self->one;
		struct user u = { .fd = self->two };
		uint64_t r;

		ASSERT_LE(0, fd);
		r = lite_lend(fd, self->room + 16, LEN, "mine", RW);
		ASSERT_NE(0, r) TH_LOG("%s", strerror(errno));
		u.handle = lite_map(self->two, 1, "mine", RW);
		ASSERT_NE(0, u.handle) TH_LOG("%s", strerror(errno));
		ASSERT_EQ(0, pthread_create(&u.thread, NULL, use, &u));
		EXPECT_TRUE(EVENTUALLY(20000, u.rounds > round % 3));
		if (round % 2)
			close(fd);
		else
			EXPECT_EQ(0, lite_unmap(fd, r)) TH_LOG("%s", strerror(errno));
		EXPECT_EQ(0, locked());
		memset(self->room, round, ROOM);
		pthread_join(u.thread, NULL);
		EXPECT_EQ(ESTALE, u.err) TH_LOG("%s", strerror(u.err));
		sleep_ms(50);
		/* All of it is what the process wrote last. */
		EXPECT_EQ(round, self->room[0]);
		EXPECT_EQ(0, memcmp(self->room, self->room + 1, ROOM - 1));
		/* They were told, not cut off. */
		EXPECT_EQ(0, lite_ping(self->two, 1, 8, 0)) TH_LOG("%s", strerror(errno));
		EXPECT_EQ(0, lite_unmap(self->two, u.handle));
	}
}

TEST_F(lend, a_killed_process_takes_its_memory_with_it)
{
	long before = pinned();
	int pipes[2], status;
	uint64_t m;
	char byte;
	pid_t child;

	ASSERT_EQ(0, pipe(pipes));
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		int fd = lite_open("lt1", 0);

		memset(self->room, 3, ROOM);
		if (write(pipes[1], lite_lend(fd, self->room, ROOM, "mine", RW) ? "+" : "-", 1) != 1)
			exit(1);
		pause();
		exit(0);
	}
	ASSERT_EQ(1, read(pipes[0], &byte, 1));
	ASSERT_EQ('+', byte);
	EXPECT_EQ(before + ROOM / PAGE, pinned());
	m = lite_map(self->two, 1, "mine", RW);
	ASSERT_NE(0, m);
	ASSERT_EQ(0, lite_read(self->two, m, ROOM - 1, &byte, 1));
	EXPECT_EQ(3, byte);
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(EVENTUALLY(20000, ERRNO_OF(lite_read(self->two, m, 0, &byte, 1)) == ESTALE));
	EXPECT_TRUE(EVENTUALLY(20000, pinned() == before));
	EXPECT_TRUE(lite_reachable(self->two, 1, 30000));
}

TEST_F(lend, a_process_lends_no_more_than_it_may_lock)
{
	int status;
	pid_t child;

	ASSERT_EQ(0, chmod(LITE_DEVICE, 0666));
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		struct rlimit limit = { 16 * PAGE, 16 * PAGE };
		int fd = lite_open("lt1", 0);
		uint64_t r;

		if (fd < 0 || setrlimit(RLIMIT_MEMLOCK, &limit) || setresuid(1000, 1000, 1000))
			_exit(1);
		if (lite_lend(fd, self->room, 16 * PAGE + 1, NULL, 0) || errno != ENOMEM)
			_exit(2);
		r = lite_lend(fd, self->room, 16 * PAGE, NULL, 0);
		if (!r)
			_exit(3);
		if (lite_lend(fd, self->room, 8, NULL, 0) || errno != ENOMEM)
			_exit(4);
		if (lite_unmap(fd, r) || !lite_lend(fd, self->room, 8, NULL, 0))
			_exit(5);
		_exit(0);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	chmod(LITE_DEVICE, 0600);
}

TEST_F(lend, what_is_not_the_process_s_to_write_is_refused)
{
	uint8_t *constant = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rdma_lite_lend lend = { .addr = (uintptr_t)self->room, .len = 8, .rights = 8 };
	long before = pinned();

	ASSERT_NE(MAP_FAILED, constant);
	EXPECT_EQ(0, lite_lend(self->one, constant, PAGE, NULL, 0));
	EXPECT_EQ(EFAULT, errno);
	/* The first pages are there, the last one is not. */
	ASSERT_EQ(0, munmap(self->room + 2 * PAGE, PAGE));
	EXPECT_EQ(0, lite_lend(self->one, self->room, 3 * PAGE, NULL, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, lite_lend(self->one, self->room + 4, 8, NULL, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, lite_lend(self->one, self->room, 0, NULL, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, lite_lend(self->one, self->room, 1ull << 63, NULL, 0));
	EXPECT_EQ(EFBIG, errno);
	EXPECT_EQ(0, lite_lend(self->one, self->room, ~0ull, NULL, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, lite_lend(self->one, NULL, 8, NULL, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_LEND, &lend)));
	lend.rights = 0;
	lend.flags = 1;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_LEND, &lend)));
	EXPECT_EQ(before, pinned());
	EXPECT_EQ(0, locked());
	munmap(constant, PAGE);
}

TEST_F(lend, a_node_that_is_switched_off_lets_go_of_it)
{
	long before = pinned();
	uint64_t r = lite_lend(self->one, self->room, 10 * PAGE, NULL, 0);
	char byte;

	ASSERT_NE(0, r);
	ASSERT_EQ(0, node_power(1, false));
	EXPECT_EQ(before, pinned());
	EXPECT_EQ(0, locked());
	ASSERT_EQ(0, node_power(1, true));
	EXPECT_EQ(ESTALE, ERRNO_OF(lite_read(self->one, r, 0, &byte, 1)));
	EXPECT_EQ(0, lite_unmap(self->one, r));
}

TEST_HARNESS_MAIN
