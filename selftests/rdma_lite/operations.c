// SPDX-License-Identifier: GPL-2.0
/* Operations on regions, many at once, that nobody waits for. */
#include <sys/mman.h>

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define MIB (1ull << 20)
#define COUNT_OPS 64
#define LEN 5000

FIXTURE(operations) {
	struct cluster c;
	int one;
};

FIXTURE_SETUP(operations)
{
	ASSERT_EQ(0, cluster_up(&self->c, 2));
	self->one = self->c.fd[1];
}

FIXTURE_TEARDOWN(operations)
{
	cluster_down(&self->c);
}

static void pattern(uint8_t *bytes, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = i * 31 + i / 251 + seed;
}

/* Hears of nr ends, each once and without an error. */
static bool all_end(int fd, int nr, int64_t limit_ms)
{
	static struct rdma_lite_completion ends[COUNT_OPS];
	bool seen[COUNT_OPS] = { false };
	int64_t until = now_ms() + limit_ms;
	int sum = 0;

	while (sum < nr && now_ms() < until) {
		int n = lite_poll(fd, ends, COUNT_OPS, 1, 5000);

		for (int i = 0; i < n; i++) {
			if (ends[i].error || ends[i].done != LEN || ends[i].cookie >= (uint64_t)nr ||
			    seen[ends[i].cookie]) {
				fprintf(stderr, "# cookie %llu: error %d, done %llu\n",
					(unsigned long long)ends[i].cookie, ends[i].error,
					(unsigned long long)ends[i].done);
				return false;
			}
			seen[ends[i].cookie] = true;
		}
		if (n < 0 && errno != ETIMEDOUT)
			return false;
		sum += n < 0 ? 0 : n;
	}
	return sum == nr;
}

TEST_F(operations, that_were_begun_are_told_of_when_they_are_over)
{
	uint8_t *bytes = malloc(COUNT_OPS * LEN), *back = malloc(COUNT_OPS * LEN), scratch[LEN];
	struct rdma_lite_completion end;

	pattern(bytes, COUNT_OPS * LEN, 3);
	for (int node = 1; node <= 2; node++) {
		uint64_t r = lite_malloc(self->one, node, COUNT_OPS * LEN, NULL, 0, 0);
		struct pollfd p = { .fd = self->one, .events = POLLRDBAND };

		ASSERT_NE(0, r);
		EXPECT_EQ(0, poll(&p, 1, 0));
		EXPECT_EQ(0, lite_poll(self->one, &end, 1, 1, 0));
		for (int i = 0; i < COUNT_OPS; i++) {
			memcpy(scratch, bytes + i * LEN, LEN);
			ASSERT_EQ(0, lite_write_async(self->one, r, i * LEN, scratch, LEN, i)) TH_LOG("%s", strerror(errno));
			/* It was taken. */
			memset(scratch, 0, LEN);
		}
		EXPECT_EQ(1, poll(&p, 1, 20000));
		EXPECT_EQ(POLLRDBAND, p.revents);
		ASSERT_TRUE(all_end(self->one, COUNT_OPS, 60000));
		memset(back, 0, COUNT_OPS * LEN);
		for (int i = 0; i < COUNT_OPS; i++) {
			ASSERT_EQ(0, lite_read_async(self->one, r, i * LEN, back + i * LEN, LEN, i));
		}
		ASSERT_TRUE(all_end(self->one, COUNT_OPS, 60000));
		EXPECT_EQ(0, memcmp(bytes, back, COUNT_OPS * LEN));
		EXPECT_EQ(0, poll(&p, 1, 0));
		EXPECT_EQ(0, lite_free(self->one, r));
	}
	free(bytes);
	free(back);
}

TEST_F(operations, gather_and_scatter)
{
	uint64_t r = lite_malloc(self->one, 2, 1000, NULL, 0, 0);
	char a[3] = "abc", b[4] = "defg", whole[8] = "", c[1], d[6];
	struct rdma_lite_segment from[] = { { (uintptr_t)a, 3 }, { (uintptr_t)b, 4 }, { 0, 0 } };
	struct rdma_lite_segment to[] = { { (uintptr_t)c, 1 }, { 0, 0 }, { (uintptr_t)d, 6 } };
	struct rdma_lite_op op = {
		.opcode = RDMA_LITE_OP_WRITE, .segments = 2, .handle = r, .len = 8, .buf = (uintptr_t)from,
	};

	ASSERT_NE(0, r);
	ASSERT_EQ(0, lite_writev(self->one, r, 100, from, 3)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, lite_read(self->one, r, 100, whole, 8));
	EXPECT_STREQ("abcdefg", whole);
	ASSERT_EQ(0, lite_readv(self->one, r, 100, to, 3)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ('a', c[0]);
	EXPECT_EQ(0, memcmp(d, "bcdefg", 6));
	/* The parts are as long as the whole. */
	EXPECT_EQ(1, lite_batch(self->one, &op, 1, 0));
	EXPECT_EQ(-EINVAL, op.error);
	from[0].len = ~0ull;
	EXPECT_EQ(EINVAL, ERRNO_OF(lite_writev(self->one, r, 0, from, 3)));
}

TEST_F(operations, fill_and_copy_and_change_words_at_their_owners)
{
	uint64_t near = lite_malloc(self->one, 1, LEN, NULL, 0, 0), far = lite_malloc(self->one, 2, LEN, NULL, 0, 0);
	struct rdma_lite_completion end;
	uint8_t bytes[LEN];
	uint64_t word;

	ASSERT_NE(0, near);
	ASSERT_NE(0, far);
	ASSERT_EQ(0, lite_memset_async(self->one, far, 8, 0xab, LEN - 8, 1)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(1, lite_poll(self->one, &end, 1, 1, 20000));
	EXPECT_EQ(0, end.error);
	EXPECT_EQ(1, end.cookie);
	EXPECT_EQ(LEN - 8, end.done);
	EXPECT_EQ(RDMA_LITE_OP_FILL, end.opcode);
	ASSERT_EQ(0, lite_memmove_async(self->one, near, 1, far, 0, LEN - 1, 2)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(1, lite_poll(self->one, &end, 1, 1, 20000));
	EXPECT_EQ(0, end.error);
	EXPECT_EQ(LEN - 1, end.done);
	ASSERT_EQ(0, lite_read(self->one, near, 0, bytes, LEN));
	for (int i = 0; i < LEN; i++) {
		ASSERT_EQ(i < 9 ? 0 : 0xab, bytes[i]) TH_LOG("byte %d", i);
	}
	ASSERT_EQ(0, lite_fetch_add_async(self->one, far, 0, 40, 3)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(1, lite_poll(self->one, &end, 1, 1, 20000));
	EXPECT_EQ(0, end.error);
	EXPECT_EQ(0, end.done);
	ASSERT_EQ(0, lite_compare_swap_async(self->one, far, 0, 40, 50, 4));
	ASSERT_EQ(1, lite_poll(self->one, &end, 1, 1, 20000));
	EXPECT_EQ(0, end.error);
	EXPECT_EQ(40, end.done);
	ASSERT_EQ(0, lite_compare_swap_async(self->one, far, 0, 40, 60, 5));
	ASSERT_EQ(1, lite_poll(self->one, &end, 1, 1, 20000));
	EXPECT_EQ(50, end.done);
	EXPECT_EQ(RDMA_LITE_OP_COMPARE_SWAP, end.opcode);
	ASSERT_EQ(0, lite_read(self->one, far, 0, &word, 8));
	EXPECT_EQ(50, word);
}

TEST_F(operations, that_are_given_what_they_do_not_have_are_refused)
{
	uint64_t r = lite_malloc(self->one, 2, 1000, NULL, 0, 0);
	uint64_t m = lite_malloc(self->one, 1, 100, "reads", RDMA_LITE_READ, 0), reads;
	struct rdma_lite_op op = { .handle = r, .len = 8 };
	struct rdma_lite_op ops[] = {
		{ .opcode = RDMA_LITE_OP_FILL, .handle = r, .len = 8, .operand = 256 },
		{ .opcode = RDMA_LITE_OP_FILL, .handle = r, .len = 8, .segments = 1 },
		{ .opcode = RDMA_LITE_OP_FILL, .handle = r, .len = 1001 },
		{ .opcode = RDMA_LITE_OP_FILL, .handle = r, .len = 0 },
		{ .opcode = RDMA_LITE_OP_FILL, .handle = r, .len = 8, .done = 1 },
		{ .opcode = RDMA_LITE_OP_FETCH_ADD, .handle = r, .offset = 4, .len = 8 },
		{ .opcode = RDMA_LITE_OP_FETCH_ADD, .handle = r, .len = 4 },
		{ .opcode = RDMA_LITE_OP_FETCH_ADD, .handle = r, .offset = ~7ull, .len = 8 },
		{ .opcode = RDMA_LITE_OP_FETCH_ADD, .handle = r, .len = 8, .expected = 1 },
		{ .opcode = RDMA_LITE_OP_COMPARE_SWAP, .handle = r, .offset = 1000, .len = 8 },
		{ .opcode = RDMA_LITE_OP_COPY, .handle = r, .len = 8, .to = r + (1ull << 32) },
		{ .opcode = RDMA_LITE_OP_COPY, .handle = r, .len = 8, .to = m, .to_offset = 93 },
		{ .opcode = RDMA_LITE_OP_COPY, .handle = r, .len = 8, .to = m, .to_offset = ~0ull },
		{ .opcode = RDMA_LITE_OP_COPY, .handle = r, .offset = 999, .len = 2, .to = m },
	};
	static const int errors[] = {
		EINVAL, EINVAL, ERANGE, EINVAL, EINVAL, EINVAL, EINVAL, ERANGE, EINVAL, ERANGE, EBADF, ERANGE, ERANGE, ERANGE,
	};

	ASSERT_NE(0, r);
	ASSERT_NE(0, m);
	ASSERT_EQ(COUNT(ops), lite_batch(self->one, ops, COUNT(ops), 0)) TH_LOG("%s", strerror(errno));
	for (size_t i = 0; i < COUNT(ops); i++) {
		EXPECT_EQ(-errors[i], ops[i].error) TH_LOG("operation %zu", i);
	}
	/* Without the rights. */
	reads = lite_map(self->one, 1, "reads", RDMA_LITE_READ);
	ASSERT_NE(0, reads);
	for (int opcode = RDMA_LITE_OP_WRITE; opcode <= RDMA_LITE_OP_COMPARE_SWAP; opcode++) {
		char buf[8];

		op.opcode = opcode;
		op.handle = opcode == RDMA_LITE_OP_COPY ? m : reads;
		op.to = opcode == RDMA_LITE_OP_COPY ? reads : opcode == RDMA_LITE_OP_WRITE ? (uintptr_t)buf : 0;
		op.done = 0;
		op.error = 0;
		ASSERT_EQ(1, lite_batch(self->one, &op, 1, 0));
		EXPECT_EQ(-EACCES, op.error) TH_LOG("opcode %d", opcode);
	}
}

TEST_F(operations, are_told_of_again_when_they_could_not_be)
{
	uint64_t r = lite_malloc(self->one, 1, LEN, NULL, 0, 0);
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rdma_lite_completion *ends, all[4];
	struct rdma_lite_poll *poll;
	uint64_t words[3];

	ASSERT_NE(0, r);
	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, lite_memset(self->one, r, 0, 7, LEN));
	memset(words, 0, sizeof(words));
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, lite_read_async(self->one, r, 0, &words[i], 8, i));
	}
	ASSERT_EQ(0, mprotect(pages + 4096, 4096, PROT_READ));
	/* All of the array is not there. */
	EXPECT_EQ(EFAULT, ERRNO_OF(lite_poll(self->one, (void *)(pages + 4096), 3, 3, 20000)));
	EXPECT_EQ(EFAULT, ERRNO_OF(lite_poll(self->one, NULL, 3, 3, 20000)));
	EXPECT_EQ(EFAULT, ERRNO_OF(lite_poll(self->one, (void *)~7ul, 3, 3, 20000)));
	/* The count cannot be written. */
	poll = (void *)(pages + 4096);
	ASSERT_EQ(0, mprotect(pages + 4096, 4096, PROT_READ | PROT_WRITE));
	poll->completions = (uintptr_t)all;
	poll->nr = 3;
	ASSERT_EQ(0, mprotect(pages + 4096, 4096, PROT_READ));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_POLL, poll)));
	/* Only the first fits. */
	ends = (struct rdma_lite_completion *)(pages + 4096) - 1;
	memset(words, 0, sizeof(words));
	ASSERT_EQ(1, lite_poll(self->one, ends, 3, 3, 20000)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(2, lite_poll(self->one, all, 3, 3, 20000));
	EXPECT_EQ(3, ends[0].cookie + all[0].cookie + all[1].cookie);
	EXPECT_NE(all[0].cookie, all[1].cookie);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(0x0707070707070707, words[i]);
	}
	EXPECT_EQ(0, lite_poll(self->one, all, 3, 0, 0));
	munmap(pages, 8192);
}

TEST_F(operations, of_one_file_do_not_wait_for_those_of_another_whose_peer_is_dead)
{
	enum { STUCK = RDMA_LITE_MAX_BATCH };
	uint64_t far = lite_malloc(self->one, 2, LEN, NULL, 0, 0), near;
	static struct rdma_lite_op ops[STUCK];
	struct rdma_lite_completion end;
	int again = lite_open("lt1", 0);
	char buf[LEN];

	ASSERT_NE(0, far);
	ASSERT_GE(again, 0);
	near = lite_malloc(again, 1, LEN, NULL, 0, 0);
	ASSERT_NE(0, near);
	for (int i = 0; i < STUCK; i++)
		ops[i] = (struct rdma_lite_op) {
			.opcode = RDMA_LITE_OP_READ, .handle = far, .len = 8, .buf = (uintptr_t)buf, .cookie = i,
		};
	ASSERT_EQ(0, link_cut(2));
	ASSERT_EQ(STUCK, lite_submit(self->one, ops, STUCK, 60000));
	for (int i = 0; i < 10; i++) {
		ASSERT_EQ(0, lite_write_async(again, near, 0, buf, LEN, i));
		ASSERT_EQ(1, lite_poll(again, &end, 1, 1, 30000)) TH_LOG("%s", strerror(errno));
		EXPECT_EQ(0, end.error);
		EXPECT_EQ(i, end.cookie);
	}
	/* All of the other's are outstanding still. */
	EXPECT_EQ(0, lite_poll(self->one, &end, 1, 0, 0));
	close(again);
	ASSERT_EQ(0, link_mend(2));
	ASSERT_TRUE(lite_reachable(self->one, 2, 30000));
}

TEST_F(operations, of_one_batch_have_their_own_results)
{
	uint64_t r = lite_malloc(self->one, 2, 1000, NULL, 0, 0);
	char in[100], out[100] = "";
	struct rdma_lite_op ops[] = {
		{ .opcode = RDMA_LITE_OP_WRITE, .handle = r, .len = 100, .buf = (uintptr_t)in },
		{ .opcode = RDMA_LITE_OP_READ, .handle = r + 1, .len = 1, .buf = (uintptr_t)out },
		{ .opcode = RDMA_LITE_OP_READ, .handle = r, .offset = 999, .len = 2, .buf = (uintptr_t)out },
		{ .opcode = RDMA_LITE_OP_READ, .handle = r, .len = 1 },
		{ .opcode = 99, .handle = r, .len = 1, .buf = (uintptr_t)out },
		{ .opcode = RDMA_LITE_OP_READ, .handle = r, .len = RDMA_LITE_MAX_ASYNC + 1, .buf = (uintptr_t)out },
		{ .opcode = RDMA_LITE_OP_READ, .handle = r, .buf = (uintptr_t)out },
		{ .opcode = RDMA_LITE_OP_READ, .handle = r, .len = 1ull << 63, .buf = (uintptr_t)out },
		{ .opcode = RDMA_LITE_OP_READ, .handle = r, .offset = ~0ull, .len = 2, .buf = (uintptr_t)out },
		{ .opcode = RDMA_LITE_OP_READ, .handle = r, .offset = 500, .len = 3, .buf = (uintptr_t)out },
	};
	static const int errors[] = { 0, EBADF, ERANGE, EFAULT, EINVAL, ERANGE, EINVAL, ERANGE, ERANGE, 0 };

	ASSERT_NE(0, r);
	memset(in, 7, sizeof(in));
	ASSERT_EQ(COUNT(ops), lite_batch(self->one, ops, COUNT(ops), 0)) TH_LOG("%s", strerror(errno));
	for (size_t i = 0; i < COUNT(ops); i++) {
		EXPECT_EQ(-errors[i], ops[i].error) TH_LOG("operation %zu", i);
	}
	EXPECT_EQ(100, ops[0].done);
	EXPECT_EQ(3, ops[9].done);
	ASSERT_EQ(0, lite_read(self->one, r, 0, out, 100));
	EXPECT_EQ(0, memcmp(in, out, 100));
	EXPECT_EQ(EINVAL, ERRNO_OF(lite_batch(self->one, ops, 0, 0)));
	EXPECT_EQ(EINVAL, ERRNO_OF(lite_batch(self->one, ops, RDMA_LITE_MAX_BATCH + 1, 0)));
	EXPECT_EQ(EFAULT, ERRNO_OF(lite_batch(self->one, NULL, 1, 0)));
}

TEST_F(operations, that_are_too_many_are_refused_until_others_were_told_of)
{
	const uint64_t most = RDMA_LITE_MAX_ASYNC;
	uint64_t r = lite_malloc(self->one, 1, most, NULL, 0, 0);
	uint8_t *buf = malloc(most);
	struct rdma_lite_completion ends[8];
	struct rdma_lite_op ops[5];

	ASSERT_NE(0, r);
	for (int i = 0; i < 5; i++)
		ops[i] = (struct rdma_lite_op) {
			.opcode = RDMA_LITE_OP_READ, .handle = r, .len = most, .buf = (uintptr_t)buf, .cookie = i,
		};
	/* 16 MiB, also when they are over. */
	EXPECT_EQ(4, lite_submit(self->one, ops, 5, 0)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(EAGAIN, ERRNO_OF(lite_submit(self->one, ops, 1, 0)));
	EXPECT_EQ(4, lite_poll(self->one, ends, 8, 4, 20000));
	EXPECT_EQ(1, lite_submit(self->one, ops, 1, 0));
	EXPECT_EQ(1, lite_poll(self->one, ends, 8, 8, 20000));
	EXPECT_EQ(EINVAL, ERRNO_OF(lite_poll(self->one, ends, 0, 0, 0)));
	EXPECT_EQ(EINVAL, ERRNO_OF(lite_poll(self->one, ends, 1, 2, 0)));
	free(buf);
}

TEST_F(operations, whose_memory_has_gone_meanwhile_end_by_an_error)
{
	uint64_t r = lite_malloc(self->one, 2, LEN, NULL, 0, 0);
	struct rdma_lite_completion end;
	void *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(0, r);
	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, lite_read_async(self->one, r, 0, page, LEN, 9));
	ASSERT_EQ(0, munmap(page, 8192));
	ASSERT_EQ(1, lite_poll(self->one, &end, 1, 1, 20000)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(9, end.cookie);
	EXPECT_EQ(-EFAULT, end.error);
}

TEST_F(operations, to_a_node_that_is_gone_end_by_their_deadline)
{
	uint64_t r = lite_malloc(self->one, 2, LEN, NULL, 0, 0);
	struct rdma_lite_completion end;
	char buf[LEN];
	struct rdma_lite_op op = {
		.opcode = RDMA_LITE_OP_READ, .handle = r, .len = LEN, .buf = (uintptr_t)buf, .cookie = 1,
	};

	if (lite_is_shm())
		SKIP(return, LITE_NO_LINK);
	ASSERT_NE(0, r);
	ASSERT_EQ(0, link_cut(2));
	ASSERT_EQ(1, lite_submit(self->one, &op, 1, 1000));
	EXPECT_EQ(0, lite_poll(self->one, &end, 1, 0, 0));
	EXPECT_EQ(ETIMEDOUT, ERRNO_OF(lite_poll(self->one, &end, 1, 1, 100)));
	ASSERT_EQ(1, lite_poll(self->one, &end, 1, 1, 20000 + LITE_MARGIN_MS)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(-ETIMEDOUT, end.error);
	ASSERT_EQ(0, link_mend(2));
	ASSERT_TRUE(lite_reachable(self->one, 2, 30000));
	EXPECT_EQ(0, lite_read(self->one, r, 0, buf, LEN));
}

/* Calls of root under way at node 1, and whether they take memory. */
static bool under_way(int calls)
{
	return sh("awk '$1 == \"lt1\" && $2 == 0 && $5 == %d && ($6 != 0) == ($5 != 0) { found = 1 } "
		  "END { exit !found }' /sys/kernel/debug/rdma_lite/users", calls) == 0;
}

TEST_F(operations, of_a_killed_process_leave_nothing)
{
	int pipes[2], status;
	char byte;
	pid_t child;

	if (lite_is_shm())
		SKIP(return, LITE_NO_LINK);
	ASSERT_EQ(0, pipe(pipes));
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		int fd = lite_open("lt1", 0);
		uint64_t r = lite_malloc(fd, 2, MIB, NULL, 0, 0);
		uint8_t *buf = malloc(MIB);
		int begun = 0;

		link_cut(2);
		for (int i = 0; i < 16; i++)
			begun += !(i % 2 ? lite_read_async(fd, r, 0, buf, MIB, i) :
					   lite_write_async(fd, r, 0, buf, MIB, i));
		if (write(pipes[1], begun == 16 ? "+" : "-", 1) != 1)
			exit(1);
		pause();
		exit(0);
	}
	ASSERT_EQ(1, read(pipes[0], &byte, 1));
	EXPECT_EQ('+', byte);
	EXPECT_TRUE(under_way(16));
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	ASSERT_EQ(0, link_mend(2));
	/* The region goes, and what the kernel still did for the process ends. */
	EXPECT_TRUE(EVENTUALLY(30000, node_attr_number("lt2", "memory_used") == 0));
	EXPECT_TRUE(EVENTUALLY(30000, under_way(0)));
	EXPECT_TRUE(lite_reachable(self->one, 2, 30000));
}

TEST_HARNESS_MAIN
