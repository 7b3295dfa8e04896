// SPDX-License-Identifier: GPL-2.0
/* Users of a node: what they have is counted, and no more than they may. */
#include <pthread.h>
#include <sys/stat.h>

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define ALL (RDMA_LITE_READ | RDMA_LITE_WRITE | RDMA_LITE_ADMIN)
#define MIB (1ull << 20)
#define ANN 1000
#define BOB 1001
#define PORT 100

FIXTURE(users) {
	struct cluster c;
	int ann, bob;
};

/* The device as a user opens it in a namespace. */
static int open_as(uid_t uid, const char *ns)
{
	int before = netns_enter(ns), fd, err;

	err = seteuid(uid);
	fd = err ? -1 : open(LITE_DEVICE, O_RDWR | O_CLOEXEC);
	err = errno;
	if (seteuid(0))
		abort();
	netns_leave(before);
	errno = err;
	return fd;
}

FIXTURE_SETUP(users)
{
	ASSERT_EQ(0, cluster_up(&self->c, 3));
	ASSERT_EQ(0, chmod(LITE_DEVICE, 0666));
	self->ann = open_as(ANN, "lt1");
	self->bob = open_as(BOB, "lt1");
	ASSERT_GE(self->ann, 0) TH_LOG("%s", strerror(errno));
	ASSERT_GE(self->bob, 0) TH_LOG("%s", strerror(errno));
}

FIXTURE_TEARDOWN(users)
{
	chmod(LITE_DEVICE, 0600);
	close(self->ann);
	close(self->bob);
	cluster_down(&self->c);
}

enum figure { FILES, HANDLES, CALLS, BYTES, MEMORY, TOTAL_CALLS, TOTAL_BYTES, REFUSED, FIGURES };

/* What debugfs says of a user at a node; -1: nothing. */
static long long figure(const char *node, uid_t uid, enum figure which)
{
	FILE *f = fopen("/sys/kernel/debug/rdma_lite/users", "re");
	char line[512], name[64];
	long long found = -1;

	while (f && fgets(line, sizeof(line), f)) {
		long long n[FIGURES];
		unsigned int id;

		if (sscanf(line, "%63s %u %lld %lld %lld %lld %lld %lld %lld %lld", name, &id, &n[0], &n[1], &n[2],
			   &n[3], &n[4], &n[5], &n[6], &n[7]) == 10 && id == uid && !strcmp(name, node))
			found = n[which];
	}
	if (f)
		fclose(f);
	return found;
}

TEST_F(users, have_no_more_handles_than_they_may)
{
	uint64_t r[2];

	ASSERT_EQ(0, node_attr("lt1", "user_handles", "2"));
	EXPECT_EQ(2, node_attr_number("lt1", "user_handles"));
	for (int i = 0; i < 2; i++) {
		r[i] = lite_malloc(self->ann, 2, 100, NULL, 0, 0);
		ASSERT_NE(0, r[i]) TH_LOG("%s", strerror(errno));
	}
	EXPECT_EQ(0, lite_malloc(self->ann, 2, 100, NULL, 0, 0));
	EXPECT_EQ(EDQUOT, errno);
	EXPECT_EQ(0, lite_lock(self->ann, 2, "one"));
	EXPECT_EQ(EDQUOT, errno);
	EXPECT_EQ(0, sh("dmesg | grep -q 'lt1: user 1000 is refused more: limit user_handles is 2'"));
	/* Others have their own, and so has what is given up. */
	EXPECT_NE(0, lite_malloc(self->bob, 2, 100, NULL, 0, 0));
	ASSERT_EQ(0, lite_unmap(self->ann, r[0]));
	EXPECT_NE(0, lite_lock(self->ann, 2, "one")) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(2, figure("lt1", ANN, HANDLES));
	EXPECT_EQ(2, figure("lt1", ANN, REFUSED));
	/* A limit can be changed while the node is on. */
	ASSERT_EQ(0, node_attr("lt1", "user_handles", "0"));
	EXPECT_NE(0, lite_malloc(self->ann, 2, 100, NULL, 0, 0));
	EXPECT_NE(0, node_attr("lt1", "user_handles", "many"));
}

TEST_F(users, have_a_share_of_memory_wherever_they_run_until_it_is_freed)
{
	int elsewhere = open_as(ANN, "lt3");
	uint64_t r;

	ASSERT_GE(elsewhere, 0);
	ASSERT_EQ(0, node_attr("lt2", "user_memory", "1048576"));
	EXPECT_EQ(0, lite_malloc(self->ann, 2, MIB + 1, NULL, 0, 0));
	EXPECT_EQ(EDQUOT, errno);
	EXPECT_EQ(0, sh("dmesg | grep -q 'lt2: user 1000 at node 1 is refused .* limit user_memory is 1048576'"));
	r = lite_malloc(self->ann, 2, MIB, "kept", ALL, RDMA_LITE_REGION_KEEP);
	ASSERT_NE(0, r) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, lite_malloc(elsewhere, 2, 1, NULL, 0, 0));
	EXPECT_EQ(EDQUOT, errno);
	EXPECT_EQ(MIB, figure("lt2", ANN, MEMORY));
	EXPECT_NE(0, lite_malloc(self->bob, 2, MIB, NULL, 0, 0)) TH_LOG("%s", strerror(errno));
	EXPECT_NE(0, lite_malloc(self->ann, 3, MIB, NULL, 0, 0)) TH_LOG("%s", strerror(errno));
	/* Nobody has it mapped, and it is hers still. */
	ASSERT_EQ(0, lite_unmap(self->ann, r));
	EXPECT_EQ(0, lite_malloc(elsewhere, 2, 1, NULL, 0, 0));
	EXPECT_EQ(EDQUOT, errno);
	/* Whoever frees it. */
	r = lite_map(self->bob, 2, "kept", ALL);
	ASSERT_NE(0, r);
	ASSERT_EQ(0, lite_free(self->bob, r));
	EXPECT_NE(0, lite_malloc(elsewhere, 2, MIB, NULL, 0, 0)) TH_LOG("%s", strerror(errno));
	close(elsewhere);
	EXPECT_TRUE(EVENTUALLY(10000, figure("lt2", ANN, MEMORY) == -1));
}

TEST_F(users, have_nothing_of_each_other_by_its_name_or_handle_that_was_not_given)
{
	uint64_t r = lite_malloc(self->ann, 1, 100, "hers", 0, 0);
	struct rdma_lite_region_info info;
	char byte;

	ASSERT_NE(0, r);
	EXPECT_EQ(0, lite_map(self->bob, 1, "hers", RDMA_LITE_READ));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(0, lite_malloc(self->bob, 1, 100, "hers", ALL, 0));
	EXPECT_EQ(EEXIST, errno);
	EXPECT_EQ(EBADF, ERRNO_OF(lite_read(self->bob, r, 0, &byte, 1)));
	EXPECT_EQ(EBADF, ERRNO_OF(lite_grant(self->bob, r, 0, ALL)));
	EXPECT_EQ(EBADF, ERRNO_OF(lite_free(self->bob, r)));
	EXPECT_EQ(EBADF, ERRNO_OF(lite_region_info(self->bob, r, &info)));
	/* What she gives to her node she gives to all its users. */
	ASSERT_EQ(0, lite_grant(self->ann, r, 1, RDMA_LITE_READ));
	EXPECT_NE(0, lite_map(self->bob, 1, "hers", RDMA_LITE_READ));
	EXPECT_EQ(0, lite_map(self->bob, 1, "hers", RDMA_LITE_READ | RDMA_LITE_ADMIN));
	EXPECT_EQ(EACCES, errno);
}

TEST_F(users, are_refused_calls_that_take_more_memory_than_they_may)
{
	uint64_t r = lite_malloc(self->ann, 2, MIB, NULL, 0, 0);
	static char buf[MIB];

	ASSERT_NE(0, r);
	ASSERT_EQ(0, node_attr("lt1", "user_bytes", "4096"));
	EXPECT_EQ(0, lite_ping(self->ann, 2, 2048, 0));
	EXPECT_EQ(EDQUOT, ERRNO_OF(lite_ping(self->ann, 2, 2049, 0)));
	EXPECT_EQ(0, lite_read(self->ann, r, 0, buf, 4096));
	EXPECT_EQ(EDQUOT, ERRNO_OF(lite_read(self->ann, r, 0, buf, 4097)));
	EXPECT_EQ(EDQUOT, ERRNO_OF(lite_write(self->ann, r, 0, buf, MIB)));
	EXPECT_EQ(0, lite_memset(self->ann, r, 0, 7, MIB));
	EXPECT_EQ(3, figure("lt1", ANN, REFUSED));
	EXPECT_EQ(0, figure("lt1", ANN, BYTES));
	EXPECT_EQ(0, lite_ping(self->c.fd[1], 2, 2048, 0));
}

struct caller {
	int fd, err;
	pthread_t thread;
};

static void *calls(void *arg)
{
	struct caller *caller = arg;
	struct rdma_lite_call call = { .node = 2, .port = PORT, .timeout_ms = 60000 };

	caller->err = ERRNO_OF(ioctl(caller->fd, RDMA_LITE_IOC_CALL, &call));
	return NULL;
}

TEST_F(users, are_refused_calls_while_too_many_are_under_way)
{
	struct rdma_lite_port port = { .port = PORT };
	struct rdma_lite_receive receive = { .port = PORT, .timeout_ms = 30000 };
	struct rdma_lite_reply reply = { .port = PORT };
	struct caller caller = { .fd = self->ann };
	int two = open_as(0, "lt2");

	ASSERT_GE(two, 0);
	ASSERT_EQ(0, ioctl(two, RDMA_LITE_IOC_PORT_OPEN, &port));
	ASSERT_EQ(0, node_attr("lt1", "user_calls", "1"));
	ASSERT_EQ(0, pthread_create(&caller.thread, NULL, calls, &caller));
	ASSERT_EQ(0, ioctl(two, RDMA_LITE_IOC_RECEIVE, &receive)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(1, figure("lt1", ANN, CALLS));
	EXPECT_EQ(EAGAIN, ERRNO_OF(lite_ping(self->ann, 2, 8, 0)));
	EXPECT_EQ(0, lite_malloc(self->ann, 2, 8, NULL, 0, 0));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(0, lite_ping(self->bob, 2, 8, 0));
	reply.token = receive.token;
	ASSERT_EQ(0, ioctl(two, RDMA_LITE_IOC_REPLY, &reply));
	ASSERT_EQ(0, pthread_join(caller.thread, NULL));
	EXPECT_EQ(0, caller.err);
	EXPECT_EQ(0, lite_ping(self->ann, 2, 8, 0));
	/* What was refused left nothing behind. */
	EXPECT_EQ(0, figure("lt1", ANN, HANDLES));
	EXPECT_EQ(0, figure("lt1", ANN, CALLS));
	close(two);
}

TEST_F(users, have_what_they_did_counted_over_all_their_files)
{
	int again = open_as(ANN, "lt1");
	char buf[100];
	uint64_t r;

	ASSERT_GE(again, 0);
	EXPECT_EQ(2, figure("lt1", ANN, FILES));
	EXPECT_EQ(0, figure("lt1", ANN, TOTAL_CALLS));
	ASSERT_EQ(0, lite_ping(self->ann, 2, 50, 0));
	r = lite_malloc(again, 2, 100, NULL, 0, 0);
	ASSERT_NE(0, r);
	ASSERT_EQ(0, lite_write(again, r, 0, buf, 100));
	ASSERT_EQ(0, lite_read(again, r, 10, buf, 90));
	EXPECT_EQ(4, figure("lt1", ANN, TOTAL_CALLS));
	EXPECT_EQ(100 + 100 + 90, figure("lt1", ANN, TOTAL_BYTES));
	EXPECT_EQ(1, figure("lt1", ANN, HANDLES));
	close(again);
	EXPECT_EQ(1, figure("lt1", ANN, FILES));
	EXPECT_EQ(0, figure("lt1", ANN, HANDLES));
	EXPECT_EQ(0, figure("lt1", BOB, TOTAL_CALLS));
}

TEST_HARNESS_MAIN
