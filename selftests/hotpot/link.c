// SPDX-License-Identifier: GPL-2.0
/* The link cut in the middle of commits: error or success, never both, in time. */
#include "hotpot.h"

#define SIZE (6 * CHUNK)
#define TIMEOUT_MS 4000

FIXTURE(cut) {
	struct space s;
	struct agent a[SPACE_NODES + 1];
};

FIXTURE_SETUP(cut)
{
	ASSERT_EQ(0, space_open(&self->s));
	ASSERT_EQ(0, dataset_make(&self->s, 1, "cut", SIZE, 2));
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, agent_start(&self->a[i], at(&self->s, i, "cut"), SIZE));
	}
}

FIXTURE_TEARDOWN(cut)
{
	for (int i = 1; i <= 3; i++) {
		place_link(&self->s.n[i], true);
		agent_end(&self->a[i]);
	}
	EVENTUALLY(60000, unlink(at(&self->s, 1, "cut")) == 0 || errno == ENOENT);
}

#define DS(i) at(&self->s, i, "cut")

/* All nodes answer each other again, and reads and commits go through. */
static bool healed(struct space *s, struct agent *a)
{
	for (int i = 1; i <= 3; i++)
		for (int j = 1; j <= 3; j++) {
			int fd = lite_open(s->n[i].name, 0);
			bool ok = lite_reachable(fd, s->n[j].id, 60000);

			close(fd);
			if (!ok)
				return false;
		}
	return EVENTUALLY(60000, agent_commit(&a[1], 5 * CHUNK + 100, 8) == 0);
}

TEST_F_TIMEOUT(cut, in_the_middle_of_commits_ends_each_with_one_outcome_in_time, 400)
{
	unsigned long rounds = env_number("POTLUCK_CUTS", 4);
	uint64_t acked = 0, stored = 0;

	for (unsigned long round = 1; round <= rounds; round++) {
		int victim = 1 + round % 3, writer = 1;
		struct hotpot_area areas[6];
		int outcomes[3] = { 0 };
		pid_t cutter = fork();

		if (!cutter) {
			sleep_ms(150 + 97 * round % 400);
			place_link(&self->s.n[victim], false);
			_exit(0);
		}
		/* A record whose pieces lie in chunks of all owners, numbered. */
		for (uint64_t k = 1; k <= 40; k++) {
			uint64_t value = round << 32 | k;
			int64_t before;
			int err;

			for (int c = 0; c < 6; c++) {
				areas[c] = (struct hotpot_area){ c * CHUNK, 8 };
				stored = value;
				if (agent_store(&self->a[writer], areas[c].addr, &value, 8))
					goto cut;	/* a fault that cannot be served: SIGBUS in time */
			}
			before = now_ms();
			err = agent_commit_areas(&self->a[writer], areas, 6, 2, TIMEOUT_MS);
			EXPECT_LE(now_ms() - before, 2 * TIMEOUT_MS + LITE_MARGIN_MS)
				TH_LOG("round %lu: %s after %ld ms", round, strerror(err), (long)(now_ms() - before));
			outcomes[err ? (err == EINPROGRESS ? 2 : 1) : 0]++;
			if (!err)
				acked = value;
			EXPECT_TRUE(!err || err == ETIMEDOUT || err == EINPROGRESS || err == EHOSTDOWN ||
				    err == ESTALE || err == EAGAIN) TH_LOG("%s", strerror(err));
			if (err)
				break;
		}
cut:
		waitpid(cutter, NULL, 0);
		ASSERT_EQ(0, place_link(&self->s.n[victim], true));
		ASSERT_TRUE(healed(&self->s, self->a)) TH_LOG("round %lu", round);
		/*
		 * All pieces are of one commit, on all nodes, and not older than what was acked.
		 * What could not be committed is still there at the writer, and nowhere else.
		 */
		uint64_t first = 0, got;

		for (int i = 3; i >= 1; i--) {
			for (int c = 0; c < 6; c++) {
				ASSERT_TRUE(EVENTUALLY(60000, peek(DS(i), c * CHUNK, &got, 8) == 0))
					TH_LOG("round %lu: node %d cannot read piece %d", round, i, c);
				if (!first)
					first = got;
				if (i == writer && got == stored)
					continue;
				ASSERT_EQ(first, got) TH_LOG("round %lu: node %d, piece %d is torn", round, i, c);
			}
		}
		ASSERT_GE(first, acked) TH_LOG("round %lu: an acknowledged commit is lost", round);
		TH_LOG("round %lu: victim n%d, %d succeeded, %d failed, %d unknown", round, victim,
		       outcomes[0], outcomes[1], outcomes[2]);
	}
}

TEST_F(cut, off_owner_makes_faults_and_reads_fail_in_time)
{
	struct hotpot_chunk chunks[6];
	struct hotpot_info info = { .chunks = (uintptr_t)chunks, .nr_chunks = 6 };
	int fd = open(DS(1), O_RDONLY), remote = 0;
	char got[8];
	int64_t before;
	int err;

	ASSERT_EQ(0, ioctl(fd, HOTPOT_IOC_INFO, &info));
	close(fd);
	while (remote < 6 && chunks[remote].owner == info.node)
		remote++;
	ASSERT_LT(remote, 6);
	ASSERT_EQ(0, place_link(&self->s.n[1], false));
	before = now_ms();
	err = agent_load(&self->a[1], remote * CHUNK + 3 * PAGE, got, 8);
	EXPECT_EQ(EFAULT, err) TH_LOG("a fault on a page of an owner that is away: %s", strerror(err));
	EXPECT_LE(now_ms() - before, DEADLINE_MS + LITE_MARGIN_MS);
	before = now_ms();
	err = peek(DS(1), remote * CHUNK + 4 * PAGE, got, 8);
	EXPECT_TRUE(err == ETIMEDOUT || err == EIO || err == EHOSTDOWN) TH_LOG("%s", strerror(err));
	EXPECT_LE(now_ms() - before, DEADLINE_MS + LITE_MARGIN_MS);
	/* The process lives on, and can be served later. */
	ASSERT_EQ(0, place_link(&self->s.n[1], true));
	EXPECT_TRUE(EVENTUALLY(60000, agent_load(&self->a[1], remote * CHUNK + 3 * PAGE, got, 8) == 0));
}

TEST_F_TIMEOUT(cut, process_that_waits_for_a_page_can_be_killed, 200)
{
	int64_t before;

	ASSERT_EQ(0, place_link(&self->s.n[1], false));
	for (int c = 0; c < 3; c++)
		agent_ask(&self->a[1], (struct agent_request){ .op = AGENT_LOAD, .off = c * CHUNK + 2 * PAGE,
							       .len = 8 }, NULL, 0);
	sleep_ms(500);
	before = now_ms();
	kill(self->a[1].pid, SIGKILL);
	agent_end(&self->a[1]);
	EXPECT_LE(now_ms() - before, LITE_MARGIN_MS) TH_LOG("killed after %ld ms", (long)(now_ms() - before));
	ASSERT_EQ(0, place_link(&self->s.n[1], true));
	ASSERT_EQ(0, agent_start(&self->a[1], DS(1), SIZE));
	EXPECT_TRUE(healed(&self->s, self->a));
}

TEST_HARNESS_MAIN
