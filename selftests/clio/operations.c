// SPDX-License-Identifier: GPL-2.0
/* Allocations, reads, writes and words, from one and from several nodes. */
#include "remote.h"

#define MIB (1ULL << 20)

FIXTURE(operations) {
	struct clio_cluster cl;
	int one, two;
};

FIXTURE_SETUP(operations)
{
	ASSERT_EQ(0, clio_cluster_up(&self->cl, 3, 2, "67108864"));
	self->one = clio_attached(3, "operations");
	ASSERT_GE(self->one, 0);
	self->two = clio_attached(1, "operations");
	ASSERT_GE(self->two, 0);
}

FIXTURE_TEARDOWN(operations)
{
	close(self->one);
	close(self->two);
	clio_cluster_down(&self->cl);
}

TEST_F(operations, of_any_size_read_what_was_written)
{
	static const uint32_t sizes[] = { 1, 7, 8, 4096, 8191, 65536, 65537, 1000000, 5000000 };
	uint64_t addr = ralloc(self->one, 8 * MIB);
	uint8_t *wrote = malloc(8 * MIB), *read = malloc(8 * MIB);

	ASSERT_NE(0, addr) TH_LOG("ralloc: %s", strerror(errno));
	for (size_t i = 0; i < COUNT(sizes); i++) {
		uint64_t at = addr + i * 13;

		fill(wrote, sizes[i], i + 1);
		ASSERT_EQ(0, rwrite(self->one, at, wrote, sizes[i]))
			TH_LOG("%u bytes: %s", sizes[i], strerror(errno));
		memset(read, 0xee, sizes[i]);
		/* By another node. */
		ASSERT_EQ(0, rread(self->two, at, read, sizes[i]))
			TH_LOG("%u bytes: %s", sizes[i], strerror(errno));
		EXPECT_EQ(0, memcmp(wrote, read, sizes[i])) TH_LOG("%u bytes", sizes[i]);
	}
	EXPECT_EQ(0, rfree(self->one, addr, 8 * MIB));
	EXPECT_EQ(EFAULT, ERRNO_OF(rread(self->two, addr, read, 1)));
	free(wrote);
	free(read);
}

TEST_F(operations, of_a_later_open_are_not_taken_for_repetitions)
{
	uint64_t addr = ralloc(self->one, MIB), got;

	ASSERT_NE(0, addr);
	/* The last open of the node, again and again: its requests are new ones. */
	for (uint64_t i = 1; i <= 5; i++) {
		close(self->one);
		self->one = clio_attached(3, "operations");
		ASSERT_GE(self->one, 0);
		for (uint64_t k = 0; k < 20; k++) {
			uint64_t value = i << 32 | k;

			ASSERT_EQ(0, rwrite(self->one, addr + 8 * k, &value, 8));
		}
		for (uint64_t k = 0; k < 20; k++) {
			ASSERT_EQ(0, rread(self->two, addr + 8 * k, &got, 8));
			EXPECT_EQ(i << 32 | k, got);
		}
	}
	EXPECT_EQ(0, rfree(self->one, addr, MIB));
}

TEST_F(operations, read_zeros_where_nothing_was_written)
{
	uint64_t addr = ralloc(self->one, MIB);
	static uint8_t read[65536];

	ASSERT_NE(0, addr);
	memset(read, 0xee, sizeof(read));
	ASSERT_EQ(0, rread(self->one, addr + 12345, read, sizeof(read)));
	for (size_t i = 0; i < sizeof(read); i++) {
		ASSERT_EQ(0, read[i]);
	}
}

TEST_F(operations, of_a_large_allocation_cross_regions_and_memory_nodes)
{
	uint64_t addr = ralloc(self->one, 40 * MIB), at;
	static uint8_t wrote[200000], read[200000];

	ASSERT_NE(0, addr) TH_LOG("ralloc: %s", strerror(errno));
	at = addr + CLIO_REGION - 100000;
	fill(wrote, sizeof(wrote), 9);
	ASSERT_EQ(0, rwrite(self->one, at, wrote, sizeof(wrote))) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, rread(self->two, at, read, sizeof(read))) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, memcmp(wrote, read, sizeof(read)));
	EXPECT_EQ(0, rfree(self->one, addr, 40 * MIB)) TH_LOG("%s", strerror(errno));
}

TEST_F(operations, on_words_are_atomic_across_nodes)
{
	uint64_t addr = ralloc(self->one, 4096), was;

	ASSERT_NE(0, addr);
	ASSERT_EQ(0, rtas(self->one, addr, &was));
	EXPECT_EQ(0, was);
	ASSERT_EQ(0, rtas(self->two, addr, &was));
	EXPECT_EQ(1, was);
	ASSERT_EQ(0, rcas(self->one, addr, 1, 40, &was));
	EXPECT_EQ(1, was);
	ASSERT_EQ(0, rcas(self->two, addr, 1, 50, &was));
	EXPECT_EQ(40, was);
	ASSERT_EQ(0, rfaa(self->two, addr, 2, &was));
	EXPECT_EQ(40, was);
	ASSERT_EQ(0, rread(self->one, addr, &was, 8));
	EXPECT_EQ(42, was);
}

TEST_F(operations, that_are_asynchronous_keep_the_order_of_a_page)
{
	uint64_t addr = ralloc(self->one, 65536), word = 0, read = 0;
	struct clio_completion done[64];
	int nr = 0;

	ASSERT_NE(0, addr);
	for (word = 1; word <= 20; word++) {
		ASSERT_EQ(0, rwrite_async(self->one, addr, &word, 8, word));
	}
	ASSERT_EQ(0, rread_async(self->one, addr, &read, 8, 1000));
	ASSERT_EQ(0, rwrite_async(self->one, addr, &word, 8, 2000));
	while (nr < 22) {
		int got = rpoll(self->one, done + nr, COUNT(done) - nr, 1, 10000);

		ASSERT_GT(got, 0) TH_LOG("rpoll: %s", strerror(errno));
		for (int i = nr; i < nr + got; i++) {
			EXPECT_EQ(0, done[i].error);
		}
		nr += got;
	}
	EXPECT_EQ(20, read);
	ASSERT_EQ(0, rread(self->two, addr, &read, 8));
	EXPECT_EQ(21, read);
}

TEST_F(operations, in_a_batch_have_results_of_their_own)
{
	uint64_t addr = ralloc(self->one, 65536), read = 0, wrote = 77;
	struct clio_op ops[3] = {
		{ .opcode = CLIO_OP_WRITE, .addr = addr, .len = 8, .buf = (uintptr_t)&wrote },
		{ .opcode = CLIO_OP_READ, .addr = 4096, .len = 8, .buf = (uintptr_t)&read },
		{ .opcode = CLIO_OP_FAA, .addr = addr, .arg = { 3 } },
	};

	ASSERT_NE(0, addr);
	ASSERT_EQ(3, clio_submit(self->one, ops, 3, 0, 0)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, ops[0].error);
	EXPECT_EQ(-EFAULT, ops[1].error);
	EXPECT_EQ(0, ops[2].error);
	EXPECT_EQ(77, ops[2].value);
}

TEST_F(operations, survive_a_network_that_loses_and_repeats)
{
	uint64_t addr = ralloc(self->one, MIB), was, sum = 0;
	static uint8_t wrote[100000], read[100000];

	ASSERT_NE(0, addr);
	ASSERT_EQ(0, link_netem(3, "loss 5% duplicate 5% delay 1ms 1ms"));
	for (int i = 0; i < 30; i++) {
		ASSERT_EQ(0, rfaa(self->one, addr, 1, &was)) TH_LOG("%s", strerror(errno));
		EXPECT_EQ(i, was);
		sum++;
		fill(wrote, sizeof(wrote), i);
		ASSERT_EQ(0, rwrite(self->one, addr + 4096, wrote, sizeof(wrote)));
		ASSERT_EQ(0, rread(self->one, addr + 4096, read, sizeof(read)));
		ASSERT_EQ(0, memcmp(wrote, read, sizeof(read)));
	}
	link_mend(3);
	ASSERT_EQ(0, rread(self->two, addr, &was, 8));
	EXPECT_EQ(sum, was);
}

TEST_F(operations, on_a_memory_node_that_does_not_answer_end_at_their_deadline)
{
	int64_t begin;
	uint64_t addr = ralloc(self->one, 4096), word;
	struct clio_op op = { .opcode = CLIO_OP_READ, .addr = addr, .len = 8, .buf = (uintptr_t)&word };

	ASSERT_NE(0, addr);
	link_cut(1);
	link_cut(2);
	begin = now_ms();
	ASSERT_EQ(1, clio_submit(self->one, &op, 1, 0, 1000));
	EXPECT_EQ(-ETIMEDOUT, op.error);
	EXPECT_LE(now_ms() - begin, 1000 + LITE_MARGIN_MS);
	/* The map says so. */
	self->cl.c.map[0].state = RDMA_LITE_NODE_DOWN;
	self->cl.c.map[1].state = RDMA_LITE_NODE_DOWN;
	cluster_publish(&self->cl.c);
	begin = now_ms();
	ASSERT_EQ(1, clio_submit(self->one, &op, 1, 0, 10000));
	EXPECT_EQ(-EHOSTDOWN, op.error);
	EXPECT_LE(now_ms() - begin, LITE_MARGIN_MS);
}

TEST_HARNESS_MAIN
