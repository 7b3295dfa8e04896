// SPDX-License-Identifier: GPL-2.0
/* No room on PM, at the writer, the owner, or a replica: ENOSPC, nothing lost. */
#include "hotpot.h"

#define SMALL (8UL << 20)
#define LARGE (14UL << 20)

FIXTURE(full) {
	struct cluster c;
	struct space s;
	char whole[SPACE_NODES + 1][64];
};

/* Which node's device is small. */
FIXTURE_VARIANT(full) {
	bool small[SPACE_NODES + 1];
};

FIXTURE_VARIANT_ADD(full, at_the_writer) { .small = { false, true, false, false } };
FIXTURE_VARIANT_ADD(full, at_another_node) { .small = { false, false, true, false } };
FIXTURE_VARIANT_ADD(full, everywhere) { .small = { false, true, true, true } };

FIXTURE_SETUP(full)
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
		if (!slice_make(dev, variant->small[i] ? SMALL : LARGE, p->dev, sizeof(p->dev)))
			SKIP(return, "no partitions on %s", dev);
		snprintf(self->whole[i], sizeof(dev), "%s", dev);
		ASSERT_EQ(0, mkfs(p->dev, i, ""));
	}
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, place_mount(&self->s.n[i]));
	}
}

FIXTURE_TEARDOWN(full)
{
	space_drop_own(&self->s, &self->c);
	for (int i = 1; i <= 3; i++)
		if (self->whole[i][0])
			slice_drop(self->whole[i]);
}

/* Writes files of 1 MiB on a node until there is no room; how many were whole. */
static int fill_up(struct __test_metadata *_metadata, struct space *s, int node, int replicas)
{
	static char bytes[1 << 20];

	for (int k = 0; k < 400; k++) {
		struct hotpot_setup setup = { .replicas = replicas, .chunk_size = CHUNK };
		char name[32];
		int fd;

		snprintf(name, sizeof(name), "full%d", k);
		fd = open(at(s, node, name), O_CREAT | O_RDWR | O_TRUNC, 0644);
		if (fd < 0) {
			EXPECT_EQ(ENOSPC, errno) TH_LOG("open: %s", strerror(errno));
			return k;
		}
		EXPECT_EQ(0, ioctl(fd, HOTPOT_IOC_SETUP, &setup));
		fill(bytes, sizeof(bytes), k);
		for (size_t done = 0; done < sizeof(bytes);) {
			ssize_t n = write(fd, bytes + done, sizeof(bytes) - done);

			if (n < 0) {
				EXPECT_EQ(ENOSPC, errno) TH_LOG("write: %s", strerror(errno));
				close(fd);
				return k;
			}
			done += n;
		}
		close(fd);
	}
	return 400;
}

/*
 * Whether the owner of each chunk has it right: with little room everywhere
 * that is quicker than to fetch it to another node.
 */
static bool owners_hold(const struct space *s, const char *name, const char *bytes, size_t len)
{
	struct hotpot_chunk chunks[64];
	struct hotpot_info info = { .chunks = (uintptr_t)chunks, .nr_chunks = 64 };
	int fd = open(at(s, 1, name), O_RDONLY | O_CLOEXEC);
	bool right = fd >= 0 && !ioctl(fd, HOTPOT_IOC_INFO, &info);

	close(fd);
	for (size_t off = 0; right && off < len; off += CHUNK) {
		size_t part = len - off < CHUNK ? len - off : CHUNK;

		for (int i = 1; i <= s->nr; i++)
			if (s->n[i].id == chunks[off / CHUNK].owner)
				right = holds(at(s, i, name), off, bytes + off, part);
	}
	return right;
}

TEST_F_TIMEOUT(full, is_enospc_and_nothing_written_before_is_lost, 600)
{
	static char bytes[1 << 20];
	int replicas = variant->small[2] ? 2 : 1, whole;

	whole = fill_up(_metadata, &self->s, 1, replicas);
	TH_LOG("%d MiB fitted", whole);
	EXPECT_LT(2, whole);
	for (int k = 0; k < whole; k += 3) {
		char name[32];

		snprintf(name, sizeof(name), "full%d", k);
		fill(bytes, sizeof(bytes), k);
		EXPECT_TRUE(owners_hold(&self->s, name, bytes, sizeof(bytes))) TH_LOG("file %d", k);
	}
	/* Room comes back with unlink, and what was refused then succeeds. */
	for (int k = 0; k <= whole; k++) {
		char name[32];

		snprintf(name, sizeof(name), "full%d", k);
		unlink(at(&self->s, 1, name));
	}
	EXPECT_LE(whole / 2, fill_up(_metadata, &self->s, 1, replicas));
}

TEST_F_TIMEOUT(full, refuses_commits_and_keeps_their_bytes_dirty, 600)
{
	static char page[PAGE];
	struct agent a;
	int err = 0, whole, stored = 0;

	ASSERT_EQ(0, dataset_make(&self->s, 1, "dirty", 4 * SMALL, 1));
	/* Little is left of the pool: at some owner, or here, the stores will not fit. */
	whole = fill_up(_metadata, &self->s, 1, 1);
	ASSERT_EQ(0, agent_start(&a, at(&self->s, 1, "dirty"), 4 * SMALL));
	/* Dirty pages take room as well: a store without room is SIGBUS, not a lock-up. */
	for (unsigned long k = 0; k < 4 * SMALL / PAGE; k++) {
		fill(page, PAGE, k);
		err = agent_store(&a, k * PAGE, page, PAGE);
		if (err)
			break;
		stored++;
		if (k % 64 == 63) {
			err = agent_commit(&a, (k - 63) * PAGE, 64 * PAGE);
			if (err) {
				EXPECT_EQ(ENOSPC, err) TH_LOG("%s", strerror(err));
				/* Still there to be committed when there is room. */
				EXPECT_TRUE(agent_holds(&a, k * PAGE, page, PAGE));
				break;
			}
		}
	}
	EXPECT_TRUE(err == EFAULT || err == ENOSPC) TH_LOG("never full: %s", strerror(err));
	if (stored > 1) {
		fill(page, PAGE, 1);
		EXPECT_TRUE(agent_holds(&a, PAGE, page, PAGE));
	}
	agent_end(&a);
	EXPECT_EQ(0, unlink(at(&self->s, 1, "dirty"))) TH_LOG("unlink: %s", strerror(errno));
	for (int k = 0; k <= whole; k++) {
		char name[32];

		snprintf(name, sizeof(name), "full%d", k);
		unlink(at(&self->s, 1, name));
	}
	EXPECT_LT(2, fill_up(_metadata, &self->s, 1, 1));
}

TEST_HARNESS_MAIN
