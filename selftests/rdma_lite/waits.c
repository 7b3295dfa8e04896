// SPDX-License-Identifier: GPL-2.0
/* Requests whose node does not answer: they end by their deadline, by a signal, and with their process. */
#include <sys/time.h>

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define RW (RDMA_LITE_READ | RDMA_LITE_WRITE)
#define PORT 100
#define FOREVER 0xffffffffu

/* What they are about: a region at the other node and one of ours. */
struct target {
	int fd;
	uint64_t far, near;
};

static int wait_ping(struct target *t, uint32_t ms)
{
	return ERRNO_OF(lite_ping(t->fd, 2, 8, ms));
}

static int wait_call(struct target *t, uint32_t ms)
{
	struct rdma_lite_call call = { .node = 2, .port = PORT, .timeout_ms = ms };

	return ERRNO_OF(ioctl(t->fd, RDMA_LITE_IOC_CALL, &call));
}

static int wait_notify(struct target *t, uint32_t ms)
{
	struct rdma_lite_call call = { .node = 2, .port = PORT, .timeout_ms = ms, .flags = RDMA_LITE_CALL_NOTIFY };

	return ERRNO_OF(ioctl(t->fd, RDMA_LITE_IOC_CALL, &call));
}

static int wait_multicast(struct target *t, uint32_t ms)
{
	struct rdma_lite_call call = { .node = 2, .port = PORT, .timeout_ms = ms };
	struct rdma_lite_multicast multicast = { .calls = (uintptr_t)&call, .nr = 1 };

	if (ioctl(t->fd, RDMA_LITE_IOC_MULTICAST, &multicast) < 0)
		return errno;
	return -call.err;
}

static int wait_alloc(struct target *t, uint32_t ms)
{
	struct rdma_lite_region region = { .node = 2, .len = 8, .timeout_ms = ms };

	return ERRNO_OF(ioctl(t->fd, RDMA_LITE_IOC_ALLOC, &region));
}

static int wait_map(struct target *t, uint32_t ms)
{
	struct rdma_lite_region region = { .node = 2, .rights = RW, .timeout_ms = ms, .name = "far" };

	return ERRNO_OF(ioctl(t->fd, RDMA_LITE_IOC_MAP, &region));
}

static int wait_unmap(struct target *t, uint32_t ms)
{
	struct rdma_lite_handle handle = { .handle = t->far, .timeout_ms = ms };

	return ERRNO_OF(ioctl(t->fd, RDMA_LITE_IOC_UNMAP, &handle));
}

static int wait_free(struct target *t, uint32_t ms)
{
	struct rdma_lite_handle handle = { .handle = t->far, .timeout_ms = ms };

	return ERRNO_OF(ioctl(t->fd, RDMA_LITE_IOC_FREE, &handle));
}

static int wait_grant(struct target *t, uint32_t ms)
{
	struct rdma_lite_grant grant = { .handle = t->far, .timeout_ms = ms };

	return ERRNO_OF(ioctl(t->fd, RDMA_LITE_IOC_GRANT, &grant));
}

static int wait_io(struct target *t, uint32_t ms, unsigned long request)
{
	char buf[8] = "";
	struct rdma_lite_io io = { .handle = t->far, .len = 8, .buf = (uintptr_t)buf, .timeout_ms = ms };

	return ERRNO_OF(ioctl(t->fd, request, &io));
}

static int wait_read(struct target *t, uint32_t ms) { return wait_io(t, ms, RDMA_LITE_IOC_READ); }
static int wait_write(struct target *t, uint32_t ms) { return wait_io(t, ms, RDMA_LITE_IOC_WRITE); }

static int wait_fill(struct target *t, uint32_t ms)
{
	struct rdma_lite_fill fill = { .handle = t->far, .len = 8, .timeout_ms = ms };

	return ERRNO_OF(ioctl(t->fd, RDMA_LITE_IOC_FILL, &fill));
}

static int wait_copy_from(struct target *t, uint32_t ms)
{
	struct rdma_lite_copy copy = { .from = t->far, .to = t->near, .len = 8, .timeout_ms = ms };

	return ERRNO_OF(ioctl(t->fd, RDMA_LITE_IOC_COPY, &copy));
}

static int wait_add(struct target *t, uint32_t ms)
{
	struct rdma_lite_atomic op = { .handle = t->far, .op = RDMA_LITE_FETCH_ADD, .timeout_ms = ms };

	return ERRNO_OF(ioctl(t->fd, RDMA_LITE_IOC_ATOMIC, &op));
}

static int wait_info(struct target *t, uint32_t ms)
{
	struct rdma_lite_region_info info = { .handle = t->far, .timeout_ms = ms };

	return ERRNO_OF(ioctl(t->fd, RDMA_LITE_IOC_REGION, &info));
}

static int wait_batch(struct target *t, uint32_t ms)
{
	struct rdma_lite_op op = { .opcode = RDMA_LITE_OP_FETCH_ADD, .handle = t->far, .len = 8 };

	if (lite_batch(t->fd, &op, 1, ms) < 0)
		return errno;
	return -op.error;
}

static int wait_poll(struct target *t, uint32_t ms)
{
	struct rdma_lite_op op = { .opcode = RDMA_LITE_OP_FETCH_ADD, .handle = t->far, .len = 8 };
	struct rdma_lite_completion end = { 0 };

	if (lite_submit(t->fd, &op, 1, ms) < 0 || lite_poll(t->fd, &end, 1, 1, FOREVER) < 0)
		return errno;
	return -end.error;
}

static int wait_lock(struct target *t, uint32_t ms)
{
	return lite_lock_for(t->fd, 2, "lock", 0, ms) ? 0 : errno;
}

static int wait_barrier(struct target *t, uint32_t ms)
{
	return ERRNO_OF(lite_barrier(t->fd, 2, "barrier", 1, ms));
}

static const struct {
	const char *name;
	int (*wait)(struct target *t, uint32_t ms);
} waits[] = {
	{ "ping", wait_ping }, { "call", wait_call }, { "notify", wait_notify }, { "multicast", wait_multicast },
	{ "alloc", wait_alloc }, { "map", wait_map }, { "unmap", wait_unmap }, { "free", wait_free },
	{ "grant", wait_grant }, { "read", wait_read }, { "write", wait_write }, { "fill", wait_fill },
	{ "copy", wait_copy_from }, { "add", wait_add }, { "info", wait_info }, { "batch", wait_batch },
	{ "poll", wait_poll }, { "lock", wait_lock }, { "barrier", wait_barrier },
};

FIXTURE(waits) {
	struct cluster c;
	/* That all are about; it stays, whoever revokes what. */
	uint64_t r;
};

FIXTURE_SETUP(waits)
{
	struct rdma_lite_port port = { .port = PORT };

	ASSERT_EQ(0, cluster_up(&self->c, 2));
	ASSERT_EQ(0, ioctl(self->c.fd[2], RDMA_LITE_IOC_PORT_OPEN, &port));
	self->r = lite_malloc(self->c.fd[2], 2, 4096, "far", RW | RDMA_LITE_ADMIN, RDMA_LITE_REGION_KEEP);
	ASSERT_NE(0, self->r);
}

FIXTURE_TEARDOWN(waits)
{
	cluster_down(&self->c);
}

static void on_alarm(int sig) { (void)sig; }

/* What it needs, while the other node is there; then the link is to be cut. */
static int prepare(struct target *t)
{
	t->fd = lite_open("lt1", 0);
	if (t->fd < 0)
		return -1;
	t->far = lite_map(t->fd, 2, "far", RW | RDMA_LITE_ADMIN);
	t->near = lite_malloc(t->fd, 1, 4096, NULL, 0, 0);
	return t->far && t->near ? 0 : -1;
}

/* All that files of ours held is given back. */
static bool nothing_left(void)
{
	return EVENTUALLY(30000, !sh("awk '$1 == \"lt1\" && $2 == 0 && ($4 || $5 || $6) { found = 1 } END { exit found }' "
				     "/sys/kernel/debug/rdma_lite/users"));
}

TEST_F_TIMEOUT(waits, end_when_a_signal_comes, 400)
{
	struct sigaction act = { .sa_handler = on_alarm };
	struct target t[COUNT(waits)];

	sigaction(SIGALRM, &act, NULL);
	for (size_t i = 0; i < COUNT(waits); i++) {
		ASSERT_EQ(0, prepare(&t[i]));
	}
	ASSERT_EQ(0, link_cut(2));
	for (size_t i = 0; i < COUNT(waits); i++) {
		/* Again and again, as the first may come before the wait begins. */
		struct itimerval soon = { { 0, 300000 }, { 0, 300000 } }, never = { 0 };

		setitimer(ITIMER_REAL, &soon, NULL);
		EXPECT_EQ(EINTR, waits[i].wait(&t[i], FOREVER)) TH_LOG("%s", waits[i].name);
		setitimer(ITIMER_REAL, &never, NULL);
	}
	ASSERT_EQ(0, link_mend(2));
	ASSERT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
	for (size_t i = 0; i < COUNT(waits); i++)
		close(t[i].fd);
	EXPECT_TRUE(nothing_left());
}

TEST_F_TIMEOUT(waits, end_with_their_process, 400)
{
	pid_t children[COUNT(waits)];
	int ready[2], cut[2], status;
	char byte;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(cut));
	for (size_t i = 0; i < COUNT(waits); i++) {
		children[i] = fork();
		ASSERT_GE(children[i], 0);
		if (!children[i]) {
			struct target t;
			bool bad = prepare(&t) || write(ready[1], "+", 1) != 1 || read(cut[0], &byte, 1) != 1;

			if (!bad)
				waits[i].wait(&t, FOREVER);
			_exit(bad ? 2 : 1);
		}
	}
	for (size_t i = 0; i < COUNT(waits); i++) {
		ASSERT_EQ(1, read(ready[0], &byte, 1));
	}
	ASSERT_EQ(0, link_cut(2));
	for (size_t i = 0; i < COUNT(waits); i++) {
		ASSERT_EQ(1, write(cut[1], "+", 1));
	}
	sleep_ms(2000);
	for (size_t i = 0; i < COUNT(waits); i++) {
		ASSERT_EQ(0, kill(children[i], SIGKILL));
		ASSERT_EQ(children[i], waitpid(children[i], &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status)) TH_LOG("%s has ended by itself: %d", waits[i].name, status);
	}
	ASSERT_EQ(0, link_mend(2));
	ASSERT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
	EXPECT_TRUE(nothing_left());
}

TEST_F_TIMEOUT(waits, have_the_nodes_deadline_when_they_have_none_of_their_own, 400)
{
	struct target t[COUNT(waits)];

	for (size_t i = 0; i < COUNT(waits); i++) {
		ASSERT_EQ(0, prepare(&t[i]));
	}
	ASSERT_EQ(0, link_cut(2));
	for (size_t i = 0; i < COUNT(waits); i++) {
		EXPECT_EQ(ETIMEDOUT, waits[i].wait(&t[i], 0)) TH_LOG("%s", waits[i].name);
	}
	ASSERT_EQ(0, link_mend(2));
	ASSERT_TRUE(lite_reachable(self->c.fd[1], 2, 30000));
	for (size_t i = 0; i < COUNT(waits); i++)
		close(t[i].fd);
	EXPECT_TRUE(nothing_left());
}

TEST_F(waits, that_never_end_do_when_there_is_an_answer)
{
	for (size_t i = 0; i < COUNT(waits); i++) {
		struct target t;

		/* What nobody answers here: no process receives. */
		if (waits[i].wait == wait_call || waits[i].wait == wait_multicast)
			continue;
		/* Frees the region, which others want. */
		if (waits[i].wait == wait_free)
			continue;
		ASSERT_EQ(0, prepare(&t)) TH_LOG("%s", waits[i].name);
		EXPECT_EQ(0, waits[i].wait(&t, FOREVER)) TH_LOG("%s", waits[i].name);
		if (waits[i].wait == wait_grant) {
			ASSERT_EQ(0, lite_grant(t.fd, t.far, 0, RW | RDMA_LITE_ADMIN));
		}
		close(t.fd);
	}
	EXPECT_TRUE(nothing_left());
}

TEST_HARNESS_MAIN
