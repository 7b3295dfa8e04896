// SPDX-License-Identifier: GPL-2.0
/* A network that loses, doubles, delays, or is not there: deadlines hold. */
#include "lite.h"

FIXTURE(link) {
	struct cluster c;
};

FIXTURE_SETUP(link)
{
	ASSERT_EQ(0, cluster_up(&self->c, 2));
}

FIXTURE_TEARDOWN(link)
{
	cluster_down(&self->c);
}

TEST_F(link, that_is_cut_costs_the_deadline_and_never_more)
{
	int64_t before;

	ASSERT_EQ(0, link_cut(2));
	for (int i = 0; i < 3; i++) {
		before = now_ms();
		EXPECT_EQ(ETIMEDOUT, ERRNO_OF(lite_ping(self->c.fd[1], 2, 64, 1500)));
		EXPECT_LE(now_ms() - before, 1500 + LITE_MARGIN_MS);
	}
	/* The default deadline of the node (timeout_ms) counts too. */
	before = now_ms();
	EXPECT_EQ(ETIMEDOUT, ERRNO_OF(lite_ping(self->c.fd[1], 2, 64, 0)));
	EXPECT_GE(now_ms() - before, 2900);
	EXPECT_LE(now_ms() - before, 3000 + LITE_MARGIN_MS);
}

TEST_F(link, that_comes_back_carries_pings_again)
{
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, link_cut(2));
		EXPECT_EQ(ETIMEDOUT, ERRNO_OF(lite_ping(self->c.fd[1], 2, 64, 1000)));
		ASSERT_EQ(0, link_mend(2));
		EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 60000)) TH_LOG("round %d: %s", i, strerror(errno));
		EXPECT_TRUE(lite_reachable(self->c.fd[2], 1, 60000)) TH_LOG("round %d: %s", i, strerror(errno));
	}
}

TEST_F(link, of_the_node_itself_may_go_down_and_come_back)
{
	/* Which end connects depends on the ids: each end loses its interface once. */
	for (int i = 1; i <= 2; i++) {
		ASSERT_EQ(0, sh("ip -n lt%d link set ltv%d down", i, i));
		EXPECT_EQ(ETIMEDOUT, ERRNO_OF(lite_ping(self->c.fd[1], 2, 64, 2000)));
		ASSERT_EQ(0, sh("ip -n lt%d link set ltv%d up", i, i));
		EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 30000)) TH_LOG("1 to 2: %s", strerror(errno));
		EXPECT_TRUE(lite_reachable(self->c.fd[2], 1, 30000)) TH_LOG("2 to 1: %s", strerror(errno));
	}
}

TEST_F(link, cut_shortly_under_a_ping_is_bridged_by_retries)
{
	pid_t mender = fork();

	if (!mender) {
		sleep_ms(1500);
		link_mend(2);
		_exit(0);
	}
	ASSERT_EQ(0, link_cut(2));
	EXPECT_EQ(0, lite_ping(self->c.fd[1], 2, 64, 40000)) TH_LOG("%s", strerror(errno));
	waitpid(mender, NULL, 0);
}

TEST_F(link, that_loses_everything_is_like_a_cut_one)
{
	int64_t before;

	ASSERT_EQ(0, link_netem(2, "loss 100%"));
	before = now_ms();
	EXPECT_EQ(ETIMEDOUT, ERRNO_OF(lite_ping(self->c.fd[1], 2, 64, 1500)));
	EXPECT_LE(now_ms() - before, 1500 + LITE_MARGIN_MS);
	ASSERT_EQ(0, link_mend(2));
	EXPECT_TRUE(lite_reachable(self->c.fd[1], 2, 60000)) TH_LOG("%s", strerror(errno));
}

/* A bad but living network: every ping comes right, only later. */
FIXTURE(bad_link) {
	struct cluster c;
};

FIXTURE_VARIANT(bad_link) {
	const char *netem;
};

FIXTURE_VARIANT_ADD(bad_link, loses_5_percent) { .netem = "loss 5%" };
FIXTURE_VARIANT_ADD(bad_link, reorders_5_percent) { .netem = "delay 2ms reorder 95% 50%" };
FIXTURE_VARIANT_ADD(bad_link, doubles_5_percent) { .netem = "duplicate 5%" };
FIXTURE_VARIANT_ADD(bad_link, does_all_of_it) { .netem = "delay 1ms reorder 95% loss 2% duplicate 5%" };

FIXTURE_SETUP(bad_link)
{
	ASSERT_EQ(0, cluster_up(&self->c, 2));
	ASSERT_EQ(0, link_netem(2, variant->netem));
}

FIXTURE_TEARDOWN(bad_link)
{
	cluster_down(&self->c);
}

TEST_F_TIMEOUT(bad_link, still_brings_every_ping_back_right, 400)
{
	static const uint32_t sizes[] = { 0, 64, 4096, 20000, 65000 };
	unsigned long rounds = env_number("POTLUCK_PINGS", 25);

	for (unsigned long i = 0; i < rounds; i++) {
		ASSERT_EQ(0, lite_ping(self->c.fd[1 + i % 2], 2 - i % 2, sizes[i % COUNT(sizes)], 60000))
			TH_LOG("ping %lu: %s", i, strerror(errno));
	}
}

TEST_HARNESS_MAIN
