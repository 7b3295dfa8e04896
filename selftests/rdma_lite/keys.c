// SPDX-License-Identifier: GPL-2.0
/*
 * Keys to the chunks of regions: one for each, that is gone with its mapping, or, where the operator wants
 * that (unsafe_global_rkey), the one over all memory.
 */

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define RW (RDMA_LITE_READ | RDMA_LITE_WRITE)
#define LEN (3 * 1048576 + 777)

FIXTURE(keys) {
	struct cluster c;
	int one, two;
	bool global;
};

FIXTURE_VARIANT(keys) {
	const char *global;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(keys, for_each_chunk) { .global = "0" };
FIXTURE_VARIANT_ADD(keys, over_all_memory) { .global = "1" };
/* clang-format on */

FIXTURE_SETUP(keys)
{
	setenv("POTLUCK_TRANSPORT", "verbs", 1);
	setenv("POTLUCK_GLOBAL_RKEY", variant->global, 1);
	ASSERT_EQ(0, cluster_up(&self->c, 2));
	self->one = self->c.fd[1];
	self->two = self->c.fd[2];
	self->global = variant->global[0] == '1';
}

FIXTURE_TEARDOWN(keys)
{
	cluster_down(&self->c);
}

static void pattern(uint8_t *bytes, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = i * 31 + i / 251 + seed;
}

/* Memory regions that the verbs device of a node has. */
static int registrations(int i)
{
	char cmd[128], line[512];
	int count = 0;
	FILE *f;

	snprintf(cmd, sizeof(cmd), "rdma resource show mr dev ltr%d", i);
	f = popen(cmd, "re");
	while (f && fgets(line, sizeof(line), f))
		count++;
	if (f)
		pclose(f);
	return count;
}

TEST_F(keys, open_chunks_to_one_sided_reads_and_writes)
{
	uint8_t *in = malloc(LEN), *out = calloc(1, LEN);
	long long before = lite_accessed("lt1", 2, true);
	long long calls = lite_accessed("lt1", 2, false);
	int had = registrations(2);
	uint64_t r;

	r = lite_malloc(self->one, 2, LEN, "far", RW, 0);
	ASSERT_NE(0, r) TH_LOG("%s", strerror(errno));
	pattern(in, LEN, 5);
	ASSERT_EQ(0, lite_write(self->one, r, 0, in, LEN)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, lite_read(self->one, r, 0, out, LEN)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, memcmp(in, out, LEN));
	/* Its own node sees the same. */
	r = lite_map(self->two, 2, "far", RW);
	ASSERT_NE(0, r);
	memset(out, 0, LEN);
	ASSERT_EQ(0, lite_read(self->two, r, 0, out, LEN));
	EXPECT_EQ(0, memcmp(in, out, LEN));
	EXPECT_LE(before + 8, lite_accessed("lt1", 2, true));
	EXPECT_EQ(calls, lite_accessed("lt1", 2, false));
	/* A chunk that has no key of its own takes no memory region of the device. */
	if (self->global) {
		EXPECT_EQ(had, registrations(2));
	} else {
		EXPECT_LE(had + 4, registrations(2));
	}
	free(in);
	free(out);
}

TEST_F(keys, are_of_no_use_when_the_region_was_freed_or_revoked)
{
	uint64_t r = lite_malloc(self->two, 2, LEN, "far", RW, 0), m;
	char byte = 1;

	ASSERT_NE(0, r);
	m = lite_map(self->one, 2, "far", RW);
	ASSERT_NE(0, m);
	ASSERT_EQ(0, lite_write(self->one, m, LEN - 1, &byte, 1));
	ASSERT_EQ(0, lite_grant(self->two, r, 1, RDMA_LITE_READ));
	EXPECT_EQ(EACCES, ERRNO_OF(lite_write(self->one, m, LEN - 1, &byte, 1)));
	ASSERT_EQ(0, lite_read(self->one, m, LEN - 1, &byte, 1));
	EXPECT_EQ(1, byte);
	ASSERT_EQ(0, lite_grant(self->two, r, 1, 0));
	EXPECT_EQ(EACCES, ERRNO_OF(lite_read(self->one, m, LEN - 1, &byte, 1)));
	/* With a new mapping, as the old one stays revoked. */
	ASSERT_EQ(0, lite_grant(self->two, r, 1, RW));
	m = lite_map(self->one, 2, "far", RW);
	ASSERT_NE(0, m);
	ASSERT_EQ(0, lite_read(self->one, m, LEN - 1, &byte, 1));
	EXPECT_EQ(1, byte);
	ASSERT_EQ(0, lite_free(self->two, r));
	EXPECT_EQ(ESTALE, ERRNO_OF(lite_read(self->one, m, LEN - 1, &byte, 1)));
	/* Nobody had to be cut off for that. */
	EXPECT_EQ(0, lite_ping(self->one, 2, 8, 0));
}

TEST_F(keys, of_memory_that_was_lent_are_those_of_a_region)
{
	uint8_t *mine = malloc(LEN + 8), *out = malloc(LEN);
	uint64_t r, m;

	pattern(mine, LEN + 8, 3);
	r = lite_lend(self->two, (void *)(((uintptr_t)mine + 7) & ~7ul), LEN, "lent", RW);
	ASSERT_NE(0, r) TH_LOG("%s", strerror(errno));
	m = lite_map(self->one, 2, "lent", RW);
	ASSERT_NE(0, m);
	ASSERT_EQ(0, lite_read(self->one, m, 0, out, LEN)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, memcmp((void *)(((uintptr_t)mine + 7) & ~7ul), out, LEN));
	ASSERT_EQ(0, lite_unmap(self->two, r));
	EXPECT_EQ(ESTALE, ERRNO_OF(lite_read(self->one, m, 0, out, 1)));
	free(mine);
	free(out);
}

TEST_F(keys, over_all_memory_are_told_of_and_are_chosen_while_the_node_is_off)
{
	char line[512];
	int mark, lines;

	EXPECT_EQ(self->global, node_attr_number("lt2", "unsafe_global_rkey"));
	EXPECT_EQ(EBUSY, node_attr("lt2", "unsafe_global_rkey", "1"));
	EXPECT_EQ(EBUSY, node_attr("lt2", "unsafe_global_rkey", "0"));
	mark = kmsg_mark();
	ASSERT_EQ(0, node_power(2, false));
	EXPECT_EQ(EINVAL, node_attr("lt2", "unsafe_global_rkey", "2"));
	ASSERT_EQ(0, node_power(2, true));
	lines = kmsg_complaints_about(mark, "rdma_lite", "unsafe_global_rkey", line, sizeof(line));
	EXPECT_EQ(self->global, lines) TH_LOG("last: %s", line);
}

TEST_HARNESS_MAIN
