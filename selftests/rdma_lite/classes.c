// SPDX-License-Identifier: GPL-2.0
/* Classes of service: who may have the high one, and what it is guaranteed. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define ALL	(RDMA_LITE_READ | RDMA_LITE_WRITE | RDMA_LITE_ADMIN)
#define ANN	1000
#define PORT	100
#define PIECE	(256 * 1024)
#define MIB	(1ul << 20)

FIXTURE(classes) {
	struct cluster c;
};

FIXTURE_SETUP(classes)
{
	ASSERT_EQ(0, cluster_up(&self->c, 2));
}

FIXTURE_TEARDOWN(classes)
{
	chmod(LITE_DEVICE, 0600);
	cluster_down(&self->c);
}

/* Switches all nodes off and on with a setting, under a new map. */
static bool restart_with(struct cluster *c, const char *attr, const char *value)
{
	for (int i = 1; i <= c->nr; i++) {
		char node[16];

		snprintf(node, sizeof(node), "lt%d", i);
		if (node_power(i, false) || node_attr(node, attr, value) || node_power(i, true))
			return false;
	}
	return !cluster_publish(c) && lite_reachable(c->fd[1], 2, 30000) && lite_reachable(c->fd[2], 1, 30000);
}

TEST_F(classes, are_for_those_who_may_have_them)
{
	struct rdma_lite_class odd = { .class = 2 };
	char users[64];
	int ann;

	ASSERT_EQ(0, chmod(LITE_DEVICE, 0666));
	/* Root may raise priorities. */
	EXPECT_EQ(0, lite_class(self->c.fd[1], RDMA_LITE_CLASS_HIGH));
	EXPECT_EQ(0, lite_ping(self->c.fd[1], 2, 64, 5000));
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_CLASS, &odd)));
	odd = (struct rdma_lite_class){ .reserved = 1 };
	EXPECT_EQ(EINVAL, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_CLASS, &odd)));
	EXPECT_EQ(EFAULT, ERRNO_OF(ioctl(self->c.fd[1], RDMA_LITE_IOC_CLASS, bad_pointer())));
	EXPECT_EQ(0, lite_class(self->c.fd[1], RDMA_LITE_CLASS_NORMAL));
	ASSERT_EQ(0, seteuid(ANN));
	ann = lite_open_here();
	ASSERT_EQ(0, seteuid(0));
	/* That was our own namespace, without a node. */
	ASSERT_EQ(-1, ann);
	int before = netns_enter("lt1");

	ASSERT_EQ(0, seteuid(ANN));
	ann = lite_open_here();
	EXPECT_LE(0, ann);
	EXPECT_EQ(EPERM, ERRNO_OF(lite_class(ann, RDMA_LITE_CLASS_HIGH)));
	EXPECT_EQ(0, lite_class(ann, RDMA_LITE_CLASS_NORMAL));
	ASSERT_EQ(0, seteuid(0));
	ASSERT_EQ(0, node_attr("lt1", "high_users", "7 1000"));
	ASSERT_EQ(0, node_attr_get("lt1", "high_users", users, sizeof(users)));
	EXPECT_STREQ("7 1000", users);
	ASSERT_EQ(0, seteuid(ANN));
	EXPECT_EQ(0, lite_class(ann, RDMA_LITE_CLASS_HIGH));
	EXPECT_EQ(0, lite_ping(ann, 2, 64, 5000));
	ASSERT_EQ(0, seteuid(0));
	EXPECT_EQ(EINVAL, node_attr("lt1", "high_users", "ann"));
	EXPECT_EQ(EINVAL, node_attr("lt1", "high_users", "-1"));
	EXPECT_EQ(0, node_attr("lt1", "high_users", "\n"));
	/* Who has it keeps it; others cannot get it any more. */
	EXPECT_EQ(0, lite_ping(ann, 2, 64, 5000));
	ASSERT_EQ(0, seteuid(ANN));
	EXPECT_EQ(EPERM, ERRNO_OF(lite_class(ann, RDMA_LITE_CLASS_HIGH)));
	ASSERT_EQ(0, seteuid(0));
	close(ann);
	netns_leave(before);
}

TEST_F(classes, have_shares_that_leave_none_without)
{
	EXPECT_EQ(75, node_attr_number("lt1", "high_share"));
	EXPECT_EQ(EBUSY, node_attr("lt1", "high_share", "80"));
	ASSERT_EQ(0, node_power(1, false));
	EXPECT_EQ(EINVAL, node_attr("lt1", "high_share", "100"));
	EXPECT_EQ(EINVAL, node_attr("lt1", "high_share", "0"));
	EXPECT_EQ(0, node_attr("lt1", "high_share", "80"));
	EXPECT_EQ(EINVAL, node_attr("lt1", "queue_pairs", "0"));
	EXPECT_EQ(EINVAL, node_attr("lt1", "queue_pairs", "9"));
	EXPECT_EQ(0, node_power(1, true));
}

/* Queue pairs of a node's device that the kernel has connected. */
static int queue_pairs(int node)
{
	char cmd[256];
	int n = -1;
	FILE *p;

	snprintf(cmd, sizeof(cmd),
		 "rdma resource show qp | grep '^link ltr%d/' | grep -c 'type RC state RTS'", node);
	p = popen(cmd, "r");
	if (!p || fscanf(p, "%d", &n) != 1)
		n = -1;
	if (p)
		pclose(p);
	return n;
}

TEST_F(classes, share_as_many_queue_pairs_as_are_set_whatever_the_number_of_users)
{
	static const char *const numbers[] = { "1", "4", "2" };
	static char bytes[PIECE], got[PIECE];
	int users[40];

	for (size_t i = 0; i < COUNT(numbers); i++) {
		uint64_t r;

		ASSERT_TRUE(restart_with(&self->c, "queue_pairs", numbers[i])) TH_LOG("%s", numbers[i]);
		EXPECT_TRUE(EVENTUALLY(20000, queue_pairs(1) == atoi(numbers[i])))
			TH_LOG("%d queue pairs instead of %s", queue_pairs(1), numbers[i]);
		EXPECT_TRUE(EVENTUALLY(20000, queue_pairs(2) == atoi(numbers[i])));
		for (size_t j = 0; j < COUNT(users); j++) {
			users[j] = lite_open("lt1", 0);
			ASSERT_LE(0, users[j]);
			if (j % 2) {
				ASSERT_EQ(0, lite_class(users[j], RDMA_LITE_CLASS_HIGH));
			}
			ASSERT_EQ(0, lite_ping(users[j], 2, 64, 10000));
			r = lite_malloc(users[j], 2, PIECE, NULL, 0, 0);
			ASSERT_NE(0, r) TH_LOG("%s", strerror(errno));
			fill(bytes, sizeof(bytes), j);
			ASSERT_EQ(0, lite_write(users[j], r, 0, bytes, sizeof(bytes))) TH_LOG("%s", strerror(errno));
			ASSERT_EQ(0, lite_read(users[j], r, 0, got, sizeof(got))) TH_LOG("%s", strerror(errno));
			ASSERT_EQ(0, memcmp(bytes, got, sizeof(got)));
		}
		EXPECT_EQ(atoi(numbers[i]), queue_pairs(1));
		for (size_t j = 0; j < COUNT(users); j++)
			close(users[j]);
	}
}

/* Who takes a lock and meets the others, by turns; and how many have the lock. */
struct guest {
	int fd, err;
	atomic_int *inside;
};

enum { GUESTS = 6, TURNS = 20 };

static void *visit(void *arg)
{
	struct guest *g = arg;

	for (int i = 0; i < TURNS && !g->err; i++) {
		uint64_t held = lite_lock_for(g->fd, 2, "door", 0, 60000);

		if (!held) {
			g->err = errno;
			break;
		}
		if (atomic_fetch_add(g->inside, 1))
			g->err = EIO;
		atomic_fetch_sub(g->inside, 1);
		if (lite_unlock(g->fd, held) || lite_barrier(g->fd, 2, "table", GUESTS, 60000))
			g->err = errno;
	}
	return NULL;
}

TEST_F_TIMEOUT(classes, take_turns_at_one_lock_and_meet_at_one_barrier, 200)
{
	struct guest guests[GUESTS];
	pthread_t threads[GUESTS];
	atomic_int inside = 0;
	int high = lite_open("lt1", 0);

	ASSERT_LE(0, high);
	ASSERT_EQ(0, lite_class(high, RDMA_LITE_CLASS_HIGH));
	for (int i = 0; i < GUESTS; i++) {
		guests[i] = (struct guest){ i % 2 ? high : self->c.fd[1], 0, &inside };
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, visit, &guests[i]));
	}
	for (int i = 0; i < GUESTS; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, guests[i].err) TH_LOG("%d: %s", i, strerror(guests[i].err));
	}
	close(high);
}

/* Callers and writers of both classes, and what came of them. */
static struct flood {
	int fd[2];
	uint64_t region[2];
	atomic_bool over;
	atomic_int calls[2], writes[2], errors;
} flood;

static void *caller(void *arg)
{
	char class = (intptr_t)arg, reply;

	while (!flood.over) {
		if (lite_rpc_call_for(flood.fd[(int)class], 2, PORT, &class, 1, &reply, 1, 60000) < 0)
			flood.errors += !flood.over;
	}
	return NULL;
}

static void *writer(void *arg)
{
	int class = (intptr_t)arg;
	size_t len = class == RDMA_LITE_CLASS_HIGH || flood.calls[0] < 0 ? PIECE : MIB;
	char *bytes = calloc(1, len);

	while (!flood.over) {
		if (lite_write(flood.fd[class], flood.region[class], 0, bytes, len))
			flood.errors += !flood.over;
		flood.writes[class]++;
	}
	free(bytes);
	return NULL;
}

static bool flood_open(void)
{
	memset(&flood, 0, sizeof(flood));
	for (int class = 0; class < 2; class++) {
		flood.fd[class] = lite_open("lt1", 0);
		if (flood.fd[class] < 0 || lite_class(flood.fd[class], class))
			return false;
		flood.region[class] = lite_malloc(flood.fd[class], 2, MIB, NULL, 0, 0);
		if (!flood.region[class])
			return false;
	}
	return true;
}

static void flood_close(pthread_t *threads, int nr)
{
	for (int i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);
	close(flood.fd[0]);
	close(flood.fd[1]);
}

TEST_F_TIMEOUT(classes, high_keeps_its_share_of_calls_under_a_flood_of_calls_and_large_writes, 400)
{
	struct rdma_lite_port port = { .port = PORT };
	enum { NORMAL = 16, HIGH = 8, WRITERS = 4, WARM = 60, COUNTED = 300 };
	pthread_t threads[NORMAL + HIGH + WRITERS];
	int server = lite_open("lt2", 0), nr = 0, high = 0;

	ASSERT_LE(0, server);
	ASSERT_EQ(0, ioctl(server, RDMA_LITE_IOC_PORT_OPEN, &port));
	/* Shares, not times: who has the small one waits long on a slow machine. */
	ASSERT_TRUE(restart_with(&self->c, "timeout_ms", "60000"));
	ASSERT_TRUE(flood_open()) TH_LOG("%s", strerror(errno));
	for (int i = 0; i < NORMAL; i++) {
		ASSERT_EQ(0, pthread_create(&threads[nr++], NULL, caller, (void *)RDMA_LITE_CLASS_NORMAL));
	}
	for (int i = 0; i < WRITERS; i++) {
		ASSERT_EQ(0, pthread_create(&threads[nr++], NULL, writer, (void *)RDMA_LITE_CLASS_NORMAL));
	}
	for (int i = 0; i < HIGH; i++) {
		ASSERT_EQ(0, pthread_create(&threads[nr++], NULL, caller, (void *)RDMA_LITE_CLASS_HIGH));
	}
	/* A receiver that cannot keep up: who is served is the queue's choice. */
	for (int i = 0; i < WARM + COUNTED; i++) {
		struct rdma_lite_receive request = { .timeout_ms = 30000 };
		char class;

		ASSERT_EQ(1, lite_rpc_receive(server, PORT, &class, 1, &request)) TH_LOG("%d: %s", i, strerror(errno));
		sleep_ms(20);
		ASSERT_EQ(0, lite_rpc_reply(server, &request, 0, &class, 1)) TH_LOG("%d: %s", i, strerror(errno));
		high += i >= WARM && class == RDMA_LITE_CLASS_HIGH;
	}
	TH_LOG("%d of %d calls are of the high class, beside %d writes of 1 MiB", high, COUNTED, flood.writes[0]);
	/* Three of four; without classes it would be a third. */
	EXPECT_LE(COUNTED * 65 / 100, high);
	EXPECT_GE(COUNTED * 85 / 100, high);
	EXPECT_EQ(0, flood.errors);
	EXPECT_LT(0, flood.writes[0]);
	flood.over = true;
	close(server);
	flood_close(threads, nr);
}

TEST_F_TIMEOUT(classes, high_keeps_its_share_of_bytes_under_a_flood_of_writes, 400)
{
	enum { NORMAL = 16, HIGH = 8, COUNTED = 240 };
	pthread_t threads[NORMAL + HIGH];
	int nr = 0, before[2], done[2];

	/* Shares, not times: who has the small one waits long on a slow machine. */
	ASSERT_TRUE(restart_with(&self->c, "timeout_ms", "60000"));
	ASSERT_TRUE(flood_open()) TH_LOG("%s", strerror(errno));
	flood.calls[0] = -1;	/* writes of one size */
	for (int i = 0; i < NORMAL; i++) {
		ASSERT_EQ(0, pthread_create(&threads[nr++], NULL, writer, (void *)RDMA_LITE_CLASS_NORMAL));
	}
	for (int i = 0; i < HIGH; i++) {
		ASSERT_EQ(0, pthread_create(&threads[nr++], NULL, writer, (void *)RDMA_LITE_CLASS_HIGH));
	}
	/* All are under way. */
	EXPECT_TRUE(EVENTUALLY(60000, flood.writes[0] >= 2 * NORMAL && flood.writes[1] >= 2 * HIGH));
	before[0] = flood.writes[0];
	before[1] = flood.writes[1];
	EXPECT_TRUE(EVENTUALLY(200000, flood.writes[0] + flood.writes[1] >= before[0] + before[1] + COUNTED));
	done[0] = flood.writes[0] - before[0];
	done[1] = flood.writes[1] - before[1];
	TH_LOG("%d writes of the high class, %d of the normal one", done[1], done[0]);
	/* Three of four; without classes it would be a third. */
	EXPECT_LE(60, 100 * done[1] / (done[0] + done[1]));
	/* And the others do not starve. */
	EXPECT_LE(10, 100 * done[0] / (done[0] + done[1]));
	EXPECT_EQ(0, flood.errors);
	flood.over = true;
	flood_close(threads, nr);
}

TEST_HARNESS_MAIN
