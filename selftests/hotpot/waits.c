// SPDX-License-Identifier: GPL-2.0
/* Waits and what disturbs them: signals, a clock that jumps, a node that is slow and not dead. */
#include <signal.h>
#include <sys/time.h>
#include <time.h>
#include "hotpot.h"

#define SIZE (6 * CHUNK)

FIXTURE(waits) {
	struct space s;
	int fd[2][SPACE_NODES + 1];
	struct hotpot_info info[2];
};

static const char *const names[2] = { "waitsmw", "waitssw" };

FIXTURE_SETUP(waits)
{
	ASSERT_EQ(0, space_open(&self->s));
	for (int d = 0; d < 2; d++) {
		ASSERT_EQ(0, dataset_make_mode(&self->s, 1, names[d], SIZE, 2, d ? HOTPOT_MRSW : HOTPOT_MRMW));
		ASSERT_EQ(0, dataset_info(at(&self->s, 1, names[d]), &self->info[d]));
		for (int i = 1; i <= 3; i++) {
			self->fd[d][i] = open(at(&self->s, i, names[d]), O_RDWR | O_CLOEXEC);
			ASSERT_LE(0, self->fd[d][i]);
		}
	}
}

static int netem(const struct place *p, const char *what)
{
	return sh("for d in $(ip -n %s -o link show type veth | sed 's/^[0-9]*: \\([^@:]*\\).*/\\1/'); do "
		  "ip netns exec %s tc qdisc %s || exit 1; done", p->name, p->name, what);
}

FIXTURE_TEARDOWN(waits)
{
	for (int i = 1; i <= 3; i++)
		place_link(&self->s.n[i], true);
	for (int d = 0; d < 2; d++) {
		for (int i = 1; i <= 3; i++)
			close(self->fd[d][i]);
		EVENTUALLY(60000, unlink(at(&self->s, 1, names[d])) == 0 || errno == ENOENT);
	}
}

static void on_alarm(int sig) { (void)sig; }

/* A signal each 100 ms from now on, or none any more. */
static void disturb(bool yes)
{
	struct sigaction act = { .sa_handler = on_alarm };
	struct itimerval every = { };

	if (yes)
		every = (struct itimerval){ { 0, 100000 }, { 0, 100000 } };
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

/* Sets the clock of the day to what it should be and so much more, seconds. */
static void jump(long by)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec += by;
	clock_settime(CLOCK_REALTIME, &now);
}

/* A page of the MRSW dataset, to write it. */
static int acquire_at(int fd, const struct hotpot_info *info, int page, uint32_t timeout_ms)
{
	struct hotpot_area area = { info->base + page * PAGE, 8 };

	return acquire_fd(fd, HOTPOT_IOC_ACQUIRE, &area, 1, timeout_ms, HOTPOT_ACQUIRE_WAIT);
}

#define ACQUIRE(node, page, timeout_ms) acquire_at(self->fd[1][node], &self->info[1], page, timeout_ms)
#define GIVE_BACK(node) acquire_fd(self->fd[1][node], HOTPOT_IOC_ABORT, NULL, 0, DEADLINE_MS, 0)

TEST_F(waits, for_a_page_to_write_end_by_a_signal_and_leave_nothing)
{
	ASSERT_EQ(0, ACQUIRE(1, 0, DEADLINE_MS));
	disturb(true);
	EXPECT_EQ(EINTR, ACQUIRE(2, 0, 600000));
	disturb(false);
	ASSERT_EQ(0, GIVE_BACK(1));
	/* Who was interrupted does not have it. */
	EXPECT_EQ(0, ACQUIRE(3, 0, DEADLINE_MS));
	EXPECT_EQ(0, GIVE_BACK(3));
}

TEST_F_TIMEOUT(waits, of_commits_reads_and_writes_are_not_torn_by_signals, 200)
{
	uint64_t value[2] = { 0 }, got[2];
	int done = 0;

	disturb(true);
	for (int round = 0; round < 20; round++) {
		ssize_t n;

		/* Two pages of two owners, by one write. */
		value[0] = value[1] = round + 1;
		n = pwrite(self->fd[0][1], value, sizeof(value), CHUNK - 8);
		EXPECT_TRUE(n == sizeof(value) || (n < 0 && errno == EINTR)) TH_LOG("%s", strerror(errno));
		done += n > 0;
		n = pread(self->fd[0][2], got, sizeof(got), CHUNK - 8);
		EXPECT_TRUE(n == sizeof(got) || (n < 0 && errno == EINTR)) TH_LOG("%s", strerror(errno));
		if (n == sizeof(got)) {
			EXPECT_EQ(got[0], got[1]) TH_LOG("round %d: half of a write", round);
		}
	}
	disturb(false);
	EXPECT_LT(0, done);
	ASSERT_EQ(sizeof(value), pwrite(self->fd[0][1], value, sizeof(value), CHUNK - 8));
	EXPECT_TRUE(holds(at(&self->s, 3, names[0]), CHUNK - 8, value, sizeof(value)));
}

TEST_F_TIMEOUT(waits, of_whom_the_owner_is_cut_off_end_when_they_are_killed, 200)
{
	pid_t child[3];
	int64_t before;

	ASSERT_EQ(0, place_link(&self->s.n[1], false));
	for (int i = 0; i < 3; i++) {
		child[i] = fork();
		if (!child[i]) {
			uint64_t bytes[CHUNK / 8] = { 1 };

			/* Writes to all owners, reads of all, waits to write. */
			if (i == 0)
				_exit(pwrite(self->fd[0][1], bytes, CHUNK, CHUNK / 2) < 0);
			if (i == 1)
				_exit(pread(self->fd[0][1], bytes, CHUNK, 3 * CHUNK / 2) < 0);
			_exit(ACQUIRE(1, 16, 600000) || ACQUIRE(1, 32, 600000));
		}
	}
	sleep_ms(500);
	before = now_ms();
	for (int i = 0; i < 3; i++)
		kill(child[i], SIGKILL);
	for (int i = 0; i < 3; i++)
		waitpid(child[i], NULL, 0);
	/* A commit that may be decided is brought to its end first: not longer than the mount's deadline. */
	EXPECT_LE(now_ms() - before, DEADLINE_MS + LITE_MARGIN_MS);
	ASSERT_EQ(0, place_link(&self->s.n[1], true));
	for (int page = 16; page <= 32; page += 16) {
		EXPECT_TRUE(EVENTUALLY(60000, !ACQUIRE(2, page, DEADLINE_MS)));
		EXPECT_EQ(0, GIVE_BACK(2));
	}
	EXPECT_TRUE(EVENTUALLY(60000, !poke(at(&self->s, 1, names[0]), 0, "go on...", 8)));
}

TEST_F_TIMEOUT(waits, are_neither_ended_nor_prolonged_by_a_clock_that_jumps, 200)
{
	static const long jumps[] = { 86400, -86400, -31536000, 31536000 };
	uint64_t value = 0;

	for (size_t i = 0; i < COUNT(jumps); i++) {
		int64_t before = now_ms();
		pid_t jumper = fork();
		int err;

		if (!jumper) {
			sleep_ms(300);
			jump(jumps[i]);
			_exit(0);
		}
		ASSERT_EQ(0, ACQUIRE(1, 0, DEADLINE_MS));
		/* Until its deadline, by the clock that does not jump. */
		err = ACQUIRE(2, 0, 1500);
		EXPECT_EQ(ETIMEDOUT, err) TH_LOG("%s", strerror(err));
		EXPECT_GE(now_ms() - before, 1450);
		EXPECT_LE(now_ms() - before, DEADLINE_MS + LITE_MARGIN_MS);
		EXPECT_EQ(0, GIVE_BACK(1));
		waitpid(jumper, NULL, 0);
		for (int node = 1; node <= 3; node++) {
			value++;
			EXPECT_EQ(0, poke(at(&self->s, node, names[0]), CHUNK, &value, 8));
			EXPECT_TRUE(holds(at(&self->s, node % 3 + 1, names[0]), CHUNK, &value, 8));
		}
	}
}

TEST_F_TIMEOUT(waits, for_a_node_that_is_slow_and_not_dead_end_when_it_answers, 200)
{
	struct rdma_lite_map_node map[16];
	uint64_t value = 0, before = 0, after = 0;
	int lite = lite_open(self->s.n[1].name, 0);

	ASSERT_LT(0, map_get(lite, &before, map, COUNT(map)));
	if (netem(&self->s.n[2], "add dev $d root netem delay 150ms 50ms"))
		SKIP(return, "no netem");
	for (int i = 0; i < 4; i++) {
		for (int node = 1; node <= 2; node++) {
			value++;
			EXPECT_EQ(0, poke(at(&self->s, node, names[0]), i * CHUNK, &value, 8)) TH_LOG("node %d", node);
			EXPECT_TRUE(holds(at(&self->s, 3 - node, names[0]), i * CHUNK, &value, 8));
		}
	}
	ASSERT_EQ(0, netem(&self->s.n[2], "del dev $d root"));
	/* Nobody has made a map of it. */
	ASSERT_LT(0, map_get(lite, &after, map, COUNT(map)));
	EXPECT_EQ(before, after);
	close(lite);
}

TEST_HARNESS_MAIN
