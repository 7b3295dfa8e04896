// SPDX-License-Identifier: GPL-2.0
/* Ports whose calls processes receive, and the calls of processes. */
#include <pthread.h>
#include <signal.h>

#include "lite.h"

#define PORT	1000
#define SLOW_MS	20000

FIXTURE(ports) {
	struct cluster c;
	int fd[4];	/* by node id, from 1; they block */
};

FIXTURE_SETUP(ports)
{
	ASSERT_EQ(0, cluster_up(&self->c, 3));
	for (int i = 1; i <= 3; i++) {
		char ns[16];

		snprintf(ns, sizeof(ns), "lt%d", i);
		self->fd[i] = lite_open(ns, 0);
		ASSERT_GE(self->fd[i], 0);
	}
}

FIXTURE_TEARDOWN(ports)
{
	for (int i = 1; i <= 3; i++)
		close(self->fd[i]);
	cluster_down(&self->c);
}

static int port_open(int fd, uint32_t port, uint32_t requests, uint64_t bytes)
{
	struct rdma_lite_port p = { .port = port, .requests = requests, .bytes = bytes };

	return ioctl(fd, RDMA_LITE_IOC_PORT_OPEN, &p);
}

static int port_close(int fd, uint32_t port)
{
	struct rdma_lite_port p = { .port = port };

	return ioctl(fd, RDMA_LITE_IOC_PORT_CLOSE, &p);
}

static int receive(int fd, void *buf, size_t room, uint32_t timeout_ms, struct rdma_lite_receive *out)
{
	*out = (struct rdma_lite_receive) {
		.port = PORT,
		.timeout_ms = timeout_ms,
		.buf = (uintptr_t)buf,
		.len = room,
	};
	return ioctl(fd, RDMA_LITE_IOC_RECEIVE, out);
}

static int reply(int fd, uint64_t token, int status, const void *buf, size_t len)
{
	struct rdma_lite_reply r = {
		.port = PORT,
		.status = status,
		.token = token,
		.buf = (uintptr_t)buf,
		.len = len,
	};

	return ioctl(fd, RDMA_LITE_IOC_REPLY, &r);
}

static struct rdma_lite_call call_of(uint32_t node, const void *request, size_t len, void *answer,
				     size_t room, uint32_t timeout_ms)
{
	return (struct rdma_lite_call) {
		.node = node,
		.port = PORT,
		.timeout_ms = timeout_ms,
		.request = (uintptr_t)request,
		.request_len = len,
		.reply = (uintptr_t)answer,
		.reply_len = room,
	};
}

/* A process that replies to each request with its bytes reversed, until it is killed. */
static pid_t reverser(const char *ns)
{
	pid_t child;
	int ready[2];
	char c;

	if (pipe(ready))
		return -1;
	child = fork();
	if (!child) {
		static char buf[300000];
		struct rdma_lite_receive r;
		int fd = lite_open(ns, 0);

		if (fd < 0 || port_open(fd, PORT, 0, 0) || write(ready[1], "r", 1) != 1)
			_exit(1);
		if (receive(fd, buf, sizeof(buf), ~0u, &r))
			_exit(2);
		for (;;) {
			for (size_t i = 0; i < r.len / 2; i++) {
				char tmp = buf[i];

				buf[i] = buf[r.len - 1 - i];
				buf[r.len - 1 - i] = tmp;
			}
			/* Reply and receive the next one in one step. */
			r.flags = RDMA_LITE_RECEIVE_REPLY;
			r.status = 0;
			r.reply = (uintptr_t)buf;
			r.reply_len = r.len;
			r.len = sizeof(buf);
			if (ioctl(fd, RDMA_LITE_IOC_RECEIVE, &r))
				_exit(3);
		}
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		child = -1;
	close(ready[0]);
	return child;
}

static void end(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

TEST_F(ports, a_process_answers_calls_of_any_size_from_any_node)
{
	static const size_t sizes[] = { 1, 64, 4096, 4097, 40000, 262000 };
	static char request[262000], answer[262000];
	pid_t child = reverser("lt2");

	ASSERT_GT(child, 0);
	for (size_t i = 0; i < sizeof(request); i++)
		request[i] = i * 7;
	for (int from = 1; from <= 3; from++) {
		for (size_t s = 0; s < COUNT(sizes); s++) {
			struct rdma_lite_call c = call_of(2, request, sizes[s], answer, sizes[s], SLOW_MS);
			size_t wrong = 0;

			memset(answer, 0, sizeof(answer));
			ASSERT_EQ(0, ioctl(self->fd[from], RDMA_LITE_IOC_CALL, &c))
				TH_LOG("%d, %zu bytes: %s", from, sizes[s], strerror(errno));
			ASSERT_EQ(sizes[s], c.reply_len);
			for (size_t i = 0; i < sizes[s]; i++)
				wrong += answer[i] != request[sizes[s] - 1 - i];
			EXPECT_EQ(0, wrong) TH_LOG("%d, %zu bytes", from, sizes[s]);
		}
	}
	end(child);
}

TEST_F(ports, a_port_has_one_owner_and_ends_with_its_file)
{
	int other = lite_open("lt2", 0);

	ASSERT_GE(other, 0);
	EXPECT_EQ(EINVAL, ERRNO_OF(port_open(self->fd[2], RDMA_LITE_PORT_FIRST - 1, 0, 0)));
	EXPECT_EQ(EINVAL, ERRNO_OF(port_open(self->fd[2], 65536, 0, 0)));
	EXPECT_EQ(EINVAL, ERRNO_OF(port_open(self->fd[2], PORT, 0, 1ULL << 63)));
	ASSERT_EQ(0, port_open(other, PORT, 0, 0));
	EXPECT_EQ(EBUSY, ERRNO_OF(port_open(self->fd[2], PORT, 0, 0)));
	EXPECT_EQ(ENOENT, ERRNO_OF(port_close(self->fd[2], PORT)));
	EXPECT_EQ(0, port_open(self->fd[3], PORT, 0, 0)) TH_LOG("another node has ports of its own");
	close(other);
	EXPECT_EQ(0, port_open(self->fd[2], PORT, 0, 0));
	EXPECT_EQ(0, port_close(self->fd[2], PORT));
	EXPECT_EQ(ENOENT, ERRNO_OF(port_close(self->fd[2], PORT)));
}

TEST_F(ports, a_call_of_a_port_that_nobody_has_is_enoent)
{
	for (int node = 1; node <= 2; node++) {
		struct rdma_lite_call c = call_of(node, "x", 1, NULL, 0, SLOW_MS);

		EXPECT_EQ(ENOENT, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &c)));
	}
}

static void *call_thread(void *arg)
{
	long *a = arg;	/* fd, node, timeout, flags; result */
	struct rdma_lite_call c = call_of(a[1], "hello", 5, NULL, 0, a[2]);

	c.flags = a[3];
	a[4] = ioctl(a[0], RDMA_LITE_IOC_CALL, &c) ? -errno : c.status;
	return NULL;
}

TEST_F(ports, the_status_of_a_reply_reaches_the_caller)
{
	for (int node = 1; node <= 2; node++) {
		long a[5] = { self->fd[1], node, SLOW_MS };
		struct rdma_lite_receive r;
		pthread_t t;
		char buf[8];

		ASSERT_EQ(0, port_open(self->fd[node], PORT, 0, 0));
		ASSERT_EQ(0, pthread_create(&t, NULL, call_thread, a));
		ASSERT_EQ(0, receive(self->fd[node], buf, sizeof(buf), SLOW_MS, &r));
		EXPECT_EQ(5, r.len);
		EXPECT_EQ(1, r.src);
		EXPECT_EQ(0, memcmp(buf, "hello", 5));
		EXPECT_EQ(EINVAL, ERRNO_OF(reply(self->fd[node], r.token, 5, NULL, 0)));
		EXPECT_EQ(EMSGSIZE, ERRNO_OF(reply(self->fd[node], r.token, 0, "x", 1)));
		EXPECT_EQ(ENOENT, ERRNO_OF(reply(self->fd[node], r.token + (1ULL << 40), 0, NULL, 0)));
		EXPECT_EQ(0, reply(self->fd[node], r.token, -EXDEV, NULL, 0));
		EXPECT_EQ(ENOENT, ERRNO_OF(reply(self->fd[node], r.token, 0, NULL, 0)));
		pthread_join(t, NULL);
		EXPECT_EQ(-EXDEV, a[4]);
		EXPECT_EQ(0, port_close(self->fd[node], PORT));
	}
}

TEST_F(ports, a_request_that_is_too_long_for_the_buffer_stays_the_next_one)
{
	long a[5] = { self->fd[1], 2, SLOW_MS };
	struct rdma_lite_receive r;
	pthread_t t;
	char buf[8];

	ASSERT_EQ(0, port_open(self->fd[2], PORT, 0, 0));
	ASSERT_EQ(0, pthread_create(&t, NULL, call_thread, a));
	EXPECT_EQ(EMSGSIZE, ERRNO_OF(receive(self->fd[2], buf, 4, SLOW_MS, &r)));
	EXPECT_EQ(5, r.len);
	EXPECT_EQ(EFAULT, ERRNO_OF(receive(self->fd[2], (void *)8, 5, SLOW_MS, &r)));
	ASSERT_EQ(0, receive(self->fd[2], buf, 5, SLOW_MS, &r));
	EXPECT_EQ(0, reply(self->fd[2], r.token, 0, NULL, 0));
	pthread_join(t, NULL);
	EXPECT_EQ(0, a[4]);
}

TEST_F(ports, a_full_queue_makes_callers_wait_or_say_eagain)
{
	for (int node = 1; node <= 2; node++) {
		long first[5] = { self->fd[1], node, SLOW_MS };
		long second[5] = { self->fd[1], node, SLOW_MS };
		struct rdma_lite_call nowait = call_of(node, "x", 1, NULL, 0, SLOW_MS);
		struct rdma_lite_call brief = call_of(node, "x", 1, NULL, 0, 300);
		struct rdma_lite_call large = call_of(node, first, 200, NULL, 0, SLOW_MS);
		struct rdma_lite_receive r;
		pthread_t t1, t2;
		char buf[8];

		nowait.flags = RDMA_LITE_CALL_NOWAIT;
		ASSERT_EQ(0, port_open(self->fd[node], PORT, 1, 100));
		EXPECT_EQ(EMSGSIZE, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &large)));
		ASSERT_EQ(0, pthread_create(&t1, NULL, call_thread, first));
		ASSERT_EQ(0, receive(self->fd[node], buf, 8, SLOW_MS, &r));
		EXPECT_EQ(EAGAIN, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &nowait)));
		EXPECT_EQ(ETIMEDOUT, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &brief)));
		ASSERT_EQ(0, pthread_create(&t2, NULL, call_thread, second));
		usleep(100000);
		EXPECT_EQ(0, reply(self->fd[node], r.token, 0, NULL, 0));
		ASSERT_EQ(0, receive(self->fd[node], buf, 8, SLOW_MS, &r))
			TH_LOG("who waited comes in: %s", strerror(errno));
		EXPECT_EQ(0, reply(self->fd[node], r.token, 0, NULL, 0));
		pthread_join(t1, NULL);
		pthread_join(t2, NULL);
		EXPECT_EQ(0, first[4]);
		EXPECT_EQ(0, second[4]);
		EXPECT_EQ(0, port_close(self->fd[node], PORT));
	}
}

TEST_F(ports, a_notification_ends_when_it_was_taken_in)
{
	for (int node = 1; node <= 2; node++) {
		struct rdma_lite_receive r;
		char buf[8];

		ASSERT_EQ(0, port_open(self->fd[node], PORT, 10, 0));
		for (int i = 0; i < 10; i++) {
			struct rdma_lite_call c = call_of(node, &i, sizeof(i), NULL, 0, SLOW_MS);

			c.flags = RDMA_LITE_CALL_NOTIFY;
			ASSERT_EQ(0, ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &c));
		}
		for (int i = 0; i < 10; i++) {
			ASSERT_EQ(0, receive(self->fd[node], buf, 8, 0, &r));
			EXPECT_EQ(0, memcmp(buf, &i, sizeof(i)));
			EXPECT_EQ(0, r.token);
		}
		EXPECT_EQ(EAGAIN, ERRNO_OF(receive(self->fd[node], buf, 8, 0, &r)));
		EXPECT_EQ(0, port_close(self->fd[node], PORT));
	}
}

TEST_F(ports, nobody_waits_longer_than_the_deadline)
{
	struct rdma_lite_receive r;
	char buf[8];

	ASSERT_EQ(0, port_open(self->fd[1], PORT, 0, 0));
	ASSERT_EQ(0, port_open(self->fd[2], PORT, 0, 0));
	for (int node = 1; node <= 2; node++) {
		struct rdma_lite_call c = call_of(node, "x", 1, NULL, 0, 200);

		EXPECT_EQ(ETIMEDOUT, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &c)));
		/* Its time began anew where it came, and that was later. */
		sleep_ms(1000);
		EXPECT_EQ(EAGAIN, ERRNO_OF(receive(self->fd[node], buf, 8, 0, &r)))
			TH_LOG("its caller has given up");
	}
	EXPECT_EQ(ETIMEDOUT, ERRNO_OF(receive(self->fd[2], buf, 8, 100, &r)));
}

static void nothing(__maybe_unused int signal) {}

TEST_F(ports, a_signal_ends_each_wait)
{
	struct sigaction act = { .sa_handler = nothing };
	struct rdma_lite_receive r;
	char buf[8];

	ASSERT_EQ(0, sigaction(SIGALRM, &act, NULL));
	ASSERT_EQ(0, port_open(self->fd[1], PORT, 0, 0));
	ASSERT_EQ(0, port_open(self->fd[2], PORT, 0, 0));
	for (int node = 1; node <= 2; node++) {
		struct rdma_lite_call c = call_of(node, "x", 1, NULL, 0, ~0u);

		ualarm(200000, 0);
		EXPECT_EQ(EINTR, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &c)));
	}
	/* What was called above waits there. */
	while (!receive(self->fd[2], buf, 8, 0, &r))
		;
	ualarm(200000, 0);
	EXPECT_EQ(EINTR, ERRNO_OF(receive(self->fd[2], buf, 8, ~0u, &r)));
}

TEST_F(ports, when_the_receiver_is_killed_its_callers_hear_of_it)
{
	pid_t child = reverser("lt2");
	struct rdma_lite_call c = call_of(2, "x", 1, NULL, 0, SLOW_MS);
	struct rdma_lite_receive r;
	long waits[5] = { self->fd[1], 2, SLOW_MS }, taken[5] = { self->fd[3], 2, SLOW_MS };
	pthread_t t1, t2;
	char buf[8];
	int fd;

	ASSERT_GT(child, 0);
	end(child);
	EXPECT_EQ(ENOENT, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &c)));

	fd = lite_open("lt2", 0);
	ASSERT_EQ(0, port_open(fd, PORT, 0, 0));
	ASSERT_EQ(0, pthread_create(&t1, NULL, call_thread, taken));
	ASSERT_EQ(0, receive(fd, buf, 8, SLOW_MS, &r));
	ASSERT_EQ(0, pthread_create(&t2, NULL, call_thread, waits));
	usleep(300000);
	close(fd);
	pthread_join(t1, NULL);
	pthread_join(t2, NULL);
	EXPECT_EQ(-EPIPE, taken[4]) TH_LOG("it was received");
	EXPECT_EQ(-ENOENT, waits[4]) TH_LOG("it was not");
}

TEST_F(ports, poll_says_when_a_request_waits)
{
	struct pollfd p = { .fd = self->fd[2], .events = POLLPRI };
	struct rdma_lite_call c = call_of(2, "x", 1, NULL, 0, SLOW_MS);
	struct rdma_lite_receive r;
	char buf[8];

	ASSERT_EQ(0, port_open(self->fd[2], PORT, 0, 0));
	EXPECT_EQ(0, poll(&p, 1, 0));
	c.flags = RDMA_LITE_CALL_NOTIFY;
	ASSERT_EQ(0, ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &c));
	EXPECT_EQ(1, poll(&p, 1, SLOW_MS));
	EXPECT_EQ(POLLPRI, p.revents);
	EXPECT_EQ(0, receive(self->fd[2], buf, 8, 0, &r));
	EXPECT_EQ(0, poll(&p, 1, 0));
}

TEST_F(ports, a_multicast_has_a_result_for_each_node)
{
	static const char request[] = "potluck";
	char answers[4][8] = {};
	struct rdma_lite_call calls[4];
	struct rdma_lite_multicast m = { .calls = (uintptr_t)calls, .nr = 4 };
	pid_t child[3] = {};

	/* Two nodes have the port, one has not, and one is not there. */
	child[0] = reverser("lt1");
	child[1] = reverser("lt2");
	for (int i = 0; i < 4; i++)
		calls[i] = call_of(i == 3 ? 77 : i + 1, request, 7, answers[i], 8, SLOW_MS);
	EXPECT_EQ(0, ioctl(self->fd[1], RDMA_LITE_IOC_MULTICAST, &m));
	EXPECT_EQ(2, m.answered);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, calls[i].err);
		EXPECT_EQ(7, calls[i].reply_len);
		EXPECT_STREQ("kcultop", answers[i]);
	}
	EXPECT_EQ(-ENOENT, calls[2].err);
	EXPECT_EQ(-EHOSTDOWN, calls[3].err);
	end(child[0]);
	end(child[1]);
	m.nr = 0;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_MULTICAST, &m)));
	m.nr = ~0u;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_MULTICAST, &m)));
}

TEST_F(ports, bad_arguments_are_refused)
{
	struct rdma_lite_call c = call_of(2, "x", 1, NULL, 0, SLOW_MS), bad;
	struct rdma_lite_receive r;
	char buf[8];

	ASSERT_EQ(0, port_open(self->fd[2], PORT, 0, 0));
	bad = c;
	bad.flags = 4;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &bad)));
	bad = c;
	bad.port = 65536;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &bad)));
	/* What modules tell each other is not for programs to say. */
	bad = c;
	bad.port = RDMA_LITE_PORT_FIRST - 1;
	EXPECT_EQ(EACCES, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &bad)));
	bad = c;
	bad.reserved[1] = 1;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &bad)));
	bad = c;
	bad.request_len = 1ULL << 63;
	EXPECT_EQ(EMSGSIZE, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &bad)));
	bad = c;
	bad.request = 8;
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &bad)));
	bad = c;
	bad.flags = RDMA_LITE_CALL_NOTIFY;
	bad.reply_len = 1;
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, &bad)));
	EXPECT_EQ(ENOENT, ERRNO_OF(receive(self->fd[1], buf, 8, 0, &r)));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_CALL, (void *)8)));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd[1], RDMA_LITE_IOC_MULTICAST, (void *)8)));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->fd[2], RDMA_LITE_IOC_RECEIVE, (void *)8)));
}

static void *storm(void *arg)
{
	int fd = *(int *)arg, wrong = 0;

	for (int i = 0; i < 60; i++) {
		char request[200], answer[200];
		struct rdma_lite_call c;

		memset(request, i, sizeof(request));
		c = call_of(2, request, 1 + i * 3, answer, sizeof(answer), SLOW_MS);
		wrong += ioctl(fd, RDMA_LITE_IOC_CALL, &c) || c.status || c.reply_len != c.request_len ||
			 memcmp(request, answer, c.request_len);
	}
	return (void *)(intptr_t)wrong;
}

TEST_F(ports, a_flood_of_calls_overruns_nobody)
{
	static char buf[256];
	struct rdma_lite_receive r;
	pthread_t t[8];
	int done = 0;

	/* Four at a time are taken in, of many more. */
	ASSERT_EQ(0, port_open(self->fd[2], PORT, 4, 0));
	for (int i = 0; i < 8; i++)
		ASSERT_EQ(0, pthread_create(&t[i], NULL, storm, &self->fd[1 + i % 2 * 2]));
	while (done < 8 * 60) {
		ASSERT_EQ(0, receive(self->fd[2], buf, sizeof(buf), SLOW_MS, &r))
			TH_LOG("after %d: %s", done, strerror(errno));
		ASSERT_EQ(0, reply(self->fd[2], r.token, 0, buf, r.len));
		done++;
	}
	for (int i = 0; i < 8; i++) {
		void *wrong;

		pthread_join(t[i], &wrong);
		EXPECT_EQ(0, (intptr_t)wrong);
	}
}

TEST_HARNESS_MAIN
