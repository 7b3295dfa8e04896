// SPDX-License-Identifier: GPL-2.0
/* HOTPOT_IOC_BARRIER: meeting by name and count, across nodes. */
#include "hotpot.h"

FIXTURE(barrier) {
	struct space s;
	int fd[SPACE_NODES + 1];
};

FIXTURE_SETUP(barrier)
{
	ASSERT_EQ(0, space_open(&self->s));
	ASSERT_EQ(0, dataset_make(&self->s, 1, "barrier", PAGE, 1));
	for (int i = 1; i <= 3; i++) {
		self->fd[i] = open(at(&self->s, i, "barrier"), O_RDWR);
		ASSERT_LE(0, self->fd[i]);
	}
}

FIXTURE_TEARDOWN(barrier)
{
	for (int i = 1; i <= 3; i++)
		close(self->fd[i]);
	unlink(at(&self->s, 1, "barrier"));
}

static int meet(int fd, const char *name, uint32_t count, uint32_t timeout_ms)
{
	struct hotpot_barrier b = { .count = count, .timeout_ms = timeout_ms };

	snprintf(b.name, sizeof(b.name), "%s", name);
	return ioctl(fd, HOTPOT_IOC_BARRIER, &b) < 0 ? errno : 0;
}

/* A participant in a process of its own. */
static pid_t participant(int fd, const char *name, uint32_t count, uint32_t timeout_ms)
{
	pid_t child = fork();

	if (!child)
		_exit(meet(fd, name, count, timeout_ms));
	return child;
}

static int result(pid_t child)
{
	int status;

	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

TEST_F(barrier, of_one_is_passed_at_once)
{
	for (int i = 1; i <= 3; i++) {
		EXPECT_EQ(0, meet(self->fd[i], "alone", 1, 10000));
	}
}

TEST_F(barrier, lets_three_nodes_through_when_the_third_has_come)
{
	pid_t first = participant(self->fd[1], "three", 3, DEADLINE_MS);
	pid_t second = participant(self->fd[2], "three", 3, DEADLINE_MS);

	sleep_ms(1000);
	EXPECT_EQ(0, waitpid(first, NULL, WNOHANG));
	EXPECT_EQ(0, waitpid(second, NULL, WNOHANG));
	EXPECT_EQ(0, meet(self->fd[3], "three", 3, DEADLINE_MS));
	EXPECT_EQ(0, result(first));
	EXPECT_EQ(0, result(second));
}

TEST_F(barrier, counts_participants_not_nodes)
{
	pid_t child[5];

	for (int i = 0; i < 5; i++)
		child[i] = participant(self->fd[1 + i % 2], "five", 5, DEADLINE_MS);
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(0, result(child[i]));
	}
}

TEST_F(barrier, can_be_met_at_again_and_again)
{
	pid_t child[4];

	for (int i = 1; i <= 3; i++) {
		child[i] = fork();
		if (!child[i]) {
			for (int k = 0; k < 15; k++) {
				int err = meet(self->fd[i], "again", 3, DEADLINE_MS);

				if (err)
					_exit(err);
			}
			_exit(0);
		}
	}
	for (int i = 1; i <= 3; i++) {
		EXPECT_EQ(0, result(child[i]));
	}
}

TEST_F(barrier, of_another_name_is_another_barrier)
{
	pid_t one = participant(self->fd[1], "red", 2, 2000);
	pid_t two = participant(self->fd[2], "blue", 2, 2000);

	EXPECT_EQ(ETIMEDOUT, result(one));
	EXPECT_EQ(ETIMEDOUT, result(two));
}

TEST_F(barrier, that_not_all_reach_times_out_and_forgets_who_waited)
{
	int64_t before = now_ms();
	pid_t late;

	EXPECT_EQ(ETIMEDOUT, meet(self->fd[2], "late", 2, 1000));
	EXPECT_GE(now_ms() - before, 950);
	EXPECT_LE(now_ms() - before, 1000 + LITE_MARGIN_MS);
	/* One alone does not pass on the account of the one that gave up. */
	EXPECT_EQ(ETIMEDOUT, meet(self->fd[3], "late", 2, 1000));
	late = participant(self->fd[1], "late", 2, DEADLINE_MS);
	EXPECT_EQ(0, meet(self->fd[2], "late", 2, DEADLINE_MS));
	EXPECT_EQ(0, result(late));
}

TEST_F(barrier, with_another_count_than_the_others_is_einval)
{
	pid_t first = participant(self->fd[1], "count", 2, DEADLINE_MS);

	sleep_ms(700);
	EXPECT_EQ(EINVAL, meet(self->fd[2], "count", 3, 5000));
	EXPECT_EQ(0, meet(self->fd[3], "count", 2, DEADLINE_MS));
	EXPECT_EQ(0, result(first));
}

TEST_F(barrier, refuses_nonsense)
{
	struct hotpot_barrier good = { .name = "x", .count = 1, .timeout_ms = 100 }, b;

	EXPECT_EQ(EINVAL, meet(self->fd[1], "zero", 0, 100));
	b = good;
	b.reserved[0] = 1;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd[1], HOTPOT_IOC_BARRIER, &b)));
	b = good;
	b.reserved[1] = 1;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd[1], HOTPOT_IOC_BARRIER, &b)));
	b = good;
	memset(b.name, 'n', sizeof(b.name));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd[1], HOTPOT_IOC_BARRIER, &b)));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd[1], HOTPOT_IOC_BARRIER, NULL)));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd[1], HOTPOT_IOC_BARRIER, bad_pointer())));
}

static void on_alarm(int sig) { (void)sig; }

TEST_F(barrier, wait_is_interrupted_by_a_signal_and_forgotten)
{
	struct sigaction act = { .sa_handler = on_alarm };
	int64_t before = now_ms();

	for (int i = 2; i >= 1; i--) {	/* at a guest of the barrier, and at its host */
		sigaction(SIGALRM, &act, NULL);
		alarm(1);
		EXPECT_EQ(EINTR, meet(self->fd[i], "signal", 2, 60000));
	}
	EXPECT_LE(now_ms() - before, 2000 + 2 * LITE_MARGIN_MS);
	EXPECT_EQ(ETIMEDOUT, meet(self->fd[3], "signal", 2, 1000));
}

TEST_F(barrier, participant_that_is_killed_does_not_count)
{
	pid_t victim = participant(self->fd[2], "kill", 2, 60000);

	sleep_ms(700);
	kill(victim, SIGKILL);
	result(victim);
	EXPECT_EQ(ETIMEDOUT, meet(self->fd[3], "kill", 2, 1500));
}

TEST_HARNESS_MAIN
