// SPDX-License-Identifier: GPL-2.0
/*
 * Bits that flip on PM, below the mount: they are found when the page is read
 * or scrubbed, healed from a good copy, or told as EIO; never read as data.
 */
#include "hotpot.h"

#define SIZE (6 * CHUNK)

FIXTURE(scrub) {
	struct space s;
};

FIXTURE_SETUP(scrub)
{
	ASSERT_EQ(0, space_open(&self->s));
	ASSERT_EQ(0, dataset_make(&self->s, 1, "scrub", SIZE, 1));
}

FIXTURE_TEARDOWN(scrub)
{
	unlink(at(&self->s, 1, "scrub"));
}

#define DS(i) at(&self->s, i, "scrub")

/* --- what is on the device (Documentation/on-pm-format.md) ------------------------ */

#define REGIONS 136
#define SLOTS 5
#define PAGES 6
#define SLOT_BYTES 64
#define SLOT_COMMITTED 0xa5c3

static uint64_t u64_in(const char *bytes, size_t at)
{
	uint64_t value;

	memcpy(&value, bytes + at, sizeof(value));
	return value;
}

/*
 * Flips a bit of the committed copy of a page that a node has: of the data, or of the slot.
 * 0, ENOENT when there is no copy, or another errno.
 */
static int flip(const struct place *p, uint64_t dataset, uint64_t page, bool slot)
{
	uint64_t best = 0, target = 0, slots, nr, pages;
	int fd, err = ENOENT;
	char alias[64];
	char *block;

	/* A device that is mounted cannot be opened for writing; a partition of all of it can. */
	if (!slice_make(p->dev, device_size(p->dev), alias, sizeof(alias)))
		return ENODEV;
	fd = open(alias, O_RDWR | O_DIRECT | O_SYNC | O_CLOEXEC);
	if (fd < 0) {
		err = errno;
		slice_drop(p->dev);
		return err;
	}
	block = aligned_alloc(PAGE, PAGE);
	if (pread(fd, block, PAGE, 0) != PAGE)
		goto out;
	slots = u64_in(block, REGIONS + 16 * SLOTS);
	nr = u64_in(block, REGIONS + 16 * SLOTS + 8) / SLOT_BYTES;
	pages = u64_in(block, REGIONS + 16 * PAGES);
	for (uint64_t pm = 0; pm < nr; pm++) {
		const char *line = block + pm * SLOT_BYTES % PAGE;

		if (pm * SLOT_BYTES % PAGE == 0 &&
		    pread(fd, block, PAGE, slots + pm * SLOT_BYTES) != PAGE)
			goto out;
		if ((u64_in(line, 0) & 0xffff) == SLOT_COMMITTED && u64_in(line, 16) == dataset &&
		    u64_in(line, 24) == page && u64_in(line, 32) > best) {
			best = u64_in(line, 32);
			target = slot ? slots + pm * SLOT_BYTES + 12 : pages + pm * PAGE + 1234;
		}
	}
	if (!target)
		goto out;
	if (pread(fd, block, PAGE, target & ~(PAGE - 1UL)) != PAGE)
		goto out;
	block[target % PAGE] ^= 0x10;
	if (pwrite(fd, block, PAGE, target & ~(PAGE - 1UL)) == PAGE)
		err = 0;
out:
	if (err)
		fprintf(stderr, "# no copy of page %lu on %s\n", (long)page, p->dev);
	free(block);
	close(fd);
	slice_drop(p->dev);
	return err;
}

/* Which place owns a chunk. */
static int owner_of(const struct space *s, const char *path, int chunk, uint64_t *dataset)
{
	struct hotpot_chunk chunks[64];
	struct hotpot_info info = { .chunks = (uintptr_t)chunks, .nr_chunks = 64 };
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = ioctl(fd, HOTPOT_IOC_INFO, &info);

	close(fd);
	*dataset = info.id;
	for (int i = 1; i <= s->nr && !err; i++)
		if (s->n[i].id == chunks[chunk].owner)
			return i;
	return 0;
}

static int scrub_path(const char *path, struct hotpot_scrub *sum)
{
	struct hotpot_scrub step = { .nr_pages = 10 };
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;

	memset(sum, 0, sizeof(*sum));
	while (!err && !step.done) {
		if (ioctl(fd, HOTPOT_IOC_SCRUB, &step) < 0)
			err = errno;
		sum->checked += step.checked;
		sum->healed += step.healed;
		sum->dropped += step.dropped;
		sum->lost += step.lost;
		sum->waiting += step.waiting;
	}
	close(fd);
	return err;
}

TEST_F(scrub, reading_heals_a_copy_at_its_owner_and_at_a_reader)
{
	static char bytes[CHUNK];
	uint64_t id;
	int owner = owner_of(&self->s, DS(1), 0, &id), reader = owner % 3 + 1, other = reader % 3 + 1;

	ASSERT_NE(0, owner);
	fill(bytes, CHUNK, 1);
	ASSERT_EQ(0, poke(DS(owner), 0, bytes, CHUNK));
	ASSERT_TRUE(holds(DS(reader), 0, bytes, CHUNK));
	ASSERT_EQ(0, flip(&self->s.n[owner], id, 0, false));
	ASSERT_EQ(0, flip(&self->s.n[owner], id, 1, true));
	ASSERT_EQ(0, flip(&self->s.n[reader], id, 2, false));
	ASSERT_EQ(0, flip(&self->s.n[reader], id, 3, true));
	for (int i = 1; i <= 3; i++) {
		EXPECT_TRUE(holds(DS(i), 0, bytes, CHUNK)) TH_LOG("node %d", i);
	}
	/* As process memory as well, where a fault finds it. */
	struct agent a;

	ASSERT_EQ(0, flip(&self->s.n[reader], id, 4, false));
	ASSERT_EQ(0, agent_start(&a, DS(reader), CHUNK));
	EXPECT_TRUE(agent_holds(&a, 4 * PAGE, bytes + 4 * PAGE, PAGE));
	/* What is damaged does not become part of a new version. */
	ASSERT_EQ(0, flip(&self->s.n[owner], id, 5, false));
	EXPECT_EQ(0, agent_store(&a, 5 * PAGE, "new", 3));
	EXPECT_EQ(0, agent_commit(&a, 5 * PAGE, 3));
	agent_end(&a);
	memcpy(bytes + 5 * PAGE, "new", 3);
	EXPECT_TRUE(holds(DS(other), 0, bytes, CHUNK));
	EXPECT_TRUE(holds(DS(owner), 0, bytes, CHUNK));
}

TEST_F(scrub, finds_and_heals_what_nobody_reads)
{
	static char bytes[SIZE];
	struct hotpot_scrub found;
	uint64_t id;
	int flipped[4] = { 0 };

	fill(bytes, SIZE, 2);
	ASSERT_EQ(0, poke(DS(1), 0, bytes, SIZE));
	for (int i = 1; i <= 3; i++)
		ASSERT_TRUE(holds(DS(i), 0, bytes, SIZE));
	owner_of(&self->s, DS(1), 0, &id);
	for (uint64_t page = 0; page < SIZE / PAGE; page += 5) {
		int i = 1 + page % 3;

		ASSERT_EQ(0, flip(&self->s.n[i], id, page, page % 2));
		flipped[i]++;
	}
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, scrub_path(DS(i), &found));
		EXPECT_EQ(SIZE / PAGE, found.checked) TH_LOG("node %d", i);
		EXPECT_EQ(flipped[i], (int)found.healed) TH_LOG("node %d", i);
		EXPECT_EQ(0, found.lost + found.waiting + found.dropped);
		ASSERT_EQ(0, scrub_path(DS(i), &found));
		EXPECT_EQ(0, found.healed) TH_LOG("node %d was healed already", i);
		EXPECT_TRUE(holds(DS(i), 0, bytes, SIZE));
	}
}

TEST_F(scrub, tells_what_no_good_copy_is_left_of)
{
	static char bytes[PAGE];
	uint64_t id;
	int owner = owner_of(&self->s, DS(1), 1, &id), other = owner % 3 + 1;
	struct hotpot_scrub found;
	struct agent a;

	ASSERT_NE(0, owner);
	fill(bytes, PAGE, 3);
	ASSERT_EQ(0, poke(DS(owner), CHUNK, bytes, PAGE));
	ASSERT_EQ(0, flip(&self->s.n[owner], id, CHUNK / PAGE, false));
	for (int i = 1; i <= 3; i++) {
		EXPECT_EQ(EIO, peek(DS(i), CHUNK, bytes, 8)) TH_LOG("node %d", i);
	}
	ASSERT_EQ(0, agent_start(&a, DS(other), 2 * CHUNK));
	EXPECT_EQ(EFAULT, agent_load(&a, CHUNK, bytes, 8)) TH_LOG("SIGBUS, not bytes");
	agent_end(&a);
	EXPECT_EQ(EIO, poke(DS(other), CHUNK + 8, "a part", 6));
	ASSERT_EQ(0, scrub_path(DS(owner), &found));
	EXPECT_EQ(1, found.lost);
	fill(bytes, PAGE, 4);
	EXPECT_EQ(0, poke(DS(other), CHUNK, bytes, PAGE)) TH_LOG("a whole new page ends it");
	for (int i = 1; i <= 3; i++) {
		EXPECT_TRUE(holds(DS(i), CHUNK, bytes, PAGE)) TH_LOG("node %d", i);
	}
	ASSERT_EQ(0, scrub_path(DS(owner), &found));
	EXPECT_EQ(0, found.lost);
}

TEST_F(scrub, of_potluck_tells_it_as_a_table_and_as_json)
{
	static char bytes[CHUNK];
	uint64_t id;
	int owner = owner_of(&self->s, DS(1), 0, &id), reader = owner % 3 + 1;

	if (sh("command -v potluck >/dev/null"))
		SKIP(return, "no potluck in PATH");
	fill(bytes, CHUNK, 5);
	ASSERT_EQ(0, poke(DS(owner), 0, bytes, CHUNK));
	ASSERT_TRUE(holds(DS(reader), 0, bytes, CHUNK));
	ASSERT_EQ(0, flip(&self->s.n[owner], id, 7, false));
	EXPECT_EQ(0, sh("potluck scrub --json %s | python3 -c '"
			"import json, sys\n"
			"found = json.load(sys.stdin)\n"
			"assert [d[\"healed\"] for d in found if d[\"path\"].endswith(\"/scrub\")] == [1], found"
			"'", self->s.n[owner].mnt));
	EXPECT_EQ(0, sh("potluck scrub %s %s | grep -q /scrub", self->s.n[owner].mnt, self->s.n[reader].mnt));
	/* Something that is lost is a status of 1. */
	for (int i = 1; i <= 3; i++)
		flip(&self->s.n[i], id, 7, false);
	EXPECT_NE(0, sh("potluck scrub %s", DS(owner)));
}

TEST_F(scrub, refuses_what_it_does_not_know)
{
	struct hotpot_scrub bad[] = { { .flags = 1 }, { .reserved = { 0, 1 } } };
	int fd = open(DS(1), O_RDONLY | O_CLOEXEC);

	for (size_t k = 0; k < ARRAY_SIZE(bad); k++)
		EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(fd, HOTPOT_IOC_SCRUB, &bad[k])));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(fd, HOTPOT_IOC_SCRUB, NULL)));
	close(fd);
}

TEST_HARNESS_MAIN
