// SPDX-License-Identifier: GPL-2.0
/* Locks: they exclude, and go with their holder. */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "remote.h"

#define ROUNDS 20

FIXTURE(locks) {
	struct clio_cluster cl;
	int one, two;
	uint64_t lock;
};

FIXTURE_SETUP(locks)
{
	ASSERT_EQ(0, clio_cluster_up(&self->cl, 3, 1, "67108864"));
	self->one = clio_attached(2, "locks");
	ASSERT_GE(self->one, 0);
	self->two = clio_attached(3, "locks");
	ASSERT_GE(self->two, 0);
	self->lock = ralloc(self->one, 65536);
	ASSERT_NE(0, self->lock);
}

FIXTURE_TEARDOWN(locks)
{
	close(self->one);
	close(self->two);
	clio_cluster_down(&self->cl);
}

struct counter {
	int fd;
	uint64_t lock, count;
	int err;
};

static void *count(void *arg)
{
	struct counter *c = arg;

	for (int i = 0; i < ROUNDS && !c->err; i++) {
		uint64_t value;

		if (rlock(c->fd, c->lock) || rread(c->fd, c->count, &value, 8))
			c->err = errno;
		value++;
		if (!c->err && (rwrite(c->fd, c->count, &value, 8) || runlock(c->fd, c->lock)))
			c->err = errno;
	}
	return NULL;
}

TEST_F(locks, exclude_threads_of_one_open_and_of_two_nodes)
{
	struct counter c[4];
	pthread_t thread[4];
	uint64_t value;

	for (int i = 0; i < 4; i++) {
		c[i] = (struct counter) { i % 2 ? self->one : self->two, self->lock, self->lock + 8192, 0 };
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, count, &c[i]));
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(thread[i], NULL);
		EXPECT_EQ(0, c[i].err) TH_LOG("thread %d: %s", i, strerror(c[i].err));
	}
	ASSERT_EQ(0, rread(self->one, self->lock + 8192, &value, 8));
	EXPECT_EQ(4 * ROUNDS, value);
}

TEST_F(locks, that_somebody_has_time_out)
{
	struct clio_op op = { .opcode = CLIO_OP_LOCK, .addr = self->lock };

	ASSERT_EQ(0, rlock(self->one, self->lock));
	ASSERT_EQ(1, clio_submit(self->two, &op, 1, 0, 500));
	EXPECT_EQ(-ETIMEDOUT, op.error);
	ASSERT_EQ(0, runlock(self->one, self->lock));
	EXPECT_EQ(0, rlock(self->two, self->lock));
	EXPECT_EQ(0, runlock(self->two, self->lock));
}

TEST_F(locks, that_are_not_ours_cannot_be_given_back)
{
	EXPECT_EQ(EPERM, ERRNO_OF(runlock(self->one, self->lock)));
	ASSERT_EQ(0, rlock(self->one, self->lock));
	EXPECT_EQ(EPERM, ERRNO_OF(runlock(self->two, self->lock)));
	EXPECT_EQ(0, runlock(self->one, self->lock));
	EXPECT_EQ(EPERM, ERRNO_OF(runlock(self->one, self->lock)));
}

TEST_F(locks, of_a_process_that_is_killed_are_free)
{
	int ready[2], status;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	if (!pid) {
		int fd = clio_attached(2, "locks");

		if (fd < 0 || rlock(fd, self->lock))
			_exit(1);
		/* And with requests in flight. */
		for (int i = 0; i < 50; i++)
			rwrite_async(fd, self->lock + 4096, &c, 1, i);
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	EXPECT_EQ(0, rlock(self->two, self->lock)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, runlock(self->two, self->lock));
}

TEST_HARNESS_MAIN
