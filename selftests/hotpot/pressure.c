// SPDX-License-Identifier: GPL-2.0
/*
 * Little PM on every node: a dataset larger than any of them works, copies are
 * dropped and made elsewhere, and never are there fewer than the degree.
 */
#include "hotpot.h"

#define SMALL (10UL << 20)
#define LARGE (12UL << 20)	/* of a dataset: more than the data pages of one device */

FIXTURE(pressure) {
	struct cluster c;
	struct space s;
	char whole[SPACE_NODES + 1][64];
};

FIXTURE_SETUP(pressure)
{
	char dev[64];

	ASSERT_EQ(0, hotpot_need());
	ASSERT_EQ(0, cluster_up(&self->c, 3));
	self->s.nr = 3;
	for (int i = 1; i <= 3; i++) {
		struct place *p = &self->s.n[i];

		snprintf(p->name, sizeof(p->name), "lt%d", i);
		snprintf(p->mnt, sizeof(p->mnt), "/mnt/lt%d", i);
		p->id = i;
		if (!pmem_spare(i - 1, dev, sizeof(dev)))
			SKIP(return, "fewer than three pmem devices that are not mounted");
		if (!slice_make(dev, SMALL, p->dev, sizeof(p->dev)))
			SKIP(return, "no partitions on %s", dev);
		snprintf(self->whole[i], sizeof(dev), "%s", dev);
		ASSERT_EQ(0, mkfs(p->dev, i, ""));
	}
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, place_mount(&self->s.n[i]));
	}
}

FIXTURE_TEARDOWN(pressure)
{
	space_drop_own(&self->s, &self->c);
	for (int i = 1; i <= 3; i++)
		if (self->whole[i][0])
			slice_drop(self->whole[i]);
}

#define DS(i) at(&self->s, i, "large")

/* Content of page `page` of round `round`. */
static void page_of(char *bytes, unsigned long page, int round)
{
	fill(bytes, PAGE, page * 4 + round);
}

TEST_F_TIMEOUT(pressure, a_dataset_larger_than_any_pm_is_written_and_mapped_on_every_node, 600)
{
	static char bytes[CHUNK];
	struct statfs st;
	struct agent a;

	ASSERT_EQ(0, statfs(self->s.n[1].mnt, &st));
	ASSERT_LT(st.f_blocks * PAGE, LARGE) TH_LOG("the dataset is to be larger than the device");
	ASSERT_EQ(0, dataset_make(&self->s, 1, "large", LARGE, 1));
	for (unsigned long off = 0; off < LARGE; off += CHUNK) {
		for (unsigned long p = 0; p < CHUNK; p += PAGE)
			page_of(bytes + p, (off + p) / PAGE, 0);
		ASSERT_EQ(0, poke(DS(1 + off / CHUNK % 3), off, bytes, CHUNK)) TH_LOG("at %lu: %s", off, strerror(errno));
	}
	/* A process that loads it, on every node. */
	for (int i = 1; i <= 3; i++) {
		int wrong = 0;

		ASSERT_EQ(0, agent_start(&a, DS(i), LARGE));
		/* All of it on one node, and some all over it on the others. */
		for (unsigned long page = 0; page < LARGE / PAGE && wrong < 3; page += i == 1 ? 1 : 3) {
			page_of(bytes, page, 0);
			if (!agent_holds(&a, page * PAGE, bytes, PAGE)) {
				TH_LOG("node %d, page %lu", i, page);
				wrong++;
			}
		}
		EXPECT_EQ(0, wrong);
		/* And one that stores and commits all over it. */
		for (unsigned long page = i; page < LARGE / PAGE; page += 97) {
			page_of(bytes, page, i);
			ASSERT_EQ(0, agent_store(&a, page * PAGE, bytes, PAGE));
			ASSERT_EQ(0, agent_commit(&a, page * PAGE, PAGE)) TH_LOG("page %lu", page);
			EXPECT_TRUE(agent_holds(&a, page * PAGE, bytes, PAGE));
			/* For the next node the content is as before. */
			page_of(bytes, page, 0);
			ASSERT_EQ(0, agent_store(&a, page * PAGE, bytes, PAGE));
			ASSERT_EQ(0, agent_commit(&a, page * PAGE, PAGE));
		}
		agent_end(&a);
	}
}

/* The fewest copies that a page of the dataset has, as the owners say. */
static unsigned int fewest_copies(const struct space *s, const char *name)
{
	unsigned int least = ~0U;

	for (int i = 1; i <= s->nr; i++) {
		struct hotpot_chunk chunks[256] = { 0 };
		struct hotpot_info info = { .chunks = (uintptr_t)chunks, .nr_chunks = 256 };
		int fd = open(at(s, i, name), O_RDONLY | O_CLOEXEC);

		if (ioctl(fd, HOTPOT_IOC_INFO, &info) < 0)
			least = 0;
		close(fd);
		for (unsigned int k = 0; k < info.nr_chunks && k < 256; k++)
			if (chunks[k].owner == s->n[i].id && chunks[k].nr_pages && chunks[k].min_replicas < least)
				least = chunks[k].min_replicas;
	}
	return least;
}

TEST_F_TIMEOUT(pressure, never_leaves_fewer_copies_than_the_degree, 600)
{
	static char bytes[CHUNK];
	unsigned long size = LARGE / 2;
	struct agent a;

	ASSERT_EQ(0, dataset_make(&self->s, 1, "large", size, 2));
	for (unsigned long off = 0; off < size; off += CHUNK) {
		fill(bytes, CHUNK, off);
		ASSERT_EQ(0, poke(DS(1 + off / CHUNK % 3), off, bytes, CHUNK)) TH_LOG("at %lu: %s", off, strerror(errno));
	}
	EXPECT_LE(2, fewest_copies(&self->s, "large"));
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, agent_start(&a, DS(i), size));
		for (unsigned long off = 0; off < size; off += CHUNK) {
			fill(bytes, CHUNK, off);
			EXPECT_TRUE(agent_holds(&a, off, bytes, CHUNK)) TH_LOG("node %d at %lu", i, off);
		}
		agent_end(&a);
		EXPECT_LE(2, fewest_copies(&self->s, "large")) TH_LOG("after node %d read it all", i);
	}
}

TEST_F_TIMEOUT(pressure, a_node_that_is_gone_has_its_copies_made_anew, 300)
{
	static char bytes[CHUNK];
	unsigned long size = 24 * CHUNK;

	ASSERT_EQ(0, dataset_make(&self->s, 1, "large", size, 2));
	for (unsigned long off = 0; off < size; off += CHUNK) {
		fill(bytes, CHUNK, off);
		ASSERT_EQ(0, poke(DS(1), off, bytes, CHUNK));
	}
	ASSERT_EQ(0, space_publish(&self->s, 3, RDMA_LITE_NODE_DOWN, 3));
	for (int i = 1; i <= 2; i++) {
		struct hotpot_info info;

		EXPECT_TRUE(EVENTUALLY(60000, !dataset_info(DS(i), &info) && info.nr_missing == 0))
			TH_LOG("node %d: %lu pages have too few copies", i, (long)info.nr_missing);
	}
	ASSERT_EQ(0, space_publish(&self->s, 3, RDMA_LITE_NODE_UP, 0));
}

TEST_F_TIMEOUT(pressure, a_full_pool_is_enospc_and_nothing_is_lost, 600)
{
	static char bytes[CHUNK];
	unsigned long off, size = 8 * LARGE, fitted;
	int err = 0;

	ASSERT_EQ(0, dataset_make(&self->s, 1, "large", size, 2));
	for (off = 0; off < size; off += CHUNK) {
		fill(bytes, CHUNK, off);
		err = poke(DS(1 + off / CHUNK % 3), off, bytes, CHUNK);
		if (err)
			break;
	}
	fitted = off;
	EXPECT_EQ(ENOSPC, err) TH_LOG("%s", strerror(err));
	TH_LOG("%lu KiB fitted twice", fitted / 1024);
	EXPECT_LE(2, fewest_copies(&self->s, "large"));
	for (off = 0; off < fitted; off += 5 * CHUNK) {
		fill(bytes, CHUNK, off);
		for (int i = 1; i <= 3; i++) {
			EXPECT_TRUE(holds(DS(i), off, bytes, CHUNK)) TH_LOG("node %d at %lu", i, off);
		}
	}
	/* Room comes back. */
	EXPECT_EQ(0, unlink(DS(1)));
	EXPECT_EQ(0, dataset_make(&self->s, 1, "large", LARGE, 1));
	EXPECT_EQ(0, poke(DS(2), 0, bytes, CHUNK));
}

TEST_HARNESS_MAIN
