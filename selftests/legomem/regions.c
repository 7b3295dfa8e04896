// SPDX-License-Identifier: GPL-2.0
/* Regions that move between memory nodes while they are used, and that are lost. */
#include "packet.h"

#define SIZE	(4 << 20)

FIXTURE(regions) {
	struct clio_cluster cl;
	int fd;
	uint64_t ras, addr;
};

FIXTURE_SETUP(regions)
{
	struct clio_info info = {};

	ASSERT_EQ(0, clio_cluster_up(&self->cl, 3, 2, "33554432"));
	self->fd = clio_attached(3, "regions");
	ASSERT_GE(self->fd, 0);
	self->addr = ralloc(self->fd, SIZE);
	ASSERT_NE(0, self->addr);
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_INFO, &info));
	self->ras = info.ras;
}

FIXTURE_TEARDOWN(regions)
{
	close(self->fd);
	clio_cluster_down(&self->cl);
}

/* In pieces, each of which has its deadline: a guest may take long over all of it. */
#define PIECE	(128 << 10)

static int read_all(int fd, uint64_t addr, uint8_t *to, size_t len)
{
	for (size_t at = 0; at < len; at += PIECE)
		if (rread(fd, addr + at, to + at, PIECE))
			return -1;
	return 0;
}

static int write_all(int fd, uint64_t addr, const uint8_t *from, size_t len)
{
	for (size_t at = 0; at < len; at += PIECE)
		if (rwrite(fd, addr + at, from + at, PIECE))
			return -1;
	return 0;
}

/* Where a region is, or 0. */
static uint32_t owner_of(int fd, uint64_t ras, uint32_t index)
{
	struct clio_region regions[8] = {};
	struct clio_list list = { .items = (uintptr_t)regions, .nr = 8, .ras = ras };

	if (ioctl(fd, CLIO_IOC_REGIONS, &list) || index >= list.nr)
		return 0;
	return regions[index].node;
}

static uint32_t owner(int fd, uint64_t ras)
{
	return owner_of(fd, ras, 0);
}

static bool moves_one(int fd, uint64_t ras, uint32_t index, uint32_t to)
{
	struct clio_move move = { .ras = ras, .index = index, .to = to };

	return EVENTUALLY(20000, !ioctl(fd, CLIO_IOC_MOVE, &move) || errno != EBUSY) &&
	       EVENTUALLY(60000, owner_of(fd, ras, index) == to);
}

static bool moves(int fd, uint64_t ras, uint32_t to)
{
	return moves_one(fd, ras, 0, to);
}

TEST_F(regions, move_with_all_that_is_in_them)
{
	static uint8_t bytes[SIZE], there[SIZE];
	uint32_t from = owner(self->fd, self->ras);

	fill(bytes, SIZE / 2, 1);	/* the rest stays untouched, and zero */
	ASSERT_EQ(0, write_all(self->fd, self->addr, bytes, SIZE / 2)) TH_LOG("%s", strerror(errno));
	for (int round = 0; round < 2; round++) {
		uint32_t to = from == 1 ? 2 : 1;

		ASSERT_TRUE(moves(self->fd, self->ras, to)) TH_LOG("to %u: %s", to, strerror(errno));
		ASSERT_EQ(0, read_all(self->fd, self->addr, there, SIZE)) TH_LOG("%s", strerror(errno));
		EXPECT_EQ(0, memcmp(bytes, there, SIZE));
		from = to;
	}
}

/* Adds to a word, and writes a page, until it is told to stop; how often it added. */
static uint64_t use(uint64_t addr, int stop, int *failed)
{
	static uint8_t page[4096], there[4096];
	int fd = clio_attached(3, "regions");
	uint64_t added = 0;

	for (;; added++) {
		struct pollfd asked = { .fd = stop, .events = POLLIN };

		if (poll(&asked, 1, 0) > 0)
			break;
		fill(page, sizeof(page), added);
		if (rfaa(fd, addr, 1, NULL) || rwrite(fd, addr + 8192, page, sizeof(page)) ||
		    rread(fd, addr + 8192, there, sizeof(there)) || memcmp(page, there, sizeof(page))) {
			fprintf(stderr, "# after %llu: %s\n", (unsigned long long)added, strerror(errno));
			*failed = 1;
			break;
		}
	}
	close(fd);
	return added;
}

TEST_F(regions, move_under_clients_whose_requests_are_executed_once)
{
	unsigned long rounds = env_number("POTLUCK_ROUNDS", 5);
	uint32_t at = owner(self->fd, self->ras);
	uint64_t word = 0, added = 0;
	int stop[2], count[2];
	pid_t child;

	ASSERT_EQ(0, pipe(stop));
	ASSERT_EQ(0, pipe(count));
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		int failed = 0;

		close(stop[1]);
		added = use(self->addr, stop[0], &failed);
		if (write(count[1], &added, 8) != 8)
			failed = 1;
		_exit(failed);
	}
	for (unsigned long i = 0; i < rounds; i++) {
		uint32_t to = at == 1 ? 2 : 1;

		EXPECT_TRUE(moves(self->fd, self->ras, to)) TH_LOG("round %lu: %s", i, strerror(errno));
		at = to;
		sleep_ms(100);	/* clients are to find it here, too */
	}
	EXPECT_EQ(1, write(stop[1], "x", 1));
	EXPECT_EQ(8, read(count[0], &added, 8));
	int status = -1;

	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, rread(self->fd, self->addr, &word, 8));
	TH_LOG("%llu additions over %lu moves", (unsigned long long)added, rounds);
	EXPECT_EQ(added, word);
	EXPECT_GT(added, rounds);
}

TEST_F(regions, leave_a_node_that_is_drained)
{
	uint32_t from = owner(self->fd, self->ras), to = from == 1 ? 2 : 1;
	struct clio_drain drain = { .node = from, .on = 1 };
	char word[8];

	ASSERT_EQ(0, rwrite(self->fd, self->addr, "drained!", 8));
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_DRAIN, &drain));
	EXPECT_TRUE(EVENTUALLY(60000, owner(self->fd, self->ras) == to));
	EXPECT_EQ(0, rread(self->fd, self->addr, word, 8));
	EXPECT_EQ(0, memcmp(word, "drained!", 8));
}

TEST_F(regions, that_a_node_lost_are_eio_and_never_zeros)
{
	uint64_t word = 0;
	uint32_t at = owner(self->fd, self->ras), other;
	uint64_t addr = self->addr, ras = self->ras;

	/* The home must outlive the region: move it to the node that is not the home. */
	other = (ras >> 48) == 1 ? 2 : 1;
	if (at != other) {
		ASSERT_TRUE(moves(self->fd, ras, other));
	}
	ASSERT_EQ(0, rwrite(self->fd, addr, "precious", 8));
	/* It dies, and comes back empty. */
	memory_down(other);
	node_power(other, false);
	self->cl.c.map[other - 1].state = RDMA_LITE_NODE_DOWN;
	cluster_publish(&self->cl.c);
	ASSERT_EQ(0, node_power(other, true));
	self->cl.c.map[other - 1].state = RDMA_LITE_NODE_UP;
	cluster_publish(&self->cl.c);
	ASSERT_TRUE(lite_reachable(self->cl.c.fd[3], other, 30000));
	ASSERT_EQ(0, memory_up(other, "33554432"));
	EXPECT_TRUE(EVENTUALLY(60000, ERRNO_OF(rread(self->fd, addr, &word, 8)) == EIO))
		TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, word);
	EXPECT_EQ(EIO, ERRNO_OF(rwrite(self->fd, addr, "x", 1)));
	/* What is allocated now is zero, and usable. */
	addr = ralloc(self->fd, MEMORY_PAGE);
	ASSERT_NE(0, addr) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, rread(self->fd, addr, &word, 8));
	EXPECT_EQ(0, word);
}

/* A memory node that may promise three times what it has, and one with room. */
FIXTURE(crowded) {
	struct clio_cluster cl;
	int fd;
};

#define CROWD	3	/* regions, of 15 MiB each: more than the pool */
#define PART	(15 << 20)

FIXTURE_SETUP(crowded)
{
	ASSERT_EQ(0, clio_cluster_up(&self->cl, 3, 2, "33554432"));
	ASSERT_EQ(0, memory_up_as(1, "33554432", "300"));
	self->fd = clio_attached(3, "crowded");
	ASSERT_GE(self->fd, 0);
}

FIXTURE_TEARDOWN(crowded)
{
	close(self->fd);
	clio_cluster_down(&self->cl);
}

TEST_F(crowded, node_gives_its_coldest_region_away_before_it_is_full)
{
	struct clio_info info = {};
	uint64_t addr[CROWD];
	uint32_t left = 0;

	for (int i = 0; i < CROWD; i++) {
		addr[i] = ralloc(self->fd, PART);
		ASSERT_NE(0, addr[i]) TH_LOG("%s", strerror(errno));
	}
	ASSERT_EQ(0, ioctl(self->fd, CLIO_IOC_INFO, &info));
	/* All to the one that has not the room. */
	for (int i = 0; i < CROWD; i++)
		ASSERT_TRUE(owner_of(self->fd, info.ras, i) == 1 || moves_one(self->fd, info.ras, i, 1));
	/* The first region is the one that is used most. */
	for (int i = 0; i < CROWD; i++) {
		for (int at = 0; at < PART; at += MEMORY_PAGE) {
			uint64_t word = addr[i] + at;

			/* What was promised is there, at the latest once a region has left. */
			ASSERT_TRUE(EVENTUALLY(60000, !rwrite(self->fd, addr[i] + at, &word, 8)))
				TH_LOG("region %d at %d: %s", i, at, strerror(errno));
			ASSERT_TRUE(EVENTUALLY(60000, !rread(self->fd, addr[0] + at, &word, 8)));
		}
	}
	for (int i = 0; i < CROWD; i++)
		left += owner_of(self->fd, info.ras, i) == 2;
	EXPECT_GE(left, 1);
	EXPECT_EQ(1, owner_of(self->fd, info.ras, 0));
	for (int i = 0; i < CROWD; i++) {
		for (int at = 0; at < PART; at += MEMORY_PAGE) {
			uint64_t word = 0;

			ASSERT_EQ(0, rread(self->fd, addr[i] + at, &word, 8));
			ASSERT_EQ(addr[i] + at, word);
		}
	}
}

TEST_HARNESS_MAIN
