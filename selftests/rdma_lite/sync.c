// SPDX-License-Identifier: GPL-2.0
/* Locks and barriers of a cluster. */
#include <pthread.h>

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

FIXTURE(sync) {
	struct cluster c;
	int one, two, three;
};

FIXTURE_SETUP(sync)
{
	ASSERT_EQ(0, cluster_up(&self->c, 3));
	self->one = self->c.fd[1];
	self->two = self->c.fd[2];
	self->three = self->c.fd[3];
}

FIXTURE_TEARDOWN(sync)
{
	cluster_down(&self->c);
}

TEST_F(sync, a_lock_has_one_holder_wherever_it_is_kept)
{
	for (uint32_t node = 1; node <= 3; node++) {
		uint64_t held = lite_lock_for(self->one, node, "one", 0, 5000), other;

		ASSERT_NE(0, held) TH_LOG("at %u: %s", node, strerror(errno));
		EXPECT_EQ(0, lite_lock_for(self->two, node, "one", RDMA_LITE_TRY, 5000));
		EXPECT_EQ(EBUSY, errno);
		EXPECT_EQ(0, lite_lock_for(self->three, node, "one", 0, 300));
		EXPECT_EQ(ETIMEDOUT, errno);
		/* Another name is another lock; the same at another node, too. */
		other = lite_lock_for(self->two, node, "two", RDMA_LITE_TRY, 5000);
		EXPECT_NE(0, other);
		EXPECT_EQ(0, lite_unlock(self->two, other));
		EXPECT_EQ(0, lite_unlock(self->one, held)) TH_LOG("%s", strerror(errno));
		EXPECT_EQ(EBADF, ERRNO_OF(lite_unlock(self->one, held)));
		held = lite_lock_for(self->two, node, "one", RDMA_LITE_TRY, 5000);
		EXPECT_NE(0, held) TH_LOG("%s", strerror(errno));
		EXPECT_EQ(0, lite_unlock(self->two, held));
	}
}

struct contender {
	int fd;
	volatile int *inside;
	volatile unsigned int *sum;
	unsigned int rounds;
	int err;
};

static void *contend(void *arg)
{
	struct contender *c = arg;

	for (unsigned int i = 0; i < c->rounds && !c->err; i++) {
		uint64_t held = lite_lock_for(c->fd, 2, "contended", 0, 100000);

		if (!held) {
			c->err = errno;
			break;
		}
		if (__atomic_fetch_add(c->inside, 1, __ATOMIC_SEQ_CST) != 0)
			c->err = EIO;
		(*c->sum)++;
		__atomic_fetch_sub(c->inside, 1, __ATOMIC_SEQ_CST);
		if (lite_unlock(c->fd, held))
			c->err = errno;
	}
	return NULL;
}

TEST_F(sync, a_lock_that_many_want_lets_in_one_at_a_time_and_all_in_the_end)
{
	struct contender contenders[12];
	volatile unsigned int sum = 0;
	volatile int inside = 0;
	pthread_t threads[12];

	for (int i = 0; i < 12; i++) {
		contenders[i] = (struct contender){ self->c.fd[1 + i % 3], &inside, &sum, 20, 0 };
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, contend, &contenders[i]));
	}
	for (int i = 0; i < 12; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, contenders[i].err) TH_LOG("%d: %s", i, strerror(contenders[i].err));
	}
	EXPECT_EQ(12 * 20, sum);
}

struct queued {
	int fd;
	int place;
	volatile int *next;
	int got;
};

static void *queue_up(void *arg)
{
	struct queued *q = arg;
	uint64_t held = lite_lock_for(q->fd, 2, "queue", 0, 60000);

	q->got = held ? __atomic_fetch_add(q->next, 1, __ATOMIC_SEQ_CST) : -errno;
	if (held)
		lite_unlock(q->fd, held);
	return NULL;
}

TEST_F(sync, a_lock_is_given_in_the_order_in_which_it_was_wanted)
{
	uint64_t held = lite_lock_for(self->one, 2, "queue", 0, 5000);
	struct queued queued[6];
	pthread_t threads[6];
	volatile int next = 0;

	ASSERT_NE(0, held);
	for (int i = 0; i < 6; i++) {
		queued[i] = (struct queued){ self->c.fd[1 + i % 3], i, &next, -1 };
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, queue_up, &queued[i]));
		sleep_ms(500);
	}
	EXPECT_EQ(0, lite_unlock(self->one, held));
	for (int i = 0; i < 6; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(i, queued[i].got);
	}
}

TEST_F(sync, a_lock_says_how_often_it_was_given)
{
	struct rdma_lite_lock first = { .node = 2, .name = "grants" }, second = first;

	ASSERT_EQ(0, ioctl(self->one, RDMA_LITE_IOC_LOCK, &first));
	ASSERT_EQ(0, lite_unlock(self->one, first.handle));
	ASSERT_EQ(0, ioctl(self->three, RDMA_LITE_IOC_LOCK, &second));
	EXPECT_GT(second.grant, first.grant);
}

/* A child that takes a lock at node 2 and waits to be killed. */
static pid_t holder(int *ready, const char *ns)
{
	pid_t child = fork();

	if (!child) {
		int fd = lite_open(ns, 0);

		if (!lite_lock_for(fd, 2, "killed", 0, 5000) || write(ready[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	return child;
}

TEST_F(sync, a_lock_is_free_when_its_holder_is_killed)
{
	int ready[2];
	pid_t child;
	char byte;

	ASSERT_EQ(0, pipe(ready));
	child = holder(ready, "lt1");
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	EXPECT_EQ(0, lite_lock_for(self->three, 2, "killed", RDMA_LITE_TRY, 5000));
	EXPECT_EQ(EBUSY, errno);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	EXPECT_NE(0, lite_lock_for(self->three, 2, "killed", 0, 10000)) TH_LOG("%s", strerror(errno));
}

TEST_F(sync, a_lock_is_free_when_the_map_drops_its_holder_or_its_power_goes)
{
	uint64_t held = lite_lock_for(self->three, 2, "dropped", 0, 5000);

	ASSERT_NE(0, held);
	self->c.map[2].state = RDMA_LITE_NODE_DOWN;
	ASSERT_EQ(0, cluster_publish(&self->c));
	EXPECT_NE(0, lite_lock_for(self->one, 2, "dropped", 0, 10000)) TH_LOG("%s", strerror(errno));
	self->c.map[2].state = RDMA_LITE_NODE_UP;
	ASSERT_EQ(0, cluster_publish(&self->c));
	ASSERT_TRUE(lite_reachable(self->three, 2, 30000));
	/* It is told so. */
	EXPECT_EQ(ESTALE, ERRNO_OF(lite_unlock(self->three, held)));
	held = lite_lock_for(self->three, 2, "power", 0, 5000);
	ASSERT_NE(0, held);
	ASSERT_EQ(0, node_power(3, false));
	ASSERT_EQ(0, node_power(3, true));
	ASSERT_EQ(0, cluster_publish(&self->c));
	ASSERT_TRUE(lite_reachable(self->three, 2, 30000));
	EXPECT_NE(0, lite_lock_for(self->one, 2, "power", 0, 10000)) TH_LOG("%s", strerror(errno));
}

TEST_F(sync, who_waits_for_a_lock_whose_node_goes_down_hears_of_it)
{
	pid_t child;
	int status;

	ASSERT_NE(0, lite_lock_for(self->one, 2, "gone", 0, 5000));
	child = fork();
	if (!child)
		_exit(lite_lock_for(self->three, 2, "gone", 0, RDMA_LITE_FOREVER) ? 0 : errno);
	sleep_ms(500);
	self->c.map[1].state = RDMA_LITE_NODE_DOWN;
	ASSERT_EQ(0, cluster_publish(&self->c));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(EHOSTDOWN, WEXITSTATUS(status)) TH_LOG("%s", strerror(WEXITSTATUS(status)));
}

static void nothing(int sig)
{
	(void)sig;
}

TEST_F(sync, a_signal_ends_a_wait_and_leaves_the_queue)
{
	struct sigaction act = { .sa_handler = nothing };
	uint64_t held = lite_lock_for(self->one, 2, "signal", 0, 5000);
	pid_t child;
	int status;

	ASSERT_NE(0, held);
	child = fork();
	if (!child) {
		sigaction(SIGUSR1, &act, NULL);
		_exit(lite_lock_for(self->three, 2, "signal", 0, RDMA_LITE_FOREVER) ? 0 : errno);
	}
	sleep_ms(500);
	kill(child, SIGUSR1);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(EINTR, WEXITSTATUS(status)) TH_LOG("%s", strerror(WEXITSTATUS(status)));
	ASSERT_EQ(0, lite_unlock(self->one, held));
	EXPECT_NE(0, lite_lock_for(self->two, 2, "signal", RDMA_LITE_TRY, 5000));
}

struct party {
	int fd;
	uint32_t count;
	uint32_t timeout_ms;
	int err;
	volatile int *here;
	int seen;
};

static void *meet(void *arg)
{
	struct party *p = arg;

	__atomic_fetch_add(p->here, 1, __ATOMIC_SEQ_CST);
	p->err = lite_barrier(p->fd, 2, "meet", p->count, p->timeout_ms) ? errno : 0;
	p->seen = *p->here;
	return NULL;
}

TEST_F(sync, a_barrier_opens_when_all_have_come_and_can_be_used_again)
{
	for (int round = 0; round < 3; round++) {
		struct party parties[6];
		volatile int here = 0;
		pthread_t threads[6];

		for (int i = 0; i < 6; i++) {
			parties[i] = (struct party){ self->c.fd[1 + i % 3], 6, 60000, -1, &here, 0 };
			ASSERT_EQ(0, pthread_create(&threads[i], NULL, meet, &parties[i]));
			if (!round)
				sleep_ms(100);
		}
		for (int i = 0; i < 6; i++) {
			pthread_join(threads[i], NULL);
			EXPECT_EQ(0, parties[i].err) TH_LOG("%s", strerror(parties[i].err));
			EXPECT_EQ(6, parties[i].seen);
		}
	}
	/* Alone there is nobody to wait for. */
	EXPECT_EQ(0, lite_barrier(self->one, 3, "alone", 1, 1000));
}

TEST_F(sync, a_barrier_fails_by_the_deadline_and_does_not_count_who_left)
{
	volatile int here = 0;
	struct party party = { self->three, 2, 30000, -1, &here, 0 };
	pthread_t thread;

	EXPECT_EQ(ETIMEDOUT, ERRNO_OF(lite_barrier(self->one, 2, "meet", 2, 300)));
	ASSERT_EQ(0, pthread_create(&thread, NULL, meet, &party));
	sleep_ms(1000);
	EXPECT_EQ(-1, party.err);
	EXPECT_EQ(EINVAL, ERRNO_OF(lite_barrier(self->one, 2, "meet", 3, 300)));
	EXPECT_EQ(0, lite_barrier(self->one, 2, "meet", 2, 10000));
	pthread_join(thread, NULL);
	EXPECT_EQ(0, party.err);
}

TEST_F(sync, a_barrier_fails_for_all_when_a_participant_is_dropped)
{
	volatile int here = 0;
	struct party one = { self->one, 3, 60000, -1, &here, 0 };
	pthread_t thread;
	pid_t child;

	ASSERT_EQ(0, pthread_create(&thread, NULL, meet, &one));
	child = fork();
	if (!child)
		_exit(lite_barrier(self->three, 2, "meet", 3, 60000) ? 0 : 1);
	sleep_ms(1000);
	self->c.map[2].state = RDMA_LITE_NODE_DOWN;
	ASSERT_EQ(0, cluster_publish(&self->c));
	pthread_join(thread, NULL);
	EXPECT_EQ(EHOSTDOWN, one.err) TH_LOG("%s", strerror(one.err));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

TEST_F(sync, names_and_fields_that_are_none_are_einval)
{
	struct rdma_lite_lock lock = { .node = 2, .name = "x", .flags = 2 };
	struct rdma_lite_barrier barrier = { .node = 2, .name = "x", .count = 1, .flags = 1 };

	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_LOCK, &lock)));
	lock.flags = 0;
	memset(lock.name, 'x', sizeof(lock.name));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_LOCK, &lock)));
	memset(lock.name, 0, sizeof(lock.name));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_LOCK, &lock)));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_BARRIER, &barrier)));
	barrier.flags = 0;
	barrier.count = 0;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_BARRIER, &barrier)));
	EXPECT_EQ(0, lite_lock_for(self->one, 99, "x", 0, 1000));
	EXPECT_EQ(EHOSTDOWN, errno);
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->one, RDMA_LITE_IOC_LOCK, NULL)));
}

TEST_HARNESS_MAIN
