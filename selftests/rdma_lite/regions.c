// SPDX-License-Identifier: GPL-2.0
/* Memory regions: at any node, for any node, and for nobody who may not. */
#include <pthread.h>

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define ALL (RDMA_LITE_READ | RDMA_LITE_WRITE | RDMA_LITE_ADMIN)
#define RW (RDMA_LITE_READ | RDMA_LITE_WRITE)
#define MIB (1ull << 20)

FIXTURE(regions) {
	struct cluster c;
	int one, two, three;
};

FIXTURE_SETUP(regions)
{
	ASSERT_EQ(0, cluster_up(&self->c, 3));
	self->one = self->c.fd[1];
	self->two = self->c.fd[2];
	self->three = self->c.fd[3];
}

FIXTURE_TEARDOWN(regions)
{
	cluster_down(&self->c);
}

static void pattern(uint8_t *bytes, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = i * 31 + i / 251 + seed;
}

/* Bytes that the regions of node i take. */
static unsigned long long used(int i)
{
	char node[16];

	snprintf(node, sizeof(node), "lt%d", i);
	return node_attr_number(node, "memory_used");
}

static int io(int fd, uint64_t handle, uint64_t offset, uint64_t len, void *buf, uint32_t timeout_ms)
{
	struct rdma_lite_io io = {
		.handle = handle, .offset = offset, .len = len, .buf = (uintptr_t)buf,
		.timeout_ms = timeout_ms,
	};

	return ioctl(fd, RDMA_LITE_IOC_READ, &io);
}

TEST_F(regions, of_this_and_of_another_node_keep_what_is_written)
{
	static const uint64_t sizes[] = { 1, 8, 4095, 4097, 70000, 3 * MIB + 5 };
	uint8_t *in = malloc(4 * MIB), *out = malloc(4 * MIB);

	for (int node = 1; node <= 2; node++) {
		for (size_t s = 0; s < COUNT(sizes); s++) {
			uint64_t len = sizes[s];
			uint64_t r = lite_malloc(self->one, node, len + 777, NULL, 0, 0);

			ASSERT_NE(0, r) TH_LOG("node %d, %llu bytes: %s", node, (unsigned long long)len, strerror(errno));
			pattern(in, len, s + node);
			ASSERT_EQ(0, lite_write(self->one, r, 77, in, len)) TH_LOG("%s", strerror(errno));
			memset(out, 0, len);
			ASSERT_EQ(0, lite_read(self->one, r, 77, out, len)) TH_LOG("%s", strerror(errno));
			EXPECT_EQ(0, memcmp(in, out, len));
			/* Around it there is still nothing. */
			ASSERT_EQ(0, lite_read(self->one, r, 0, out, 77));
			for (int i = 0; i < 77; i++) {
				EXPECT_EQ(0, out[i]);
			}
			EXPECT_EQ(0, lite_free(self->one, r));
		}
	}
	free(in);
	free(out);
}

TEST_F(regions, are_shared_by_name_with_the_rights_that_were_given)
{
	uint64_t r = lite_malloc(self->one, 2, 9000, "shared", RDMA_LITE_READ, 0), m;
	char text[16] = "";

	ASSERT_NE(0, r);
	ASSERT_EQ(0, lite_write(self->one, r, 8000, "hello", 6));
	m = lite_map(self->three, 2, "shared", RDMA_LITE_READ);
	ASSERT_NE(0, m) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, lite_read(self->three, m, 8000, text, 6));
	EXPECT_STREQ("hello", text);
	EXPECT_EQ(EACCES, ERRNO_OF(lite_write(self->three, m, 8000, "x", 1)));
	EXPECT_EQ(EACCES, ERRNO_OF(lite_memset(self->three, m, 0, 1, 1)));
	EXPECT_EQ(EACCES, ERRNO_OF(lite_fetch_add(self->three, m, 0, 1, NULL)));
	EXPECT_EQ(EACCES, ERRNO_OF(lite_free(self->three, m)));
	EXPECT_EQ(EACCES, ERRNO_OF(lite_grant(self->three, m, 3, ALL)));
	/* More than was given cannot be mapped, until it is given. */
	EXPECT_EQ(0, lite_map(self->three, 2, "shared", RW));
	EXPECT_EQ(EACCES, errno);
	ASSERT_EQ(0, lite_grant(self->one, r, 3, RW)) TH_LOG("%s", strerror(errno));
	m = lite_map(self->three, 2, "shared", RW);
	ASSERT_NE(0, m);
	ASSERT_EQ(0, lite_write(self->three, m, 8000, "world", 6));
	ASSERT_EQ(0, lite_read(self->one, r, 8000, text, 6));
	EXPECT_STREQ("world", text);
	/* The owner of the memory needs a right as well. */
	EXPECT_EQ(0, lite_map(self->two, 2, "shared", RW));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(0, lite_map(self->two, 2, "nothing", RDMA_LITE_READ));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(0, lite_malloc(self->two, 2, 1, "shared", 0, 0));
	EXPECT_EQ(EEXIST, errno);
	EXPECT_EQ(0, lite_free(self->one, r));
}

TEST_F(regions, that_were_revoked_cannot_be_used_and_others_go_on)
{
	uint64_t r = lite_malloc(self->one, 2, 2 * MIB, "revoked", RW, 0);
	uint64_t three = lite_map(self->three, 2, "revoked", RW);
	uint64_t two = lite_map(self->two, 2, "revoked", RW);
	char byte;

	ASSERT_NE(0, r);
	ASSERT_NE(0, three);
	ASSERT_NE(0, two);
	/* Keys are known from now on. */
	ASSERT_EQ(0, lite_read(self->three, three, MIB, &byte, 1));
	ASSERT_EQ(0, lite_read(self->two, two, MIB, &byte, 1));
	ASSERT_EQ(0, lite_grant(self->one, r, 3, 0)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(EACCES, ERRNO_OF(lite_read(self->three, three, MIB, &byte, 1)));
	EXPECT_EQ(EACCES, ERRNO_OF(lite_write(self->three, three, MIB, &byte, 1)));
	EXPECT_EQ(0, lite_map(self->three, 2, "revoked", RDMA_LITE_READ));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(0, lite_read(self->two, two, MIB, &byte, 1));
	EXPECT_EQ(0, lite_read(self->one, r, MIB, &byte, 1));
	/* Less than all: what is left can be done still. */
	ASSERT_EQ(0, lite_grant(self->one, r, 0, RDMA_LITE_READ));
	EXPECT_EQ(0, lite_read(self->two, two, MIB, &byte, 1));
	EXPECT_EQ(EACCES, ERRNO_OF(lite_write(self->two, two, MIB, &byte, 1)));
	/* No connection broke. */
	EXPECT_EQ(0, lite_ping(self->three, 2, 8, 1000));
	EXPECT_EQ(0, lite_ping(self->one, 2, 8, 1000));
	EXPECT_EQ(0, lite_unmap(self->three, three));
	EXPECT_EQ(0, lite_free(self->one, r));
}

TEST_F(regions, that_were_freed_are_stale_for_all_who_have_them)
{
	unsigned long long before = used(2);
	uint64_t r = lite_malloc(self->one, 2, MIB, "freed", RW, 0);
	uint64_t m = lite_map(self->three, 2, "freed", RW);
	char byte = 1;

	ASSERT_NE(0, r);
	ASSERT_NE(0, m);
	EXPECT_EQ(before + MIB, used(2));
	ASSERT_EQ(0, lite_write(self->three, m, 5, &byte, 1));
	ASSERT_EQ(0, lite_free(self->one, r)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(before, used(2));
	EXPECT_EQ(ESTALE, ERRNO_OF(lite_read(self->three, m, 5, &byte, 1)));
	EXPECT_EQ(ESTALE, ERRNO_OF(lite_memset(self->three, m, 5, 1, 1)));
	EXPECT_EQ(EBADF, ERRNO_OF(lite_read(self->one, r, 5, &byte, 1)));
	EXPECT_EQ(0, lite_unmap(self->three, m));
	EXPECT_EQ(EBADF, ERRNO_OF(lite_unmap(self->three, m)));
	/* The name is free, and its memory is new. */
	r = lite_malloc(self->one, 2, MIB, "freed", RW, 0);
	ASSERT_NE(0, r);
	ASSERT_EQ(0, lite_read(self->one, r, 5, &byte, 1));
	EXPECT_EQ(0, byte);
}

TEST_F(regions, are_set_copied_and_moved_by_their_owners)
{
	uint64_t len = 2 * MIB + 100;
	uint8_t *want = malloc(len), *got = malloc(len);

	for (int to = 1; to <= 3; to++) {
		uint64_t a = lite_malloc(self->one, 2, len, NULL, 0, 0);
		uint64_t b = lite_malloc(self->one, to, len, NULL, 0, 0);

		ASSERT_NE(0, a);
		ASSERT_NE(0, b);
		pattern(want, len, to);
		ASSERT_EQ(0, lite_write(self->one, a, 0, want, len));
		ASSERT_EQ(0, lite_memcpy(self->one, b, 3, a, 50, len - 60)) TH_LOG("to %d: %s", to, strerror(errno));
		ASSERT_EQ(0, lite_read(self->one, b, 3, got, len - 60));
		EXPECT_EQ(0, memcmp(want + 50, got, len - 60));
		ASSERT_EQ(0, lite_memset(self->one, b, 1000, 0xa5, MIB));
		ASSERT_EQ(0, lite_read(self->one, b, 999, got, MIB + 2));
		EXPECT_EQ(want[50 + 996], got[0]);
		EXPECT_EQ(want[50 + 997 + MIB], got[MIB + 1]);
		for (uint64_t i = 1; i <= MIB; i++) {
			ASSERT_EQ(0xa5, got[i]);
		}
		EXPECT_EQ(0, lite_free(self->one, a));
		EXPECT_EQ(0, lite_free(self->one, b));
	}
	/* Overlapping, both ways. */
	for (int way = 0; way < 2; way++) {
		uint64_t a = lite_malloc(self->one, 2, len, NULL, 0, 0);
		uint64_t from = way ? 0 : 12345, to = way ? 12345 : 0;

		pattern(want, len, 7);
		ASSERT_EQ(0, lite_write(self->one, a, 0, want, len));
		ASSERT_EQ(0, lite_memmove(self->one, a, to, a, from, len - 12345));
		memmove(want + to, want + from, len - 12345);
		ASSERT_EQ(0, lite_read(self->one, a, 0, got, len));
		EXPECT_EQ(0, memcmp(want, got, len));
		EXPECT_EQ(0, lite_free(self->one, a));
	}
	free(want);
	free(got);
}

struct adder {
	int fd;
	uint64_t handle;
	int err;
};

static void *add_many(void *arg)
{
	struct adder *a = arg;

	for (int i = 0; i < 100 && !a->err; i++) {
		uint64_t seen = 0;

		if (lite_fetch_add(a->fd, a->handle, 16, 3, NULL))
			a->err = errno;
		/* And the same by compare-and-swap. */
		for (;;) {
			uint64_t expected = seen;

			if (lite_compare_swap(a->fd, a->handle, 24, &expected, seen + 5))
				a->err = errno;
			if (a->err || expected == seen)
				break;
			seen = expected;
		}
	}
	return NULL;
}

TEST_F(regions, have_words_that_all_nodes_change_at_once_and_none_is_lost)
{
	uint64_t r = lite_malloc(self->one, 2, 4096, "words", RW, 0);
	struct adder adders[3] = {
		{ self->one, r, 0 },
		{ self->two, lite_map(self->two, 2, "words", RW), 0 },
		{ self->three, lite_map(self->three, 2, "words", RW), 0 },
	};
	pthread_t threads[3];
	uint64_t words[2];

	for (int i = 0; i < 3; i++) {
		ASSERT_NE(0, adders[i].handle);
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, add_many, &adders[i]));
	}
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, adders[i].err) TH_LOG("%s", strerror(adders[i].err));
	}
	ASSERT_EQ(0, lite_read(self->one, r, 16, words, 16));
	EXPECT_EQ(3 * 100 * 3, words[0]);
	EXPECT_EQ(3 * 100 * 5, words[1]);
	EXPECT_EQ(EINVAL, ERRNO_OF(lite_fetch_add(self->one, r, 17, 1, NULL)));
	EXPECT_EQ(ERANGE, ERRNO_OF(lite_fetch_add(self->one, r, 4096, 1, NULL)));
	EXPECT_EQ(ERANGE, ERRNO_OF(lite_fetch_add(self->one, r, 0xfffffffffffffff8ull, 1, NULL)));
}

TEST_F(regions, refuse_ranges_that_are_none)
{
	static const uint64_t bad[][2] = {
		{ 5000, 1 }, { 0, 5001 }, { 4999, 2 }, { 1, 5000 }, { 0, 1ull << 63 }, { 1ull << 63, 1 },
		{ 0xffffffffffffffffull, 1 }, { 0xffffffffffffffffull, 2 }, { 4000, 0xffffffffffffffffull },
	};

	for (int node = 1; node <= 2; node++) {
		uint64_t r = lite_malloc(self->one, node, 5000, NULL, 0, 0);
		uint64_t other = lite_malloc(self->one, 3, 5000, NULL, 0, 0);
		char buf[16];

		ASSERT_NE(0, r);
		for (size_t i = 0; i < COUNT(bad); i++) {
			EXPECT_EQ(ERANGE, ERRNO_OF(lite_read(self->one, r, bad[i][0], buf, bad[i][1])));
			EXPECT_EQ(ERANGE, ERRNO_OF(lite_write(self->one, r, bad[i][0], buf, bad[i][1])));
			EXPECT_EQ(ERANGE, ERRNO_OF(lite_memset(self->one, r, bad[i][0], 1, bad[i][1])));
			EXPECT_EQ(ERANGE, ERRNO_OF(lite_memcpy(self->one, r, bad[i][0], other, 0, bad[i][1])));
			EXPECT_EQ(ERANGE, ERRNO_OF(lite_memcpy(self->one, other, 0, r, bad[i][0], bad[i][1])));
		}
		EXPECT_EQ(EINVAL, ERRNO_OF(lite_read(self->one, r, 0, buf, 0)));
		EXPECT_EQ(EINVAL, ERRNO_OF(lite_memset(self->one, r, 0, 1, 0)));
		/* The last byte is there. */
		EXPECT_EQ(0, lite_read(self->one, r, 4999, buf, 1));
	}
	EXPECT_EQ(0, lite_malloc(self->one, 2, 0, NULL, 0, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, lite_malloc(self->one, 2, 1ull << 63, NULL, 0, 0));
	EXPECT_TRUE(errno == EFBIG || errno == ENOSPC);
	EXPECT_EQ(0, lite_malloc(self->one, 2, 1ull << 40, NULL, 0, 0));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(0, lite_malloc(self->one, 99, 1, NULL, 0, 0));
	EXPECT_EQ(EHOSTDOWN, errno);
	EXPECT_EQ(0, lite_malloc(self->one, 2, 1, NULL, 8, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, lite_malloc(self->one, 2, 1, NULL, 0, RDMA_LITE_REGION_KEEP));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(regions, refuse_memory_that_is_not_the_programs)
{
	char *hole = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, hole);
	ASSERT_EQ(0, munmap(hole + 4096, 4096));
	for (int node = 1; node <= 2; node++) {
		uint64_t r = lite_malloc(self->one, node, 20000, NULL, 0, 0);

		ASSERT_NE(0, r);
		EXPECT_EQ(EFAULT, ERRNO_OF(lite_read(self->one, r, 0, NULL, 10)));
		EXPECT_EQ(EFAULT, ERRNO_OF(lite_write(self->one, r, 0, NULL, 10)));
		EXPECT_EQ(EFAULT, ERRNO_OF(lite_read(self->one, r, 0, hole + 4090, 10)));
		EXPECT_EQ(EFAULT, ERRNO_OF(lite_write(self->one, r, 0, hole + 4090, 10)));
		EXPECT_EQ(EFAULT, ERRNO_OF(lite_read(self->one, r, 0, (void *)-8ull, 10)));
		EXPECT_EQ(EFAULT, ERRNO_OF(lite_read(self->one, r, 0, (void *)0xffff888000000000ull, 10)));
	}
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_ALLOC, NULL)));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_READ, hole + 4096)));
}

TEST_F(regions, are_not_reached_by_handles_that_were_guessed_or_are_of_another_file)
{
	uint64_t r = lite_malloc(self->one, 2, 4096, NULL, 0, 0);
	int other = lite_open("lt1", 0);
	char byte;

	ASSERT_NE(0, r);
	ASSERT_GE(other, 0);
	EXPECT_EQ(EBADF, ERRNO_OF(lite_read(other, r, 0, &byte, 1)));
	EXPECT_EQ(EBADF, ERRNO_OF(lite_free(other, r)));
	EXPECT_EQ(EBADF, ERRNO_OF(lite_read(self->one, 0, 0, &byte, 1)));
	EXPECT_EQ(EBADF, ERRNO_OF(lite_read(self->one, r + 1, 0, &byte, 1)));
	EXPECT_EQ(EBADF, ERRNO_OF(lite_read(self->one, r + (1ull << 32), 0, &byte, 1)));
	EXPECT_EQ(EBADF, ERRNO_OF(lite_unlock(self->one, r)));
	for (uint64_t guess = 0; guess < 64; guess++) {
		EXPECT_EQ(EBADF, ERRNO_OF(lite_read(other, guess, 0, &byte, 1)));
		EXPECT_EQ(EBADF, ERRNO_OF(lite_read(other, guess << 32, 0, &byte, 1)));
	}
	ASSERT_EQ(0, lite_unmap(self->one, r));
	EXPECT_EQ(EBADF, ERRNO_OF(lite_read(self->one, r, 0, &byte, 1)));
	/* The place is used again, under another handle. */
	EXPECT_NE(r, lite_malloc(self->one, 2, 4096, NULL, 0, 0));
	close(other);
}

TEST_F(regions, end_with_the_file_also_when_its_program_is_killed)
{
	unsigned long long before = used(2);
	int ready[2];
	char byte;
	pid_t child;

	ASSERT_EQ(0, pipe(ready));
	child = fork();
	if (!child) {
		int fd = lite_open("lt1", 0);
		uint64_t r = lite_malloc(fd, 2, 4 * MIB, "doomed", RW, 0);

		for (int i = 0; i < 20; i++)
			r = r && lite_malloc(fd, 2, 5000, NULL, 0, 0) ? r : 0;
		if (!r || lite_write(fd, r, 0, "x", 1) || write(ready[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	EXPECT_LT(before + 4 * MIB, used(2));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	EXPECT_TRUE(EVENTUALLY(10000, used(2) == before)) TH_LOG("%llu bytes are left", used(2) - before);
	EXPECT_EQ(0, lite_map(self->one, 2, "doomed", RDMA_LITE_READ));
	EXPECT_EQ(ENOENT, errno);
}

TEST_F(regions, that_are_kept_outlive_their_maker_until_they_are_freed)
{
	int fd = lite_open("lt1", 0);
	uint64_t r = lite_malloc(fd, 2, 4096, "kept", ALL, RDMA_LITE_REGION_KEEP);
	struct rdma_lite_region_info info;
	char text[8] = "";

	ASSERT_NE(0, r);
	ASSERT_EQ(0, lite_write(fd, r, 0, "there", 6));
	close(fd);
	r = lite_map(self->three, 2, "kept", ALL);
	ASSERT_NE(0, r) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, lite_read(self->three, r, 0, text, 6));
	EXPECT_STREQ("there", text);
	ASSERT_EQ(0, lite_region_info(self->three, r, &info));
	EXPECT_EQ(2, info.node);
	EXPECT_EQ(4096, info.len);
	EXPECT_EQ(ALL, info.rights);
	EXPECT_EQ(RDMA_LITE_REGION_KEEP, info.flags);
	EXPECT_EQ(0, lite_free(self->three, r));
	EXPECT_EQ(0, lite_map(self->three, 2, "kept", ALL));
	EXPECT_EQ(ENOENT, errno);
}

TEST_F(regions, stop_at_the_limit_of_their_node)
{
	uint64_t r;

	ASSERT_EQ(0, node_power(2, false));
	ASSERT_EQ(0, node_attr("lt2", "memory_limit", "1048576"));
	ASSERT_EQ(0, node_power(2, true));
	self->c.map[1].incarnation = 0;
	close(self->c.fd[2]);
	self->c.fd[2] = lite_open("lt2", O_NONBLOCK);
	ASSERT_EQ(0, cluster_publish(&self->c));
	ASSERT_TRUE(lite_reachable(self->one, 2, 30000));
	EXPECT_EQ(0, lite_malloc(self->one, 2, MIB + 1, NULL, 0, 0));
	EXPECT_EQ(ENOSPC, errno);
	r = lite_malloc(self->one, 2, MIB, NULL, 0, 0);
	EXPECT_NE(0, r);
	EXPECT_EQ(0, lite_malloc(self->one, 2, 1, NULL, 0, 0));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(0, lite_free(self->one, r));
	EXPECT_NE(0, lite_malloc(self->one, 2, MIB, NULL, 0, 0));
}

TEST_F(regions, of_a_node_that_was_switched_off_and_on_are_stale)
{
	uint64_t r = lite_malloc(self->one, 2, MIB, "lost", RW, 0);
	char byte;

	ASSERT_NE(0, r);
	ASSERT_EQ(0, lite_read(self->one, r, 0, &byte, 1));
	ASSERT_EQ(0, node_power(2, false));
	ASSERT_EQ(0, node_power(2, true));
	ASSERT_EQ(0, cluster_publish(&self->c));
	ASSERT_TRUE(lite_reachable(self->one, 2, 30000));
	EXPECT_EQ(ESTALE, ERRNO_OF(lite_read(self->one, r, 0, &byte, 1)));
	EXPECT_EQ(0, lite_unmap(self->one, r));
	EXPECT_EQ(0, used(2));
}

TEST_F(regions, of_a_holder_that_the_map_drops_are_free)
{
	unsigned long long before = used(2);
	uint64_t r = lite_malloc(self->three, 2, MIB, "orphan", RW, 0);
	char byte;

	ASSERT_NE(0, r);
	ASSERT_EQ(0, lite_read(self->three, r, 0, &byte, 1));
	self->c.map[2].state = RDMA_LITE_NODE_DOWN;
	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_TRUE(EVENTUALLY(10000, used(2) == before));
	EXPECT_NE(0, ERRNO_OF(io(self->three, r, 0, 1, &byte, 1000)));
}

TEST_F(regions, of_a_node_that_is_cut_off_end_by_the_deadline_and_come_back)
{
	uint64_t r = lite_malloc(self->one, 2, MIB, NULL, 0, 0);
	char byte = 0;
	int64_t start;

	if (lite_is_shm())
		SKIP(return, LITE_NO_LINK);
	ASSERT_NE(0, r);
	ASSERT_EQ(0, lite_write(self->one, r, 9, "x", 1));
	ASSERT_EQ(0, link_cut(2));
	start = now_ms();
	EXPECT_EQ(ETIMEDOUT, ERRNO_OF(io(self->one, r, 9, 1, &byte, 2000)));
	EXPECT_LE(now_ms() - start, 2000 + LITE_MARGIN_MS);
	ASSERT_EQ(0, link_mend(2));
	EXPECT_TRUE(EVENTUALLY(30000, io(self->one, r, 9, 1, &byte, 2000) == 0)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ('x', byte);
}

struct reader {
	int fd;
	uint64_t handle;
	volatile bool stop;
	int err;
	volatile unsigned int reads;
};

static void *read_on(void *arg)
{
	struct reader *r = arg;
	char buf[5000];

	while (!r->stop) {
		if (lite_read(r->fd, r->handle, (r->reads * 4099) % 900000, buf, sizeof(buf))) {
			r->err = errno;
			break;
		}
		r->reads++;
	}
	return NULL;
}

TEST_F(regions, that_are_revoked_in_use_end_that_use_and_break_nothing)
{
	for (int round = 0; round < 5; round++) {
		uint64_t r = lite_malloc(self->one, 2, MIB, "busy", RW, 0);
		struct reader readers[4] = {};
		pthread_t threads[4];

		ASSERT_NE(0, r);
		for (int i = 0; i < 4; i++) {
			readers[i].fd = i % 2 ? self->three : self->two;
			readers[i].handle = lite_map(readers[i].fd, 2, "busy", RDMA_LITE_READ);
			ASSERT_NE(0, readers[i].handle);
			ASSERT_EQ(0, pthread_create(&threads[i], NULL, read_on, &readers[i]));
		}
		/* All of them are at it, however slow the machine. */
		for (int i = 0; i < 4; i++)
			EXPECT_TRUE(EVENTUALLY(20000, readers[i].reads > 0));
		sleep_ms(100);
		if (round % 2) {
			EXPECT_EQ(0, lite_free(self->one, r)) TH_LOG("%s", strerror(errno));
		} else {
			EXPECT_EQ(0, lite_grant(self->one, r, 0, 0)) TH_LOG("%s", strerror(errno));
		}
		for (int i = 0; i < 4; i++) {
			pthread_join(threads[i], NULL);
			EXPECT_EQ(round % 2 ? ESTALE : EACCES, readers[i].err);
			EXPECT_LT(0, readers[i].reads);
			EXPECT_EQ(0, lite_unmap(readers[i].fd, readers[i].handle));
		}
		if (!(round % 2)) {
			EXPECT_EQ(0, lite_free(self->one, r));
		}
		EXPECT_EQ(0, lite_ping(self->three, 2, 8, 1000));
	}
}

TEST_F(regions, with_reserved_fields_set_are_einval)
{
	struct rdma_lite_region region = { .node = 2, .len = 1, .flags = 2 };
	struct rdma_lite_handle handle = { .flags = 1 };
	struct rdma_lite_io io = { .flags = 1 };

	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_ALLOC, &region)));
	region.flags = 0;
	region.reserved[1] = 1;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_ALLOC, &region)));
	memset(region.name, 'x', sizeof(region.name));
	region.reserved[1] = 0;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_ALLOC, &region)));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_MAP, &region)));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_UNMAP, &handle)));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_FREE, &handle)));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_READ, &io)));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_WRITE, &io)));
}

TEST_HARNESS_MAIN
